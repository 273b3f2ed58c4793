"""`koopman.dictionary`: the observables."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kswgd_hpc.schema.base import Formula, Positive, Section

Size = Annotated[int, Field(ge=2, le=100_000)]
Bandwidth = Literal["auto", "cross_validated"] | Positive
Centres = Literal["auto", "farthest", "kmeans"]
Cells = Annotated[int, Field(ge=2, le=2**20)]
Period = Positive | Annotated[list[Positive | None], Field(min_length=1)]


class DictionarySection(Section):
    """What all dictionaries have in common."""

    @property
    def twice_differentiable(self) -> bool:
        """Whether the functions have second derivatives."""
        return True


class GaussianDictionary(DictionarySection):
    """Gaussians around states of the ensemble."""

    kind: Literal["gaussian"]
    size: Size
    centres: Centres = "auto"
    bandwidth: Bandwidth = "auto"


class MaternDictionary(DictionarySection):
    """Matern functions around states of the ensemble."""

    kind: Literal["matern"]
    size: Size
    centres: Centres = "auto"
    bandwidth: Bandwidth = "auto"
    smoothness: Literal["3/2", "5/2"] = "5/2"


class RationalQuadraticDictionary(DictionarySection):
    """Rational quadratic functions around states of the ensemble."""

    kind: Literal["rational_quadratic"]
    size: Size
    centres: Centres = "auto"
    bandwidth: Bandwidth = "auto"
    exponent: Positive = 4.0


class WendlandDictionary(DictionarySection):
    """Compactly supported functions around states of the ensemble."""

    kind: Literal["wendland"]
    size: Size
    centres: Literal["farthest", "kmeans"] = "farthest"
    bandwidth: Bandwidth = "auto"
    smoothness: Literal[2, 4] = 2


class PolynomialDictionary(DictionarySection):
    """Hermite polynomials by total degree."""

    kind: Literal["polynomial"]
    degree: Annotated[int, Field(ge=1, le=20)]


class FourierDictionary(DictionarySection):
    """Cosines on the range of the data, sines and cosines on periodic coordinates."""

    kind: Literal["fourier"]
    degree: Annotated[int, Field(ge=1, le=10_000)]
    truncation: Literal["total", "tensor"] = "total"
    margin: Annotated[float, Field(ge=0, le=10)] = 0.05
    period: Period | None = None


class RandomFourierDictionary(DictionarySection):
    """Waves in random directions."""

    kind: Literal["random_fourier"]
    size: Size
    bandwidth: Bandwidth = "auto"


class SplinesDictionary(DictionarySection):
    """B-splines on a regular grid."""

    kind: Literal["splines"]
    cells: Cells | Annotated[list[Cells], Field(min_length=1)]
    degree: Annotated[int, Field(ge=1, le=5)] = 3
    period: Period | None = None

    @property
    def twice_differentiable(self) -> bool:
        """Whether the functions have second derivatives."""
        return self.degree > 1


class IndicatorDictionary(DictionarySection):
    """Indicator functions of cells: around states of the ensemble (`size`), or of a regular grid (`cells`)."""

    kind: Literal["indicator"]
    size: Size | None = None
    centres: Literal["farthest", "kmeans"] = "kmeans"
    cells: Cells | Annotated[list[Cells], Field(min_length=1)] | None = None
    period: Period | None = None

    @model_validator(mode="after")
    def _one_partition(self):
        if (self.size is None) == (self.cells is None):
            raise ValueError("give either 'size', cells around centres, or 'cells', boxes of a grid")
        other = {"centres"} if self.size is None else {"period"}
        if other & self.model_fields_set:
            raise ValueError(f"'{other.pop()}' belongs to {'size' if self.size is None else 'cells'}")
        return self

    @property
    def twice_differentiable(self) -> bool:
        """Whether the functions have second derivatives."""
        return False


class ExpressionDictionary(DictionarySection):
    """The user's functions of the coordinates."""

    kind: Literal["expressions"]
    functions: Annotated[list[Formula], Field(min_length=1, max_length=1000)]


AnyDictionary = Annotated[
    GaussianDictionary
    | MaternDictionary
    | RationalQuadraticDictionary
    | WendlandDictionary
    | PolynomialDictionary
    | FourierDictionary
    | RandomFourierDictionary
    | SplinesDictionary
    | IndicatorDictionary
    | ExpressionDictionary,
    Field(discriminator="kind"),
]
