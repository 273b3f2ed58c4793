from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from scipy.interpolate import BSpline

from kswgd_hpc import streams
from kswgd_hpc.config import parse
from kswgd_hpc.coordinates import LinearMap, Pilot, intrinsic, whitened
from kswgd_hpc.dictionary import (
    BoxDictionary,
    FourierDictionary,
    GaussianDictionary,
    LinearDictionary,
    MaternDictionary,
    PolynomialDictionary,
    RandomFourierDictionary,
    RationalQuadraticDictionary,
    SplineDictionary,
    VoronoiDictionary,
    WendlandDictionary,
    combinations,
    on_device,
    restore,
    wendland,
)
from kswgd_hpc.dictionary.bandwidth import PairScore, StateScore, cross_validated
from kswgd_hpc.dictionary.centres import farthest_points, kmeans, nearest_neighbour
from kswgd_hpc.dictionary.fit import count, fit
from kswgd_hpc.errors import ConfigurationError

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(7, 3))
CENTRES = RNG.normal(size=(40, 3))
LOW, HIGH = np.full(3, -2.0), np.full(3, 2.5)
ONE_PERIOD = np.array([False, True, False])
SMOOTH = {
    "gaussian": GaussianDictionary(CENTRES, 0.7),
    "matern 3/2": MaternDictionary(CENTRES, 0.7, "3/2"),
    "matern 5/2": MaternDictionary(CENTRES, 0.7, "5/2"),
    "rational quadratic": RationalQuadraticDictionary(CENTRES, 0.7, 3.0),
    "wendland 2": WendlandDictionary(CENTRES, 2.0, 2),
    "wendland 4": WendlandDictionary(CENTRES, 2.0, 4),
    "polynomial": PolynomialDictionary(3, 4),
    "fourier": FourierDictionary(LOW, HIGH, ONE_PERIOD, 3),
    "fourier tensor": FourierDictionary(LOW, HIGH, ONE_PERIOD, 2, total=False),
    "random fourier": RandomFourierDictionary.drawn(3, 20, 0.7, seed=1, stream=5),
    "cubic splines": SplineDictionary(LOW, HIGH, [6, 8, 6], ONE_PERIOD, 3),
    "quadratic splines": SplineDictionary(LOW, HIGH, [6, 8, 6], ONE_PERIOD, 2),
    "hats": SplineDictionary(LOW, HIGH, [6, 8, 6], ONE_PERIOD, 1),
    "linear": LinearDictionary(3),
}
CELLS = {
    "voronoi": VoronoiDictionary(CENTRES),
    "boxes": BoxDictionary(LOW, HIGH, [4, 6, 4], ONE_PERIOD),
}
ALL = SMOOTH | CELLS
SPARSE = {name: dictionary for name, dictionary in ALL.items() if dictionary.sparse}
CONSTANT = np.diag([1.0, 2.0, 3.0]) + 0.2
ROOTS = RNG.normal(size=(len(Z), 3, 3))
LOCAL = ROOTS @ ROOTS.transpose(0, 2, 1)
MOBILITIES = {"constant": (CONSTANT, "ab"), "of the state": (LOCAL, "nab")}


def finite_differences(function, step=1e-6):
    """(3, n, ...) derivatives at Z."""
    shifts = step * np.eye(3)
    return np.array([(function(Z + s) - function(Z - s)) / (2 * step) for s in shifts])


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_match_finite_differences(name):
    dictionary, weights = SMOOTH[name], RNG.normal(size=(SMOOTH[name].size, 2))
    expected = finite_differences(lambda z: dictionary.values(z) @ weights).transpose(1, 2, 0)
    np.testing.assert_allclose(dictionary.gradients(Z, weights), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dictionary.gradient(Z, weights[:, 0]), expected[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", MOBILITIES)
@pytest.mark.parametrize("name", SMOOTH)
def test_dirichlet_form_matches_finite_differences(name, kind):
    dictionary, (mobility, indices) = SMOOTH[name], MOBILITIES[kind]
    slopes = finite_differences(dictionary.values)
    expected = np.einsum(f"anp,{indices},bnq->pq", slopes, mobility, slopes, optimize=True)
    found = dictionary.dirichlet_form(Z, mobility)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(dictionary.dirichlet_form(Z, mobility, None, slice(1, 3)), found[:, 1:3], atol=1e-9)


@pytest.mark.parametrize("kind", MOBILITIES)
@pytest.mark.parametrize("name", [name for name in SMOOTH if name != "hats"])
def test_generator_matches_finite_differences(name, kind):
    dictionary, (mobility, indices), step = SMOOTH[name], MOBILITIES[kind], 1e-4
    drift, shifts = RNG.normal(size=Z.shape), step * np.eye(3)
    curvature = [
        (dictionary.values(Z + a + b) - dictionary.values(Z + a - b) - dictionary.values(Z - a + b))
        + dictionary.values(Z - a - b)
        for a in shifts
        for b in shifts
    ]
    second = np.array(curvature).reshape(3, 3, len(Z), -1) / (4 * step**2)
    expected = np.einsum("na,anp->np", drift, finite_differences(dictionary.values))
    expected += np.einsum(f"{indices},abnp->np", mobility, second)
    found = dictionary.generator(Z, drift, mobility)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["gaussian", "matern 5/2", "wendland 2"])
def test_radial_functions_are_the_quotient_in_their_definition(name):
    dictionary, h = SMOOTH[name], SMOOTH[name].bandwidth
    profile = {
        "gaussian": lambda r: np.exp(-(r**2) / 2),
        "matern 5/2": lambda r: (1 + np.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-np.sqrt(5) * r),
        "wendland 2": lambda r: max(1 - r, 0) ** 4 * (4 * r + 1),
    }[name]
    for z, values in zip(Z, dictionary.values(Z)):
        raw = np.array([profile(np.linalg.norm(z - centre) / h) for centre in CENTRES])
        np.testing.assert_allclose(values, raw / raw.sum(), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("error", [0.1, 1e-3, 1e-12])
def test_gaussian_combinations_are_rounded_by_no_more_than_asked(error):
    dictionary, coefficients = SMOOTH["gaussian"], RNG.normal(size=(len(CENTRES), 3))
    z = np.concatenate([Z, 30 * Z])  # also where all exponentials vanish in single precision
    exact = dictionary.values(z) @ coefficients
    assert np.abs(combinations(dictionary, Z, coefficients, error) - exact[: len(Z)]).max() < error
    assert np.abs(combinations(dictionary, z, coefficients, error) - exact).max() < error


@pytest.mark.parametrize("name", ALL)
def test_a_dictionary_is_what_it_says(name):
    dictionary, far = ALL[name], np.concatenate([Z, 1e3 * Z])
    values = dictionary.values(far)
    assert values.shape == (len(far), dictionary.size)
    assert np.abs(values).max() <= dictionary.bound * (1 + 1e-12)
    if dictionary.partition:
        np.testing.assert_allclose(values.sum(axis=1), 1.0)
        np.testing.assert_allclose(np.asarray(dictionary.coarsening().sum(axis=1)), 1.0)
    again = restore(dictionary.kind, dictionary.parameters())
    np.testing.assert_array_equal(again.values(Z), dictionary.values(Z))
    np.testing.assert_array_equal(on_device(dictionary, np).values(Z), dictionary.values(Z))


@pytest.mark.parametrize("name", ALL)
def test_the_coarser_dictionary_has_at_most_half_the_functions(name):
    coarsening = ALL[name].coarsening().toarray()
    assert coarsening.shape[0] == ALL[name].size
    assert coarsening.shape[1] <= max(1, ALL[name].size // 2)
    assert np.linalg.matrix_rank(coarsening) == coarsening.shape[1]


@pytest.mark.parametrize("name", ["wendland 2", "cubic splines", "fourier", "hats"])
def test_functions_are_flat_far_from_the_data(name):
    dictionary = SMOOTH[name]
    away = Z * 1e3 * np.array([1, 0, 1]) if hasattr(dictionary, "grid") or name == "fourier" else 1e3 * Z
    slopes = dictionary.gradient(away, RNG.normal(size=dictionary.size))
    assert not slopes[:, [0, 2]].any()


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_rows_hold_each_function_once_and_depend_on_their_point_alone(name):
    dictionary, z = SPARSE[name], np.concatenate([Z, 10 * Z, LOW[None], HIGH[None]])
    indices, values = dictionary.sparse_values(z)
    assert indices.dtype == np.int64
    assert indices.shape == values.shape
    assert dictionary.width is None or indices.shape[1] <= dictionary.width
    assert not values[indices < 0].any()
    dense = dictionary.values(z)
    for row, (columns, entries) in enumerate(zip(indices, values)):
        kept = columns[columns >= 0]
        assert len(np.unique(kept)) == len(kept)
        assert (kept < dictionary.size).all()
        np.testing.assert_array_equal(dense[row, kept], entries[columns >= 0])
        alone, of_one = dictionary.sparse_values(z[row : row + 1])
        np.testing.assert_array_equal(of_one[alone >= 0], entries[columns >= 0])
    assert dense.sum() == pytest.approx(len(z))
    if dictionary.smoothness:
        again, gradients = dictionary.sparse_gradients(z)
        np.testing.assert_array_equal(again, indices)
        assert not gradients[indices < 0].any()


def test_neighbours_are_the_same_by_a_tree_and_by_all_distances(monkeypatch):
    dictionary, z = SMOOTH["wendland 4"], np.concatenate([Z, 1e3 * Z])
    values, gradient = dictionary.values(z), dictionary.gradient(z, np.arange(40.0))
    monkeypatch.setattr(wendland, "_FEW", 0)
    np.testing.assert_allclose(dictionary.values(z), values, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(dictionary.gradient(z, np.arange(40.0)), gradient, rtol=1e-10, atol=1e-12)
    indices, rows = dictionary.sparse_values(z[:3])
    np.testing.assert_array_equal(dictionary.sparse_values(z)[1][:3, : rows.shape[1]], rows)
    assert indices.shape[1] <= dictionary.sparse_values(z)[0].shape[1]


@pytest.mark.parametrize("name", CELLS)
def test_cells_have_no_gradients_and_say_so(name):
    for call in (CELLS[name].dirichlet_form, lambda z, k: CELLS[name].generator(z, z, k)):
        with pytest.raises(ConfigurationError, match="indicator functions have no gradients"):
            call(Z, CONSTANT)


def test_cells_are_those_of_the_nearest_centre_and_of_the_box():
    nearest = [np.argmin(((z - CENTRES) ** 2).sum(axis=1)) for z in Z]
    np.testing.assert_array_equal(CELLS["voronoi"].cell(Z), nearest)
    z = np.array([[-9.0, -2.0, 2.6], [0.24, 2.6, 0.26]])
    # the second coordinate has period 4.5, the others end at their ranges
    np.testing.assert_array_equal(
        CELLS["boxes"].cell(z), [[0, 0, 3] @ np.array([24, 4, 1]), [1, 0, 2] @ np.array([24, 4, 1])]
    )


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
def test_splines_are_b_splines_folded_at_the_ends(degree):
    cells, z = 12, np.linspace(-0.3, 1.3, 97)[:, None]
    dictionary = SplineDictionary([0.0], [1.0], [cells], [False], degree)
    knots = np.arange(-degree, cells + degree + 1) / cells
    whole = BSpline.design_matrix(np.clip(z[:, 0], 0, 1), knots, degree).toarray()
    middle = [dictionary.size // 2, dictionary.size // 2 - 1]  # splines that no end is near to
    np.testing.assert_allclose(dictionary.values(z)[:, middle], whole[:, [i + degree // 2 for i in middle]], atol=1e-12)
    # the fold keeps the sum, and the span of all splines without a slope at the ends
    np.testing.assert_allclose(dictionary.values(z).sum(axis=1), 1.0)
    residual = scipy.linalg.lstsq(whole, dictionary.values(z))[1]
    assert np.max(residual, initial=0.0) < 1e-20


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_coarse_splines_are_splines_on_every_other_knot(degree, periodic):
    z = RNG.uniform(-0.2, 1.2, size=(50, 2))
    fine = SplineDictionary([0.0, 0.0], [1.0, 1.0], [12, 20], [periodic, False], degree)
    coarse = SplineDictionary([0.0, 0.0], [1.0, 1.0], [6, 10], [periodic, False], degree)
    np.testing.assert_allclose(fine.values(z) @ fine.coarsening(), coarse.values(z), atol=1e-12)


def test_a_million_splines_need_no_table_of_them():
    dictionary = SplineDictionary([-1.0] * 3, [1.0] * 3, [100] * 3, [False] * 3, 3)
    z = RNG.uniform(-1, 1, size=(200, 3))
    assert dictionary.size == 101**3
    assert max(np.size(value) for value in vars(dictionary).values()) <= 3
    indices, values = dictionary.sparse_values(z)
    assert len(np.unique(indices)) > 10_000
    np.testing.assert_allclose(values.sum(axis=1), 1.0)
    # a function of each coordinate alone, from the sums of the others
    middle = np.unravel_index(indices.clip(0), [101] * 3)[0] / 50 - 1.0
    np.testing.assert_allclose((values * middle).sum(axis=1)[np.abs(z[:, 0]) < 0.9], z[np.abs(z[:, 0]) < 0.9, 0])


def test_hermite_polynomials_are_orthonormal_under_the_normal_law():
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    z = np.array(np.meshgrid(nodes, nodes)).reshape(2, -1).T
    w = np.outer(weights, weights).ravel() / (2 * np.pi)
    values = PolynomialDictionary(2, 4).values(z)
    np.testing.assert_allclose(values.T @ (values * w[:, None]), np.eye(values.shape[1]), atol=1e-10)
    np.testing.assert_allclose(w @ values, 0, atol=1e-10)


def test_fourier_modes_are_orthonormal_under_the_uniform_law():
    n = 64
    z = np.array(np.meshgrid((np.arange(n) + 0.5) / n, np.arange(n) / n)).reshape(2, -1).T * [3.0, 5.0]
    dictionary = FourierDictionary([0.0, 0.0], [3.0, 5.0], [False, True], 6)
    values = dictionary.values(z)
    np.testing.assert_allclose(values.T @ values / len(z), np.eye(dictionary.size), atol=1e-12)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(dictionary.values(z + [0.0, 5.0]), values, atol=1e-12)


def test_products_are_counted_before_they_are_made():
    for degree in (1, 3, 6):
        assert PolynomialDictionary.count(3, degree) == PolynomialDictionary(3, degree).size
        for total in (True, False):
            made = FourierDictionary(LOW, HIGH, ONE_PERIOD, degree, total)
            assert FourierDictionary.count(ONE_PERIOD, degree, total) == made.size
            assert len(np.unique(made.factors, axis=0)) == made.size


def test_random_features_have_the_gaussian_as_their_kernel():
    dictionary = RandomFourierDictionary.drawn(3, 40_000, 1.3, seed=2, stream=5)
    products = dictionary.values(Z[:1]) * dictionary.values(Z)
    expected = np.exp(-((Z - Z[0]) ** 2).sum(axis=1) / (2 * 1.3**2))
    error = products.std(axis=1) / np.sqrt(dictionary.size)
    assert (np.abs(products.mean(axis=1) - expected) < 4 * error).all()
    fewer = RandomFourierDictionary.drawn(3, 100, 1.3, seed=2, stream=5)
    np.testing.assert_array_equal(dictionary.frequencies[:, :100], fewer.frequencies)


def test_farthest_points_cover_and_their_prefixes_too():
    points = RNG.uniform(size=(2000, 2))
    chosen = points[farthest_points(points, 100)]
    for number, radius in ((25, 0.2), (100, 0.1)):
        distance = np.sqrt(((points[:, None] - chosen[None, :number]) ** 2).sum(-1)).min(axis=1)
        assert distance.max() < radius
    assert 0.06 < nearest_neighbour(chosen) < 0.13


def test_coinciding_points_are_chosen_once():
    points = np.repeat(np.eye(3), 5, axis=0)
    assert len(farthest_points(points, 10)) == 3
    assert len(kmeans(points, 10, seed=0, stream=streams.DICTIONARY)) == 3


def test_kmeans_is_a_fixed_point_that_serves_more_points_better():
    points = RNG.normal(size=(3000, 2))
    centres = kmeans(points, 40, seed=3, stream=streams.DICTIONARY)

    def spread(chosen):
        return ((points[:, None] - chosen) ** 2).sum(axis=2).min(axis=1).mean()

    assert spread(centres) < 0.7 * spread(points[farthest_points(points, 40)])
    label = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    means = np.array([points[label == i].mean(axis=0) for i in range(40)])
    assert np.sqrt(((means - centres) ** 2).sum(axis=1)).max() < 0.1
    np.testing.assert_array_equal(centres, kmeans(points, 40, seed=3, stream=streams.DICTIONARY))


def ornstein_uhlenbeck(number, lag=0.5, seed=0):
    """Stationary pairs in two dimensions with the rates 1 and 2."""
    rng = np.random.default_rng(seed)
    rho = np.exp(-np.array([1.0, 2.0]) * lag)
    x = rng.normal(size=(number, 2))
    return x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)


@pytest.mark.parametrize("reversible", [False, True])
def test_cross_validation_finds_a_width_of_nearly_the_best_score(reversible):
    x, y = ornstein_uhlenbeck(4000)
    make = lambda h: RandomFourierDictionary.drawn(2, 60, h, seed=1, stream=5)  # noqa: E731
    score = PairScore(x, y, 6, reversible)
    assert cross_validated(make, 0.05, score) == pytest.approx(0.2)  # the widest of seven
    assert score(make(4e4)).mean() < score(make(10.0)).mean()  # too wide to tell the features apart
    best = cross_validated(make, 3.0, score)
    singular = np.exp(-np.array([0.5, 1.0, 1.0, 1.5, 1.5]))  # five largest of exp(-(i + 2 j) / 2)
    assert 0.8 < score(make(best)).mean() / (singular**2).sum() < 1.1


def test_a_width_whose_score_is_better_by_chance_alone_is_not_taken():
    chance = {0.5: [0, 0, 0, 0], 1.0: [0, 1, 0, 1], 2.0: [3, 0, 1, -1]}
    score = lambda width: 4.0 + 0.1 * np.array(chance[width])  # noqa: E731
    score.factors = np.array(list(chance))
    assert cross_validated(lambda width: width, 1.0, score) == 1.0
    chance[2.0] = [3, 3, 3, 3]
    assert cross_validated(lambda width: width, 1.0, score) == 2.0


def test_states_without_time_are_scored_by_the_resolvent():
    z, _ = ornstein_uhlenbeck(4000)
    mobility = np.diag([1.0, 2.0])
    score = StateScore(z, mobility, 6)
    # t = 1 / 1.5, rates 1, 2, 2, 3, 3
    exact = (1 / (1 + np.array([1, 2, 2, 3, 3]) / 1.5)).sum()
    assert score(PolynomialDictionary(2, 3)).mean() == pytest.approx(exact, rel=0.05)
    assert score(LinearDictionary(2)).mean() < 0.6 * exact
    centres = z[farthest_points(z, 40)]
    assert cross_validated(lambda h: GaussianDictionary(centres, h), 0.7, score) >= 0.7


SPECS = {
    "gaussian": "kind: gaussian, size: 60",
    "gaussian of k-means": "kind: gaussian, size: 60, centres: kmeans",
    "gaussian, validated": "kind: gaussian, size: 60, bandwidth: cross_validated",
    "matern": "kind: matern, size: 60, smoothness: 3/2",
    "rational quadratic": "kind: rational_quadratic, size: 60",
    "wendland": "kind: wendland, size: 60, smoothness: 4",
    "polynomial": "kind: polynomial, degree: 4",
    "fourier": "kind: fourier, degree: 8",
    "random fourier": "kind: random_fourier, size: 80",
    "splines": "kind: splines, cells: [8, 6]",
    "cells": "kind: indicator, size: 200",
    "boxes": "kind: indicator, cells: 10",
}


def spec_of(text, lagged=False):
    """The dictionary section of a configuration for recorded data."""
    estimator, system, more = "dirichlet", "", ""
    if lagged:
        estimator, system, more = "edmd", ", sampling_interval: 0.5", "ensemble: {lag_time: 0.5}"
    koopman = f"{{estimator: {estimator}, dictionary: {{{text}}}}}"
    return parse(f"system: {{kind: data, path: x.npy{system}}}\nkoopman: {koopman}\n{more}").koopman.dictionary


@pytest.mark.parametrize("name", SPECS)
def test_every_kind_knows_the_rates_of_an_ornstein_uhlenbeck_process(name):
    x, y = ornstein_uhlenbeck(20_000)
    spec = spec_of(SPECS[name], lagged=True)
    pilot = Pilot(LinearMap(None, 2), x[:5000], np.diag([1.0, 2.0]), (x[:5000], y[:5000]))
    coordinates = (whitened if "polynomial" in name else intrinsic)(pilot)
    dictionary = fit(spec, coordinates, pilot, 4, True, seed=1)
    assert dictionary.size <= count(spec, 2)
    both = [dictionary.values(coordinates(states.T)) for states in (x, y)]
    both = [psi - (both[0].mean(axis=0) + both[1].mean(axis=0)) / 2 for psi in both]
    gram = (both[0].T @ both[0] + both[1].T @ both[1]) / 2
    values, vectors = scipy.linalg.eigh(gram)
    basis = vectors[:, values > 1e-8 * values[-1]] / np.sqrt(values[values > 1e-8 * values[-1]])
    cross = basis.T @ both[0].T @ both[1] @ basis
    mu = scipy.linalg.eigvalsh((cross + cross.T) / 2)[::-1]
    tolerance = 0.03 if "cells" not in name else 0.08  # piecewise constant functions see less
    np.testing.assert_allclose(mu[:3], np.exp(-0.5 * np.array([1, 2, 2])), atol=tolerance)


REFUSED = {
    "odd cells": ("kind: splines, cells: 7", "cells: 7, expected an even number of at least 6"),
    "few cells": ("kind: splines, cells: 8, degree: 5", "expected an even number of at least 10"),
    "cells of three": ("kind: splines, cells: [8, 8, 8]", "koopman.dictionary.cells: 3 entries for 2 coordinates"),
    "periods of one": ("kind: fourier, degree: 3, period: [1.0]", "koopman.dictionary.period: 1 entries for 2"),
    "too many": ("kind: fourier, degree: 1000, truncation: tensor", "1002000 functions; at most 100000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_that_do_not_fit_the_coordinates_are_refused(name):
    text, message = REFUSED[name]
    with pytest.raises(ConfigurationError, match=message.replace("[", r"\[")):
        count(spec_of(text), 2)


UNREADABLE = {
    "misspelt kind": ("kind: gausian, size: 9", "did you mean 'gaussian'?"),
    "unknown key": ("kind: splines, cels: 8", "koopman.dictionary.cels: unknown key; did you mean 'cells'?"),
    "width": ("kind: gaussian, size: 9, bandwidth: wide", "choose one of auto, cross_validated or a number"),
    "smoothness": ("kind: matern, size: 9, smoothness: 1/2", "'1/2' is not available"),
    "both": ("kind: indicator, size: 9, cells: 4", "give either 'size', cells around centres, or 'cells'"),
    "centres of boxes": ("kind: indicator, cells: 4, centres: kmeans", "'centres' belongs to size"),
    "no gradients": ("kind: indicator, size: 9", "no gradients, which estimator: dirichlet needs; use kind: splines"),
    "no functions": ("kind: expressions, functions: []", "koopman.dictionary.functions"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_dictionaries_that_cannot_be_are_refused_in_one_line(name):
    text, message = UNREADABLE[name]
    with pytest.raises(ConfigurationError) as caught:
        spec_of(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
