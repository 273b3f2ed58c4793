"""The coordinates themselves: the dictionary of the user's functions, which then are the coordinates."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, eye_array

from kswgd_hpc.backend import array_module
from kswgd_hpc.dictionary.polynomial import PolynomialDictionary


class LinearDictionary:
    """psi_i(z) = z_i. With coordinates given as expressions it is the span of those expressions and the constant.

    Parameters
    ----------
    coordinates : c = p
    """

    kind = "expressions"
    bound = np.inf
    smoothness = 2
    sparse = False
    partition = False

    def __init__(self, coordinates: int):
        self.size = coordinates

    def values(self, z: np.ndarray) -> np.ndarray:
        """(n, p) copies of the points."""
        return z.copy()

    def gradient(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, c) gradient of psi @ weights: the weights, everywhere."""
        return array_module(z).ones((len(z), 1)) * weights

    def gradients(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, k, c) gradients of the combinations psi @ weights, weights (p, k)."""
        return array_module(z).ones((len(z), 1, 1)) * weights.T

    def dirichlet_form(
        self,
        z: np.ndarray,
        mobility: np.ndarray,
        values: np.ndarray | None = None,
        columns: slice = slice(None),
    ) -> np.ndarray:
        """Sum over points of K, (p, p)."""
        total = len(z) * mobility if mobility.ndim == 2 else mobility.sum(axis=0)
        return total[:, columns]

    def generator(
        self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray, values: np.ndarray | None = None
    ) -> np.ndarray:
        """(n, p) values of the generator applied to each function: the drift."""
        return drift.copy()

    def coarsening(self) -> csr_array:
        """(p, p // 2) map to half as many functions: the first."""
        return eye_array(self.size, max(1, self.size // 2), format="csr")

    def enrichment(self) -> PolynomialDictionary | None:
        """The functions and all products of two of them, None where those are too many to try."""
        return PolynomialDictionary(self.size, 1).enrichment()

    def parameters(self) -> dict[str, np.ndarray]:
        """What `LinearDictionary` is made from."""
        return {"coordinates": np.array(self.size)}
