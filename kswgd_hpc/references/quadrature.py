"""Integrals over time of functions that have a closed form, by Gauss's rules of two orders, which tell the error."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

_ORDERS = (12, 20)
_MOST_PANELS = 80
_NEGLIGIBLE = 1e-10


def up_to(value: Callable[[float], float], times: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(times,) integrals from 0 to each time, and bounds on their errors."""
    edges = (0.0, *times)
    # dense at time 0, where the fast modes of a start decay
    parts = np.array([_panel(value, a, b, graded=a == 0.0) for a, b in pairwise(edges)])
    return np.cumsum(parts[:, 0]), np.cumsum(parts[:, 1])


def to_infinity(value: Callable[[float], float], scale: float) -> tuple[np.ndarray, np.ndarray] | None:
    """(1,) integral over all times and a bound on its error, None where it does not seem to exist.

    Parameters
    ----------
    scale : a time of the function's decay
    """
    step, start = 1e-3 * scale, 0.0
    total, error, quiet = 0.0, 0.0, 0
    for panel in range(_MOST_PANELS):
        part, change = _panel(value, start, start + step, graded=panel == 0)
        if not np.isfinite(part):
            return None
        total, error, start = total + part, error + change, start + step
        quiet = quiet + 1 if start > scale and abs(part) <= _NEGLIGIBLE * abs(total) + 1e-300 else 0
        if quiet == 2:
            return np.array([total]), np.array([error + 2 * abs(part)])
        step *= 1.0 if step >= scale else 2.0
    return None


def _panel(value: Callable[[float], float], start: float, end: float, graded: bool) -> tuple[float, float]:
    """The integral over a panel and its error."""
    found = []
    for order in _ORDERS:
        nodes, weights = np.polynomial.legendre.leggauss(order)
        share, slope = (nodes + 1) / 2, weights / 2
        if graded:  # s = T y^4
            share, slope = share**4, slope * 4 * share**3
        found.append(float(sum(w * value(start + (end - start) * y) for y, w in zip(share, slope))) * (end - start))
    return found[1], abs(found[1] - found[0])
