"""Wasserstein gradient flow of the maximum mean discrepancy to the ensemble's states, one fixed Gaussian kernel.

    v(x) = - mean_j grad k(x, x_j) + mean_z grad k(x, z),    bandwidth: the median distance of the data.

Source: Arbel, Korba, Salim and Gretton 2019, without noise injection.
"""

from __future__ import annotations

import numpy as np

from kswgd_hpc.baselines.descent import descend
from kswgd_hpc.baselines.ring import TILE
from kswgd_hpc.baselines.task import Task
from kswgd_hpc.kernel_density import squared_distances
from kswgd_hpc.metrics import median_distance
from kswgd_hpc.parallel import tiles

NEEDS = ("data",)


def move(task: Task, y: np.ndarray) -> np.ndarray:
    """(n, d) coordinates of this rank's particles after the steps of the task."""
    ring, d, data = task.ring, y.shape[1], task.data
    width = median_distance(data)
    pieces = [data[part.start : part.stop] for part in tiles(len(data), TILE)]
    task.data_used = len(data)

    def repelled(targets: np.ndarray, points: np.ndarray) -> np.ndarray:
        kernel = np.exp(squared_distances(targets, points) * (-0.5 / width**2))
        return (targets * kernel.sum(axis=1)[:, None] - kernel @ points) / width**2

    def velocity(y: np.ndarray) -> np.ndarray:
        apart = ring.sum_pairs(y, y, repelled, d) / ring.particles
        towards = ring.each(lambda rows: sum(repelled(rows, piece) for piece in pieces), y, d) / len(data)
        return task.frame.project(y, apart - towards)

    return descend(task, y, velocity)
