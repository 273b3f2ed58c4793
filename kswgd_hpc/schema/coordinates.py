"""`koopman.coordinates`: what the dictionary sees."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kswgd_hpc.schema.base import Count, Formula, Positive, Section


class IdentityCoordinates(Section):
    """The dictionary sees the whole state."""

    kind: Literal["identity"]


class ModeCoordinates(Section):
    """The dictionary sees the first Laplacian coefficients."""

    kind: Literal["modes"]
    count: Count


class PodCoordinates(Section):
    """The dictionary sees the directions in which the ensemble varies most."""

    kind: Literal["pod"]
    count: Count


class ExpressionCoordinates(Section):
    """The dictionary sees functions of the state, or of other coordinates."""

    kind: Literal["expressions"]
    functions: Annotated[list[Formula], Field(min_length=1, max_length=64)]
    of: Annotated[IdentityCoordinates | ModeCoordinates | PodCoordinates, Field(discriminator="kind")] = (
        IdentityCoordinates(kind="identity")
    )


class DelayCoordinates(Section):
    """The dictionary sees coordinates at `count` times, `spacing` apart."""

    kind: Literal["delay"]
    count: Annotated[int, Field(ge=2, le=1000)]
    spacing: Positive
    of: Annotated[
        IdentityCoordinates | ModeCoordinates | PodCoordinates | ExpressionCoordinates, Field(discriminator="kind")
    ] = IdentityCoordinates(kind="identity")


AnyCoordinates = Annotated[
    IdentityCoordinates | ModeCoordinates | PodCoordinates | ExpressionCoordinates | DelayCoordinates,
    Field(discriminator="kind"),
]
