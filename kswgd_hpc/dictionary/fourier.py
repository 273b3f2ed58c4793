"""Fourier modes: cosines of half waves on the range of the data, sines and cosines where a coordinate is periodic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kswgd_hpc.backend import array_module
from kswgd_hpc.dictionary.products import ProductDictionary, by_order, count_by_order


class FourierDictionary(ProductDictionary):
    """Products of t_k, scaled to mean square one, with total or largest wave number at most `degree`.

    On a range [a, b] they are cos(pi k (z - a) / (b - a)): sines and cosines of whole waves would ask functions to
    agree at both ends, these ask only for no slope there, and beyond the ends they are continued by their values. On
    a coordinate of period P they are cos(2 pi k z / P) and sin(2 pi k z / P).

    Parameters
    ----------
    low, high : (c,) range of each coordinate; its period is their difference where `periodic`
    periodic : (c,) whether a coordinate is periodic
    degree : largest wave number
    total : bound the sum of the wave numbers of all coordinates, not each of them
    """

    kind = "fourier"

    def __init__(self, low: np.ndarray, high: np.ndarray, periodic: Sequence[bool], degree: int, total: bool = True):
        periodic = np.asarray(periodic, dtype=bool)
        super().__init__(by_order(_orders(periodic, degree), degree, total))
        self.low = np.asarray(low, dtype=float)
        self.high = np.asarray(high, dtype=float)
        self.periodic = periodic
        self.degree = degree
        self.total = total
        self.bound = float(np.sqrt(2.0) ** np.count_nonzero(self.factors, axis=1).max())

    @staticmethod
    def count(periodic: Sequence[bool], degree: int, total: bool) -> int:
        """Number of functions, without making them."""
        return count_by_order(_orders(np.asarray(periodic, dtype=bool), degree), degree, total)

    def tables(self, z: np.ndarray, derivatives: int) -> list[np.ndarray]:
        """Cosines of k = 0..degree, and for periodic coordinates cosine and sine in turn; see ProductDictionary."""
        xp = array_module(z)
        width = self.high - self.low
        inside = self.periodic | ((z > self.low) & (z < self.high))
        speed = xp.where(self.periodic, 2 * np.pi, np.pi) / width
        phase = (xp.where(self.periodic, z, xp.clip(z, self.low, self.high)) - self.low) * speed
        k = xp.arange(1, self.degree + 1, dtype=float)[:, None, None]
        cosine, sine = np.sqrt(2.0) * xp.cos(k * phase), np.sqrt(2.0) * xp.sin(k * phase)
        found = []
        for order in range(derivatives + 1):
            rate = (k * speed) ** order * (inside if order else 1.0)
            even, odd = _turned(cosine, sine, order)
            table = xp.zeros((2 * self.degree + 1, *z.shape))
            table[0] = 1.0 if order == 0 else 0.0
            # a range has its cosines in places 1..degree; a period has cosines and sines in turn
            table[1 : self.degree + 1] = rate * even
            alternating = xp.stack([rate * even, rate * odd], axis=1).reshape(2 * self.degree, *z.shape)
            table[1:] = xp.where(self.periodic, alternating, table[1:])
            found.append(table)
        return found

    def parameters(self) -> dict[str, np.ndarray]:
        """What `FourierDictionary` is made from."""
        return {
            "low": self.low,
            "high": self.high,
            "periodic": self.periodic,
            "degree": np.array(self.degree),
            "total": np.array(self.total),
        }


def _turned(cosine: np.ndarray, sine: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine differentiated `order` times in their phase."""
    for _ in range(order):
        cosine, sine = -sine, cosine
    return cosine, sine


def _orders(periodic: np.ndarray, degree: int) -> list[np.ndarray]:
    """Wave numbers of the functions of each coordinate."""
    waves, pairs = np.arange(degree + 1), (np.arange(2 * degree + 1) + 1) // 2
    return [pairs if p else waves for p in periodic]
