"""What the results show of the trajectories themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc import metrics
from kswgd_hpc.ensemble import RecordedEnsemble, SimulatedEnsemble, Window
from kswgd_hpc.parallel import Block, gather_blocks, local, span, sum_blocks
from kswgd_hpc.storage import Rows

_PATH_RECORDS = 400


@dataclass
class Recorder:
    """Keeps what the results show of the trajectories themselves, as their records go by.

    sample_times : record indices at which states are kept (the invariant law's sample)
    thin : of every so many trajectories of a block, one is sampled
    path_records : first records of trajectory 0 that are kept as a picture
    store : keep every record
    """

    ensemble: SimulatedEnsemble | RecordedEnsemble
    sample_times: np.ndarray
    thin: int
    path_records: int
    store: bool
    samples: list[np.ndarray] = field(default_factory=list)
    path: list[np.ndarray] = field(default_factory=list)
    snapshots: list[np.ndarray] = field(default_factory=list)
    sums: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def for_run(cls, ensemble: SimulatedEnsemble | RecordedEnsemble, particles: int, store: bool) -> Recorder:
        """Sample twice as many states as there are particles, so that a floor can be computed from halves."""
        wanted = 2 * metrics.affordable(particles, ensemble.dimension)
        records = ensemble.pairing.records
        count = min(records, -(-wanted // ensemble.trajectories))
        times = np.unique((np.arange(count) + 1) * records // count - 1)
        return cls(ensemble, times, max(1, ensemble.trajectories // wanted), min(records, _PATH_RECORDS), store)

    def watch(self, block: Block, windows: Iterator[Window]) -> Iterator[Window]:
        """Pass windows on, keeping what is wanted of their new records."""
        seen, kept, stored = -1, [], []
        total, count = np.zeros((2, self.ensemble.dimension)), 0
        for window in windows:
            # windows overlap by the lag
            new = np.arange(max(window.first, seen + 1), window.first + len(window.states))
            seen = window.first + len(window.states) - 1
            states = window.states[new - window.first]
            total += states.sum(axis=(0, 2)), np.einsum("rdn,rdn->d", states, states)
            count += len(states) * states.shape[2]
            wanted = np.intersect1d(new, self.sample_times) - window.first
            kept.append(window.states[wanted][:, :, :: self.thin])
            if self.store:
                stored.append(states)
            if block.index == 0:
                early = new[new < self.path_records] - window.first
                self.path.append(window.states[early][:, :, 0])
            yield window
        self.sums.append(np.append(total, count))
        self.samples.append(np.concatenate(kept).transpose(0, 2, 1).reshape(-1, self.ensemble.dimension))
        if self.store:
            self.snapshots.append(np.concatenate(stored).transpose(2, 0, 1))

    def datasets(self, comm: MPI.Comm) -> dict[str, Any]:
        """What of it goes into the results. Collective."""
        d, pairing = self.ensemble.dimension, self.ensemble.pairing
        sums = sum_blocks(comm, self.sums, (2 * d + 1,), len(self.ensemble.blocks))
        mean, square = sums[:d] / sums[-1], sums[d:-1] / sums[-1]
        found = {
            "ensemble/mean": mean,
            "ensemble/variance": np.maximum(square - mean**2, 0.0),
            "ensemble/sample": gather_blocks(comm, self.samples, d),
            "ensemble/path": gather_blocks(comm, self.path, d),
            "ensemble/path_interval": pairing.interval,
        }
        if self.store:
            rows = np.concatenate(self.snapshots) if self.snapshots else np.empty((0, pairing.records, d))
            start, _ = span(local(self.ensemble.blocks, comm))
            found["ensemble/snapshots"] = Rows(rows, start, self.ensemble.trajectories)
        return found
