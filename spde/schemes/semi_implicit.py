"""Semi-implicit Euler-Maruyama: c' = (c + h F(c) + q sqrt(h) N) / (1 + a h).

Strong and weak order 1 for additive noise, stable for every step, but it damps the noise of stiff modes:
their stationary variance is off by the factor 1 / (1 + a h / 2).
"""

import numpy as np

from spde.schemes.coefficients import Coefficients


def coefficients(rates: np.ndarray, amplitude: float, time_step: float) -> Coefficients:
    decay = 1 / (1 + rates * time_step)
    return Coefficients(decay, decay * time_step, decay * amplitude * np.sqrt(time_step))
