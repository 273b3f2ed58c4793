"""Monte Carlo for what has no end time of its own: paths that are stopped by a set, and integrals over all times.

A path is seen at its steps alone. Between two of them it is a Brownian bridge, which meets a set with the probability
exp(-d0 d1 / (h grad d . M grad d)), d0 and d1 the level function at both ends: each path carries the probability that
it has not been stopped (Gobet 2000), so that the error is of the order of the time step and not of its root. Each path
is looked at twice, at all steps and at every other one. The difference is that error, and is taken off; as much of it
is counted as the error that is left, which is also that of the paths themselves.

The integral of g exp(-int c) runs until the weights of all paths have no more to add. Where nothing is killed two paths
run along the same noise, one from the start and one from the invariant law, on which the other is: the integral of the
difference of g between them has the mean (L^-1 (g - <g>))(x), until both have forgotten where they started.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from kswgd_hpc import streams
from kswgd_hpc.parallel import Block, local, sum_blocks, tiles
from kswgd_hpc.references.charts import NotSolvable
from kswgd_hpc.references.path_sums import PathSums
from spde.stepping import Noise, Stepper

if TYPE_CHECKING:
    from kswgd_hpc.feynman_kac import Case
    from kswgd_hpc.feynman_kac.boundary import Boundary

_BATCH = 256
_CHUNK = 64
_MOST_STEPS = 2**22
_PILOT = 512
_MOST_PATHS = 2**26
_NEGLIGIBLE = 1e-7  # of the weight of a path
_LEFT = 1.0  # of what is taken off for the time step
_TAIL = 0.5  # of an integral over all times, in which the starts have to be forgotten


def stopped(comm: MPI.Comm, case: Case, stepper: Stepper, seed: int, tolerance: float | None) -> tuple:
    """(times,) means of what stopped paths are worth, their errors, details. Collective.

    Raises
    ------
    NotSolvable : paths that are not stopped in millions of steps
    """
    ends = None if case.steady else [round(time / stepper.time_step) for time in case.times]

    def of(batch: Block) -> np.ndarray:
        states = case.sampler(seed, case.stream, batch.start, batch.stop)
        found = _stopped_paths(case.boundary, stepper, Noise(seed, case.stream + 1, batch.start), states, ends)
        change = found[1] - found[0]
        return np.stack([found[0] - change, change])

    means, errors, count = _averaged(comm, case, of, tolerance)
    # a rare event that no path has shown, or paths that all agree: one more path might be another
    unit = np.maximum(np.abs(means[0]), 0.0 if case.boundary.reward else 1.0)
    details = {"paths": np.array(count), "time_step_correction": means[1]}
    return means[0], np.sqrt(errors**2 + (_LEFT * means[1]) ** 2 + (unit / count) ** 2), details


def _stopped_paths(boundary: Boundary, stepper: Stepper, noise: Noise, states: np.ndarray, ends: list | None):
    """(2, times, batch) what paths are worth by steps `ends`, seen at all steps and at every other; at the end if None.

    Parameters
    ----------
    states : (d, batch) starts
    """
    monitors = [_Monitor(boundary, states, stepper.time_step, every, ends) for every in (1, 2)]

    def watch(trace: np.ndarray) -> None:
        n, d, batch = trace.shape
        flat = np.ascontiguousarray(trace.transpose(1, 0, 2)).reshape(d, n * batch)
        seen = _Seen.of(boundary, flat, (n, batch))
        for monitor in monitors:
            monitor.add(seen)

    most, step = _MOST_STEPS if ends is None else ends[-1], 0
    while step < most and max(monitor.alive.max() for monitor in monitors) > _NEGLIGIBLE:
        steps = min(_CHUNK if step < 16 * _CHUNK else 16 * _CHUNK, most - step)
        states = stepper.advance(states, noise, step, steps, watch)
        step += steps
    if ends is None and step >= most:
        raise NotSolvable(f"a path was not stopped in {most} steps")
    return np.stack([monitor.found() for monitor in monitors])


@dataclass(frozen=True)
class _Seen:
    """Paths at some steps, (n, batch) each: level function, what it spreads by in a unit of time, worth if stopped."""

    level: np.ndarray
    spread: np.ndarray
    worth: np.ndarray

    @classmethod
    def of(cls, boundary: Boundary, states: np.ndarray, shape: tuple[int, ...]) -> _Seen:
        """At states (d, n batch)."""
        inside = boundary.inside(states)
        level = np.where(inside, 0.0, boundary.level(states))
        # of two sets the nearer one is met
        worth = np.where(inside, boundary.given(states), np.round(boundary.lifted(states)))
        return cls(*(part.reshape(shape) for part in (level, boundary.spread(states), worth)))

    def rows(self, index) -> _Seen:
        """Some of the steps."""
        return _Seen(self.level[index], self.spread[index], self.worth[index])

    def after(self, last: _Seen) -> _Seen:
        """These steps behind others."""
        parts = ((getattr(last, name), getattr(self, name)) for name in ("level", "spread", "worth"))
        return _Seen(*(np.concatenate(pair) for pair in parts))


class _Monitor:
    """The probability that each path of a batch has not been stopped, seen at every so many steps.

    `alive` (batch,) is that probability now.
    """

    def __init__(self, boundary: Boundary, states: np.ndarray, time_step: float, every: int, ends: list | None):
        self._every, self._width, self._ends, self._step = every, every * time_step, ends, 0
        self._reward = boundary.reward
        self._last = _Seen.of(boundary, states, (1, states.shape[1]))
        begun = boundary.inside(states)
        self.alive = np.where(begun, 0.0, 1.0)
        self._worth = np.where(begun, boundary.given(states), 0.0)
        self._at_ends: dict[int, np.ndarray] = {}

    def add(self, seen: _Seen) -> None:
        """The next steps."""
        steps = self._step + 1 + np.arange(len(seen.level))
        self._step += len(steps)
        index = np.flatnonzero(steps % self._every == 0)
        path = seen.rows(index).after(self._last)
        first, second = path.level[:-1], path.level[1:]
        with np.errstate(divide="ignore", invalid="ignore"):
            met = np.exp(-first * second / (self._width * path.spread[:-1]))
        met = np.where((first > 0) & (second > 0), np.nan_to_num(met), 1.0)
        alive = self.alive * np.concatenate([np.ones((1, len(self.alive))), np.cumprod(1 - met, axis=0)])
        # the set that is met lies at the end that is inside, or at the nearer one
        worth = np.where(second <= first, path.worth[1:], path.worth[:-1])
        gained = alive[:-1] * met * worth + self._reward * self._width * (alive[:-1] + alive[1:]) / 2
        total = self._worth + np.concatenate([np.zeros((1, len(self.alive))), np.cumsum(gained, axis=0)])
        for end in self._ends or []:
            if steps[0] <= end <= steps[-1]:
                self._at_ends[end] = total[np.searchsorted(steps[index], end, side="right")]
        self.alive, self._worth, self._last = alive[-1], total[-1], path.rows(slice(-1, None))

    def found(self) -> np.ndarray:
        """(times, batch) what the paths are worth at the ends; (1, batch) now, where there are none."""
        if self._ends is None:
            return self._worth[None]
        return np.stack([self._at_ends.get(end, self._worth) for end in self._ends])


def resolvent(
    comm: MPI.Comm, case: Case, stepper: Stepper, seed: int, tolerance: float | None, stationary: Callable, time: float
) -> tuple:
    """(1,) mean of int g exp(-int c) over all times, its error, details. Collective.

    Parameters
    ----------
    stationary : sampler of states of the invariant law, for a case without killing
    time : after which starts are forgotten, about; for a case without killing

    Raises
    ------
    NotSolvable : weights that do not decay in millions of steps
    """
    if case.killing is None:
        return _differences(comm, case, stepper, seed, tolerance, stationary, time)

    def of(batch: Block) -> np.ndarray:
        states = case.sampler(seed, case.stream, batch.start, batch.stop)
        noise, step = Noise(seed, case.stream + 1, batch.start), 0
        sums = PathSums(case, states, stepper.time_step)
        while np.max(sums.weight) > _NEGLIGIBLE:
            if step >= _MOST_STEPS:
                raise NotSolvable(f"the weights exp(-int c) do not vanish in {step} steps")
            states = stepper.advance(states, noise, step, _CHUNK, sums.watch)
            step += _CHUNK
        return sums.summed[None, None]

    means, errors, count = _averaged(comm, case, of, tolerance)
    return means[0], np.sqrt(errors**2 + (_NEGLIGIBLE * means[0]) ** 2), {"paths": np.array(count)}


def _differences(comm, case: Case, stepper: Stepper, seed: int, tolerance, stationary: Callable, time: float) -> tuple:
    half = max(1, math.ceil(_TAIL * time / stepper.time_step))

    def of(batch: Block) -> np.ndarray:
        noise = Noise(seed, case.stream + 1, batch.start)
        found = []
        for sampler, stream in ((case.sampler, case.stream), (stationary, streams.reference(case.number, 5))):
            states = sampler(seed, stream, batch.start, batch.stop)
            sums, parts = PathSums(case, states, stepper.time_step), []
            for part in range(2):
                states = stepper.advance(states, noise, part * half, half, sums.watch)
                parts.append(sums.summed.copy())
            found.append(parts)
        early, whole = (found[0][k] - found[1][k] for k in range(2))
        return np.stack([whole, whole - early])[:, None]

    means, errors, count = _averaged(comm, case, of, tolerance)
    # what the second half of the time adds bounds what comes after, where it falls at least as fast
    return means[0], np.hypot(errors, means[1]), {"paths": np.array(count), "second_half": means[1]}


def _averaged(comm: MPI.Comm, case: Case, of: Callable[[Block], np.ndarray], tolerance: float | None) -> tuple:
    """Means (k, times) over paths, standard errors (times,) of the first, number of paths. Collective.

    Parameters
    ----------
    of : a batch of paths to its values (k, times, batch)
    """
    count = case.trajectories
    sums = _summed(comm, of, tiles(count if tolerance is None else _PILOT, _BATCH))
    if tolerance is not None:
        spread = _variance(sums, _PILOT).max()
        count = int(np.clip(math.ceil(spread / tolerance**2), _PILOT, _MOST_PATHS))
        sums = _summed(comm, of, tiles(count, _BATCH))
    return sums[:-1] / count, np.sqrt(_variance(sums, count) / count), count


def _variance(sums: np.ndarray, count: int) -> np.ndarray:
    return np.maximum(sums[-1] / count - (sums[0] / count) ** 2, 0.0) * count / max(count - 1, 1)


def _summed(comm: MPI.Comm, of: Callable[[Block], np.ndarray], batches: list[Block]) -> np.ndarray:
    """(k + 1, times) sums of values over all batches, and of the squares of the first. Collective."""
    parts, failed = [], None
    shape = (0, 0)
    try:
        for batch in local(batches, comm):
            values = of(batch)
            parts.append(np.concatenate([values.sum(axis=2), (values[:1] ** 2).sum(axis=2)]))
            shape = parts[0].shape
    except NotSolvable as error:
        failed = error
    # an error on one rank is one on all
    failed = next((error for error in comm.allgather(failed) if error is not None), None)
    if failed is not None:
        raise failed
    return sum_blocks(comm, parts, max(comm.allgather(shape)), len(batches))
