"""Equations: noise scaling, drift, dealiasing, invariant laws and observables."""

import numpy as np
import pytest
from fields import custom, named

from spde.domain import Domain, Interval
from spde.errors import BlowUpError, SpdeError
from spde.expressions import Expression
from spde.noise import Covariance
from spde.stepping import Noise

BOUNDARIES = ("periodic", "neumann", "dirichlet")
every_boundary = pytest.mark.parametrize("boundary", BOUNDARIES)


def allen_cahn(interval, sigma=0.5, nu=1.0):
    return named("allen_cahn", interval, sigma, {"nu": nu})


def laplacian(u, dx, boundary):
    """Three-point Laplacian of columns, written with ghost points."""
    ghosts = {
        "periodic": (u[-1:], u[:1]),
        "neumann": (u[:1], u[-1:]),
        "dirichlet": (0 * u[:1], 0 * u[:1]),
    }[boundary]
    return np.diff(np.concatenate([ghosts[0], u, ghosts[1]]), 2, axis=0) / dx**2


# noise


@pytest.mark.parametrize("scheme", ["euler_maruyama", "exponential_heun"])
def test_white_noise_scales_with_the_grid_as_one_over_the_spacing(scheme):
    """One step from zero without diffusion: sigma^2 dt / dx at every point, sigma^2 dt in every mode."""
    sigma, dt, batch = 0.7, 0.01, 4000
    for boundary in BOUNDARIES:
        for n in (8, 32):
            interval = Interval(2.5, n, boundary)
            equation = custom(interval, 0.0, "u - u**3", sigma)
            noise = Noise(21, 1, 0)
            states = equation.stepper(dt, scheme).advance(np.zeros((n, batch)), noise, 0, 1)
            error = np.sqrt(2 / (n * batch))
            pointwise = sigma**2 * dt / interval.spacing
            # the explicit reaction moves the variance by a relative 2 dt at most, and this is Heun's
            bias = (1 + dt / 2) ** 2 if scheme == "exponential_heun" else 1
            assert abs((states**2).mean() / pointwise / bias - 1) < 3 * error + 1e-3
            modes = equation.to_modes(states)
            assert abs((modes**2).mean() / (sigma**2 * dt) / bias - 1) < 3 * error + 1e-3
            np.testing.assert_allclose(equation.mobility, pointwise / (2 * dt), rtol=1e-12)


def test_low_modes_see_the_same_noise_on_every_grid():
    """The same counters drive the same modes: trajectories converge under refinement, path by path."""
    coarse, fine = (named("heat", Interval(2.5, n, "neumann", "spectral"), 0.7, {}) for n in (8, 64))
    ends = [e.stepper(0.1).advance(np.zeros((e.dimension, 50)), Noise(22, 1, 0), 0, 10) for e in (coarse, fine)]
    np.testing.assert_array_equal(ends[1][:8], ends[0])


@every_boundary
def test_variance_of_a_mode_does_not_depend_on_grid_or_discretisation(boundary):
    """Allen-Cahn, one step from a constant field: the law of the first four coefficients."""
    batch, dt, sigma = 20000, 0.002, 0.7
    for discretization in ("finite_difference", "spectral"):
        for n in (9, 45):
            interval = Interval(2.5, n, boundary, discretization)
            equation = allen_cahn(interval, sigma)
            modes = equation.to_modes(equation.stepper(dt).advance(np.zeros((n, batch)), Noise(23, 1, 0), 0, 1))
            variance = (modes[:4] ** 2).mean(axis=1)
            rates = interval.eigenvalues[:4]
            expected = sigma**2 * dt * (1 - rates * dt + dt)
            assert np.abs(variance / expected - 1).max() < 3.5 * np.sqrt(2 / batch) + 2e-3


def test_mobility_of_coefficients_is_half_sigma_squared():
    equation = allen_cahn(Interval(2.5, 9, "neumann", "spectral"), 0.7)
    np.testing.assert_allclose(equation.mobility, np.full(9, 0.7**2 / 2))


# drift


@every_boundary
@pytest.mark.parametrize("n", [7, 16, 150])
def test_allen_cahn_drift_is_the_finite_difference_formula(boundary, n):
    interval = Interval(2.5, n, boundary)
    u = np.random.default_rng(1).normal(size=(n, 3))
    expected = 0.3 * laplacian(u, interval.spacing, boundary) + u - u**3
    outcome = allen_cahn(interval, nu=0.3).drift(u)
    np.testing.assert_allclose(outcome, expected, atol=1e-11 * np.abs(expected).max())


@every_boundary
def test_linear_part_taken_out_of_the_reaction_stays_in_the_drift(boundary):
    interval = Interval(2.5, 8, boundary)
    u = np.random.default_rng(2).normal(size=(8, 3))
    diffusion = laplacian(u, interval.spacing, boundary)
    for reaction, values in (
        ("-damping*u", -0.4 * u),
        ("-2*u + u**2 - u**3 + 0.3", -2 * u + u**2 - u**3 + 0.3),
        ("0.25 - damping*u", 0.25 - 0.4 * u),
    ):
        equation = custom(interval, 1.0, reaction, 0.5, {"damping": 0.4})
        np.testing.assert_allclose(equation.drift(u), diffusion + values, atol=1e-11)
    assert custom(interval, 1.0, "-damping*u", 0.5, {"damping": 0.4}).is_linear
    assert not equation.is_linear


def exact_projection(interval, modes, function, wavenumbers):
    """Coefficients of function(u) by Gauss-Legendre quadrature, u = sum of modes, bases written out."""
    nodes, weights = np.polynomial.legendre.leggauss(300)
    x, weights = interval.length / 2 * (nodes + 1), interval.length / 2 * weights
    if interval.boundary == "dirichlet":
        basis = np.array([np.sin(k * x) for k in wavenumbers])
    elif interval.boundary == "neumann":
        basis = np.array([np.cos(k * x) for k in wavenumbers])
    else:
        basis = np.array([np.sin(k * x) if j and j % 2 == 0 else np.cos(k * x) for j, k in enumerate(wavenumbers)])
    basis /= np.sqrt((basis**2) @ weights)[:, None]
    return (basis * weights) @ function(basis.T @ modes)


@pytest.mark.parametrize(
    ("boundary", "n"), [("periodic", 7), ("neumann", 7), ("neumann", 8), ("dirichlet", 7), ("dirichlet", 8)]
)
def test_spectral_reaction_is_the_exact_projection_of_the_cubic(boundary, n):
    interval = Interval(2.5, n, boundary, "spectral")
    modes = np.random.default_rng(3).normal(size=(n, 4))
    index = np.arange(n)
    wavenumbers = {
        "periodic": 2 * np.pi / 2.5 * ((index + 1) // 2),
        "neumann": np.pi / 2.5 * index,
        "dirichlet": np.pi / 2.5 * (index + 1),
    }[boundary]
    equation = allen_cahn(interval, nu=0.3)
    expected = exact_projection(interval, modes, lambda u: u - u**3, wavenumbers)
    np.testing.assert_allclose(equation.force(modes), expected, atol=1e-11)
    drift = expected - 0.3 * wavenumbers[:, None] ** 2 * modes
    np.testing.assert_allclose(equation.drift(modes), drift, atol=1e-10)


@pytest.mark.parametrize("discretization", ["finite_difference", "spectral"])
def test_custom_reaction_gives_the_trajectories_of_the_named_equation(discretization):
    interval = Interval(2.5, 12, "neumann", discretization)
    known = named("allen_cahn", interval, 0.5, {"nu": 0.8})
    start, noise = np.random.default_rng(4).normal(size=(12, 5)), Noise(24, 1, 0)
    expected = known.stepper(0.02).advance(start, noise, 0, 30)
    for reaction, parameters in (("u - u**3", {}), ("a*u*(1 - u)*(1 + u)", {"a": 1.0})):
        same = custom(interval, 0.8, reaction, 0.5, parameters)
        outcome = same.stepper(0.02).advance(start, noise, 0, 30)
        np.testing.assert_allclose(outcome, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("reaction", "function"),
    [
        ("sin(u)", lambda u, x: np.sin(u)),
        ("-sin(u)", lambda u, x: -np.sin(u)),
        ("a*u*x - b*u**3 + cos(pi*x)", lambda u, x: 0.5 * u * x - 2 * u**3 + np.cos(np.pi * x)),
        ("tanh(b*u)/(1 + x**2) + abs(u)", lambda u, x: np.tanh(2 * u) / (1 + x**2) + np.abs(u)),
        ("x", lambda u, x: x + 0 * u),
    ],
)
def test_reactions_of_field_coordinate_and_parameters(reaction, function):
    interval = Interval(2.5, 10)
    u, x = np.random.default_rng(5).normal(size=(10, 3)), interval.grid[:, None]
    equation = custom(interval, 0.6, reaction, 0.5, {"a": 0.5, "b": 2.0})
    expected = 0.6 * laplacian(u, interval.spacing, "neumann") + function(u, x)
    np.testing.assert_allclose(equation.drift(u), expected, atol=1e-11)
    h = 1e-4
    quiet = custom(interval, 0.6, reaction, 0.0, {"a": 0.5, "b": 2.0})
    moved = quiet.stepper(h).advance(u, Noise(1, 1, 0), 0, 1)
    np.testing.assert_allclose((moved - u) / h, expected, atol=0.05 * np.abs(expected).max())


@every_boundary
@pytest.mark.parametrize("scheme", ["semi_implicit", "exponential_euler", "exponential_heun"])
def test_energy_decays_without_noise(boundary, scheme):
    interval = Interval(10.0, 48, boundary)
    equation = allen_cahn(interval, sigma=1e-12)
    dx, stepper = interval.spacing, equation.stepper(0.05, scheme)

    def energy(u):
        # discrete integral of |grad u|^2 / 2 by parts, exact for the three-point Laplacian
        return dx * (-u * laplacian(u, dx, boundary) / 2 + (u**2 - 1) ** 2 / 4).sum(axis=0)

    states = np.random.default_rng(6).normal(size=(48, 4))
    energies = [energy(states)]
    for step in range(200):
        states = stepper.advance(states, Noise(25, 1, 0), step, 1)
        energies.append(energy(states))
    assert (np.diff(energies, axis=0) <= 1e-12).all()
    assert (energies[-1] < 0.5 * energies[0]).all()


# laws


def test_invariant_law_of_metastable_allen_cahn():
    """<u^2>, <u^4> and the variance of the spatial mean, exact by transfer matrix (method.md section 5).

    Half of the trajectories start in each well, so that the slow mode, which is odd, is stationary at once.
    """
    batch, records = 1500, 40
    equation = allen_cahn(Interval(2.5, 32))
    stepper, noise = equation.stepper(0.02), Noise(26, 1, 0)
    states = stepper.advance(np.where(np.arange(batch) % 2, 1.0, -1.0) * np.ones((32, 1)), noise, 0, 500)
    sums = np.zeros((3, batch))
    for record in range(records):
        states = stepper.advance(states, noise, 500 + 25 * record, 25)
        sums += (states**2).mean(axis=0), (states**4).mean(axis=0), states.mean(axis=0) ** 2
    means = sums / records
    error = means.std(axis=1, ddof=1) / np.sqrt(batch)
    exact = np.array([0.85461, 0.95255, 0.81792])
    assert (error < 0.01 * exact).all()
    assert np.abs((means.mean(axis=1) - exact) / error).max() < 3


def test_stationary_covariance_of_the_heat_equation_is_the_green_function():
    """Dirichlet: sigma^2 / (2 nu) * min(x, y) (L - max(x, y)) / L, exact for the three-point Laplacian too."""
    sigma, nu, length, batch = 0.8, 0.5, 2.0, 20000
    interval = Interval(length, 9, "dirichlet")
    equation = named("heat", interval, sigma, {"nu": nu})
    states = equation.stepper(1.0).advance(np.zeros((9, batch)), Noise(27, 1, 0), 0, 20)
    low, high = np.minimum.outer(interval.grid, interval.grid), np.maximum.outer(interval.grid, interval.grid)
    exact = sigma**2 / (2 * nu) * low * (length - high) / length
    variance = np.diag(exact)
    error = np.sqrt((np.outer(variance, variance) + exact**2) / batch)
    assert np.abs((states @ states.T / batch - exact) / error).max() < 3.5
    assert abs(np.trace(states @ states.T) / batch / np.trace(exact) - 1) < 0.02


@every_boundary
@pytest.mark.parametrize("discretization", ["finite_difference", "spectral"])
def test_stationary_variance_of_the_damped_heat_equation_per_mode(boundary, discretization):
    batch, sigma = 10000, 0.8
    interval = Interval(2.0, 7, boundary, discretization)
    equation = named("heat", interval, sigma, {"nu": 0.5, "damping": 0.3})
    states = equation.stepper(5.0).advance(np.zeros((7, batch)), Noise(28, 1, 0), 0, 8)
    modes = equation.to_modes(states)
    exact = np.diag(sigma**2 / (2 * (0.5 * interval.eigenvalues + 0.3)))
    error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / batch)
    assert np.abs((modes @ modes.T / batch - exact) / error).max() < 3.5


def test_without_damping_the_mean_of_a_neumann_field_is_brownian():
    batch, sigma = 20000, 0.8
    equation = named("heat", Interval(2.0, 7), sigma, {})
    states = equation.stepper(0.5).advance(np.zeros((7, batch)), Noise(29, 1, 0), 0, 6)
    variance = (states.mean(axis=0) ** 2).mean()
    assert abs(variance / (sigma**2 * 3.0 / 2.0) - 1) < 3 * np.sqrt(2 / batch)


# states, fields and observables


@pytest.mark.parametrize("discretization", ["finite_difference", "spectral"])
def test_fields_modes_and_states_convert_into_each_other(discretization):
    interval = Interval(2.5, 8, "neumann", discretization)
    equation = allen_cahn(interval)
    modes = np.random.default_rng(7).normal(size=(8, 3))
    states = equation.from_modes(modes)
    fields = equation.fields(states)
    np.testing.assert_allclose(fields, interval.basis @ modes, atol=1e-13)
    np.testing.assert_allclose(equation.from_fields(fields), states, atol=1e-13)
    np.testing.assert_allclose(equation.to_modes(states), modes, atol=1e-13)
    np.testing.assert_allclose(equation.mode_map(5) @ states, modes[:5], atol=1e-13)


@every_boundary
@pytest.mark.parametrize("discretization", ["finite_difference", "spectral"])
def test_observables_reduce_the_field_over_space(boundary, discretization):
    interval = Interval(2.5, 9, boundary, discretization)
    equation = allen_cahn(interval)
    states = np.random.default_rng(8).normal(size=(9, 4))
    u, x = equation.fields(states), interval.grid[:, None]
    mean = interval.spacing / 2.5
    for text, expected in (
        ("mean(u)", mean * u.sum(0)),
        ("mean(u**2) - mean(u)**2", mean * (u**2).sum(0) - (mean * u.sum(0)) ** 2),
        ("max(u)", u.max(0)),
        ("min(abs(u))", np.abs(u).min(0)),
        ("sum(u*x)", (u * x).sum(0)),
        ("mean(u > 0)", mean * (u > 0).sum(0)),
        ("mean(u) > 0", (u.sum(0) > 0).astype(float)),
        ("exp(max(x)) + 0*max(u)", np.exp(x.max()) * np.ones(4)),
        ("max(x)", x.max() * np.ones(4)),
        ("2", 2 * np.ones(4)),
    ):
        outcome = equation.observe(Expression(text, equation.variables, reductions=True), states)
        assert outcome.shape == (4,)
        np.testing.assert_allclose(outcome, expected, rtol=1e-12, atol=1e-14)


@every_boundary
@pytest.mark.parametrize("discretization", ["finite_difference", "spectral"])
def test_values_at_places_modes_and_energies_are_those_of_the_eigenfunctions(boundary, discretization):
    """In the plane, of 1.5 times the fourth and -0.7 times the second eigenfunction."""
    domain = Domain.box([2.0, 1.5], [6, 5], boundary, discretization)
    equation = custom(domain, 1.0, "u - u**3", 0.5, covariance=Covariance("matern", length=0.5, smoothness=2.0))
    domain, order = equation.domain, equation.domain.order
    modes = np.zeros((equation.dimension, 2))
    modes[order[[3, 1]], :] = np.array([[1.5], [-0.7]]) * [1.0, 2.0]
    states = equation.from_modes(modes)

    def observed(text):
        return equation.observe(Expression(text, equation.variables, reductions=True), states)

    fourth, second = domain.modes(order[[3, 1]], [np.array([0.3]), np.array([1.2])])[0]
    value = 1.5 * fourth - 0.7 * second
    np.testing.assert_allclose(observed("u(0.3, 1.2)"), [value, 2 * value], atol=1e-12)
    np.testing.assert_allclose(observed("mode(u, 4)"), [1.5, 3.0], atol=1e-12)
    np.testing.assert_allclose(observed("mode(u, 3)"), 0.0, atol=1e-12)
    energy = (1.5**2 * domain.eigenvalues[order[3]] + 0.7**2 * domain.eigenvalues[order[1]]) / 2
    np.testing.assert_allclose(observed("energy(u)"), [energy, 4 * energy])
    x, y = (float(domain.coordinates[name][7]) for name in "xy")
    np.testing.assert_allclose(observed(f"u({x!r}, {y!r})"), equation.fields(states)[7], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("u(0.1, 0.2)", "2 coordinates of a place in a domain of 1 axes"),
        ("u(1.2)", r"x = 1.2 is outside of the domain, which is \[0, 1\]"),
        ("u(-0.1)", "outside"),
        ("mode(u, 10)", "mode 10 of a field that has 9"),
        ("u", r"or at a place, as u\(0.5\)"),
        ("energy(2)", "does not depend on space"),
    ],
)
def test_places_and_modes_that_a_field_does_not_have_are_refused(text, message):
    equation = allen_cahn(Interval(1.0, 9))
    with pytest.raises(SpdeError, match=message):
        equation.observe(Expression(text, equation.variables, reductions=True), np.zeros((9, 4)))


@pytest.mark.parametrize("text", ["u", "x", "u - mean(u)", "u > 0", "mean(u)*x", "mean(2)", "mean(mean(u))"])
def test_observables_that_are_fields_or_reduce_nothing_are_refused(text):
    equation = allen_cahn(Interval(2.5, 9))
    with pytest.raises(SpdeError, match=r"is a field|does not depend on space"):
        equation.observe(Expression(text, equation.variables, reductions=True), np.zeros((9, 4)))


def test_mean_of_a_constant_field_is_the_constant():
    equation = allen_cahn(Interval(2.5, 9))
    outcome = equation.observe(Expression("mean(u)", ("u", "x"), reductions=True), np.full((9, 2), 1.7))
    np.testing.assert_allclose(outcome, 1.7)


def test_large_time_step_and_field_end_in_a_named_blow_up():
    equation = allen_cahn(Interval(2.5, 9))
    states = np.zeros((9, 3))
    states[:, 1] = 50.0
    with pytest.raises(BlowUpError, match=r"trajectory 41 .* after step 3, at time 6: the time step 2 is too large"):
        equation.stepper(2.0).advance(states, Noise(30, 1, 40), 0, 4)


def test_unknown_parameters_are_refused_with_the_known_ones():
    with pytest.raises(SpdeError, match=r"'speed' \(known: nu, damping\)"):
        named("heat", Interval(1.0, 4), 1.0, {"speed": 1.0})
    with pytest.raises(SpdeError, match="allen_cahn has no parameter 'damping'"):
        named("allen_cahn", Interval(1.0, 4), 1.0, {"damping": 1.0})
    assert named("heat", Interval(1.0, 4), 1.0, {}).laws[0].diffusivity == 1.0
