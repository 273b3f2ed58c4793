"""Closed-form laws and Feynman-Kac values against quadrature, matrix exponentials, ODEs and Monte Carlo."""

import itertools
from functools import cache

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import eigh, expm
from scipy.special import ndtr

from spde.errors import SpdeError
from spde.exact import LinearLaw, OrnsteinUhlenbeck, Quadratic, feynman_kac, principal_eigenpair, sums_of_rates


def van_loan(B, Q, time):
    """exp(-B t) and int exp(-B s) Q exp(-B^T s) ds from one block exponential."""
    d = len(B)
    E = expm(np.block([[-B, Q], [np.zeros_like(B), B.T]]) * time)
    return E[:d, :d], E[:d, d:] @ E[:d, :d].T


def random_system(seed, d=3):
    """A stable, non-normal, non-reversible system with forcing, and a positive killing."""
    rng = np.random.default_rng(seed)
    B = rng.normal(size=(d, d)) + 2.5 * np.eye(d)
    root = rng.normal(size=(d, d)) / 2
    law = OrnsteinUhlenbeck(B, rng.normal(size=(d, d)), rng.normal(size=d))
    return law, Quadratic(0.3, rng.normal(size=d), root @ root.T), rng.normal(size=(d, 4))


def rotating():
    """Six modes, two pairs that rotate, forced; and the same as a matrix."""
    law = LinearLaw(
        np.array([0.4, 1.0, 1.0, 0.7, 2.0, 2.0]),
        np.array([0.5, 0.8, 0.8, 0.0, 1.0, 1.0]),
        forcing=np.array([0.3, -0.2, 0.5, 0.1, 0.0, 0.4]),
        pairs=np.array([[1, 2], [4, 5]]),
        frequencies=np.array([1.3, -2.6]),
    )
    return law, OrnsteinUhlenbeck(law.drift_matrix, law.noise, law.forcing)


# rates


def test_generator_rates_are_all_sums_of_mode_rates():
    rates = np.array([1.0, 0.3, 2.0, 0.3])
    sums = sorted(np.dot(n, rates) for n in itertools.product(range(12), repeat=4))
    np.testing.assert_allclose(sums_of_rates(rates, 60), sums[:60], atol=1e-12)


def test_complex_generator_rates_come_in_conjugate_pairs_with_ascending_real_parts():
    rates = np.array([0.5 + 1j, 0.5 - 1j, 0.8])
    found = sums_of_rates(rates, 29)  # not through a group of equal real parts
    sums = [np.dot(n, rates) for n in itertools.product(range(8), repeat=3)]
    expected = sorted(sums, key=lambda z: (round(z.real, 9), z.imag))[:29]
    np.testing.assert_allclose(sorted(found, key=lambda z: (round(z.real, 9), z.imag)), expected, atol=1e-12)
    assert (np.diff(found.real) > -1e-12).all()


def test_rates_of_ten_thousand_modes_are_not_enumerated():
    rates = np.arange(1.0, 10001.0)
    partitions = [1, 1, 2, 3, 5, 7, 11, 15, 22, 30]  # of 0, 1, 2, ... into positive parts
    np.testing.assert_array_equal(sums_of_rates(rates, sum(partitions)), np.repeat(np.arange(10), partitions))


def test_undamped_noise_has_no_generator_rates_and_a_conserved_mode_does_not_count():
    with pytest.raises(SpdeError, match="smallest is 0"):
        LinearLaw([0.0, 1.0], 1.0).generator_rates(3)
    np.testing.assert_array_equal(LinearLaw([0.0, 1.0], [0.0, 1.0]).generator_rates(3), [0, 1, 2])


# stationary laws


def test_space_covariance_of_the_dirichlet_heat_equation_is_the_green_function():
    """sigma^2 / (2 nu) min(x, y) (L - max(x, y)) / L, exact for the three-point Laplacian too."""
    sigma, nu, length, n = 0.8, 0.5, 2.0, 40
    dx = length / (n + 1)
    k, x = np.arange(1, n + 1), dx * np.arange(1, n + 1)
    basis = np.sqrt(2 / length) * np.sin(np.pi * np.outer(x, k) / length)
    law = LinearLaw(nu * (2 / dx * np.sin(np.pi * k * dx / (2 * length))) ** 2, sigma)
    exact = sigma**2 / (2 * nu) * np.minimum.outer(x, x) * (length - np.maximum.outer(x, x)) / length
    np.testing.assert_allclose(law.covariance(basis), exact, rtol=1e-12)
    np.testing.assert_allclose(law.covariance(basis[:3], basis[5:]), exact[:3, 5:], rtol=1e-12)
    assert law.energy == pytest.approx(n * sigma**2 / 4)


def test_an_undamped_mode_has_infinite_variance_where_it_is_seen():
    law = LinearLaw([0.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(law.stationary_variance, [np.inf, 0.0, 0.5])
    points = np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0], [-1.0, 0.0, 1.0]])
    expected = [[np.inf, 0.5, -np.inf], [0.5, 0.5, 0.5], [-np.inf, 0.5, np.inf]]
    np.testing.assert_array_equal(law.covariance(points), expected)
    assert law.energy == np.inf
    with pytest.raises(SpdeError, match="mode 0 has rate 0"):
        law.sample(np.zeros((3, 1)))


def test_rotating_pairs_agree_with_their_matrix():
    law, matrix = rotating()
    np.testing.assert_allclose(np.diag(law.stationary_variance), matrix.stationary_covariance, atol=1e-14)
    np.testing.assert_allclose(law.stationary_mean, matrix.stationary_mean, rtol=1e-13)
    left, right = np.random.default_rng(3).normal(size=(2, 4, 6))
    for time in (0.0, 0.4, -1.1):
        exact = left @ matrix.correlation(time) @ right.T
        np.testing.assert_allclose(law.correlation([time], left, right)[0], exact, atol=1e-13)
    noisy = law.noise != 0
    autocorrelation = np.diag(matrix.correlation(0.7))[noisy] / law.stationary_variance[noisy]
    np.testing.assert_allclose(law.autocorrelation([0.7])[0][noisy], autocorrelation, rtol=1e-13)
    start = np.random.default_rng(4).normal(size=(6, 3))
    mean, variance = law.transition(0.9, start)
    np.testing.assert_allclose(mean, matrix.transition(0.9).mean(start), rtol=1e-13)
    np.testing.assert_allclose(np.diag(variance), matrix.transition(0.9).covariance, atol=1e-15)
    by_value = sorted(np.linalg.eigvals(law.drift_matrix), key=lambda z: (z.real, z.imag))
    np.testing.assert_allclose(sorted(law.complex_rates, key=lambda z: (z.real, z.imag)), by_value, atol=1e-14)


def test_pairs_that_are_no_rotation_are_refused():
    for rates, noise in (([1.0, 2.0], [1.0, 1.0]), ([1.0, 1.0], [1.0, 2.0])):
        with pytest.raises(SpdeError, match="OrnsteinUhlenbeck"):
            LinearLaw(rates, noise, pairs=[[0, 1]], frequencies=[1.0])
    with pytest.raises(SpdeError, match="disjoint"):
        LinearLaw([1.0, 1.0, 1.0], 1.0, pairs=[[0, 1], [1, 2]], frequencies=[1.0, 1.0])
    with pytest.raises(SpdeError, match="shape"):
        LinearLaw([1.0, 1.0], [1.0, 1.0, 1.0])


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.3, -0.4, 1e6])
@pytest.mark.parametrize("time", [0.0, 1e-8, 0.5, 3.0])
def test_transition_of_slow_fast_and_growing_modes(rate, time):
    law = LinearLaw([rate], [0.7], forcing=[0.2])
    mean, variance = law.transition(time, np.array([1.5]))
    # Gauss quadrature of int exp(-rate s) ds over panels that shrink towards 0
    edges = np.concatenate([[0.0], time * 0.5 ** np.arange(60.0, -1, -1)])
    nodes, weights = np.polynomial.legendre.leggauss(12)
    s = edges[:-1, None] + np.diff(edges)[:, None] * (nodes + 1) / 2
    integral = [np.sum(np.exp(-r * s) * weights * np.diff(edges)[:, None] / 2) for r in (rate, 2 * rate)]
    np.testing.assert_allclose(variance[0], 0.49 * integral[1], rtol=1e-11)
    np.testing.assert_allclose(mean[0], 1.5 * np.exp(-rate * time) + 0.2 * integral[0], rtol=1e-11)


def test_stationary_draws_and_their_transitions_have_the_law_they_claim():
    batch = 40000
    law, matrix = rotating()
    normals = np.random.default_rng(5).normal(size=(3, 6, batch))
    for system in (law, matrix):
        start = system.sample(normals[0])
        end = system.advance(system.advance(start, 0.3, normals[1]), 0.2, normals[2])
        joint = np.concatenate([start, end]) - np.concatenate([law.stationary_mean] * 2)[:, None]
        S, C = matrix.stationary_covariance, matrix.correlation(0.5)
        exact = np.block([[S, C.T], [C, S]])
        error = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / batch)
        assert (np.abs(joint @ joint.T / batch - exact) < 4 * error + 1e-14).all()
        assert (np.abs(joint.mean(axis=1)) < 4 * np.sqrt(np.diag(exact) / batch) + 1e-14).all()


# Ornstein-Uhlenbeck processes


@pytest.mark.parametrize("time", [1e-6, 0.01, 0.7, 4.0])
def test_transition_of_a_non_normal_process_is_van_loans(time):
    law, _, start = random_system(1, 4)
    F, S = van_loan(law.drift_matrix, law.diffusion, time)
    found = law.transition(time)
    np.testing.assert_allclose(found.propagator, F, atol=1e-13 * np.abs(F).max())
    np.testing.assert_allclose(found.covariance, S, atol=1e-12 * np.abs(S).max())
    rest = law.stationary_mean[:, None]
    np.testing.assert_allclose(found.mean(start), rest + F @ (start - rest), atol=1e-13)


def test_stationary_covariance_solves_lyapunovs_equation_and_is_reached():
    law, _, _ = random_system(2, 5)
    S = law.stationary_covariance
    np.testing.assert_allclose(law.drift_matrix @ S + S @ law.drift_matrix.T, law.diffusion, atol=1e-13)
    np.testing.assert_allclose(law.transition(200.0).covariance, S, atol=1e-12)


def test_noise_on_one_component_spreads_to_all():
    """Underdamped Langevin dq = p dt, dp = (-q - g p) dt + sqrt(2 g) dW: covariance 1, t^3 growth in q."""
    g = 0.6
    law = OrnsteinUhlenbeck([[0.0, -1.0], [1.0, g]], np.array([[0.0], [np.sqrt(2 * g)]]))
    np.testing.assert_allclose(law.stationary_covariance, np.eye(2), atol=1e-14)
    assert law.transition(1e-3).covariance[0, 0] == pytest.approx(2 * g * 1e-9 / 3, rel=2e-3)
    assert not law.is_reversible
    np.testing.assert_allclose(law.complex_rates.real, g / 2)


def test_symmetrised_process_has_the_spectrum_of_the_dirichlet_form():
    law, _, _ = random_system(3, 4)
    assert not law.is_reversible
    other = law.symmetrised
    assert other.is_reversible
    np.testing.assert_allclose(other.stationary_covariance, law.stationary_covariance, rtol=1e-10)
    np.testing.assert_allclose(other.stationary_mean, law.stationary_mean, rtol=1e-10)
    # Dirichlet form of linear functions over their covariance
    rates = eigh(law.diffusion / 2, law.stationary_covariance, eigvals_only=True)
    np.testing.assert_allclose(np.sort(other.complex_rates.real), rates, rtol=1e-10)
    np.testing.assert_allclose(other.generator_rates(3), [0, rates[0], min(2 * rates[0], rates[1])], rtol=1e-10)


def test_an_unstable_process_has_no_stationary_law():
    with pytest.raises(SpdeError, match=r"real part -0\.5"):
        _ = OrnsteinUhlenbeck(np.diag([1.0, -0.5]), 1.0).stationary_covariance


# Feynman-Kac


def test_cameron_martin_formula():
    """E_x exp(-a^2/2 int W^2) = exp(-a x^2 tanh(a t) / 2) / sqrt(cosh(a t)) for Brownian motion."""
    a, t, x = 1.7, 0.9, np.array([[-0.5, 0.0, 2.0]])
    exact = np.exp(-a * x[0] ** 2 / 2 * np.tanh(a * t)) / np.sqrt(np.cosh(a * t))
    for law in (LinearLaw([0.0], 1.0), OrnsteinUhlenbeck([[0.0]], 1.0)):
        np.testing.assert_allclose(feynman_kac(law, Quadratic(0, 0, a**2 / 2), t).weight(x), exact, rtol=1e-13)


@cache
def grid_kernel(h):
    """Grid, and exp(t (G - c)) on it by central differences: t = 0.6, the process and the killing of the next test."""
    x = np.round(np.arange(-6, 6 + h / 2, h), 10)
    drift, diffusion = (-0.8 * x + 0.5) / (2 * h), 0.81 / (2 * h**2)
    operator = np.diag(-2 * diffusion - (0.2 + 0.4 * x + 0.7 * x**2)) + np.diag((diffusion + drift)[:-1], 1)
    return x, expm(0.6 * (operator + np.diag((diffusion - drift)[1:], -1)))


@pytest.mark.parametrize("observable", ["constant", "linear", "quadratic", "exponential", "gaussian", "half line"])
def test_closed_forms_agree_with_the_generator_on_a_fine_grid(observable):
    """dX = (-0.8 X + 0.5) dt + 0.9 dW, c = 0.2 + 0.4 x + 0.7 x^2; the error h^2 of the grid is extrapolated away."""
    kernel = feynman_kac(LinearLaw([0.8], 0.9, [0.5]), Quadratic(0.2, 0.4, 0.7), 0.6)
    functions = {
        "constant": (lambda x: np.ones_like(x), lambda x: kernel.weight(x)),
        "linear": (lambda x: 1 - 2 * x, lambda x: kernel.polynomial(x, Quadratic(1, -2))),
        "quadratic": (lambda x: 0.5 + x + 3 * x**2, lambda x: kernel.polynomial(x, Quadratic(0.5, 1, 3))),
        "exponential": (lambda x: np.exp(1.2 * x), lambda x: kernel.exponential(x, Quadratic(0, 1.2))),
        "gaussian": (
            lambda x: np.exp(0.1 + x - 2 * x**2),
            lambda x: kernel.exponential(x, Quadratic(0.1, 1, -2)),
        ),
        "half line": (lambda x: (x > 0.3) + 0.5 * (x == 0.3), lambda x: kernel.half_space(x, np.array([1.0]), 0.3)),
    }
    f, closed = functions[observable]
    starts = np.array([-1.0, 0.1, 0.8])
    values = []
    for h in (0.05, 0.025):
        x, kernel_matrix = grid_kernel(h)
        values.append((kernel_matrix @ f(x))[np.searchsorted(x, starts - 1e-9)])
    extrapolated = (4 * values[1] - values[0]) / 3
    np.testing.assert_allclose(closed(starts[None]), extrapolated, rtol=3e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_coupled_components_agree_with_the_riccati_equations(seed):
    """P' = -B^T P - P B + P Q P - 2A and so on, as ordinary differential equations from f = exp(quadratic)."""
    law, killing, x = random_system(seed)
    B, Q, f, t, d = law.drift_matrix, law.diffusion, law.forcing, 0.8, 3
    rng = np.random.default_rng(seed + 50)
    start = Quadratic(0.1, rng.normal(size=d), -np.eye(d) / 2 + 0.1 * rng.normal(size=(d, d)))

    def slope(_, y):
        P, p = y[: d * d].reshape(d, d), y[d * d : -1]
        dP = -B.T @ P - P @ B + P @ Q @ P - 2 * killing.matrix
        dp = -B.T @ p + P @ f + P @ Q @ p - killing.linear
        return np.r_[dP.ravel(), dp, f @ p + np.trace(Q @ P) / 2 + p @ Q @ p / 2 - killing.constant]

    first = np.r_[(start.matrix + start.matrix.T).ravel(), start.linear, start.constant]
    last = solve_ivp(slope, (0, t), first, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    exact = Quadratic(last[-1], last[d * d : -1], last[: d * d].reshape(d, d) / 2)(x)
    np.testing.assert_allclose(feynman_kac(law, killing, t).log_exponential(x, start), exact, rtol=1e-10)


def test_killed_kernels_compose():
    """The weight at 2 t is the expectation at t of the weight at t, an exponential of a quadratic."""
    law, killing, x = random_system(7)
    half, whole = feynman_kac(law, killing, 0.7), feynman_kac(law, killing, 1.4)
    np.testing.assert_allclose(half.log_exponential(x, half.log_weight), whole.log_weight(x), rtol=1e-12)
    independent = LinearLaw([0.5, 3.0], [1.0, 0.4], [0.2, -1.0])
    half, whole = (feynman_kac(independent, Quadratic(0.1, [0.3, -0.2], [0.5, 1.5]), t) for t in (0.7, 1.4))
    np.testing.assert_allclose(half.log_exponential(x[:2], half.log_weight), whole.log_weight(x[:2]), rtol=1e-12)


def assert_same_transition(rate, noise, forcing, killing, time):
    """Closed form of one mode against the doubling of matrices. Raises SpdeError past the blow-up."""
    expected = feynman_kac(OrnsteinUhlenbeck([[rate]], noise, [forcing]), killing, time)
    found = feynman_kac(LinearLaw([rate], noise, [forcing]), killing, time)
    pairs = [
        (found.log_weight.constant, expected.log_weight.constant),
        (found.log_weight.linear, expected.log_weight.linear),
        (found.log_weight.matrix, expected.log_weight.matrix[0]),
        (found.propagator, expected.propagator[0]),
        (found.offset, expected.offset),
        (found.covariance, expected.covariance[0]),
    ]
    for value, other in pairs:
        np.testing.assert_allclose(value, other, rtol=1e-11, atol=1e-13)


def test_independent_and_coupled_formulas_agree_for_all_signs_and_scales():
    rng = np.random.default_rng(8)
    finite = 0
    for _ in range(250):
        rate, noise = rng.choice([0, 1, -1, 0.3, 30.0, 1e3]), rng.choice([0, 1.0, 0.1, 2])
        forcing, slope = rng.choice([0, 1, -2]), rng.choice([0, 0.7, -3])
        killing = Quadratic(0.2, slope, rng.choice([0, 0.25, 5e-7, 10, -0.025, -1.5]))
        time = rng.choice([1e-3, 0.1, 1, 10])
        try:
            assert_same_transition(rate, noise, forcing, killing, time)
            finite += 1
        except SpdeError as error:
            instant = float(str(error).split("time ")[1].split(" ")[0])
            with pytest.raises(SpdeError) as caught:
                feynman_kac(LinearLaw([rate], noise), killing, time)
            assert float(str(caught.value).split("time ")[1].split(" ")[0]) == pytest.approx(instant, rel=1e-5)
    assert finite > 180
    # killing so negative that kappa is imaginary, shortly before the blow-up at 1.29
    assert_same_transition(0.3, 1.0, 1.0, Quadratic(0.2, 0.7, -1.0), 1.1)


def test_rotating_modes_under_killing_go_through_their_matrix():
    law, matrix = rotating()
    killing, start = Quadratic(0.1, 0.2, 0.5), np.linspace(-1, 1, 6)
    np.testing.assert_allclose(
        feynman_kac(law, killing, 0.8).weight(start), feynman_kac(matrix, killing, 0.8).weight(start), rtol=1e-12
    )


def test_ten_thousand_modes_multiply_their_expectations():
    d, t = 10_000, 0.3
    k = np.arange(d)
    law = LinearLaw((np.pi * k) ** 2, 0.5)
    killing = Quadratic(0.0, 0.0, 2.0)  # 2 int u^2 dx
    x = 1 / (1.0 + k) ** 2
    log = feynman_kac(law, killing, t).log_weight(x)
    few = [feynman_kac(LinearLaw([r], 0.5), killing, t).log_weight(x[j : j + 1]) for j, r in enumerate(law.rates[:300])]
    # fast modes are killed at their stationary mean: -2 t sigma^2 / (2 rate), to first order
    rest = -2 * t * np.sum(0.25 / (2 * law.rates[300:]))
    assert log == pytest.approx(sum(few) + rest, abs=1e-8)
    assert abs(rest) > 1e-5


def test_killed_expectations_agree_with_exact_simulation():
    """Trapezoidal int c along exactly drawn paths, with the standard error of the sample."""
    law, killing, _ = random_system(9, 2)
    start, batch, steps, t = np.array([0.5, -0.3]), 40000, 100, 0.6
    rng, states = np.random.default_rng(10), np.repeat(start[:, None], batch, axis=1)
    transition = law.transition(t / steps)
    root = np.linalg.cholesky(transition.covariance)
    action = killing(states) / 2
    for step in range(steps):
        states = transition.mean(states) + root @ rng.normal(size=states.shape)
        action += killing(states) * (0.5 if step == steps - 1 else 1.0)
    weight = np.exp(-action * t / steps)
    kernel, normal = feynman_kac(law, killing, t), np.array([1.0, 2.0])
    samples = [
        (weight, kernel.weight(start)),
        (weight * (states[0] ** 2 - states[1]), kernel.polynomial(start, Quadratic(0, [0, -1], np.diag([1.0, 0])))),
        (weight * (normal @ states > 0.2), kernel.half_space(start, normal, 0.2)),
    ]
    for sample, exact in samples:
        error = sample.std() / np.sqrt(batch)
        assert error < 0.02 * abs(exact)
        assert abs(sample.mean() - exact) < 3 * error


def test_probability_of_a_half_space_without_killing_is_gaussian():
    law, _, start = random_system(11)
    transition, normal = law.transition(0.4), np.array([1.0, -1.0, 0.5])
    exact = ndtr((normal @ transition.mean(start) - 0.1) / np.sqrt(normal @ transition.covariance @ normal))
    np.testing.assert_allclose(transition.half_space(start, normal, 0.1), exact, rtol=1e-13)
    # without noise it is certain
    still = feynman_kac(LinearLaw([1.0], 0.0), Quadratic(), 1.0)
    np.testing.assert_array_equal(still.half_space(np.array([[1.0, 3.0]]), np.array([1.0]), 0.9), [0.0, 1.0])


def test_too_negative_killing_names_the_time_of_blow_up():
    """E exp(a^2/2 int W^2) is infinite from a t = pi / 2 on."""
    a = 2.0
    for law in (LinearLaw([0.0], 1.0), OrnsteinUhlenbeck([[0.0]], 1.0)):
        killing = Quadratic(0, 0, -(a**2) / 2)
        value = feynman_kac(law, killing, 0.78).weight(np.array([0.3]))
        assert value == pytest.approx(np.exp(0.09 * np.tan(1.56)) / np.sqrt(np.cos(1.56)), rel=1e-10)
        with pytest.raises(SpdeError, match=r"infinite from time 0\.785398 on \(3 was asked for\)"):
            feynman_kac(law, killing, 3.0)
    coupled, _, _ = random_system(12, 2)
    with pytest.raises(SpdeError, match="infinite from time") as caught:
        feynman_kac(coupled, Quadratic(0, 0, -40.0), 5.0)
    instant = float(str(caught.value).split("time ")[1].split(" ")[0])
    feynman_kac(coupled, Quadratic(0, 0, -40.0), instant * (1 - 1e-4))
    with pytest.raises(SpdeError):
        feynman_kac(coupled, Quadratic(0, 0, -40.0), instant * (1 + 1e-4))


def test_an_exponential_that_grows_faster_than_the_gaussian_decays_is_refused():
    kernel = feynman_kac(LinearLaw([1.0, 1.0], 1.0), Quadratic(), 0.5)
    limit = 1 / (2 * kernel.covariance[0])
    assert np.isfinite(kernel.exponential(np.ones(2), Quadratic(0, 0, 0.99 * limit)))
    for matrix in (1.01 * limit, np.array([[0.0, 1.01], [1.01, 0.0]]) * limit):
        with pytest.raises(SpdeError, match=r"infinite at time 0\.5"):
            kernel.exponential(np.ones(2), Quadratic(0, 0, matrix))


# principal eigenvalues


def test_principal_eigenvalue_of_the_killed_oscillator():
    """-u''/2 s^2 + b x u' + q x^2 u: (sqrt(b^2 + 2 q s^2) - b) / 2, negative q down to -b^2 / (2 s^2) included."""
    b, s = 0.7, 0.9
    for q in (3.0, 0.2, -0.2):
        exact = (np.sqrt(b**2 + 2 * q * s**2) - b) / 2
        for law in (LinearLaw([b], s), OrnsteinUhlenbeck([[b]], s)):
            pair = principal_eigenpair(law, Quadratic(0.4, 0.0, q))
            assert pair.rate == pytest.approx(0.4 + exact, rel=1e-12)
    for law in (LinearLaw([b], s), OrnsteinUhlenbeck([[b]], s)):
        with pytest.raises(SpdeError, match="no principal eigenvalue"):
            principal_eigenpair(law, Quadratic(0.0, 0.0, -0.31))


def test_cumulant_generating_function_of_a_time_average():
    """c = -theta x: -theta f / b - theta^2 s^2 / (2 b^2) is minus the scaled cumulant generating function of int X."""
    b, s, f, theta = 0.7, 0.9, 0.3, 1.4
    pair = principal_eigenpair(LinearLaw([b], s, [f]), Quadratic(0.0, -theta))
    assert pair.rate == pytest.approx(-theta * f / b - theta**2 * s**2 / (2 * b**2), rel=1e-13)


def test_principal_eigenpair_is_the_long_time_limit():
    coupled, killing, x = random_system(13)
    independent = LinearLaw([0.5, 0.0, -0.3], [1.0, 0.6, 0.8], [0.2, 0.0, 0.4])
    for law, c in ((coupled, killing), (independent, Quadratic(0.1, [0.3, -0.2, 0.1], [0.5, 1.5, 2.0]))):
        pair = principal_eigenpair(law, c)
        early, late = (feynman_kac(law, c, t).log_weight for t in (40.0, 41.0))
        np.testing.assert_allclose(early(x) - late(x), pair.rate, rtol=1e-11)
        origin = np.zeros(3)
        np.testing.assert_allclose(late(x) - late(origin), pair.log_eigenfunction(x), rtol=1e-10)
        # the weight settles with the slowest relaxation of the surviving process
        relaxation = pair.relaxation if pair.relaxation.ndim == 2 else np.diag(pair.relaxation)
        gap = np.linalg.eigvals(relaxation).real.min()
        assert np.abs(feynman_kac(law, c, 3 / gap).propagator).max() < 3 * np.exp(-3) * np.linalg.cond(relaxation)
