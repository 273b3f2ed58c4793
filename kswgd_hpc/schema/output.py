"""`compute` and `output`: where work is done and results go."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator

from kswgd_hpc.schema.base import Count, Section, Text

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|min|h|d)")


def seconds(text: str) -> float:
    """Seconds of a length of time such as 90s, 10min or 1h30min; infinite for never. Raises ValueError."""
    if text == "never":
        return math.inf
    total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if _PART.sub("", text).strip() or total <= 0:
        raise ValueError(f"{text!r} is not a length of time; write 90s, 10min, 1h30min or never")
    return total


def _checked(text: str) -> str:
    seconds(text)
    return text


Length = Annotated[Text, AfterValidator(_checked)]


class Compute(Section):
    """Where the dense array work is done, and when a job that makes no progress is ended."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["double"] = "double"
    watchdog: Length = "never"


class Checkpoint(Section):
    """How often to save, and how many saves to keep."""

    every: Length = "10min"
    keep: Count = 2


class Output(Section):
    """Where results go, relative to the current directory."""

    directory: Text = "results"
    checkpoint: Checkpoint | None = None
