"""Singular values and functions of the Koopman operator between two laws: for systems out of equilibrium.

K maps functions of the state a lag later to functions of the state now, L2(rho_1) -> L2(rho_0); both laws are those of
the data. Its singular functions are the coherent ones, whatever the dynamics. The variational scores that they maximise
judge dictionaries, on held-out trajectories. Source: Wu and Noe 2020, "Variational approach for learning Markov
processes from time series data".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from kswgd_hpc.errors import SpectrumError


@dataclass(frozen=True)
class Covariances:
    """Sums over pairs of p features at their two ends; subtracting leaves out a part of the sample.

    weight : sum of the pairs' weights; x, y : (p,); xx, xy, yy : (p, p)
    """

    weight: float
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray

    def __sub__(self, other: Covariances) -> Covariances:
        return Covariances(*(getattr(self, name) - getattr(other, name) for name in self.__dataclass_fields__))

    def centred(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Means (p,) of both ends and covariances (p, p) xx, xy, yy, per pair."""
        x, y = self.x / self.weight, self.y / self.weight
        return (
            x,
            y,
            self.xx / self.weight - np.outer(x, x),
            self.xy / self.weight - np.outer(x, y),
            self.yy / self.weight - np.outer(y, y),
        )


@dataclass(frozen=True)
class SingularFunctions:
    """Leading singular triplets, the constant one (value 1) not among them.

    left_k(x) = left_offsets[k] + psi(x) @ left[:, k] has mean zero and unit norm under the law of the starts, right_k
    under the law of the ends.

    values : (r,) descending, in [0, 1]; left, right : (p, r); left_offsets, right_offsets : (r,)
    """

    values: np.ndarray
    left: np.ndarray
    left_offsets: np.ndarray
    right: np.ndarray
    right_offsets: np.ndarray

    def influence(self, psi_x: np.ndarray, psi_y: np.ndarray) -> np.ndarray:
        """(n, r) influence of each pair on each singular value: u v - sigma (u^2 + v^2) / 2."""
        u = self.left_offsets + psi_x @ self.left
        v = self.right_offsets + psi_y @ self.right
        return u * v - self.values * (u**2 + v**2) / 2


def whitening(gram: np.ndarray, regularization: float) -> np.ndarray:
    """(p, q) W with W^T gram W = 1, of the eigenvectors above a relative cut, largest first.

    Raises
    ------
    SpectrumError : when nothing varies
    """
    values, vectors = scipy.linalg.eigh(gram)
    keep = values > regularization * values[-1]
    if not keep.any() or values[-1] <= 0:
        raise SpectrumError("all features are constant on the ensemble: nothing to solve")
    return np.ascontiguousarray((vectors[:, keep] / np.sqrt(values[keep]))[:, ::-1])


def singular_functions(covariances: Covariances, count: int, regularization: float) -> SingularFunctions:
    """The leading singular triplets in the span of the features.

    Parameters
    ----------
    covariances : of the sample
    count : triplets wanted
    regularization : relative cut of each Gram matrix, see `whitening`
    """
    x, y, xx, xy, yy = covariances.centred()
    start, end = whitening(xx, regularization), whitening(yy, regularization)
    left, values, right = scipy.linalg.svd(start.T @ xy @ end)
    count = min(count, len(values))
    left, right = start @ left[:, :count], end @ right[:count].T
    sign = np.sign(left[np.argmax(np.abs(left), axis=0), np.arange(count)])
    left, right = left * sign, right * sign
    return SingularFunctions(values[:count], left, -x @ left, right, -y @ right)


def scores(found: SingularFunctions, sample: Covariances) -> dict[str, float]:
    """VAMP-1, VAMP-2 and VAMP-E of singular functions on a sample, their own or a held-out one.

    On their own sample they are sums of sigma, sigma^2 and sigma^2, the constant function's 1 included. On another one
    VAMP-E is -|K - K_estimated|^2 in the Hilbert-Schmidt norm up to a constant, the others judge the span alone.
    """
    xx = _moments(found.left, found.left_offsets, found.left, found.left_offsets, sample.x, sample.x, sample.xx, sample)
    xy = _moments(
        found.left, found.left_offsets, found.right, found.right_offsets, sample.x, sample.y, sample.xy, sample
    )
    yy = _moments(
        found.right, found.right_offsets, found.right, found.right_offsets, sample.y, sample.y, sample.yy, sample
    )
    sigma = np.concatenate([[1.0], found.values])
    tiny = np.finfo(float).eps
    inner = scipy.linalg.svdvals(whitening(xx, tiny).T @ xy @ whitening(yy, tiny))
    return {
        "vamp1": float(inner.sum()),
        "vamp2": float((inner**2).sum()),
        "vampe": float(2 * sigma @ np.diag(xy) - sigma @ (xx * yy) @ sigma),
    }


def _moments(a, a_offsets, b, b_offsets, mean_a, mean_b, product, sample: Covariances) -> np.ndarray:
    """(r + 1, r + 1) mean products of the functions (1, a) and (1, b) on a sample."""
    first, second = mean_a @ a / sample.weight, mean_b @ b / sample.weight
    found = np.empty((a.shape[1] + 1, b.shape[1] + 1))
    found[0, 0] = 1.0
    found[1:, 0] = a_offsets + first
    found[0, 1:] = b_offsets + second
    found[1:, 1:] = a.T @ product @ b / sample.weight
    found[1:, 1:] += np.outer(a_offsets, b_offsets) + np.outer(a_offsets, second) + np.outer(first, b_offsets)
    return found
