"""From the configuration to a system of `spde` and its initial states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from kswgd_hpc import storage
from kswgd_hpc.config import Config, DiffusionSystem, SpdeSystem
from kswgd_hpc.errors import ConfigurationError
from spde.diffusions import Diffusion, langevin
from spde.domain import Interval
from spde.equations import SemilinearEquation, named_equation
from spde.errors import SpdeError
from spde.expressions import Expression
from spde.random import normals, uniforms

System = SemilinearEquation | Diffusion


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


def _diffusion(spec: DiffusionSystem) -> Diffusion:
    if spec.potential is not None:
        with key("system.potential"):
            return langevin(spec.variables, spec.potential, spec.temperature)
    d = len(spec.variables)
    noise = np.asarray(spec.diffusion, dtype=object)
    shapes = {0: (), 1: (d,), 2: (d, d)}
    if noise.ndim > 2 or noise.shape != shapes[noise.ndim]:
        raise ConfigurationError(f"system.diffusion: expected a number, {d} numbers or a {d} x {d} matrix")
    noise = noise.astype(float)
    with key("system.drift"):
        return Diffusion(spec.variables, spec.drift, noise if noise.ndim == 2 else noise * np.eye(d))


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
        if system is not None:
            return observable(system, text, where)
        names = [f"x{i + 1}" for i in range(dimension)]
        with key(where):
            expression = Expression(text, names, reductions=True)
        return lambda states: expression(dict(zip(names, states, strict=True)))

    in_a, in_b = inside("A"), inside("B")

    def label(states: np.ndarray) -> np.ndarray:
        a, b = in_a(states) != 0, in_b(states) != 0
        if (a & b).any():
            raise ConfigurationError(
                f"{path}: a state that the system reached is in A and in B; they have to be disjoint"
            )
        return a + 2 * b.astype(np.int8)

    return label


def observable(system: System, text: str, path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Observable (d, batch) -> (batch,) from an expression, tried once on a state."""
    with key(path):
        expression = Expression(text, system.variables, reductions=True)
        system.observe(expression, np.zeros((system.dimension, 2)))

    def evaluate(states: np.ndarray) -> np.ndarray:
        values = system.observe(expression, states)
        if not np.isfinite(values).all():
            raise ConfigurationError(f"{path}: {expression.text!r} is not finite on a state that the system reached")
        return values

    return evaluate
