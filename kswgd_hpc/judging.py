"""How far samples are from the invariant law: one set of statistics for all methods, and the iid floor of each.

Every statistic compares a sample of one size with a reference, larger where it can be. The reference is made apart
from the run wherever the invariant law can be drawn from exactly (`spde.draws`), or comes from a file; else it is the
run's own ensemble. The floor is the same statistic of independent draws of the law, as many as the sample has, against
the same reference: what is unusual about it is in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from kswgd_hpc import metrics, storage, streams
from kswgd_hpc.config import Config
from kswgd_hpc.errors import DataError
from kswgd_hpc.parallel import gather_blocks, local, tiles
from kswgd_hpc.systems import check_set, observable
from spde.density import invariant_density
from spde.draws import independent_draws
from spde.equations import SemilinearEquation
from spde.errors import SpdeError

if TYPE_CHECKING:
    from kswgd_hpc.plan import Plan

_TIMES = (4, 8)  # size of the reference over that of a sample, at least where there is enough, and at most
_REFERENCE_WORK = 5e9  # multiplications that distances within the reference may cost
_SAMPLES = 6  # beside the reference that are drawn exactly, to tell the floor from
_FLOORS = (6, 12)  # samples for the floor, at least and at most
_FLOOR_WORK = 1e11  # multiplications that floors may cost
_DRAWN = 512  # draws of one block
_STRUCTURE = 16  # modes of the structure factor

Statistic = Callable[[np.ndarray, np.ndarray], float]


@dataclass
class Judge:
    """A reference and what samples are compared in.

    pool : (n, d) states of the invariant law, the same on every rank, put in no order here
    count : size of a sample, at most half the pool; the reference are up to 8 times as many, `count` at least left
    source : where they come from, in words
    further : statistics beside energy distance, MMD and sliced Wasserstein distance
    """

    comm: MPI.Comm
    pool: np.ndarray
    count: int
    source: str
    further: dict[str, Statistic]
    seed: int

    def __post_init__(self):
        self.pool = np.random.Generator(np.random.Philox(self.seed)).permutation(self.pool)
        times = min(_times(self.count, self.pool.shape[1]), len(self.pool) // self.count - 1)
        self.reference, self._further_draws = np.split(self.pool, [times * self.count])
        self.width = metrics.median_distance(self.pool)
        self._own = metrics.pair_means(self.comm, self.reference, self.reference, self.width)

    def sample(self, rows: np.ndarray, start: int, total: int) -> np.ndarray:
        """(count, d) of all particles, evenly taken, of this rank's rows start.. of them. Collective."""
        wanted = np.arange(self.count) * total // self.count
        mine = wanted[(wanted >= start) & (wanted < start + len(rows))] - start
        return gather_blocks(self.comm, [rows[mine]], self.pool.shape[1])

    def energy_distance(self, sample: np.ndarray) -> float:
        """Of a sample (count, d) to the reference. Collective."""
        return metrics.discrepancies(self.comm, sample, self.reference, self.width, self._own)[0]

    def distance_of(self, rows: np.ndarray, start: int, total: int) -> float:
        """Energy distance of all particles, of which this rank has rows start.. (n, d). Collective."""
        return self.energy_distance(self.sample(rows, start, total))

    def statistics(self, sample: np.ndarray) -> dict[str, float]:
        """All statistics of a sample (count, d) against the reference. Collective."""
        energy, mmd = metrics.discrepancies(self.comm, sample, self.reference, self.width, self._own)
        sliced = metrics.sliced_wasserstein(self.comm, sample, self.reference)
        found = {"energy_distance": energy, "mmd": mmd, "sliced_wasserstein": sliced}
        return found | {name: statistic(sample, self.reference) for name, statistic in self.further.items()}

    def floors(self) -> tuple[dict[str, float], dict[str, float]]:
        """Mean and standard deviation of each statistic of states beside the reference. Collective."""
        work = 2 * self.count * (self.count + len(self.reference)) * self.pool.shape[1]
        repeats = int(np.clip(_FLOOR_WORK // work, *_FLOORS))
        generator = np.random.Generator(np.random.Philox(self.seed + 1))
        rest = self._further_draws
        rows = []
        for _ in range(repeats):
            rows.append(self.statistics(rest[generator.permutation(len(rest))[: self.count]]))
        table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return {k: float(v.mean()) for k, v in table.items()}, {k: float(v.std(ddof=1)) for k, v in table.items()}


def judge_of(comm: MPI.Comm, config: Config, plan: Plan, ensemble: np.ndarray) -> Judge:
    """The judge of a run. Collective.

    Parameters
    ----------
    ensemble : (n, d) states of the ensemble under the invariant law, taken where there is nothing better

    Raises
    ------
    DataError : a reference file that does not fit
    """
    spec, d = config.kswgd.judge, ensemble.shape[1]
    count = min(metrics.affordable(min(spec.sample, config.kswgd.particles), d), config.kswgd.particles)
    pool, source = _pool(comm, config, plan, ensemble, count)
    count = min(count, len(pool) // 2)
    if count < 2:
        raise DataError("kswgd.judge: too few states of the invariant law to judge by")
    return Judge(comm, pool, count, source, _further(config, plan), config.seed)


def _pool(comm, config: Config, plan: Plan, ensemble: np.ndarray, count: int) -> tuple[np.ndarray, str]:
    spec = config.kswgd.judge.reference
    if spec is not None:
        states = storage.read_states(spec.path, spec.dataset, ensemble.shape[1], "kswgd.judge.reference.path")
        return states, f"the states in {spec.path}"
    if config.kswgd.condition is not None:
        return ensemble, "the run's own ensemble, given the condition"
    if plan.system is not None:
        try:
            draw = independent_draws(plan.system)
        except SpdeError:
            return ensemble, "the run's own ensemble"
        blocks = tiles((_times(count, ensemble.shape[1]) + _SAMPLES) * count, _DRAWN)
        parts = [draw(config.seed, streams.REFERENCE, b.start, b.stop).T for b in local(blocks, comm)]
        return gather_blocks(comm, parts, ensemble.shape[1]), "independent exact draws"
    return ensemble, "the data themselves"


def _times(count: int, dimension: int) -> int:
    """Size of a reference in samples of `count`."""
    return int(np.clip(np.sqrt(_REFERENCE_WORK / dimension) // count, *_TIMES))


def _further(config: Config, plan: Plan) -> dict[str, Statistic]:
    """Occupation of the sets that are named, and what is asked of fields."""
    found: dict[str, Statistic] = {}
    if config.kswgd.judge.occupation:
        inside = sets_of(config, plan.system)
        found["occupation"] = lambda a, b: float(0.5 * np.abs(_shares(inside, a) - _shares(inside, b)).sum())
    if isinstance(plan.system, SemilinearEquation) and len(plan.system.names) == 1:
        found |= _of_fields(plan.system)
    return found


def sets_of(config: Config, system) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Indicators of states (d, n) of the sets in kswgd.judge.occupation, tried once."""
    texts = {f"kswgd.judge.occupation.{i}": text for i, text in enumerate(config.kswgd.judge.occupation)}
    for path, text in texts.items():
        check_set(text, path)
    return [observable(system, text, path) for path, text in texts.items()]


def _shares(inside: list[Callable], rows: np.ndarray) -> np.ndarray:
    """Shares of rows (n, d) in each set, and in none of them."""
    states = np.ascontiguousarray(rows.T)
    shares = np.array([(indicator(states) != 0).mean() for indicator in inside])
    return np.append(shares, max(0.0, 1 - shares.sum()))


def _of_fields(system: SemilinearEquation) -> dict[str, Statistic]:
    domain = system.domain
    order = domain.order[:_STRUCTURE]
    try:
        log = invariant_density(system).log
        energy = lambda states: -log(states)  # noqa: E731
    except SpdeError:
        energy = lambda states: 0.5 * (domain.eigenvalues[:, None] * system.to_modes(states) ** 2).sum(axis=0)  # noqa: E731
    columns = lambda rows: np.ascontiguousarray(rows.T)  # noqa: E731

    def mean(rows: np.ndarray) -> np.ndarray:
        return system.fields(columns(rows)).sum(axis=0) * (domain.cell / domain.volume)

    def structure(rows: np.ndarray) -> np.ndarray:
        return (system.to_modes(columns(rows))[order] ** 2).mean(axis=1)

    def correlation(rows: np.ndarray) -> np.ndarray:
        values = system.fields(columns(rows))
        return (values * values[domain.grid_size // 2]).mean(axis=1)

    def structure_factor(a: np.ndarray, b: np.ndarray) -> float:
        expected = structure(b)
        return float(np.sqrt(np.mean((structure(a) / expected - 1) ** 2)))

    def two_point(a: np.ndarray, b: np.ndarray) -> float:
        expected = correlation(b)
        return float(np.abs(correlation(a) - expected).max() / np.abs(expected).max())

    def energies(a: np.ndarray, b: np.ndarray) -> float:
        expected = energy(columns(b))
        return float(abs(energy(columns(a)).mean() - expected.mean()) / expected.std())

    return {
        "spatial_mean": lambda a, b: metrics.wasserstein(mean(a), mean(b)),
        "structure_factor": structure_factor,
        "two_point_correlation": two_point,
        "energy": energies,
    }
