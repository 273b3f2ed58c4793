"""Eigenpairs of generators that separate: exact spectra to compare with, by quadrature in one variable at a time.

Langevin dynamics in a sum of potentials V_1(x_1) + V_2(x_2) + ...: products of eigenfunctions of one variable, rates
add up. Brownian motion on the circle: Fourier modes. On the torus of revolution: exp(i m phi) times solutions of a
Sturm-Liouville problem in theta for each m.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from spde.diffusions import Diffusion, UnderdampedLangevin
from spde.errors import SpdeError
from spde.expressions import Expression, symbols
from spde.manifolds import Circle, ManifoldDiffusion, Torus

_NODES = 3000  # of one variable
_DEPTH = 32.0  # V/T above its minimum at which the line is cut
_ATTEMPTS = 60
_HARMONICS = 24  # of theta on a torus


@dataclass(frozen=True)
class ExactSpectrum:
    """Eigenpairs of the generator, the constant one left out, eigenfunctions of unit norm in L2 of the invariant law.

    rates : (r,) ascending; mobility : T, with the gradients on a manifold tangential
    evaluate : states (d, n) -> (n, r) values and, for weights (r,), a function to (d, n) gradients of phi weights
    """

    rates: np.ndarray
    evaluate: Callable[[np.ndarray], tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]]
    mobility: float = 1.0


def exact_spectrum(system, count: int) -> ExactSpectrum:
    """The slowest `count` nonconstant eigenpairs of a generator that separates.

    Raises
    ------
    SpdeError : where the spectrum is not known, with the reason
    """
    if isinstance(system, ManifoldDiffusion):
        if system.potential is None and isinstance(system.manifold, Circle):
            return _circle(system.manifold, count)
        if system.potential is None and isinstance(system.manifold, Torus):
            return _torus(system.manifold, count)
        raise SpdeError("the exact spectrum is known on circle and torus without a potential")
    if isinstance(system, Diffusion) and not isinstance(system, UnderdampedLangevin) and system.potential is not None:
        return _separable(system, count)
    raise SpdeError("the exact spectrum is known for separable potentials, the circle and the torus")


def _circle(manifold: Circle, count: int) -> ExactSpectrum:
    orders, radius = np.arange(count) // 2 + 1, manifold.radius
    sine = np.arange(count) % 2 == 1

    def evaluate(states: np.ndarray):
        angle = np.arctan2(states[1], states[0])[:, None] * orders
        c, s = np.cos(angle), np.sin(angle)
        tangent = np.stack([-states[1], states[0]]) / radius

        def gradient(weights: np.ndarray) -> np.ndarray:
            return tangent * (np.sqrt(2) / radius * (np.where(sine, c, -s) * orders) @ weights)

        return np.sqrt(2) * np.where(sine, s, c), gradient

    return ExactSpectrum(orders**2 / radius**2, evaluate)


def _torus(manifold: Torus, count: int) -> ExactSpectrum:
    R, r = manifold.R, manifold.r
    theta = np.arange(8 * _HARMONICS) * (2 * np.pi / (8 * _HARMONICS))
    weight = R + r * np.cos(theta)
    values, slopes = _trigonometric(theta)
    share = weight / weight.sum()  # the invariant law of theta; E over theta of f is share @ f
    gram = values.T @ (share[:, None] * values)
    stiff = slopes.T @ (share[:, None] * slopes) / r**2
    found = []  # rate, m, coefficients, whether sine in phi
    for m in range(count + 1):
        lost = values.T @ ((share * m**2 / weight**2)[:, None] * values)
        rates, vectors = scipy.linalg.eigh(stiff + lost, gram)
        for rate, vector in zip(rates, vectors.T):
            found += [(rate, m, vector, sine) for sine in ((False, True) if m else (False,))]
        if len(found) > count and rates[0] > sorted(row[0] for row in found)[count]:
            break
    found = sorted(found, key=lambda row: row[:2] + (row[3],))[1 : count + 1]
    orders = np.array([row[1] for row in found])
    coefficients = np.array([row[2] for row in found]).T * np.where(orders > 0, np.sqrt(2), 1.0)
    sine = np.array([row[3] for row in found])

    def evaluate(states: np.ndarray):
        angles = manifold.angles_of(states)
        tube, slope = (part @ coefficients for part in _trigonometric(angles["theta"]))
        around = angles["phi"][:, None] * orders
        c, s = np.cos(around), np.sin(around)
        wave, turned = np.where(sine, s, c), np.where(sine, c, -s) * orders
        ring = np.hypot(states[0], states[1])
        cos_phi, sin_phi = states[:2] / ring
        cos_theta, sin_theta = (ring - R) / r, states[2] / r
        along = np.stack([-sin_theta * cos_phi, -sin_theta * sin_phi, cos_theta])
        about = np.stack([-sin_phi, cos_phi, np.zeros_like(ring)])

        def gradient(weights: np.ndarray) -> np.ndarray:
            return along * ((slope * wave) @ weights / r) + about * ((tube * turned) @ weights / ring)

        return tube * wave, gradient

    return ExactSpectrum(np.array([row[0] for row in found]), evaluate)


def _trigonometric(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2 K + 1) values of 1, cos k theta, sin k theta, and their derivatives."""
    orders = np.arange(1, _HARMONICS + 1)
    angle = theta[:, None] * orders
    c, s = np.cos(angle), np.sin(angle)
    one = np.ones((len(theta), 1))
    return np.hstack([one, c, s]), np.hstack([0 * one, -orders * s, orders * c])


def _separable(system: Diffusion, count: int) -> ExactSpectrum:
    lines = [_line(part, system.temperature, count) for part in _parts(system)]
    combinations = sorted(
        (sum(line[0][k] for line, k in zip(lines, indices)), indices)
        for indices in _small_indices([line[0] for line in lines], count + 1)
    )[1 : count + 1]
    rates = np.array([rate for rate, _ in combinations])
    chosen = np.array([indices for _, indices in combinations])

    def evaluate(states: np.ndarray):
        tables = [
            (spline(np.clip(x, low, high))[:, chosen[:, a]], slope(np.clip(x, low, high))[:, chosen[:, a]])
            for a, (x, (_, spline, slope, low, high)) in enumerate(zip(states, lines))
        ]
        values = np.prod([table[0] for table in tables], axis=0)

        def gradient(weights: np.ndarray) -> np.ndarray:
            rows = []
            for a, (_, derivative) in enumerate(tables):
                others = [tables[b][0] for b in range(len(tables)) if b != a]
                rows.append(np.prod([derivative, *others], axis=0) @ weights)
            return np.array(rows)

        return values, gradient

    return ExactSpectrum(rates, evaluate, system.temperature)


def _parts(system: Diffusion) -> list[Callable[[np.ndarray], np.ndarray]]:
    """V_a of each variable, V = sum_a V_a up to a constant."""
    import sympy

    names = symbols(system.variables)
    V = Expression(system.potential, system.variables).symbolic()
    for x, y in itertools.combinations(names, 2):
        if sympy.simplify(sympy.diff(V, x, y)) != 0:
            raise SpdeError(f"the exact spectrum is known where the potential separates, and it couples {x} and {y}")
    parts = []
    for x in names:
        part = sympy.lambdify(x, V.subs({other: 0 for other in names if other != x}), "numpy")
        parts.append(lambda values, part=part: np.broadcast_to(part(values), np.shape(values)))
    return parts


def _line(V: Callable, temperature: float, count: int):
    """Rates, eigenfunctions and derivatives (splines) of -T f'' + V' f' on the part of the line with any mass."""
    low, high = -1.0, 1.0
    for _ in range(_ATTEMPTS):
        x, width = np.linspace(low, high, 20001), high - low
        inside = x[(V(x) - V(x).min()) / temperature < _DEPTH]
        cut = inside[0] == x[0], inside[-1] == x[-1]
        if not any(cut) and inside[-1] - inside[0] > width / 4:
            break
        margin = 0.05 * (inside[-1] - inside[0]) + 1e-12
        low, high = (low - width if cut[0] else inside[0] - margin), (high + width if cut[1] else inside[-1] + margin)
    else:
        raise SpdeError("the potential does not confine the state")
    edges = np.linspace(inside[0], inside[-1], _NODES + 1)
    width = edges[1] - edges[0]
    x = (edges[1:] + edges[:-1]) / 2
    shift = V(x).min()
    mass = np.exp(-(V(x) - shift) / temperature)
    total = mass.sum()
    mass /= total
    between = temperature / width**2 * np.exp(-(V(edges[1:-1]) - shift) / temperature) / total
    # finite volumes: sum over neighbours of conductance (f_i - f_j)^2 = rate sum mass f^2
    diagonal = np.append(between, 0.0) + np.append(0.0, between)
    root = np.sqrt(mass)
    rates, vectors = scipy.linalg.eigh_tridiagonal(
        diagonal / mass, -between / (root[1:] * root[:-1]), select="i", select_range=(0, min(count, 63))
    )
    functions = vectors / root[:, None]
    functions *= np.sign(functions[-1])
    rates[0], functions[:, 0] = 0.0, 1.0
    from scipy.interpolate import CubicSpline  # and scipy.optimize with it: a quarter of a second for every rank

    spline = CubicSpline(x, functions)
    return rates, spline, spline.derivative(), x[0], x[-1]


def _small_indices(rates: list[np.ndarray], count: int) -> list[tuple[int, ...]]:
    """Index tuples among which are those of the `count` smallest sums of one rate of each list."""
    found: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for line in rates:
        found = sorted((sum_ + rate, (*indices, k)) for sum_, indices in found for k, rate in enumerate(line))[:count]
    return [indices for _, indices in found]
