"""`compute` and `output`: where work is done and results go."""

from __future__ import annotations

from typing import Literal

from kswgd_hpc.schema.base import Count, Section, Text


class Compute(Section):
    """Where the dense array work is done."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["double"] = "double"


class Checkpoint(Section):
    """How often to save a restart file, and how many to keep."""

    every: Text = "10min"
    keep: Count = 2


class Output(Section):
    """Where results go, relative to the current directory."""

    directory: Text = "results"
    checkpoint: Checkpoint | None = None
