"""Independent draws of invariant laws that are known: no dynamics, no correlation, no time step.

Potentials in up to three variables by rejection from a histogram; manifolds by area; linear systems as Gaussians;
gradient SPDEs on an interval field by field from the transfer matrix. Every draw is a function of its own counters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spde.diffusions import Diffusion, UnderdampedLangevin
from spde.equations import SemilinearEquation
from spde.errors import SpdeError
from spde.exact import OrnsteinUhlenbeck
from spde.expressions import Expression
from spde.manifolds import Circle, ManifoldDiffusion, Sphere, Torus
from spde.random import normals, uniforms
from spde.transfer_matrix import invariant_law

_CELLS = {1: 2**14, 2: 1024, 3: 96}
_EDGE = 1e-9  # density at the ends of the histogram, relative to its peak
_ROOM = 1.5  # how much higher than in its middle the density may be within a cell
_ATTEMPTS = 400  # of a rejection; the chance to run out is below (1 - 1/_ROOM)^_ATTEMPTS
_BATCH = 1024  # fields drawn together

Draw = Callable[[int, int, int, int], np.ndarray]


def independent_draws(system) -> Draw:
    """Sampler of the invariant law of a system.

    Returns
    -------
    function (seed, stream, start, stop) -> (d, stop - start): the draws start..stop-1

    Raises
    ------
    SpdeError : where no exact sampler is known, with the reason
    """
    if isinstance(system, SemilinearEquation):
        return _gaussian_field(system) if system.is_linear else _gradient_field(system)
    if isinstance(system, ManifoldDiffusion):
        return _on_manifold(system)
    if isinstance(system, Diffusion) and not isinstance(system, UnderdampedLangevin):
        if system.potential is not None and system.dimension <= 3:
            return _in_potential(system)
        if system.linear is not None:
            matrix, constant = system.linear
            law = OrnsteinUhlenbeck(-matrix, system.noise, constant)
            law.stationary_covariance  # noqa: B018  raises where there is none
            return lambda *address: law.sample(_normals(system.dimension, *address))
    raise SpdeError("no exact sampler of this invariant law is known")


def _normals(rows: int, seed: int, stream: int, start: int, stop: int) -> np.ndarray:
    return normals(np.empty((rows, stop - start)), seed, stream, start, 0)


def _gaussian_field(system: SemilinearEquation) -> Draw:
    if (system.rates[system.scales > 0] <= 0).any():
        raise SpdeError("a mode without damping has no invariant law")
    deviation = system.scales / np.sqrt(2 * np.where(system.scales > 0, system.rates, 1.0))
    return lambda *address: system.from_modes(deviation[:, None] * _normals(system.dimension, *address))


def _gradient_field(system: SemilinearEquation) -> Draw:
    law = chain_law(system)

    def draw(seed: int, stream: int, start: int, stop: int) -> np.ndarray:
        parts = []
        for first in range(start, stop, _BATCH):
            last = min(first + _BATCH, stop)
            numbers = np.empty((law.uniforms_per_sample, last - first))
            parts.append(law.sample(uniforms(numbers, seed, stream, first, 0)))
        return np.concatenate(parts, axis=1)

    return draw


def chain_law(system: SemilinearEquation):
    """Law of a gradient SPDE on an interval in finite differences, by transfer matrix.

    Raises
    ------
    SpdeError : other than one field, one dimension, finite differences, white noise and a reaction in u alone
    """
    domain = system.domain
    if domain.dimensions != 1 or not domain.is_grid or len(system.laws) != 1:
        raise SpdeError("the transfer matrix is for one field on an interval, in finite differences")
    if not system.reversible or system.covariance.conserved:
        raise SpdeError("the transfer matrix is for reactions driven by white noise")
    from spde.density import reaction_potential

    law, names = system.laws[0], {str(s) for s in getattr(system.laws[0].reaction, "free_symbols", ())}
    if names - {law.name} or law.hyperdiffusivity:
        raise SpdeError("the transfer matrix is for diffusion and a reaction in u alone")
    height, axis = reaction_potential(system), domain.axes[0]

    def potential(u: np.ndarray) -> np.ndarray:
        flat = np.asarray(u, dtype=float)
        return height(flat.reshape(1, -1)).reshape(flat.shape) + law.damping * flat**2 / 2

    return invariant_law(
        potential, axis.length, domain.size, axis.boundary, law.diffusivity, float(law.amplitude), tolerance=1e-8
    )


def _in_potential(system: Diffusion) -> Draw:
    V = Expression(system.potential, system.variables)

    def log(points: np.ndarray) -> np.ndarray:
        values = V(dict(zip(system.variables, points, strict=True)))
        return np.broadcast_to(-values / system.temperature, points.shape[1:])

    return _rejection(log, system.dimension)


def _rejection(log: Callable[[np.ndarray], np.ndarray], d: int) -> Draw:
    """Draws from exp(log) on R^d: a cell by its mass, a point in it, accepted by the density there."""
    axes = [np.linspace(low, high, _CELLS[d] + 1) for low, high in _box(log, d)]
    middles = np.stack(np.meshgrid(*[(a[1:] + a[:-1]) / 2 for a in axes], indexing="ij")).reshape(d, -1)
    heights = log(middles)
    cumulated = np.cumsum(np.exp(heights - heights.max()))
    widths, lows = np.array([a[1] - a[0] for a in axes]), np.array([a[0] for a in axes])
    shape = tuple(_CELLS[d] for _ in range(d))

    def draw(seed: int, stream: int, start: int, stop: int) -> np.ndarray:
        out, waiting = np.empty((d, stop - start)), np.arange(stop - start)
        for attempt in range(_ATTEMPTS):
            numbers = uniforms(np.empty((d + 2, stop - start)), seed, stream, start, attempt)[:, waiting]
            cell = np.minimum(np.searchsorted(cumulated, numbers[0] * cumulated[-1], side="right"), len(heights) - 1)
            place = np.array(np.unravel_index(cell, shape)) + numbers[1 : d + 1]
            points = lows[:, None] + widths[:, None] * place
            accepted = np.log(np.maximum(numbers[-1], 1e-300)) < log(points) - heights[cell] - np.log(_ROOM)
            out[:, waiting[accepted]] = points[:, accepted]
            waiting = waiting[~accepted]
            if not len(waiting):
                return out
        raise SpdeError("the rejection sampler of the invariant law did not end")

    return draw


def _box(log: Callable[[np.ndarray], np.ndarray], d: int) -> list[tuple[float, float]]:
    """A box outside of which the density is below _EDGE of its peak, shrunk until it fits."""
    half, count = 1.0, {1: 4001, 2: 401, 3: 81}[d]
    low, high = np.full(d, -half), np.full(d, half)
    for _ in range(60):
        grid = [np.linspace(a, b, count) for a, b in zip(low, high)]
        values = log(np.stack(np.meshgrid(*grid, indexing="ij")).reshape(d, -1)).reshape((count,) * d)
        inside = values > values.max() + np.log(_EDGE)
        if not inside.any():  # the density has no largest value
            break
        done = True
        for axis, line in enumerate(grid):
            reached = np.flatnonzero(inside.any(axis=tuple(a for a in range(d) if a != axis)))
            width, step = high[axis] - low[axis], line[1] - line[0]
            if reached[0] == 0 or reached[-1] == count - 1:
                low[axis] -= width * (reached[0] == 0)
                high[axis] += width * (reached[-1] == count - 1)
                done = False
            elif reached[-1] - reached[0] < count // 2:
                low[axis], high[axis] = line[reached[0]] - step, line[reached[-1]] + step
                done = False
        if done:
            return list(zip(low, high))
    raise SpdeError("the potential does not confine the state to a box")


def _on_manifold(system: ManifoldDiffusion) -> Draw:
    by_area = _AREA[type(system.manifold)]
    if system.potential is None:
        return lambda *address: _accepted(by_area(system.manifold), *address)
    V = Expression(system.potential, system.variables)
    log = lambda x: np.broadcast_to(-V(dict(zip(system.variables, x))) / system.temperature, x.shape[1:])  # noqa: E731
    probe = log(_accepted(by_area(system.manifold), 0, 0, 0, 2**16))
    peak = probe.max() + 0.02 * np.ptp(probe)  # between the probes

    def proposal(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points, accepted = by_area(system.manifold)(numbers)
        return points, accepted & (np.log(np.maximum(numbers[-1], 1e-300)) < log(points) - peak)

    return lambda *address: _accepted(proposal, *address)


def _accepted(proposal: Callable, seed: int, stream: int, start: int, stop: int) -> np.ndarray:
    """First accepted proposal of each draw; a proposal takes (4, n) uniforms."""
    out, waiting = None, np.arange(stop - start)
    for attempt in range(100 * _ATTEMPTS):
        numbers = uniforms(np.empty((4, stop - start)), seed, stream, start, attempt)
        points, accepted = proposal(numbers[:, waiting])
        out = np.empty((len(points), stop - start)) if out is None else out
        out[:, waiting[accepted]] = points[:, accepted]
        waiting = waiting[~accepted]
        if not len(waiting):
            return out
    raise SpdeError("the rejection sampler of the invariant law did not end: the potential is too deep")


def _circle_points(manifold: Circle) -> Callable:
    def propose(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        angle = 2 * np.pi * numbers[0]
        return manifold.radius * np.stack([np.cos(angle), np.sin(angle)]), np.full(len(angle), True)

    return propose


def _sphere_points(manifold: Sphere) -> Callable:
    def propose(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z, angle = 2 * numbers[0] - 1, 2 * np.pi * numbers[1]
        ring = np.sqrt(np.maximum(1 - z**2, 0))
        return manifold.radius * np.stack([ring * np.cos(angle), ring * np.sin(angle), z]), np.full(len(z), True)

    return propose


def _torus_points(manifold: Torus) -> Callable:
    R, r = manifold.R, manifold.r

    def propose(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        theta, phi = 2 * np.pi * numbers[0], 2 * np.pi * numbers[1]
        ring = R + r * np.cos(theta)
        points = np.stack([ring * np.cos(phi), ring * np.sin(phi), r * np.sin(theta)])
        return points, numbers[2] * (R + r) < ring

    return propose


_AREA = {Circle: _circle_points, Sphere: _sphere_points, Torus: _torus_points}
