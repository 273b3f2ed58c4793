"""Stein variational gradient descent, Gaussian kernel with the median bandwidth of the particles, in the frame.

    v(x) = mean_j [ k(x_j, x) grad log pi(x_j) + grad_{x_j} k(x_j, x) ],    2 h^2 = median^2 / log(N + 1).

Source: Liu and Wang 2016.
"""

from __future__ import annotations

import numpy as np

from kswgd_hpc.baselines.descent import descend
from kswgd_hpc.baselines.task import Task
from kswgd_hpc.kernel_density import squared_distances
from kswgd_hpc.metrics import subsample
from kswgd_hpc.parallel import gather_blocks

NEEDS = ("density",)
_JUDGED = 512  # particles from which the median is taken


def move(task: Task, y: np.ndarray) -> np.ndarray:
    """(n, d) coordinates of this rank's particles after the steps of the task."""
    ring, d = task.ring, y.shape[1]

    def velocity(y: np.ndarray) -> np.ndarray:
        width = _bandwidth(task, y)

        def interaction(targets: np.ndarray, sources: np.ndarray) -> np.ndarray:
            points, scores = sources[:, :d], sources[:, d:]
            kernel = np.exp(squared_distances(targets, points) * (-0.5 / width**2))
            pushed = targets * kernel.sum(axis=1)[:, None] - kernel @ points
            return kernel @ scores + pushed / width**2

        drift = ring.sum_pairs(y, np.hstack([y, task.score(y)]), interaction, d) / ring.particles
        return task.frame.project(y, drift)

    return descend(task, y, velocity)


def _bandwidth(task: Task, y: np.ndarray) -> float:
    """h from the median distance of some particles, evenly taken. Collective."""
    ring = task.ring
    every = max(1, ring.particles // _JUDGED)
    mine = y[(-ring.start) % every :: every]
    points = subsample(gather_blocks(ring.comm, [mine], y.shape[1]), _JUDGED)
    square = np.median(squared_distances(points, points)[np.triu_indices(len(points), 1)]) if len(points) > 1 else 1.0
    return float(np.sqrt(max(square, 1e-12) / (2 * np.log(ring.particles + 1))))
