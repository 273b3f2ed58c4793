"""The log of a run: lines for people in log.txt, events for programs in log.jsonl, one JSON object a line."""

from __future__ import annotations

import json
import math
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEXT = "log.txt"
EVENTS = "log.jsonl"


class Log:
    """Appends to the log files of a directory: a job that was killed and resumed has one log.

    A log that cannot be written (a full disk, say) is given up: it is no reason to lose a run.

    Parameters
    ----------
    directory : exists
    """

    def __init__(self, directory: Path):
        self._paths: tuple[Path, Path] | None = (directory / TEXT, directory / EVENTS)

    def line(self, text: str) -> None:
        """A line of the readable log."""
        self._append(0, text)

    def event(self, event: str, **values: Any) -> None:
        """A JSON object with the time, the event, memory of this process in MB, and the values."""
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        entry = {"time": round(time.time(), 3), "event": event, "memory": round(memory, 1), **values}
        self._append(1, json.dumps(_plain(entry)))

    def _append(self, which: int, text: str) -> None:
        if self._paths is None:
            return
        try:
            with open(self._paths[which], "a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError:
            self._paths = None


def _plain(value: Any) -> Any:
    """What JSON knows: None stands for numbers that are not finite, [real, imaginary] for complex ones."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, complex):
        return _plain(value.real) if value.imag == 0 else [_plain(value.real), _plain(value.imag)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """The events of a log from a place on, each with the place behind it; a line that is being written is left."""
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file:
            offset += len(line)
            if not line.endswith(b"\n"):
                return
            try:
                event = json.loads(line)
            except ValueError:  # torn by the death of its writer
                continue
            if isinstance(event, dict) and "event" in event:
                yield event, offset


def process() -> dict[str, Any]:
    """Where this process runs, by which a watcher can tell whether it still does."""
    return {"host": os.uname().nodename, "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}
