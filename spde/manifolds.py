"""Brownian motion and Langevin dynamics on the circle, the sphere and the torus of revolution.

States are points (x, y[, z]) of the surrounding space. The generator is T Laplacian - grad V . grad, Laplacian and
gradient those of the surface; without a potential T = 1. Every step ends on the surface, to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import numpy as np

from spde.compiling import njit
from spde.diffusion_steppers import KernelStepper
from spde.diffusions import VectorSystem, gradient
from spde.errors import SpdeError
from spde.expressions import Expression, no_reduction
from spde.kernels import vector_kernel
from spde.mobility import MobilityField


class Manifold(Protocol):
    """A curve or surface in the space of its variables; states are (d, n), on it unless said otherwise."""

    variables: tuple[str, ...]
    angles: tuple[str, ...]
    normals_per_step: int
    scheme: tuple[str, str]  # name of the Brownian step, and what it is

    def retract(self, states: np.ndarray) -> np.ndarray:
        """The nearest points of the manifold to any points of space, (d, n); one of them where there are several."""

    def normal(self, states: np.ndarray) -> np.ndarray:
        """(d, n) outward unit normals."""

    def tangential(self, states: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """(d, n) vectors without their normal parts, in place."""

    def frame(self, states: np.ndarray) -> np.ndarray:
        """(k, n, d) orthonormal tangent vectors."""

    def laplacian(self, states: np.ndarray) -> np.ndarray:
        """(d, n) Laplacian of the coordinates: the Ito drift of Brownian motion with generator Laplacian."""

    def angles_of(self, states: np.ndarray) -> dict[str, np.ndarray]:
        """Angles by their names, (n,) each."""

    def brownian(self, states: np.ndarray, normals: np.ndarray, time: float) -> None:
        """Run Brownian motion with generator Laplacian for a time, in place; normals (normals_per_step, n)."""


class _Round:
    """States at one distance from the origin, in any number of dimensions."""

    def __init__(self, radius: float):
        self.radius = _positive("radius", radius)

    def retract(self, states: np.ndarray) -> np.ndarray:
        """See Manifold."""
        return _round_retraction(np.ascontiguousarray(states, dtype=float), self.radius)

    def normal(self, states: np.ndarray) -> np.ndarray:
        """See Manifold."""
        return states / self.radius

    def tangential(self, states: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """See Manifold."""
        return _round_projection(states, vectors)


class Circle(_Round):
    """x^2 + y^2 = radius^2, angle theta. Rates k^2 / radius^2, twice each; stepped by its exact law."""

    variables, angles, normals_per_step = ("x", "y"), ("theta",), 1
    scheme = ("exact", "rotations by angles of the exact law")

    def frame(self, states: np.ndarray) -> np.ndarray:
        """See Manifold."""
        x, y = states / self.radius
        return np.stack([-y, x], axis=1)[None]

    def laplacian(self, states: np.ndarray) -> np.ndarray:
        """See Manifold."""
        return -states / self.radius**2

    def angles_of(self, states: np.ndarray) -> dict[str, np.ndarray]:
        """theta in (-pi, pi]."""
        return {"theta": np.arctan2(states[1], states[0])}

    def brownian(self, states: np.ndarray, normals: np.ndarray, time: float) -> None:
        """Rotation by sqrt(2 time) / radius N(0, 1): the exact law."""
        _circle_step(states, normals, time, self.radius)


class Sphere(_Round):
    """x^2 + y^2 + z^2 = radius^2; theta from the pole z, phi around it. Rates l (l + 1) / radius^2, 2 l + 1 times."""

    variables, angles, normals_per_step = ("x", "y", "z"), ("theta", "phi"), 3
    scheme = ("isotropic_walk", "invariant law exact, weak order 2, slowest rate exact")

    def frame(self, states: np.ndarray) -> np.ndarray:
        """See Manifold. Source: Duff et al. 2017, a frame without a division by small numbers."""
        x, y, z = self.normal(states)
        sign = np.copysign(1.0, z)
        a = -1 / (sign + z)
        b = x * y * a
        return np.stack(
            [
                np.stack([1 + sign * x * x * a, sign * b, -sign * x], axis=1),
                np.stack([b, sign + y * y * a, -y], axis=1),
            ]
        )

    def laplacian(self, states: np.ndarray) -> np.ndarray:
        """See Manifold."""
        return -2 * states / self.radius**2

    def angles_of(self, states: np.ndarray) -> dict[str, np.ndarray]:
        """theta in [0, pi], phi in (-pi, pi]."""
        x, y, z = states
        return {"theta": np.arctan2(np.hypot(x, y), z), "phi": np.arctan2(y, x)}

    def brownian(self, states: np.ndarray, normals: np.ndarray, time: float) -> None:
        """A step r in a uniform direction with cos(r / radius) = 2 exp(-tau e) - 1, tau = tanh(time / radius^2).

        e is exponential, half the square of a plane normal. Every isotropic step leaves the uniform law invariant and
        multiplies spherical harmonics of degree l by the mean of the Legendre polynomial P_l(cos r), which here is
        prod_{j=1..l} (1 - j tau) / (1 + j tau) = exp(-l (l + 1) time / radius^2) + O(time^3), exact for l = 1.
        """
        _sphere_step(states, normals, time, self.radius)


class Torus:
    """Torus of revolution about z: tube of radius r around the circle of radius R; theta about the tube, phi about z.

    (sqrt(x^2 + y^2) - R)^2 + z^2 = r^2, theta = 0 outermost. The area element is (R + r cos theta) dtheta dphi.

    Raises
    ------
    SpdeError : unless R > r > 0
    """

    variables, angles, normals_per_step = ("x", "y", "z"), ("theta", "phi"), 2
    scheme = ("angles", "both angles from their own equations, weak order 2")

    def __init__(self, R: float, r: float):
        self.R, self.r = _positive("R", R), _positive("r", r)
        if r >= R:
            raise SpdeError(f"a torus of revolution needs R > r: got R = {R:g}, r = {r:g}")

    def retract(self, states: np.ndarray) -> np.ndarray:
        """See Manifold."""
        return _torus_retraction(np.ascontiguousarray(states, dtype=float), self.R, self.r)

    def tangential(self, states: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """See Manifold."""
        return _torus_projection(states, vectors, self.R)

    def _trigonometry(self, states: np.ndarray) -> tuple:
        """cos and sin of phi, then of theta, (n,) each."""
        distance = np.hypot(states[0], states[1])
        return (*(states[:2] / distance), (distance - self.R) / self.r, states[2] / self.r)

    def normal(self, states: np.ndarray) -> np.ndarray:
        """See Manifold."""
        cos_phi, sin_phi, cos_theta, sin_theta = self._trigonometry(states)
        return np.stack([cos_theta * cos_phi, cos_theta * sin_phi, sin_theta])

    def frame(self, states: np.ndarray) -> np.ndarray:
        """See Manifold: along theta, along phi."""
        cos_phi, sin_phi, cos_theta, sin_theta = self._trigonometry(states)
        return np.stack(
            [
                np.stack([-sin_theta * cos_phi, -sin_theta * sin_phi, cos_theta], axis=1),
                np.stack([-sin_phi, cos_phi, np.zeros_like(sin_phi)], axis=1),
            ]
        )

    def laplacian(self, states: np.ndarray) -> np.ndarray:
        """See Manifold: minus the sum of the two curvatures, along the normal."""
        cos_theta = self._trigonometry(states)[2]
        return -(1 / self.r + cos_theta / (self.R + self.r * cos_theta)) * self.normal(states)

    def angles_of(self, states: np.ndarray) -> dict[str, np.ndarray]:
        """theta and phi in (-pi, pi]."""
        x, y, z = states
        return {"theta": np.arctan2(z, np.hypot(x, y) - self.R), "phi": np.arctan2(y, x)}

    def brownian(self, states: np.ndarray, normals: np.ndarray, time: float) -> None:
        """dtheta = -sin theta / (r (R + r cos theta)) dt + sqrt(2)/r dW, dphi = sqrt(2) / (R + r cos theta) dW'.

        theta by Heun's method, weak order 2 for its constant noise. Given the path of theta, phi is Gaussian; its
        variance, the integral of 2 / (R + r cos theta)^2, is taken by the trapezoidal rule: for exp(i k phi) that is
        Strang's splitting of the generator, of weak order 2 as well.
        """
        _torus_step(states, normals, time, self.R, self.r)


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise SpdeError(f"{name} must be a positive number, got {value:g}")
    return float(value)


@njit(cache=True, nogil=True)
def _round_retraction(points, radius):
    """Points (d, n) moved along their rays to a distance from the origin, the origin itself along the first axis."""
    out = np.empty_like(points)
    for t in range(points.shape[1]):
        square = 0.0
        for i in range(points.shape[0]):
            square += points[i, t] ** 2
        for i in range(points.shape[0]):
            out[i, t] = radius * points[i, t] / math.sqrt(square) if square > 0 else radius * (i == 0)
    return out


@njit(cache=True, nogil=True)
def _round_projection(points, vectors):
    """Vectors (d, n) without their parts along the points, in place."""
    for t in range(points.shape[1]):
        square = product = 0.0
        for i in range(points.shape[0]):
            square += points[i, t] ** 2
            product += points[i, t] * vectors[i, t]
        for i in range(points.shape[0]):
            vectors[i, t] -= product / square * points[i, t]
    return vectors


@njit(cache=True, nogil=True)
def _torus_retraction(points, R, r):
    """Points (3, n) moved to the torus along rays from the circle in the middle of the tube, which goes outwards."""
    out = np.empty_like(points)
    for t in range(points.shape[1]):
        x, y, z = points[0, t], points[1, t], points[2, t]
        distance = math.sqrt(x * x + y * y)
        if distance == 0.0:
            x = distance = 1e-300
        c = distance - R
        length = math.sqrt(c * c + z * z)
        if length == 0.0:
            c = length = 1.0
        ring = R + r * (c / length)
        out[0, t], out[1, t], out[2, t] = ring * (x / distance), ring * (y / distance), r * (z / length)
    return out


@njit(cache=True, nogil=True)
def _torus_projection(points, vectors, R):
    """Vectors (3, n) without their parts along the normals at points of the torus, in place."""
    for t in range(points.shape[1]):
        x, y, z = points[0, t], points[1, t], points[2, t]
        shrink = 1 - R / math.sqrt(x * x + y * y)
        a, b = shrink * x, shrink * y  # (a, b, z) goes from the middle of the tube to the point
        part = (a * vectors[0, t] + b * vectors[1, t] + z * vectors[2, t]) / (a * a + b * b + z * z)
        vectors[0, t] -= part * a
        vectors[1, t] -= part * b
        vectors[2, t] -= part * z
    return vectors


@njit(cache=True, nogil=True)
def _circle_step(states, normals, time, radius):
    for t in range(states.shape[1]):
        angle = math.sqrt(2 * time) / radius * normals[0, t]
        cosine, sine = math.cos(angle), math.sin(angle)
        x = cosine * states[0, t] - sine * states[1, t]
        y = sine * states[0, t] + cosine * states[1, t]
        scale = radius / math.sqrt(x * x + y * y)
        states[0, t], states[1, t] = scale * x, scale * y


@njit(cache=True, nogil=True)
def _sphere_step(states, normals, time, radius):
    tau = math.tanh(time / radius**2)
    for t in range(states.shape[1]):
        x, y, z = states[0, t] / radius, states[1, t] / radius, states[2, t] / radius
        # the normals' part in the tangent plane: a plane normal, whatever the state
        radial = x * normals[0, t] + y * normals[1, t] + z * normals[2, t]
        u, v, w = normals[0, t] - radial * x, normals[1, t] - radial * y, normals[2, t] - radial * z
        square = u * u + v * v + w * w
        exponent = -0.5 * tau * square
        cosine = 2 * math.exp(exponent) - 1
        sine = math.sqrt(-4 * math.expm1(exponent) * math.exp(exponent) / max(square, 1e-300))
        x, y, z = cosine * x + sine * u, cosine * y + sine * v, cosine * z + sine * w
        scale = radius / math.sqrt(x * x + y * y + z * z)
        states[0, t], states[1, t], states[2, t] = scale * x, scale * y, scale * z


@njit(cache=True, nogil=True)
def _torus_step(states, normals, time, R, r):
    for t in range(states.shape[1]):
        x, y = states[0, t], states[1, t]
        distance = math.sqrt(x * x + y * y)
        c, s = distance - R, states[2, t]
        length = math.sqrt(c * c + s * s)
        c, s = c / length, s / length
        drift = -s / (r * (R + r * c))
        # Heun's method: the angle moved by so far, and the drift there
        move = time * drift + math.sqrt(2 * time) / r * normals[0, t]
        cosine, sine = math.cos(move), math.sin(move)
        ahead_c, ahead_s = c * cosine - s * sine, s * cosine + c * sine
        move += 0.5 * time * (-ahead_s / (r * (R + r * ahead_c)) - drift)
        cosine, sine = math.cos(move), math.sin(move)
        new_c, new_s = c * cosine - s * sine, s * cosine + c * sine
        old, new = R + r * c, R + r * new_c
        angle = math.sqrt(time * (1 / (old * old) + 1 / (new * new))) * normals[1, t]
        cosine, sine = math.cos(angle), math.sin(angle)
        states[0, t] = new * (x * cosine - y * sine) / distance
        states[1, t] = new * (y * cosine + x * sine) / distance
        states[2, t] = r * new_s


class TangentialMobility(MobilityField):
    """M(x) = T P(x), P the projection on the tangent space.

    Parameters
    ----------
    manifold : where the states are; temperature : T
    """

    def __init__(self, manifold: Manifold, temperature: float):
        super().__init__(lambda states: math.sqrt(temperature) * manifold.frame(states))
        self._manifold = manifold
        self._temperature = temperature

    def apply(self, states: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """(n, d) T P(x) slope at states (d, n), of slopes (n, d)."""
        normal = self._manifold.normal(states).T
        return self._temperature * (slopes - (slopes * normal).sum(axis=1)[:, None] * normal)

    def average(self, matrix: np.ndarray | None, states: np.ndarray) -> np.ndarray:
        """(c, c) T J J^T: along the manifold its metric is that of space, the same in all directions."""
        matrix = np.eye(len(states)) if matrix is None else matrix
        return self._temperature * matrix @ matrix.T

    def retract(self, states: np.ndarray) -> np.ndarray:
        """The nearest points (d, n) of the manifold."""
        return self._manifold.retract(states)


class ManifoldDiffusion(VectorSystem):
    """Brownian motion (generator Laplacian) or Langevin dynamics (T Laplacian - grad V . grad) on a manifold.

    The invariant law has the density exp(-V/T) by area; both are reversible.

    Parameters
    ----------
    manifold : Circle, Sphere or Torus
    potential : V, an expression in the manifold's variables, or None
    temperature : T > 0, one without a potential
    """

    reversible = True
    elliptic = True

    def __init__(self, manifold: Manifold, potential: str | None = None, temperature: float = 1.0):
        self.manifold = manifold
        self.variables = manifold.variables
        self.temperature, self.potential = temperature, potential
        self.mobility = TangentialMobility(manifold, temperature)
        self._slopes = None if potential is None else gradient(potential, self.variables)

    @property
    def observed(self) -> tuple[str, ...]:
        """Names that observables may use: the variables and the angles."""
        return (*self.variables, *self.manifold.angles)

    def observe(self, expression: Expression, states: np.ndarray) -> np.ndarray:
        """Values (batch,) of an observable in the variables and angles."""
        values = dict(zip(self.variables, states, strict=True))
        if expression.names & set(self.manifold.angles):
            values |= self.manifold.angles_of(states)
        return np.broadcast_to(expression(values, no_reduction), (states.shape[1],))

    def from_fields(self, values: np.ndarray) -> np.ndarray:
        """The nearest points of the manifold."""
        return self.manifold.retract(values)

    @cached_property
    def _kernel(self) -> Callable:
        return vector_kernel(self._slopes, self.variables)

    def force(self, states: np.ndarray) -> np.ndarray:
        """(d, n) tangential part of -grad V."""
        slope = np.empty_like(states)
        self._kernel(states, slope)
        return -self.manifold.tangential(states, slope)

    def drift(self, states: np.ndarray) -> np.ndarray:
        """Ito drift in space, (d, n) to (d, n): T Laplacian x - grad V, which keeps the noise on the manifold."""
        drift = self.temperature * self.manifold.laplacian(states)
        return drift if self._slopes is None else drift + self.force(states)

    def choose_scheme(self, scheme: str = "auto") -> tuple[str, str]:
        """Name of the scheme, and why. Raises SpdeError on anything but `auto`: each manifold has its own."""
        if scheme != "auto":
            raise SpdeError(f"scheme {scheme!r} cannot step on a manifold; use auto")
        name, text = self.manifold.scheme
        if self._slopes is None:
            return name, text
        return "strang", f"half a step down the potential, a Brownian step ({text}), half a step: weak order 2"

    def stepper(self, time_step: float, scheme: str = "auto") -> KernelStepper:
        """Time stepper; see `choose_scheme`."""
        chosen = self.choose_scheme(scheme)
        time = self.temperature * time_step
        step = self._brownian if self._slopes is None else self._strang
        move = lambda states, normals: step(states, normals, time, time_step)  # noqa: E731
        kick = lambda states, normals: self._kick(states, np.sqrt(2 * time) * normals)  # noqa: E731
        return KernelStepper(move, self.manifold.normals_per_step, time_step, *chosen, kick)

    def _kick(self, states: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """(d, n) tangent vectors of moves (normals_per_step, n): their components, or vectors of space to project."""
        if len(moves) == len(states):
            return self.manifold.tangential(states, moves)
        return np.einsum("knd,kn->dn", self.manifold.frame(states), moves)

    def _brownian(self, states: np.ndarray, normals: np.ndarray, time: float, _time_step: float) -> None:
        self.manifold.brownian(states, normals, time)

    def _strang(self, states: np.ndarray, normals: np.ndarray, time: float, time_step: float) -> None:
        """Strang's splitting of T Laplacian and -grad V . grad."""
        self._descend(states, time_step / 2)
        self.manifold.brownian(states, normals, time)
        self._descend(states, time_step / 2)

    def _descend(self, states: np.ndarray, time: float) -> None:
        """Heun's method for dx/dt = -grad V on the manifold, its stages retracted, in place."""
        force = self.force(states)
        ahead = self.force(self.manifold.retract(states + time * force))
        states[:] = self.manifold.retract(states + (time / 2) * (force + ahead))
