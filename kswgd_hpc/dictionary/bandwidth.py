"""Bandwidth of a radial dictionary by cross-validation on the pilot sample.

Candidates are a few multiples of a first guess. Each is judged on each fourth of the sample by the functions that it
found on the others. Scores of noisy functions differ by chance: of the candidates that are not worse than the best by
more than a standard error of the difference, the one nearest to the first guess is taken. All ranks have the same
sample, and come to the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

_FACTORS = np.array([0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0])
_CUT = 1e-9
_FUNCTIONS = 10
_FOLDS = 4


@dataclass(frozen=True)
class PairScore:
    """VAMP-2 of pairs: on the held-out fold, tr[ (U^T C00 U)^-1 U^T C01 V (V^T C11 V)^-1 V^T C10 U ].

    U and V are the leading singular functions of the folds that were fitted, as many as modes were asked for, at most
    ten. No choice of functions brings it, but for sampling, above the sum of the squares of the true singular values.
    Reversible pairs are counted in both directions. Source: Wu and Noe 2020.

    x, y : (n, c) both ends of the pairs, trajectory by trajectory
    modes : number of modes asked for, the constant one included
    """

    x: np.ndarray
    y: np.ndarray
    modes: int
    reversible: bool

    factors = _FACTORS

    def __call__(self, dictionary) -> np.ndarray:
        """(folds,) scores of a dictionary."""
        x, y = dictionary.values(self.x), dictionary.values(self.y)
        folds = [self._moments(x[part], y[part]) for part in _parts(len(x))]
        return np.array([self._held_out(self._fit(*_others(folds, i)), *fold) for i, fold in enumerate(folds)])

    def _moments(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centred C00, C01 and C11."""
        mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
        if self.reversible:
            mean_x = mean_y = (mean_x + mean_y) / 2
        x, y = x - mean_x, y - mean_y
        c00, c01, c11 = x.T @ x / len(x), x.T @ y / len(x), y.T @ y / len(x)
        if self.reversible:
            c00 = c11 = (c00 + c11) / 2
            c01 = (c01 + c01.T) / 2
        return c00, c01, c11

    def _fit(self, c00: np.ndarray, c01: np.ndarray, c11: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        left, right = _whitening(c00), _whitening(c11)
        u, _, v = np.linalg.svd(left.T @ c01 @ right, full_matrices=False)
        count = min(self.modes - 1, _FUNCTIONS)
        return left @ u[:, :count], right @ v[:count].T

    @staticmethod
    def _held_out(functions: tuple[np.ndarray, np.ndarray], c00, c01, c11) -> float:
        u, v = functions
        cross = u.T @ c01 @ v
        return np.trace(_solve(u.T @ c00 @ u, cross) @ _solve(v.T @ c11 @ v, cross.T))


@dataclass(frozen=True)
class StateScore:
    """Variational score of states without time, by the resolvent (1 + t L)^-1 of the Dirichlet form S.

    On the held-out fold, tr[ (V^T (C0 + t S) V)^-1 V^T C0 V ], with V the slowest functions of the folds that were
    fitted; no V of rank r brings it, but for sampling, above the sum of 1 / (1 + t lambda_k). t is the time in which
    free diffusion covers the sample. Held-out states lie as little in the gaps of the sample as those that were
    fitted, and gradients there are overlooked by both: nothing narrower than the first guess is tried.

    z : (n, c) states; mobility : (c, c) of z; modes : as for PairScore
    """

    z: np.ndarray
    mobility: np.ndarray
    modes: int

    factors = _FACTORS[_FACTORS >= 1]

    def __call__(self, dictionary) -> np.ndarray:
        """(folds,) scores of a dictionary."""
        time = self.z.var(axis=0).mean() / np.diag(self.mobility).mean()
        folds = [self._moments(dictionary, self.z[part]) for part in _parts(len(self.z))]
        found = []
        for i, (gram, form) in enumerate(folds):
            v = self._slowest(*_others(folds, i))
            left = v.T @ gram @ v
            found.append(np.trace(_solve(left + time * (v.T @ form @ v), left)))
        return np.array(found)

    def _moments(self, dictionary, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centred Gram matrix and Dirichlet form."""
        psi = dictionary.values(z)
        form = dictionary.dirichlet_form(z, self.mobility, psi) / len(z)
        psi = psi - psi.mean(axis=0)
        return psi.T @ psi / len(z), form

    def _slowest(self, gram: np.ndarray, form: np.ndarray) -> np.ndarray:
        basis = _whitening(gram)
        _, vectors = scipy.linalg.eigh(basis.T @ form @ basis)
        return basis @ vectors[:, : min(self.modes - 1, _FUNCTIONS)]


def cross_validated(make: Callable, first: float, score: PairScore | StateScore) -> float:
    """The candidate bandwidth nearest to the first guess, of those whose score is as good as the highest.

    Parameters
    ----------
    make : bandwidth -> dictionary
    first : bandwidth that the candidates are multiples of
    score : dictionary -> (folds,) numbers, with `factors` to try
    """
    near_first = sorted(score.factors, key=lambda factor: abs(np.log(factor)))
    scores = [score(make(first * factor)) for factor in near_first]
    best = max(scores, key=np.mean)
    for factor, found in zip(near_first, scores):
        lost = best - found
        if lost.mean() <= lost.std(ddof=1) / np.sqrt(len(lost)):
            return float(first * factor)
    return float(first)


def _parts(n: int) -> list[slice]:
    """The folds of n rows: rows that are neighbours in time are in one."""
    return [slice(n * i // _FOLDS, n * (i + 1) // _FOLDS) for i in range(_FOLDS)]


def _others(folds: list[tuple], left_out: int) -> list[np.ndarray]:
    """Mean moments of all folds but one."""
    return [np.mean(parts, axis=0) for parts in zip(*(fold for i, fold in enumerate(folds) if i != left_out))]


def _whitening(gram: np.ndarray) -> np.ndarray:
    """(p, q) coefficients of orthonormal functions, of the directions that the Gram matrix resolves."""
    values, vectors = scipy.linalg.eigh(gram)
    keep = values > _CUT * values[-1]
    return vectors[:, keep] / np.sqrt(values[keep])


def _solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Least-squares solution: functions of the fitted folds may coincide on the other."""
    return np.linalg.lstsq(matrix, right, rcond=None)[0]
