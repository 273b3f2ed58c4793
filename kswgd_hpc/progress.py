"""Progress on a terminal (a bar with rate and time left) and plain lines in a batch log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mpi4py import MPI

_EVERY = 10.0


def on_terminal() -> bool:
    """Whether a person watches: standard error is a terminal, or mpiexec's own output is.

    mpiexec gives its ranks pipes, whatever it writes to itself; on Linux its own descriptors can be looked at.
    """
    if os.environ.get("TERM", "dumb") == "dumb":
        return False
    if sys.stderr.isatty():
        return True
    try:
        return os.readlink(f"/proc/{os.getppid()}/fd/2").startswith("/dev/pts/")
    except OSError:
        return False


class Progress:
    """Stages of a run, shown by rank 0 alone; other ranks stay silent.

    Parameters
    ----------
    comm : communicator; not used collectively
    """

    def __init__(self, comm: MPI.Comm):
        self.seconds: dict[str, float] = {}
        self.processor_seconds: dict[str, float] = {}
        self._speaks = comm.rank == 0
        self._bar = None
        if self._speaks and on_terminal():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description:<22}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(file=sys.stderr, force_terminal=True))

    def say(self, message: str) -> None:
        """A line for the log."""
        if not self._speaks:
            return
        if self._bar is not None:
            self._bar.console.print(message, highlight=False, soft_wrap=True)
        else:
            print(message, file=sys.stderr, flush=True)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        """Time a stage of `total` units of this rank's work."""
        stage = Stage(self, name, max(total, 1))
        began, used = time.perf_counter(), time.process_time()
        with stage:
            yield stage
        self.processor_seconds[name] = self.processor_seconds.get(name, 0.0) + time.process_time() - used
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
        self.say(f"{name:<22} {self.seconds[name]:8.1f} s" + (f"   {stage.note}" if stage.note else ""))


class Stage:
    """One stage: call it with the number of units done."""

    def __init__(self, progress: Progress, name: str, total: int):
        self.note = ""
        self._progress, self._name, self._total = progress, name, total
        self._done, self._began, self._spoke = 0, time.perf_counter(), time.perf_counter()
        self._task = None

    def __enter__(self) -> Stage:
        bar = self._progress._bar
        if bar is not None:
            bar.start()
            self._task = bar.add_task(self._name, total=self._total, rate="")
        return self

    def __exit__(self, *_error) -> None:
        bar = self._progress._bar
        if bar is not None:
            bar.remove_task(self._task)
            bar.stop()

    def __call__(self, units: int = 1) -> None:
        self._done += units
        now = time.perf_counter()
        rate = self._done / max(now - self._began, 1e-9)
        bar = self._progress._bar
        if bar is not None:
            bar.update(self._task, completed=self._done, rate=f"{rate:.3g}/s")
        elif now - self._spoke > _EVERY and self._done < self._total:
            self._spoke = now
            left = (self._total - self._done) / rate
            self._progress.say(f"{self._name:<22} {self._done}/{self._total}, {rate:.3g}/s, about {left:.0f} s left")
