"""Hermite polynomials by total degree in whitened coordinates."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np

from kswgd_hpc.backend import array_module


class PolynomialDictionary:
    """Products of normalised Hermite polynomials of total degree 1..degree, ordered by degree.

    Orthonormal under a standard normal law, which keeps the Gram matrix well conditioned in whitened
    coordinates. The constant is left out: the Galerkin space always contains it.

    Parameters
    ----------
    coordinates : c, number of whitened coordinates
    degree : largest total degree
    """

    bound = np.inf

    def __init__(self, coordinates: int, degree: int):
        self.degree = degree
        powers = []
        for total in range(1, degree + 1):
            for factors in combinations_with_replacement(range(coordinates), total):
                powers.append(np.bincount(factors, minlength=coordinates))
        self.powers = np.array(powers)
        self.size = len(powers)

    def _hermite(self, z):
        """(degree + 1, n, c) normalised Hermite polynomials, h_{k+1} = (z h_k - sqrt(k) h_{k-1}) / sqrt(k+1)."""
        xp = array_module(z)
        table = xp.empty((self.degree + 1, *z.shape))
        table[0] = 1.0
        table[1] = z
        for k in range(1, self.degree):
            table[k + 1] = (z * table[k] - np.sqrt(k) * table[k - 1]) / np.sqrt(k + 1)
        return table

    def values(self, z: np.ndarray) -> np.ndarray:
        """(n, p) values at the (n, c) points z."""
        return self._derivative(self._hermite(z), np.zeros(z.shape[1], dtype=int))

    def _derivative(self, table, orders: np.ndarray) -> np.ndarray:
        """(n, p) mixed derivatives, `orders` (c,) of them along each coordinate; h_k' = sqrt(k) h_{k-1}."""
        xp, product = array_module(table), 1.0
        for axis, order in enumerate(orders):
            k = self.powers[:, axis]
            factor = np.prod([np.maximum(k - i, 0) for i in range(order)], axis=0) if order else np.ones(len(k))
            product = product * (xp.asarray(np.sqrt(factor))[:, None] * table[np.maximum(k - order, 0), :, axis])
        return xp.ascontiguousarray(product.T)

    def derivative(self, z: np.ndarray, axis: int) -> np.ndarray:
        """(n, p) derivatives along one coordinate."""
        return self._derivative(self._hermite(z), np.eye(z.shape[1], dtype=int)[axis])

    def generator(
        self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray, values: np.ndarray | None = None
    ) -> np.ndarray:
        """(n, p) values of G psi = drift . grad psi + mobility : hess psi; see GaussianDictionary."""
        table, unit = self._hermite(z), np.eye(z.shape[1], dtype=int)
        total = sum(drift[:, i, None] * self._derivative(table, unit[i]) for i in range(len(unit)))
        for i, j in np.argwhere(mobility != 0):
            total = total + mobility[i, j] * self._derivative(table, unit[i] + unit[j])
        return total

    def gradient(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, c) gradient of psi @ weights."""
        xp = array_module(z)
        return xp.stack([self.derivative(z, axis) @ weights for axis in range(z.shape[1])], axis=1)

    def dirichlet_form(
        self,
        z: np.ndarray,
        mobility: np.ndarray,
        values: np.ndarray | None = None,
        columns: slice = slice(None),
    ) -> np.ndarray:
        """Sum over points of grad psi_i . K grad psi_j, (p, p), one coordinate pair after the other."""
        slopes = [self.derivative(z, axis) for axis in range(z.shape[1])]
        form = 0
        for i, left in enumerate(slopes):
            mixed = sum(mobility[i, j] * right for j, right in enumerate(slopes) if mobility[i, j] != 0)
            form = form + left.T @ mixed[:, columns]
        return form

    def coarsening(self) -> np.ndarray:
        """(p, p // 2) map to half as many functions: those of lowest degree."""
        return np.eye(self.size, max(1, self.size // 2))
