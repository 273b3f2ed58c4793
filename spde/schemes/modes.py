"""Stepping in mode space with the stage coefficients of a scheme: additive noise, any equation."""

from __future__ import annotations

from typing import Any

import numpy as np

from spde import loops
from spde.driving import Direct
from spde.schemes.coefficients import Coefficients
from spde.stepping import Noise, Stepper


class InModes(Stepper):
    """What steppers in mode space have in common."""

    equation: Any

    def enter(self, states: np.ndarray) -> np.ndarray:
        """Modes of states, a new array."""
        modes = self.equation.to_modes(states)
        return np.array(modes, dtype=float, order="C") if modes is states else np.ascontiguousarray(modes)

    def leave(self, array: np.ndarray) -> np.ndarray:
        """States of modes."""
        return self.equation.from_modes(array)

    def leave_all(self, trace: np.ndarray) -> np.ndarray:
        """States (n, d, batch) of modes."""
        n, d, batch = trace.shape
        states = self.equation.from_modes(np.ascontiguousarray(trace.transpose(1, 0, 2)).reshape(d, n * batch))
        return states.reshape(d, n, batch).transpose(1, 0, 2)


class ModeStepper(InModes):
    """One- and two-stage schemes whose linear part is diagonal in modes.

    Parameters
    ----------
    equation : with additive noise
    coefficients : of the scheme
    """

    def __init__(self, equation, coefficients: Coefficients, time_step: float, scheme: str, reason: str = ""):
        super().__init__(time_step, scheme, reason)
        self.equation = equation
        self.coefficients = Coefficients(*(np.ascontiguousarray(c, dtype=float) for c in coefficients))
        self._space: tuple = (0, ())
        self._loop = Direct(loops.linear if equation.force is None else loops.additive)

    @property
    def rows(self) -> int:
        """One random number a mode."""
        return self.equation.dimension

    def kick(self, states: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """(d, batch) noise of a step."""
        return self.equation.from_modes(self.coefficients.scale[:, None] * numbers)

    def march(self, array: np.ndarray, noise: Noise, step: int, steps: int, trace: np.ndarray) -> np.ndarray:
        """Modes after some steps, in place."""
        c, force = self.coefficients, self.equation.force
        if self._space[0] != array.shape[1]:
            self._space = (array.shape[1], scratch(array.shape, 0 if force is None else 1 + bool(len(c.correction))))
        normal, old, new = self._space[1]
        if force is None:
            self._loop(array, c.decay, c.scale, noise.address, step, steps, normal, trace)
        else:
            work = force.work(array.shape[1])
            self._loop(array, old, new, *c, noise.address, step, steps, normal, trace, force.space, work)
        return array


def scratch(shape: tuple[int, int], arrays: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of normals, and two arrays of the shape of the modes of which `arrays` are used, the other is empty."""
    empty = np.empty((0, shape[1]))
    rest = [np.empty(shape) if index < arrays else empty for index in range(2)]
    return np.empty((4, shape[1])), *rest
