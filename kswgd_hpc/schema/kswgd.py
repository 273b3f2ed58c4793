"""`kswgd`: the transport of particles, its rivals, and how all of them are judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kswgd_hpc.schema.base import Count, Formula, NonNegative, Positive, Section, Text
from kswgd_hpc.schema.ensemble import ParticleInitial

Rival = Literal["langevin", "mala", "pcn", "svgd", "lawgd", "dmps", "mmd_flow", "kde_langevin"]


class Reference(Section):
    """Independent states of the invariant law in a file, (n, d)."""

    path: Text
    dataset: Text | None = None


class Judge(Section):
    """How particles are compared with the invariant law."""

    sample: Annotated[int, Field(ge=16, le=4096)] = 1024
    occupation: Annotated[list[Text], Field(max_length=64)] = []
    reference: Reference | None = None


class Condition(Section):
    """What was observed: the logarithm of a likelihood, or survival for a time under a killing rate, or both."""

    log_likelihood: Formula | None = None
    killing: Formula | None = None
    time: Positive | None = None

    @model_validator(mode="after")
    def _says_something(self):
        if self.log_likelihood is None and self.killing is None:
            raise ValueError("'condition' needs 'log_likelihood', or 'killing' and 'time'")
        if (self.killing is None) != (self.time is None):
            raise ValueError("'killing' and 'time', for which it is survived, go together")
        return self


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
    spread: NonNegative = 0.0  # time of the dynamics before the transport
    relaxation: Literal["auto"] | NonNegative = 0.0
    baselines: list[Rival] = []
    baseline_steps: dict[Rival, Count] = {}
    condition: Condition | None = None
    judge: Judge = Judge()

    @model_validator(mode="after")
    def _has_an_end(self):
        if self.stop == "none" and self.time is None and self.snapshots is None:
            raise ValueError("stop: none needs the key 'time', the flow time to go to, or 'snapshots'")
        if self.snapshots is not None and self.snapshots != sorted(set(self.snapshots)):
            raise ValueError("'snapshots' are flow times in ascending order")
        if self.snapshots is not None and self.time is not None and self.time < self.snapshots[-1]:
            raise ValueError(f"'time' {self.time:g} is before the last of the 'snapshots', {self.snapshots[-1]:g}")
        return self

    @model_validator(mode="after")
    def _baselines_fit(self):
        repeated = [name for name in self.baselines if self.baselines.count(name) > 1]
        if repeated:
            raise ValueError(f"'baselines' names {repeated[0]!r} twice")
        stray = sorted(set(self.baseline_steps) - set(self.baselines))
        if stray:
            raise ValueError(f"'baseline_steps' names {stray[0]!r}, which 'baselines' does not")
        return self
