"""Preconditioned Crank-Nicolson: y' = sqrt(1 - beta^2) y + beta xi, which a Gaussian reference law accepts always.

The reference is the standard normal of the frame: of fields, the law of the linear part of the equation, so that the
acceptance does not depend on the mesh.

Source: Cotter, Roberts, Stuart and White 2013.
"""

from __future__ import annotations

import numpy as np

from kswgd_hpc.baselines.metropolis import metropolis
from kswgd_hpc.baselines.task import Task

NEEDS = ("density", "flat")
_LARGEST = 0.99


def move(task: Task, y: np.ndarray) -> np.ndarray:
    """(n, d) coordinates of this rank's particles after the steps of the task; time counts steps."""

    def proposal(y: np.ndarray, _score: np.ndarray, size: float) -> tuple[np.ndarray, float]:
        beta = min(size, _LARGEST)
        return np.sqrt(1 - beta**2) * y, beta

    return metropolis(task, y, proposal, False, 0.3, 0.3)
