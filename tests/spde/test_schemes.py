"""Schemes: orders of convergence, stationary laws of linear equations, stability.

Orders are measured in one variable, where they can be had without doubt: strong orders on one Brownian path
(for exponential schemes: on the stochastic convolutions of one path), weak orders with the transition
operator of the scheme, by quadrature over the noise, against the exact semigroup.
"""

from itertools import pairwise

import numpy as np
import pytest
from fields import custom, named
from scipy.integrate import solve_ivp
from scipy.interpolate import make_interp_spline
from scipy.linalg import expm

from spde.diffusions import Diffusion
from spde.domain import Interval
from spde.errors import SpdeError
from spde.schemes import ADDITIVE
from spde.schemes.coefficients import convolution_scale, phi1, phi2
from spde.stepping import Noise

NOISE = Noise(seed=5, stream=3, first=0)
EXPONENTIAL = ("exponential_euler", "exponential_heun")
# one variable, dX = -sin(X) dt + dW: as a field on one point the slope -1 at zero goes into the linear part
SCALAR_FIELD = custom(Interval(1.0, 1), 0.0, "-sin(u)", 1.0)
SCALAR_DIFFUSION = Diffusion(("x",), ["-sin(x)"], np.eye(1))
ORDERS = {
    "euler_maruyama": 1,
    "semi_implicit": 1,
    "exponential_euler": 1,
    "exponential_heun": 2,
    "lie_splitting": 1,
    "strang_splitting": 2,
}


def observed_orders(errors):
    """Orders between time steps that halve."""
    return np.log2(np.asarray(errors)[:-1] / np.asarray(errors)[1:])


def strong_errors(system, scheme):
    """Root mean square distance at time 1 between neighbouring time steps 1/16 ... 1/128 on one Brownian path."""
    ends = []
    for merged, steps in enumerate((128, 64, 32, 16)):
        noise = Noise(seed=5, stream=3, first=0, merged=merged)
        ends.append(system.stepper(1 / steps, scheme).advance(np.full((1, 10000), 1.0), noise, 0, steps))
    return [np.sqrt(((a - b) ** 2).mean()) for a, b in pairwise(ends)][::-1]


@pytest.mark.parametrize("scheme", ORDERS)
def test_strong_order_is_one_for_additive_noise(scheme):
    errors = strong_errors(SCALAR_FIELD, scheme)
    np.testing.assert_allclose(observed_orders(errors).mean(), 1, atol=0.15)


@pytest.mark.parametrize("scheme", ["heun", "euler_maruyama"])
def test_strong_order_of_a_diffusion_is_one_for_additive_noise(scheme):
    errors = strong_errors(SCALAR_DIFFUSION, scheme)
    np.testing.assert_allclose(observed_orders(errors).mean(), 1, atol=0.15)


def exact_expectation(start, time, modes=40):
    """E cos(X_t) + sin(X_t) for dX = -sin(X) dt + dW: the backward equation in Fourier space."""
    k = np.arange(-modes, modes + 1)
    generator = np.diag(-(k**2) / 2.0) + np.diag(-k[:-1] / 2.0, -1) + np.diag(k[1:] / 2.0, 1)
    f = np.zeros(len(k), dtype=complex)
    f[modes + 1], f[modes - 1] = (1 - 1j) / 2, (1 + 1j) / 2
    return float((np.exp(1j * k * start) @ expm(time * generator) @ f).real)


def weak_errors(system, scheme):
    """Errors of E cos(X_1) + sin(X_1), X_0 = 1, at time steps 1/8 ... 1/64, no sampling in them."""
    x = np.linspace(-10, 10, 801)
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    nodes, draws = nodes[None], 2 if scheme == "strang_splitting" else 1
    if draws == 2:  # a product rule for the two half steps
        once, weight = np.polynomial.hermite_e.hermegauss(12)
        nodes, weights = np.array([np.repeat(once, 12), np.tile(once, 12)]), np.outer(weight, weight).ravel()
    given = Noise(0, 0, 0, table=np.repeat(nodes, len(x), axis=1)[:, None])
    errors = []
    for steps in (8, 16, 32, 64):
        stepper = system.stepper(1 / steps, scheme)
        after = stepper.advance(np.tile(x, len(weights))[None], given, 0, 1)
        after = np.clip(after, -10, 10).reshape(len(weights), len(x))
        values = np.cos(x) + np.sin(x)
        for _ in range(steps):
            values = weights @ make_interp_spline(x, values, 5)(after) / weights.sum()
        errors.append(abs(make_interp_spline(x, values, 5)(1.0) - exact_expectation(1.0, 1.0)))
    return errors


@pytest.mark.parametrize(("scheme", "order"), ORDERS.items())
def test_weak_order_of_an_equation(scheme, order):
    errors = weak_errors(SCALAR_FIELD, scheme)
    np.testing.assert_allclose(observed_orders(errors)[1:], order, atol=0.15)
    assert errors[-1] < (1e-2 if order == 1 else 1e-4)


@pytest.mark.parametrize(("scheme", "order"), [("heun", 2), ("auto", 2), ("euler_maruyama", 1)])
def test_weak_order_of_a_diffusion(scheme, order):
    errors = weak_errors(SCALAR_DIFFUSION, scheme)
    np.testing.assert_allclose(observed_orders(errors)[1:], order, atol=0.15)
    assert errors[-1] < (1e-2 if order == 1 else 1e-4)


@pytest.mark.parametrize(("scheme", "order"), ORDERS.items())
def test_order_in_time_without_noise(scheme, order):
    """Allen-Cahn and its neighbour with linear damping, against an adaptive high-order integrator."""
    interval = Interval(4.0, 8)
    start = (1.5 * np.cos(np.pi * interval.grid / 4) + 0.2)[:, None]
    for reaction in ("u - u**3", "-u - u**3"):
        equation = custom(interval, 0.5, reaction, 0.0)
        sign = 1 if reaction.startswith("u") else -1

        def drift(_t, u, sign=sign):
            padded = np.pad(u, 1, mode="edge")
            return 0.5 * np.diff(padded, 2) / 0.5**2 + sign * u - u**3

        exact = solve_ivp(drift, (0, 1), start[:, 0], method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
        errors = [
            np.abs(equation.stepper(1 / n, scheme).advance(start, NOISE, 0, n)[:, 0] - exact).max()
            for n in (64, 128, 256)
        ]
        np.testing.assert_allclose(observed_orders(errors), order, atol=0.15)


def heat(points=8, discretization="spectral", damping=0.5):
    interval = Interval(3.0, points, "neumann", discretization)
    return named("heat", interval, 0.7, {"nu": 0.5, "damping": damping})


@pytest.mark.parametrize("scheme", EXPONENTIAL)
@pytest.mark.parametrize("time_step", [0.1, 2.0])
def test_exponential_schemes_have_the_exact_stationary_law_of_linear_equations(scheme, time_step):
    """Variance sigma^2 / (2 a) and autocovariance times exp(-a t) per mode, however large the step."""
    equation, batch = heat(), 20000
    exact = 0.7**2 / (2 * equation.rates)
    stepper = equation.stepper(time_step, scheme)
    burn = int(np.ceil(15 / time_step))
    first = stepper.advance(np.zeros((8, batch)), NOISE, 0, burn)
    variance = (first**2).mean(axis=1)
    scores = (variance / exact - 1) / np.sqrt(2 / batch)
    assert np.abs(scores).max() < 3
    second = stepper.advance(first, NOISE, burn, 3)
    correlation = np.exp(-3 * time_step * equation.rates)
    error = exact * np.sqrt((1 + correlation**2) / batch)
    assert np.abs(((first * second).mean(axis=1) - exact * correlation) / error).max() < 3


def test_one_step_of_an_exponential_scheme_is_any_number_of_small_ones_in_law():
    """Decay and variance of the convolution compose exactly: no time-step error in linear equations."""
    rates = np.array([0.0, 0.3, 4.0, 500.0])
    for scheme in EXPONENTIAL:
        small, large = (ADDITIVE[scheme](rates, 1.3, h) for h in (0.05, 0.5))
        np.testing.assert_allclose(large.decay, small.decay**10, rtol=1e-13)
        composed = small.scale**2 * sum(small.decay ** (2 * k) for k in range(10))
        np.testing.assert_allclose(large.scale**2, composed, rtol=1e-13)


@pytest.mark.parametrize(
    ("scheme", "factor"),
    [("euler_maruyama", lambda z: 1 / (1 - z / 2)), ("semi_implicit", lambda z: 1 / (1 + z / 2))],
)
def test_documented_bias_of_the_stationary_variance(scheme, factor):
    equation, batch = heat(points=4), 20000
    time_step = 0.95 * 2 / equation.rates.max() if scheme == "euler_maruyama" else 0.4
    stepper = equation.stepper(time_step, scheme)
    states = stepper.advance(np.zeros((4, batch)), NOISE, 0, int(np.ceil(15 / time_step)))
    bias = factor(equation.rates * time_step)
    assert abs(np.log(bias)).max() > np.log(1.2)
    exact = 0.7**2 / (2 * equation.rates) * bias
    scores = ((states**2).mean(axis=1) / exact - 1) / np.sqrt(2 / batch)
    assert np.abs(scores).max() < 3


def test_without_rates_noise_is_brownian_for_every_scheme():
    for coefficients in ADDITIVE.values():
        table = coefficients(np.zeros(2), 1.5, 0.04)
        np.testing.assert_allclose(table.decay, 1)
        np.testing.assert_allclose(table.gain, 0.04)
        np.testing.assert_allclose(table.scale, 1.5 * 0.2)
    np.testing.assert_allclose(ADDITIVE["exponential_heun"](np.zeros(2), 1.0, 0.04).correction, 0.02)


def test_phi_functions_are_accurate_near_zero_and_far_from_it():
    mpmath = pytest.importorskip("mpmath")
    z = np.concatenate([-np.logspace(-18, 3, 200), np.logspace(-18, 1, 50), [0.0, -0.05, -0.04999, 0.05]])
    with mpmath.workdps(60):
        exact = [mpmath.mpf(float(value)) for value in z]
        first = [float(mpmath.expm1(v) / v) if v else 1.0 for v in exact]
        second = [float((mpmath.expm1(v) - v) / v**2) if v else 0.5 for v in exact]
    np.testing.assert_allclose(phi1(z), first, rtol=1e-15)
    np.testing.assert_allclose(phi2(z), second, rtol=2e-12)


def test_convolution_scale_is_brownian_for_slow_modes_and_stationary_for_fast_ones():
    scale = convolution_scale(np.array([0.0, 1e-12, 1e9]), 2.0, 0.01)
    np.testing.assert_allclose(scale**2, [0.04, 0.04, 4.0 / 2e9], rtol=1e-10)


def test_euler_maruyama_refuses_an_unstable_step_by_name():
    equation = heat(points=32)
    limit = 2 / equation.rates.max()
    equation.stepper(0.99 * limit, "euler_maruyama")
    with pytest.raises(SpdeError, match=r"stability limit .* of euler_maruyama"):
        equation.stepper(1.01 * limit, "euler_maruyama")
    for scheme in ("semi_implicit", *EXPONENTIAL):
        states = equation.stepper(100 * limit, scheme).advance(np.ones((32, 1)), NOISE, 0, 50)
        assert np.abs(states).max() < 20


def test_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(SpdeError, match=r"heun.*euler_maruyama"):
        heat().stepper(0.1, "heun")
    with pytest.raises(SpdeError, match=r"milstein.* is not for additive noise"):
        heat().stepper(0.1, "milstein")


def test_auto_is_exponential_heun():
    equation = custom(Interval(2.0, 6), 1.0, "u - u**3", 0.5)
    start = np.ones((6, 2))
    chosen = [equation.stepper(0.1, name).advance(start, NOISE, 0, 4) for name in ("auto", "exponential_heun")]
    np.testing.assert_array_equal(*chosen)
