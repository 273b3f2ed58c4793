"""`koopman`: the Galerkin problem."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kswgd_hpc.schema.base import Positive, Section, Text
from kswgd_hpc.schema.coordinates import AnyCoordinates, IdentityCoordinates
from kswgd_hpc.schema.dictionary import AnyDictionary


class Sets(Section):
    """Two sets of states, between which committors and transition rates are computed."""

    A: Text
    B: Text


class Koopman(Section):
    """The Galerkin problem and its solution."""

    estimator: Literal["reversible", "dirichlet", "edmd", "generator", "reduced_rank"] = "reversible"
    rank: Annotated[int, Field(ge=1, le=10_000)] | None = None
    coordinates: AnyCoordinates = IdentityCoordinates(kind="identity")
    dictionary: AnyDictionary
    modes: Literal["auto"] | Annotated[int, Field(ge=2, le=10_000)] = 10
    regularization: Annotated[float, Field(gt=0, lt=0.1)] = 1e-9
    reweight: bool | Literal["pairs", "generator"] = False
    vamp: bool = False
    time_step_error: bool = True
    certify: bool = False
    lag_times: Literal["auto"] | Annotated[list[Positive], Field(min_length=1)] = "auto"
    sets: Sets | None = None
    petsc_options: dict[str, str | int | float | bool | None] = {}

    @model_validator(mode="after")
    def _keys_of_one_estimator(self):
        if self.rank is not None and self.estimator != "reduced_rank":
            raise ValueError(f"'rank' belongs to estimator: reduced_rank, not {self.estimator}")
        return self

    @property
    def lagged(self) -> bool:
        """Whether the estimator takes pairs a lag time apart."""
        return self.estimator not in ("dirichlet", "generator")
