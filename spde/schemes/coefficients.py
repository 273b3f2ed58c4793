"""What the schemes for additive noise provide, and the phi functions of exponential integrators."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Coefficients(NamedTuple):
    """Stage coefficients per mode, arrays of (d,).

    first stage:   c* = decay c + gain F(c) + scale N(0, 1)
    second stage:  c' = c* + correction (F(c*) - F(c)), or c' = c* where correction is empty
    """

    decay: np.ndarray
    gain: np.ndarray
    scale: np.ndarray
    correction: np.ndarray = np.empty(0)


def phi1(z: np.ndarray) -> np.ndarray:
    """(exp(z) - 1) / z, with its limit 1 at z = 0."""
    safe = np.where(z == 0, 1.0, z)
    return np.where(z == 0, 1.0, np.expm1(safe) / safe)


def phi2(z: np.ndarray) -> np.ndarray:
    """(exp(z) - 1 - z) / z**2, by its series where the difference would cancel."""
    small = np.abs(z) < 0.05
    safe = np.where(small, 1.0, z)
    series = 1 / 2 + z / 6 * (1 + z / 4 * (1 + z / 5 * (1 + z / 6 * (1 + z / 7))))
    return np.where(small, series, (np.expm1(safe) - safe) / safe**2)


def convolution_scale(rates: np.ndarray, scales: np.ndarray | float, time_step: float) -> np.ndarray:
    """Standard deviation of the stochastic convolution over one step, exact for every mode."""
    return scales * np.sqrt(time_step * phi1(-2 * rates * time_step))
