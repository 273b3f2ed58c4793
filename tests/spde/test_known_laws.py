"""Densities, draws and spectra of invariant laws that are known."""

from __future__ import annotations

import numpy as np
import pytest

from spde.catalogue import named_equation
from spde.density import invariant_density
from spde.diffusions import Diffusion, UnderdampedLangevin, langevin
from spde.domain import Domain
from spde.draws import independent_draws
from spde.errors import SpdeError
from spde.manifolds import Circle, ManifoldDiffusion, Sphere, Torus
from spde.noise import Covariance
from spde.spectra import exact_spectrum

COUNT = 40_000
RNG = np.random.default_rng(0)


def field(name: str, boundary: str, discretization: str, covariance: Covariance | None = None):
    return named_equation(name, Domain.box(2.5, 12, boundary, discretization), 0.5, {}, covariance or Covariance())


SYSTEMS = {
    "wells": langevin(["x", "y"], "(x**2-1)**2 + (y**2-1)**2 + x*y", 0.5),
    "rotation": Diffusion(["x", "y"], ["-x - 2*y", "2*x - y"], [[2.0, 0.0], [0.5, 1.0]]),
    "allen_cahn": field("allen_cahn", "neumann", "finite_difference"),
    "allen_cahn_spectral": field("allen_cahn", "periodic", "spectral"),
    "sine_gordon": field("sine_gordon", "dirichlet", "finite_difference"),
    "heat": field("heat", "dirichlet", "spectral", Covariance("exponential", 0.3)),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_score_is_the_slope_of_the_log_density(name):
    density, states = invariant_density(SYSTEMS[name]), RNG.normal(size=(SYSTEMS[name].dimension, 4))
    shift = 1e-5 * np.eye(len(states))[:, :, None]
    slopes = [(density.log(states + e) - density.log(states - e)) / 2e-5 for e in shift]
    assert density.score(states) == pytest.approx(np.array(slopes), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["rotation", "heat", "allen_cahn", "wells"])
def test_draws_have_the_law_that_the_density_says(name):
    """Stein's identity: the score has mean zero, and E[x_i score_i] = -1 for each component."""
    system = SYSTEMS[name]
    states = independent_draws(system)(3, 60, 0, COUNT)
    product = states * invariant_density(system).score(states)
    for values, expected in ((product, -1.0), (product / states, 0.0)):
        error = values.std(axis=1) / np.sqrt(COUNT)
        assert (np.abs(values.mean(axis=1) - expected) < 4.5 * error).all()


def test_draws_depend_on_their_index_alone():
    draw = independent_draws(SYSTEMS["wells"])
    assert (draw(1, 60, 10, 20) == draw(1, 60, 0, 30)[:, 10:20]).all()


def test_the_torus_is_drawn_by_area():
    """R = 2, r = 0.8: the mean of cos(theta) is 0.2, and 62.73 % lie on the outer half."""
    system = ManifoldDiffusion(Torus(2.0, 0.8))
    cosine = np.cos(system.manifold.angles_of(independent_draws(system)(1, 60, 0, COUNT))["theta"])
    assert cosine.mean() == pytest.approx(0.2, abs=4 * cosine.std() / np.sqrt(COUNT))
    assert (cosine > 0).mean() == pytest.approx(0.6273, abs=4 * np.sqrt(0.24 / COUNT))


def test_a_sphere_in_a_field_has_the_langevin_function_as_mean():
    system = ManifoldDiffusion(Sphere(1.0), "-3*z", 1.0)
    z = independent_draws(system)(1, 60, 0, COUNT)[2]
    assert z.mean() == pytest.approx(1 / np.tanh(3) - 1 / 3, abs=4 * z.std() / np.sqrt(COUNT))


@pytest.mark.parametrize(
    ("system", "rates"),
    [
        (langevin(["x", "y"], "(x**2-1)**2 + (y**2-1)**2", 0.25), [0.029780, 0.029780, 0.059559, 3.310394, 3.310394]),
        (ManifoldDiffusion(Torus(2.0, 0.8)), [0.257239, 0.257239, 0.902844, 0.902844, 1.540200]),
        (ManifoldDiffusion(Circle(0.5)), [4.0, 4.0, 16.0, 16.0, 36.0]),
    ],
)
def test_exact_spectra_are_those_of_the_generator(system, rates):
    """Rates against published ones; orthonormality and the Dirichlet form by exact draws."""
    spectrum = exact_spectrum(system, 5)
    assert spectrum.rates == pytest.approx(rates, rel=2e-5)
    states = independent_draws(system)(2, 60, 0, COUNT)
    values, gradient = spectrum.evaluate(states)
    assert values.T @ values / COUNT == pytest.approx(np.eye(5), abs=0.06)
    for k in range(5):
        square = spectrum.mobility * (gradient(np.eye(5)[k]) ** 2).sum(axis=0)
        assert square.mean() == pytest.approx(rates[k], abs=5 * square.std() / np.sqrt(COUNT))


@pytest.mark.parametrize(
    ("find", "system", "reason"),
    [
        (invariant_density, field("burgers", "periodic", "spectral"), "detailed balance"),
        (invariant_density, UnderdampedLangevin(["q"], "q**2", 1.0, 1.0), "momenta"),
        (independent_draws, field("allen_cahn", "neumann", "spectral"), "finite differences"),
        (independent_draws, langevin(["x"], "-x**2", 1.0), "confine"),
        (exact_spectrum, SYSTEMS["wells"], "couples x and y"),
    ],
)
def test_what_is_not_known_is_refused_with_the_reason(find, system, reason):
    with pytest.raises(SpdeError, match=reason):
        find(system, 3) if find is exact_spectrum else find(system)
