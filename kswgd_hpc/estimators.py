"""Estimators of the generator's spectrum: which sums each needs, its Galerkin problem, and how its values err.

An estimator turns means over pairs into a pencil A v = mu B v in the centred dictionary, B the Gram matrix; method.md
section 2 has the table. Its `influence` are the same quadratic forms again, pair by pair along known eigenvectors: the
spread of its sums over groups of trajectories is the sampling error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.linalg

from kswgd_hpc.dictionary import Dictionary
from kswgd_hpc.eigensolver import Part
from kswgd_hpc.galerkin import Form, Sums
from kswgd_hpc.records import Pairs


class Estimator(Protocol):
    """What the pipeline needs of an estimator."""

    name: str
    matrices: tuple[str, ...]  # sums that it is made of, see `galerkin.assemble`
    pairs: bool  # whether it needs pairs a lag time apart
    symmetric: bool
    limited: bool  # whether it is restricted to a part of the space
    part: Part  # of the spectrum that is slow

    def left(self, sums: Sums) -> Form:
        """The centred A."""

    def compress(self, matrix: np.ndarray, features: np.ndarray, count: int) -> np.ndarray:
        """(q, r) orthonormal components that A is restricted to, for a `limited` estimator.

        Parameters
        ----------
        matrix : (q, q) A in an orthonormal basis; features : (q, p) components of the dictionary in the basis
        count : eigenpairs wanted
        """

    def offsets(self, sums: Sums, values: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(k,) constants: eigenfunctions are offsets + psi @ right."""

    def order(self, values: np.ndarray) -> np.ndarray:
        """Indices of the values by ascending rate, of a complex pair the one with the positive rotation first."""

    def rates(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        """(k,) lambda of the eigenvalues mu; infinite or NaN where there is none."""

    def eigenvalues(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        """(k,) eigenvalues of the semigroup at the lag."""

    def rate_errors(self, values: np.ndarray, spread: np.ndarray, lag_time: float) -> np.ndarray:
        """(k,) standard errors of the rates from those of the values."""

    def influence(self, sums: Sums, values: np.ndarray, right: np.ndarray, left: np.ndarray) -> Callable:
        """Function of `Pairs` -> (n, k) of w^H (A - mu B) v for each of them; right, left (p, k) are v and w."""


class _Symmetric:
    """Eigenfunctions of a symmetric problem have mean zero."""

    symmetric, limited = True, False

    def offsets(self, sums: Sums, values: np.ndarray, right: np.ndarray) -> np.ndarray:
        return -sums.mean @ right


class _Lagged:
    """Values are eigenvalues of the semigroup at the lag."""

    pairs = True

    def order(self, values: np.ndarray) -> np.ndarray:
        return np.lexsort((-values.imag, -np.round(np.abs(values), 12)))

    def eigenvalues(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        return values

    def rate_errors(self, values: np.ndarray, spread: np.ndarray, lag_time: float) -> np.ndarray:
        return spread / (np.abs(values) * lag_time)


class _Rates:
    """Values are rates."""

    pairs = False

    def order(self, values: np.ndarray) -> np.ndarray:
        return np.lexsort((values.imag, np.round(values.real, 12)))

    def rates(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        return values

    def eigenvalues(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        return np.exp(-values * lag_time)

    def rate_errors(self, values: np.ndarray, spread: np.ndarray, lag_time: float) -> np.ndarray:
        return spread


class Reversible(_Symmetric, _Lagged):
    """(C1 + C1^T)/2 v = mu (C0 + L0)/2 v: reversible dynamics, stationary pairs; real mu."""

    name, matrices, part = "reversible", ("ends", "cross"), "largest"

    def order(self, values: np.ndarray) -> np.ndarray:
        return np.argsort(-values, kind="stable")

    def left(self, sums: Sums) -> Form:
        return sums.form("c1", sums.mean, sums.mean)

    def rates(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values > 0, -np.log(np.maximum(values, 1e-300)) / lag_time, np.inf)

    def influence(self, sums: Sums, values: np.ndarray, right: np.ndarray, left: np.ndarray) -> Callable:
        offsets = self.offsets(sums, values, right)

        def of(pairs: Pairs) -> np.ndarray:
            x, y = pairs.ends(right, offsets)
            return x * y - values / 2 * (x**2 + y**2)

        return of


class Edmd(_Lagged):
    """C1 v = mu C0 v: any Markov process; complex pairs, principal branch of the logarithm."""

    name, matrices, symmetric, part = "edmd", ("c0", "c1"), False, "largest_magnitude"
    limited = False

    def left(self, sums: Sums) -> Form:
        return sums.form("c1", sums.vectors["x"], sums.vectors["y"])

    def rates(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        return -np.log(values) / lag_time

    def offsets(self, sums: Sums, values: np.ndarray, right: np.ndarray) -> np.ndarray:
        return -sums.mean @ right + (sums.vectors["y"] - sums.vectors["x"]) @ right / (values - 1)

    def influence(self, sums: Sums, values: np.ndarray, right: np.ndarray, left: np.ndarray) -> Callable:
        both, k = np.concatenate([left, right], axis=1), len(values)
        offsets = np.concatenate([-sums.mean @ left, self.offsets(sums, values, right)])

        def of(pairs: Pairs) -> np.ndarray:
            x, y = pairs.ends(both, offsets)
            return x[:, :k].conj() * (y[:, k:] - values * x[:, k:])

        return of


@dataclass(frozen=True)
class ReducedRank(Edmd):
    """The linear predictor of psi(y) from psi(x) of rank r with the least squared error: P K, P an L2 projection.

    Of large dictionaries and noisy data it keeps what can be predicted. Source: Kostic et al. 2022, "Learning dynamical
    systems via Koopman operator regression in reproducing kernel Hilbert spaces".

    Parameters
    ----------
    rank : r, the constant function not counted; None for four times the modes wanted: to predict the features takes
        more directions than there are slow modes in them
    """

    rank: int | None = None
    name, limited = "reduced_rank", True

    def compress(self, matrix: np.ndarray, features: np.ndarray, count: int) -> np.ndarray:
        return scipy.linalg.svd(matrix @ features)[0][:, : self.rank or 4 * count]


class Dirichlet(_Symmetric, _Rates):
    """S v = lambda C0 v: any diffusion with known mobility, states alone; spectrum of the symmetrised generator."""

    name, matrices, part = "dirichlet", ("c0", "form"), "smallest"

    def left(self, sums: Sums) -> Form:
        return sums.uncentred("form")

    def influence(self, sums: Sums, values: np.ndarray, right: np.ndarray, left: np.ndarray) -> Callable:
        offsets, dictionary = self.offsets(sums, values, right), sums.sample.dictionary

        def of(pairs: Pairs) -> np.ndarray:
            slopes = energy(dictionary, pairs, right)  # asks for the features, which give the values then
            x, y = pairs.ends(right, offsets)
            return slopes - values * ((x**2 + y**2) / 2 if sums.both_ends else x**2)

        return of


class Generator(_Rates):
    """-<psi, G psi> v = lambda C0 v: any diffusion with known drift and mobility; complex rates without a lag.

    Source: Klus et al. 2020, "Data-driven approximation of the Koopman generator".
    """

    name, matrices, symmetric, part = "generator", ("c0", "flux"), False, "smallest"
    limited = False

    def left(self, sums: Sums) -> Form:
        return sums.form("flux", np.zeros(sums.size), sums.vectors["flux"], 0.0).negative()

    def offsets(self, sums: Sums, values: np.ndarray, right: np.ndarray) -> np.ndarray:
        return -sums.mean @ right - sums.vectors["flux"] @ right / values

    def influence(self, sums: Sums, values: np.ndarray, right: np.ndarray, left: np.ndarray) -> Callable:
        both, k, dictionary = np.concatenate([left, right], axis=1), len(values), sums.sample.dictionary
        offsets = np.concatenate([-sums.mean @ left, self.offsets(sums, values, right)])

        def of(pairs: Pairs) -> np.ndarray:
            rates = dictionary.generator(pairs.z, pairs.drift, pairs.mobility, pairs.x) @ right
            x, _ = pairs.ends(both, offsets)
            return x[:, :k].conj() * (-rates - values * x[:, k:])

        return of


def energy(dictionary: Dictionary, pairs: Pairs, coefficients: np.ndarray) -> np.ndarray:
    """(n, k) grad phi . M grad phi of the functions psi @ coefficients, (p, k)."""
    slopes = dictionary.gradients(pairs.z, coefficients, pairs.x)
    return ((slopes @ pairs.mobility) * slopes).sum(axis=2)


def weighted_sum(values: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """(k,) sum of values (n, k) over n, weighted where there are weights."""
    return values.sum(axis=0) if weight is None else weight @ values


ESTIMATORS: dict[str, Estimator] = {
    estimator.name: estimator for estimator in (Reversible(), Dirichlet(), Edmd(), Generator(), ReducedRank())
}
