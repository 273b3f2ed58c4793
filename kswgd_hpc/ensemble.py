"""Trajectories over ranks, delivered as batches of records one sampling interval apart.

Two sources with one interface: trajectories simulated here, and the user's recorded arrays. A source has
`blocks` (cut independently of the rank count), `pilot` (a small sample for coordinates and dictionary) and
`windows` (the records of one block, piece by piece, so that memory does not grow with duration).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from mpi4py import MPI

from kswgd_hpc import streams
from kswgd_hpc.coordinates import CoordinateMap, project
from kswgd_hpc.parallel import Block, cut, gather_blocks, local, tiles
from spde.stepping import Noise, PathIntegral

_MIN_GROUPS = 16
_MAX_BLOCKS = 4096
_BLOCK_PAIRS = 2048
_BATCH = 64
WINDOW_ROWS = 512
PILOT_ROWS = 20_000
_STATES = 400


@dataclass(frozen=True)
class Pairing:
    """How records become pairs, in units of the interval between records.

    Parameters
    ----------
    interval : time between records
    lag : records between the two ends of a pair
    stride : records between pair starts
    records : number of records of a trajectory
    """

    interval: float
    lag: int
    stride: int
    records: int

    @property
    def starts(self) -> int:
        """Number of pairs of one trajectory."""
        return max(0, (self.records - 1 - self.lag) // self.stride + 1)

    @property
    def consecutive(self) -> bool:
        """Whether pairs start at every record, so that all records belong to one."""
        return self.stride == 1 and self.lag > 0


@dataclass
class Window:
    """Consecutive records of one block.

    Parameters
    ----------
    first : index of the first record
    states : (records, d, batch)
    integrals : per killing rate, (records, batch) integral of it along the path since the block's start
    """

    first: int
    states: np.ndarray
    integrals: dict[str, np.ndarray] = field(default_factory=dict)


def pairing(time_step: float, lag_time: float | None, stride: float | None, duration: float) -> Pairing:
    """Records at the common divisor of lag and stride, pairs as the configuration asks.

    Without a lag time there are no pairs, only states: a stride apart, or four hundred of them.
    """
    if lag_time is None:
        every = max(1, round((stride or duration / _STATES) / time_step))
        return Pairing(every * time_step, 0, 1, round(duration / time_step) // every + 1)
    lag = round(lag_time / time_step)
    skip = lag if stride is None else round(stride / time_step)
    base = math.gcd(lag, skip)
    return Pairing(base * time_step, lag // base, skip // base, round(duration / time_step) // base + 1)


def block_count(trajectories: int, starts: int = _BLOCK_PAIRS) -> int:
    """Number of blocks: at least 16, for error bars, at most 4096, and as many in between as leave a block 64
    trajectories and, with `starts` pairs in each, the 2048 pairs that are worth a rounding of their sums."""
    wanted = min(trajectories // _BATCH, trajectories * starts // _BLOCK_PAIRS, _MAX_BLOCKS)
    return min(trajectories, max(_MIN_GROUPS, wanted))


class SimulatedEnsemble:
    """Trajectories of a system, stepped block by block.

    Parameters
    ----------
    system : from `spde`
    sampler : initial states, see `systems.initial_states`
    spec : `ensemble` section of the configuration
    seed : of the run
    killing : name -> function of states (d, batch) -> (batch,), integrated along the paths
    """

    def __init__(self, system, sampler: Callable, spec, seed: int, killing: Mapping[str, Callable] | None = None):
        self.system = system
        self.dimension = system.dimension
        self.trajectories = spec.trajectories
        self.pairing = pairing(spec.time_step, spec.lag_time, spec.stride, spec.duration)
        self.blocks = cut(spec.trajectories, block_count(spec.trajectories, self.pairing.starts))
        self.segments = -(-_MIN_GROUPS // len(self.blocks))
        self.stepper = system.stepper(spec.time_step, spec.scheme)
        self._lanes = getattr(system, "lanes", _BATCH)
        self._sampler = sampler
        self._seed = seed
        self._killing = dict(killing or {})
        self._burn_in = round(spec.burn_in / spec.time_step)
        self._every = round(self.pairing.interval / spec.time_step)
        self._started: dict[int, np.ndarray] = {}

    def _noise(self, start: int) -> Noise:
        return Noise(self._seed, streams.ENSEMBLE, start)

    def _batches(self, block: Block) -> list[Block]:
        """Cache-sized parts of a block, cut the same way on any number of ranks."""
        parts = tiles(block.size, self._lanes)
        return [Block(i, block.start + part.start, block.start + part.stop) for i, part in enumerate(parts)]

    def _advance(self, block: Block, states: np.ndarray, step: int, steps: int) -> np.ndarray:
        return _join(
            [
                self.stepper.advance(
                    states[:, b.start - block.start : b.stop - block.start], self._noise(b.start), step, steps
                )
                for b in self._batches(block)
            ]
        )

    def pilot(self, comm: MPI.Comm, observed: CoordinateMap | None, tick: Callable) -> np.ndarray:
        """Raw coordinates (n, c) of at most some 20,000 states, the same on every rank. Collective.

        Taken over the second half of the burn-in; without one, over the first fifty lags of the trajectories.
        Runs the burn-in, whose end `windows` starts from.
        """
        parts, width = [], self.dimension if observed is None else len(observed)
        per_trajectory = max(1, PILOT_ROWS // self.trajectories)
        for block in local(self.blocks, comm):
            thin = max(1, -(-self.trajectories // PILOT_ROWS))
            rows = [project(observed, states[:, ::thin]) for states in self._pilot_states(block, per_trajectory)]
            parts.extend(rows)
            tick(1)
        return gather_blocks(comm, parts, width)

    def _pilot_states(self, block: Block, count: int) -> Iterator[np.ndarray]:
        states = self._sampler(self._seed, streams.ENSEMBLE_INITIAL, block.start, block.stop)
        horizon = self._burn_in or min(50 * max(self.pairing.lag, 1), self.pairing.records - 1) * self._every
        first = self._burn_in // 2
        times = sorted({first + (horizon - first) * (i + 1) // count for i in range(count)} - {0})
        if not self._burn_in:
            self._started[block.index] = states
        step = 0
        for time in times:
            states = self._advance(block, states, step, time - step)
            step = time
            yield states
        if self._burn_in:
            self._started[block.index] = states

    def windows(self, block: Block) -> Iterator[Window]:
        """The records of one block in order; consecutive windows overlap by the lag."""
        parts = self._batches(block)
        states = [self._started[block.index][:, b.start - block.start : b.stop - block.start] for b in parts]
        paths = [self._path_integrals(piece) for piece in states]
        length = self.pairing.lag + max(1, WINDOW_ROWS // block.size)
        records, integrals, first = [_join(states)], [self._integrals(paths)], 0
        for index in range(1, self.pairing.records):
            step = self._burn_in + (index - 1) * self._every
            states = [
                self.stepper.advance(piece, self._noise(part.start), step, self._every, _watch_all(path))
                for part, piece, path in zip(parts, states, paths, strict=True)
            ]
            records.append(_join(states))
            integrals.append(self._integrals(paths))
            if len(records) > length or index == self.pairing.records - 1:
                yield Window(first, np.array(records), {k: np.array([i[k] for i in integrals]) for k in self._killing})
                first = index - self.pairing.lag + 1
                keep = len(records) - self.pairing.lag
                records, integrals = records[keep:], integrals[keep:]

    def _path_integrals(self, states: np.ndarray) -> dict[str, PathIntegral]:
        step = self.stepper.time_step
        return {name: PathIntegral(rate, states, step) for name, rate in self._killing.items()}

    def _integrals(self, paths: list[dict[str, PathIntegral]]) -> dict[str, np.ndarray]:
        """Killing integrals so far of all trajectories of a block."""
        return {name: np.concatenate([path[name].value for path in paths]) for name in self._killing}


def _join(pieces: list[np.ndarray]) -> np.ndarray:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


def _watch_all(paths: dict[str, PathIntegral]) -> Callable | None:
    if not paths:
        return None

    def watch(states: np.ndarray) -> None:
        for path in paths.values():
            path.watch(states)

    return watch


class RecordedEnsemble:
    """The user's arrays: independent samples, or trajectories at a sampling interval.

    Few trajectories are cut in time, so that there are at least 16 blocks; a cut loses no pair.

    Parameters
    ----------
    read : function (trajectory range, time range) -> (trajectories, times, d) array
    shape : (trajectories, times, d) of the whole; samples are trajectories of one time
    pairs : how records are paired; lag 0 where there is no lag
    """

    segments = 1

    def __init__(self, read: Callable, shape: tuple[int, int, int], pairs: Pairing):
        self.trajectories, times, self.dimension = shape
        self.pairing = pairs
        self._read = read
        slices = block_count(self.trajectories, pairs.starts)
        pieces = 1 if slices >= _MIN_GROUPS else min(-(-_MIN_GROUPS // slices), max(1, pairs.starts))
        self._parts = []
        for part in cut(self.trajectories, slices):
            for piece in cut(max(pairs.starts, 1), pieces):
                first = piece.start * pairs.stride
                last = min((piece.stop - 1) * pairs.stride + pairs.lag + 1, times)
                self._parts.append((part.start, part.stop, first, last))
        self.blocks = cut(len(self._parts), len(self._parts))

    def pilot(self, comm: MPI.Comm, observed: CoordinateMap | None, tick: Callable) -> np.ndarray:
        """Raw coordinates (n, c) of at most some 20,000 states, evenly taken. Collective."""
        parts, width = [], self.dimension if observed is None else len(observed)
        quota = max(1, PILOT_ROWS // len(self.blocks))
        for block in local(self.blocks, comm):
            a, b, first, last = self._parts[block.index]
            rows = self._read((a, b), (first, last)).reshape(-1, self.dimension)
            parts.append(project(observed, rows[:: max(1, -(-len(rows) // quota))].T))
            tick(1)
        return gather_blocks(comm, parts, width)

    def windows(self, block: Block) -> Iterator[Window]:
        """The records of one block in order; consecutive windows overlap by the lag."""
        a, b, first, last = self._parts[block.index]
        length = self.pairing.lag + max(1, WINDOW_ROWS // (b - a))
        while first < last:
            stop = min(first + length, last)
            yield Window(first, np.ascontiguousarray(self._read((a, b), (first, stop)).transpose(1, 2, 0)))
            if stop == last:
                return
            first = stop - self.pairing.lag
