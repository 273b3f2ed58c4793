"""From the configuration to a system of `spde` and its initial states."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from kswgd_hpc import storage
from kswgd_hpc.config import Config
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.schema.system import DiffusionSystem, SpdeSystem
from spde.catalogue import named_equation
from spde.diffusions import Diffusion, UnderdampedLangevin, VectorSystem, langevin, noise_matrix
from spde.domain import Domain
from spde.equations import Field, SemilinearEquation
from spde.errors import SpdeError
from spde.expressions import Expression, no_reduction
from spde.manifolds import Circle, ManifoldDiffusion, Sphere, Torus
from spde.noise import Covariance
from spde.random import normals, uniforms

System = SemilinearEquation | VectorSystem
_TERM = re.compile(r"(parameters|diffusivity|hyperdiffusivity|reaction|potential|flux|domain|noise)[.a-z_]*: ")


@contextmanager
def key(path: str) -> Iterator[None]:
    """Put the path of the configuration key in front of what `spde` refuses."""
    try:
        yield
    except SpdeError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def build(config: Config) -> System | None:
    """The system that the configuration describes, None for recorded data."""
    spec = config.system
    if isinstance(spec, SpdeSystem):
        return _spde(spec)
    if isinstance(spec, DiffusionSystem):
        return _diffusion(spec)
    return None


def _spde(spec: SpdeSystem) -> SemilinearEquation:
    noise = spec.noise
    with _term():
        domain = Domain.box(spec.domain.length, spec.domain.points, spec.domain.boundary, spec.discretization)
        numbers = {"length": noise.correlation_length, "exponent": noise.exponent, "smoothness": noise.smoothness}
        given = {name: value for name, value in numbers.items() if value is not None}
        covariance = Covariance(noise.covariance, **given, conserved=noise.conserved)
        options = {"interpretation": noise.interpretation, "renormalize": noise.renormalization == "wick"}
        if spec.equation != "custom":
            return named_equation(spec.equation, domain, noise.amplitude, spec.parameters, covariance, **options)
        return SemilinearEquation(domain, [_custom(spec)], covariance, spec.parameters, **options)


def _custom(spec: SpdeSystem) -> Field:
    """The field of a custom equation; advection with velocity a is the flux -a u."""
    axes = range(spec.domain.dimensions)
    flux, velocity = (
        [0.0 for _ in axes] if part is None else (part if isinstance(part, list) else [part])
        for part in (spec.flux, spec.advection)
    )
    amplitude = spec.noise.amplitude
    if isinstance(amplitude, list):
        if len(amplitude) > 1:
            raise SpdeError(f"noise.amplitude: {len(amplitude)} entries for one field")
        amplitude = amplitude[0]
    return Field(
        "u",
        spec.diffusivity or 0.0,
        spec.hyperdiffusivity or 0.0,
        spec.reaction if spec.reaction is not None else 0.0,
        spec.potential if spec.potential is not None else 0.0,
        tuple(f if v == 0.0 else f"({f}) - ({v})*u" for f, v in zip(flux, velocity, strict=True)),
        amplitude,
    )


@contextmanager
def _term() -> Iterator[None]:
    """Put the path of the configuration key in front of what an equation refuses: its messages begin with the term."""
    try:
        yield
    except SpdeError as error:
        found = _TERM.match(str(error))
        raise ConfigurationError(f"system.{error}" if found else f"system: {error}") from error


def _diffusion(spec: DiffusionSystem) -> VectorSystem:
    if spec.manifold is not None:
        with key("system.potential"):
            return ManifoldDiffusion(_manifold(spec.manifold), spec.potential, spec.temperature or 1.0)
    if spec.potential is not None:
        with key("system.potential"):
            if spec.friction is None:
                return langevin(spec.variables, spec.potential, spec.temperature)
            mass = 1.0 if spec.mass is None else spec.mass
            return UnderdampedLangevin(spec.variables, spec.potential, spec.temperature, spec.friction, mass)
    with key("system.diffusion"):
        noise = noise_matrix(spec.diffusion, spec.variables)
    with key("system.drift"):
        return Diffusion(spec.variables, spec.drift, noise, spec.interpretation or "ito")


def _manifold(spec) -> Circle | Sphere | Torus:
    if spec.kind == "torus":
        return Torus(spec.R, spec.r)
    return {"circle": Circle, "sphere": Sphere}[spec.kind](spec.radius)


def initial_states(system: System | None, dimension: int, spec, path: str) -> Callable[..., np.ndarray]:
    """Sampler of initial states, checked once.

    Parameters
    ----------
    system : the system, None for recorded data (states are then plain vectors)
    dimension : d
    spec : an `initial` section of the configuration
    path : its key, for messages

    Returns
    -------
    function (seed, stream, start, stop) -> (d, stop - start) states of the trajectories start..stop-1

    Raises
    ------
    ConfigurationError : wrong number of components, bad expression or file
    """
    rows = system.fields(np.zeros((dimension, 1))).shape[0] if system is not None else dimension
    lift = system.from_fields if system is not None else (lambda values: values)

    def numbers(name: str) -> np.ndarray:
        values = np.atleast_1d(np.asarray(getattr(spec, name), dtype=float))
        fields = len(system.names) if isinstance(system, SemilinearEquation) else rows
        if len(values) not in (1, fields, rows):
            raise ConfigurationError(f"{path}.{name}: {len(values)} numbers for {rows} components")
        return np.repeat(values, rows // len(values))[:, None]

    if spec.kind == "constant":
        column = numbers("value")
        return lambda seed, stream, start, stop: lift(np.repeat(column, stop - start, axis=1))
    if spec.kind == "gaussian":
        mean, deviation = numbers("mean"), numbers("deviation")
        return lambda seed, stream, start, stop: lift(
            mean + deviation * normals(np.empty((rows, stop - start)), seed, stream, start, 0)
        )
    if spec.kind == "uniform":
        low, high = numbers("low"), numbers("high")
        if (high < low).any():
            raise ConfigurationError(f"{path}: high is below low")
        return lambda seed, stream, start, stop: lift(
            low + (high - low) * uniforms(np.empty((rows, stop - start)), seed, stream, start, 0)
        )
    if spec.kind == "expression":
        column = _expression_column(system, spec.value, rows, path)
        return lambda seed, stream, start, stop: lift(np.repeat(column, stop - start, axis=1))
    states = storage.read_states(spec.path, spec.dataset, dimension, path)
    if isinstance(system, VectorSystem):
        states = np.ascontiguousarray(lift(states.T)).T
    return lambda seed, stream, start, stop: states[np.arange(start, stop) % len(states)].T.copy()


def _expression_column(system: System | None, formulas, rows: int, path: str) -> np.ndarray:
    if not isinstance(system, SemilinearEquation):
        raise ConfigurationError(
            f"{path}: an expression in x describes a field; give a list of numbers (kind: constant)"
        )
    formulas, fields = formulas if isinstance(formulas, list) else [formulas], len(system.names)
    if len(formulas) not in (1, fields):
        raise ConfigurationError(f"{path}.value: {len(formulas)} expressions for {fields} fields")
    parts = []
    for formula in formulas * (fields // len(formulas)):
        with key(f"{path}.value"):
            values = Expression(formula, system.coordinates)(system.domain.coordinates)
        if not np.isfinite(values).all():
            raise ConfigurationError(f"{path}.value: not finite everywhere on the grid")
        parts.append(np.broadcast_to(values, rows // fields))
    return np.concatenate(parts)[:, None]


def membership(system: System | None, dimension: int, sets, path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Function of states (d, batch) -> (batch,) that is 1 in A, 2 in B and 0 elsewhere.

    Parameters
    ----------
    system : None for recorded data, whose components are called x1, x2, ...
    sets : section of the configuration with the expressions A and B
    path : its key, for messages
    """

    def inside(name: str) -> Callable[[np.ndarray], np.ndarray]:
        text, where = getattr(sets, name), f"{path}.{name}"
        check_set(text, where)
        if system is not None:
            return observable(system, text, where)
        return expression_of_components(dimension, text, where)

    in_a, in_b = inside("A"), inside("B")

    def label(states: np.ndarray) -> np.ndarray:
        a, b = in_a(states) != 0, in_b(states) != 0
        if (a & b).any():
            raise ConfigurationError(
                f"{path}: a state that the system reached is in A and in B; they have to be disjoint"
            )
        return a + 2 * b.astype(np.int8)

    return label


def check_set(text: str, path: str) -> None:
    """Refuse as a set what compares nothing."""
    if not any(sign in text for sign in "<>"):
        raise ConfigurationError(f"{path}: {text!r} is no set of states, which is made of comparisons such as x > 0")


def expression_of_components(dimension: int, text: str, path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Function of states (d, batch) -> (batch,) from an expression in their components x1, x2, ...: of data."""
    names = [f"x{i + 1}" for i in range(dimension)]
    with key(path):
        expression = Expression(text, names, reductions=True)
        expression(dict.fromkeys(names, np.zeros(1)), no_reduction)
    return lambda states: np.broadcast_to(expression(dict(zip(names, states, strict=True))), states.shape[1])


def observable(system: System, text: str, path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Observable (d, batch) -> (batch,) from an expression, tried once on a state."""
    with key(path):
        names = system.observed if isinstance(system, VectorSystem) else system.variables
        expression = Expression(text, names, reductions=True)
        system.observe(expression, np.zeros((system.dimension, 2)))

    def evaluate(states: np.ndarray) -> np.ndarray:
        values = system.observe(expression, states)
        if not np.isfinite(values).all():
            raise ConfigurationError(f"{path}: {expression.text!r} is not finite on a state that the system reached")
        return values

    return evaluate
