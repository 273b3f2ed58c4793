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
_MOST_JUDGED = 4096  # particles beyond which no more states are kept, see `metrics.affordable`
_KEPT = ("sampled", "restarted", "stored", "path", "started")


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
        # powers of two: of a longer run, or for fewer states, the choice is a part of this one
        spacing = _power_of_two(records // count)
        times = np.arange(spacing, records + 1, spacing) - 1
        return cls(times * stride, _power_of_two(max(1, trajectories * len(times) // wanted)))

    def of_larger(self, larger: Selection, states: np.ndarray) -> np.ndarray:
        """The states (times, d, n) of this selection among those that a larger one has taken of a block."""
        times = larger.times[: len(states)]
        return states[np.isin(times, self.times)][:, :, :: self.thin // larger.thin]

    def extends(self, shorter: Selection, records: int) -> bool:
        """Whether a run of `records` that kept the states of a shorter selection has all that this one wants of it."""
        early = self.times[self.times < records]
        return self.thin % shorter.thin == 0 and bool(np.isin(early, shorter.times).all())

    def taken(self, window: Window, new: np.ndarray) -> np.ndarray:
        """(times, d, trajectories) states among the new records of a window."""
        return window.states[np.intersect1d(new, self.times) - window.first][:, :, :: self.thin]


def _power_of_two(number: int) -> int:
    """The largest that is not above a number."""
    return 1 << (number.bit_length() - 1)


@dataclass
class Part:
    """What a recorder keeps of one block so far.

    seen : last record; total : (2, d) sums of states and of their squares; count : of states
    sampled, restarted, stored : states (times, d, n) of each window; path : (times, d) of trajectory 0
    started : (n, d) states that particles can start from
    """

    total: np.ndarray
    seen: int = -1
    count: int = 0
    sampled: list[np.ndarray] = field(default_factory=list)
    restarted: list[np.ndarray] = field(default_factory=list)
    stored: list[np.ndarray] = field(default_factory=list)
    path: list[np.ndarray] = field(default_factory=list)
    started: list[np.ndarray] = field(default_factory=list)

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> array of all of it."""
        kept = {name: getattr(self, name) for name in _KEPT}
        return {
            "total": self.total.copy(),
            "counts": np.array([self.seen, self.count]),
            **{name: np.concatenate(parts) for name, parts in kept.items() if parts},
        }

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Part:
        """What `arrays` has been given for."""
        kept = {name: [arrays[name]] for name in _KEPT if name in arrays}
        return cls(arrays["total"], *map(int, arrays["counts"]), **kept)


@dataclass
class Recorder:
    """Keeps what the results show of the trajectories themselves, as their records go by, and states to restart from.

    sampled : states of the invariant law's sample; kept : those that are kept, more where the run may be extended
    restarted : states to restart from, None for none
    path_records : first records of trajectory 0 that are kept as a picture
    store : keep every record
    starting : states among which particles can start, None for none; label : not zero for those that they can
    parts : of the blocks of this rank
    """

    ensemble: SimulatedEnsemble | RecordedEnsemble
    sampled: Selection
    kept: Selection
    restarted: Selection | None
    path_records: int
    store: bool
    starting: Selection | None = None
    label: Callable | None = None
    parts: list[Part] = field(default_factory=list)

    @classmethod
    def for_run(
        cls,
        ensemble: SimulatedEnsemble | RecordedEnsemble,
        particles: int,
        store: bool,
        restarts: int = 0,
        starts: bool = False,
        lasting: bool = False,
        label: Callable | None = None,
    ) -> Recorder:
        """Sample twice as many states as there are particles, so that a floor can be computed from halves.

        Parameters
        ----------
        restarts : number of states to restart from
        starts : whether states have to have the law of the starts of pairs, see `Selection.of`
        lasting : whether more particles may be asked for later
        label : function of states (d, n) -> (n,), not zero where particles can start; None where they start elsewhere
        """
        sampled, kept = (
            Selection.of(ensemble, 2 * metrics.affordable(count, ensemble.dimension), starts)
            for count in (particles, max(particles, _MOST_JUDGED) if lasting else particles)
        )
        restarted = Selection.of(ensemble, restarts, starts) if restarts else None
        starting = None if label is None else Selection.of(ensemble, _CANDIDATES * particles, starts)
        path = min(ensemble.pairing.records, _PATH_RECORDS)
        return cls(ensemble, sampled, kept, restarted, path, store, starting, label)

    def begin(self) -> Part:
        """Nothing yet of a block."""
        return Part(np.zeros((2, self.ensemble.dimension)))

    def watch(self, block: Block, windows: Iterator[Window], part: Part | None = None) -> Iterator[Window]:
        """Pass windows on, keeping what is wanted of their new records; at the end the part joins the others."""
        part = self.begin() if part is None else part
        for window in windows:
            # windows overlap by the lag
            new = np.arange(max(window.first, part.seen + 1), window.first + len(window.states))
            part.seen = window.first + len(window.states) - 1
            states = window.states[new - window.first]
            part.total += states.sum(axis=(0, 2)), np.einsum("rdn,rdn->d", states, states)
            part.count += len(states) * states.shape[2]
            part.sampled.append(self.kept.taken(window, new))
            if self.restarted is not None:
                part.restarted.append(self.restarted.taken(window, new))
            if self.starting is not None:
                rows = _as_rows([self.starting.taken(window, new)])
                part.started.append(rows[self.label(rows.T) != 0])
            if self.store:
                part.stored.append(states)
            if block.index == 0:
                early = new[new < self.path_records] - window.first
                part.path.append(window.states[early][:, :, 0])
            yield window
        self.parts.append(part)

    @property
    def restarts(self) -> list[np.ndarray]:
        """(n, d) states to restart from, of each block."""
        return [_as_rows(part.restarted) for part in self.parts if part.restarted]

    @property
    def starts(self) -> list[np.ndarray]:
        """(n, d) states that particles can start from, of each block."""
        return [np.concatenate(part.started) for part in self.parts if part.started]

    def datasets(self, comm: MPI.Comm) -> dict[str, Any]:
        """What of it goes into the results. Collective."""
        d, pairing = self.ensemble.dimension, self.ensemble.pairing
        totals = [np.append(part.total, part.count) for part in self.parts]
        sums = sum_blocks(comm, totals, (2 * d + 1,), len(self.ensemble.blocks))
        mean, square = sums[:d] / sums[-1], sums[d:-1] / sums[-1]
        found = {
            "ensemble/mean": mean,
            "ensemble/variance": np.maximum(square - mean**2, 0.0),
            "ensemble/sample": gather_blocks(comm, [self._sample(part) for part in self.parts], d),
            "ensemble/path": gather_blocks(comm, [rows for part in self.parts for rows in part.path], d),
            "ensemble/path_interval": pairing.interval,
        }
        if self.store:
            stored = [np.concatenate(part.stored).transpose(2, 0, 1) for part in self.parts]
            rows = np.concatenate(stored) if stored else np.empty((0, pairing.records, d))
            start, _ = span(local(self.ensemble.blocks, comm))
            found["ensemble/snapshots"] = Rows(rows, start, self.ensemble.trajectories)
        return found

    def _sample(self, part: Part) -> np.ndarray:
        """(n, d) states of a block's share of the sample."""
        return _as_rows([self.sampled.of_larger(self.kept, np.concatenate(part.sampled))])


def _as_rows(parts: list[np.ndarray]) -> np.ndarray:
    """(n, d) rows of arrays (times, d, trajectories), one time after the other."""
    states = np.concatenate(parts)
    return states.transpose(0, 2, 1).reshape(-1, states.shape[1])
