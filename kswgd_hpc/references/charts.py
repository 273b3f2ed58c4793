"""Coordinates in which a diffusion of few dimensions lives on a box, for the deterministic reference.

A chart has drift and diagonal mobility on a box whose sides are walls, or joined where an axis is periodic. Written as
G f = sum_k (1 / rho_k) d_k (rho_k M_k d_k f) with d_k log rho_k = (b_k - d_k M_k) / M_k, which `log_ratio` integrates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kswgd_hpc.errors import KswgdError
from spde.manifolds import Circle, ManifoldDiffusion, Sphere, Torus

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(3)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2
_DEPTH = 36.0  # V / T at the walls above its minimum: a density of 2e-16
_LOOKS = {1: 2001, 2: 121, 3: 41}


class NotSolvable(KswgdError):
    """The generator of this system cannot be solved on a grid, and why."""


@dataclass(frozen=True)
class Chart:
    """Coordinates y (k, n) of states.

    low, high : (k,) ends of the box; periodic : (k,); open : whether its walls could stand elsewhere
    states : function of points (k, n) to states (d, n); points : the inverse
    drift : (k, n) Ito drift at points; mobility : (k, n) at points
    """

    low: np.ndarray
    high: np.ndarray
    periodic: tuple[bool, ...]
    states: Callable
    points: Callable
    drift: Callable
    mobility: Callable
    open: bool = True

    @property
    def dimension(self) -> int:
        """k."""
        return len(self.low)

    def log_ratio(self, axis: int, start: np.ndarray, step: float) -> np.ndarray:
        """(n,) integral of d log rho / dy from points (k, n) to those a step further along an axis."""
        total = np.zeros(start.shape[1])
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            here = start.copy()
            here[axis] += node * step
            with np.errstate(divide="ignore", invalid="ignore"):
                total += weight * step * (self.drift(here) / self.mobility(here))[axis]
        end = start.copy()
        end[axis] += step
        with np.errstate(divide="ignore", invalid="ignore"):
            return total - np.log(self.mobility(end)[axis] / self.mobility(start)[axis])

    def widened(self, factor: float) -> Chart:
        """The same with walls further out."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        half = np.where(self.periodic, half, factor * half)
        return replace(self, low=middle - half, high=middle + half)

    def centred(self, point: np.ndarray, cells: int) -> Chart:
        """The same moved by less than a cell, of so many an axis, so that a point (k,) is at a centre.

        Walls that cannot stand elsewhere stay.
        """
        width = (self.high - self.low) / cells
        free = np.array(self.periodic) | self.open
        shift = np.where(free, ((point - self.low) / width - 0.5) % 1.0 * width, 0.0)
        shift = np.where(shift > width / 2, shift - width, shift)
        return replace(self, low=self.low + shift, high=self.high + shift)


def chart(system: Any, potential: Callable | None, temperature: float, seen: np.ndarray) -> Chart:
    """The chart of a system.

    Parameters
    ----------
    potential : function of states (d, n) -> (n,) of a Langevin diffusion, which says how far the box has to reach
    temperature : of it
    seen : (d, n) states that the box has to hold: starts, and what paths visit where there is no potential

    Raises
    ------
    NotSolvable : more than three dimensions, or noise that couples the components where they move
    """
    if isinstance(system, ManifoldDiffusion):
        return _on_manifold(system)
    if system.dimension > 3:
        raise NotSolvable(f"{system.dimension} dimensions; a grid is for at most 3")
    whole = _cartesian(system)
    seen = whole.points(seen)
    if potential is None:
        low, high = seen.min(axis=1), seen.max(axis=1)
        margin = 0.3 * (high - low) + 1e-9
        return replace(whole, low=low - margin, high=high + margin)
    low, high = _basin(lambda points: potential(whole.states(points)) / temperature, seen)
    return replace(whole, low=low, high=high)


def _cartesian(system: Any) -> Chart:
    d, mobility = system.dimension, system.mobility
    nowhere = np.zeros(d)
    if hasattr(mobility, "seen_by"):
        if not hasattr(mobility, "diagonal"):
            raise NotSolvable("noise that depends on the state and couples the components")
        diagonal = lambda points: np.ascontiguousarray(mobility.diagonal(points).T)  # noqa: E731
        return Chart(nowhere, nowhere, (False,) * d, _same, _same, system.drift, diagonal)
    if not isinstance(mobility, np.ndarray):
        raise NotSolvable("a mobility that is no matrix")
    if mobility.ndim == 1:
        constant = lambda points: np.repeat(mobility[:, None], points.shape[1], axis=1)  # noqa: E731
        return Chart(nowhere, nowhere, (False,) * d, _same, _same, system.drift, constant)
    try:
        root = np.linalg.cholesky(mobility)
    except np.linalg.LinAlgError as error:
        raise NotSolvable("noise that is degenerate and couples the components") from error
    inverse = np.linalg.inv(root)
    drift = lambda points: inverse @ system.drift(np.ascontiguousarray(root @ points))  # noqa: E731
    states = lambda points: np.ascontiguousarray(root @ points)  # noqa: E731
    return Chart(nowhere, nowhere, (False,) * d, states, lambda x: inverse @ x, drift, np.ones_like)


def _same(points: np.ndarray) -> np.ndarray:
    return points


def _basin(depth: Callable, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box outside of which a potential (over T) is `_DEPTH` above its minimum, and which holds the points seen."""
    d = len(seen)
    low, high = seen.min(axis=1) - 1.0, seen.max(axis=1) + 1.0
    for _ in range(60):
        axes = [np.linspace(a, b, _LOOKS[d]) for a, b in zip(low, high, strict=True)]
        points = np.array([part.ravel() for part in np.meshgrid(*axes, indexing="ij")])
        with np.errstate(over="ignore", invalid="ignore"):
            values = depth(points).reshape((_LOOKS[d],) * d)
        inside = values - np.nanmin(values) < _DEPTH
        grown = False
        for axis in range(d):
            reached = inside.any(axis=tuple(k for k in range(d) if k != axis))
            width = high[axis] - low[axis]
            if reached[0]:
                low[axis], grown = low[axis] - 0.3 * width, True
            if reached[-1]:
                high[axis], grown = high[axis] + 0.3 * width, True
        if not grown:
            break
    else:
        raise NotSolvable("the potential does not rise in all directions")
    for axis in range(d):
        reached = np.flatnonzero(inside.any(axis=tuple(k for k in range(d) if k != axis)))
        step = axes[axis][1] - axes[axis][0]
        low[axis] = min(axes[axis][reached[0]], seen[axis].min()) - step
        high[axis] = max(axes[axis][reached[-1]], seen[axis].max()) + step
    return low, high


@dataclass(frozen=True)
class _Angles:
    """Angles y of a surface: box, maps, lengths and directions of the tangent vectors, Laplacians of the angles."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    periodic: tuple[bool, ...]
    states: Callable
    points: Callable
    lengths: Callable
    tangents: Callable
    laplacians: Callable


def _on_manifold(system: ManifoldDiffusion) -> Chart:
    """Angles on circle, torus and sphere: they move by T Laplacian(y) - <grad V, grad y>, M = T / length^2."""
    kinds = {Circle: _circle, Torus: _torus, Sphere: _sphere}
    if type(system.manifold) not in kinds:
        raise NotSolvable("a manifold without angles")
    angles, T = kinds[type(system.manifold)](system.manifold), system.temperature

    def drift(y: np.ndarray) -> np.ndarray:
        states = np.ascontiguousarray(angles.states(y))
        force = system.drift(states) - T * system.manifold.laplacian(states)
        return T * angles.laplacians(y) + np.einsum("kdn,dn->kn", angles.tangents(y), force) / angles.lengths(y)

    def mobility(y: np.ndarray) -> np.ndarray:
        return T / angles.lengths(y) ** 2

    low, high = np.array(angles.low), np.array(angles.high)
    return Chart(low, high, angles.periodic, angles.states, angles.points, drift, mobility, False)


def _circle(surface: Circle) -> _Angles:
    r = surface.radius
    return _Angles(
        (-np.pi,),
        (np.pi,),
        (True,),
        lambda y: r * np.stack([np.cos(y[0]), np.sin(y[0])]),
        lambda x: np.arctan2(x[1], x[0])[None],
        lambda y: np.full((1, y.shape[1]), r),
        lambda y: np.stack([-np.sin(y[0]), np.cos(y[0])])[None],
        np.zeros_like,
    )


def _torus(surface: Torus) -> _Angles:
    R, r = surface.R, surface.r

    def states(y: np.ndarray) -> np.ndarray:
        ring = R + r * np.cos(y[0])
        return np.stack([ring * np.cos(y[1]), ring * np.sin(y[1]), r * np.sin(y[0])])

    def tangents(y: np.ndarray) -> np.ndarray:
        first = [-np.sin(y[0]) * np.cos(y[1]), -np.sin(y[0]) * np.sin(y[1]), np.cos(y[0])]
        return np.stack([np.stack(first), np.stack([-np.sin(y[1]), np.cos(y[1]), np.zeros_like(y[0])])])

    return _Angles(
        (-np.pi, -np.pi),
        (np.pi, np.pi),
        (True, True),
        states,
        lambda x: np.stack([*surface.angles_of(x).values()]),
        lambda y: np.stack([np.full(y.shape[1], r), R + r * np.cos(y[0])]),
        tangents,
        lambda y: np.stack([-np.sin(y[0]) / (r * (R + r * np.cos(y[0]))), np.zeros_like(y[0])]),
    )


def _sphere(surface: Sphere) -> _Angles:
    r = surface.radius

    def states(y: np.ndarray) -> np.ndarray:
        return r * np.stack([np.sin(y[0]) * np.cos(y[1]), np.sin(y[0]) * np.sin(y[1]), np.cos(y[0])])

    def tangents(y: np.ndarray) -> np.ndarray:
        first = [np.cos(y[0]) * np.cos(y[1]), np.cos(y[0]) * np.sin(y[1]), -np.sin(y[0])]
        return np.stack([np.stack(first), np.stack([-np.sin(y[1]), np.cos(y[1]), np.zeros_like(y[0])])])

    return _Angles(
        (0.0, -np.pi),
        (np.pi, np.pi),
        (False, True),
        states,
        lambda x: np.stack([np.arccos(np.clip(x[2] / r, -1, 1)), np.arctan2(x[1], x[0])]),
        lambda y: np.stack([np.full(y.shape[1], r), r * np.sin(y[0])]),
        tangents,
        lambda y: np.stack([np.cos(y[0]) / np.sin(y[0]) / r**2, np.zeros_like(y[0])]),
    )
