"""Implied timescales against lag, and the Chapman-Kolmogorov test, in the span of the slow eigenfunctions.

The eigenfunctions were found at one lag. If the process is Markovian in what the dictionary sees, their span is
invariant: rates from other lags in it agree, and the autocorrelation at k lags is mu^k. Two passes over the
trajectories: one for the products of the few functions at all lags, one for the influence of each pair.
Source: Prinz et al. 2011, "Markov models of molecular kinetics".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from kswgd_hpc.statistics import standard_error
from kswgd_hpc.trajectories import Influence, Piece, Trajectories
from kswgd_hpc.vamp import whitening

_CUT = 1e-10


@dataclass(frozen=True)
class Products:
    """Sums over pairs of products of m functions, the constant one first: xx, xy, yy (m, m)."""

    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray

    def problem(self, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
        """A and B of A v = mu B v, sums over pairs."""
        return ((self.xy + self.xy.T) / 2, (self.xx + self.yy) / 2) if symmetric else (self.xy, self.xx)


@dataclass(frozen=True)
class Modes:
    """Eigenpairs in the span of the functions, slowest first, the constant one left out.

    values : (k,) mu; right, left : (m, k), left^H B right = 1 for B the sum over all pairs
    """

    values: np.ndarray
    right: np.ndarray
    left: np.ndarray

    def forms(self, x: np.ndarray, y: np.ndarray, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
        """left^H A right and left^H B right of pairs with values x, y (n, m): (n, k) each."""
        right_x, right_y = x @ self.right, y @ self.right
        if symmetric:
            return right_x * right_y, (right_x**2 + right_y**2) / 2
        test = (x @ self.left).conj()
        return test * right_y, test * right_x


def modes(products: Products, count: int, symmetric: bool) -> Modes:
    """Solve the small problem; the constant function, of eigenvalue 1 by construction, is projected out."""
    A, B = products.problem(symmetric)
    # functions of mean zero under the law of B, in which the constant's row and column of B vanish, and A's column
    lift = np.concatenate([-B[:1, 1:] / B[0, 0], np.eye(len(B) - 1)])
    centred = lift.T @ B @ lift
    basis = lift @ whitening((centred + centred.T) / 2, _CUT)
    matrix = basis.T @ A @ basis
    if symmetric:
        values, vectors = scipy.linalg.eigh((matrix + matrix.T) / 2)
        right = basis @ vectors[:, ::-1][:, :count]
        return Modes(values[::-1][:count], right, right)
    values, left, vectors = scipy.linalg.eig(matrix, left=True)
    order = np.lexsort((-values.imag, -np.round(np.abs(values), 12)))[:count]
    values, left, vectors = values[order], left[:, order], vectors[:, order]
    left = left / (left.conj() * vectors).sum(axis=0).conj()
    right = (basis @ vectors).astype(complex)
    # an eigenfunction has a constant part where starts and ends have different means
    right[0] += (A[0] - B[0]) @ right / ((values - 1) * B[0, 0])
    return Modes(values, right, basis @ left)


@dataclass(frozen=True)
class Timescales:
    """Rates at several lags: lag_times (L,), rates (L, k) complex, NaN where mu is within noise; errors (L, k)."""

    lag_times: np.ndarray
    rates: np.ndarray
    errors: np.ndarray


@dataclass(frozen=True)
class ChapmanKolmogorov:
    """Autocorrelations of the modes at multiples of a lag, against powers of those at the lag itself.

    lag_times : (L,); predicted mu^n, estimated : (L, k) complex; error : (L, k) of their difference
    """

    lag_times: np.ndarray
    predicted: np.ndarray
    estimated: np.ndarray
    error: np.ndarray


def kinetics(
    trajectories: Trajectories, lags: Sequence[int], base: int, count: int, symmetric: bool
) -> tuple[Timescales, ChapmanKolmogorov]:
    """Rates at all lags, and the Chapman-Kolmogorov test at the multiples of one of them. Collective.

    Parameters
    ----------
    trajectories : of functions, the constant one first
    lags : in records, ascending; base : one of them, at which the test's modes are found
    count : modes wanted
    symmetric : whether the process is reversible
    """
    products = _products(trajectories, lags)
    found = [modes(p, count, symmetric) for p in products]
    count = min(len(m.values) for m in found)
    found = [Modes(m.values[:count], m.right[:, :count], m.left[:, :count]) for m in found]
    start = lags.index(base)
    multiples = [i for i, lag in enumerate(lags) if lag % base == 0]
    tested = [_autocorrelation(products[i], found[start], symmetric) for i in multiples]
    deviations = _deviations(trajectories, lags, found, start, multiples, tested, symmetric)
    own, correlations = deviations[:, : len(lags)], deviations[:, len(lags) :]
    times = np.array(lags) * trajectories.interval
    powers = (np.array(lags)[multiples] // base)[:, None]
    predicted = found[start].values.astype(complex) ** powers
    # both sides move with the same trajectories
    moved = correlations - powers * predicted / found[start].values * own[:, start : start + 1]
    estimated = np.array([value for value, _norm in tested])
    return _timescales(times, found, standard_error(own), symmetric), ChapmanKolmogorov(
        times[multiples], predicted, estimated, standard_error(moved)
    )


def _products(trajectories: Trajectories, lags: Sequence[int]) -> list[Products]:
    m = trajectories.size

    def add(piece: Piece, parts: dict[str, np.ndarray]) -> None:
        for i, lag in enumerate(lags):
            x, y, weight = _ends(piece, lag)
            weighted = weight[:, None] * x
            parts["sums"][3 * m * i : 3 * m * (i + 1)] += np.concatenate(
                [weighted.T @ x, weighted.T @ y, y.T @ (weight[:, None] * y)]
            )

    sums = trajectories.total(1, add, {"sums": (3 * m * len(lags), m)})["sums"].reshape(len(lags), 3, m, m)
    return [Products(*part) for part in sums]


def _ends(piece: Piece, lag: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values x, y (n, m) and weights (n,) of all pairs of a piece that are a lag apart."""
    starts = _starts(piece, lag)
    m = piece.values.shape[2]
    x, y = piece.values[starts].reshape(-1, m), piece.values[starts + lag].reshape(-1, m)
    return x, y, piece.weights(starts).ravel()


def _starts(piece: Piece, lag: int) -> np.ndarray:
    return piece.steps[piece.steps + lag < len(piece.values)]


def _autocorrelation(products: Products, base: Modes, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
    """left^H A right / left^H B right of modes found at another lag, (k,), and the denominator."""
    over, under = ((base.left.conj() * (part @ base.right)).sum(axis=0) for part in products.problem(symmetric))
    return over / under, under


def _deviations(trajectories: Trajectories, lags, found, start, multiples, tested, symmetric: bool) -> np.ndarray:
    """(groups, rows, k) share of each group in the errors of mu at all lags, then in those of the autocorrelations."""
    count, rows = len(found[0].values), len(lags) + len(multiples)

    def influences(piece: Piece) -> Iterator[Influence]:
        for i, lag in enumerate(lags):
            x, y, weight = _ends(piece, lag)
            over, under = found[i].forms(x, y, symmetric)
            parts = {i: over - found[i].values * under}
            if i in multiples:
                j = multiples.index(i)
                value, norm = tested[j]
                over, under = found[start].forms(x, y, symmetric)
                parts[len(lags) + j] = (over - value * under) / norm
            for row, values in parts.items():
                columns = slice(2 * count * row, 2 * count * (row + 1))
                both = np.concatenate([values.real, values.imag], axis=1)
                yield Influence((_starts(piece, lag),), weight, both, columns)

    deviations = trajectories.deviations(1, influences, 2 * rows * count).reshape(-1, rows, 2, count)
    return deviations[:, :, 0] + 1j * deviations[:, :, 1]


def _timescales(times: np.ndarray, found: list[Modes], errors: np.ndarray, symmetric: bool) -> Timescales:
    """Rates of the eigenvalues that stand above the noise.

    Of m functions with nothing but noise in their correlations, whose diagonal has the standard error e, the largest
    eigenvalue is e sqrt(2 m): the edge of Wigner's semicircle.
    """
    mu = np.array([m.values for m in found], dtype=complex)
    edge = max(2.0, np.sqrt(2 * mu.shape[1]))
    resolved = (mu.real if symmetric else np.abs(mu)) > edge * np.nan_to_num(errors)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.where(resolved, -np.log(mu) / times[:, None], np.nan)
        return Timescales(times, rates, np.where(resolved, errors / (np.abs(mu) * times[:, None]), np.nan))
