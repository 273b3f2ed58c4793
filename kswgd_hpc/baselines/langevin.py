"""The system's own dynamics: what the invariant law is the law of, and what barriers slow down."""

from __future__ import annotations

import numpy as np

from kswgd_hpc.baselines.task import Task
from spde.stepping import Noise

NEEDS = ("dynamics",)


def move(task: Task, y: np.ndarray) -> np.ndarray:
    """Run the dynamics with the ensemble's scheme and time step; one drift a step is counted.

    Parameters
    ----------
    task : with a stepper
    y : (n, d) coordinates of this rank's particles

    Returns
    -------
    (n, d)
    """
    ring, stepper = task.ring, task.stepper
    pieces = [
        np.ascontiguousarray(task.frame.leave(y[block.start - ring.start : block.stop - ring.start]).T)
        for block in ring.blocks
    ]

    def states() -> np.ndarray:
        return np.concatenate([piece.T for piece in pieces]) if pieces else np.empty((0, task.frame.dimension))

    done = 0
    for stop in _milestones(task.steps):
        for place, block in enumerate(ring.blocks):
            noise = Noise(task.seed, task.stream, block.start)
            pieces[place] = stepper.advance(pieces[place], noise, done, stop - done)
        done = stop
        task.gradient_calls = done * ring.particles
        task.show(done, done * stepper.time_step, states)
    return task.frame.enter(states())


def _milestones(steps: int) -> list[int]:
    """Steps at which the particles may be looked at."""
    some = {min(steps, int(np.ceil(1.4**k))) for k in range(1 + int(np.log(steps) / np.log(1.4)))}
    return sorted({1, steps} | some)
