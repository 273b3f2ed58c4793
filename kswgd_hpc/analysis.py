"""What is asked of a spectrum beside its rates: timescales against lag, the Chapman-Kolmogorov test, transitions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kswgd_hpc.eigensolver import eigenpairs
from kswgd_hpc.ensemble import Pairing
from kswgd_hpc.estimators import Estimator
from kswgd_hpc.kinetics import ChapmanKolmogorov, Timescales, kinetics
from kswgd_hpc.parallel import sum_items
from kswgd_hpc.records import Records, Sample
from kswgd_hpc.spectrum import Space, Spectrum
from kswgd_hpc.trajectories import Functions, group_count, group_records, trajectories
from kswgd_hpc.transitions import Counts, Setting, Transitions, count_transitions, transitions

_MODES = 10  # slow modes whose timescales are followed
_LAGS = 9
_LONGEST = 64  # in lags
_DIRECTIONS = 40  # functions in which committors are looked for


def slow_functions(spectrum: Spectrum, most: int = _MODES) -> Functions:
    """The constant function and the slowest eigenfunctions as real functions: of a complex pair both parts."""
    offsets, coefficients = [1.0], [np.zeros(len(spectrum.coefficients))]
    k = 1
    while k < len(spectrum.rates) and len(offsets) <= most:
        turning = abs(spectrum.rates[k].imag) > 1e-9 * abs(spectrum.rates[k])
        for part in (np.real, np.imag) if turning else (np.real,):
            offsets.append(float(part(spectrum.offsets[k])))
            coefficients.append(part(spectrum.coefficients[:, k]))
        k += 2 if turning else 1
    return Functions(np.array(offsets), np.stack(coefficients, axis=1))


def lags(pairing: Pairing, wanted: list[float] | None) -> list[int]:
    """Lags in records, ascending, that of the pairs among them: those wanted, or some on a logarithmic scale.

    The longest leaves half of a trajectory to start from, and is at most 64 times that of the pairs.
    """
    base = pairing.lag
    if wanted is not None:
        found = {round(time / pairing.interval) for time in wanted}
        return sorted({lag for lag in found if lag < pairing.records} | {base})
    most = max(1, min((pairing.records - 1) // (2 * base), _LONGEST))
    multiples = {base * round(k) for k in np.geomspace(1, most, _LAGS)}
    return sorted(multiples | {max(1, base // 4), max(1, base // 2)})


def timescales(
    spectrum: Spectrum, space: Space, pairing: Pairing, reversible: bool, wanted: list[float] | None
) -> tuple[Timescales, ChapmanKolmogorov] | None:
    """Rates of the slow modes at many lags; None where there is no mode. Collective.

    Weights belong to the law of the starts at one lag. Without them the problem is not symmetric, but its eigenvalues
    are those of the process, whatever the law of the states.
    """
    functions, sample = slow_functions(spectrum), space.sums.sample
    reversible = reversible and sample.weight is None
    count = functions.coefficients.shape[1] - 1
    if count < 1:
        return None
    along = trajectories(replace(sample, weight=None), functions, pairing.interval)
    return kinetics(along, lags(pairing, wanted), pairing.lag, count, reversible)


@dataclass(frozen=True)
class Committors:
    """Transitions between the sets A and B, the functions in which they were found, and what was counted.

    counts : None where the trajectories do not have the invariant law
    """

    transitions: Transitions
    functions: Functions
    counts: Counts | None
    interval: float

    def committor(self, psi: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(n,) probability to reach B before A, from features (n, p) and labels (n,)."""
        return self.transitions.committor(self.functions(psi), labels)

    def datasets(self) -> dict[str, Any]:
        """What the results keep."""
        found, path = self.transitions, "koopman/transitions"
        values = {f"{path}/{name}": getattr(found, name) for name in found.errors}
        values |= {f"{path}/{name}_error": error for name, error in found.errors.items()}
        values[f"{path}/monitoring_interval"] = self.interval
        values["koopman/committor/coefficients"] = self.functions.coefficients @ found.committor.coefficients
        values["koopman/committor/offset"] = self.functions.offsets @ found.committor.coefficients
        if self.counts is not None:
            for way, (rate, error) in self.counts.rates(self.interval).items():
                values |= {f"{path}/counted_rate_{way}": rate, f"{path}/counted_rate_{way}_error": error}
            values[f"{path}/unseen"] = self.counts.unseen
            events = self.counts.events_ab.sum(), self.counts.events_ba.sum()
            values |= {f"{path}/counted_ab": int(events[0]), f"{path}/counted_ba": int(events[1])}
        return values


def committors(space: Space, estimator: Estimator, pairing: Pairing) -> Committors:
    """Committors, passage times and rates between the sets that the records are labelled with. Collective."""
    sample = space.sums.sample
    functions = _directions(space, estimator)
    along = trajectories(sample, functions, pairing.interval)
    found = transitions(Setting(along, pairing.lag, estimator.name == "reversible"))
    counts = None if sample.weight is not None else _counts(sample)
    return Committors(found, functions, counts, pairing.interval)


def _counts(sample: Sample) -> Counts:
    """Transitions seen by the trajectories, in the groups of `trajectories`. Collective."""
    groups = group_count(sample)

    def add(block: Records, parts: dict[str, np.ndarray]) -> None:
        for number, mine in group_records(sample, block):
            labels = block.labels[mine[0] : mine[-1] + 2]
            parts["counts"][number, :4] += count_transitions(labels)
            parts["counts"][number, 4] += count_transitions(labels[::2])[:2].sum()

    shapes = {"counts": (groups, 5)}
    return Counts(*sum_items(sample.comm, sample.blocks, add, shapes, sample.terms)["counts"].reduced(sample.comm).T)


def _directions(space: Space, estimator: Estimator) -> Functions:
    """The constant function and the slowest directions of the symmetrised problem: more than there are resolved modes,
    since a committor bends at the edges of its sets."""
    matrix = space.project(estimator.left(space.sums))
    part = "largest" if estimator.pairs else "smallest"
    count = min(_DIRECTIONS, space.size)
    vectors = space.sums.comm.bcast(eigenpairs((matrix + matrix.T) / 2, count, part).vectors)
    coefficients = space.coefficients(np.ascontiguousarray(vectors))
    offsets = np.concatenate([[1.0], -space.sums.mean @ coefficients])
    return Functions(offsets, np.concatenate([np.zeros((space.sums.size, 1)), coefficients], axis=1))
