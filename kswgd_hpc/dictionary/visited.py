"""The functions of a sparse dictionary that data visit, and combinations of them as a small dense dictionary."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.sparse import csr_array, eye_array
from scipy.spatial import cKDTree

from kswgd_hpc.dictionary.sparse import SparseDictionary, SparseFunctions
from kswgd_hpc.sparse_kernels import combine


class VisitedDictionary(SparseFunctions):
    """The functions of another dictionary that have been visited; the nearest of them stand in for the others.

    Parameters
    ----------
    whole : the dictionary, of any number of functions
    functions : (p,) which of them, ascending
    """

    def __init__(self, whole: SparseDictionary, functions: np.ndarray):
        self.whole = whole
        self.functions = functions
        self.size = len(functions)
        self.kind, self.smoothness, self.width = whole.kind, whole.smoothness, whole.width

    def sparse_values(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices among the visited functions, not distinct where one stands in for others, and values."""
        indices, values = self.whole.sparse_values(z)
        return self._among(indices), values

    def sparse_gradients(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices (n, k) and gradients (n, k, c)."""
        indices, gradients = self.whole.sparse_gradients(z)
        return self._among(indices), gradients

    def sparse_generator(self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values of G psi, (n, k) each."""
        indices, values = self.whole.sparse_generator(z, drift, mobility)
        return self._among(indices), values

    def combined(self, coefficients: np.ndarray) -> tuple[CombinedDictionary, np.ndarray]:
        """Combinations psi @ coefficients (p, r) as a dictionary of real functions, and their coefficients in that."""
        real = np.eye(coefficients.shape[1])
        if not np.iscomplexobj(coefficients):
            return CombinedDictionary(self, coefficients), real
        both = np.concatenate([coefficients.real, coefficients.imag], axis=1)
        return CombinedDictionary(self, both), np.concatenate([real, 1j * real])

    def parameters(self) -> dict[str, np.ndarray]:
        """What `restore` makes it from."""
        return {**self.whole.parameters(), "functions": self.functions}

    @cached_property
    def place(self) -> np.ndarray:
        """(size of the whole,) place of each function among the visited ones, p for those that are not."""
        place = np.full(self.whole.size, self.size, dtype=np.int32)
        place[self.functions] = np.arange(self.size, dtype=np.int32)
        return place

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.whole.sites(self.functions))

    def _among(self, indices: np.ndarray) -> np.ndarray:
        """Places (n, k) of functions (n, k); -1 stays what it is."""
        places = np.where(indices >= 0, self.place[indices], -1).astype(np.int64)
        strange = places == self.size
        if strange.any():
            names, back = np.unique(indices[strange], return_inverse=True)
            places[strange] = self._tree.query(self.whole.sites(names))[1][back]
        return places

    def _dense(self, indices: np.ndarray, values: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(values), self.size + 1))
        np.add.at(rows, (np.arange(len(values))[:, None], indices), values)
        return np.ascontiguousarray(rows[:, :-1])


class CombinedDictionary:
    """r functions chi = psi @ coefficients of a sparse dictionary, as a dictionary of their own.

    Parameters
    ----------
    visited : the functions psi
    coefficients : (p, r)
    """

    sparse = partition = False

    def __init__(self, visited: VisitedDictionary, coefficients: np.ndarray):
        self.visited = visited
        self.coefficients = coefficients
        self.size = coefficients.shape[1]
        self.kind, self.smoothness = visited.kind, visited.smoothness
        # the functions psi are not negative and add up to one
        self.bound = float(np.abs(coefficients).max(initial=0.0))

    def values(self, z: np.ndarray) -> np.ndarray:
        """(n, r) values at (n, c) points."""
        index, factor = self.visited.whole.factors(z)
        found = combine(index, factor, self.visited.place, self._with_one)
        strange = np.flatnonzero(found[:, -1] < 1 - 1e-9)
        if len(strange):
            indices, values = self.visited.sparse_values(z[strange])
            found[strange, :-1] = (self.coefficients[indices] * values[:, :, None]).sum(axis=1)
        return np.ascontiguousarray(found[:, :-1])

    def gradient(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, c) gradient of chi @ weights, weights (r,)."""
        return self.visited.gradient(z, self.coefficients @ weights)

    def gradients(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, k, c) gradients of the combinations chi @ weights, weights (r, k)."""
        return self.visited.gradients(z, self.coefficients @ weights)

    def dirichlet_form(
        self, z: np.ndarray, mobility: np.ndarray, values: np.ndarray | None = None, columns: slice = slice(None)
    ) -> np.ndarray:
        """(r, r) sum over points of grad chi_i . K grad chi_j."""
        slopes = self.visited.gradients(z, self.coefficients)
        return np.einsum("nia,nja->ij", slopes @ mobility, slopes[:, columns], optimize=True)

    def generator(
        self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray, values: np.ndarray | None = None
    ) -> np.ndarray:
        """(n, r) values of the generator applied to each function."""
        indices, action = self.visited.sparse_generator(z, drift, mobility)
        return (self.coefficients[indices] * action[:, :, None]).sum(axis=1)

    def coarsening(self) -> csr_array:
        """(r, r) identity: coarser dictionaries are looked at before functions are combined."""
        return eye_array(self.size, format="csr")

    def parameters(self) -> dict[str, np.ndarray]:
        """Of the functions psi, in which the results give all coefficients."""
        return self.visited.parameters()

    @cached_property
    def _with_one(self) -> np.ndarray:
        """(p + 1, r + 1) coefficients, and those of the constant one where the functions have been visited."""
        whole = np.zeros((self.visited.size + 1, self.size + 1))
        whole[:-1, :-1], whole[:-1, -1] = self.coefficients, 1.0
        return whole
