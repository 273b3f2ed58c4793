"""One- and two-stage schemes for a vector of few components with constant noise: dX = b(X) dt + s dW."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spde.kernels import combine, correct
from spde.schemes.coefficients import Coefficients
from spde.stepping import Noise, Stepper


class VectorStepper(Stepper):
    """Steps a drift that is a function of states.

    Parameters
    ----------
    coefficients : of the scheme
    drift : function (d, batch) -> (d, batch)
    mix : (d, d) matrix applied to the noise, None where the components' noise is independent
    """

    def __init__(
        self,
        coefficients: Coefficients,
        drift: Callable,
        time_step: float,
        scheme: str,
        mix: np.ndarray | None = None,
        reason: str = "",
    ):
        super().__init__(time_step, scheme, reason)
        self.coefficients = coefficients
        self.drift = drift
        self.mix = mix

    @property
    def rows(self) -> int:
        """One random number a component."""
        return len(self.coefficients.scale)

    def kick(self, states: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """(d, batch) noise of a step."""
        return self.coefficients.scale[:, None] * (numbers if self.mix is None else self.mix @ numbers)

    def march(self, array: np.ndarray, noise: Noise, step: int, steps: int, trace: np.ndarray) -> np.ndarray:
        """States after some steps."""
        c, numbers, stage = self.coefficients, np.empty_like(array), np.empty_like(array)
        for index in range(step, step + steps):
            noise.normals(numbers, index)
            driven = numbers if self.mix is None else self.mix @ numbers
            old = self.drift(array)
            combine(array, c.decay, old, c.gain, driven, c.scale, stage)
            if len(c.correction):
                correct(stage, c.correction, self.drift(stage), old, array)
            else:
                array, stage = stage, array
            if len(trace):
                trace[index - step] = array
        return array
