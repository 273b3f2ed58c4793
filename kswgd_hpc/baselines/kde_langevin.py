"""Langevin dynamics in the kernel density estimate of the ensemble's states: what samples alone give most simply.

    dy = grad log p(y) dt + sqrt(2) dW,    p = mean_z N(z, h^2),    h by leave-one-out likelihood.

Its law is p, the invariant law blurred by h, and barriers of the law are barriers of p.
"""

from __future__ import annotations

import numpy as np

from kswgd_hpc.baselines.ring import squared_distances
from kswgd_hpc.baselines.task import Task
from kswgd_hpc.metrics import subsample

NEEDS = ("data",)
_MOST = 4096  # data
_JUDGED = 1024  # data that the bandwidth is chosen by
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


def weights(rows: np.ndarray, data: np.ndarray, width: float) -> np.ndarray:
    """(a, m) shares of the data in the density at rows (a, d); they sum to one, however far away the data are."""
    exponent = squared_distances(rows, data) * (-0.5 / width**2)
    exponent -= exponent.max(axis=1)[:, None]
    kernel = np.exp(exponent, out=exponent)
    return kernel / kernel.sum(axis=1)[:, None]


def bandwidth(data: np.ndarray, d: int) -> float:
    """h of the largest leave-one-out likelihood in d dimensions, those of the manifold, among powers of 1.15."""
    points = subsample(data, _JUDGED)
    squares = squared_distances(points, points)
    np.fill_diagonal(squares, np.inf)
    nearest = squares.min(axis=1)
    start = np.sqrt(max(np.median(nearest), 1e-12))
    best, chosen = -np.inf, start
    for width in start * 1.15 ** np.arange(-10, 40):
        exponent = (squares - nearest[:, None]) * (-0.5 / width**2)
        log = np.log(np.exp(exponent).sum(axis=1)) - 0.5 * nearest / width**2 - d * np.log(width)
        if log.mean() > best:
            best, chosen = log.mean(), width
    # fewer points were looked at than there are
    return float(chosen * (len(points) / len(data)) ** (1 / (d + 4)))
