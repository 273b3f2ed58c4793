"""Hermite polynomials by total degree in whitened coordinates."""

from __future__ import annotations

import numpy as np

from kswgd_hpc.backend import array_module
from kswgd_hpc.dictionary.products import ProductDictionary, by_order, count_by_order

_MOST = 1000  # functions of a dictionary that is only looked at for the error of a smaller one


class PolynomialDictionary(ProductDictionary):
    """Products of normalised Hermite polynomials of total degree 1..degree, ordered by degree.

    Orthonormal under a standard normal law, which keeps the Gram matrix well conditioned in whitened
    coordinates. They have no bound: a particle far from the data feels a large, meaningless gradient.

    Parameters
    ----------
    coordinates : c, number of whitened coordinates
    degree : largest total degree
    """

    kind = "polynomial"
    bound = np.inf

    def __init__(self, coordinates: int, degree: int):
        super().__init__(by_order(_orders(coordinates, degree), degree, total=True))
        self.degree = degree

    @staticmethod
    def count(coordinates: int, degree: int) -> int:
        """Number of functions, without making them."""
        return count_by_order(_orders(coordinates, degree), degree, total=True)

    def tables(self, z: np.ndarray, derivatives: int) -> list[np.ndarray]:
        """Normalised Hermite polynomials, h_{k+1} = (z h_k - sqrt(k) h_{k-1}) / sqrt(k+1), h_k' = sqrt(k) h_{k-1}."""
        xp = array_module(z)
        table = xp.zeros((self.degree + 1, *z.shape))
        table[0] = 1.0
        table[1] = z
        for k in range(1, self.degree):
            table[k + 1] = (z * table[k] - np.sqrt(k) * table[k - 1]) / np.sqrt(k + 1)
        found = [table]
        for _ in range(derivatives):
            slope = xp.zeros_like(table)
            slope[1:] = xp.sqrt(xp.arange(1, self.degree + 1, dtype=float))[:, None, None] * found[-1][:-1]
            found.append(slope)
        return found

    def enrichment(self) -> PolynomialDictionary | None:
        """Polynomials of one degree more, None where those are too many to try."""
        coordinates = self.factors.shape[1]
        if self.count(coordinates, self.degree + 1) > _MOST:
            return None
        return PolynomialDictionary(coordinates, self.degree + 1)

    def parameters(self) -> dict[str, np.ndarray]:
        """What `PolynomialDictionary` is made from."""
        return {"coordinates": np.array(self.factors.shape[1]), "degree": np.array(self.degree)}


def _orders(coordinates: int, degree: int) -> list[np.ndarray]:
    return [np.arange(degree + 1)] * coordinates
