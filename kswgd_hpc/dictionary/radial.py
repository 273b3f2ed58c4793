"""Normalised radial functions with longer tails than a Gaussian's: Matern and rational quadratic.

psi_i(z) = f(r_i) / sum_j f(r_j), r_i = |z - z_i| / h. Normalised for transport's sake, as the Gaussian dictionary is:
the functions are bounded by one and add up to one, and where there are no data they go on without falling to zero.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import numpy as np
from scipy.sparse import csr_array

from kswgd_hpc.backend import array_module
from kswgd_hpc.dictionary.centres import coarsening, square_distances
from kswgd_hpc.dictionary.contractions import form, quadratic, times, trace


class RadialDictionary(ABC):
    """Normalised radial functions f = exp(-q(s)) of s = r^2 around given centres; a kind gives q and its derivatives.

    With w = 2 q'(s) / h^2 the logarithm of f has the gradient a_i = -w_i (z - z_i), and grad psi_i is
    psi_i (a_i - abar), abar = sum_j psi_j a_j.

    Parameters
    ----------
    centres : (p, c) array, in an order whose first half covers the same region more coarsely
    bandwidth : h
    """

    bound = 1.0
    smoothness = 2
    sparse = False
    partition = True

    def __init__(self, centres: np.ndarray, bandwidth: float):
        self.centres = centres
        self.bandwidth = bandwidth
        self.size = len(centres)

    def with_centres(self, centres: np.ndarray, bandwidth: float) -> RadialDictionary:
        """The same around other centres (p, c), of another width."""
        found = copy.copy(self)
        RadialDictionary.__init__(found, centres, bandwidth)
        return found

    @abstractmethod
    def exponent(self, s: np.ndarray) -> np.ndarray:
        """q(s)."""

    @abstractmethod
    def slope(self, s: np.ndarray) -> np.ndarray:
        """q'(s)."""

    @abstractmethod
    def curvature(self, s: np.ndarray) -> np.ndarray:
        """q''(s), finite also at s = 0."""

    def _squares(self, z: np.ndarray) -> np.ndarray:
        return square_distances(z, self.centres) / self.bandwidth**2

    def values(self, z: np.ndarray) -> np.ndarray:
        """(n, p) values at the (n, c) points z; each row sums to one."""
        exponent = self.exponent(self._squares(z))
        # the smallest exponent is taken off so that no point is too far away
        values = array_module(z).exp(exponent.min(axis=1, keepdims=True) - exponent)
        values /= values.sum(axis=1, keepdims=True)
        return values

    def gradient(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, c) gradient of psi @ weights, from matrix products alone."""
        psi = self.values(z) if values is None else values
        pull = self._pull(z, psi)
        return self._sum(pull * weights, z) - (psi @ weights)[:, None] * self._sum(pull, z)

    def gradients(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, k, c) gradients of the combinations psi @ weights, weights (p, k)."""
        psi = self.values(z) if values is None else values
        pull = self._pull(z, psi)
        pulled = pull @ (weights[:, :, None] * self.centres[:, None, :]).reshape(self.size, -1)
        pulled = pulled.reshape(len(z), weights.shape[1], -1) - (pull @ weights)[:, :, None] * z[:, None, :]
        return pulled - (psi @ weights)[:, :, None] * self._sum(pull, z)[:, None, :]

    def _pull(self, z: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """(n, p) psi w."""
        return psi * (self.slope(self._squares(z)) * (2 / self.bandwidth**2))

    def _sum(self, pull: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(n, c) sum over i of pull_i (z_i - z)."""
        return pull @ self.centres - pull.sum(axis=1)[:, None] * z

    def dirichlet_form(
        self,
        z: np.ndarray,
        mobility: np.ndarray,
        values: np.ndarray | None = None,
        columns: slice = slice(None),
    ) -> np.ndarray:
        """Sum over points of grad psi_i . K grad psi_j, (p, p)."""
        psi = self.values(z) if values is None else values
        pull = self._pull(z, psi)
        mean = self._sum(pull, z)
        slopes = [
            pull * (self.centres[:, axis] - z[:, axis, None]) - psi * mean[:, axis, None] for axis in range(z.shape[1])
        ]
        return form(slopes, mobility, columns)

    def generator(
        self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray, values: np.ndarray | None = None
    ) -> np.ndarray:
        """(n, p) values of G psi = drift . grad psi + mobility : hess psi; arguments as for GaussianDictionary.

        With t_i = (drift - 2 K abar) . a_i + a_i . K a_i - K : hess q it is psi_i (t_i - sum_j psi_j t_j).
        """
        psi = self.values(z) if values is None else values
        s = self._squares(z)
        w = self.slope(s) * (2 / self.bandwidth**2)
        moved = times(z, mobility)
        # (z - z_i) . K (z - z_i), and v . (z_i - z) with v = drift - 2 K abar
        squares = quadratic(mobility, self.centres) + (moved * z).sum(axis=1)[:, None] - 2 * moved @ self.centres.T
        local = drift - 2 * times(self._sum(psi * w, z), mobility)
        t = w * (local @ self.centres.T - (local * z).sum(axis=1)[:, None] - trace(mobility))
        t += (w**2 - self.curvature(s) * (4 / self.bandwidth**4)) * squares
        t -= (psi * t).sum(axis=1)[:, None]
        t *= psi
        return t

    def coarsening(self) -> csr_array:
        """(p, p // 2) map to half as many functions: each joined to the nearest of the first half."""
        return coarsening(self.centres)

    def parameters(self) -> dict[str, np.ndarray]:
        """What the dictionary is made from."""
        return {"centres": self.centres, "bandwidth": np.array(self.bandwidth)}
