"""Brownian motion and Langevin dynamics on circle, sphere and torus: transition laws, invariant laws, orders."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from numpy.polynomial import legendre
from orders import expectation, observed_orders, projected, quadrature, strong_errors, weak_errors

from spde.errors import ExpressionError, SpdeError
from spde.expressions import Expression
from spde.manifolds import Circle, ManifoldDiffusion, Sphere, Torus
from spde.stepping import Noise

MANIFOLDS = {"circle": Circle(1.3), "sphere": Sphere(0.7), "torus": Torus(2.0, 0.8)}
TORUS = MANIFOLDS["torus"]
TORUS_RATES = [0.257239, 0.902844, 1.540200]  # method.md section 5: twice, twice, once


def points_on(manifold, count=50, seed=0):
    return manifold.retract(np.random.default_rng(seed).normal(size=(len(manifold.variables), count)))


def torus_points(theta, phi=0.0):
    ring = TORUS.R + TORUS.r * np.cos(theta)
    return np.stack([ring * np.cos(phi), ring * np.sin(phi), TORUS.r * np.sin(theta)])


def torus_theta(states):
    return TORUS.angles_of(states)["theta"]


@pytest.mark.parametrize("manifold", MANIFOLDS.values(), ids=MANIFOLDS)
def test_retraction_ends_on_the_manifold_at_the_nearest_point(manifold):
    points = points_on(manifold)
    np.testing.assert_allclose(manifold.retract(points), points, atol=1e-15)
    np.testing.assert_allclose(manifold.retract(points + 0.3 * manifold.normal(points)), points, atol=1e-14)
    special = np.zeros((len(points), 1))
    np.testing.assert_allclose(manifold.retract(manifold.retract(special)), manifold.retract(special), atol=1e-15)
    x, y = points[:2]
    if isinstance(manifold, Torus):
        np.testing.assert_allclose((np.hypot(x, y) - 2) ** 2 + points[2] ** 2, 0.8**2, rtol=1e-13)
    else:
        np.testing.assert_allclose((points**2).sum(axis=0), manifold.radius**2, rtol=1e-14)


@pytest.mark.parametrize("manifold", MANIFOLDS.values(), ids=MANIFOLDS)
def test_frame_is_orthonormal_and_tangent_and_gives_the_mobility(manifold):
    points = points_on(manifold)
    frame, normal = manifold.frame(points), manifold.normal(points).T
    k, d = len(frame), len(points)
    assert k == d - 1
    products = np.einsum("knd,lnd->nkl", frame, frame)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(k), products.shape), atol=1e-14)
    np.testing.assert_allclose(np.einsum("knd,nd->kn", frame, normal), 0, atol=1e-14)
    # moving along the frame stays on the manifold to second order, moving along the normal does not
    for direction in frame:
        moved = points + 1e-4 * direction.T
        assert np.abs(manifold.retract(moved) - moved).max() < 1e-7
    vectors = np.random.default_rng(1).normal(size=(len(normal), d))
    mobility = ManifoldDiffusion(manifold, "x", 0.3).mobility
    by_frame = 0.3 * np.einsum("knd,kn->nd", frame, np.einsum("knd,nd->kn", frame, vectors))
    np.testing.assert_allclose(mobility.apply(points, vectors), by_frame, atol=1e-14)
    np.testing.assert_allclose(manifold.tangential(points, vectors.T.copy()).T, by_frame / 0.3, atol=1e-14)
    np.testing.assert_allclose(mobility.average(None, points), 0.3 * np.eye(d))


@pytest.mark.parametrize("manifold", MANIFOLDS.values(), ids=MANIFOLDS)
def test_drift_and_mobility_are_those_of_one_short_step(manifold):
    """Mean and covariance of the displacement over a step h are h b(x) and 2 h M(x), up to h^2."""
    system, points = ManifoldDiffusion(manifold, "x**2 + 0.5*x*y", 0.4), points_on(manifold, 5)
    rule = quadrature(manifold.normals_per_step, 12)
    found = []
    for h in (2e-3, 1e-3):
        stepper = system.stepper(h)
        mean = expectation(stepper, lambda s: s.T, points, rule) - points.T
        square = expectation(stepper, lambda s: np.einsum("in,jn->nij", s, s), points, rule)
        square += points.T[:, :, None] * points.T[:, None, :]
        cross = (mean + points.T)[:, :, None] * points.T[:, None, :]
        found.append((mean / h, (square - cross - cross.transpose(0, 2, 1)) / h))
    directions = system.mobility.directions(points)
    mobility = np.einsum("knd,kne->nde", directions, directions)
    for coarse, fine, exact in zip(*found, (system.drift(points).T, 2 * mobility), strict=True):
        np.testing.assert_allclose(2 * fine - coarse, exact, atol=2e-4 * np.abs(exact).max())
        assert np.abs(fine - exact).max() < 0.02 * np.abs(exact).max()


@pytest.mark.parametrize("h", [0.01, 0.8])
def test_circle_is_stepped_by_its_exact_law(h):
    system = ManifoldDiffusion(MANIFOLDS["circle"])
    start = points_on(system.manifold, 5)
    for k in (1, 2, 3):
        harmonic = lambda s, k=k: np.exp(1j * k * np.arctan2(s[1], s[0]))  # noqa: E731
        found = expectation(system.stepper(h), harmonic, start, quadrature(1, 64))
        np.testing.assert_allclose(found, np.exp(-(k**2) * h / 1.3**2) * harmonic(start), atol=1e-12)


@pytest.mark.parametrize("h", [0.01, 0.2])
def test_sphere_step_multiplies_spherical_harmonics_by_what_its_docstring_says(h):
    sphere = MANIFOLDS["sphere"]
    system, tau = ManifoldDiffusion(sphere), np.tanh(h / 0.7**2)
    start, pole = points_on(sphere, 4), np.array([0.48, 0.6, 0.64])
    for degree in (1, 2, 3, 4):
        zonal = lambda s, n=degree: legendre.legval(pole @ s / 0.7, np.eye(n + 1)[n])  # noqa: E731
        j = np.arange(1, degree + 1)
        factor = np.prod((1 - j * tau) / (1 + j * tau))
        found = expectation(system.stepper(h), zonal, start, quadrature(3, 24))
        np.testing.assert_allclose(found, factor * zonal(start), atol=2e-7)


def test_sphere_rates_have_order_two_and_the_slowest_is_exact():
    for degree, exact in ((1, 2), (2, 6), (3, 12)):
        errors = []
        for h in (0.02, 0.01):
            j = np.arange(1, degree + 1) * np.tanh(h)
            errors.append(abs(2 / h * np.arctanh(j).sum() - exact))
        if degree == 1:
            assert max(errors) < 1e-12
        else:
            np.testing.assert_allclose(np.log2(errors[0] / errors[1]), 2, atol=0.05)


def torus_generator(k, modes, potential=lambda t: 0 * t, temperature=1.0):
    """Basis exp(i m theta) cos(k phi) at phi = 0, and T Laplacian - grad V . grad of it; V a function of theta."""
    m = np.arange(-modes, modes + 1)
    theta = 2 * np.pi * np.arange(4 * modes) / (4 * modes)
    ring = TORUS.R + TORUS.r * np.cos(theta)
    slope = (potential(theta + 1e-6) - potential(theta - 1e-6)) / 2e-6
    first = (-temperature * TORUS.r * np.sin(theta) / ring - slope) / TORUS.r**2
    values = np.exp(1j * np.outer(theta, m))
    derivative = first[:, None] * 1j * m - temperature * (m**2 / TORUS.r**2 + k**2 / ring[:, None] ** 2)
    return torus_points(theta), derivative * values


def torus_basis(states, k, modes):
    angles = TORUS.angles_of(states)
    m = np.arange(-modes, modes + 1)
    return np.exp(1j * np.outer(angles["theta"], m)) * np.cos(k * angles["phi"])[:, None]


@pytest.mark.parametrize("k", [0, 1, 2])
def test_torus_step_has_weak_order_two_in_both_angles(k):
    points, generated = torus_generator(k, 14)
    f = lambda s: (np.cos(torus_theta(s)) + np.sin(torus_theta(s))) * np.cos(k * TORUS.angles_of(s)["phi"])  # noqa: E731
    basis, start = partial(torus_basis, k=k, modes=14), torus_points(np.array([0.3, 2.0, 4.0]))
    system = ManifoldDiffusion(TORUS)
    errors = weak_errors(system, "auto", basis, points, generated, f, start, quadrature(2, 14), (10, 20, 40))
    np.testing.assert_allclose(observed_orders(errors), 2, atol=0.15)
    assert errors[-1] < 1e-3


def test_torus_rates_and_area_law_of_the_stepper():
    """Slowest rate for each k and law of the transition operator: the known numbers, and a bias of order two."""
    law_bias, rate_bias = [], []
    for h in (0.02, 0.01):
        rates = []
        for k in (1, 2, 0):
            points, _ = torus_generator(k, 12)
            basis = partial(torus_basis, k=k, modes=12)
            stepper = ManifoldDiffusion(TORUS).stepper(h)
            transfer = projected(basis, points, expectation(stepper, basis, points, quadrature(2, 10)))
            values, left = np.linalg.eig(transfer.T)
            order = np.argsort(-np.abs(values))
            rates.append(-np.log(np.abs(values[order[0 if k else 1]])) / h)
        law = left[:, order[0]] / left[12, order[0]]  # of k = 0: means of exp(i m theta)
        law_bias.append(abs(law[13].real - 0.2))
        rate_bias.append(np.abs(np.array(rates) / TORUS_RATES - 1).max())
    assert law_bias[1] < 1e-4
    assert rate_bias[1] < 1e-4
    np.testing.assert_allclose(observed_orders(law_bias), 2, atol=0.15)
    np.testing.assert_allclose(observed_orders(rate_bias), 2, atol=0.15)


def test_area_law_of_simulated_brownian_motion_on_the_torus():
    """Mean of cos(theta) r / (2 R) = 0.2 and the outer half 62.73 %, within three standard errors."""
    system, batch, records = ManifoldDiffusion(TORUS), 2000, 30
    stepper, noise = system.stepper(0.02), Noise(41, 1, 0)
    states = stepper.advance(points_on(TORUS, batch), noise, 0, 500)
    cosines = np.empty((records, batch))
    for record in range(records):
        states = stepper.advance(states, noise, 500 + 50 * record, 50)
        cosines[record] = np.cos(torus_theta(states))
    for values, exact in ((cosines.mean(axis=0), 0.2), ((cosines > 0).mean(axis=0), 0.6273)):
        error = values.std(ddof=1) / np.sqrt(batch)
        assert error < 0.01
        assert abs(values.mean() - exact) < 3 * error


def test_langevin_on_the_circle_has_weak_order_two():
    m, radius, T = np.arange(-12, 13), 1.3, 0.5
    theta = 2 * np.pi * np.arange(48) / 48
    points = radius * np.stack([np.cos(theta), np.sin(theta)])
    basis = lambda s: np.exp(1j * np.outer(np.arctan2(s[1], s[0]), m))  # noqa: E731
    # V = x y = radius^2 sin(2 theta) / 2
    generated = (-np.cos(2 * theta)[:, None] * 1j * m - T * m**2 / radius**2) * basis(points)
    f = lambda s: (s[0] + s[1] ** 2) / radius  # noqa: E731
    system = ManifoldDiffusion(Circle(radius), "x*y", T)
    errors = weak_errors(system, "auto", basis, points, generated, f, points[:, ::7], quadrature(1, 14))
    np.testing.assert_allclose(observed_orders(errors), 2, atol=0.15)


def test_langevin_on_the_sphere_has_weak_order_two():
    """V = z: functions of z alone, G f = T ((1 - z^2) f'' - 2 z f') - (1 - z^2) f' on the unit sphere."""
    T, degree = 0.5, 12
    z = np.cos(np.pi * (np.arange(30) + 0.5) / 30)
    points = np.stack([np.sqrt(1 - z**2), 0 * z, z])
    basis = lambda s: legendre.legvander(s[2], degree)  # noqa: E731
    rows = np.eye(degree + 1)
    first = np.array([legendre.legval(z, legendre.legder(row)) for row in rows]).T
    second = np.array([legendre.legval(z, legendre.legder(row, 2)) for row in rows]).T
    w = (1 - z**2)[:, None]
    generated = T * (w * second - 2 * z[:, None] * first) - w * first
    start = points[:, ::5]
    system = ManifoldDiffusion(Sphere(1.0), "z", T)
    errors = weak_errors(system, "auto", basis, points, generated, lambda s: s[2] ** 2, start, quadrature(3, 8))
    np.testing.assert_allclose(observed_orders(errors), 2, atol=0.15)


def test_langevin_on_the_torus_has_weak_order_two():
    potential = lambda t: 0.7 * TORUS.r * np.sin(t)  # noqa: E731
    points, generated = torus_generator(0, 14, potential, 0.5)
    basis, start = partial(torus_basis, k=0, modes=14), torus_points(np.array([0.3, 2.0, 4.0]))
    system = ManifoldDiffusion(TORUS, "0.7*z", 0.5)
    f = lambda s: np.cos(torus_theta(s)) + np.sin(2 * torus_theta(s))  # noqa: E731
    errors = weak_errors(system, "auto", basis, points, generated, f, start, quadrature(2, 12))
    np.testing.assert_allclose(observed_orders(errors), 2, atol=0.15)


@pytest.mark.parametrize(
    ("system", "start", "order"),
    [
        (ManifoldDiffusion(Circle(1.0), "x*y"), [1.0, 0.0], 1),
        (ManifoldDiffusion(Sphere(2.0)), [2.0, 0.0, 0.0], 0.5),
        (ManifoldDiffusion(TORUS), [2.8, 0.0, 0.0], 0.5),
    ],
    ids=["circle", "sphere", "torus"],
)
def test_strong_order_is_one_on_a_curve_and_one_half_on_a_surface(system, start, order):
    errors = strong_errors(system, "auto", start, system.manifold.normals_per_step, 4000)
    np.testing.assert_allclose(observed_orders(errors).mean(), order, atol=0.15)


@pytest.mark.parametrize("potential", [None, "x*y"])
@pytest.mark.parametrize("manifold", MANIFOLDS.values(), ids=MANIFOLDS)
def test_a_trajectory_does_not_depend_on_its_batch(manifold, potential):
    stepper = ManifoldDiffusion(manifold, potential, 0.6).stepper(0.05)
    start = points_on(manifold, 13)
    whole = stepper.advance(start, Noise(8, 1, 4), 3, 20)
    part = stepper.advance(stepper.advance(start[:, 5:8], Noise(8, 1, 9), 3, 11), Noise(8, 1, 9), 14, 9)
    assert np.ascontiguousarray(whole[:, 5:8]).tobytes() == part.tobytes()


def test_initial_states_are_moved_to_the_manifold_and_angles_can_be_observed():
    system = ManifoldDiffusion(TORUS)
    states = system.from_fields(np.array([[3.0, -1.0], [0.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(states, [[2.8, -1.2], [0, 0], [0, 0]], atol=1e-15)
    for text, expected in (("cos(theta)", [1, -1]), ("cos(phi)", [1, -1]), ("x > 0", [1, 0])):
        expression = Expression(text, system.observed, reductions=True)
        np.testing.assert_allclose(system.observe(expression, states), expected, atol=1e-15)


def test_what_a_manifold_cannot_do_is_refused():
    with pytest.raises(SpdeError, match=r"R > r: got R = 1, r = 1\.5"):
        Torus(1.0, 1.5)
    with pytest.raises(SpdeError, match="radius must be a positive number"):
        Circle(-1.0)
    with pytest.raises(SpdeError, match="cannot step on a manifold"):
        ManifoldDiffusion(TORUS).stepper(0.1, "heun")
    with pytest.raises(ExpressionError, match="'theta'"):
        ManifoldDiffusion(TORUS, "cos(theta)")
