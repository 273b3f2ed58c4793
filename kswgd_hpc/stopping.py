"""Requests to stop: signals, and a file in the output directory."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
STOP_FILE = "stop"
_LOOK_EVERY = 1.0  # seconds between looks at the file, for each 256 ranks


class Stop:
    """Whether this rank was asked to stop. A rank that gets a signal writes the file, by which the others know.

    Parameters
    ----------
    directory : output directory, which exists
    ranks : of the job; many look less often, for the sake of the file system
    """

    def __init__(self, directory: Path, ranks: int = 1):
        self.path = directory / STOP_FILE
        self.reason = ""
        self._every = _LOOK_EVERY * max(1.0, ranks / 256)
        self._looked = time.monotonic()
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, *_error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame) -> None:
        self.reason = self.reason or signal.Signals(number).name
        # who asks twice wants no more saving
        signal.signal(number, signal.SIG_DFL)
        with suppress(OSError):  # else the others have a signal of their own, or learn of it at the end of the stage
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o644))

    def wanted(self) -> bool:
        """Whether to save and end now."""
        if not self.reason and time.monotonic() - self._looked >= self._every:
            self._looked = time.monotonic()
            if self.path.exists():
                self.reason = f"the file {self.path}"
        return bool(self.reason)

    def clear(self) -> None:
        """Remove the file: it has been obeyed, or is a left-over."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
