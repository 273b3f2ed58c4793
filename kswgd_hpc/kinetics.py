"""Implied timescales against lag, and the Chapman-Kolmogorov test, in the span of the slow eigenfunctions.

The eigenfunctions were found at one lag. If the process is Markovian in what the dictionary sees, their span is
invariant: rates from other lags in it agree, and the autocorrelation at k lags is mu^k. Everything works on group sums
of small matrices (m functions, the constant one first), so that many lags cost little.
Source: Prinz et al. 2011, "Markov models of molecular kinetics", sections IV.C and IV.F.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from kswgd_hpc.statistics import standard_error
from kswgd_hpc.vamp import whitening

_CUT = 1e-10


@dataclass(frozen=True)
class LaggedMoments:
    """Group sums of products of m functions, the constant one first, at the two ends of pairs a lag apart.

    lag_time : of the pairs; xx, xy, yy : (groups, m, m)
    """

    lag_time: float
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray

    @property
    def weight(self) -> float:
        """Sum of the weights of all pairs."""
        return float(self.xx[:, 0, 0].sum())

    def problem(self, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
        """(groups, m, m) sums A and B of A v = mu B v."""
        if not symmetric:
            return self.xy, self.xx
        return (self.xy + self.xy.transpose(0, 2, 1)) / 2, (self.xx + self.yy) / 2


def lagged_products(values: np.ndarray, lag: int, starts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Sums of one piece of trajectories, (3, m, m): products xx, xy, yy.

    Parameters
    ----------
    values : (records, batch, m) functions along the trajectories, the constant one first
    lag : of the pairs, in records
    starts : record indices of the pair starts; those whose ends lie beyond the piece are left out
    weights : (records, batch) of the pair starts, or None
    """
    starts = starts[starts + lag < len(values)]
    m = values.shape[2]
    x, y = values[starts].reshape(-1, m), values[starts + lag].reshape(-1, m)
    wx, wy = (x, y) if weights is None else (x * weights[starts].reshape(-1, 1), y * weights[starts].reshape(-1, 1))
    return np.array([wx.T @ x, wx.T @ y, wy.T @ y])


@dataclass(frozen=True)
class Modes:
    """Eigenpairs in the small space: k modes, slowest first, the constant one left out.

    values : (k,) mu; right, left : (m, k) with left^H B right = 1 per pair; influence : (groups, k) share of each group
    in the errors of mu, summing to zero
    """

    values: np.ndarray
    right: np.ndarray
    left: np.ndarray
    influence: np.ndarray


def modes(moments: LaggedMoments, symmetric: bool) -> Modes:
    """Solve the small problem; the constant function, of eigenvalue 1 by construction, is projected out."""
    a, b = moments.problem(symmetric)
    A, B = a.sum(axis=0) / moments.weight, b.sum(axis=0) / moments.weight
    # functions of mean zero under B's law; A's left mean may differ by the ends of trajectories
    lift = np.concatenate([-B[:1, 1:], np.eye(len(B) - 1)])
    centred = lift.T @ B @ lift
    basis = lift @ whitening((centred + centred.T) / 2, _CUT)
    matrix = basis.T @ A @ basis
    if symmetric:
        values, vectors = scipy.linalg.eigh((matrix + matrix.T) / 2)
        values, vectors = values[::-1], vectors[:, ::-1]
        right = left = basis @ vectors
    else:
        values, left, vectors = scipy.linalg.eig(matrix, left=True)
        order = np.lexsort((-values.imag, -np.round(np.abs(values), 12)))
        values, left, vectors = values[order], left[:, order], vectors[:, order]
        left = left / (left.conj() * vectors).sum(axis=0).conj()
        right, left = (basis @ vectors).astype(complex), basis @ left
        # the eigenfunction has a constant part where starts and ends have different means
        right[0] += (A[0] - B[0]) @ right / (values - 1)
    return Modes(values, right, left, _influence(a, b, values, right, left, moments.weight))


def _influence(a, b, values, right, left, weight: float) -> np.ndarray:
    """(groups, k) of l^H (A_g - mu B_g) v / weight."""
    forms = [np.einsum("ik,gij,jk->gk", left.conj(), part, right, optimize=True) for part in (a, b)]
    return (forms[0] - values * forms[1]) / weight


@dataclass(frozen=True)
class Timescales:
    """Rates at several lags: lag_times (L,), rates (L, k) complex, NaN where mu is within noise; errors (L, k)."""

    lag_times: np.ndarray
    rates: np.ndarray
    errors: np.ndarray


def implied_timescales(samples: Sequence[LaggedMoments], count: int, symmetric: bool) -> Timescales:
    """Rates -log(mu) / lag of the `count` slowest modes at each lag, with standard errors."""
    rates = np.full((len(samples), count), np.nan, dtype=complex)
    errors = np.full((len(samples), count), np.nan)
    for row, moments in enumerate(samples):
        found = modes(moments, symmetric)
        mu, error = found.values[:count], standard_error(found.influence)[:count]
        resolved = (mu.real if symmetric else np.abs(mu)) > 2 * np.nan_to_num(error)
        with np.errstate(divide="ignore", invalid="ignore"):
            rates[row, : len(mu)] = np.where(resolved, -np.log(mu.astype(complex)) / moments.lag_time, np.nan)
            errors[row, : len(mu)] = np.where(resolved, error / (np.abs(mu) * moments.lag_time), np.nan)
    return Timescales(np.array([s.lag_time for s in samples]), rates, errors)


@dataclass(frozen=True)
class ChapmanKolmogorov:
    """Autocorrelations of the modes at multiples of the lag, against powers of those at the lag itself.

    lag_times : (L,); predicted mu^k, estimated : (L, k) complex; error : (L, k) of their difference
    """

    lag_times: np.ndarray
    predicted: np.ndarray
    estimated: np.ndarray
    error: np.ndarray


def chapman_kolmogorov(base: LaggedMoments, samples: Sequence[LaggedMoments], count: int, symmetric: bool):
    """Test of the modes found at the base lag on samples at its multiples: a `ChapmanKolmogorov`."""
    found = modes(base, symmetric)
    count = min(count, len(found.values))
    mu, right, left = found.values[:count], found.right[:, :count], found.left[:, :count]
    predicted, estimated, error = [], [], []
    for moments in samples:
        power = moments.lag_time / base.lag_time
        a, b = moments.problem(symmetric)
        over, under = (np.einsum("ik,gij,jk->gk", left.conj(), part, right, optimize=True) for part in (a, b))
        norm = under.sum(axis=0)
        value = over.sum(axis=0) / norm
        # both sides move with the same trajectories
        deviations = (over - value * under) / norm - power * mu ** (power - 1) * found.influence[:, :count]
        predicted.append(mu**power)
        estimated.append(value)
        error.append(standard_error(deviations))
    return ChapmanKolmogorov(
        np.array([s.lag_time for s in samples]), np.array(predicted), np.array(estimated), np.array(error)
    )
