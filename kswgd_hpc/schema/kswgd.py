"""`kswgd`: the transport of particles."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kswgd_hpc.schema.base import Count, NonNegative, Positive, Section
from kswgd_hpc.schema.ensemble import ParticleInitial


class Kswgd(Section):
    """Transport of particles to the invariant law."""

    particles: Count
    initial: ParticleInitial
    step_size: Literal["auto"] | Positive = "auto"
    tolerance: Positive = 0.01  # error of an automatic step, in standard deviations
    steps: Count = 400
    stop: Literal["floor", "none"] = "floor"
    time: Positive | None = None
    snapshots: Annotated[list[Positive], Field(min_length=1, max_length=1000)] | None = None
    relaxation: Literal["auto"] | NonNegative = 0.0
    baselines: Annotated[list[str], Field(max_length=0)] = []

    @model_validator(mode="after")
    def _has_an_end(self):
        if self.stop == "none" and self.time is None and self.snapshots is None:
            raise ValueError("stop: none needs the key 'time', the flow time to go to, or 'snapshots'")
        if self.snapshots is not None and self.snapshots != sorted(set(self.snapshots)):
            raise ValueError("'snapshots' are flow times in ascending order")
        if self.snapshots is not None and self.time is not None and self.time < self.snapshots[-1]:
            raise ValueError(f"'time' {self.time:g} is before the last of the 'snapshots', {self.snapshots[-1]:g}")
        return self
