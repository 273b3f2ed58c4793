"""Multilevel Monte Carlo in the time step, and in the grid of a field: Giles 2008.

u = E[P_0] + sum_l E[P_l - P_(l-1)], P_l with time step h_0 / 2^l. Both paths of a difference run along one
Brownian path, so that it varies little, and most samples are of the cheap P_0. The levels coarser than the run's own
step have coarser grids as well, where modes of the noise are common to all grids; the finest grid is that of the run,
whose system is what is asked about. Levels are added until the last difference says that the time-step bias is small.
A sample is the mean of two paths with opposite noise where that pays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc import streams, systems
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.parallel import Block, cut, local, sum_blocks
from kswgd_hpc.references.monte_carlo import paths
from spde.equations import SemilinearEquation
from spde.errors import SpdeError
from spde.schemes.modes import InModes
from spde.stepping import Noise, Stepper

if TYPE_CHECKING:
    from kswgd_hpc.config import Config
    from kswgd_hpc.feynman_kac import Case

_BATCH = 64
_BLOWN_UP = (SpdeError, ConfigurationError)  # a path that is not finite, or an observable of it
_PILOT = 32  # samples that the coarsest level begins with
_PROBE = 8  # that each other level begins with
_LOOK = 64  # that tell whether it is worth having
_PAYS = 0.9  # of the variance of two paths: with less, the two of a pair are better
_GROWTH = 3  # of a level's samples at once: what they tell of its variance grows as well
_DECAY = 4.0  # of the variances of differences from level to level, at most
_TOLERANCES = 6  # on the way to the one that is wanted, each half the one before
_ENOUGH = 8 * _PILOT  # samples of the coarsest level, with which pilots cost little
_COARSER = 7  # halvings between the first level and the step of the run, at most
_FINER = 8  # beyond it
_FEWEST_POINTS = 16
_SHARE = 0.25  # of the squared tolerance that is for the bias
_START = 3  # levels


@dataclass(frozen=True)
class Level:
    """What a level simulates: a system's stepper and the case in terms of it; `below` is the coarser one, or None.

    pairs : whether a sample is the mean of two antithetic paths
    """

    stepper: Stepper
    case: Case
    below: Level | None
    pairs: bool = False

    @property
    def path(self) -> float:
        """Random numbers that a path takes."""
        return self.stepper.rows * self.stepper.draws * round(self.case.times[-1] / self.stepper.time_step)

    @property
    def cost(self) -> float:
        """Random numbers that a sample takes, with the paths of the level below."""
        return (1 + self.pairs) * (self.path + (0.0 if self.below is None else self.below.path))


class Levels:
    """The levels of a case, made when they are asked for: halvings of the longest step that all times are multiples of.

    first : the coarsest that is worth a try; own : the first whose step is not longer than that of the run
    pairs : whether their samples are means of two antithetic paths

    Parameters
    ----------
    system : of the run
    """

    def __init__(self, case: Case, config: Config, system: Any):
        self._case, self._config, self._system = case, config, system
        step = config.ensemble.time_step
        steps = int(np.gcd.reduce(np.round(np.array(case.times) / step).astype(int)))
        self._longest = steps * step
        self.own = math.ceil(math.log2(steps))
        self.pairs = False
        self.first = max(0, self.own - _COARSER)
        while self.first < self.own and not self._stable(self.first):
            self.first += 1

    def _stable(self, index: int) -> bool:
        """Whether the scheme takes the step of a level."""
        try:
            self._system.stepper(self._longest / 2**index, self._config.ensemble.scheme)
        except SpdeError:
            return False
        return True

    def __getitem__(self, index: int) -> Level:
        below = None if index <= self.first else replace(self[index - 1], below=None)
        step = self._longest / 2**index
        system, case = self._on_grid(max(0, self.own - index))
        return Level(system.stepper(step, self._config.ensemble.scheme), case, below, self.pairs)

    def _on_grid(self, halvings: int) -> tuple[Any, Case]:
        """System and case with half the grid points so many times, where that shares its modes with the whole one."""
        spec, row = self._config.system, self._config.validation.feynman_kac[self._case.index]
        if not self._shares_modes(row) or not halvings:
            return self._system, self._case
        points = spec.domain.points
        while halvings and points % 2 == 0 and points // 2 >= _FEWEST_POINTS:
            points, halvings = points // 2, halvings - 1
        if points == spec.domain.points:
            return self._system, self._case
        domain = spec.domain.model_copy(update={"points": points})
        smaller = self._config.model_copy(update={"system": spec.model_copy(update={"domain": domain})})
        system = systems.build(smaller)
        path = f"validation.feynman_kac.{row.name}"
        killing = None if self._case.killing is None else systems.observable(system, row.killing, f"{path}.killing")
        case = replace(
            self._case,
            observable=systems.observable(system, self._case.formula, f"{path}.observable"),
            killing=killing,
            source=None if row.source is None else systems.observable(system, row.source, f"{path}.source"),
            sampler=systems.initial_states(system, system.dimension, self._case.start, f"{path}.initial"),
        )
        return system, case

    def _shares_modes(self, row: Any) -> bool:
        system = self._system
        if not isinstance(system, SemilinearEquation) or len(system.names) > 1 or system.domain.dimensions > 1:
            return False
        stepper = system.stepper(self._config.ensemble.time_step, self._config.ensemble.scheme)
        whole = isinstance(self._config.system.domain.points, int)
        return isinstance(stepper, InModes) and whole and self._case.start.kind in ("constant", "expression")


@dataclass
class _Sums:
    """What is known of a level: number of samples, and sums (3, times) over them.

    Of differences, of their squares, and of the squares of single paths.
    """

    count: int
    total: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.total[0] / self.count

    @property
    def variance(self) -> np.ndarray:
        return self._about_mean(1)

    @property
    def variance_of_paths(self) -> np.ndarray:
        return self._about_mean(2)

    def _about_mean(self, row: int) -> np.ndarray:
        return np.maximum(self.total[row] / self.count - self.mean**2, 0.0) * self.count / (self.count - 1)


def estimate(comm: MPI.Comm, case: Case, config: Config, system: Any, tolerance: float | None) -> tuple:
    """(times,) means of f(X_t) exp(-int c) without time-step error, their errors, details. Collective.

    Parameters
    ----------
    tolerance : root mean square error wanted at every time, bias included; None for what `case.trajectories` plain
        paths would give
    """
    levels = Levels(case, config, system)
    first = _first_useful(comm, levels, config.seed)
    levels.pairs = _pairs_pay(comm, levels[first], config.seed, first)
    while True:
        try:
            return _from_level(comm, levels, first, case, config.seed, tolerance)
        except _BLOWN_UP:  # one path among many, on every rank
            if first >= levels.own:
                raise
            first += 1


def _from_level(comm: MPI.Comm, levels: Levels, first: int, case: Case, seed: int, tolerance: float | None) -> tuple:
    """What `estimate` returns, from a given coarsest level on. Collective.

    Goes through larger tolerances on the way, which costs nothing, and keeps what each of them took.
    """
    chosen = [replace(levels[first], below=None), *(levels[first + k] for k in range(1, _START))]
    known = [_sampled(comm, level, seed, first + k, 0, _PROBE if k else _PILOT) for k, level in enumerate(chosen)]
    if tolerance is None:
        spread = max(np.sqrt(known[0].variance_of_paths.max()), 1e-12)
        tolerance = spread / math.sqrt(case.trajectories / 2)
    costs = []
    for wanted in _tolerances(chosen, known, tolerance):
        while True:
            _refine(comm, chosen, known, seed, first, wanted)
            bias = _bias(known)
            if bias.max() <= math.sqrt(_SHARE) * wanted or first + len(chosen) > levels.own + _FINER:
                break
            chosen.append(levels[first + len(chosen)])
            known.append(_sampled(comm, chosen[-1], seed, first + len(chosen) - 1, 0, _PROBE))
        costs.append((wanted, *_costs(chosen, known)))
    values = sum(sums.mean for sums in known)
    errors = np.sqrt(_variance_of_sum(known) + bias**2)
    # paths that all agree do not make the mean exact: one in n might not have
    alike = known[0].variance_of_paths <= 1e-14 * values**2
    details = _table(chosen, known, bias) | _account(np.array(costs))
    return values, np.where(alike, np.maximum(errors, np.abs(values) / known[0].count), errors), details


def _tolerances(chosen: list[Level], known: list[_Sums], tolerance: float) -> list[float]:
    """Those on the way to a tolerance: the first asks for enough samples to be told from pilots."""
    most = _wanted(chosen, known, tolerance)[0]
    halvings = int(np.clip(math.log(max(most / _ENOUGH, 1.0), 4), 0, _TOLERANCES))
    return [tolerance * 2**k for k in range(halvings, -1, -1)]


def _costs(chosen: list[Level], known: list[_Sums]) -> tuple[float, float]:
    """What all samples took, and what plain paths of the finest level would take for the same error."""
    plain = chosen[-1].path * known[0].variance_of_paths.max() / max(_variance_of_sum(known).max(), 1e-300)
    return sum(level.cost * sums.count for level, sums in zip(chosen, known, strict=True)), plain


def _account(costs: np.ndarray) -> dict[str, np.ndarray]:
    """Of rows (tolerance, cost, cost of plain paths), ending at what was wanted; the slope where there are three."""
    tolerances, total, plain = costs.T
    found = {"tolerances": tolerances, "tolerance_costs": total, "tolerance_plain_costs": plain}
    if len(costs) > 2:
        found["cost_slope"] = np.polyfit(np.log(tolerances), np.log(total), 1)[0]
    return found | {"tolerance": tolerances[-1], "total_cost": total[-1], "plain_cost": plain[-1]}


def _table(chosen: list[Level], known: list[_Sums], bias: np.ndarray) -> dict[str, np.ndarray]:
    """The levels."""
    return {
        "level_time_step": np.array([level.stepper.time_step for level in chosen]),
        "level_dimension": np.array([level.stepper.rows for level in chosen]),
        "level_mean": np.array([sums.mean for sums in known]),
        "level_variance": np.array([sums.variance for sums in known]),
        "level_cost": np.array([level.cost for level in chosen]),
        "level_samples": np.array([sums.count for sums in known]),
        "bias": bias,
    }


def _first_useful(comm: MPI.Comm, levels: Levels, seed: int) -> int:
    """The coarsest level with which, and a difference to the next, the next is cheaper than by itself. Collective."""
    for index in range(levels.first, levels.own):
        try:
            coarse, fine = replace(levels[index], below=None), levels[index + 1]
            lower = _sampled(comm, coarse, seed, index, 0, _LOOK).variance.max()
            upper = _sampled(comm, fine, seed, index + 1, 0, _LOOK).variance.max()
        except _BLOWN_UP:
            continue
        alone = math.sqrt(lower * replace(fine, below=None).cost)
        if math.sqrt(lower * coarse.cost) + math.sqrt(upper * fine.cost) < alone:
            return index
    return levels.own


def _pairs_pay(comm: MPI.Comm, level: Level, seed: int, index: int) -> bool:
    """Whether two antithetic paths of a level are better than two others. Collective."""
    both = _sampled(comm, replace(level, below=None, pairs=True), seed, index, 0, _LOOK)
    return bool((2 * both.variance).max() < _PAYS * both.variance_of_paths.max())


def _bias(known: list[_Sums]) -> np.ndarray:
    """(times,) what the levels that are missing would add, if each difference is at most half of that before it.

    Of a difference that is no larger than its sampling error nothing is left: that error is counted by itself.
    """
    last, before = (
        np.sqrt(np.maximum(sums.mean**2 - sums.variance / sums.count, 0.0)) for sums in (known[-1], known[-2])
    )
    return np.maximum(last, before / 2)


def _refine(comm: MPI.Comm, chosen: list[Level], known: list[_Sums], seed: int, first: int, tolerance: float) -> None:
    """Add samples until the variance of the sum is small, as many of each level as is cheapest. Collective."""
    while True:
        wanted = _wanted(chosen, known, tolerance)
        if all(sums.count >= 0.99 * count for sums, count in zip(known, wanted, strict=True)):
            return
        for k, count in enumerate(wanted):
            count = min(count, _GROWTH * known[k].count)
            if count > known[k].count:
                known[k].total += _sampled(comm, chosen[k], seed, first + k, known[k].count, count).total
                known[k].count = int(count)


def _wanted(chosen: list[Level], known: list[_Sums], tolerance: float) -> np.ndarray:
    """(levels,) samples: in the ratio that is cheapest for the largest variances, and enough at every time."""
    variances, costs = _variances(known), np.array([level.cost for level in chosen])
    ratio = np.sqrt(np.maximum(variances.max(axis=1), 1e-300) / costs)
    enough = (variances / ratio[:, None]).sum(axis=0).max() / ((1 - _SHARE) * tolerance**2)
    return np.ceil(ratio * enough).astype(np.int64)


def _variance_of_sum(known: list[_Sums]) -> np.ndarray:
    """(times,) variance of the sum of all levels."""
    return (_variances(known) / np.array([[sums.count] for sums in known])).sum(axis=0)


def _variances(known: list[_Sums]) -> np.ndarray:
    """(levels, times) of a sample: of few differences the rare large ones may be missing, as where a set is observed.

    One in n might be as large as what the coarsest level varies by, and differences fall by no more than `_DECAY`.
    """
    found = np.array([sums.variance for sums in known])
    found[1] = np.maximum(found[1], found[0] / known[1].count)
    for k in range(2, len(found)):
        found[k] = np.maximum(found[k], found[k - 1] / _DECAY)
    return found


def _sampled(comm: MPI.Comm, level: Level, seed: int, index: int, start: int, stop: int) -> _Sums:
    """Sums over the samples start ... stop - 1 of a level. Collective."""
    count = stop - start
    blocks = [Block(b.index, start + b.start, start + b.stop) for b in cut(count, -(-count // _BATCH))]
    parts, blown = [], None
    try:
        parts = [_differences(level, seed, index, block) for block in local(blocks, comm)]
    except _BLOWN_UP as error:
        blown = error
    # an error on one rank is one on all
    blown = next((error for error in comm.allgather(blown) if error is not None), None)
    if blown is not None:
        raise blown
    return _Sums(count, sum_blocks(comm, parts, (3, len(level.case.times)), len(blocks)))


def _differences(level: Level, seed: int, index: int, block: Block) -> np.ndarray:
    """(3, times) sums over one block: of what the level adds to the one below, of its square, of that of paths."""
    number = level.case.number
    start, noise = (streams.reference(number, use + index) for use in (8, 32))

    def values(of: Level, merged: int, negated: bool) -> np.ndarray:
        states = of.case.sampler(seed, start, block.start, block.stop)
        return paths(of.case, of.stepper, Noise(seed, noise, block.start, merged, negated), states, None, ())[0]

    found = []
    for negated in (False, True) if level.pairs else (False,):
        own = values(level, 0, negated)
        found.append(own if level.below is None else own - values(level.below, 1, negated))
    sample, square = (sum(parts) / len(found) for parts in (found, [part**2 for part in found]))
    return np.array([sample.sum(axis=1), (sample**2).sum(axis=1), square.sum(axis=1)])
