"""Metropolis-adjusted Langevin algorithm, preconditioned by the frame: y' ~ N(y + h grad log pi, 2 h).

Source: Roberts and Tweedie 1996.
"""

from __future__ import annotations

import numpy as np

from kswgd_hpc.baselines.metropolis import metropolis
from kswgd_hpc.baselines.task import Task

NEEDS = ("density", "flat")


def move(task: Task, y: np.ndarray) -> np.ndarray:
    """(n, d) coordinates of this rank's particles after the steps of the task; time counts steps."""
    first = 1.0 / task.frame.dimension ** (1 / 3)
    return metropolis(task, y, lambda y, score, h: (y + h * score, np.sqrt(2 * h)), True, first, 0.574)
