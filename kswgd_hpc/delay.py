"""Delay embedding: states with their own past, for systems of which too little is seen at one time.

The embedded process is Markov where enough of its past is taken in (Takens), but reversible it is not: its past has a
direction. It has no generator that could be written down either, so its spectrum comes from pairs, by edmd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from mpi4py import MPI

from kswgd_hpc.coordinates import CoordinateMap, Mobility, numbered, project
from kswgd_hpc.ensemble import PILOT_ROWS, Course, RecordedEnsemble, SimulatedEnsemble, Window
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.parallel import Block, gather_blocks, local
from spde.errors import BlowUpError


class DelayMap:
    """Coordinates of a state and of its past: F(x_t), F(x_{t-s}), ..., F(x_{t-(k-1)s}), one after the other.

    Parameters
    ----------
    inner : F, to c0 coordinates
    dimension : d of the state
    count : k
    """

    linear = False

    def __init__(self, inner: CoordinateMap, dimension: int, count: int):
        self.inner = inner
        self.count = count
        self._dimension = dimension
        self.names = numbered(count * len(inner))

    def __len__(self) -> int:
        return len(self.names)

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """(n, k c0) coordinates of embedded states (k d, n)."""
        d = self._dimension
        return np.concatenate([self.inner(states[i * d : (i + 1) * d]) for i in range(self.count)], axis=1)

    def velocity(self, drift: np.ndarray, states: np.ndarray, mobility: Mobility) -> np.ndarray:
        """Refused: see the head of this file."""
        raise ConfigurationError("koopman.coordinates: delay coordinates have no generator; use estimator: edmd")

    def mobility(self, mobility: Mobility, states: np.ndarray) -> np.ndarray:
        """Refused, as `velocity`."""
        return self.velocity(states, states, mobility)

    def lift(self, slopes: np.ndarray, mobility: Mobility, states: np.ndarray) -> np.ndarray:
        """Refused, as `velocity`."""
        return self.velocity(states, states, mobility)


class DelayedEnsemble:
    """A source of records whose states are (x_t, x_{t-s}, ..., x_{t-(k-1)s}); the same interface as its source.

    Each record needs (k-1) s of past, so a trajectory has as many fewer records, numbered from zero again.

    Parameters
    ----------
    source : made with `history` records added to the lag of its pairing, so that its windows overlap by both
    count : k
    spacing : s, in records
    """

    def __init__(self, source: SimulatedEnsemble | RecordedEnsemble, count: int, spacing: int):
        history = (count - 1) * spacing
        self.source = source
        self.trajectories = source.trajectories
        self.blocks = source.blocks
        self.segments = source.segments
        self.dimension = count * source.dimension
        pairs = source.pairing
        self.pairing = replace(pairs, lag=pairs.lag - history, records=pairs.records - history)
        self._offsets = history - spacing * np.arange(count)

    @property
    def stepper(self):
        """Of the source's system."""
        return self.source.stepper

    def pilot(self, comm: MPI.Comm, observed: CoordinateMap | None, tick: Callable) -> np.ndarray:
        """Raw coordinates (n, c) of at most some 20,000 embedded states, from the start of each block. Collective.

        The source's own pilot, which runs its burn-in, comes first.
        """
        parts, width = [], self.dimension if observed is None else len(observed)
        quota = max(1, PILOT_ROWS // len(self.blocks))
        for block in local(self.blocks, comm):
            rows, taken = [], 0
            for window in self.windows(block):
                fresh = window.states[:: max(self.pairing.lag, 1)]
                columns = np.concatenate(fresh, axis=1)
                columns = columns[:, :: max(1, columns.shape[1] // quota)]
                rows.append(project(observed, columns))
                taken += columns.shape[1]
                if taken >= quota:
                    break
            parts.extend(rows)
            tick(1)
        return gather_blocks(comm, parts, width)

    @property
    def replaced(self) -> Mapping[int, int]:
        """Of the source."""
        return self.source.replaced

    def replace(self, error: BlowUpError) -> None:
        """As the source does."""
        self.source.replace(error)

    def remember(self, rows: np.ndarray) -> None:
        """As the source does."""
        self.source.remember(rows)

    @property
    def last_record(self) -> int:
        """Of the source."""
        return self.source.last_record

    def course(self, block: Block, arrays: dict[str, np.ndarray] | None = None) -> Course:
        """Of the source."""
        return self.source.course(block, arrays)

    def windows(self, block: Block, *course) -> Iterator[Window]:
        """The records of one block in order; consecutive windows overlap by the lag. See the source's."""
        for window in self.source.windows(block, *course):
            count = len(window.states) - int(self._offsets[0])
            if count > 0:
                states = [window.states[offset : offset + count] for offset in self._offsets]
                yield Window(window.first, np.concatenate(states, axis=1))
