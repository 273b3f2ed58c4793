"""Diffusions with constant noise: drift, mobility, invariant laws."""

import numpy as np
import pytest
from scipy.linalg import expm, solve_continuous_lyapunov

from spde.diffusions import Diffusion, langevin
from spde.errors import ExpressionError, SpdeError
from spde.expressions import Expression
from spde.stepping import Noise

FOUR_WELLS = "(x**2 - 1)**2 + (y**2 - 1)**2"


@pytest.mark.parametrize(
    ("variables", "potential", "function"),
    [
        (("x", "y"), FOUR_WELLS, lambda s: (s[0] ** 2 - 1) ** 2 + (s[1] ** 2 - 1) ** 2),
        (
            ("x", "y", "z"),
            "exp(-x**2)*cos(y) + z**4/4 + 0.3*x*z + sqrt(1 + y**2)",
            lambda s: np.exp(-(s[0] ** 2)) * np.cos(s[1]) + s[2] ** 4 / 4 + 0.3 * s[0] * s[2] + np.hypot(1, s[1]),
        ),
        (("q",), "abs(q)**3 + log(2 + cos(q))", lambda s: np.abs(s[0]) ** 3 + np.log(2 + np.cos(s[0]))),
    ],
)
def test_langevin_drift_is_minus_the_gradient_of_the_potential(variables, potential, function):
    states, h = np.random.default_rng(1).normal(size=(len(variables), 6)), 1e-5
    for temperature in (0.25, 2.0):
        system = langevin(variables, potential, temperature)
        gradient = []
        for i in range(len(variables)):
            shift = h * np.eye(len(variables))[:, [i]]
            gradient.append((function(states + shift) - function(states - shift)) / (2 * h))
        np.testing.assert_allclose(system.drift(states), -np.array(gradient), atol=1e-8)
        np.testing.assert_allclose(system.mobility, np.full(len(variables), temperature))


def test_drift_of_a_general_diffusion_is_what_its_expressions_say():
    system = Diffusion(("x", "y"), ["y - x**3", "-x*exp(-y**2)"], np.eye(2))
    x, y = states = np.random.default_rng(2).normal(size=(2, 7))
    np.testing.assert_allclose(system.drift(states), [y - x**3, -x * np.exp(-(y**2))], rtol=1e-13)


def test_mobility_is_half_the_noise_matrix_times_its_transpose():
    assert Diffusion(("x", "y"), ["-x", "-y"], np.diag([1.0, 2.0])).mobility.tolist() == [0.5, 2.0]
    s = np.array([[1.0, 0.0], [0.5, 2.0]])
    np.testing.assert_allclose(
        Diffusion(("x", "y"), ["-x", "-y"], s).mobility, [[0.5, 0.25], [0.25, 2.125]], rtol=1e-15
    )
    # a rotation of the noise is the same noise
    turned = np.array([[0.6, -0.8], [0.8, 0.6]])
    np.testing.assert_allclose(Diffusion(("x", "y"), ["-x", "-y"], turned).mobility.sum(), 1.0)


def test_noise_of_one_step_has_covariance_twice_mobility_times_time():
    s, dt, batch = np.array([[1.0, 0.0], [0.9, 0.4]]), 0.01, 40000
    for noise in (s, np.diag([0.5, 1.5])):
        system = Diffusion(("x", "y"), ["0*x", "0*y"], noise)
        for scheme in ("heun", "euler_maruyama"):
            states = system.stepper(dt, scheme).advance(np.zeros((2, batch)), Noise(31, 1, 0), 0, 1)
            exact = dt * noise @ noise.T
            error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / batch)
            assert np.abs((states @ states.T / batch - exact) / error).max() < 3


def test_ornstein_uhlenbeck_covariance_with_a_full_noise_matrix():
    """Stationary covariance solves A C + C A^T = s s^T, covariance at lag t is exp(-A t) C; A is not normal."""
    A, s = np.array([[1.0, -0.8], [0.3, 0.7]]), np.array([[0.9, 0.2], [0.6, 0.5]])
    batch, dt = 40000, 0.05
    system = Diffusion(("x", "y"), ["-x + 0.8*y", "-0.3*x - 0.7*y"], s)
    stepper, noise = system.stepper(dt), Noise(32, 1, 0)
    first = stepper.advance(np.zeros((2, batch)), noise, 0, 240)
    second = stepper.advance(first, noise, 240, 20)
    exact = solve_continuous_lyapunov(A, s @ s.T)
    variance = np.outer(np.diag(exact), np.diag(exact))
    for outcome, expected in ((first @ first.T, exact), (second @ first.T, expm(-A) @ exact)):
        error = np.sqrt((variance + expected**2) / batch)
        assert np.abs((outcome / batch - expected) / error).max() < 3


@pytest.mark.parametrize(("temperature", "percent"), [(1.0, 38.07), (0.25, 82.288)])
def test_four_well_mass_near_the_wells(temperature, percent):
    """Share of exp(-V/T) within 0.4 of a well (method.md section 5), by quadrature and by simulation.

    All wells are started alike, so that the slow rates, which belong to odd modes, do not matter.
    """
    axis = np.linspace(-3, 3, 2401)
    x, y = np.meshgrid(axis, axis)
    weight = np.exp(-((x**2 - 1) ** 2 + (y**2 - 1) ** 2) / temperature)
    near = np.hypot(np.abs(x) - 1, np.abs(y) - 1) < 0.4
    exact = weight[near].sum() / weight.sum()
    assert abs(100 * exact - percent) < 0.02

    batch, records = 2000, 40
    stepper, noise = langevin(("x", "y"), FOUR_WELLS, temperature).stepper(0.01), Noise(33, 1, 0)
    signs = np.array([[1.0, 1, -1, -1], [1, -1, 1, -1]])
    states = stepper.advance(np.tile(signs, batch // 4), noise, 0, 300)
    inside = np.zeros(batch)
    for record in range(records):
        states = stepper.advance(states, noise, 300 + 25 * record, 25)
        inside += np.hypot(*(np.abs(states) - 1)) < 0.4
    error = (inside / records).std(ddof=1) / np.sqrt(batch)
    assert error < 0.01 * exact
    assert abs(inside.mean() / records - exact) < 3 * error


def test_wrong_scheme_is_refused_with_the_known_ones():
    system = Diffusion(("x",), ["-x"], np.eye(1))
    with pytest.raises(SpdeError, match=r"exponential_heun.*auto, heun, euler_maruyama"):
        system.stepper(0.1, "exponential_heun")


def test_auto_is_heun_and_not_euler_maruyama():
    system, start = langevin(("x", "y"), FOUR_WELLS, 0.5), np.full((2, 3), 0.7)
    ends = {
        scheme: system.stepper(0.05, scheme).advance(start, Noise(34, 1, 0), 0, 5)
        for scheme in ("auto", "heun", "euler_maruyama")
    }
    np.testing.assert_array_equal(ends["auto"], ends["heun"])
    assert np.abs(ends["auto"] - ends["euler_maruyama"]).max() > 1e-3


def test_observables_are_functions_of_the_variables():
    system = Diffusion(("x", "y"), ["-x", "-y"], np.eye(2))
    x, y = states = np.random.default_rng(3).normal(size=(2, 5))
    for text, expected in (("x*y", x * y), ("y", y), ("x > 0", (x > 0).astype(float)), ("1", np.ones(5))):
        outcome = system.observe(Expression(text, system.variables, reductions=True), states)
        assert outcome.shape == (5,)
        np.testing.assert_allclose(outcome, expected)
    with pytest.raises(SpdeError, match="mean"):
        system.observe(Expression("mean(x)", system.variables, reductions=True), states)


def test_unknown_names_in_drift_and_potential_are_refused():
    with pytest.raises(ExpressionError, match="'z'"):
        Diffusion(("x", "y"), ["z", "-y"], np.eye(2))
    with pytest.raises(ExpressionError, match="'y'"):
        langevin(("x",), "x**2 + y**2", 1.0)
    with pytest.raises(ExpressionError):
        langevin(("x",), "max(x)", 1.0)
