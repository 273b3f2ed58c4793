"""Particles that branch: killing by exp(-int c) becomes death, and its opposite birth, of the members of a population.

Independent groups of particles carry weights exp(-int c); where the weights of a group have become unequal it is
resampled, and the logarithm of its mean weight is kept. The product of all mean weights, times the weighted mean of f,
has the mean u exactly, whatever the size of the group (Del Moral 2004, section 9.4), and the spread over groups gives
the error. The decay of the mean weight is the principal eigenvalue of L + c, but for a bias that falls as one over the
size of a group.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from kswgd_hpc import streams
from kswgd_hpc.parallel import Block, cut, gather_blocks, local, tiles
from kswgd_hpc.statistics import standard_error
from spde.random import uniforms
from spde.stepping import Noise, PathIntegral, Stepper

if TYPE_CHECKING:
    from kswgd_hpc.feynman_kac import Case

FEW = 0.02  # of the paths: with fewer effective ones, branching is better
_GROUP = 256
_FEWEST_GROUPS = 16
_GOOD, _MORE = 0.01, 4
_MOST_GROUPS = 2**14
_LANES = 64
_LOOKS = 400  # at the weights of a group, in the time that it runs
_TRANSIENT = 0.4  # of the time, before the decay is that of the principal eigenvalue
_DOUBLINGS = 5  # of the time until the decay is steady
_UNEQUAL = 0.5  # of the members: resample when fewer are effective


def estimate(comm: MPI.Comm, case: Case, stepper: Stepper, seed: int, tolerance: float | None) -> tuple:
    """(times,) means of f(X_t) exp(-int c), their standard errors, details. Collective.

    Parameters
    ----------
    tolerance : standard error wanted; None for what `case.trajectories` particles give
    """

    def values(rows: np.ndarray) -> np.ndarray:
        return rows[:, : len(case.times)]

    rows = _groups(comm, case, stepper, seed, values, tolerance)
    found = values(rows)
    return found.mean(axis=0), _error_of_mean(found), _details(case, rows)


def principal_eigenvalue(comm: MPI.Comm, case: Case, stepper: Stepper, seed: int, tolerance: float | None) -> tuple:
    """(1,) smallest eigenvalue of L + c, its standard error, details. Collective.

    Parameters as of `estimate`; the particles run to the last of the case's times, or until the decay is steady.
    Without a tolerance there are more of them, up to `_MORE` times, for an error of `_GOOD` of the value.
    """
    case = replace(case, times=case.times[-1:])
    for doubling in range(_DOUBLINGS + 1):
        time = case.times[-1]
        rows = _groups(comm, case, stepper, seed, lambda rows: _decays(rows)[0], tolerance and tolerance * time)
        if tolerance is None:
            enough = _GOOD * np.abs(_decays(rows)[0].mean())
            rows = _enlarged(comm, case, stepper, seed, rows, lambda rows: _decays(rows)[0], enough, _MORE * len(rows))
        whole, early, late = (part / time for part in _decays(rows))
        error, change = _error_of_mean(whole), np.abs((early - late).mean(axis=0))
        steady = change <= 2 * _error_of_mean(early - late)
        if steady.all() or doubling == _DOUBLINGS:
            break
        case = replace(case, times=(2 * time,))
    return whole.mean(axis=0), np.where(steady, error, np.hypot(error, change)), _details(case, rows)


def _decays(rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """(groups, 1) decay times the whole time: after the transient, in the first half of that, and in the second."""
    logarithms = rows[:, 1:]
    looks = logarithms.shape[1]
    first = min(max(math.ceil(_TRANSIENT * looks) - 1, 0), looks - 3)
    middle = (first + looks - 1) // 2

    def between(a: int, b: int) -> np.ndarray:
        return (logarithms[:, a] - logarithms[:, b])[:, None] * looks / (b - a)

    return between(first, looks - 1), between(first, middle), between(middle, looks - 1)


def _error_of_mean(found: np.ndarray) -> np.ndarray:
    return standard_error((found - found.mean(axis=0)) / len(found))


def _details(case: Case, rows: np.ndarray) -> dict[str, np.ndarray]:
    logarithms = rows[:, len(case.times) :]
    looks = logarithms.shape[1]
    return {
        "groups": np.array(len(rows)),
        "growth_times": case.times[-1] * (np.arange(looks) + 1) / looks,
        "growth": logarithms.mean(axis=0),
    }


def _groups(comm, case: Case, stepper: Stepper, seed: int, values, tolerance: float | None) -> np.ndarray:
    """(groups, times + looks) values, logarithms of mean weights; more groups until the error is small. Collective."""
    members = _members(case)
    count = max(_FEWEST_GROUPS, case.trajectories // members)
    rows = _run(comm, case, stepper, seed, cut(members * count, count))
    return rows if tolerance is None else _enlarged(comm, case, stepper, seed, rows, values, tolerance, _MOST_GROUPS)


def _enlarged(comm, case: Case, stepper: Stepper, seed: int, rows: np.ndarray, values, tolerance: float, most: int):
    """The same with more groups, at most so many, until the error of the mean of their values is small. Collective."""
    members = _members(case)
    while len(rows) < most:
        error = _error_of_mean(values(rows)).max()
        if error <= tolerance:
            break
        wanted = min(most, math.ceil(1.05 * len(rows) * (error / max(tolerance, 1e-6 * error)) ** 2))
        blocks = cut(members * wanted, wanted)[len(rows) :]
        rows = np.concatenate([rows, _run(comm, case, stepper, seed, blocks)])
    return rows


def _members(case: Case) -> int:
    """Particles of a group."""
    return max(2, min(_GROUP, case.trajectories // _FEWEST_GROUPS))


def _run(comm: MPI.Comm, case: Case, stepper: Stepper, seed: int, groups: list[Block]) -> np.ndarray:
    looks = min(_LOOKS, round(case.times[-1] / stepper.time_step))
    rows = [_group(case, stepper, seed, group, looks)[None] for group in local(groups, comm)]
    return gather_blocks(comm, rows, len(case.times) + looks)


def _group(case: Case, stepper: Stepper, seed: int, group: Block, looks: int) -> np.ndarray:
    """(times + looks,) of one group."""
    stream = streams.reference(case.number, 2)
    states = case.sampler(seed, streams.reference(case.number, 3), group.start, group.stop)
    ends = [round(time / stepper.time_step) for time in case.times]
    marks = [round(ends[-1] * (look + 1) / looks) for look in range(looks)]
    log_weight, logarithm, step = np.zeros(group.size), 0.0, 0
    values, logarithms = np.empty(len(ends)), np.empty(looks)
    for stop in sorted({*ends, *marks}):
        states, gained = _advanced(case, stepper, Noise(seed, stream, group.start), states, step, stop - step)
        step, log_weight = stop, log_weight - gained
        top = log_weight.max()
        weight = np.exp(log_weight - top)
        if stop in ends:
            values[ends.index(stop)] = np.exp(logarithm + top) * np.mean(weight * case.observable(states))
        for look in np.flatnonzero(np.array(marks) == stop):
            logarithms[look] = logarithm + top + np.log(weight.mean())
        if weight.sum() ** 2 < _UNEQUAL * group.size * (weight**2).sum():
            logarithm += top + np.log(weight.mean())
            point = uniforms(np.empty((1, 1)), seed, streams.reference(case.number, 4), group.start, stop)[0, 0]
            states, log_weight = states[:, _ancestors(weight, point)].copy(), np.zeros(group.size)
    return np.concatenate([values, logarithms])


def _advanced(case: Case, stepper: Stepper, noise: Noise, states: np.ndarray, step: int, steps: int) -> tuple:
    """States after some steps and the integral of c over them."""
    parts, gained = [], []
    for tile in tiles(states.shape[1], _LANES):
        here = np.ascontiguousarray(states[:, tile.start : tile.stop])
        path = None if case.killing is None else PathIntegral(case.killing, here, stepper.time_step)
        address = Noise(noise.seed, noise.stream, noise.first + tile.start)
        parts.append(stepper.advance(here, address, step, steps, None if path is None else path.watch))
        gained.append(np.zeros(tile.size) if path is None else path.value)
    return np.concatenate(parts, axis=1), np.concatenate(gained)


def _ancestors(weight: np.ndarray, point: float) -> np.ndarray:
    """Systematic resampling: each member is taken as often as its share of the weight, rounded up or down."""
    edges = np.cumsum(weight) / weight.sum()
    return np.minimum(np.searchsorted(edges, (np.arange(len(weight)) + point) / len(weight)), len(weight) - 1)
