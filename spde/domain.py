"""Intervals, rectangles and boxes: boundary conditions, grids, Laplacian eigenbasis and transforms.

A domain is a product of intervals. Every discretisation here is diagonal in an orthonormal basis e_j of Laplacian
eigenfunctions (products of the intervals' own), so a field is a set of coefficients c_j = <u, e_j> whichever way it is
stored:

* finite differences: n grid points an axis, n modes, eigenvalues of the three-point Laplacian;
* spectral Galerkin: n modes with the exact eigenvalues; products are formed on a finer grid, on which a product of the
  equation's degree is projected without aliasing.

Arrays of a field are (points of all axes in C order, trajectories), trajectories contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from spde.errors import SpdeError
from spde.transforms import Transform, fast_points

Boundary = Literal["periodic", "neumann", "dirichlet"]
Discretization = Literal["finite_difference", "spectral"]
AXES = ("x", "y", "z")
_KINDS = {"periodic": "fourier", "neumann": "cosine", "dirichlet": "sine"}


@dataclass(frozen=True)
class Interval:
    """The interval [0, length] with `points` degrees of freedom: one axis of a domain.

    Parameters
    ----------
    length : in units of x
    points : number of grid points (finite differences) or modes (spectral)
    boundary : periodic (grid i dx), neumann (cell centred), dirichlet (interior points; cell centred if spectral)
    discretization : finite_difference or spectral
    degree : polynomial degree of the nonlinear terms that the grid of a spectral axis integrates exactly
    """

    length: float
    points: int
    boundary: Boundary = "neumann"
    discretization: Discretization = "finite_difference"
    degree: int = 3

    @cached_property
    def grid_points(self) -> int:
        """Number of points at which nonlinear terms are evaluated."""
        if self.discretization == "finite_difference" or self.degree < 2:
            return self.points
        # degree + 1 factors of the highest wavenumber have to stay below twice that of the grid
        highest = {"periodic": 2 * (self.points // 2), "neumann": self.points - 1, "dirichlet": self.points}[
            self.boundary
        ]
        return fast_points(_KINDS[self.boundary], max(self.points, (self.degree + 1) * highest // 2 + 1))

    @cached_property
    def _interior(self) -> bool:
        """Whether the grid is that of interior points, one fewer than cells."""
        return self.boundary == "dirichlet" and self.discretization == "finite_difference"

    @cached_property
    def spacing(self) -> float:
        """Distance between grid points."""
        return self.length / (self.grid_points + (1 if self._interior else 0))

    @cached_property
    def grid(self) -> np.ndarray:
        """(grid_points,) coordinates of the grid."""
        offset = {"periodic": 0.0, "neumann": 0.5, "dirichlet": 1.0 if self._interior else 0.5}[self.boundary]
        return (np.arange(self.grid_points) + offset) * self.spacing

    @cached_property
    def wavenumbers(self) -> np.ndarray:
        """(points,) wavenumbers of the modes, ascending; periodic ones come as cosine, sine pairs."""
        index = np.arange(self.points)
        if self.boundary == "periodic":
            return 2 * np.pi / self.length * ((index + 1) // 2)
        return np.pi / self.length * (index + (1 if self.boundary == "dirichlet" else 0))

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """(points,) eigenvalues of minus the Laplacian as discretised, units 1/length**2, ascending."""
        if self.discretization == "spectral":
            return self.wavenumbers**2
        return (2 / self.spacing * np.sin(self.wavenumbers * self.spacing / 2)) ** 2

    @cached_property
    def transform(self) -> Transform:
        """The transform between coefficients and values on the grid."""
        kind = "sine_interior" if self._interior else _KINDS[self.boundary]
        return Transform(kind, self.length, self.points, self.grid_points)

    @cached_property
    def basis(self) -> np.ndarray:
        """(grid_points, points) values of the eigenfunctions, orthonormal: spacing * E.T @ E = 1."""
        return self.evaluate(self.grid)

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        """(len(x), points) values of the eigenfunctions at any points x."""
        phase = np.outer(x, self.wavenumbers)
        if self.boundary == "neumann":
            basis = np.cos(phase)
        elif self.boundary == "dirichlet":
            basis = np.sin(phase)
        else:
            sine = np.arange(self.points) % 2 == 0
            sine[0] = False
            basis = np.where(sine, np.sin(phase), np.cos(phase))
        return basis * self._amplitudes

    @cached_property
    def _amplitudes(self) -> np.ndarray:
        """(points,) factor that makes each cosine or sine orthonormal."""
        amplitudes = np.full(self.points, np.sqrt(2 / self.length))
        if self.boundary != "dirichlet":
            amplitudes[0] = np.sqrt(1 / self.length)
        even = self.boundary == "periodic" and self.points % 2 == 0
        alternates = even or (self.boundary == "dirichlet" and not self._interior)
        if alternates and self.grid_points == self.points:
            amplitudes[-1] = np.sqrt(1 / self.length)  # the cosine or sine that alternates from point to point
        return amplitudes

    def neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        """(points,) index of the left and of the right neighbour; -1 where the field is zero outside.

        A Neumann end is its own neighbour: no gradient there.
        """
        left, right = np.arange(self.points) - 1, np.arange(self.points) + 1
        if self.boundary == "periodic":
            return left % self.points, right % self.points
        outside = -1 if self.boundary == "dirichlet" else None
        left[0] = 0 if outside is None else outside
        right[-1] = self.points - 1 if outside is None else outside
        return left, right


@dataclass(frozen=True)
class Domain:
    """A product of one, two or three intervals.

    Parameters
    ----------
    axes : the intervals, all of one discretisation
    """

    axes: tuple[Interval, ...]

    def __post_init__(self):
        if not 1 <= len(self.axes) <= len(AXES):
            raise SpdeError(f"a domain of {len(self.axes)} axes; one, two and three are possible")
        if len({axis.discretization for axis in self.axes}) > 1:
            raise SpdeError("the axes of a domain need one discretization")

    @classmethod
    def box(
        cls,
        lengths: float | Sequence[float],
        points: int | Sequence[int],
        boundary: Boundary | Sequence[Boundary] = "neumann",
        discretization: Discretization = "finite_difference",
    ) -> Domain:
        """A domain from numbers, or lists of one for each axis; single numbers go to all axes."""
        given = [lengths, points, boundary]
        dims = max(1 if isinstance(g, (int, float, str)) else len(g) for g in given)
        spread = [[g] * dims if isinstance(g, (int, float, str)) else list(g) for g in given]
        if any(len(g) != dims for g in spread):
            raise SpdeError("length, points and boundary of a domain differ in their number of axes")
        return cls(tuple(Interval(float(a), int(n), b, discretization) for a, n, b in zip(*spread, strict=True)))

    def for_degree(self, degree: int) -> Domain:
        """The same domain with grids that integrate nonlinear terms of a polynomial degree exactly."""
        return Domain(tuple(replace(axis, degree=degree) for axis in self.axes))

    @property
    def dimensions(self) -> int:
        return len(self.axes)

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """x, y, z: as many as there are axes."""
        return AXES[: self.dimensions]

    @property
    def is_grid(self) -> bool:
        """Whether states are values on the grid (finite differences), not coefficients."""
        return self.axes[0].discretization == "finite_difference"

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Degrees of freedom of each axis."""
        return tuple(axis.points for axis in self.axes)

    @cached_property
    def size(self) -> int:
        """Degrees of freedom of one field."""
        return math.prod(self.shape)

    @cached_property
    def grid_shape(self) -> tuple[int, ...]:
        """Grid points of each axis."""
        return tuple(axis.grid_points for axis in self.axes)

    @cached_property
    def grid_size(self) -> int:
        """Number of grid points."""
        return math.prod(self.grid_shape)

    @cached_property
    def cell(self) -> float:
        """Volume of a grid cell."""
        return math.prod(axis.spacing for axis in self.axes)

    @cached_property
    def volume(self) -> float:
        """Length, area or volume of the domain."""
        return math.prod(axis.length for axis in self.axes)

    @cached_property
    def coordinates(self) -> dict[str, np.ndarray]:
        """x, y, z -> (grid_size,) coordinate of each grid point."""
        grids = np.meshgrid(*(axis.grid for axis in self.axes), indexing="ij")
        return {name: np.ascontiguousarray(grid.ravel()) for name, grid in zip(AXES, grids)}

    @cached_property
    def neighbours(self) -> np.ndarray:
        """(2, axes, size) index of the left and the right neighbour along each axis; `size` where the field is zero."""
        index = np.arange(self.size).reshape(self.shape)
        found = np.empty((2, self.dimensions, self.size), dtype=np.int64)
        for a, axis in enumerate(self.axes):
            for side, step in enumerate(axis.neighbours()):
                moved = np.where(
                    np.expand_dims(step < 0, [b for b in range(self.dimensions) if b != a]),
                    self.size,
                    np.take(index, step, axis=a),
                )
                found[side, a] = moved.ravel()
        return found

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """(size,) eigenvalues of minus the Laplacian as discretised, units 1/length**2."""
        return _outer_sum([axis.eigenvalues for axis in self.axes])

    @cached_property
    def squared_wavenumbers(self) -> np.ndarray:
        """(size,) eigenvalues of minus the Laplacian without discretisation error: they do not change with the grid."""
        return _outer_sum([axis.wavenumbers**2 for axis in self.axes])

    @cached_property
    def order(self) -> np.ndarray:
        """(size,) indices of the modes by ascending wavenumber, ties in C order."""
        return np.argsort(np.round(self.squared_wavenumbers * self.volume ** (2 / self.dimensions), 9), kind="stable")

    def modes(self, indices: np.ndarray, points: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """(points, len(indices)) values of the eigenfunctions of given flat indices.

        Parameters
        ----------
        indices : flat (C order) indices of modes
        points : coordinates of each axis, a grid is made of them; the domain's own grid where None
        """
        index = np.unravel_index(np.asarray(indices), self.shape)
        values = np.ones((1, len(indices)))
        for a, axis in enumerate(self.axes):
            table = axis.basis if points is None else axis.evaluate(points[a])
            values = (values[:, None, :] * table[None, :, index[a]]).reshape(-1, len(indices))
        return values

    def weights_at(self, place: Sequence[float]) -> np.ndarray:
        """(grid_size,) weights by which values on the grid add up to sum_j c_j e_j at a place, as they do on the grid.

        Raises
        ------
        SpdeError : a place outside, or of another dimension
        """
        if len(place) != self.dimensions:
            raise SpdeError(f"{len(place)} coordinates of a place in a domain of {self.dimensions} axes")
        for axis, name, x in zip(self.axes, AXES, place, strict=False):
            if not 0 <= x <= axis.length:
                raise SpdeError(f"{name} = {x:g} is outside of the domain, which is [0, {axis.length:g}]")
        values = self.modes(np.arange(self.size), [np.array([x]) for x in place])
        return self.cell * self.synthesis(np.ascontiguousarray(values.T))[:, 0]

    def weights_of_mode(self, number: int) -> np.ndarray:
        """(grid_size,) weights by which values on the grid add up to a coefficient, counted from 1 by wavenumber.

        Raises
        ------
        SpdeError : there are fewer
        """
        if number > self.size:
            raise SpdeError(f"mode {number} of a field that has {self.size}")
        return self.cell * self.modes(self.order[[number - 1]])[:, 0]

    def stiffness(self, values: np.ndarray) -> np.ndarray:
        """K u (grid_size, batch) of values u on the grid: u K u = sum_j lambda_j c_j^2, the integral of |grad u|^2."""
        modes = self.analysis(np.ascontiguousarray(values))
        return self.cell * self.synthesis(self.eigenvalues[:, None] * modes)

    @cached_property
    def variance_factors(self) -> list[np.ndarray]:
        """Per axis, (grid_points, points) squared values of the eigenfunctions."""
        return [axis.basis**2 for axis in self.axes]

    def pointwise_variance(self, variances: np.ndarray) -> np.ndarray:
        """(grid_size,) variance of sum_j c_j e_j(x) at each grid point, of (size,) variances of independent c_j."""
        table = variances.reshape(self.shape)
        for a, factor in enumerate(self.variance_factors):
            table = np.moveaxis(np.tensordot(factor, table, axes=(1, a)), 0, a)
        return np.ascontiguousarray(table.ravel())

    def workspace(self, _batch: int) -> list[np.ndarray]:
        """Scratch of the transforms, to be passed on in a loop; for one thread."""
        return [axis.transform.workspace() for axis in self.axes]

    def synthesis(self, modes: np.ndarray, out: np.ndarray | None = None, workspace=None) -> np.ndarray:
        """Values (grid_size, batch) of coefficients (size, batch)."""
        sweep = [axis.transform.synthesis for axis in self.axes]
        return self._sweep(sweep, modes, self.shape, self.grid_shape, out, workspace)

    def analysis(self, values: np.ndarray, out: np.ndarray | None = None, workspace=None) -> np.ndarray:
        """Coefficients (size, batch) of values (grid_size, batch)."""
        sweep = [axis.transform.analysis for axis in self.axes]
        return self._sweep(sweep, values, self.grid_shape, self.shape, out, workspace)

    def derivative(
        self, modes: np.ndarray, direction: int, out: np.ndarray | None = None, workspace=None
    ) -> np.ndarray:
        """Values (grid_size, batch) of the derivative along one axis of the field with coefficients (size, batch)."""
        sweep = [axis.transform.synthesis for axis in self.axes]
        sweep[direction] = self.axes[direction].transform.derivative_synthesis
        return self._sweep(sweep, modes, self.shape, self.grid_shape, out, workspace)

    def _sweep(self, transforms, array, start: tuple[int, ...], end: tuple[int, ...], out, workspace) -> np.ndarray:
        """Transform axis after axis; the axes done so far have their new length."""
        batch, last = array.shape[1], len(self.axes) - 1
        for a, transform in enumerate(transforms):
            outer, inner = math.prod(end[:a]), math.prod(start[a + 1 :]) * batch
            target = out.reshape(outer, end[a], inner) if a == last and out is not None else None
            scratch = None if workspace is None else workspace[a]
            array = transform(array.reshape(outer, start[a], inner), target, scratch)
        return array.reshape(math.prod(end), batch)  # of no states at all, too


def _outer_sum(parts: list[np.ndarray]) -> np.ndarray:
    """(size,) sums of one entry of each part, in C order."""
    total = parts[0]
    for part in parts[1:]:
        total = (total[..., None] + part).reshape(-1)
    return total
