"""Paths that can be interrupted: steps in parts that do not depend on clocks or ranks, hence in the same bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kswgd_hpc.checkpoint import Shelf
from spde.stepping import Noise, Stepper

_CHUNK = 2**24  # numbers that are stepped between two chances to save: a tenth of a second or so


def chunks(numbers: int, done: int, steps: int) -> Iterator[int]:
    """Steps done..steps of a batch of so many numbers, in parts after each of which work may be interrupted."""
    chunk = max(1, _CHUNK // max(numbers, 1))
    while done < steps:
        part = min(chunk - done % chunk, steps - done)
        yield part
        done += part


def advanced(stepper: Stepper, states: np.ndarray, noise: Noise, steps: int, kept: Shelf, index: int) -> np.ndarray:
    """States (d, n) after so many steps from the first on, saved on the way as an item of a shelf."""
    saved, step = kept.get(index), 0
    if saved is not None:
        states, step = saved.arrays["states"], saved.progress
    for part in chunks(states.size, step, steps):
        states = stepper.advance(states, noise, step, part)
        step += part
        if step < steps:
            kept.pause(index, step, lambda states=states: {"states": states})
    if saved is None or saved.progress < steps:
        kept.put(index, step, {"states": states})
        if kept.due():
            kept.save()
    return states
