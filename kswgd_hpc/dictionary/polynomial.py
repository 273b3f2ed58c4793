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
        table = self._hermite(z)
        product = table[self.powers[:, 0], :, 0]
        for axis in range(1, z.shape[1]):
            product = product * table[self.powers[:, axis], :, axis]
        return array_module(z).ascontiguousarray(product.T)

    def derivative(self, z: np.ndarray, axis: int) -> np.ndarray:
        """(n, p) derivatives along one coordinate; h_k' = sqrt(k) h_{k-1}."""
        xp = array_module(z)
        table = self._hermite(z)
        k = self.powers[:, axis]
        product = xp.asarray(np.sqrt(k))[:, None] * table[np.maximum(k - 1, 0), :, axis]
        for other in range(z.shape[1]):
            if other != axis:
                product = product * table[self.powers[:, other], :, other]
        return xp.ascontiguousarray(product.T)

    def gradient(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, c) gradient of psi @ weights."""
        xp = array_module(z)
        return xp.stack([self.derivative(z, axis) @ weights for axis in range(z.shape[1])], axis=1)

    def dirichlet_form(self, z: np.ndarray, mobility: np.ndarray) -> np.ndarray:
        """Sum over points of grad psi_i . K grad psi_j, (p, p), one coordinate pair after the other."""
        slopes = [self.derivative(z, axis) for axis in range(z.shape[1])]
        form = 0
        for i, left in enumerate(slopes):
            mixed = sum(mobility[i, j] * right for j, right in enumerate(slopes) if mobility[i, j] != 0)
            form = form + left.T @ mixed
        return form

    def coarsening(self) -> np.ndarray:
        """(p, p // 2) map to half as many functions: those of lowest degree."""
        return np.eye(self.size, max(1, self.size // 2))
