"""`validation`: predictions to compare with references."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from kswgd_hpc.schema.base import Formula, Name, Positive, Section
from kswgd_hpc.schema.ensemble import Initial


class FeynmanKac(Section):
    """One prediction E_x[f(X_t) exp(-int c)] and its independent reference.

    reference : method of the reference; auto takes the best there is
    tolerance : standard error wanted of a sampled reference, in the units of u; None for that of `trajectories` paths
    """

    name: Name
    observable: Formula
    killing: Formula = 0.0
    initial: Initial
    times: Annotated[list[Positive], Field(min_length=1)]
    trajectories: Annotated[int, Field(ge=2, le=2**31)] = 4096
    reference: Literal["auto", "closed_form", "deterministic", "monte_carlo", "multilevel", "splitting"] = "auto"
    tolerance: Positive | None = None

    @field_validator("times")
    @classmethod
    def _ascending(cls, times):
        if sorted(set(times)) != times:
            raise ValueError("times must ascend")
        return times


class Validation(Section):
    """Predictions to compare with references."""

    feynman_kac: list[FeynmanKac] = []

    @field_validator("feynman_kac")
    @classmethod
    def _names_differ(cls, rows):
        names = [row.name for row in rows]
        if len(set(names)) < len(names):
            raise ValueError("two entries have the same name")
        return rows
