"""`system`: the equation, diffusion or data."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from kswgd_hpc.schema.base import Amplitude, Finite, Formula, Name, Positive, Section, Text
from spde.catalogue import CATALOGUE
from spde.diffusions import momenta_of
from spde.expressions import RESERVED

Points = Annotated[int, Field(ge=1, le=2**20)]
Boundary = Literal["periodic", "neumann", "dirichlet"]


class Domain(Section):
    """An interval, a rectangle or a box: lists have one entry for each axis, single values are for all axes."""

    length: Positive | Annotated[list[Positive], Field(min_length=1, max_length=3)]
    points: Points | Annotated[list[Points], Field(min_length=1, max_length=3)]
    boundary: Boundary | Annotated[list[Boundary], Field(min_length=1, max_length=3)] = "neumann"

    @model_validator(mode="after")
    def _as_many_axes(self):
        if len({len(v) for v in (self.length, self.points, self.boundary) if isinstance(v, list)}) > 1:
            raise ValueError("the lists of 'length', 'points' and 'boundary' differ in their number of axes")
        if math.prod(self.points if isinstance(self.points, list) else [self.points] * self.dimensions) > 2**27:
            raise ValueError("'points' multiply to more than 2**27")
        return self

    @property
    def dimensions(self) -> int:
        """Number of axes."""
        return max(len(v) if isinstance(v, list) else 1 for v in (self.length, self.points, self.boundary))


class Noise(Section):
    """A Q-Wiener process, times an amplitude: a number, or an expression in the field."""

    amplitude: Amplitude | Annotated[list[Amplitude], Field(min_length=1)]
    covariance: Literal["white", "power_law", "exponential", "gaussian", "matern"] = "white"
    correlation_length: Positive | None = None
    exponent: Positive | None = None
    smoothness: Positive | None = None
    conserved: bool = False
    interpretation: Literal["ito", "stratonovich"] = "ito"
    renormalization: Literal["none", "wick"] = "none"

    @model_validator(mode="after")
    def _covariance_has_its_numbers(self):
        wanted = {
            "white": (),
            "power_law": ("correlation_length", "exponent"),
            "exponential": ("correlation_length",),
            "gaussian": ("correlation_length",),
            "matern": ("correlation_length", "smoothness"),
        }[self.covariance]
        for key in ("correlation_length", "exponent", "smoothness"):
            given = getattr(self, key) is not None
            if given and key not in wanted:
                raise ValueError(f"{key!r} has no meaning for covariance: {self.covariance}")
            if not given and key in wanted and key != "smoothness":
                raise ValueError(f"covariance: {self.covariance} needs the key {key!r}")
        return self


_CUSTOM_TERMS = ("diffusivity", "hyperdiffusivity", "advection", "reaction", "flux", "potential")


class SpdeSystem(Section):
    """du = (diffusivity Lap u - hyperdiffusivity Lap^2 u - advection . grad u + reaction + div flux) dt + noise."""

    kind: Literal["spde"]
    equation: Literal[(*CATALOGUE, "custom")]
    parameters: dict[Name, Finite] = {}
    domain: Domain
    discretization: Literal["finite_difference", "spectral"] = "finite_difference"
    noise: Noise
    diffusivity: Formula | None = None
    hyperdiffusivity: Formula | None = None
    advection: Formula | Annotated[list[Formula], Field(min_length=1, max_length=3)] | None = None
    reaction: Formula | None = None
    flux: Formula | Annotated[list[Formula], Field(min_length=1, max_length=3)] | None = None
    potential: Formula | None = None

    @model_validator(mode="after")
    def _custom_names_its_parts(self):
        given = [key for key in _CUSTOM_TERMS if getattr(self, key) is not None]
        if self.equation == "custom":
            if not {"diffusivity", "hyperdiffusivity"} & set(given):
                raise ValueError("equation: custom needs the key 'diffusivity' (or 'hyperdiffusivity')")
            if not {"reaction", "flux", "advection", "potential"} & set(given):
                raise ValueError("equation: custom needs the key 'reaction' (or 'flux', 'advection', 'potential')")
        elif given:
            raise ValueError(f"{given[0]!r} belongs to equation: custom; {self.equation} takes 'parameters'")
        for key in ("advection", "flux"):
            value = getattr(self, key)
            count = len(value) if isinstance(value, list) else 1
            if value is not None and count != self.domain.dimensions:
                raise ValueError(f"{key!r} has {count} entries for {self.domain.dimensions} axes of the domain")
        reserved = sorted({"u", "v", "x", "y", "z", *RESERVED} & set(self.parameters))
        if reserved:
            raise ValueError(f"parameter {reserved[0]!r} has the name of something else")
        return self


class CircleManifold(Section):
    """x^2 + y^2 = radius^2."""

    kind: Literal["circle"]
    radius: Positive = 1.0


class SphereManifold(Section):
    """x^2 + y^2 + z^2 = radius^2."""

    kind: Literal["sphere"]
    radius: Positive = 1.0


class TorusManifold(Section):
    """Torus of revolution: a tube of radius r around a circle of radius R."""

    kind: Literal["torus"]
    R: Positive
    r: Positive

    @model_validator(mode="after")
    def _has_a_hole(self):
        if self.r >= self.R:
            raise ValueError(f"a torus of revolution needs R > r, got R = {self.R:g}, r = {self.r:g}")
        return self


class DiffusionSystem(Section):
    """Langevin in a potential, with inertia where it has friction; a general drift and noise; or a manifold."""

    kind: Literal["diffusion"]
    variables: Annotated[list[Name], Field(min_length=1, max_length=64)] | None = None
    potential: Text | None = None
    temperature: Positive | None = None
    friction: Positive | None = None
    mass: Positive | Annotated[list[Positive], Field(min_length=1)] | None = None
    drift: list[Formula] | None = None
    diffusion: Formula | list[Formula] | list[list[Formula]] | None = None
    interpretation: Literal["ito", "stratonovich"] | None = None
    manifold: Annotated[CircleManifold | SphereManifold | TorusManifold, Field(discriminator="kind")] | None = None

    @model_validator(mode="after")
    def _parts_fit(self):
        given = {key for key in type(self).model_fields if getattr(self, key) is not None} - {"kind"}
        if self.manifold is not None:
            self._check_manifold(given - {"manifold"})
            return self
        if self.variables is None:
            raise ValueError("'variables' is required, or 'manifold'")
        names = self.components
        if len(set(names)) < len(names):
            raise ValueError("'variables' repeats a name, or takes that of a momentum")
        reserved = sorted(set(RESERVED) & set(names))
        if reserved:
            raise ValueError(f"variable {reserved[0]!r} has the name of a function or constant")
        if (self.potential is None) == (self.drift is None):
            raise ValueError("give either 'potential' with 'temperature', or 'drift' with 'diffusion', or 'manifold'")
        self._check_keys(given)
        if self.drift is not None and len(self.drift) != len(names):
            raise ValueError(f"'drift' has {len(self.drift)} entries for {len(names)} variables")
        if isinstance(self.mass, list) and len(self.mass) not in (1, len(self.variables)):
            raise ValueError(f"'mass' has {len(self.mass)} entries for {len(self.variables)} variables")
        return self

    @staticmethod
    def _check_manifold(given: set[str]) -> None:
        wrong = sorted(given - {"potential", "temperature"})
        if wrong:
            raise ValueError(
                f"{wrong[0]!r} has no place beside 'manifold', which takes 'potential' with 'temperature' at most"
            )
        if len(given) == 1:
            raise ValueError("on a manifold give both 'potential' and 'temperature', or neither: Brownian motion")

    @staticmethod
    def _check_keys(given: set[str]) -> None:
        """That the keys beside `potential` or `drift` are those that belong to it."""
        if "potential" in given:
            if "temperature" not in given or "diffusion" in given or "interpretation" in given:
                raise ValueError("'potential' needs 'temperature' and no 'diffusion' or 'interpretation'")
            if "mass" in given and "friction" not in given:
                raise ValueError("'mass' needs 'friction': without inertia a mass has no meaning")
            return
        if "diffusion" not in given or "temperature" in given:
            raise ValueError("'drift' needs 'diffusion' and no 'temperature'")
        if {"friction", "mass"} & given:
            raise ValueError("'friction' and 'mass' belong to 'potential': a 'drift' says all of the dynamics")

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the components of a state: positions and momenta, or coordinates around a manifold."""
        if self.manifold is not None:
            return ("x", "y") if self.manifold.kind == "circle" else ("x", "y", "z")
        names = tuple(self.variables)
        return names if self.friction is None else (*names, *momenta_of(names))


class DataSystem(Section):
    """The user's own arrays: (samples, d), or (trajectories, times, d) with sampling_interval."""

    kind: Literal["data"]
    path: Text
    dataset: Text | None = None
    sampling_interval: Positive | None = None
    mobility: Literal["auto"] | Positive | Annotated[list[Positive], Field(min_length=1)] | None = None
