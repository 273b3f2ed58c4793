"""What the tests of time stepping share: orders of convergence without sampling noise in them.

Weak orders come from the transition operator of one step on a space of functions, by quadrature over the noise,
against the exponential of the generator. Strong orders are distances between steps h and h / 2 on one Brownian path.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.linalg import expm

from spde.stepping import Noise

NOISE = Noise(seed=5, stream=3, first=0)


def quadrature(normals: int, nodes: int, signs: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (normals + signs, n) and weights (n,): Gauss-Hermite for normals, +-1 where only the sign matters."""
    x, w = hermegauss(nodes)
    axes = [x] * normals + [np.array([-1.0, 1.0])] * signs
    weights = [w / w.sum()] * normals + [np.array([0.5, 0.5])] * signs
    grid = [axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]
    return np.array(grid), np.prod([w.ravel() for w in np.meshgrid(*weights, indexing="ij")], axis=0)


def expectation(stepper, function, points: np.ndarray, rule: tuple) -> np.ndarray:
    """(P, ...) of E[function(X')] after one step from points (d, P); function maps (d, n) to (n, ...)."""
    nodes, weights = rule
    states = np.ascontiguousarray(np.repeat(points, len(weights), axis=1))
    given = replace(NOISE, table=np.ascontiguousarray(np.tile(nodes, points.shape[1]))[None])
    values = function(stepper.advance(states, given, 0, 1))
    return np.einsum("q,pq...->p...", weights, values.reshape(points.shape[1], len(weights), *values.shape[1:]))


def projected(basis, points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(n, ...) coefficients in the basis of functions known by their values (P, ...) at points."""
    return np.linalg.lstsq(basis(points), values, rcond=None)[0]


def weak_errors(system, scheme, basis, points, generated, function, start, rule, steps=(8, 16, 32)) -> list[float]:
    """Largest errors of E[f(X_1)] over starts, at time steps 1 / steps.

    Parameters
    ----------
    basis : states (d, n) to values (n, N); points (d, P) enough to tell the N functions apart
    generated : (P, N) values of the generator applied to the basis, at the points
    function : f, states (d, n) to (n,), in the span of the basis
    start : (d, m) states; rule : see `quadrature`
    """
    f = projected(basis, points, function(points))
    exact = basis(start) @ (expm(projected(basis, points, generated)) @ f)
    errors = []
    for n in steps:
        transfer = projected(basis, points, expectation(system.stepper(1 / n, scheme), basis, points, rule))
        errors.append(float(np.abs(basis(start) @ np.linalg.matrix_power(transfer, n) @ f - exact).max()))
    return errors


def strong_errors(system, scheme, start, rows, batch, finest=128, coarsen=None) -> list[float]:
    """Root mean square distances at time 1 between time steps that halve, from 1/16 to 1 / finest, on one path.

    Parameters
    ----------
    start : (d,) state; rows : normals a step
    coarsen : normals of twice the step from pairs (first, second, h) of normals of the step h; Brownian increments if
        left out
    """
    coarsen = coarsen or (lambda first, second, _h: (first + second) / np.sqrt(2))
    noise, ends, steps = np.random.default_rng(7).normal(size=(finest, rows, batch)), [], finest
    while steps >= 16:
        column = np.repeat(np.asarray(start, dtype=float)[:, None], batch, axis=1)
        ends.append(system.stepper(1 / steps, scheme).advance(column, replace(NOISE, table=noise), 0, steps))
        noise = coarsen(noise[0::2], noise[1::2], 1 / steps)
        steps //= 2
    return [float(np.sqrt(((a - b) ** 2).sum(axis=0).mean())) for a, b in pairwise(ends)][::-1]


def observed_orders(errors) -> np.ndarray:
    """Orders between time steps that halve."""
    return np.log2(np.asarray(errors)[:-1] / np.asarray(errors)[1:])
