"""Metropolis-Hastings with proposals N(mean(y), deviation^2), one chain a particle, the step tuned by all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kswgd_hpc.baselines.task import Task
from kswgd_hpc.parallel import sum_blocks

_TUNED_EVERY = 5


def metropolis(task: Task, y: np.ndarray, proposal: Callable, uses_score: bool, start: float, target: float):
    """Run the chains. Collective.

    Parameters
    ----------
    y : (n, d) coordinates of this rank's particles
    proposal : (y, score, size) -> mean (n, d) and deviation
    uses_score : whether it wants the score
    start : step size to begin with; log size is moved towards the acceptance `target`

    Returns
    -------
    (n, d)

    Source: Roberts and Rosenthal 1998 for the targets.
    """
    size, accepted = start, 0.0
    log = task.log_density(y)
    score = task.score(y) if uses_score else 0 * y
    for step in range(1, task.steps + 1):
        mean, deviation = proposal(y, score, size)
        trial = mean + deviation * task.normals(step)
        trial_log = task.log_density(trial)
        trial_score = task.score(trial) if uses_score else score
        back, _ = proposal(trial, trial_score, size)
        ratio = trial_log - log + _log_proposal(trial - mean, y - back, deviation)
        # a trial where the density is not a number is no state
        taken = np.log(np.maximum(task.uniforms(step), 1e-300)) < np.where(np.isfinite(ratio), ratio, -np.inf)
        y = np.where(taken[:, None], trial, y)
        score = np.where(taken[:, None], trial_score, score)
        log = np.where(taken, trial_log, log)
        accepted += _share(task, taken) / _TUNED_EVERY
        if step % _TUNED_EVERY == 0:
            size *= np.exp(2 * (accepted - target))
            accepted = 0.0
        task.show(step, float(step), lambda y=y: task.states(y))
    return y


def _log_proposal(there: np.ndarray, back: np.ndarray, deviation: float) -> np.ndarray:
    """log of the density of the way back over that of the way there."""
    return ((there**2).sum(axis=1) - (back**2).sum(axis=1)) / (2 * deviation**2)


def _share(task: Task, taken: np.ndarray) -> float:
    ring = task.ring
    parts = [np.array([float(taken[rows].sum())]) for rows in ring.mine]
    return float(sum_blocks(ring.comm, parts, (1,), len(ring.tiles))[0]) / ring.particles
