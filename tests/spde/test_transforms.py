"""Trigonometric transforms against their dense matrices, and bits that do not depend on the batch."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from spde.errors import SpdeError
from spde.transforms import Transform, fast_points

KINDS = ("cosine", "sine", "sine_interior", "fourier")
LENGTH = 2.7
# passes of every radix, first or later; odd numbers, primes, primes beyond the cache, blocks larger than the cache
SIZES = (
    *[(n, m) for m in range(1, 9) for n in range(1, m + 1)],
    *[(5, 10), (7, 16), (16, 31), (16, 32), (11, 33), (40, 40), (20, 45), (37, 74), (60, 60), (51, 98), (64, 121)],
    *[(100, 128), (63, 125), (90, 243), (128, 256), (20, 257), (256, 256), (9, 514), (250, 500), (256, 512)],
    *[(3, 523), (12, 1200), (6, 2048), (4, 6000)],
)

every_kind = pytest.mark.parametrize("kind", KINDS)
every_size = pytest.mark.parametrize(("modes", "points"), SIZES, ids=lambda n: str(n))


def sample(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max(initial=1e-300)


@every_kind
@pytest.mark.parametrize(("modes", "points"), [(1, 1), (4, 4), (5, 5), (7, 12), (30, 64), (33, 65)])
def test_basis_is_the_orthonormal_one(kind, modes, points):
    transform = Transform(kind, LENGTH, modes, points)
    x, k = transform.grid[:, None], np.arange(modes)
    if kind == "fourier":
        angle = 2 * np.pi / LENGTH * ((k + 1) // 2) * x
        expected = np.where((k > 0) & (k % 2 == 0), np.sin(angle), np.cos(angle))
        slope = np.where((k > 0) & (k % 2 == 0), np.cos(angle), -np.sin(angle))
    elif kind == "cosine":
        expected, slope = np.cos(np.pi / LENGTH * k * x), -np.sin(np.pi / LENGTH * k * x)
    else:
        expected, slope = np.sin(np.pi / LENGTH * (k + 1) * x), np.cos(np.pi / LENGTH * (k + 1) * x)
    gram = transform.spacing * transform.basis.T @ transform.basis
    np.testing.assert_allclose(gram, np.eye(modes), atol=1e-13)
    np.testing.assert_allclose(transform.basis, transform.amplitudes * expected, atol=1e-12)
    slope = transform.amplitudes * transform.wavenumbers * slope
    np.testing.assert_allclose(transform.derivative_basis, slope, atol=1e-12 * (1 + np.abs(slope).max()))


def test_grid_is_where_the_kind_puts_it():
    np.testing.assert_allclose(Transform("cosine", 1.0, 2, 4).grid, [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(Transform("sine", 1.0, 2, 4).grid, [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(Transform("sine_interior", 1.0, 2, 4).grid, [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(Transform("fourier", 1.0, 2, 4).grid, [0.0, 0.25, 0.5, 0.75])


@every_kind
@every_size
def test_transforms_are_their_matrices(kind, modes, points):
    transform = Transform(kind, LENGTH, modes, points)
    basis, slope, dx = transform.basis, transform.derivative_basis, transform.spacing
    coefficients, values = sample(1, 2, modes, 9), sample(2, 2, points, 9)
    kept = coefficients.copy(), values.copy()
    assert relative_error(transform.synthesis(coefficients), basis @ coefficients) < 1e-14
    assert relative_error(transform.analysis(values), dx * basis.T @ values) < 1e-14
    scale = np.abs(slope).max() * LENGTH  # an alternating cosine has no slope at the grid points, up to rounding
    error = np.abs(transform.derivative_synthesis(coefficients) - slope @ coefficients).max()
    assert error < 3e-15 * (1 + scale) * np.sqrt(modes)
    error = np.abs(transform.derivative_analysis(values) + dx * slope.T @ values).max()
    assert error < 3e-15 * (1 + scale)
    np.testing.assert_array_equal(coefficients, kept[0])
    np.testing.assert_array_equal(values, kept[1])


@every_kind
@pytest.mark.parametrize(("modes", "points"), [(1, 1), (6, 6), (9, 9), (17, 34), (128, 256), (130, 131), (600, 600)])
def test_analysis_inverts_synthesis(kind, modes, points):
    transform = Transform(kind, LENGTH, modes, points)
    coefficients = sample(3, 3, modes, 5)
    found = transform.analysis(transform.synthesis(coefficients))
    np.testing.assert_allclose(found, coefficients, atol=1e-13)


@every_kind
def test_weak_derivative_converges_to_the_inner_products_with_order_two(kind):
    """Against <f_x, e_j> by fine quadrature, f with different values at the ends unless periodic."""
    modes = 7
    if kind == "fourier":
        field, slope = lambda x: (x * (LENGTH - x)) ** 2, lambda x: 2 * x * (LENGTH - x) * (LENGTH - 2 * x)
    else:
        field, slope = lambda x: 1 + (x / LENGTH) ** 3, lambda x: 3 * x**2 / LENGTH**3
    # any modes on a grid so fine that the sum is the integral
    fine_kind = "sine" if kind == "sine_interior" else kind
    fine = Transform(fine_kind, LENGTH, modes, 100_000)
    expected = fine.analysis(slope(fine.grid)[None, :, None])[0, :, 0]
    boundary = np.array([field(0.0), field(LENGTH)]).reshape(1, 2, 1)
    errors = []
    for points in (64, 128):
        transform = Transform(kind, LENGTH, modes, points)
        found = transform.derivative_analysis(field(transform.grid)[None, :, None], boundary)
        errors.append(np.abs(found[0, :, 0] - expected).max())
    assert errors[1] < 3e-3 * np.abs(expected).max()
    assert errors[0] / errors[1] > 3.8


def test_flux_derivative_conserves_mass_without_flux_at_the_ends():
    transform = Transform("cosine", LENGTH, 20, 40)
    mean = transform.derivative_analysis(sample(4, 1, 40, 6))[:, 0]
    np.testing.assert_array_equal(mean, np.zeros((1, 6)))


def test_boundary_values_enter_where_the_grid_sum_leaves_them_out():
    ends, values = sample(5, 2, 2, 9), sample(6, 2, 12, 9)
    for kind in KINDS:
        transform = Transform(kind, LENGTH, 7, 12)
        found = transform.derivative_analysis(values, ends) - transform.derivative_analysis(values)
        alternating = (-1.0) ** np.arange(7)[:, None]
        if kind == "cosine":
            expected = transform.amplitudes[:, None] * (alternating * ends[:, 1:] - ends[:, :1])
        elif kind == "sine_interior":
            slope = transform.amplitudes[:, None] * transform.wavenumbers[:, None]
            expected = -transform.spacing / 2 * slope * (ends[:, :1] - alternating * ends[:, 1:])
        else:
            expected = np.zeros((2, 7, 9))
        np.testing.assert_allclose(found, expected, atol=1e-13)


@every_kind
@pytest.mark.parametrize(("modes", "points"), [(16, 32), (15, 45), (29, 58), (128, 256), (256, 512), (300, 1100)])
def test_bits_do_not_depend_on_the_batch(kind, modes, points):
    transform = Transform(kind, LENGTH, modes, points)
    for name, rows in (("synthesis", modes), ("analysis", points), ("derivative_analysis", points)):
        compute = getattr(transform, name)
        source = sample(7, 1, rows, 100)
        expected = compute(source)
        for first, width in ((0, 1), (37, 1), (5, 3), (93, 7), (20, 8), (1, 13), (36, 64)):
            part = np.ascontiguousarray(source[:, :, first : first + width])
            np.testing.assert_array_equal(compute(part), expected[:, :, first : first + width])
        stacked = np.ascontiguousarray(source.reshape(rows, 4, 25).swapaxes(0, 1))
        np.testing.assert_array_equal(compute(stacked), expected.reshape(-1, 4, 25).swapaxes(0, 1))


@every_kind
def test_a_trajectory_that_blows_up_harms_no_other(kind):
    transform = Transform(kind, LENGTH, 32, 64)
    source = sample(8, 1, 64, 17)
    expected = transform.analysis(source)
    source[0, 11, 5] = np.nan
    found = transform.analysis(source)
    assert np.isnan(found[0, :, 5]).all()
    others = np.arange(17) != 5
    np.testing.assert_array_equal(found[:, :, others], expected[:, :, others])


@every_kind
@pytest.mark.parametrize(("points", "inner"), [(21, 3), (64, 20), (600, 9), (74, 8)])
def test_workspace_contents_do_not_matter(kind, points, inner):
    transform = Transform(kind, LENGTH, points, points)
    source, out, workspace = sample(9, 2, points, inner), np.full((2, points, inner), np.nan), transform.workspace()
    for compute in (transform.synthesis, transform.analysis, transform.derivative_synthesis):
        workspace[:] = np.nan
        assert compute(source, out=out, workspace=workspace) is out
        np.testing.assert_array_equal(out, compute(source))


def test_threads_share_a_transform():
    transform = Transform("cosine", LENGTH, 200, 400)
    sources = [sample(seed, 1, 200, 24) for seed in range(8)]
    expected = [transform.synthesis(source) for source in sources]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(transform.synthesis, sources * 5), expected * 5):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_any_axis_of_a_box_is_the_middle_one_of_a_reshaped_array(axis):
    transform = Transform("sine", LENGTH, 6, 14)
    shape = [3, 4, 5, 8]
    shape[axis] = 6
    modes = sample(10, *shape)
    outer, inner = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
    shape[axis] = 14
    found = transform.synthesis(modes.reshape(outer, 6, inner)).reshape(shape)
    expected = np.moveaxis(np.tensordot(transform.basis, modes, axes=(1, axis)), 0, axis)
    np.testing.assert_allclose(found, expected, atol=1e-13)


@every_kind
def test_fast_points_are_the_next_products_of_two_three_and_five(kind):
    extra = 1 if kind == "sine_interior" else 0
    for minimum, cells in ((509, 512), (513, 540), (7, 8), (97, 100)):
        assert fast_points(kind, minimum - extra) == cells - extra


def test_transform_travels_by_pickle():
    transform = Transform("fourier", LENGTH, 9, 20)
    modes = sample(11, 1, 9, 4)
    expected = transform.synthesis(modes)
    copy = pickle.loads(pickle.dumps(transform))
    assert copy == transform
    np.testing.assert_array_equal(copy.synthesis(modes), expected)


def test_impossible_transforms_and_arrays_are_refused():
    with pytest.raises(SpdeError, match="none of cosine"):
        Transform("cosines", 1.0, 2, 4)
    with pytest.raises(SpdeError, match="5 modes on 4 points"):
        Transform("cosine", 1.0, 5, 4)
    with pytest.raises(SpdeError, match="positive length"):
        Transform("cosine", 0.0, 2, 4)
    transform = Transform("cosine", 1.0, 2, 4)
    with pytest.raises(SpdeError, match="outer, axis, inner"):
        transform.synthesis(np.ones((2, 3)))
    with pytest.raises(SpdeError, match=r"shape \(1, 2, 3\)"):
        transform.synthesis(np.ones((1, 4, 3)))
    with pytest.raises(SpdeError, match="C-contiguous"):
        transform.synthesis(np.ones((1, 3, 2)).swapaxes(1, 2))
    with pytest.raises(SpdeError, match="float32"):
        transform.synthesis(np.ones((1, 2, 3), np.float32))
    with pytest.raises(SpdeError, match="out is"):
        transform.synthesis(np.ones((1, 2, 3)), out=np.ones((1, 4, 4)))
    with pytest.raises(SpdeError, match="boundary is"):
        transform.derivative_analysis(np.ones((1, 4, 3)), boundary=np.ones((1, 3)))
    with pytest.raises(ValueError, match="workspace"):
        transform.synthesis(np.ones((1, 2, 3)), workspace=np.empty(3))
