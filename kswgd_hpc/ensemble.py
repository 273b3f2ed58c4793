"""Trajectories over ranks, delivered as batches of records one sampling interval apart.

Two sources with one interface: trajectories simulated here, and the user's recorded arrays. A source has
`blocks` (cut independently of the rank count), `pilot` (a small sample for coordinates and dictionary) and
`windows` (the records of one block, piece by piece, so that memory does not grow with duration).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from mpi4py import MPI

from kswgd_hpc import streams
from kswgd_hpc.checkpoint import UNSAVED, Keeping, Saved, Shelf
from kswgd_hpc.coordinates import CoordinateMap, project
from kswgd_hpc.parallel import Block, cut, gather_blocks, local, tiles
from kswgd_hpc.paths import chunks
from spde.errors import BlowUpError
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


@dataclass(frozen=True)
class Piece:
    """Trajectories start..stop that are stepped together, cut the same way on any number of ranks.

    again : how often the one trajectory of the piece has been replaced, zero for pieces of any other
    """

    start: int
    stop: int
    again: int = 0


@dataclass
class Course:
    """How far the trajectories of a block have come, and all that their next step depends on.

    pieces, states : the parts of the block, and the states (d, n) of each
    paths : integrals along the paths of each piece
    record : records made, less one; step : steps done towards the next
    first, records, integrals : the records of the window that is open, from index `first` on
    """

    pieces: list[Piece]
    states: list[np.ndarray]
    paths: list[dict[str, PathIntegral]]
    records: list[np.ndarray]
    integrals: list[dict[str, np.ndarray]]
    record: int = 0
    step: int = 0
    first: int = 0

    @property
    def progress(self) -> int:
        """See `progress`."""
        return progress(self.pieces, (self.record << 20) + min(self.step, (1 << 20) - 1))

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> array of all of it."""
        found = {
            "pieces": as_array(self.pieces),
            "counts": np.array([self.record, self.step, self.first]),
            "states": _join(self.states),
            "records": np.array(self.records),
        }
        for name in self.paths[0]:
            found[f"value {name}"] = np.concatenate([path[name].value for path in self.paths])
            found[f"last {name}"] = np.concatenate([path[name].last for path in self.paths])
            found[f"integrals {name}"] = np.array([row[name] for row in self.integrals])
        return found


class Looking:
    """What a pilot has seen of a block so far.

    Parameters
    ----------
    observed : raw coordinates, None for the states; or `pod.Snapshots`, which keeps states in `parts`
    rows, shown : of the times so far: coordinates (n, c), and states that snapshots have kept
    """

    def __init__(self, observed: CoordinateMap | None, rows: list[np.ndarray], shown: list[np.ndarray]):
        self._observed, self._rows, self._shown = observed, rows, shown

    def __call__(self, states: np.ndarray) -> None:
        """Look at states (d, n)."""
        parts = getattr(self._observed, "parts", None)
        self._rows.append(project(self._observed, states))
        if parts is not None:
            self._shown.append(parts.pop())

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> array of all of it."""
        return {"rows": np.array(self._rows), "shown": np.array(self._shown)}

    def finished(self) -> list[np.ndarray]:
        """The coordinates; the snapshots get what they keep."""
        if self._shown:
            self._observed.parts.extend(self._shown)
        return self._rows


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
        self.replaced: dict[int, int] = {}
        self._replaces = spec.on_blow_up == "replace"
        self._lanes = getattr(system, "lanes", _BATCH)
        self._sampler = sampler
        self._seed = seed
        self._killing = dict(killing or {})
        self._burn_in = round(spec.burn_in / spec.time_step)
        self._every = round(self.pairing.interval / spec.time_step)
        self._started: dict[int, tuple[list[Piece], np.ndarray]] = {}

    def _noise(self, piece: Piece) -> Noise:
        stream = streams.ENSEMBLE if not piece.again else streams.REPLACED + 2 * piece.again - 1
        return Noise(self._seed, stream, piece.start)

    def _initial(self, piece: Piece) -> np.ndarray:
        stream = streams.ENSEMBLE_INITIAL if not piece.again else streams.REPLACED + 2 * piece.again - 2
        return self._sampler(self._seed, stream, piece.start, piece.stop)

    def _pieces(self, block: Block) -> list[Piece]:
        """Cache-sized parts of a block; a trajectory that was replaced is one of its own."""
        found = []
        for part in tiles(block.size, self._lanes):
            start, stop = block.start + part.start, block.start + part.stop
            for number in range(start, stop):
                if again := self.replaced.get(number):
                    found += [Piece(start, number)] * (number > start) + [Piece(number, number + 1, again)]
                    start = number + 1
            found += [Piece(start, stop)] * (stop > start)
        return found

    def replace(self, error: BlowUpError) -> None:
        """Take other random numbers for a trajectory that blew up; the caller begins its block anew.

        Raises
        ------
        BlowUpError : the same, where the configuration says so, or the trajectory has been replaced too often
        """
        again = self.replaced.get(error.trajectory, 0) + 1
        if not self._replaces or again > streams.MOST_REPLACED:
            raise error
        self.replaced[error.trajectory] = again

    def pilot(
        self, comm: MPI.Comm, observed: CoordinateMap | None, tick: Callable, keeping: Keeping = UNSAVED
    ) -> np.ndarray:
        """Raw coordinates (n, c) of at most some 20,000 states, the same on every rank. Collective.

        Taken over the second half of the burn-in; without one, over the first fifty lags of the trajectories.
        Runs the burn-in, whose end `windows` starts from. `keeping` gives the shelf on which blocks are saved.
        """
        parts, width = [], self.dimension if observed is None else len(observed)
        with keeping as kept:
            for block in local(self.blocks, comm):
                parts.extend(self._seen_by_pilot(block, observed, kept))
                tick(1)
        return gather_blocks(comm, parts, width)

    def _seen_by_pilot(self, block: Block, observed: CoordinateMap | None, kept: Shelf) -> list[np.ndarray]:
        """Raw coordinates (n, c) of the states of a block that its pilot shows, one array for each time."""
        saved = kept.get(block.index)
        while True:
            try:
                return self._burn_in_of(block, observed, kept, saved)
            except BlowUpError as error:
                self.replace(error)
                saved = None

    def _burn_in_of(
        self, block: Block, observed: CoordinateMap | None, kept: Shelf, saved: Saved | None
    ) -> list[np.ndarray]:
        thin = max(1, -(-self.trajectories // PILOT_ROWS))
        if saved is None:
            pieces, rows, shown, step = self._pieces(block), [], [], 0
            states = [self._initial(piece) for piece in pieces]
            start = _join(states)
        else:
            pieces, step = self.remember(saved.arrays["pieces"]), int(saved.arrays["step"])
            states = _split(saved.arrays["states"], pieces)
            rows, shown, start = (list(saved.arrays[name]) for name in ("rows", "shown", "start"))
        looking = Looking(observed, rows, shown)

        def arrays() -> dict[str, np.ndarray]:
            begin = [] if self._burn_in else start  # only without a burn-in do the records begin there
            found = {"pieces": as_array(pieces), "step": np.array(step), "states": _join(states)}
            return found | {"start": np.array(begin)} | looking.arrays()

        for time in self.pilot_times:
            for part in chunks(self.dimension * block.size, step, time):
                states = self._advanced(pieces, states, step, part)
                step += part
                if step == time:
                    looking(_join(states)[:, ::thin])
                kept.pause(block.index, progress(pieces, step), arrays)
        if saved is None or saved.progress < progress(pieces, step):
            kept.put(block.index, progress(pieces, step), arrays())
        self._started[block.index] = pieces, np.array(start) if not self._burn_in else _join(states)
        return looking.finished()

    @property
    def pilot_times(self) -> list[int]:
        """Steps after which the pilot looks at the states."""
        horizon = self._burn_in or min(50 * max(self.pairing.lag, 1), self.pairing.records - 1) * self._every
        first, count = self._burn_in // 2, max(1, PILOT_ROWS // self.trajectories)
        return sorted({first + (horizon - first) * (i + 1) // count for i in range(count)} - {0})

    def remember(self, rows: np.ndarray) -> list[Piece]:
        """Pieces as they were saved; what has been replaced in them is remembered."""
        pieces = [Piece(*map(int, row)) for row in rows]
        self.replaced |= {piece.start: piece.again for piece in pieces if piece.again}
        return pieces

    def _advanced(self, pieces: list[Piece], states: list[np.ndarray], step: int, steps: int) -> list[np.ndarray]:
        return [
            self.stepper.advance(part, self._noise(piece), step, steps)
            for piece, part in zip(pieces, states, strict=True)
        ]

    def _begun(self, block: Block) -> Course:
        """A block at the end of its burn-in. Trajectories replaced since then have a burn-in of their own."""
        before, joined = self._started[block.index]
        known = {piece.start: piece.again for piece in before if piece.again}
        pieces = self._pieces(block)
        states = []
        for piece in pieces:
            if piece.again and known.get(piece.start) != piece.again:
                state = [self._initial(piece)]
                for step, part in _running(chunks(self.dimension, 0, self._burn_in)):
                    state = self._advanced([piece], state, step, part)
                states += state
            else:
                states.append(np.array(joined[:, piece.start - block.start : piece.stop - block.start]))
        paths = [self._path_integrals(part) for part in states]
        return Course(pieces, states, paths, [_join(states)], [self._integrals(paths)])

    def course(self, block: Block, arrays: dict[str, np.ndarray] | None = None) -> Course:
        """A block where its trajectories start, or as it was when `Course.arrays` gave these."""
        if arrays is None:
            return self._begun(block)
        pieces = self.remember(arrays["pieces"])
        states = _split(arrays["states"], pieces)
        paths = [self._path_integrals(part) for part in states]
        for name in self._killing:
            values, lasts = _split(arrays[f"value {name}"], pieces), _split(arrays[f"last {name}"], pieces)
            for path, value, last in zip(paths, values, lasts, strict=True):
                path[name].value, path[name].last = value, last
        integrals = [
            {name: arrays[f"integrals {name}"][i] for name in self._killing} for i in range(len(arrays["records"]))
        ]
        return Course(pieces, states, paths, list(arrays["records"]), integrals, *map(int, arrays["counts"]))

    @property
    def last_record(self) -> int:
        """Index of the last record of a trajectory."""
        return self.pairing.records - 1

    def windows(
        self, block: Block, course: Course | None = None, pause: Callable[[], None] = lambda: None
    ) -> Iterator[Window]:
        """The records of one block in order; consecutive windows overlap by the lag.

        Parameters
        ----------
        course : where to go on from; it is kept up to date
        pause : called where `course` and all windows so far are all there is to know: a good place to save them

        Raises
        ------
        BlowUpError : see `replace`
        """
        course = self._begun(block) if course is None else course
        length = self.pairing.lag + max(1, WINDOW_ROWS // block.size)
        while course.record < self.pairing.records - 1:
            step = self._burn_in + course.record * self._every
            for part in chunks(self.dimension * block.size, course.step, self._every):
                course.states = [
                    self.stepper.advance(state, self._noise(piece), step + course.step, part, _watch_all(path))
                    for piece, state, path in zip(course.pieces, course.states, course.paths, strict=True)
                ]
                course.step += part
                if course.step < self._every:
                    pause()
            course.record, course.step = course.record + 1, 0
            course.records.append(_join(course.states))
            course.integrals.append(self._integrals(course.paths))
            if len(course.records) > length and course.record < self.pairing.records - 1:
                yield self._window(course)
                course.first = course.record - self.pairing.lag + 1
                keep = len(course.records) - self.pairing.lag
                course.records, course.integrals = course.records[keep:], course.integrals[keep:]
            pause()
        if self.pairing.records > 1:
            # the course stays as it is: a longer run goes on from here as if it had not stopped
            yield self._window(course)

    def _window(self, course: Course) -> Window:
        integrals = {name: np.array([row[name] for row in course.integrals]) for name in self._killing}
        return Window(course.first, np.array(course.records), integrals)

    def _path_integrals(self, states: np.ndarray) -> dict[str, PathIntegral]:
        step = self.stepper.time_step
        return {name: PathIntegral(rate, states, step) for name, rate in self._killing.items()}

    def _integrals(self, paths: list[dict[str, PathIntegral]]) -> dict[str, np.ndarray]:
        """Killing integrals so far of all trajectories of a block."""
        return {name: np.concatenate([path[name].value for path in paths]) for name in self._killing}


def _join(pieces: list[np.ndarray]) -> np.ndarray:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


def _split(array: np.ndarray, pieces: list[Piece]) -> list[np.ndarray]:
    """The columns (or entries) of each piece, contiguous arrays of their own."""
    edges = np.cumsum([piece.stop - piece.start for piece in pieces])[:-1]
    return [np.array(part, order="C") for part in np.split(array, edges, axis=-1)]


def as_array(pieces: list[Piece]) -> np.ndarray:
    """(k, 3) numbers of pieces."""
    return np.array([(piece.start, piece.stop, piece.again) for piece in pieces])


def progress(pieces: list[Piece], step: int) -> int:
    """A number that grows with the work done for a block: replacing a trajectory begins it anew."""
    return step + (sum(piece.again for piece in pieces) << 44)


def _running(parts: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Each part with the sum of those before it."""
    done = 0
    for part in parts:
        yield done, part
        done += part


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
    replaced: Mapping[int, int] = {}

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

    def pilot(
        self, comm: MPI.Comm, observed: CoordinateMap | None, tick: Callable, keeping: Keeping = UNSAVED
    ) -> np.ndarray:
        """Raw coordinates (n, c) of at most some 20,000 states, evenly taken; nothing is kept. Collective."""
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
