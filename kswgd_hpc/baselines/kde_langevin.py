"""Langevin dynamics in the kernel density estimate of the ensemble's states: what samples alone give most simply.

    dy = grad log p(y) dt + sqrt(2) dW,    p = mean_z N(z, h^2),    h by leave-one-out likelihood.

Its law is p, the invariant law blurred by h, and barriers of the law are barriers of p.
"""

from __future__ import annotations

import numpy as np

from kswgd_hpc.baselines.task import Task
from kswgd_hpc.kernel_density import bandwidth, weights
from kswgd_hpc.metrics import subsample

NEEDS = ("data",)
_MOST = 4096  # data
_STEP = 0.2  # of the time in which a well of one kernel relaxes


def move(task: Task, y: np.ndarray) -> np.ndarray:
    """(n, d) coordinates of this rank's particles after the steps of the task."""
    data = subsample(task.data, _MOST)
    task.data_used = len(data)
    width = bandwidth(data, task.frame.dimension - task.frame.curved)
    h = _STEP * width**2

    def pull(rows: np.ndarray) -> np.ndarray:
        share = weights(rows, data, width)
        return (share @ data - rows) / width**2

    for step in range(1, task.steps + 1):
        task.gradient_calls += task.ring.particles
        push = h * task.ring.each(pull, y, y.shape[1]) + np.sqrt(2 * h) * task.normals(step)
        y = task.frame.retract(y + task.frame.project(y, push))
        task.show(step, step * h, lambda y=y: task.states(y))
    return y
