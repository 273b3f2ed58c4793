"""Noise that is multiplied by the field: orders of convergence, laws, interpretation."""

from itertools import pairwise

import numpy as np
import pytest
from fields import custom, named
from orders import NOISE, observed_orders, quadrature, weak_errors

from spde.domain import Domain, Interval
from spde.errors import SpdeError
from spde.noise import Covariance
from spde.stepping import Noise

AMPLITUDE = "1 + 0.4*cos(u)"
# a field on one point without diffusion is one stochastic differential equation
SCALAR = custom(Interval(1.0, 1, "periodic"), 0.0, "-sin(u)", AMPLITUDE)
COLOURED = Covariance("exponential", 0.5)
STRONG = {"euler_maruyama": 0.5, "semi_implicit": 0.5, "exponential_euler": 0.5, "milstein": 1.0}


def strong_errors(equation, scheme, start, finest=256, batch=4000):
    """Root mean square distance at time 1 between time steps that halve, on one Brownian path."""
    ends = []
    for merged in range(4):
        steps, noise = finest >> merged, Noise(5, 3, 0, merged)
        column = np.repeat(start[:, None], batch, axis=1)
        ends.append(equation.stepper(1 / steps, scheme).advance(column, noise, 0, steps))
    return [np.sqrt(((a - b) ** 2).mean()) for a, b in pairwise(ends)][::-1]


@pytest.mark.parametrize(("scheme", "order"), STRONG.items())
def test_strong_order(scheme, order):
    errors = strong_errors(SCALAR, scheme, np.ones(1), batch=20_000)
    np.testing.assert_allclose(observed_orders(errors).mean(), order, atol=0.15)


@pytest.mark.parametrize(("scheme", "order"), [("exponential_euler", 0.5), ("milstein", 1.0)])
def test_strong_order_of_a_field_with_coloured_noise(scheme, order):
    """Noise of all points is correlated; it still commutes, since the field multiplies it point by point."""
    equation = custom(Interval(3.0, 8), 0.3, "u - u**3", "1 + 0.6*cos(2*u)", covariance=COLOURED)
    errors = strong_errors(equation, scheme, np.linspace(-1, 1, 8), batch=2000)
    np.testing.assert_allclose(observed_orders(errors).mean(), order, atol=0.15)


def waves(states, count=12):
    """(n, 2 count + 1) Fourier basis on the circle of u."""
    k = np.arange(1, count + 1)
    phase = states[0][:, None] * k
    return np.concatenate([np.ones((states.shape[1], 1)), np.cos(phase), np.sin(phase)], axis=1)


def generated(states, count=12):
    """Generator -sin(u) d/du + (1 + 0.4 cos u)^2 / 2 d^2/du^2 applied to `waves`."""
    k, u = np.arange(1, count + 1), states[0][:, None]
    drift, half = -np.sin(u), (1 + 0.4 * np.cos(u)) ** 2 / 2
    cosines = -drift * k * np.sin(k * u) - half * k**2 * np.cos(k * u)
    sines = drift * k * np.cos(k * u) - half * k**2 * np.sin(k * u)
    return np.concatenate([0 * u, cosines, sines], axis=1)


@pytest.mark.parametrize("scheme", STRONG)
def test_weak_order_is_one(scheme):
    points = np.linspace(0, 2 * np.pi, 60, endpoint=False)[None]
    errors = weak_errors(
        SCALAR, scheme, waves, points, generated(points), lambda s: np.cos(s[0]) + np.sin(s[0]),
        np.array([[0.3, 1.0, 2.5]]), quadrature(1, 20), steps=(16, 32, 64),
    )  # fmt: skip
    np.testing.assert_allclose(observed_orders(errors), 1, atol=0.15)


def test_constant_amplitude_gives_the_additive_schemes():
    """Where g does not depend on u after all, every scheme is what it is for additive noise."""
    domain, start = Interval(2.0, 12), np.linspace(-1, 1, 12)[:, None] * np.ones(3)
    additive = custom(domain, 0.5, "u - u**3", 0.7, covariance=COLOURED)
    multiplied = custom(domain, 0.5, "u - u**3", "0.7 + 0*u + 0*x + 1e-300*u", covariance=COLOURED)
    assert multiplied.is_multiplicative
    for scheme in ("euler_maruyama", "semi_implicit", "exponential_euler"):
        a, b = (e.stepper(0.01, scheme).advance(start, NOISE, 0, 20) for e in (additive, multiplied))
        if scheme != "exponential_euler":
            np.testing.assert_allclose(a, b, atol=1e-12)
        else:  # the convolution has the same law, mode by mode
            np.testing.assert_allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("kind", ["finite_difference", "spectral"])
def test_ito_noise_adds_no_drift_and_stratonovich_noise_half_g_dg(kind):
    """E du/dt at the start, over many paths, for g = 1 + u/2: zero, or g g' C(x, x) / 2."""
    batch, h = 40_000, 1e-3
    for interpretation in ("ito", "stratonovich"):
        equation = custom(
            Interval(2.0, 8, "periodic", kind), 0.0, "0", "1 + u/2", covariance=COLOURED, interpretation=interpretation
        )
        start = equation.from_fields(np.full((equation.domain.grid_size, batch), 0.4))
        for scheme in ("milstein", "exponential_euler"):
            end = equation.fields(equation.stepper(h, scheme).advance(start, NOISE, 0, 1))
            rate, variance = (end - 0.4) / h, equation.noise_variance
            g = 1.2
            expected = g * 0.5 * variance / 2 if interpretation == "stratonovich" else 0 * variance
            error = g * np.sqrt(variance / h / batch)
            assert (np.abs(rate.mean(axis=1) - expected) < 3.5 * error).all()
            if interpretation == "stratonovich":
                assert (expected > 10 * error).any() or expected.min() > 0.2


def test_geometric_noise_has_the_moments_of_its_closed_form():
    """du = -a u dt + s u dW at one point: E u = e^{-a t}, E u^2 = e^{(s^2 - 2 a) t}."""
    equation = custom(Interval(1.0, 1, "periodic"), 0.0, "-0.5*u", "0.4*u")
    batch = 100_000
    end = equation.stepper(0.01).advance(np.ones((1, batch)), NOISE, 0, 100)[0]
    for power, exact in ((1, np.exp(-0.5)), (2, np.exp(0.16 - 1.0))):
        values = end**power
        assert abs(values.mean() - exact) < 3 * values.std() / np.sqrt(batch) + 2e-3 * exact


def test_white_multiplicative_noise_scales_with_the_grid():
    batch, h = 4000, 1e-4
    for scheme in ("euler_maruyama", "semi_implicit", "milstein"):
        for n in (8, 32):
            equation = custom(Interval(2.5, n), 1e-9, "0", "0.5*(1 + u)")
            end = equation.stepper(h, scheme).advance(np.ones((n, batch)), NOISE, 0, 1) - 1.0
            expected = h / equation.domain.cell
            assert abs((end**2).mean() / expected - 1) < 4 * np.sqrt(2 / (n * batch)) + 1e-2


def test_fused_and_general_steps_agree():
    """White noise on a grid is stepped in one pass; the same equation in modes has the same law of one step."""
    domain, batch, h = Interval(2.0, 6), 40_000, 1e-3
    white = custom(domain, 0.5, "u - u**3", "1 + 0.3*u")
    start = np.linspace(-1, 1, 6)[:, None] * np.ones(batch)
    ends = [white.stepper(h, scheme).advance(start, NOISE, 0, 1) for scheme in ("semi_implicit", "exponential_euler")]
    for power in (1, 2):
        means = [((end - start) ** power).mean(axis=1) for end in ends]
        errors = [((end - start) ** power).std(axis=1) / np.sqrt(batch) for end in ends]
        assert (np.abs(means[0] - means[1]) < 3.5 * np.hypot(*errors) + 0.01 * np.abs(means[1])).all()


def test_what_has_no_meaning_is_refused():
    with pytest.raises(SpdeError, match="Stratonovich correction"):
        custom(Interval(2.0, 8), 1.0, "0", "1 + u", interpretation="stratonovich")
    crossed = named("fitzhugh_nagumo", Domain.box(2.0, 8), ["0.3*v", 0.1])
    assert crossed.choose_scheme()[0] == "exponential_euler"
    with pytest.raises(SpdeError, match="noise that commutes"):
        crossed.stepper(0.01, "milstein")
    with pytest.raises(SpdeError, match="not for multiplicative noise"):
        crossed.stepper(0.01, "strang_splitting")


@pytest.mark.parametrize("kind", ["finite_difference", "spectral"])
def test_mobility_is_half_the_covariance_of_one_step(kind):
    """M(x) from its action and from its directions, against steps without drift."""
    domain = Interval(2.0, 5, "neumann", kind)
    for covariance in (COLOURED, Covariance()):
        equation = custom(domain, 1e-12, "0", "1 + 0.5*sin(u)", covariance=covariance)
        x = np.random.default_rng(4).normal(size=(5, 2))
        found = np.array([equation.mobility.apply(x, np.repeat(e[None], 2, axis=0)) for e in np.eye(5)])  # (d, n, d)
        J = np.random.default_rng(5).normal(size=(3, 5))
        directions = equation.mobility.seen_by(J, x)
        h, batch = 1e-6, 100_000
        for n in range(2):
            start = np.repeat(x[:, n : n + 1], batch, axis=1)
            moved = equation.stepper(h, "exponential_euler").advance(start, NOISE, 0, 1) - start
            products = (moved[:, None] * moved[None]) / (2 * h)
            error = products.std(axis=2) / np.sqrt(batch)
            assert (np.abs(products.mean(axis=2) - found[:, n]) < 4 * error + 1e-9).all()
            reduced = np.einsum("kc,ke->ce", directions[:, n], directions[:, n])
            np.testing.assert_allclose(reduced, J @ found[:, n] @ J.T, rtol=1e-10, atol=1e-12)
