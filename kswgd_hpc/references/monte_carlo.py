"""Monte Carlo: f exp(-int c) at the end of simulated paths, with antithetic paths and the spectrum as control variate.

A few pilot paths with random numbers of their own decide which of these pay: they give the variance of each variant,
an operation count its cost. What is decided is the same on any number of ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from kswgd_hpc import streams
from kswgd_hpc.checkpoint import UNSAVED, Keeping
from kswgd_hpc.parallel import Block, gather_blocks, local, sum_blocks, tiles
from kswgd_hpc.references.control import Control, Expansion
from kswgd_hpc.references.path_sums import PathSums
from spde.stepping import Noise, Stepper

if TYPE_CHECKING:
    from kswgd_hpc.feynman_kac import Case

_BATCH = 64
_DRAWS = 256
_MOST_DRAWS = 16  # of the start law, for each path
_NOTHING = 0.0
_LOOK = 256  # paths whose weights are looked at
_HANDFUL = 10
_PILOT = (16, 64)  # pairs of antithetic paths, fewest and most
_PIECES = (0.5, 1, 2, 4)  # lengths of the control's pieces that are tried; one of length 1 costs as much as its steps
_STEP = 40.0  # elementary operations of a step for each random number, about
_MOST_PATHS = 2**28
_ROUNDING = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Variant:
    """How paths are sampled.

    pairs : whether each path has an antithetic one
    piece : steps of a piece of the control, 0 without control
    coefficients : (times,) of the control, as far as the pilot knows
    cost : elementary operations of a sample, about
    """

    pairs: bool
    piece: int
    coefficients: np.ndarray
    cost: float


def estimate(
    comm: MPI.Comm,
    case: Case,
    stepper: Stepper,
    seed: int,
    expansion: Expansion | None,
    tolerance: float | None,
    keeping: Keeping = UNSAVED,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Mean of f(X_t) exp(-int c) over simulated paths, its standard error, and what was done for it. Collective.

    Parameters
    ----------
    expansion : the spectrum's prediction, for a control variate; None for none
    tolerance : standard error wanted at every time; None for what `case.trajectories` paths give
    keeping : where paths that have been run are saved

    Returns
    -------
    (times,) values, (times,) errors, details: `control_variate_factor` (times,), how many times fewer samples the
    chosen variant takes than plain paths; `control_variate_gain` (times,), the same a unit of cost; `total_cost`, in
    random numbers or as much work, and `plain_cost` (times,), of plain paths with the same error
    """
    control, starts = None if expansion is None else Control(expansion, stepper, np.array(case.times)), _NOTHING
    if control is not None and case.scattered:
        control, starts = _centred(comm, case, stepper, seed, control, case.trajectories)
    pilot = None if control is None and tolerance is None else _pilot(comm, case, stepper, seed, control)
    plain = Variant(False, 0, np.zeros(len(case.times)), _path_cost(case, stepper))
    variant = plain if pilot is None else pilot.best(plain)
    number = case.trajectories
    if tolerance is not None:
        number = int(np.clip(math.ceil(pilot.variance(variant).max() / tolerance**2), 2 * _PILOT[1], _MOST_PATHS))
        number *= 2 if variant.pairs else 1
        if control is not None and case.scattered:
            control, starts = _centred(comm, case, stepper, seed, control, number)
    samples = max(4, number // 2) if variant.pairs else number
    batches = tiles(samples, min(_BATCH, max(1, samples // 2)))
    with keeping as kept:
        parts = [
            kept(batch.index, partial(_sample, case, stepper, seed, control, variant, batch))
            for batch in local(batches, comm)
        ]
    moments = sum_blocks(comm, parts, (2, 10, len(case.times)), len(batches))
    values, variance, coefficients = _controlled(moments)
    count, first, square = moments[:, :3].sum(axis=0)
    plainly = np.maximum(square / count - (first / count) ** 2, 0.0) * count / (count - 2)
    # paths that all agree do not make the mean exact: one in n might not have
    alike = plainly <= 50 * _ROUNDING * square / count
    # of an exact control what is left is less than the rounding of the squares that it is the difference of
    variance = np.maximum(variance, _ROUNDING * square / count) + samples * coefficients**2 * starts
    errors = np.maximum(np.sqrt(variance / samples), np.where(alike, np.abs(values) / samples, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(alike, 1.0, plainly / variance)
    share = np.where(alike | (not variant.pairs), 1.0, 0.5)
    weight, weight_square = moments[:, 8:].sum(axis=0)
    details = {
        "weight_efficiency": weight**2 / np.maximum(count * weight_square, 1e-300),
        "paths": np.array(samples * (2 if variant.pairs else 1)),
        "antithetic": np.array(variant.pairs),
        "control_variate_piece": np.array(variant.piece * stepper.time_step),
        "control_variate_coefficient": coefficients,
        "control_variate_factor": factor * share,
        "control_variate_gain": factor * plain.cost / variant.cost,
        "total_cost": np.array(samples * variant.cost / _STEP),
        "plain_cost": samples * factor * plain.cost / _STEP,
    }
    return values, errors, details


def degenerate(comm: MPI.Comm, case: Case, stepper: Stepper, seed: int) -> bool:
    """Whether so few paths carry the weights exp(-int c) that others should be run, as some paths tell. Collective.

    Of n paths that are too few to show the large weights, a handful carries all: ten of 256 are taken as a sign.
    """
    count = min(_LOOK, case.trajectories // 8)
    if case.killing is None or case.source is not None or count < 8 * _HANDFUL:
        return False
    parts = []
    batches = tiles(count, _BATCH)
    for batch in local(batches, comm):
        start = case.sampler(seed, streams.reference(case.number, 1), batch.start, batch.stop)
        noise = Noise(seed, streams.reference(case.number, 0), batch.start)
        weights = paths(case, stepper, noise, start, None, ())[2]
        parts.append(np.stack([weights.sum(axis=1), (weights**2).sum(axis=1)]))
    weight, square = sum_blocks(comm, parts, (2, len(case.times)), len(batches))
    return bool((weight**2 < _HANDFUL * square).any())


def _centred(comm: MPI.Comm, case: Case, stepper: Stepper, seed: int, control: Control, paths: int) -> tuple:
    """The control with its mean over the start law, and the variance (times,) of that mean. Collective.

    From draws that no path starts from, as many more than paths as cost no more than these.
    """
    each = int(np.clip(_path_cost(case, stepper) / control.cost(len(case.times)), 1, _MOST_DRAWS))
    batches, parts = tiles(each * paths, _DRAWS), []
    for batch in local(batches, comm):
        values = control.at_start(case.sampler(seed, streams.reference(case.number, 7), batch.start, batch.stop))
        parts.append(np.stack([values.sum(axis=1), (values**2).sum(axis=1)]))
    total, square = sum_blocks(comm, parts, (2, len(case.times)), len(batches)) / (each * paths)
    variance = np.maximum(square - total**2, 0.0) / (each * paths)
    return control.centred(total), variance


def _controlled(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance of a sample and coefficient, (times,) each.

    The coefficient that one half of the samples is taken with comes from the other half, so that nothing is biased.

    Parameters
    ----------
    moments : (2, 10, times) sums over the halves, see `_sample`
    """
    n, y, m, yy, mm, ym = moments[:, 0], *(moments[:, k] for k in range(3, 8))
    mean, shift = y / n, m / n
    spread, covariance = np.maximum(mm / n - shift**2, 0.0), ym / n - mean * shift
    own = np.where(spread > 0, covariance / np.where(spread > 0, spread, 1.0), 0.0)
    other = own[::-1]
    square = np.maximum(yy / n - mean**2 - 2 * other * covariance + other**2 * spread, 0.0) * n / (n - 1)
    values = (n * (mean - other * shift)).sum(axis=0) / n.sum(axis=0)
    return values, (n * square).sum(axis=0) / n.sum(axis=0), other.mean(axis=0)


def _path_cost(case: Case, stepper: Stepper) -> float:
    """Elementary operations of one plain path, about."""
    return _STEP * stepper.rows * stepper.draws * round(case.times[-1] / stepper.time_step)


@dataclass(frozen=True)
class Pilot:
    """Values (n, 2, times) of pairs of paths, their controls (n, 2, lengths, times), the lengths and their costs."""

    values: np.ndarray
    controls: np.ndarray
    lengths: tuple[int, ...]
    costs: tuple[float, ...]

    def best(self, plain: Variant) -> Variant:
        """The variant of least variance times cost, averaged over the times."""
        variants = [plain, Variant(True, 0, plain.coefficients, 2 * plain.cost)]
        for length, cost in zip(self.lengths, self.costs, strict=True):
            for pairs in (False, True):
                variants.append(
                    Variant(pairs, length, self._coefficients(length, pairs), (plain.cost + cost) * (1 + pairs))
                )
        reference = self.variance(plain)
        reference = np.where(reference > 0, reference, 1.0)
        return min(variants, key=lambda variant: variant.cost * np.mean(self.variance(variant) / reference))

    def variance(self, variant: Variant) -> np.ndarray:
        """(times,) of a sample."""
        y = self.values - variant.coefficients * self._control(variant.piece)
        # both paths of a pair are paths: their variances are averaged, not taken together
        return y.mean(axis=1).var(axis=0, ddof=1) if variant.pairs else y.var(axis=0, ddof=1).mean(axis=0)

    def _control(self, length: int) -> np.ndarray | float:
        return self.controls[:, :, self.lengths.index(length)] if length else 0.0

    def _coefficients(self, length: int, pairs: bool) -> np.ndarray:
        y, m = self.values, self._control(length)
        if pairs:
            y, m = y.mean(axis=1, keepdims=True), m.mean(axis=1, keepdims=True)
        covariance = ((y - y.mean(axis=0)) * (m - m.mean(axis=0))).mean(axis=(0, 1))
        variance = ((m - m.mean(axis=0)) ** 2).mean(axis=(0, 1))
        return np.where(variance > 0, covariance / np.where(variance > 0, variance, 1.0), 0.0)


def _pilot(comm: MPI.Comm, case: Case, stepper: Stepper, seed: int, control: Control | None) -> Pilot:
    """Pairs of antithetic paths, with all lengths of the control's pieces. Collective."""
    lengths = () if control is None else _lengths(case, stepper, control)
    rows, size = [], len(case.times) * (1 + len(lengths))
    pairs = int(np.clip(case.trajectories // 32, *_PILOT))
    for batch in local(tiles(pairs, _BATCH // 4), comm):
        start = case.sampler(seed, streams.reference(case.number, 1), batch.start, batch.stop)
        both = []
        for negated in (False, True):
            noise = Noise(seed, streams.reference(case.number, 0), batch.start, negated=negated)
            values, controls, _ = paths(case, stepper, noise, start, control, lengths)
            both.append(np.concatenate([values[None], controls]).reshape(size, -1))
        rows.append(np.concatenate(both).T)
    whole = gather_blocks(comm, rows, 2 * size).reshape(pairs, 2, 1 + len(lengths), -1)
    steps = round(case.times[-1] / stepper.time_step)
    each = 0.0 if control is None else control.cost(len(case.times))
    costs = tuple(each * steps / length + control.cost_per_step * steps for length in lengths)
    return Pilot(whole[:, :, 0], whole[:, :, 1:], lengths, costs)


def _lengths(case: Case, stepper: Stepper, control: Control) -> tuple[int, ...]:
    """Steps of the control's pieces that are worth a try."""
    most = round(case.times[-1] / stepper.time_step)
    one = control.cost(len(case.times)) * most / _path_cost(case, stepper)
    return tuple(dict.fromkeys(min(max(1, round(one * length)), most) for length in _PIECES))


def _sample(case: Case, stepper, seed: int, control: Control | None, variant: Variant, batch: Block) -> np.ndarray:
    """(2, 10, times) sums over one batch of samples, in the half of the samples that the batch belongs to.

    Of 1, plain paths, their squares, the sample Y, its control M, Y^2, M^2, Y M, the weights of paths, their squares.
    """
    stream, found = streams.FEYNMAN_KAC + 2 * case.number, []
    lengths = (variant.piece,) if variant.piece else ()
    start = case.sampler(seed, stream, batch.start, batch.stop)
    for negated in (False, True) if variant.pairs else (False,):
        noise = Noise(seed, stream + 1, batch.start, negated=negated)
        values, controls, weights = paths(case, stepper, noise, start, control, lengths)
        found.append((values, controls[0] if lengths else np.zeros_like(values), weights))
    y, m, weights = (sum(part) / len(found) for part in zip(*found, strict=True))
    squares, weight_squares = (sum(path[k] ** 2 for path in found) / len(found) for k in (0, 2))
    rows = (np.ones_like(y), y, squares, y, m, y**2, m**2, y * m, weights, weight_squares)
    sums = np.zeros((2, len(rows), len(y)))
    sums[batch.index % 2] = [row.sum(axis=1) for row in rows]
    return sums


def paths(
    case: Case, stepper: Stepper, noise: Noise, states: np.ndarray, control: Control | None, lengths: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """f exp(-int c) + int g exp(-int c) along one batch of paths, and controls with pieces of several lengths.

    Parameters
    ----------
    states : (d, batch) starts
    lengths : steps of a piece, for each control

    Returns
    -------
    (times, batch) values, (lengths, times, batch) controls, (times, batch) weights exp(-int c)
    """
    ends = [round(time / stepper.time_step) for time in case.times]
    values, weights = np.empty((len(ends), states.shape[1])), np.ones((len(ends), states.shape[1]))
    controls = np.zeros((len(lengths), *values.shape))
    if lengths and case.scattered:
        controls += control.at_start(states)
    sums = PathSums(case, states, stepper.time_step)
    bounds = [sorted({*ends, *range(0, ends[-1], length)}) for length in lengths]
    stops = sorted({0, *ends, *(step for some in bounds for step in some)})
    following = [dict(pairwise(some)) for some in bounds]
    for step, stop in pairwise(stops):
        weight = sums.weight
        for part, after in zip(controls, following):
            if step in after:
                left = [i for i, end in enumerate(ends) if end >= after[step]]
                remaining = np.array([ends[i] - after[step] for i in left]) * stepper.time_step
                part[left] += weight * control.piece(states, noise, step, after[step] - step, remaining)
        states = stepper.advance(states, noise, step, stop - step, sums.watch)
        if stop in ends:
            end = ends.index(stop)
            weights[end] = sums.weight
            values[end] = case.observable(states) * weights[end] + sums.summed
    return values, controls, weights
