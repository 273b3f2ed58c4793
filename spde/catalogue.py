"""Named equations: their terms, parameters and defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from spde.domain import AXES, Domain
from spde.equations import Field, SemilinearEquation
from spde.errors import SpdeError
from spde.noise import Covariance


@dataclass(frozen=True)
class Model:
    """A named equation.

    Parameters
    ----------
    fields : terms, in the parameters
    parameters : defaults
    velocity : parameter names of an advection velocity along each axis, if any
    flux : along every axis, if any
    conserved : whether its noise is the divergence of white or coloured noise
    """

    fields: tuple[Field, ...]
    parameters: Mapping[str, float]
    flux: str | None = None
    velocity: tuple[str, ...] = ()
    conserved: bool = False


CATALOGUE: dict[str, Model] = {
    "heat": Model((Field(diffusivity="nu", reaction="-damping*u"),), {"nu": 1.0, "damping": 0.0}),
    "advection_diffusion": Model(
        (Field(diffusivity="nu", reaction="-damping*u"),),
        {"nu": 1.0, "damping": 0.0, "advection": 1.0, "advection_y": 0.0, "advection_z": 0.0},
        velocity=("advection", "advection_y", "advection_z"),
    ),
    "allen_cahn": Model((Field(diffusivity="nu", reaction="u - u**3"),), {"nu": 1.0}),
    "ginzburg_landau": Model((Field(diffusivity="nu", reaction="a*u - b*u**3"),), {"nu": 1.0, "a": 1.0, "b": 1.0}),
    "sine_gordon": Model((Field(diffusivity="nu", reaction="-a*sin(u)"),), {"nu": 1.0, "a": 1.0}),
    "nagumo": Model((Field(diffusivity="nu", reaction="u*(1 - u)*(u - a)"),), {"nu": 1.0, "a": 0.25}),
    "burgers": Model((Field(diffusivity="nu"),), {"nu": 1.0}, flux="-u**2/2"),
    "kuramoto_sivashinsky": Model(
        (Field(diffusivity="-alpha", hyperdiffusivity="nu"),), {"nu": 1.0, "alpha": 1.0}, flux="-u**2/2"
    ),
    "cahn_hilliard": Model(
        (Field(hyperdiffusivity="nu", potential="b*u**3 - a*u"),), {"nu": 1.0, "a": 1.0, "b": 1.0}, conserved=True
    ),
    "swift_hohenberg": Model(
        (Field(diffusivity="-2*k**2", hyperdiffusivity=1.0, reaction="(r - k**4)*u + g*u**2 - u**3"),),
        {"r": 0.3, "g": 0.0, "k": 1.0},
    ),
    "fitzhugh_nagumo": Model(
        (
            Field("u", diffusivity="nu", reaction="u - u**3/3 - v + current"),
            Field("v", diffusivity="nu_v", reaction="epsilon*(u + a - b*v)"),
        ),
        {"nu": 1.0, "nu_v": 0.0, "epsilon": 0.08, "a": 0.7, "b": 0.8, "current": 0.0},
    ),
}


def named_equation(
    name: str,
    domain: Domain,
    amplitude: float | str | Sequence[float | str],
    parameters: Mapping[str, float] | None = None,
    covariance: Covariance | None = None,
    **options,
) -> SemilinearEquation:
    """An equation of the catalogue.

    Parameters
    ----------
    amplitude : of the noise; one for every field, or a sequence
    parameters : in the place of the defaults
    options : interpretation, renormalize: see `SemilinearEquation`

    Raises
    ------
    SpdeError : a parameter that the equation does not have, or what `SemilinearEquation` refuses
    """
    model = CATALOGUE[name]
    unknown = sorted(set(parameters or {}) - set(model.parameters))
    if unknown:
        raise SpdeError(f"parameters: {name} has no parameter {unknown[0]!r} (known: {', '.join(model.parameters)})")
    values = {**model.parameters, **(parameters or {})}
    beyond = [p for p in model.velocity[domain.dimensions :] if values[p] != 0]
    if beyond:
        raise SpdeError(f"parameters: {beyond[0]} needs a domain with the axis {AXES[model.velocity.index(beyond[0])]}")
    velocity = model.velocity[: domain.dimensions]
    flux = [model.flux] * domain.dimensions if model.flux else [f"-{p}*u" for p in velocity]
    amplitudes = [amplitude] * len(model.fields) if isinstance(amplitude, (int, float, str)) else list(amplitude)
    if len(amplitudes) != len(model.fields):
        raise SpdeError(f"noise.amplitude: {len(amplitudes)} entries for {len(model.fields)} fields")
    fields = [replace(f, flux=tuple(flux), amplitude=a) for f, a in zip(model.fields, amplitudes)]
    covariance = covariance or Covariance()
    if model.conserved:
        covariance = replace(covariance, conserved=True)
    return SemilinearEquation(domain, fields, covariance, values, **options)
