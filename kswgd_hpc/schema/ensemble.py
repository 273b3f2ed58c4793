"""`ensemble`, and initial states everywhere."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kswgd_hpc.schema.base import Count, Formula, NonNegative, Numbers, Positive, Section, Text
from spde.schemes import SCHEMES

DIFFUSION_SCHEMES = ("heun", "platen", "baoab", "exact")


class Constant(Section):
    """The same state everywhere."""

    kind: Literal["constant"]
    value: Numbers


class Gaussian(Section):
    """Independent normals, per component."""

    kind: Literal["gaussian"]
    mean: Numbers = 0.0
    deviation: NonNegative | Annotated[list[NonNegative], Field(min_length=1)] = 1.0


class Uniform(Section):
    """Independent uniforms, per component."""

    kind: Literal["uniform"]
    low: Numbers
    high: Numbers


class ExpressionInitial(Section):
    """A field given as an expression in the coordinates; a list has one for each field."""

    kind: Literal["expression"]
    value: Formula | Annotated[list[Formula], Field(min_length=1)]


class FileInitial(Section):
    """States from a file, (d,) or (n, d); used in turn."""

    kind: Literal["file"]
    path: Text
    dataset: Text | None = None


class EnsembleInitial(Section):
    """The ensemble's own states, all of them or those in a set: draws of the invariant law restricted to it."""

    kind: Literal["ensemble"]
    where: Text | None = None


Initial = Annotated[Constant | Gaussian | Uniform | ExpressionInitial | FileInitial, Field(discriminator="kind")]

ParticleInitial = Annotated[
    Constant | Gaussian | Uniform | ExpressionInitial | FileInitial | EnsembleInitial, Field(discriminator="kind")
]


class Ensemble(Section):
    """How trajectories are made, or, for data, at which lag they are read."""

    trajectories: Count | None = None
    initial: Initial | None = None
    scheme: Literal[("auto", *SCHEMES, *DIFFUSION_SCHEMES)] = "auto"
    time_step: Positive | None = None
    burn_in: NonNegative = 0.0
    duration: Positive | None = None
    lag_time: Positive | None = None
    stride: Positive | None = None
    store: bool = False
    on_blow_up: Literal["stop", "replace"] = "stop"
