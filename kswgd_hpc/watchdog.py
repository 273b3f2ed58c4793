"""A job that makes no progress is ended, and says where each rank was.

A rank makes progress when its loops go round. It leaves word of that, by the time of change of one file, so that a rank
that waits for a slow one does not take it for dead. When no rank has made any for the time allowed, each prints its
stack and leaves. A rank that hangs inside a library that holds Python's lock is seen to by timers outside of Python.
"""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from mpi4py import MPI

HUNG = 70  # exit status: EX_SOFTWARE of sysexits.h
_FILE = ".progress"
_GRACE = 3.0  # seconds for the other ranks to print theirs


class Watchdog:
    """Looks after one rank; use as a context manager around the work.

    Parameters
    ----------
    comm : communicator, for names alone
    directory : output directory, shared by all ranks
    limit : seconds without progress of any rank that are too many; infinite for no watchdog
    """

    def __init__(self, comm: MPI.Comm, directory: Path, limit: float):
        self._rank, self._size, self._path, self._limit = comm.rank, comm.size, directory / _FILE, limit
        self._last = time.monotonic()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self) -> None:
        """This rank has made progress."""
        self._last = time.monotonic()

    def __enter__(self) -> Watchdog:
        if math.isfinite(self._limit):
            self.beat()
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_error) -> None:
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._path.unlink(missing_ok=True)

    def _watch(self) -> None:
        period, told, seen, changed = min(self._limit / 10, 5.0), -math.inf, 0, time.monotonic()
        while not self._over.wait(period):
            if self._last > told:
                told = self._last
                self._tell()
            if (now := self._time_of_change()) != seen:
                seen, changed = now, time.monotonic()
            if time.monotonic() - max(self._last, changed) > self._limit:
                self._give_up()
            # should this thread not run again, for want of Python's lock: print the stack, then end
            faulthandler.dump_traceback_later(self._limit + _GRACE)
            signal.setitimer(signal.ITIMER_REAL, self._limit + 2 * _GRACE + period)

    def _tell(self) -> None:
        with suppress(OSError):  # without the file ranks know of their own progress alone
            self._path.touch()

    def _time_of_change(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0

    def _give_up(self) -> None:
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file)
            file.seek(0)
            stack = file.read()
        name = f"[rank {self._rank}] "
        lines = [f"no progress for {self._limit:g} s (compute.watchdog); this rank of {self._size} was at:"]
        text = "".join(f"{name}{line}\n" for line in [*lines, *stack.splitlines()])
        sys.stderr.write(f"kswgd-hpc: error: the job hangs\n{text}" if self._rank == 0 else text)
        sys.stderr.flush()
        time.sleep(_GRACE)
        os._exit(HUNG)
