"""Exponential Heun: exponential Euler, corrected by c' = c* + h phi2(-a h) (F(c*) - F(c)).

The second-order exponential Runge-Kutta method (ETD2RK, Cox and Matthews 2002, equation (22)) with the exact
stochastic convolution in its first stage. Weak order 2 for additive noise, as Heun's method to which it
reduces at a = 0 (Kloeden and Platen 1992, section 15.1); the linear part is exact.
"""

import numpy as np

from spde.schemes import exponential_euler
from spde.schemes.coefficients import Coefficients, phi2


def coefficients(rates: np.ndarray, scales: np.ndarray, time_step: float) -> Coefficients:
    """Stage coefficients."""
    first = exponential_euler.coefficients(rates, scales, time_step)
    return first._replace(correction=time_step * phi2(-rates * time_step))
