"""From the configuration to a system of `spde` and its initial states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from kswgd_hpc import storage
from kswgd_hpc.config import Config, DiffusionSystem, SpdeSystem
from kswgd_hpc.errors import ConfigurationError
from spde.diffusions import Diffusion, UnderdampedLangevin, VectorSystem, langevin, noise_matrix
from spde.domain import Interval
from spde.equations import SemilinearEquation, named_equation
from spde.errors import SpdeError
from spde.expressions import Expression
from spde.manifolds import Circle, ManifoldDiffusion, Sphere, Torus
from spde.random import normals, uniforms

System = SemilinearEquation | VectorSystem


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
    interval = Interval(spec.domain.length, spec.domain.points, spec.domain.boundary, spec.discretization)
    amplitude = spec.noise.amplitude
    if spec.equation == "custom":
        with key("system.reaction"):
            return SemilinearEquation(interval, spec.diffusivity, spec.reaction, amplitude, spec.parameters)
    with key("system.parameters"):
        return named_equation(spec.equation, interval, amplitude, spec.parameters)


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
        if len(values) not in (1, rows):
            raise ConfigurationError(f"{path}.{name}: {len(values)} numbers for {rows} components")
        return np.broadcast_to(values, rows)[:, None]

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


def _expression_column(system: System | None, text: str, rows: int, path: str) -> np.ndarray:
    if not isinstance(system, SemilinearEquation):
        raise ConfigurationError(
            f"{path}: an expression in x describes a field; give a list of numbers (kind: constant)"
        )
    with key(f"{path}.value"):
        values = Expression(text, ("x",))({"x": system.interval.grid})
    if not np.isfinite(values).all():
        raise ConfigurationError(f"{path}.value: not finite everywhere on the grid")
    return np.broadcast_to(values, rows)[:, None]


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
