"""Estimators of the generator's spectrum: which sums each needs, its Galerkin problem, and how its values err.

An estimator turns means over pairs into a pencil A v = mu B v in the centred dictionary, B the Gram matrix; method.md
section 2 has the table. Its `deviations` are the same quadratic forms again, pair by pair along known eigenvectors:
their spread over groups of trajectories is the sampling error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

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
    part: Part  # of the spectrum that is slow

    def left(self, sums: Sums) -> Form:
        """The centred A."""

    def rates(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        """(k,) lambda of the eigenvalues mu; infinite or NaN where there is none."""

    def eigenvalues(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        """(k,) eigenvalues of the semigroup at the lag."""

    def rate_errors(self, values: np.ndarray, spread: np.ndarray, lag_time: float) -> np.ndarray:
        """(k,) standard errors of the rates from those of the values."""

    def deviations(self, sums: Sums, values: np.ndarray, right: np.ndarray, left: np.ndarray) -> Callable:
        """Function of `Pairs` -> (k,) sums of w^H (A - mu B) v over them; right, left (p, k) are v and w."""


class _Lagged:
    """Values are eigenvalues of the semigroup at the lag."""

    pairs = True

    def eigenvalues(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        return values

    def rate_errors(self, values: np.ndarray, spread: np.ndarray, lag_time: float) -> np.ndarray:
        return spread / (np.abs(values) * lag_time)


class Reversible(_Lagged):
    """(C1 + C1^T)/2 v = mu (C0 + L0)/2 v: reversible dynamics, stationary pairs; real mu."""

    name, matrices, symmetric, part = "reversible", ("plus", "minus"), True, "largest"

    def left(self, sums: Sums) -> Form:
        return sums.form("c1", sums.mean, sums.mean)

    def rates(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values > 0, -np.log(np.maximum(values, 1e-300)) / lag_time, np.inf)

    def deviations(self, sums: Sums, values: np.ndarray, right: np.ndarray, left: np.ndarray) -> Callable:
        offset = sums.mean @ right

        def of(pairs: Pairs) -> np.ndarray:
            x, y = pairs.ends(right, -offset)
            return weighted_sum(x * y - values / 2 * (x**2 + y**2), pairs.weight)

        return of


class Edmd(_Lagged):
    """C1 v = mu C0 v: any Markov process; complex pairs, principal branch of the logarithm."""

    name, matrices, symmetric, part = "edmd", ("c0", "c1"), False, "largest_magnitude"

    def left(self, sums: Sums) -> Form:
        return sums.form("c1", sums.vectors["x"], sums.vectors["y"])

    def rates(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        return -np.log(values) / lag_time

    def deviations(self, sums: Sums, values: np.ndarray, right: np.ndarray, left: np.ndarray) -> Callable:
        both = np.concatenate([left, right], axis=1)
        offset, k = -sums.mean @ both, len(values)

        def of(pairs: Pairs) -> np.ndarray:
            x, y = pairs.ends(both, offset)
            return weighted_sum(x[:, :k].conj() * (y[:, k:] - values * x[:, k:]), pairs.weight)

        return of


class Dirichlet:
    """S v = lambda C0 v: any diffusion with known mobility, states alone; spectrum of the symmetrised generator."""

    name, matrices, pairs, symmetric, part = "dirichlet", ("c0", "form"), False, True, "smallest"

    def left(self, sums: Sums) -> Form:
        return sums.uncentred("form")

    def rates(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        return values

    def eigenvalues(self, values: np.ndarray, lag_time: float) -> np.ndarray:
        return np.exp(-values * lag_time)

    def rate_errors(self, values: np.ndarray, spread: np.ndarray, lag_time: float) -> np.ndarray:
        return spread

    def deviations(self, sums: Sums, values: np.ndarray, right: np.ndarray, left: np.ndarray) -> Callable:
        offset, dictionary = sums.mean @ right, sums.sample.dictionary

        def of(pairs: Pairs) -> np.ndarray:
            x, y = pairs.ends(right, -offset)
            square = (x**2 + y**2) / 2 if sums.both_ends else x**2
            return weighted_sum(energy(dictionary, pairs, right) - values * square, pairs.weight)

        return of


def energy(dictionary: Dictionary, pairs: Pairs, coefficients: np.ndarray) -> np.ndarray:
    """(n, k) grad phi . M grad phi of the functions psi @ coefficients, (p, k)."""
    slopes = dictionary.gradients(pairs.z, coefficients, pairs.x)
    return ((slopes @ pairs.mobility) * slopes).sum(axis=2)


def weighted_sum(values: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """(k,) sum of values (n, k) over n, weighted where there are weights."""
    return values.sum(axis=0) if weight is None else weight @ values


ESTIMATORS: dict[str, Estimator] = {estimator.name: estimator for estimator in (Reversible(), Edmd(), Dirichlet())}
