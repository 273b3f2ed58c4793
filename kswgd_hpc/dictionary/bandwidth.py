"""Bandwidth of a radial dictionary by cross-validation on the pilot sample.

Candidates are a few multiples of a first guess. Each is judged on one half of the sample by the functions that it found
on the other, and the mean over both halves decides. All ranks have the same sample, and come to the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

_FACTORS = np.array([0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0])
_CUT = 1e-9
_FUNCTIONS = 10


@dataclass(frozen=True)
class PairScore:
    """VAMP-2 of pairs: on the held-out half, tr[ (U^T C00 U)^-1 U^T C01 V (V^T C11 V)^-1 V^T C10 U ].

    U and V are the leading singular functions of the half that was fitted, as many as modes were asked for, at most
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

    def __call__(self, dictionary) -> float:
        """The score of a dictionary."""
        x, y = dictionary.values(self.x), dictionary.values(self.y)
        half = len(x) // 2
        sides = [self._moments(x[part], y[part]) for part in (slice(0, half), slice(half, None))]
        return float(np.mean([self._held_out(self._fit(*sides[1 - i]), *sides[i]) for i in range(2)]))

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

    On the held-out half, tr[ (V^T (C0 + t S) V)^-1 V^T C0 V ], with V the slowest functions of the half that was
    fitted; no V of rank r brings it, but for sampling, above the sum of 1 / (1 + t lambda_k). t is the time in which
    free diffusion covers the sample. Held-out states lie as little in the gaps of the sample as those that were
    fitted, and gradients there are overlooked by both: nothing narrower than the first guess is tried.

    z : (n, c) states; mobility : (c, c) of z; modes : as for PairScore
    """

    z: np.ndarray
    mobility: np.ndarray
    modes: int

    factors = _FACTORS[_FACTORS >= 1]

    def __call__(self, dictionary) -> float:
        """The score of a dictionary."""
        time = self.z.var(axis=0).mean() / np.diag(self.mobility).mean()
        half = len(self.z) // 2
        sides = [self._moments(dictionary, part) for part in (self.z[:half], self.z[half:])]
        found = []
        for fitted, (gram, form) in zip(sides[::-1], sides):
            v = self._slowest(*fitted)
            left = v.T @ gram @ v
            found.append(np.trace(_solve(left + time * (v.T @ form @ v), left)))
        return float(np.mean(found))

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
    """The candidate bandwidth of the highest score, the first guess among equals.

    Parameters
    ----------
    make : bandwidth -> dictionary
    first : bandwidth that the candidates are multiples of
    score : dictionary -> number, with `factors` to try
    """
    near_first = sorted(score.factors, key=lambda factor: abs(np.log(factor)))
    return float(first * max(near_first, key=lambda factor: score(make(first * factor))))


def _whitening(gram: np.ndarray) -> np.ndarray:
    """(p, q) coefficients of orthonormal functions, of the directions that the Gram matrix resolves."""
    values, vectors = scipy.linalg.eigh(gram)
    keep = values > _CUT * values[-1]
    return vectors[:, keep] / np.sqrt(values[keep])


def _solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Least-squares solution: functions of the fitted half may coincide on the other."""
    return np.linalg.lstsq(matrix, right, rcond=None)[0]
