"""Semi-implicit Euler-Maruyama: c' = (c + h F(c) + q sqrt(h) N) / (1 + a h).

Strong and weak order 1 for additive noise, stable for every step, but it damps the noise of stiff modes:
their stationary variance is off by the factor 1 / (1 + a h / 2).
"""

import numpy as np

from spde.errors import SpdeError
from spde.schemes.coefficients import Coefficients


def coefficients(rates: np.ndarray, scales: np.ndarray, time_step: float) -> Coefficients:
    """Stage coefficients. Raises SpdeError where a growing mode has no implicit step."""
    if (1 + rates * time_step <= 0).any():
        raise SpdeError(
            f"time_step {time_step:g} is too large for semi_implicit and a mode that grows at rate {-rates.min():.3g}; "
            f"use one below {-1 / rates.min():.3g}, or scheme: auto"
        )
    decay = 1 / (1 + rates * time_step)
    return Coefficients(decay, decay * time_step, decay * scales * np.sqrt(time_step))
