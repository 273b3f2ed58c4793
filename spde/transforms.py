"""Fast transforms along one axis between coefficients in a trigonometric basis and values on a grid.

For a grid x_i of `points` points on [0, L] and an L2-orthonormal basis e_j of `modes` functions,

    synthesis               u_i = sum_j c_j e_j(x_i)
    analysis                c_j = dx sum_i u_i e_j(x_i)
    derivative synthesis    (u_x)_i = sum_j c_j e_j'(x_i)
    derivative analysis     <f_x, e_j> = [f e_j] - dx sum_i f_i e_j'(x_i)

The basis functions at the grid points are w_i Re(g_j e^(-pi i s_i k_j / M)) with a sign w_i, a place s_i in a real
sequence of length 2M, a complex factor g_j and an integer k_j <= M; the derivatives only have other w and g. Hence
the analysis is a real Fourier transform of the permuted values, done as a complex one of length M (Cooley, Lewis and
Welch 1970; cosines by Makhoul 1980), and the synthesis is its transpose. Cost and accuracy are those of the FFT;
M = points / 2 where the number of points is even, the number of cells otherwise and for interior sines.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from spde.errors import SpdeError
from spde.fft_kernels import (
    Plan,
    add_boundary,
    apply,
    factorise,
    positions,
    roots_of_unity,
    twiddle_table,
    workspace_rows,
)
from spde.vectors import LANES, aligned_empty

Kind = Literal["cosine", "sine", "sine_interior", "fourier"]


class Plans(NamedTuple):
    """Tables of the four transforms of one axis, for `spde.fft_kernels.apply`."""

    synthesis: Plan
    analysis: Plan
    derivative_synthesis: Plan
    derivative_analysis: Plan


class _Waves(NamedTuple):
    """Basis functions w_i Re(g_j e^(-pi i s_i k_j / M)) at the grid points."""

    half: int  # M
    places: np.ndarray  # (points,) s
    signs: np.ndarray  # (points,) w
    frequencies: np.ndarray  # (modes,) k
    factors: np.ndarray  # (modes,) complex g


def fast_points(kind: Kind, minimum: int) -> int:
    """Smallest grid of at least `minimum` points whose transform has no prime factor above 5 and wastes no half."""
    points = minimum
    while not _is_fast(kind, points):
        points += 1
    return points


def _is_fast(kind: Kind, points: int) -> bool:
    cells = points + 1 if kind == "sine_interior" else points
    return (kind == "sine_interior" or points % 2 == 0) and max([1, *factorise(cells)]) <= 5


@dataclass(frozen=True)
class Transform:
    """Transforms along one axis, and the grid and basis they belong to.

    Arrays are C-contiguous float64 of shape (outer, modes or points, inner): the axis in the middle, trajectories
    (and other axes) inside, others outside. Coefficients of one trajectory depend on nothing but its values: not on
    how many trajectories there are or where it stands among them, to the last bit.

    Without `out` and `workspace` each call allocates them. In a stepping loop pass both and nothing is allocated; a
    workspace serves any transform of this object, and one thread at a time. The object itself is immutable.

    Parameters
    ----------
    kind : cosine (x_i = (i + 1/2) dx, wavenumbers from 0), sine (same grid, wavenumbers from 1), sine_interior
        (x_i = (i + 1) dx, both ends left out), fourier (x_i = i dx; 1, cos, sin, cos, sin, ...)
    length : L, units of x
    modes : number of basis functions
    points : number of grid points, at least `modes`

    Raises
    ------
    SpdeError : for an unknown kind, a length that is not positive, or more modes than points
    """

    kind: Kind
    length: float
    modes: int
    points: int

    def __post_init__(self):
        if self.kind not in ("cosine", "sine", "sine_interior", "fourier"):
            raise SpdeError(f"transform {self.kind!r} is none of cosine, sine, sine_interior, fourier")
        if not self.length > 0:
            raise SpdeError(f"an axis of length {self.length} has no grid: give a positive length")
        if not 1 <= self.modes <= self.points:
            raise SpdeError(f"{self.modes} modes on {self.points} points: give at least one mode and a point for each")

    @cached_property
    def spacing(self) -> float:
        """Distance dx between grid points."""
        return self.length / (self.points + 1 if self.kind == "sine_interior" else self.points)

    @cached_property
    def grid(self) -> np.ndarray:
        """(points,) coordinates."""
        offset = {"cosine": 0.5, "sine": 0.5, "sine_interior": 1.0, "fourier": 0.0}[self.kind]
        return (np.arange(self.points) + offset) * self.spacing

    @cached_property
    def wavenumbers(self) -> np.ndarray:
        """(modes,) wavenumbers of the basis functions, ascending, units 1 / length."""
        return (2 if self.kind == "fourier" else 1) * np.pi / self.length * self._indices

    @cached_property
    def amplitudes(self) -> np.ndarray:
        """(modes,) largest values of the basis functions.

        sqrt(2 / L), except sqrt(1 / L) for the constant and for a wave that alternates from point to point, whose
        square is twice the average on the grid.
        """
        alternating = {"cosine": -1, "sine": self.points, "sine_interior": -1, "fourier": self.points / 2}[self.kind]
        halved = (self._indices == 0) | (self._indices == alternating)
        return np.where(halved, np.sqrt(1 / self.length), np.sqrt(2 / self.length))

    @cached_property
    def basis(self) -> np.ndarray:
        """(points, modes) e_j(x_i) as a dense matrix; spacing * basis.T @ basis = 1."""
        return _matrix(self._waves)

    @cached_property
    def derivative_basis(self) -> np.ndarray:
        """(points, modes) e_j'(x_i) as a dense matrix."""
        return _matrix(self._derivative_waves)

    @cached_property
    def plans(self) -> Plans:
        """Tables for calls of `spde.fft_kernels.apply` from compiled code."""
        value, derivative = self._waves, self._derivative_waves
        return Plans(
            _synthesis_plan(value),
            _analysis_plan(value, self.spacing),
            _synthesis_plan(derivative),
            _analysis_plan(derivative, -self.spacing),
        )

    def workspace(self) -> np.ndarray:
        """Memory for `workspace` arguments: one per thread, contents meaningless between calls."""
        half = self._waves.half
        return aligned_empty((LANES * workspace_rows(half, factorise(half), self.points, self.points),))

    def synthesis(
        self, modes: np.ndarray, out: np.ndarray | None = None, workspace: np.ndarray | None = None
    ) -> np.ndarray:
        """Values (outer, points, inner) of the field with coefficients `modes` (outer, modes, inner).

        Raises
        ------
        SpdeError : when an array is not C-contiguous float64 of the expected shape
        """
        return self._apply(self.plans.synthesis, modes, out, workspace)

    def analysis(
        self, values: np.ndarray, out: np.ndarray | None = None, workspace: np.ndarray | None = None
    ) -> np.ndarray:
        """Coefficients (outer, modes, inner) of the field with `values` (outer, points, inner).

        Raises
        ------
        SpdeError : when an array is not C-contiguous float64 of the expected shape
        """
        return self._apply(self.plans.analysis, values, out, workspace)

    def derivative_synthesis(
        self, modes: np.ndarray, out: np.ndarray | None = None, workspace: np.ndarray | None = None
    ) -> np.ndarray:
        """Values (outer, points, inner) of u_x from the coefficients of u, `modes` (outer, modes, inner).

        Raises
        ------
        SpdeError : when an array is not C-contiguous float64 of the expected shape
        """
        return self._apply(self.plans.derivative_synthesis, modes, out, workspace)

    def derivative_analysis(
        self,
        values: np.ndarray,
        boundary: np.ndarray | None = None,
        out: np.ndarray | None = None,
        workspace: np.ndarray | None = None,
    ) -> np.ndarray:
        """Coefficients <f_x, e_j> in the weak form [f e_j] - <f, e_j'>.

        Sums by parts hold exactly: with f = 0 at the ends, the constant's coefficient is zero (mass is conserved).

        Parameters
        ----------
        values : (outer, points, inner) f on the grid
        boundary : (outer, 2, inner) f at x = 0 and x = L; None where it is zero. It enters for cosines alone:
            sines vanish there, and periodic functions have no ends
        out : (outer, modes, inner)

        Raises
        ------
        SpdeError : when an array is not C-contiguous float64 of the expected shape
        """
        out = self._apply(self.plans.derivative_analysis, values, out, workspace)
        if boundary is not None and self.kind == "cosine":
            _check("boundary", boundary, (values.shape[0], 2, values.shape[2]))
            add_boundary(self.amplitudes, boundary, out)
        return out

    @cached_property
    def _indices(self) -> np.ndarray:
        """(modes,) number of half waves (fourier: waves) on the axis."""
        index = np.arange(self.modes)
        if self.kind == "fourier":
            return (index + 1) // 2
        return index + (0 if self.kind == "cosine" else 1)

    @cached_property
    def _waves(self) -> _Waves:
        return self._trigonometric(self._is_sine, self.amplitudes)

    @cached_property
    def _derivative_waves(self) -> _Waves:
        slope = np.where(self._is_sine, 1, -1) * self.wavenumbers * self.amplitudes
        return self._trigonometric(~self._is_sine, slope)

    @cached_property
    def _is_sine(self) -> np.ndarray:
        """(modes,) whether the basis function is a sine."""
        if self.kind == "fourier":
            return (np.arange(self.modes) % 2 == 0) & (self._indices > 0)
        return np.full(self.modes, self.kind != "cosine")

    def _trigonometric(self, is_sine: np.ndarray, amplitudes: np.ndarray) -> _Waves:
        """amplitudes * (sin or cos)(wavenumber x) at the grid points."""
        m, row, index = self.points, np.arange(self.points), self._indices
        factors = amplitudes * np.where(is_sine, 1j, 1)  # Re(i e^(-i a)) = sin a
        if self.kind == "sine_interior":
            return _Waves(m + 1, row + 1, np.ones(m), index, factors)
        if self.kind == "fourier":
            half, stride = (m // 2, 1) if m % 2 == 0 else (m, 2)
            return _Waves(half, stride * row, np.ones(m), index, factors)
        factors = factors * roots_of_unity(index, 4 * m)  # the grid starts at half a spacing
        if m % 2 == 1:
            return _Waves(m, row, np.ones(m), index, factors)
        # even points forwards, then odd points backwards: there the angle has changed its sign (Makhoul 1980)
        places = np.where(row % 2 == 0, row // 2, m - 1 - row // 2)
        signs = np.where((row % 2 == 1) & is_sine[0], -1.0, 1.0)
        folded = index > m // 2
        return _Waves(
            m // 2, places, signs, np.where(folded, m - index, index), np.where(folded, factors.conj(), factors)
        )

    def _apply(self, plan: Plan, source, out, workspace) -> np.ndarray:
        if source.ndim != 3:
            raise SpdeError(f"array of shape {source.shape}: a transform needs (outer, axis, inner)")
        outer, _, inner = source.shape
        _check("array", source, (outer, plan.source_rows, inner))
        shape = (outer, len(plan.exit_rows), inner)
        if out is None:
            out = aligned_empty(shape)
        _check("out", out, shape)
        apply(plan, source, out, self.workspace() if workspace is None else workspace)
        return out


def _check(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != np.float64 or not array.flags.c_contiguous:
        raise SpdeError(
            f"{name} is {array.dtype} of shape {array.shape}: expected C-contiguous float64 of shape {shape}"
        )


def _matrix(waves: _Waves) -> np.ndarray:
    """(points, modes) w_i Re(g_j e^(-pi i s_i k_j / M))."""
    rotation = roots_of_unity(np.outer(waves.places, waves.frequencies), 2 * waves.half)
    return waves.signs[:, None] * (waves.factors * rotation).real


def _synthesis_plan(waves: _Waves) -> Plan:
    """Transpose of the analysis: conjugate transform, that is with real and imaginary parts exchanged."""
    half, radices = waves.half, factorise(waves.half)
    lines, terms = _spectrum_terms(waves)
    mode = np.broadcast_to(np.arange(len(lines))[:, None], lines.shape)
    entry = _sparse_rows(lines ^ 1, mode, terms, 2 * half)
    exit_lines = 2 * positions(half, radices)[waves.places // 2] + 1 - waves.places % 2
    return Plan(
        *entry,
        np.array(radices, np.int64),
        twiddle_table(half, radices),
        exit_lines[:, None],
        waves.signs[:, None],
        len(lines),
    )


def _analysis_plan(waves: _Waves, scale: float) -> Plan:
    """Signed values to their places, transform, each coefficient from its frequency."""
    half, radices = waves.half, factorise(waves.half)
    row, sign = np.zeros((2 * half, 1), np.int64), np.zeros((2 * half, 1))
    row[waves.places, 0], sign[waves.places, 0] = np.arange(len(waves.places)), waves.signs
    lines, terms = _spectrum_terms(waves)
    lines = 2 * positions(half, radices)[lines // 2] + lines % 2
    mode = np.broadcast_to(np.arange(len(lines))[:, None], lines.shape)
    return Plan(
        row,
        sign,
        np.array(radices, np.int64),
        twiddle_table(half, radices),
        *_sparse_rows(mode, lines, scale * terms, len(lines)),
        len(waves.places),
    )


def _spectrum_terms(waves: _Waves) -> tuple[np.ndarray, np.ndarray]:
    """(modes, 4) lines and factors whose sum is Re(g V_k), V the transform of the real sequence, Z of the packed one.

    V_k = (Z_k + conj Z_(M-k)) / 2 + e^(-pi i k / M) (Z_k - conj Z_(M-k)) / 2i.
    """
    half, k, g = waves.half, waves.frequencies, waves.factors
    turn = 1j * roots_of_unity(k, 2 * half)
    a, b = g * (1 - turn) / 2, g * (1 + turn) / 2
    lines = np.stack([2 * (k % half), 2 * (k % half) + 1, 2 * (-k % half), 2 * (-k % half) + 1], axis=1)
    return lines, np.stack([a.real, -a.imag, b.real, b.imag], axis=1)


def _sparse_rows(targets, sources, terms, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum of terms * source row over the entries of each target row, as (rows, width) tables of width 1, 2 or 4."""
    order = np.lexsort((sources.ravel(), targets.ravel()))
    target, source, term = targets.ravel()[order], sources.ravel()[order], terms.ravel()[order]
    pair, first = np.unique(target * (source.max() + 1) + source, return_index=True)
    target, source, term = target[first], source[first], np.add.reduceat(term, first)
    # cosines of right angles are rounding errors of zero
    kept = np.abs(term) > 1e-14 * np.abs(term).max()
    target, source, term = target[kept], source[kept], term[kept]
    place = np.arange(len(target)) - np.searchsorted(target, target)
    width = 1 << int(place.max(initial=0)).bit_length()
    table, factors = np.zeros((rows, width), np.int64), np.zeros((rows, width))
    table[target, place], factors[target, place] = source, term
    return table, factors
