"""Transfer-matrix laws against brute-force quadrature, Gaussian laws, samples, and numbers of method.md section 5."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import ndtr
from scipy.stats import kstest

from spde.errors import ExpressionError, SpdeError
from spde.exact import LinearLaw
from spde.transfer_matrix import invariant_law, potential_of_reaction

BOUNDARIES = ("neumann", "dirichlet", "periodic")
every_boundary = pytest.mark.parametrize("boundary", BOUNDARIES)

DOUBLE_WELL = "u**4/4 - u**2/2"
TILTED = "a*u**4 - u**2/2 + 0.3*u + 0.2*sin(2*u)"


@cache
def allen_cahn(boundary="neumann", points=32):
    return invariant_law(DOUBLE_WELL, 2.5, points, boundary, 1.0, 0.5)


class BruteForce:
    """Law (1) of two or three sites on a tensor grid of trapezoidal nodes."""

    def __init__(self, V, length, points, boundary, nu, sigma, reach=3.6, count=91):
        dx = length / (points + (boundary == "dirichlet"))
        axis = np.linspace(-reach, reach, count)
        self.u = np.meshgrid(*[axis] * points, indexing="ij")
        chain = {"neumann": self.u, "dirichlet": [0.0, *self.u, 0.0], "periodic": [*self.u, self.u[0]]}[boundary]
        bonds = sum((b - a) ** 2 for a, b in pairwise(chain))
        self.gradient = nu / 2 / dx * bonds
        self.local = dx * sum(V(u) for u in self.u)
        weight = np.exp(-2 / sigma**2 * (self.gradient + self.local)) * (axis[1] - axis[0]) ** points
        self.partition = weight.sum()
        self.weight = weight / self.partition
        self.field_mean = sum(self.u) * dx / length

    def __call__(self, values):
        return np.sum(self.weight * values)


# numbers that are known


def test_metastable_allen_cahn_has_the_moments_of_method_section_5():
    law = allen_cahn()
    assert law.moment(2).mean() == pytest.approx(0.85461, abs=5e-6)
    assert law.moment(4).mean() == pytest.approx(0.95255, abs=5e-6)
    np.testing.assert_allclose(law.structure_factor[:4], [0.81792, 0.0091604, 0.0032625, 0.0016053], rtol=2e-5)
    mean = law.spatial_mean
    assert mean.variance == pytest.approx(0.81792, abs=5e-6)
    assert mean.cumulant(4) == pytest.approx(-1.2198, abs=5e-5)
    assert mean.probability(-0.5, 0.5) == pytest.approx(0.05735, abs=5e-6)


@every_boundary
@pytest.mark.parametrize("points", [2, 3])
def test_two_and_three_sites_agree_with_brute_force(boundary, points):
    nu, sigma, length, a = 0.3, 0.9, 1.7, 0.4
    law = invariant_law(TILTED, length, points, boundary, nu, sigma, {"a": a})
    brute = BruteForce(
        lambda u: a * u**4 - u**2 / 2 + 0.3 * u + 0.2 * np.sin(2 * u), length, points, boundary, nu, sigma
    )
    assert law.log_partition == pytest.approx(np.log(brute.partition), abs=1e-11)
    assert law.free_energy == pytest.approx(-(sigma**2) / 2 * np.log(brute.partition), abs=1e-11)
    for k in (1, 2, 3, 4):
        np.testing.assert_allclose(law.moment(k), [brute(u**k) for u in brute.u], atol=1e-11)
    exact = [[brute(u * v) for u in brute.u] for v in brute.u]
    np.testing.assert_allclose(law.correlation, exact, atol=1e-11)
    np.testing.assert_allclose(law.energy, [brute(brute.gradient), brute(brute.local)], atol=1e-11)
    m, mean = brute.field_mean, law.spatial_mean
    centre = brute(m)
    central = [brute((m - centre) ** k) for k in range(7)]
    cumulants = [
        centre,
        central[2],
        central[3],
        central[4] - 3 * central[2] ** 2,
        central[5] - 10 * central[3] * central[2],
        central[6] - 15 * central[4] * central[2] - 10 * central[3] ** 2 + 30 * central[2] ** 3,
    ]
    np.testing.assert_allclose([mean.cumulant(k) for k in range(1, 7)], cumulants, atol=1e-10)
    assert mean.expectation(np.cos) == pytest.approx(brute(np.cos(m)), abs=1e-11)


@every_boundary
def test_densities_and_probabilities_of_two_sites_agree_with_nested_gauss_quadrature(boundary):
    nu, sigma, length = 0.3, 0.9, 1.7
    law = invariant_law(DOUBLE_WELL, length, 2, boundary, nu, sigma)
    dx = length / (3 if boundary == "dirichlet" else 2)

    def weight(u, v):
        ends = u**2 + v**2 if boundary == "dirichlet" else 0
        bonds = (u - v) ** 2 * (2 if boundary == "periodic" else 1) + ends
        local = sum(w**4 / 4 - w**2 / 2 for w in (u, v))
        return np.exp(-2 / sigma**2 * (nu / 2 / dx * bonds + dx * local) - law.log_partition)

    nodes, weights = np.polynomial.legendre.leggauss(120)
    wide, wide_weights = 6 * nodes, 6 * weights
    u = np.array([-1.3, 0.02, 0.7])
    density = weight(u[:, None], wide) @ wide_weights
    np.testing.assert_allclose(law.site_density(u), [density, density], rtol=1e-10)
    inside, inside_weights = 0.2 + 0.9 * nodes, 0.9 * weights  # (-0.7, 1.1)
    probability = inside_weights @ weight(inside[:, None], inside) @ inside_weights
    assert law.probability_inside([(-0.7, 1.1)]) == pytest.approx(probability, rel=1e-10)
    step = law.expectation(lambda u: u > 0.4, breaks=[0.4])
    above, above_weights = 3.4 + 3 * nodes, 3 * weights
    exact = above_weights @ weight(above[:, None], wide) @ wide_weights
    np.testing.assert_allclose(step, [exact, exact], rtol=1e-10)


# Gaussian fields


def laplacian(points, length, boundary):
    """Eigenvalues and orthonormal eigenvectors of minus the three-point Laplacian, engine's order of modes; spacing."""
    k = np.arange(points)
    if boundary == "neumann":
        dx = length / points
        phase, basis = np.pi * k / points, np.cos(np.outer(k + 0.5, np.pi * k / points))
    elif boundary == "dirichlet":
        dx = length / (points + 1)
        phase = np.pi * (k + 1) / (points + 1)
        basis = np.sin(np.outer(k + 1, phase))
    else:
        dx = length / points
        phase = 2 * np.pi * ((k + 1) // 2) / points
        basis = np.where((k % 2 == 0) & (k > 0), np.sin(np.outer(k, phase)), np.cos(np.outer(k, phase)))
    return (2 / dx * np.sin(phase / 2)) ** 2, basis / np.sqrt(dx * (basis**2).sum(axis=0)), dx


@pytest.mark.parametrize(
    ("boundary", "points"), [(b, n) for b in BOUNDARIES for n in (1, 2, 9, 300) if n > 1 or b != "periodic"]
)
def test_a_quadratic_potential_gives_the_gaussian_law_of_the_linear_equation(boundary, points):
    nu, sigma, length, a = 0.7, 0.6, 2.0, 1.3
    law = invariant_law("a*u**2/2", length, points, boundary, nu, sigma, {"a": a})
    eigenvalues, basis, dx = laplacian(points, length, boundary)
    exact = LinearLaw(nu * eigenvalues + a, sigma)
    covariance = exact.covariance(basis)
    np.testing.assert_allclose(law.correlation, covariance, atol=1e-12)
    np.testing.assert_allclose(law.mode_variances, exact.stationary_variance, rtol=1e-8)
    assert sum(law.energy) == pytest.approx(exact.energy, rel=1e-11)
    log_partition = np.linalg.slogdet(2 * np.pi * covariance)[1] / 2
    assert law.log_partition == pytest.approx(log_partition, abs=1e-10)
    np.testing.assert_allclose(law.moment(4), 3 * np.diag(covariance) ** 2, rtol=1e-11)
    np.testing.assert_allclose(
        law.expectation(lambda u: u > 0.1, breaks=[0.1]), ndtr(-0.1 / np.sqrt(np.diag(covariance))), rtol=1e-11
    )
    mean, variance = law.spatial_mean, covariance.sum() * (dx / length) ** 2
    assert mean.variance == pytest.approx(variance, rel=1e-11)
    assert abs(mean.cumulant(4)) < 1e-9 * variance**2
    m = np.sqrt(variance) * np.array([-3.0, 0.0, 0.5, 2.0])
    np.testing.assert_allclose(
        mean.density(m), np.exp(-(m**2) / 2 / variance) / np.sqrt(2 * np.pi * variance), rtol=1e-9
    )
    np.testing.assert_allclose(mean.distribution(m), ndtr(m / np.sqrt(variance)), rtol=1e-9)


def test_without_a_potential_dirichlet_ends_pin_a_brownian_bridge():
    law = invariant_law("0", 2.0, 49, "dirichlet", 0.5, 0.8)
    x = law.spacing * np.arange(1, 50)
    exact = 0.64 / (2 * 0.5) * np.minimum.outer(x, x) * (2.0 - np.maximum.outer(x, x)) / 2.0
    np.testing.assert_allclose(law.covariance, exact, atol=1e-12)
    assert law.energy[0] == pytest.approx(49 * 0.16)


@every_boundary
def test_structure_factor_is_the_variance_of_the_fourier_sums(boundary):
    law = allen_cahn(boundary, 8)
    n, share = law.points, law.spacing / law.length
    i = np.arange(n)
    waves = {
        "neumann": np.cos(np.pi * np.outer(i, i + 0.5) / n),
        "dirichlet": np.sin(np.pi * np.outer(i + 1, i + 1) / (n + 1)),
        "periodic": np.exp(2j * np.pi * np.outer(np.arange(n // 2 + 1), i) / n),
    }[boundary]
    exact = np.einsum("ki,ij,kj->k", waves, law.covariance, waves.conj()).real * share**2
    np.testing.assert_allclose(law.structure_factor, exact, rtol=1e-9)


def test_a_stiff_ring_takes_as_many_eigenvectors_as_its_mean_needs():
    """On so short a ring 64 of them leave an error of 3e-6 in the characteristic function."""
    mean = invariant_law("u**2/2", 0.2, 4, "periodic", 1.0, 0.5).spatial_mean
    theta = 2 * np.pi / mean.period * np.arange(len(mean.characteristic))
    exact = np.exp(-(theta**2) * 0.625 / 2 - 1j * theta * mean.low)
    np.testing.assert_allclose(mean.characteristic, exact, atol=1e-12)


@every_boundary
def test_a_thousand_sites_keep_ten_digits(boundary):
    """Variance of the mean, slow modes and normalisation of a Gaussian field."""
    points, length = 1024, 2.5
    law = invariant_law("u**2/2", length, points, boundary, 1.0, 0.5)
    eigenvalues, basis, dx = laplacian(points, length, boundary)
    variances = 0.125 / (eigenvalues + 1)
    exact = np.sum((basis.sum(axis=0) * dx / length) ** 2 * variances)
    assert law.spatial_mean.variance == pytest.approx(exact, rel=1e-10)
    np.testing.assert_allclose(law.mode_variances[:20], variances[:20], rtol=1e-10)
    assert law.log_partition == pytest.approx(np.sum(np.log(2 * np.pi * variances / dx)) / 2, abs=1e-9)


# the field as a whole


def test_probability_inside_a_set_agrees_with_one_minus_its_complement_for_one_site():
    law = invariant_law(DOUBLE_WELL, 0.3, 1, "neumann", 1.0, 0.8)
    inside = law.probability_inside([(-np.inf, -0.4), (0.3, np.inf)])
    between = law.expectation(lambda u: np.abs(u + 0.05) < 0.35, breaks=[-0.4, 0.3])[0]
    assert inside == pytest.approx(1 - between, abs=1e-12)
    assert law.probability_inside([(-np.inf, np.inf)]) == pytest.approx(1.0, abs=1e-11)
    assert law.probability_inside([(50.0, 60.0)]) == 0.0


@every_boundary
def test_samples_have_the_law_they_are_drawn_from(boundary):
    law, batch = allen_cahn(boundary, 16), 6000
    fields = law.sample(np.random.default_rng(1).random((law.uniforms_per_sample, batch)))
    square = fields * fields
    error = square.std(axis=1) / np.sqrt(batch)
    assert (np.abs(square.mean(axis=1) - law.moment(2)) < 4 * error).all()
    products = fields[:, None] * fields[[0, 5]]
    error = products.std(axis=2) / np.sqrt(batch)
    assert (np.abs(products.mean(axis=2) - law.correlation[:, [0, 5]]) < 4 * error).all()
    mean = fields.sum(axis=0) * law.spacing / law.length
    assert kstest(mean, law.spatial_mean.distribution).pvalue > 1e-3
    grid = np.linspace(law.low, law.high, 2001)
    for site in (0, 7):
        cumulated = np.cumsum(law.site_density(grid)[site]) * (grid[1] - grid[0])
        assert kstest(fields[site], lambda u, c=cumulated: np.interp(u, grid, c)).pvalue > 1e-3
    ends = {"neumann": [], "dirichlet": [fields[:1], -fields[-1:]], "periodic": [fields[:1] - fields[-1:]]}[boundary]
    bonds = np.concatenate([np.diff(fields, axis=0), *ends])
    squares = (bonds**2).sum(axis=0) * law.diffusivity / (2 * law.spacing)
    assert abs(squares.mean() - law.energy[0]) < 3.5 * squares.std() / np.sqrt(batch)
    positive = (fields > 0).all(axis=0)
    probability = law.probability_inside([(0, np.inf)])
    assert abs(positive.mean() - probability) < 3.5 * np.sqrt(probability / batch)


def test_stratified_uniforms_reproduce_the_law_of_a_site():
    """All pairs of 3000 choices and 5 shifts: the first site of a chain without the noise of sampling."""
    law = invariant_law(TILTED, 0.6, 2, "neumann", 0.5, 0.9, {"a": 0.4})
    choice, shift = (np.arange(3000) + 0.5) / 3000, (np.arange(5) + 0.5) / 5
    uniforms = np.full((4, 15000), 0.5)
    uniforms[:2] = np.repeat(choice, 5), np.tile(shift, 3000)
    first = law.sample(uniforms)[0]
    for function in (np.tanh, lambda u: np.exp(-(u**2)), lambda u: np.cos(3 * u)):
        assert np.mean(function(first)) == pytest.approx(law.expectation(function)[0], abs=3e-5)


def test_values_of_samples_are_continuous_between_the_nodes():
    """The position of a value between two nodes is uniform, as the density hardly changes over a step."""
    law = allen_cahn()
    fields = law.sample(np.random.default_rng(2).random((law.uniforms_per_sample, 2000)))
    for values in (fields[0], fields[20], fields[21] - fields[20]):
        assert kstest(np.mod((values - law.low) / law.step, 1), "uniform").pvalue > 1e-3


@every_boundary
def test_a_sample_depends_on_its_own_uniforms_only(boundary):
    law = allen_cahn(boundary, 8)
    uniforms = np.random.default_rng(3).random((law.uniforms_per_sample, 60))
    together = law.sample(uniforms)
    for part in (slice(13, 20), slice(5, 6)):
        np.testing.assert_array_equal(law.sample(uniforms[:, part]), together[:, part])
    with pytest.raises(SpdeError, match="takes"):
        law.sample(uniforms[:-1])


# bounds of rates


def test_rates_of_the_mean_of_a_linear_field_are_met_by_the_bound():
    """The mean of a Neumann field is an Ornstein-Uhlenbeck process of its own: rates a, 2 a, 3 a."""
    for boundary in ("neumann", "periodic"):
        bounds = invariant_law("0.65*u**2", 2.0, 24, boundary, 0.7, 0.6).spatial_mean.rate_bounds(3)
        np.testing.assert_allclose(bounds, [1.3, 2.6, 3.9], rtol=1e-3)
        assert (bounds > [1.3, 2.6, 3.9]).all()


def test_bound_holds_where_the_mean_is_not_a_mode():
    law = invariant_law("0.4*u**2", 2.0, 24, "dirichlet", 0.7, 0.6)
    slowest = 0.7 * laplacian(24, 2.0, "dirichlet")[0][0] + 0.8
    (bound,) = law.spatial_mean.rate_bounds()
    assert slowest < bound < 1.3 * slowest


def test_bound_of_the_slowest_rate_is_below_that_of_every_clipped_mean():
    mean = allen_cahn().spatial_mean
    fine, step = np.linspace(-2, 2, 4001, retstep=True)
    density = mean.density(fine) * step

    def clipped(slope):
        variance = np.clip(slope * fine, -1, 1) ** 2 @ density
        return 0.25 / (2 * 2.5) * slope**2 * mean.probability(-1 / slope, 1 / slope) / variance

    # the number that the README states for slope 2
    assert clipped(2.0) == pytest.approx(0.05 * 4 * 0.05735 / (1 - 0.05735), rel=0.05)
    best = minimize_scalar(clipped, bounds=(0.5, 5), method="bounded").fun
    (bound,) = mean.rate_bounds(1)
    assert 0.9 * best > bound > 0.0075
    assert bound == pytest.approx(mean.rate_bounds(1, elements=800)[0], rel=1e-3)


# errors and refusals


def test_error_estimates_cover_the_errors_of_nodes_that_are_too_few():
    exact = allen_cahn()
    for factor in (1.6, 2.0):
        crude = replace(exact, step=exact.step * factor)
        for quantity in (
            lambda law: law.log_partition,
            lambda law: law.moment(2),
            lambda law: law.structure_factor[:4],
            lambda law: law.spatial_mean.variance,
        ):
            value, error = crude.with_error(quantity)
            true = np.abs(value - quantity(exact))
            assert (true <= error + 1e-13).all()
    assert crude.error > 1e-6 > 1e-11 > exact.error


def test_a_reaction_gives_the_law_of_its_potential():
    reaction = potential_of_reaction("a*u - u**3", {"a": 1.0})
    u = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(reaction(u), u**4 / 4 - u**2 / 2, atol=1e-14)
    law = invariant_law(reaction, 2.5, 32, "neumann", 1.0, 0.5)
    np.testing.assert_allclose(law.structure_factor, allen_cahn().structure_factor, atol=1e-13)
    with pytest.raises(SpdeError, match="could not be integrated"):
        invariant_law(potential_of_reaction("-u/abs(u - 0.1)"), 2.5, 4)
    law = invariant_law(potential_of_reaction("-sin(u)"), 1.5, 2, "dirichlet", 1.0, 0.9)
    exact = invariant_law("1 - cos(u)", 1.5, 2, "dirichlet", 1.0, 0.9)
    assert law.log_partition == pytest.approx(exact.log_partition, abs=1e-11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-cos(u)", 2.5, 16), "does not confine"),
        (("-u**2", 2.5, 16), "does not confine"),
        (("u**2", 2.5, 16, "robin"), "not one of neumann"),
        (("u**2", 2.5, 1, "periodic"), "at least 2 points"),
        (("u**2", -2.5, 16), "length > 0"),
        (("u**2", 2.5, 16, "neumann", 0.0), "diffusivity > 0"),
        (("u**2", 2.5, 16, "neumann", 1.0, 0.0), "amplitude > 0"),
        (("u**4/4 - u**2/2", 2.5, 2048, "neumann", 1.0, 0.02), "too weak for so fine a grid"),
        (("abs(u)", 2.5, 16), "smooth the potential"),
        (("u**4 - log(u)", 2.5, 16), "not a number at u = -"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_the_reason(arguments, message):
    with pytest.raises(SpdeError, match=message):
        invariant_law(*arguments)


def test_a_rough_potential_is_accepted_where_its_error_is():
    law = invariant_law("abs(u)", 2.5, 16, tolerance=1e-3)
    assert 1e-10 < law.error < 1e-3
    with pytest.raises(ExpressionError, match="unknown name"):
        invariant_law("b*u**2", 2.5, 16)


def test_dirichlet_ends_confine_a_periodic_potential():
    law = invariant_law("-cos(u)", 1.5, 2, "dirichlet", 1.0, 0.9)
    brute = BruteForce(lambda u: -np.cos(u), 1.5, 2, "dirichlet", 1.0, 0.9, reach=6.0, count=401)
    np.testing.assert_allclose(law.moment(2), [brute(u**2) for u in brute.u], rtol=1e-11)
