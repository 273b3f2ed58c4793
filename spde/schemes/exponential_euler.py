"""Exponential Euler: c' = e^{-a h} c + h phi1(-a h) F(c) + N(0, q^2 (1 - e^{-2 a h}) / (2 a)).

The linear part, its stochastic convolution included, is exact. Strong and weak order 1 in the nonlinearity.
Source: Jentzen and Kloeden 2009, equation (3.2), "accelerated exponential Euler".
"""

import numpy as np

from spde.schemes.coefficients import Coefficients, convolution_scale, phi1


def coefficients(rates: np.ndarray, scales: np.ndarray, time_step: float) -> Coefficients:
    """Stage coefficients."""
    z = -rates * time_step
    return Coefficients(np.exp(z), time_step * phi1(z), convolution_scale(rates, scales, time_step))
