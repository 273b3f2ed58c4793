"""Dictionaries of which few functions are not zero at a point: rows of indices and values, dense arrays on request."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import scipy.sparse

from kswgd_hpc.backend import array_module, to_host
from kswgd_hpc.dictionary.contractions import entries


class SparseFunctions(ABC):
    """Functions by rows. A kind gives the three `sparse_*` methods; what follows makes the dense ones of them.

    Rows are (indices (n, k), values (n, k)): indices of functions from 0 to p - 1, distinct within a row, and -1 with
    value 0 where a row has fewer than k. All methods give the same indices for the same points.
    """

    sparse = True
    partition = True
    bound = 1.0
    size: int
    width: int | None  # functions that are alive at a point, None where their number varies

    @abstractmethod
    def sparse_values(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values, (n, k) each, at the (n, c) points z."""

    @abstractmethod
    def sparse_gradients(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices (n, k) and gradients (n, k, c)."""

    @abstractmethod
    def sparse_generator(self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values of G psi = drift . grad psi + mobility : hess psi, (n, k) each."""

    def values(self, z: np.ndarray) -> np.ndarray:
        """(n, p) values at the (n, c) points z."""
        return self._dense(*self.sparse_values(z))

    def gradient(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, c) gradient of psi @ weights, weights (p,): touches k of them at a point."""
        indices, gradients = self.sparse_gradients(z)
        return (weights[indices][:, :, None] * gradients).sum(axis=1)

    def gradients(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, k, c) gradients of the combinations psi @ weights, weights (p, k)."""
        indices, gradients = self.sparse_gradients(z)
        return weights[indices].transpose(0, 2, 1) @ gradients

    def dirichlet_form(
        self,
        z: np.ndarray,
        mobility: np.ndarray,
        values: np.ndarray | None = None,
        columns: slice = slice(None),
    ) -> np.ndarray:
        """(p, p) sum over points of grad psi_i . K grad psi_j."""
        indices, gradients = self.sparse_gradients(z)
        indices, gradients, mobility = to_host(indices), to_host(gradients), to_host(mobility)
        total = scipy.sparse.csr_array((self.size, len(range(self.size)[columns])))
        for a, b, k in entries(mobility):
            left = rows_to_matrix(indices, gradients[:, :, a], self.size)
            total = total + left.T @ rows_to_matrix(indices, k * gradients[:, :, b], self.size)[:, columns]
        return array_module(z).asarray(total.toarray())

    def generator(
        self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray, values: np.ndarray | None = None
    ) -> np.ndarray:
        """(n, p) values of the generator applied to each function."""
        return self._dense(*self.sparse_generator(z, drift, mobility))

    def _dense(self, indices: np.ndarray, values: np.ndarray) -> np.ndarray:
        xp = array_module(values)
        rows = xp.zeros((len(values), self.size + 1))  # the last column takes the padding
        rows[xp.arange(len(values))[:, None], indices] = values
        return xp.ascontiguousarray(rows[:, :-1])


class SparseDictionary(SparseFunctions):
    """What sparse kinds share: besides their functions, coarser ones to fall back on where data are few."""

    @abstractmethod
    def coarse_rows(self, functions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (m, k) of indices and weights of the map to a coarser dictionary, for some functions (m,)."""

    @abstractmethod
    def coarser(self) -> SparseDictionary | None:
        """A dictionary with the functions that `coarse_rows` maps to; None where it cannot be made coarser again."""

    @abstractmethod
    def sites(self, functions: np.ndarray) -> np.ndarray:
        """(m, c) places around which functions (m,) are largest."""

    def factors(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values, (n, a, w) each, of which those of `sparse_values` are sums and products over a.

        Negative indices are padding. What is no product has a = 1.
        """
        indices, values = self.sparse_values(z)
        return indices[:, None], values[:, None]

    def coarsening(self) -> scipy.sparse.csr_array:
        """(p, p') map: psi @ map are the functions of a coarser dictionary."""
        indices, weights = self.coarse_rows(np.arange(self.size))
        return rows_to_matrix(indices, weights, max(1, int(indices.max()) + 1))


def rows_to_matrix(indices: np.ndarray, values: np.ndarray, size: int) -> scipy.sparse.csr_array:
    """(n, size) matrix of padded rows."""
    kept = indices >= 0
    pointers = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    return scipy.sparse.csr_array((values[kept], indices[kept], pointers), shape=(len(indices), size))


def joined(labels: np.ndarray, functions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coarse rows of functions that are added up where their labels (p,) agree."""
    return labels[functions][:, None], np.ones((len(functions), 1))


def padded(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices, -1 for padding, and values (p, k) of the entries of a matrix (p, p') that are not zero."""
    kept = matrix != 0
    order = np.argsort(~kept, axis=1, kind="stable")[:, : int(kept.sum(axis=1).max())]
    there = np.take_along_axis(kept, order, axis=1)
    return np.where(there, order, -1), np.where(there, np.take_along_axis(matrix, order, axis=1), 0.0)
