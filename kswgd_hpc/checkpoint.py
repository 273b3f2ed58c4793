"""Restart on any number of ranks.

Everything that a run saves is a pure function of the configuration: the state of block 12 after 4000 steps is the same
whoever computed it. So what is saved is kept by what it is, not by who saved it. Each rank saves its own items when it
likes, without a message to the others, into bundles of its own; a resumed run, on any number of ranks, takes the most
advanced item that is whole, from whichever bundle, and computes what is missing. Damage costs time, never a bit.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from kswgd_hpc import bundles
from kswgd_hpc.bundles import Damaged, Key, Reader
from kswgd_hpc.errors import Interrupted
from kswgd_hpc.stopping import Stop

_MOST_PENDING = 2**28  # bytes that wait for the next save
_LONGEST_NAP = 0.02

Item = tuple[str, int]


class Saved(NamedTuple):
    """An item as it was after `progress` steps: name -> array."""

    progress: int
    arrays: dict[str, np.ndarray]


class Stopped(Exception):
    """This rank has saved and leaves its stage; the others follow at the end of the stage."""


@dataclass(frozen=True)
class Schedule:
    """every : seconds between saves; boundary : seconds after which the end of a stage is worth a save; keep : saves
    that are kept; lasting : whether the checkpoint of a finished run stays, to be extended"""

    every: float
    boundary: float
    keep: int
    lasting: bool

    @property
    def active(self) -> bool:
        """Whether anything is saved at all."""
        return math.isfinite(self.every)


@dataclass
class Cost:
    """What saving took of this rank."""

    saves: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass
class _File:
    """A bundle of this run: size : bytes of the arrays that were new in it or in those that it has taken up."""

    path: Path
    size: int
    keys: list[Key]


class Checkpoint:
    """What a run has saved, and saves.

    Parameters
    ----------
    comm : communicator
    directory : of the bundles, made when first needed
    about : what the items belong to, see `bundles.Contents`
    schedule : when to save
    stop : who asks to stop
    found : item -> (progress, bundle) of what an earlier run saved, the most advanced first
    edition : number that no earlier run has used in the names of its bundles
    label : stage -> its name with what it depends on, so that items of another configuration are not found
    """

    def __init__(
        self,
        comm: MPI.Comm,
        directory: Path,
        about: dict[str, Any],
        schedule: Schedule,
        stop: Stop,
        found: dict[Item, list[tuple[int, Path]]] | None = None,
        edition: int = 0,
        label: Callable[[str], str] = lambda stage: stage,
    ):
        self.comm = comm
        self.schedule = schedule
        self.stop = stop
        self.cost = Cost()
        self.failure = ""
        self._directory, self._about, self._found, self._edition = directory, about, found or {}, edition
        self._label = label
        self._pending: dict[Item, tuple[Key, dict[str, np.ndarray]]] = {}
        self._waiting = 0
        self._files: list[_File] = []
        self._newest: dict[Item, Path] = {}
        self._retired: list[list[Path]] = []
        self._open: tuple[Path, Reader] | None = None
        self._last = time.monotonic()
        self.beat: Callable[[], None] = lambda: None

    def stage(self, name: str) -> Stage:
        """A stage, to be entered: its shelf, and an end that is collective."""
        return Stage(self, self.shelf(name))

    def shelf(self, name: str) -> Shelf:
        """The items of a stage."""
        return Shelf(self, self._label(name))

    def agree(self, stopped: bool) -> None:
        """Wait for the other ranks; save and end if any wants to. Collective.

        Waiting ranks sleep, which leaves the cores to the others, and still obey a signal.
        """
        mine, anyone = np.array([stopped]), np.array([False])
        request, nap = self.comm.Iallreduce(mine, anyone, op=MPI.LOR), 1e-5
        while not request.Test():
            time.sleep(nap)
            nap = min(2 * nap, _LONGEST_NAP)
        wanted = bool(anyone[0])
        if wanted or self.worth():
            self.write()
        if wanted:
            raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        """What all ranks raise together, once each has saved: it says who asked, and how to go on. Collective."""
        found = self.comm.allgather((self.stop.reason, self.failure))
        if self.comm.rank == 0:
            self.stop.clear()
        # a signal says more than the file that tells the other ranks of it
        reason = min((reason for reason, _ in found if reason), key=lambda text: text.startswith("the file"))
        failed = [failure for _, failure in found if failure]
        saved = f"NOT saved: {failed[0]}" if failed else "all is saved; go on with --resume, on any number of ranks"
        return Interrupted(f"stopped by {reason}: {saved}")

    def boundary(self) -> None:
        """Between two stages: stop here if any rank was asked to. Collective."""
        self.agree(self.stop.wanted())

    def get(self, item: Item, progress: int | None = None) -> Saved | None:
        """The most advanced whole save of an item, or the one at a given progress; None where there is none."""
        for found, path in self._found.get(item, []):
            if progress not in (None, found):
                continue
            try:
                return Saved(found, self._reader(path).read(Key(*item, found)))
            except Damaged as error:
                self._warn(f"checkpoint: {path.name} is damaged ({error}): an older save is used, or none")
        return None

    def _reader(self, path: Path) -> Reader:
        """A bundle of an earlier run, kept open while items are taken from it one after the other."""
        if self._open is None or self._open[0] != path:
            if self._open is not None:
                self._open[1].close()
            self._open = path, Reader(path)
        return self._open[1]

    def saved(self, stage: str) -> dict[int, list[int]]:
        """Index -> progress of all that was saved of a stage, the most advanced first."""
        return {index: [p for p, _ in saves] for (name, index), saves in self._found.items() if name == stage}

    def put(self, key: Key, arrays: dict[str, np.ndarray]) -> None:
        """Take an item along in the next save. The arrays must not change until then."""
        if not self.schedule.active:
            return
        _, replaced = self._pending.get((key.stage, key.index), (key, {}))
        self._pending[key.stage, key.index] = key, arrays
        self._waiting += _size(arrays) - _size(replaced)

    def due(self) -> bool:
        """Whether it is time to save; not collective."""
        self.beat()
        late = time.monotonic() - self._last >= self.schedule.every
        much = self._waiting > _MOST_PENDING and not self.failure
        return late or much or self.stop.wanted()

    def worth(self) -> bool:
        """Whether so much time has passed that the end of a stage is worth a save."""
        return self.schedule.active and time.monotonic() - self._last >= self.schedule.boundary

    def save(self) -> None:
        """Write what waits to be saved; not collective. Raises Stopped where the rank was asked to stop."""
        self.write()
        if self.stop.wanted():
            raise Stopped

    def write(self) -> None:
        """Write what waits to be saved. A failure is said, and the run goes on: it has lost nothing yet."""
        began = time.monotonic()
        self._last = began
        if not self._pending:
            return
        try:
            self._write()
            self.failure = ""
        except OSError as error:
            if not self.failure:
                self._warn(f"checkpoint: cannot write to {self._directory}: {_reason(error)}; going on without")
            self.failure = _reason(error)
        self.cost.seconds += time.monotonic() - began

    def _write(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        size = self._waiting
        merged: list[_File] = []
        # smaller bundles are taken up by a larger one, so that there are few, and each item is rewritten seldom
        while self._files and self._files[-1].size <= size:
            merged.append(self._files.pop())
            size += merged[-1].size
        items = dict(self._pending.values())
        copies = [
            (file.path, key)
            for file in merged
            for key in file.keys
            if (key.stage, key.index) not in self._pending and self._newest.get((key.stage, key.index)) == file.path
        ]
        name = f"{self._edition:04d}-{self.comm.rank:05d}-{self.cost.saves:06d}{bundles.SUFFIX}"
        path = self._directory / name
        try:
            written = bundles.write(path, self._about, items, copies)
        except BaseException:
            self._files += reversed(merged)
            raise
        keys = [*items, *(key for _, key in copies)]
        self._files.append(_File(path, size, keys))
        self._newest |= {(key.stage, key.index): path for key in keys}
        self._pending.clear()
        self._waiting = 0
        self._retire([file.path for file in merged])
        self.cost.saves += 1
        self.cost.bytes += written

    def _retire(self, paths: list[Path]) -> None:
        """Delete what the last `keep` saves do not need."""
        self._retired.append(paths)
        while len(self._retired) >= max(self.schedule.keep, 1):
            for path in self._retired.pop(0):
                path.unlink(missing_ok=True)

    def _warn(self, message: str) -> None:
        where = f" [rank {self.comm.rank}]" if self.comm.size > 1 else ""
        print(f"kswgd-hpc: warning{where}: {message}", file=sys.stderr, flush=True)


def _size(arrays: dict[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


@dataclass
class Shelf:
    """The items of one stage, by their global index: what every long loop asks for its state, and gives it to."""

    checkpoint: Checkpoint
    stage: str
    keeps = True

    def get(self, index: int, progress: int | None = None) -> Saved | None:
        """What was saved of an item, see `Checkpoint.get`."""
        return self.checkpoint.get((self.stage, index), progress)

    def saved(self) -> dict[int, list[int]]:
        """Index -> progress of all that was saved, the most advanced first."""
        return self.checkpoint.saved(self.stage)

    def put(self, index: int, progress: int, arrays: dict[str, np.ndarray]) -> None:
        """Take an item along in the next save. The arrays must not change until then."""
        self.checkpoint.put(Key(self.stage, index, progress), arrays)

    def due(self) -> bool:
        """Whether it is time to save: by the clock, by a signal, by the stop file. Not collective."""
        return self.checkpoint.due()

    def agree(self) -> None:
        """Write all that waits, where all ranks want to at once. Collective; raises Interrupted if any has to stop."""
        self.checkpoint.write()
        self.checkpoint.agree(self.checkpoint.stop.wanted())

    def worth(self) -> bool:
        """Whether the end of a stage is worth a save. Not collective."""
        return self.checkpoint.worth()

    def save(self) -> None:
        """Write all that waits. Ends the stage for this rank if it was asked to stop."""
        self.checkpoint.save()

    def pause(self, index: int, progress: int, arrays: Callable[[], dict[str, np.ndarray]]) -> None:
        """Save an item in the middle of its work, if it is time to."""
        if self.due():
            self.put(index, progress, arrays())
            self.save()

    def __call__(self, index: int, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of an item: saved once, or computed now and kept. For loops over many short items."""
        found = self.get(index)
        if found is not None:
            return found.arrays["value"]
        value = compute()
        self.put(index, 0, {"value": value})
        if self.due():
            self.save()
        return value


@dataclass(frozen=True)
class Stage(AbstractContextManager):
    """A long loop of each rank by itself, which can be entered again. Its end is collective: ranks agree on whether to
    stop, and all raise Interrupted if any of them was asked to."""

    checkpoint: Checkpoint
    shelf: Shelf

    def __enter__(self) -> Shelf:
        return self.shelf

    def __exit__(self, kind: type[BaseException] | None, *_error) -> bool:
        if kind is not None and not issubclass(kind, Stopped):
            return False
        self.checkpoint.agree(kind is not None)
        return True


class Nothing(Shelf):
    """A shelf that keeps nothing, for work that nobody saves."""

    keeps = False

    def __init__(self):
        pass

    def get(self, index: int, progress: int | None = None) -> Saved | None:
        """None."""
        return None

    def saved(self) -> dict[int, list[int]]:
        """Nothing."""
        return {}

    def put(self, index: int, progress: int, arrays: dict[str, np.ndarray]) -> None:
        """Does nothing."""

    def due(self) -> bool:
        """Never."""
        return False

    worth = due

    def save(self) -> None:
        """Does nothing."""


# a stage of a checkpoint, `Checkpoint.stage`, or none
Keeping = AbstractContextManager[Shelf]
UNSAVED: Keeping = nullcontext(Nothing())
