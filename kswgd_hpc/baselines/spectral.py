"""What LAWGD and DMPS share: the flow along eigenfunctions whose means over the particles should be zero."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kswgd_hpc.baselines.descent import descend
from kswgd_hpc.baselines.task import Task
from kswgd_hpc.parallel import sum_blocks

_LARGEST_STEP = 0.5
_RESOLVED = 0.1  # of N sum m_k^2 = r of independent draws: at r itself the slowest mode may still hold all of it


def flow(
    task: Task,
    y: np.ndarray,
    rates: np.ndarray,
    values: Callable[[np.ndarray], np.ndarray],
    gradient: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Move particles by dy/dt = -sum_k (m_k / lambda_k) grad phi_k until their modes are below those of draws.

    Chewi et al. 2020 (LAWGD): the kernel is the inverse of the generator, its mean over the particles the potential.
    Stops where N sum m_k^2 is a tenth of the number of modes. Collective.

    Parameters
    ----------
    y : (n, d) coordinates of this rank's particles
    rates : (r,) lambda_k, units of 1 / flow time
    values : rows (a, d) -> (a, r) phi_k
    gradient : rows (a, d), weights (r,) -> (a, d) of sum_k weights_k grad phi_k, times the mobility
    """
    ring, excess = task.ring, np.inf

    def velocity(y: np.ndarray) -> np.ndarray:
        nonlocal excess
        parts = [values(y[rows]).sum(axis=0) for rows in ring.mine]
        means = sum_blocks(ring.comm, parts, rates.shape, len(ring.tiles)) / ring.particles
        excess = ring.particles * float(means @ means)
        slopes = ring.each(lambda rows: gradient(rows, means / rates), y, y.shape[1])
        return -task.frame.project(y, slopes)

    return descend(task, y, velocity, _LARGEST_STEP, lambda: excess <= _RESOLVED * len(rates))
