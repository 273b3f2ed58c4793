"""What the results show of the trajectories themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc import metrics
from kswgd_hpc.ensemble import RecordedEnsemble, SimulatedEnsemble, Window
from kswgd_hpc.parallel import Block, gather_blocks, local, span, sum_blocks
from kswgd_hpc.storage import Rows

_PATH_RECORDS = 400
_TIMES = 16
_CANDIDATES = 16  # states that are looked at for each particle that is to start in a set


@dataclass(frozen=True)
class Selection:
    """States taken evenly over the ensemble: at record indices `times`, of every `thin`-th trajectory of a block."""

    times: np.ndarray
    thin: int

    @classmethod
    def of(cls, ensemble: SimulatedEnsemble | RecordedEnsemble, wanted: int, starts: bool) -> Selection:
        """About `wanted` states of as many trajectories as there are; or, of an ensemble whose law changes in time, of
        the law of the starts of its pairs: at many times, of fewer trajectories where there are too many."""
        pairing, trajectories = ensemble.pairing, ensemble.trajectories
        records, stride = (pairing.starts, pairing.stride) if starts else (pairing.records, 1)
        count = min(records, max(-(-wanted // trajectories), _TIMES if starts else 1))
        times = np.unique((np.arange(count) + 1) * records // count - 1) * stride
        return cls(times, max(1, trajectories * len(times) // wanted))

    def taken(self, window: Window, new: np.ndarray) -> np.ndarray:
        """(times, d, trajectories) states among the new records of a window."""
        return window.states[np.intersect1d(new, self.times) - window.first][:, :, :: self.thin]


@dataclass
class Recorder:
    """Keeps what the results show of the trajectories themselves, as their records go by, and states to restart from.

    sampled : states that are kept (the invariant law's sample); restarted : states to restart from, None for none
    path_records : first records of trajectory 0 that are kept as a picture
    store : keep every record
    starting : states of a set that particles can start from, None for none; label : not zero in the set
    """

    ensemble: SimulatedEnsemble | RecordedEnsemble
    sampled: Selection
    restarted: Selection | None
    path_records: int
    store: bool
    starting: Selection | None = None
    label: Callable | None = None
    starts: list[np.ndarray] = field(default_factory=list)
    samples: list[np.ndarray] = field(default_factory=list)
    restarts: list[np.ndarray] = field(default_factory=list)
    path: list[np.ndarray] = field(default_factory=list)
    snapshots: list[np.ndarray] = field(default_factory=list)
    sums: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def for_run(
        cls,
        ensemble: SimulatedEnsemble | RecordedEnsemble,
        particles: int,
        store: bool,
        restarts: int = 0,
        starts: bool = False,
        label: Callable | None = None,
    ) -> Recorder:
        """Sample twice as many states as there are particles, so that a floor can be computed from halves.

        Parameters
        ----------
        restarts : number of states to restart from
        starts : whether states have to have the law of the starts of pairs, see `Selection.of`
        label : function of states (d, n) -> (n,), not zero where particles are to start; None where they start elsewhere
        """
        sampled = Selection.of(ensemble, 2 * metrics.affordable(particles, ensemble.dimension), starts)
        restarted = Selection.of(ensemble, restarts, starts) if restarts else None
        starting = None if label is None else Selection.of(ensemble, _CANDIDATES * particles, starts)
        path = min(ensemble.pairing.records, _PATH_RECORDS)
        return cls(ensemble, sampled, restarted, path, store, starting, label)

    def watch(self, block: Block, windows: Iterator[Window]) -> Iterator[Window]:
        """Pass windows on, keeping what is wanted of their new records."""
        seen, kept, again, stored, starts = -1, [], [], [], []
        total, count = np.zeros((2, self.ensemble.dimension)), 0
        for window in windows:
            # windows overlap by the lag
            new = np.arange(max(window.first, seen + 1), window.first + len(window.states))
            seen = window.first + len(window.states) - 1
            states = window.states[new - window.first]
            total += states.sum(axis=(0, 2)), np.einsum("rdn,rdn->d", states, states)
            count += len(states) * states.shape[2]
            kept.append(self.sampled.taken(window, new))
            if self.restarted is not None:
                again.append(self.restarted.taken(window, new))
            if self.starting is not None:
                rows = _as_rows([self.starting.taken(window, new)])
                starts.append(rows[self.label(rows.T) != 0])
            if self.store:
                stored.append(states)
            if block.index == 0:
                early = new[new < self.path_records] - window.first
                self.path.append(window.states[early][:, :, 0])
            yield window
        self.sums.append(np.append(total, count))
        self.samples.append(_as_rows(kept))
        if starts:
            self.starts.append(np.concatenate(starts))
        if again:
            self.restarts.append(_as_rows(again))
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


def _as_rows(parts: list[np.ndarray]) -> np.ndarray:
    """(n, d) rows of arrays (times, d, trajectories), one time after the other."""
    states = np.concatenate(parts)
    return states.transpose(0, 2, 1).reshape(-1, states.shape[1])
