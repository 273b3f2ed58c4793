"""Progress on a terminal (a bar with rate and time left), plain lines in a batch log, and the log files of a run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpi4py import MPI

from kswgd_hpc.log import Log, process
from kswgd_hpc.machine import return_memory

_EVERY = 10.0  # seconds between lines, and between events, of one stage


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
    directory : where the log files go; none are written without it
    silent : say nothing
    """

    def __init__(self, comm: MPI.Comm, directory: Path | None = None, silent: bool = False):
        self.seconds: dict[str, float] = {}
        self.processor_seconds: dict[str, float] = {}
        self.beat: Callable[[], None] = lambda: None  # told of every tick
        self._speaks = comm.rank == 0 and not silent
        self._log = Log(directory) if directory is not None and comm.rank == 0 else None
        self._traffic = getattr(comm, "traffic", None)
        self._bar = None
        self.record("start", ranks=comm.size, **process())
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

    def record(self, event: str, **values: Any) -> None:
        """An event for programs that read the log, see `Log.event`."""
        if self._log is not None:
            self._log.event(event, **values)

    def say(self, message: str) -> None:
        """A line for the log."""
        if self._log is not None:
            self._log.line(message)
            self._log.event("line", text=message)
        if not self._speaks:
            return
        if self._bar is not None:
            self._bar.console.print(message, highlight=False, soft_wrap=True)
        else:
            print(message, file=sys.stderr, flush=True)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        """Time a stage of `total` units of this rank's work."""
        self.beat()
        return_memory()  # arrays of the stages before would count on top of those of this one
        stage = Stage(self, name, max(total, 1))
        began, busy, before = time.perf_counter(), time.process_time(), self._messages()
        self.record("stage", stage=name, total=stage.total)
        try:
            with stage:
                yield stage
        except BaseException as error:
            self.record("error", stage=name, text=" ".join(f"{type(error).__name__}: {error}".split()))
            raise
        seconds = time.perf_counter() - began
        busy = time.process_time() - busy
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.processor_seconds[name] = self.processor_seconds.get(name, 0.0) + busy
        sent = {} if self._traffic is None else {"traffic": self._traffic.since(before)}
        spent = {"seconds": round(seconds, 4), "processor": round(busy, 4)}
        self.record("stage end", stage=name, steps=stage.done, note=stage.note, **spent, **sent)
        self.say(f"{name:<22} {self.seconds[name]:8.1f} s" + (f"   {stage.note}" if stage.note else ""))

    def _messages(self) -> Any:
        return None if self._traffic is None else self._traffic.state()


class Stage:
    """One stage: call it with the number of units done, and with numbers that belong into the log."""

    def __init__(self, progress: Progress, name: str, total: int):
        self.note = ""
        self.total, self.done = total, 0
        self._progress, self._name = progress, name
        self._began = self._spoke = self._recorded = time.perf_counter()
        self._task = None

    def __enter__(self) -> Stage:
        bar = self._progress._bar
        if bar is not None:
            bar.start()
            self._task = bar.add_task(self._name, total=self.total, rate="")
        return self

    def __exit__(self, *_error) -> None:
        bar = self._progress._bar
        if bar is not None:
            bar.remove_task(self._task)
            bar.stop()

    def __call__(self, units: int = 1, **numbers: float) -> None:
        self._progress.beat()
        self.done += units
        now = time.perf_counter()
        rate = self.done / max(now - self._began, 1e-9)
        if now - self._recorded > _EVERY:
            self._recorded = now
            self._progress.record("step", stage=self._name, step=self.done, total=self.total, rate=rate, **numbers)
        bar = self._progress._bar
        if bar is not None:
            bar.update(self._task, completed=self.done, rate=f"{rate:.3g}/s")
        elif now - self._spoke > _EVERY and self.done < self.total:
            self._spoke = now
            left = (self.total - self.done) / rate
            self._progress.say(f"{self._name:<22} {self.done}/{self.total}, {rate:.3g}/s, about {left:.0f} s left")
