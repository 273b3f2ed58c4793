"""Laplacian adjusted Wasserstein gradient descent with the exact spectrum of the generator.

Source: Chewi, Le Gouic, Lu, Maunu and Rigollet 2020.
"""

from __future__ import annotations

import numpy as np

from kswgd_hpc.baselines.spectral import flow
from kswgd_hpc.baselines.task import Task
from kswgd_hpc.errors import TransportError

NEEDS = ("spectrum",)


def move(task: Task, y: np.ndarray) -> np.ndarray:
    """(n, d) coordinates of this rank's particles after the steps of the task."""
    spectrum, frame, temperature = task.spectrum, task.frame, task.spectrum.mobility
    if frame.to_modes is not None:
        raise TransportError("lawgd: the exact spectrum is that of vectors, not of fields")

    def states(rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(frame.leave(rows).T)

    def gradient(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        # the velocity of the state, -T grad, in the coordinates
        return temperature * spectrum.evaluate(states(rows))[1](weights).T / frame.scale

    return flow(task, y, spectrum.rates, lambda rows: spectrum.evaluate(states(rows))[0], gradient)
