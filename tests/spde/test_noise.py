"""Q-Wiener processes: covariances against their formulas under refinement, on every kind of domain."""

import numpy as np
import pytest
from fields import custom, named
from scipy.special import gamma, kv

from spde.domain import Domain, Interval
from spde.errors import SpdeError
from spde.noise import Covariance
from spde.stepping import Noise

LENGTH = 0.15


def matern(r, nu):
    scaled = np.maximum(np.sqrt(2 * nu) * r / LENGTH, 1e-12)
    return 2 ** (1 - nu) / gamma(nu) * scaled**nu * kv(nu, scaled)


KERNELS = {
    "exponential": (Covariance("exponential", LENGTH), lambda r: np.exp(-r / LENGTH)),
    "gaussian": (Covariance("gaussian", LENGTH), lambda r: np.exp(-(r**2) / (2 * LENGTH**2))),
    "matern 3/2": (Covariance("matern", LENGTH, smoothness=1.5), lambda r: matern(r, 1.5)),
    "matern 2.2": (Covariance("matern", LENGTH, smoothness=2.2), lambda r: matern(r, 2.2)),
}


def covariance_between(domain, covariance, first, others):
    """Covariance of the noise at a point and at others, (points of each axis given), from the modes."""
    indices = np.arange(domain.size)
    variances = covariance.spectrum(domain.squared_wavenumbers, domain.dimensions)
    here = domain.modes(indices, [np.array([x]) for x in first])[0]
    return domain.modes(indices, others) @ (variances * here)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("boundary", ["periodic", "neumann", "dirichlet"])
def test_covariance_on_an_interval_is_the_kernel_summed_over_images(name, boundary):
    covariance, kernel = KERNELS[name]
    x, y = 0.4, np.linspace(0.05, 1.6, 9)
    exact = np.zeros_like(y)
    for k in range(-4, 5):
        if boundary == "periodic":
            exact += kernel(np.abs(x - y + 1.7 * k))
        else:
            sign = 1 if boundary == "neumann" else -1
            exact += kernel(np.abs(x - y + 3.4 * k)) + sign * kernel(np.abs(x + y + 3.4 * k))
    errors = []
    for n in (64, 128, 256):
        domain = Domain((Interval(1.7, n, boundary),))
        errors.append(np.abs(covariance_between(domain, covariance, [x], [y]) - exact).max())
    smooth = {"exponential": 1, "matern 3/2": 3, "matern 2.2": 4.4}.get(name)
    if smooth is None:
        assert errors[-1] < 1e-12
    else:  # the tail of the spectrum that the grid leaves out falls as n^(-2 nu)
        assert errors[-1] < 0.02 * 4**-smooth
        assert errors[0] / errors[-1] > 0.5 * 4**smooth


@pytest.mark.parametrize("dimensions", [2, 3])
def test_covariance_on_boxes_depends_on_the_distance(dimensions):
    covariance, kernel = KERNELS["gaussian"]
    domain = Domain.box([1.7, 2.1, 1.9][:dimensions], [40, 46, 42][:dimensions], "periodic")
    first, axes = [0.8, 1.0, 0.9][:dimensions], [np.array([0.7, 1.0, 1.2])] * dimensions
    found = covariance_between(domain, covariance, first, axes)
    mesh = np.meshgrid(*axes, indexing="ij")
    distance = np.sqrt(sum((m - x) ** 2 for m, x in zip(mesh, first))).ravel()
    np.testing.assert_allclose(found, kernel(distance), atol=1e-9)


def test_matern_tends_to_exponential_and_gaussian():
    k = np.linspace(0, 40, 50) ** 2
    for d in (1, 2, 3):
        half = Covariance("matern", LENGTH, smoothness=0.5).spectrum(k, d)
        np.testing.assert_allclose(half, Covariance("exponential", LENGTH).spectrum(k, d), rtol=1e-12)
        smooth = Covariance("matern", LENGTH, smoothness=4000.0).spectrum(k, d)
        limit = Covariance("gaussian", LENGTH).spectrum(k, d)
        np.testing.assert_allclose(smooth, limit, atol=1e-3 * limit[0])


def test_power_law_spectrum():
    k = np.array([0.0, 1.0, 10.0])
    np.testing.assert_allclose(
        Covariance("power_law", 2.0, exponent=1.5).spectrum(k**2, 1), (1 + 4 * k**2) ** -1.5, rtol=1e-14
    )


@pytest.mark.parametrize("discretization", ["finite_difference", "spectral"])
@pytest.mark.parametrize("name", ["exponential", "gaussian"])
def test_one_step_has_the_covariance_of_the_noise(name, discretization):
    """Increment of the field at fixed points, over sqrt(h) sigma, within three standard errors."""
    covariance, _ = KERNELS[name]
    batch, h, sigma = 40_000, 1e-6, 0.7
    for n in (48, 96):
        domain = Domain((Interval(1.6, n, "periodic", discretization),))
        equation = custom(domain, 0.3, "u - u**3", sigma, covariance=covariance)
        modes = equation.to_modes(
            equation.stepper(h).advance(np.zeros((equation.dimension, batch)), Noise(3, 1, 0), 0, 1)
        )
        points = np.array([0.0, 0.1, 0.3])
        values = equation.domain.modes(np.arange(n), [points]) @ modes / (sigma * np.sqrt(h))
        found = (values * values[0]).mean(axis=1)
        exact = covariance_between(equation.domain, covariance, [0.0], [points])
        error = np.sqrt((exact[0] ** 2 + exact**2) / batch)
        assert (np.abs(found - exact) < 3 * error).all()


def test_pointwise_variance_is_the_diagonal_of_the_covariance():
    domain = Domain.box([1.0, 1.3], [9, 7], ["neumann", "dirichlet"])
    variances = np.random.default_rng(1).uniform(size=domain.size)
    modes = domain.modes(np.arange(domain.size))
    np.testing.assert_allclose(domain.pointwise_variance(variances), (modes**2) @ variances, rtol=1e-12)


def test_conserved_noise_leaves_the_mean_alone_and_grows_with_the_wavenumber():
    domain = Domain.box(2.0, 16, "neumann")
    equation = named("cahn_hilliard", domain, 0.5, {"nu": 0.1})
    np.testing.assert_allclose(equation.scales, 0.5 * np.sqrt(domain.eigenvalues), rtol=1e-13)
    assert equation.scales[0] == 0


NONLINEAR = "noise in {} dimensions makes u a distribution"


@pytest.mark.parametrize("dimensions", [2, 3])
def test_white_noise_in_more_dimensions_is_refused_for_nonlinear_equations_alone(dimensions):
    domain = Domain.box([1.0] * dimensions, 8, "periodic")
    for name in ("allen_cahn", "sine_gordon", "burgers", "fitzhugh_nagumo"):
        with pytest.raises(SpdeError, match=NONLINEAR.format(dimensions)):
            named(name, domain, 0.5)
    assert named("heat", domain, 0.5).is_linear
    with pytest.raises(SpdeError, match=NONLINEAR.format(dimensions)):
        custom(domain, 1.0, "0", "1 + 0.1*u")
    # the bi-Laplacian smooths enough: sum over k of 1 / k^4 is finite
    named("swift_hohenberg", domain, 0.5)
    named("allen_cahn", domain, 0.5, covariance=Covariance("matern", 0.1, smoothness=0.2))


@pytest.mark.parametrize(("exponent", "allowed"), [(0.4, False), (0.6, True)])
def test_power_law_noise_is_judged_by_the_field_that_it_drives(exponent, allowed):
    """In three dimensions k^-2s noise and the heat operator give a field where 2 s + 2 > 3."""
    domain = Domain.box([1.0] * 3, 6, "periodic")
    if allowed:
        named("allen_cahn", domain, 0.5, covariance=Covariance("power_law", 0.1, exponent=exponent))
        return
    with pytest.raises(SpdeError, match="power_law noise in 3 dimensions"):
        named("allen_cahn", domain, 0.5, covariance=Covariance("power_law", 0.1, exponent=exponent))
