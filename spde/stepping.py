"""Time steppers: batches of trajectories advanced by compiled loops, noise from counters.

A stepper has `time_step`, the name of its `scheme`, the `reason` why it was chosen, and `advance`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from spde.errors import BlowUpError
from spde.random import key_words, normals

_WATCHED = 2**18  # numbers of the steps that are kept to be watched together


@dataclass(frozen=True)
class Noise:
    """Address of the random numbers of one batch: trajectories first, first + 1, ...

    merged : each step takes the numbers of 2**merged consecutive steps, added and scaled to unit variance, so that the
        same scheme with a step 2**merged times as long runs along the same Brownian path
    negated : the normals with the opposite sign, for antithetic paths
    table : (steps, d, batch) numbers to take instead, for quadrature over the noise
    """

    seed: int
    stream: int
    first: int
    merged: int = 0
    negated: bool = False
    table: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0)), repr=False, compare=False)

    @property
    def address(self) -> tuple:
        """What compiled loops take, see `spde.driving.draw`."""
        merged = -1 - self.merged if self.negated else self.merged
        return (*key_words(self.seed), self.stream, self.first, merged, self.table)

    def normals(self, out: np.ndarray, step: int) -> np.ndarray:
        """Fill `out`, (d, batch), with the standard normals of a step."""
        if len(self.table):
            out[...] = self.table[step]
            return out
        sign = -1.0 if self.negated else 1.0
        if not self.merged:
            normals(out, self.seed, self.stream, self.first, step)
            out *= sign
            return out
        parts, part = 2**self.merged, np.empty_like(out)
        out[...] = 0.0
        for index in range(step * parts, (step + 1) * parts):
            out += normals(part, self.seed, self.stream, self.first, index)
        out *= sign * parts**-0.5
        return out


class PathIntegral:
    """Integral of a rate c(X_s) along paths by the trapezoidal rule; give `watch` to `Stepper.advance`.

    `value` (batch,) is the integral so far, `last` (batch,) the rate where the paths are.

    Parameters
    ----------
    rate : function (d, batch) -> (batch,)
    states : (d, batch) where the paths start
    time_step : of the paths
    """

    def __init__(self, rate: Callable, states: np.ndarray, time_step: float):
        self._rate, self._half = rate, time_step / 2
        # a rate such as x is a view of the states, which the stepper overwrites
        self.last = np.array(rate(states))
        self.value = np.zeros(states.shape[1])

    def watch(self, states: np.ndarray) -> None:
        """Add consecutive steps (n, d, batch), one after the other."""
        n, d, batch = states.shape
        rates = np.array(self._rate(np.ascontiguousarray(states.transpose(1, 0, 2)).reshape(d, n * batch)))
        for now in rates.reshape(n, batch):
            self.value += self._half * (self.last + now)
            self.last = now


class Stepper(ABC):
    """Advances batches of states of one system with one scheme and time step.

    Subclasses have `enter` (states to what is stepped, a new array), `leave` (back) and `march`.

    Parameters
    ----------
    time_step : h
    scheme : name
    reason : why this scheme, one line
    """

    # what may be wrong when a trajectory is no longer finite
    remedy = "too large for this system, or the system has no bounded solution"
    # vectors of random numbers that one step takes, and whether what they add does not depend on the state
    draws = 1
    additive = True

    def __init__(self, time_step: float, scheme: str, reason: str = ""):
        self.time_step = time_step
        self.scheme = scheme
        self.reason = reason

    def enter(self, states: np.ndarray) -> np.ndarray:
        """What is stepped, a new contiguous array, of states (d, batch)."""
        return np.array(states, dtype=float, order="C")

    def leave(self, array: np.ndarray) -> np.ndarray:
        """States (d, batch) of what is stepped; may be a view."""
        return array

    @property
    @abstractmethod
    def rows(self) -> int:
        """Random numbers that `kick` takes."""

    @abstractmethod
    def kick(self, states: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """(d, batch) what random numbers (rows, batch) of a step add to states (d, batch): the part linear in them."""

    @abstractmethod
    def march(self, array: np.ndarray, noise: Noise, step: int, steps: int, trace: np.ndarray) -> np.ndarray:
        """The array after `steps` steps; may overwrite it. A trace (steps, d, batch), if not empty, gets each step."""

    def advance(
        self, states: np.ndarray, noise: Noise, step: int, steps: int, watch: Callable | None = None
    ) -> np.ndarray:
        """States after `steps` steps, the first of which has global index `step`.

        Parameters
        ----------
        states : (d, batch), unchanged
        noise : where the random numbers come from
        step, steps : global index of the first step, number of steps
        watch : called with the states (n, d, batch) after each of n consecutive steps, for integrals along the path

        Returns
        -------
        (d, batch) array

        Raises
        ------
        BlowUpError : when a trajectory is no longer finite, naming it
        """
        array = self.enter(states)
        with np.errstate(over="ignore", invalid="ignore"):
            if watch is None:
                array = self.march(array, noise, step, steps, np.empty((0, 0, 0)))
            else:
                array = self._march_watched(array, noise, step, steps, states.shape, watch)
        result = self.leave(array)
        if not np.isfinite(result).all():
            raise self._blow_up(states, result, noise, step, steps)
        return result

    def _march_watched(self, array, noise: Noise, step: int, steps: int, shape: tuple[int, int], watch: Callable):
        """`march`, with the states of some steps at a time shown to `watch`."""
        d, batch = shape
        chunk = max(1, _WATCHED // (d * batch))
        for first in range(step, step + steps, chunk):
            n = min(chunk, step + steps - first)
            trace = np.empty((n, d, batch))
            array = self.march(array, noise, first, n, trace)
            watch(self.leave_all(trace))
        return array

    def leave_all(self, trace: np.ndarray) -> np.ndarray:
        """States (n, d, batch) of a trace of `march`."""
        return trace

    def _blow_up(self, states: np.ndarray, result: np.ndarray, noise: Noise, step: int, steps: int) -> BlowUpError:
        """The error that names the first trajectory and step of this call that are not finite: done once more."""
        chunk = max(1, _WATCHED // states.size)
        with np.errstate(over="ignore", invalid="ignore"):
            array, bad = self.enter(states), []
            for first in range(step, step + steps, chunk):
                trace = np.empty((min(chunk, step + steps - first), *states.shape))
                array = self.march(array, noise, first, len(trace), trace)
                bad = np.argwhere(~np.isfinite(self.leave_all(trace)).all(axis=1))
                if len(bad):
                    break
        lane = int(bad[0][1] if len(bad) else np.flatnonzero(~np.isfinite(result).all(axis=0))[0])
        number = first + int(bad[0][0]) + 1 if len(bad) else step + steps
        trajectory = noise.first + lane
        return BlowUpError(
            f"trajectory {trajectory} is no longer finite after step {number}, at time {number * self.time_step:g}: "
            f"the time step {self.time_step:g} is {self.remedy}",
            trajectory,
            number,
        )
