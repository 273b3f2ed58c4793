"""Euler-Maruyama, explicit: c' = c + h (-a c + F(c)) + q sqrt(h) N.

Strong and weak order 1 for additive noise, strong order 1/2 and weak order 1 for multiplicative. Stable only for
h < 2 / max(a), and the stationary variance of mode a is off by the factor 1 / (1 - a h / 2): for reference, not for
production.
"""

import numpy as np

from spde.errors import SpdeError
from spde.schemes.coefficients import Coefficients


def coefficients(rates: np.ndarray, scales: np.ndarray, time_step: float) -> Coefficients:
    """Stage coefficients. Raises SpdeError beyond the stability limit."""
    limit = 2 / rates.max() if rates.max() > 0 else np.inf
    if time_step >= limit:
        raise SpdeError(
            f"time_step {time_step:g} is beyond the stability limit {limit:.3g} of euler_maruyama; "
            "use a smaller one or scheme: auto"
        )
    ones = np.ones_like(rates)
    return Coefficients(ones - rates * time_step, ones * time_step, scales * np.sqrt(time_step))
