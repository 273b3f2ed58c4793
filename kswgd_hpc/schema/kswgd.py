"""`kswgd`: the transport of particles."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kswgd_hpc.schema.base import Count, NonNegative, Positive, Section
from kswgd_hpc.schema.ensemble import Initial


class Kswgd(Section):
    """Transport of particles to the invariant law."""

    particles: Count
    initial: Initial
    step_size: Literal["auto"] | Positive = "auto"
    steps: Count = 400
    relaxation: NonNegative = 0.0
    baselines: Annotated[list[str], Field(max_length=0)] = []
