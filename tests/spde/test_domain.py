"""Intervals: orthonormal bases, transforms, and eigenvalues of the three-point Laplacian."""

import numpy as np
import pytest

from spde.domain import Domain, Interval

BOUNDARIES = ("periodic", "neumann", "dirichlet")
DISCRETIZATIONS = ("finite_difference", "spectral")
LENGTH = 2.7

every_boundary = pytest.mark.parametrize("boundary", BOUNDARIES)
every_interval = pytest.mark.parametrize(
    "interval",
    [
        Interval(LENGTH, n, boundary, discretization)
        for boundary in BOUNDARIES
        for discretization in DISCRETIZATIONS
        for n in (4, 7, 12, 65, 150)
    ],
    ids=lambda i: f"{i.boundary}-{i.discretization}-{i.points}",
)


def three_point_laplacian(n, dx, boundary):
    """Minus the second difference with the ghost values that the boundary condition asks for."""
    matrix = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    if boundary == "periodic":
        matrix[0, -1] -= 1
        matrix[-1, 0] -= 1
    if boundary == "neumann":
        matrix[0, 0] -= 1
        matrix[-1, -1] -= 1
    return matrix / dx**2


@every_interval
def test_basis_is_orthonormal(interval):
    gram = interval.spacing * interval.basis.T @ interval.basis
    np.testing.assert_allclose(gram, np.eye(interval.points), atol=1e-12)


@every_interval
def test_transforms_are_the_basis_matrix(interval):
    modes = np.random.default_rng(1).normal(size=(interval.points, 3))
    values = np.random.default_rng(2).normal(size=(interval.grid_points, 3))
    kept_modes, kept_values = modes.copy(), values.copy()
    np.testing.assert_allclose(Domain((interval,)).synthesis(modes), interval.basis @ modes, atol=1e-11)
    expected = interval.spacing * interval.basis.T @ values
    np.testing.assert_allclose(Domain((interval,)).analysis(values), expected, atol=1e-11)
    np.testing.assert_array_equal(modes, kept_modes)
    np.testing.assert_array_equal(values, kept_values)


@every_interval
def test_analysis_inverts_synthesis(interval):
    modes = np.random.default_rng(3).normal(size=(interval.points, 2))
    np.testing.assert_allclose(Domain((interval,)).analysis(Domain((interval,)).synthesis(modes)), modes, atol=1e-12)


@every_boundary
@pytest.mark.parametrize("n", [4, 7, 12, 33])
def test_basis_diagonalises_the_three_point_laplacian(boundary, n):
    interval = Interval(LENGTH, n, boundary)
    matrix = three_point_laplacian(n, interval.spacing, boundary)
    scale = interval.eigenvalues.max()
    np.testing.assert_allclose(interval.eigenvalues, np.linalg.eigvalsh(matrix), atol=1e-12 * scale)
    np.testing.assert_allclose(matrix @ interval.basis, interval.basis * interval.eigenvalues, atol=1e-11 * scale)


@every_boundary
def test_eigenvalues_converge_to_the_exact_ones_with_order_two(boundary):
    exact = {
        "periodic": (2 * np.pi / LENGTH * np.array([0, 1, 1, 2, 2])) ** 2,
        "neumann": (np.pi / LENGTH * np.arange(5)) ** 2,
        "dirichlet": (np.pi / LENGTH * np.arange(1, 6)) ** 2,
    }[boundary]
    np.testing.assert_allclose(Interval(LENGTH, 5, boundary, "spectral").eigenvalues, exact, rtol=1e-14)
    errors, spacings = [], []
    for n in (40, 80, 160):
        interval = Interval(LENGTH, n, boundary)
        errors.append(np.abs(interval.eigenvalues[:5] - exact).max())
        spacings.append(interval.spacing)
    orders = np.diff(np.log(errors)) / np.diff(np.log(spacings))
    np.testing.assert_allclose(orders, 2, atol=0.05)


@every_boundary
@pytest.mark.parametrize("discretization", DISCRETIZATIONS)
def test_modes_of_a_known_field_are_its_fourier_coefficients(boundary, discretization):
    interval = Interval(LENGTH, 12, boundary, discretization)
    x, root = interval.grid[:, None], np.sqrt(LENGTH / 2)
    expected = np.zeros(12)
    if boundary == "dirichlet":
        field = 3 * np.sin(2 * np.pi * x / LENGTH)
        expected[1] = 3 * root
    elif boundary == "neumann":
        field = 1 + 3 * np.cos(np.pi * x / LENGTH)
        expected[:2] = np.sqrt(LENGTH), 3 * root
    else:
        field = 1 + 3 * np.cos(2 * np.pi * x / LENGTH) - 2 * np.sin(4 * np.pi * x / LENGTH)
        expected[[0, 1, 4]] = np.sqrt(LENGTH), 3 * root, -2 * root
    np.testing.assert_allclose(Domain((interval,)).analysis(field)[:, 0], expected, atol=1e-12)


@every_boundary
@pytest.mark.parametrize("n", [6, 9])
def test_grid_is_where_the_boundary_condition_puts_it(boundary, n):
    grid = Interval(LENGTH, n, boundary).grid
    expected = {
        "periodic": np.linspace(0, LENGTH, n, endpoint=False),
        "neumann": (np.arange(n) + 0.5) * LENGTH / n,
        "dirichlet": np.linspace(0, LENGTH, n + 2)[1:-1],
    }[boundary]
    np.testing.assert_allclose(grid, expected)
    spectral = Interval(LENGTH, n, boundary, "spectral", degree=3)
    # four factors of the highest wavenumber must stay below twice that of the grid
    assert 4 * spectral.wavenumbers.max() < 2 * np.pi / spectral.spacing
    assert spectral.grid_points <= 2 * n + 8


@every_boundary
def test_no_states_have_no_coefficients(boundary):
    plane = Domain((Interval(LENGTH, 6, boundary), Interval(LENGTH, 8, boundary)))
    assert plane.analysis(np.empty((plane.grid_size, 0))).shape == (plane.size, 0)
    assert plane.synthesis(np.empty((plane.size, 0))).shape == (plane.grid_size, 0)
