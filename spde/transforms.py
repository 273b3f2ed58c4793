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
    workspace_size,
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
    for factor in (2, 3, 5):
        while cells % factor == 0:
            cells //= factor
    return cells == 1 and (kind == "sine_interior" or points % 2 == 0)


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
    def ends(self) -> np.ndarray:
        """(2, modes) factors of f(0) and f(L) in the weak derivative, beside the sum over the grid.

        Cosines: e_j at the ends, from [f e_j]. Sines on interior points: half a cell of -f e_j', the ends of the
        trapezoidal rule. The other grids leave nothing out.
        """
        last = (-1.0) ** self._indices
        if self.kind == "cosine":
            return np.stack([-self.amplitudes, last * self.amplitudes])
        if self.kind == "sine_interior":
            half = -self.spacing / 2 * self.wavenumbers * self.amplitudes
            return np.stack([half, last * half])
        return np.zeros((2, self.modes))

    @cached_property
    def plans(self) -> Plans:
        """Tables for calls of `spde.fft_kernels.apply` from compiled code."""
        value, derivative = self._waves, self._derivative_waves
        return Plans(
            synthesis=_plan(value, False, 1.0),
            analysis=_plan(value, True, self.spacing),
            derivative_synthesis=_plan(derivative, False, 1.0),
            derivative_analysis=_plan(derivative, True, -self.spacing),
        )

    def workspace(self) -> np.ndarray:
        """Memory for `workspace` arguments: one per thread, contents meaningless between calls."""
        return aligned_empty((self.plans.synthesis.sizes[-1],))

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
        boundary : (outer, 2, inner) f at x = 0 and x = L; None where it is zero. Centred sines and periodic functions
            need none, see `ends`
        out : (outer, modes, inner)

        Raises
        ------
        SpdeError : when an array is not C-contiguous float64 of the expected shape
        """
        out = self._apply(self.plans.derivative_analysis, values, out, workspace)
        if boundary is not None:
            _check("boundary", boundary, (values.shape[0], 2, values.shape[2]))
            add_boundary(self.ends, boundary, out)
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
        rows = (self.points, self.modes) if plan.analysis else (self.modes, self.points)
        _check("array", source, (outer, rows[0], inner))
        shape = (outer, rows[1], inner)
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


def _plan(waves: _Waves, analysis: bool, scale: float) -> Plan:
    """Tables of the analysis `scale` * E.T, or of the synthesis E, E the matrix of `waves`.

    The synthesis is the transpose of the analysis: its transform is the conjugate one, that is the same one with real
    and imaginary parts, lines 2j and 2j + 1, exchanged.
    """
    half, points, modes = waves.half, len(waves.places), len(waves.frequencies)
    radices = factorise(half)
    order, signs, (groups, members, terms) = (waves.places ^ 1) * LANES, waves.signs, _groups(waves)
    shuffled = (2 * positions(half, radices)[:, None] + np.arange(2)).ravel()
    if analysis:
        order, signs, terms = np.full(2 * half, -1), np.zeros(2 * half), terms * scale
        order[shuffled[waves.places]], signs[shuffled[waves.places]] = np.arange(points), waves.signs
    else:
        # frequencies that are their own partner have their factors in the first pair; the second goes to no use
        idle = np.repeat(groups[:, :1] == groups[:, 2:3], 4, axis=1) & (np.arange(4) > 1)
        groups = np.where(idle, 2 * half + np.arange(4) % 2, shuffled[groups] ^ 1)
    return Plan(
        analysis,
        order,
        signs,
        groups * LANES,
        members if analysis else np.maximum(members, 0),
        terms,
        np.array(radices, np.int64),
        twiddle_table(radices),
        (half, points, modes, workspace_size(half, radices, points, modes)),
    )


def _groups(waves: _Waves) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which coefficients involve the frequencies k and M - k, and how.

    With V the spectrum of the real sequence and Z that of the packed one, a coefficient is

        Re(g V_k),   V_k = (Z_k + conj Z_(M-k)) / 2 + e^(-pi i k / M) (Z_k - conj Z_(M-k)) / 2i.

    Returns
    -------
    groups (groups, 4) : lines of Z_k and Z_(M-k), k = 0 ... M / 2
    members (groups, width) : coefficients, filled with -1
    terms (groups, width, 4) : their factors for the four lines
    """
    half, k, g = waves.half, waves.frequencies, waves.factors
    turn = 1j * roots_of_unity(k, 2 * half)
    a, b = g * (1 - turn) / 2, g * (1 + turn) / 2
    factors = np.stack([a.real, -a.imag, b.real, b.imag], axis=1)
    # cosines of right angles are rounding errors of zero
    factors[np.abs(factors) < 1e-14 * np.abs(factors).max(initial=0.0)] = 0.0
    group, mirrored = np.minimum(k % half, -k % half), k % half > -k % half
    factors[mirrored] = factors[mirrored][:, [2, 3, 0, 1]]
    own = 2 * group % half == 0
    factors[own] = np.pad(factors[own, :2] + factors[own, 2:], ((0, 0), (0, 2)))
    order = np.argsort(group, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.searchsorted(group[order], group[order])
    number, width = half // 2 + 1, (rank.max() + 2) // 2 * 2
    members, terms = np.full((number, width), -1), np.zeros((number, width, 4))
    members[group, rank], terms[group, rank] = np.arange(len(group)), factors
    first, second = 2 * np.arange(number), 2 * (-np.arange(number) % half)
    return np.stack([first, first + 1, second, second + 1], axis=1), members, terms
