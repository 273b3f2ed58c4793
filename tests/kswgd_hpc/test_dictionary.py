from __future__ import annotations

import numpy as np
import pytest

from kswgd_hpc.dictionary import GaussianDictionary, PolynomialDictionary
from kswgd_hpc.dictionary.centres import farthest_points, nearest_neighbour

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(7, 3))
DICTIONARIES = {
    "gaussian": GaussianDictionary(RNG.normal(size=(20, 3)), 0.7),
    "polynomial": PolynomialDictionary(3, 4),
}


def finite_differences(function, step=1e-6):
    """(3, n, ...) derivatives at Z."""
    shifts = step * np.eye(3)
    return np.array([(function(Z + s) - function(Z - s)) / (2 * step) for s in shifts])


@pytest.mark.parametrize("name", DICTIONARIES)
def test_gradient_matches_finite_differences(name):
    dictionary, weights = DICTIONARIES[name], RNG.normal(size=DICTIONARIES[name].size)
    expected = finite_differences(lambda z: dictionary.values(z) @ weights).T
    np.testing.assert_allclose(dictionary.gradient(Z, weights), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DICTIONARIES)
def test_dirichlet_form_matches_finite_differences(name):
    dictionary = DICTIONARIES[name]
    mobility = np.diag([1.0, 2.0, 3.0]) + 0.2
    slopes = finite_differences(dictionary.values)
    expected = np.einsum("anp,ab,bnq->pq", slopes, mobility, slopes)
    np.testing.assert_allclose(dictionary.dirichlet_form(Z, mobility), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", DICTIONARIES)
def test_generator_matches_finite_differences(name):
    dictionary, step = DICTIONARIES[name], 1e-4
    mobility, drift = np.diag([1.0, 2.0, 3.0]) + 0.2, RNG.normal(size=Z.shape)
    shifts = step * np.eye(3)
    slopes = finite_differences(dictionary.values)
    curvature = [
        (dictionary.values(Z + a + b) - dictionary.values(Z + a - b) - dictionary.values(Z - a + b))
        + dictionary.values(Z - a - b)
        for a in shifts
        for b in shifts
    ]
    second = np.array(curvature).reshape(3, 3, len(Z), -1) / (4 * step**2)
    expected = np.einsum("na,anp->np", drift, slopes) + np.einsum("ab,abnp->np", mobility, second)
    found = dictionary.generator(Z, drift, mobility)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", DICTIONARIES)
def test_the_coarser_dictionary_has_half_the_functions(name):
    dictionary = DICTIONARIES[name]
    assert dictionary.coarsening().shape == (dictionary.size, dictionary.size // 2)
    assert np.linalg.matrix_rank(dictionary.coarsening()) == dictionary.size // 2


def test_gaussians_add_up_to_one_even_far_from_all_centres():
    values = DICTIONARIES["gaussian"].values(np.concatenate([Z, 1e4 * Z]))
    np.testing.assert_allclose(values.sum(axis=1), 1.0)
    np.testing.assert_allclose(DICTIONARIES["gaussian"].coarsening().sum(axis=1), 1.0)


def test_hermite_polynomials_are_orthonormal_under_the_normal_law():
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    z = np.array(np.meshgrid(nodes, nodes)).reshape(2, -1).T
    w = np.outer(weights, weights).ravel() / (2 * np.pi)
    values = PolynomialDictionary(2, 4).values(z)
    np.testing.assert_allclose(values.T @ (values * w[:, None]), np.eye(values.shape[1]), atol=1e-10)
    np.testing.assert_allclose(w @ values, 0, atol=1e-10)


def test_farthest_points_cover_and_their_prefixes_too():
    points = RNG.uniform(size=(2000, 2))
    chosen = points[farthest_points(points, 100)]
    for count, radius in ((25, 0.2), (100, 0.1)):
        distance = np.sqrt(((points[:, None] - chosen[None, :count]) ** 2).sum(-1)).min(axis=1)
        assert distance.max() < radius
    assert 0.06 < nearest_neighbour(chosen) < 0.13


def test_coinciding_points_are_chosen_once():
    assert len(farthest_points(np.repeat(np.eye(3), 5, axis=0), 10)) == 3
