"""Products of functions of one coordinate each: what polynomial and Fourier dictionaries share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from scipy.sparse import csr_array, eye_array

from kswgd_hpc.backend import array_module
from kswgd_hpc.dictionary.contractions import entries, form

_BEYOND_USE = 10**9


class ProductDictionary(ABC):
    """psi_k(z) = prod_a t_{k_a}(z_a) over a set of multi-indices k.

    A kind gives `tables`: the functions t_0 = 1, t_1, ... of each coordinate and their derivatives.

    Parameters
    ----------
    factors : (p, c) multi-indices, by ascending order; the constant, k = 0, is left out, since the Galerkin space
        always contains it
    """

    smoothness = 2
    sparse = False
    partition = False

    def __init__(self, factors: np.ndarray):
        self.factors = factors
        self.size = len(factors)

    @abstractmethod
    def tables(self, z: np.ndarray, derivatives: int) -> list[np.ndarray]:
        """For each order of derivative up to `derivatives`, (m, n, c) values of the m functions of a coordinate."""

    def _product(self, tables: list[np.ndarray], along: tuple[int, ...] = ()) -> np.ndarray:
        """(n, p) products, differentiated once along each coordinate named in `along`."""
        product = 1.0
        for axis in range(self.factors.shape[1]):
            product = product * tables[along.count(axis)][self.factors[:, axis], :, axis]
        return array_module(product).ascontiguousarray(product.T)

    def values(self, z: np.ndarray) -> np.ndarray:
        """(n, p) values at the (n, c) points z."""
        return self._product(self.tables(z, 0))

    def slopes(self, z: np.ndarray) -> list[np.ndarray]:
        """(n, p) derivatives along each coordinate."""
        tables = self.tables(z, 1)
        return [self._product(tables, (axis,)) for axis in range(z.shape[1])]

    def gradients(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, k, c) gradients of the combinations psi @ weights, weights (p, k); (n, c) for one combination (p,)."""
        return array_module(z).stack([slope @ weights for slope in self.slopes(z)], axis=-1)

    gradient = gradients

    def dirichlet_form(
        self,
        z: np.ndarray,
        mobility: np.ndarray,
        values: np.ndarray | None = None,
        columns: slice = slice(None),
    ) -> np.ndarray:
        """Sum over points of grad psi_i . K grad psi_j, (p, p)."""
        return form(self.slopes(z), mobility, columns)

    def generator(
        self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray, values: np.ndarray | None = None
    ) -> np.ndarray:
        """(n, p) values of G psi = drift . grad psi + mobility : hess psi; see GaussianDictionary."""
        tables = self.tables(z, 2)
        total = sum(drift[:, a, None] * self._product(tables, (a,)) for a in range(z.shape[1]))
        for a, b, k in entries(mobility):
            total = total + k * self._product(tables, (a, b))
        return total

    def coarsening(self) -> csr_array:
        """(p, p // 2) map to half as many functions: those of lowest order."""
        return eye_array(self.size, max(1, self.size // 2), format="csr")


def by_order(orders: list[np.ndarray], largest: int, total: bool) -> np.ndarray:
    """(p, c) multi-indices whose orders add up to at most `largest` (or do not exceed it one by one), by order.

    Parameters
    ----------
    orders : for each coordinate, the order of its functions t_0, t_1, ...
    largest : bound on the sum (`total`) or on the maximum of the orders
    """
    chosen, reached = np.zeros((1, 0), dtype=int), np.zeros(1, dtype=int)
    for order in orders:
        candidates = np.flatnonzero(order <= largest)
        sums = reached[:, None] + order[candidates]
        rows, columns = np.nonzero(sums <= largest) if total else np.nonzero(sums >= 0)
        chosen = np.column_stack([chosen[rows], candidates[columns]])
        reached = sums[rows, columns]
    chosen, reached = chosen[::-1], reached[::-1]  # within an order, the first coordinate comes first
    return chosen[np.argsort(reached, kind="stable")[1:]]  # without the constant, the only one of order zero


def count_by_order(orders: list[np.ndarray], largest: int, total: bool) -> int:
    """Number of multi-indices that `by_order` gives, without making them; a lower bound where it is beyond use."""
    least = math.comb(largest + len(orders), len(orders)) - 1  # with one function of each order
    if total and least > _BEYOND_USE:
        return least
    counts = np.ones(1, dtype=object)
    for order in orders:
        available = np.bincount(order[order <= largest], minlength=largest + 1).astype(object)
        counts = np.convolve(counts, available)[: largest + 1] if total else counts * available.sum()
    return int(counts.sum()) - 1
