"""The time loop, shared by all schemes and systems: noise from counters, one batch of trajectories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spde.errors import BlowUpError
from spde.kernels import combine, correct
from spde.random import normals
from spde.schemes.coefficients import Coefficients


@dataclass(frozen=True)
class Noise:
    """Address of the random numbers of one batch: trajectories first, first + 1, ...

    merged : each step takes the numbers of 2**merged consecutive steps, added and scaled to unit variance, so that the
        same scheme with a step 2**merged times as long runs along the same Brownian path
    """

    seed: int
    stream: int
    first: int
    merged: int = 0

    def normals(self, out: np.ndarray, step: int) -> np.ndarray:
        """Fill `out`, (d, batch), with the standard normals of a step."""
        if not self.merged:
            return normals(out, self.seed, self.stream, self.first, step)
        parts, part = 2**self.merged, np.empty_like(out)
        out[...] = 0.0
        for index in range(step * parts, (step + 1) * parts):
            out += normals(part, self.seed, self.stream, self.first, index)
        out *= parts**-0.5
        return out


class PathIntegral:
    """Integral of a rate c(X_s) along paths by the trapezoidal rule; give `watch` to `Stepper.advance`.

    Parameters
    ----------
    rate : function (d, batch) -> (batch,)
    states : (d, batch) where the paths start
    time_step : of the paths
    """

    def __init__(self, rate: Callable, states: np.ndarray, time_step: float):
        self._rate, self._half = rate, time_step / 2
        # a rate such as x is a view of the states, which the stepper overwrites
        self._last = np.array(rate(states))
        self.value = np.zeros(states.shape[1])

    def watch(self, states: np.ndarray) -> None:
        """Add one step."""
        now = np.array(self._rate(states))
        self.value += self._half * (self._last + now)
        self._last = now


class Stepper:
    """Advances batches of states of one system with one scheme and time step.

    Parameters
    ----------
    coefficients : stage coefficients of the scheme
    force : function (modes) -> F(modes) in mode space, or None where the equation is linear
    time_step : h
    enter, leave : conversions between states and the space that is stepped (mode space)
    mix : (d, d) matrix applied to the noise, or None where the noise is independent
    """

    def __init__(
        self,
        coefficients: Coefficients,
        force: Callable | None,
        time_step: float,
        enter: Callable = lambda states: states,
        leave: Callable = lambda modes: modes,
        mix: np.ndarray | None = None,
    ):
        # without a force its place is taken by the state, with no gain
        self.coefficients = coefficients if force else coefficients._replace(gain=np.zeros_like(coefficients.gain))
        self.force = force
        self.time_step = time_step
        self.enter = enter
        self.leave = leave
        self.mix = mix

    def advance(
        self, states: np.ndarray, noise: Noise, step: int, steps: int, watch: Callable | None = None
    ) -> np.ndarray:
        """States after `steps` steps, the first of which has global index `step`.

        Parameters
        ----------
        states : (d, batch), unchanged
        noise : where the random numbers come from
        step, steps : global index of the first step, number of steps
        watch : called with the states after every step, for integrals along the path

        Returns
        -------
        (d, batch) array

        Raises
        ------
        BlowUpError : when a trajectory is no longer finite, naming it
        """
        modes = np.array(self.enter(states), order="C")
        noise_values, stage = np.empty_like(modes), np.empty_like(modes)
        with np.errstate(over="ignore", invalid="ignore"):
            for index in range(step, step + steps):
                noise.normals(noise_values, index)
                modes, stage = self._step(modes, noise_values, stage)
                if watch is not None:
                    watch(self.leave(modes))
        result = self.leave(modes)
        self._check(result, noise.first, step + steps)
        return result

    def _step(self, modes, noise_values, stage):
        """One step; returns the new modes and the array free for the next stage."""
        c = self.coefficients
        driven = noise_values if self.mix is None else self.mix @ noise_values
        if self.force is None:
            combine(modes, c.decay, modes, c.gain, driven, c.scale, stage)
            return stage, modes
        old = self.force(modes)
        combine(modes, c.decay, old, c.gain, driven, c.scale, stage)
        if c.correction is None:
            return stage, modes
        correct(stage, c.correction, self.force(stage), old, modes)
        return modes, stage

    def _check(self, states: np.ndarray, first: int, step: int) -> None:
        if np.isfinite(states).all():
            return
        bad = int(np.flatnonzero(~np.isfinite(states).all(axis=0))[0])
        raise BlowUpError(
            f"trajectory {first + bad} is no longer finite at time {step * self.time_step:g}: "
            f"the time step {self.time_step:g} is too large for this system, or the system has no bounded solution"
        )
