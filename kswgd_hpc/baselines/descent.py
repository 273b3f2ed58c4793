"""Deterministic flows of particles, all stepped in one way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mpi4py import MPI

from kswgd_hpc.baselines.task import Task
from kswgd_hpc.parallel import sum_blocks

_DISPLACEMENT = 0.25  # largest move of a particle in a step
_GROWTH, _SHRINKAGE = 1.25, 0.5


def descend(
    task: Task,
    y: np.ndarray,
    velocity: Callable[[np.ndarray], np.ndarray],
    largest: float = np.inf,
    done: Callable[[], bool] = lambda: False,
) -> np.ndarray:
    """Particles that follow dy/dt = velocity(y) by Euler steps of automatic size. Collective.

    A step moves no particle farther than a quarter. The next one is longer while velocities keep their direction, and
    half as long when they turn round, which is how a step beyond the stable ones shows.

    Parameters
    ----------
    y : (n, d) coordinates of this rank's particles
    velocity : (n, d) -> (n, d), collective
    largest : step size
    done : whether to stop, asked after each velocity; the same answer on every rank

    Returns
    -------
    (n, d)
    """
    time, wanted, now = 0.0, np.inf, velocity(y)
    for step in range(1, task.steps + 1):
        if done():
            return y
        speed = task.ring.comm.allreduce(_largest(now), op=MPI.MAX)
        if speed == 0:
            return y
        h = min(largest, wanted, _DISPLACEMENT / speed)
        y, time = task.frame.retract(y + h * now), time + h
        task.show(step, time, lambda y=y: task.states(y))
        after = velocity(y)
        wanted = h * (_GROWTH if _product(task, now, after) > 0 else _SHRINKAGE)
        now = after
    return y


def _largest(velocity: np.ndarray) -> float:
    return float(np.sqrt((velocity**2).sum(axis=1)).max(initial=0.0))


def _product(task: Task, a: np.ndarray, b: np.ndarray) -> float:
    """Sum over all particles of the scalar products of two velocities. Collective."""
    ring = task.ring
    parts = [np.array([(a[rows] * b[rows]).sum()]) for rows in ring.mine]
    return float(sum_blocks(ring.comm, parts, (1,), len(ring.tiles))[0])
