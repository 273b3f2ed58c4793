"""The ensemble: block after block, without a message between ranks, each saved as it comes along."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from kswgd_hpc.checkpoint import Checkpoint, Shelf
from kswgd_hpc.ensemble import as_array
from kswgd_hpc.parallel import Block
from kswgd_hpc.plan import Plan
from kswgd_hpc.progress import Stage
from kswgd_hpc.recorder import Part, Recorder
from kswgd_hpc.records import Collected, Collector, Records
from spde.errors import BlowUpError


def collected(
    plan: Plan, collector: Collector | None, recorder: Recorder, mine: list[Block], checkpoint: Checkpoint, tick: Stage
) -> list[Records]:
    """What the dictionary will see of the blocks of this rank; the recorder keeps what the results show. Collective."""
    work = _Work(plan, collector, recorder, checkpoint)
    with checkpoint.stage("ensemble") as kept:
        for block in mine:
            if plan.system is None:  # data are read again as fast as they were saved
                work.of_windows(block, plan.ensemble.windows(block), None, None)
            else:
                work.of_block(block, kept)
            tick(1)
    return work.records


def replaced(comm: MPI.Comm, plan: Plan) -> np.ndarray:
    """(k,) numbers of the trajectories that were replaced, one for each time, on every rank. Collective."""
    parts = comm.allgather(dict(plan.ensemble.replaced))
    return np.array(sorted(i for part in parts for i, times in part.items() for _ in range(times)), dtype=np.int64)


class _Work:
    """Runs blocks from wherever they were left."""

    def __init__(self, plan: Plan, collector: Collector | None, recorder: Recorder, checkpoint: Checkpoint):
        self.records: list[Records] = []
        self._ensemble, self._collector, self._recorder = plan.ensemble, collector, recorder
        self._lasting, self._done = checkpoint.schedule.lasting, checkpoint.shelf("records")

    def of_block(self, block: Block, kept: Shelf) -> None:
        """Finish a block, anew where a trajectory of it blew up and is to be replaced."""
        saved = self._done.get(block.index)
        if saved is not None:
            self._ensemble.remember(saved.arrays["pieces"])
            self._recorder.parts.append(Part.of(_taken("recorder", saved.arrays)))
            if self._collector is not None:
                self.records.append(Records.of(_taken("records", saved.arrays)))
            return
        saved = kept.get(block.index)
        arrays = None if saved is None else saved.arrays
        while True:
            try:
                self._run(block, kept, arrays)
                return
            except BlowUpError as error:
                self._ensemble.replace(error)
                arrays = None

    def _run(self, block: Block, kept: Shelf, arrays: dict[str, np.ndarray] | None) -> None:
        if arrays is None:
            part, found = self._recorder.begin(), Collected()
        else:
            part, found = Part.of(_taken("recorder", arrays)), Collected.of(_taken("collected", arrays))
        course = self._ensemble.course(block, None if arrays is None else _taken("course", arrays))

        def state() -> dict[str, np.ndarray]:
            return (
                _named("course", course.arrays())
                | _named("recorder", part.arrays())
                | _named("collected", found.arrays())
            )

        def pause() -> None:
            if self._lasting and course.record == self._ensemble.last_record:
                # from here a longer run goes on; the window that is still open has to be closed by neither
                kept.put(block.index, course.progress, state())
            kept.pause(block.index, course.progress, state)

        self.of_windows(block, self._ensemble.windows(block, course, pause), part, found)
        if not self._lasting:
            done = _named("recorder", part.arrays()) | {"pieces": as_array(course.pieces)}
            if self._collector is not None:
                done |= _named("records", self.records[-1].arrays())
            self._done.put(block.index, 0, done)

    def of_windows(self, block: Block, windows, part: Part | None, found: Collected | None) -> None:
        """Take in the windows of a block."""
        windows = self._recorder.watch(block, windows, part)
        if self._collector is not None:
            self.records.append(self._collector.collect(block, windows, found))
        else:
            for _window in windows:
                pass


def _named(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix} {name}": array for name, array in arrays.items()}


def _taken(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, without it."""
    prefix += " "
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
