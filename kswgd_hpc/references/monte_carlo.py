"""Plain Monte Carlo: paths from the initial law, f exp(-int c) at the end of each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from kswgd_hpc import streams
from kswgd_hpc.checkpoint import UNSAVED, Keeping
from kswgd_hpc.parallel import Block, local, sum_blocks, tiles
from spde.stepping import Noise, PathIntegral

if TYPE_CHECKING:
    from kswgd_hpc.feynman_kac import Case

_BATCH = 64


def monte_carlo(
    comm: MPI.Comm, case: Case, stepper, seed: int, keeping: Keeping = UNSAVED
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of f(X_t) exp(-int c) over simulated paths, and its standard error, at each time. Collective."""
    batches = tiles(case.trajectories, _BATCH)
    first, second = [], []
    with keeping as kept:
        for batch in local(batches, comm):
            values = kept(batch.index, partial(_paths, case, stepper, seed, batch))
            first.append(values.sum(axis=1))
            second.append((values**2).sum(axis=1))
    shape, n = (len(case.times),), case.trajectories
    mean = sum_blocks(comm, first, shape, len(batches)) / n
    square = sum_blocks(comm, second, shape, len(batches)) / n
    error = np.sqrt(np.maximum(square - mean**2, 0) / (n - 1))
    # paths that all agree do not make the mean exact: one in n might not have
    return mean, np.maximum(error, np.abs(mean) / n)


def _paths(case: Case, stepper, seed: int, batch: Block) -> np.ndarray:
    """(times, batch) values of f exp(-int c) along one batch of paths."""
    stream = streams.FEYNMAN_KAC + 2 * case.index
    states = case.sampler(seed, stream, batch.start, batch.stop)
    noise = Noise(seed, stream + 1, batch.start)
    path = None if case.killing is None else PathIntegral(case.killing, states, stepper.time_step)
    step, values = 0, []
    for time in case.times:
        target = round(time / stepper.time_step)
        states = stepper.advance(states, noise, step, target - step, None if path is None else path.watch)
        step = target
        weight = 1.0 if path is None else np.exp(-path.value)
        values.append(case.observable(states) * weight)
    return np.array(values)
