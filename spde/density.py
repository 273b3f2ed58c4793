"""Densities of invariant laws, up to their normalisation, where they are known in closed form.

Langevin dynamics has exp(-V/T), by area on a manifold; a linear equation is Gaussian mode by mode; a reaction equation
driven by white noise has

    pi(u) ~ exp( -sum_j rate_j c_j^2 / scale_j^2 - (2 / sigma^2) int R(u) dx ),    R' = -(reaction without its damping),

c_j the coefficients of u in the Laplacian's eigenbasis: the law of the discretised equation itself, on its own grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spde.diffusions import Diffusion, UnderdampedLangevin
from spde.equations import SemilinearEquation
from spde.errors import SpdeError
from spde.exact import OrnsteinUhlenbeck
from spde.expressions import Expression, symbols
from spde.manifolds import ManifoldDiffusion

_QUADRATURE = 64  # Gauss nodes for the integral of a reaction that is no polynomial
_FINE = 96
_ACCURACY = 1e-9


@dataclass(frozen=True)
class Density:
    """log : states (d, n) -> (n,) log density up to a constant; score : states (d, n) -> (d, n) its gradient.

    On a manifold the density is by area and the gradient is tangential.
    """

    log: Callable[[np.ndarray], np.ndarray]
    score: Callable[[np.ndarray], np.ndarray]


def invariant_density(system) -> Density:
    """The density of the invariant law of a system.

    Raises
    ------
    SpdeError : where it is not known, with the reason
    """
    if isinstance(system, SemilinearEquation):
        return _of_field(system)
    if isinstance(system, ManifoldDiffusion):
        return _of_manifold(system)
    if isinstance(system, UnderdampedLangevin):
        raise SpdeError("the noise acts on the momenta alone")
    if isinstance(system, Diffusion) and system.potential is not None:
        return _of_potential(system)
    if isinstance(system, Diffusion) and system.linear is not None:
        return _gaussian(system)
    raise SpdeError("the invariant law of a drift that is no gradient has no density in closed form")


def _of_potential(system: Diffusion) -> Density:
    V, names, T = Expression(system.potential, system.variables), system.variables, system.temperature

    def log(states: np.ndarray) -> np.ndarray:
        return np.broadcast_to(-V(dict(zip(names, states, strict=True))) / T, states.shape[1:])

    return Density(log, lambda states: system.drift(np.ascontiguousarray(states)) / T)


def _of_manifold(system: ManifoldDiffusion) -> Density:
    if system.potential is None:
        return Density(lambda states: np.zeros(states.shape[1]), np.zeros_like)
    V, names, T = Expression(system.potential, system.variables), system.variables, system.temperature
    return Density(
        lambda states: np.broadcast_to(-V(dict(zip(names, states, strict=True))) / T, states.shape[1:]),
        lambda states: system.force(np.ascontiguousarray(states)) / T,
    )


def _gaussian(system: Diffusion) -> Density:
    matrix, constant = system.linear
    law = OrnsteinUhlenbeck(-matrix, system.noise, constant)
    mean, precision = law.stationary_mean, np.linalg.inv(law.stationary_covariance)

    def log(states: np.ndarray) -> np.ndarray:
        centred = states - mean[:, None]
        return -0.5 * (centred * (precision @ centred)).sum(axis=0)

    return Density(log, lambda states: -precision @ (states - mean[:, None]))


def _of_field(system: SemilinearEquation) -> Density:
    _require_gradient(system)
    domain, rates, scales = system.domain, system.rates, system.scales
    driven = scales > 0
    stiffness = np.where(driven, 2 * rates / np.where(driven, scales, 1.0) ** 2, 0.0)[:, None]
    # derivatives by coefficients, as derivatives by the components of the state
    to_state = domain.cell if domain.is_grid else 1.0
    height = None if system.is_linear else reaction_potential(system)
    sigma2 = None if system.is_linear else float(system.laws[0].amplitude) ** 2

    def log(states: np.ndarray) -> np.ndarray:
        modes = system.to_modes(states)
        value = -0.5 * (stiffness * modes**2).sum(axis=0)
        if height is not None:
            value -= 2 / sigma2 * domain.cell * height(system.fields(states)).sum(axis=0)
        return value

    def score(states: np.ndarray) -> np.ndarray:
        modes = system.to_modes(states)
        slope = -stiffness * modes
        if system.force is not None:
            slope += 2 / sigma2 * system.force(modes)
        return system.from_modes(slope) * to_state

    return Density(log, score)


def _require_gradient(system: SemilinearEquation) -> None:
    if system.is_linear:
        if (system.rates[system.scales > 0] <= 0).any():
            raise SpdeError("a mode without damping has no invariant law")
        return
    if not system.reversible:
        raise SpdeError("the equation has no detailed balance (a flux, coloured or multiplicative noise, two fields)")
    if system.covariance.conserved:
        raise SpdeError("conserved dynamics lives on fields of one mean, and has no density on the whole space")


def reaction_potential(system: SemilinearEquation) -> Callable[[np.ndarray], np.ndarray]:
    """R(u) = -int_0^u of the reaction of one field, without its linear damping, on grid values (grid_size, n).

    Raises
    ------
    SpdeError : a reaction that cannot be integrated to nine digits
    """
    import sympy

    law = system.laws[0]
    if law.grid_functions:
        raise SpdeError("the reaction depends on functions of space that have no closed form")
    u = symbols(system.names)[0]
    names = (*system.names, *system.coordinates)
    x = [c[:, None] for c in system.domain.coordinates.values()]
    if sympy.sympify(law.reaction).is_polynomial(u):
        primitive = sympy.lambdify(symbols(names), sympy.horner(-sympy.integrate(law.reaction, u), u), "numpy")
        return lambda values: np.broadcast_to(primitive(values, *x), values.shape)
    reaction = sympy.lambdify(symbols(names), law.reaction, "numpy")

    def by_quadrature(values: np.ndarray, count: int) -> np.ndarray:
        nodes, weights = np.polynomial.legendre.leggauss(count)
        return -values / 2 * sum(w * reaction(values * (t + 1) / 2, *x) for t, w in zip(nodes, weights))

    probe = np.linspace(-4, 4, len(x[0]))[:, None]
    coarse, fine = by_quadrature(probe, _QUADRATURE), by_quadrature(probe, _FINE)
    if not np.abs(fine - coarse).max() <= _ACCURACY * max(1.0, np.abs(fine).max()):
        raise SpdeError("the reaction could not be integrated to nine digits")
    return lambda values: by_quadrature(values, _QUADRATURE)
