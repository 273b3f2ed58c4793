"""`validation`: predictions to compare with references."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from kswgd_hpc.schema.base import Formula, Name, Positive, Section
from kswgd_hpc.schema.ensemble import Initial


class FeynmanKac(Section):
    """One prediction and its independent reference: E_x[f(X_t) exp(-int c)], or the principal eigenvalue of L + c.

    kind : what is predicted; for c = -theta g the principal eigenvalue is minus the scaled cumulant generating function
        of the time average of g, at theta; particles of its reference run to the last of the `times`
    reference : method of the reference; auto takes the best there is
    tolerance : standard error wanted of a sampled reference, in the units of u; None for that of `trajectories` paths
    """

    name: Name
    kind: Literal["expectation", "principal_eigenvalue"] = "expectation"
    observable: Formula | None = None
    killing: Formula = 0.0
    initial: Initial | None = None
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

    @model_validator(mode="after")
    def _keys_of_kind(self):
        if self.kind == "principal_eigenvalue":
            if self.observable is not None:
                raise ValueError("kind: principal_eigenvalue has no 'observable'")
            if self.reference in ("monte_carlo", "multilevel"):
                raise ValueError("kind: principal_eigenvalue takes reference: closed_form, deterministic or splitting")
            return self
        for key in ("observable", "initial"):
            if getattr(self, key) is None:
                raise ValueError(f"'{key}': this key is required")
        return self


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
