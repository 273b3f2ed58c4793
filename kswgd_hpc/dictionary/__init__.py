"""Dictionaries of observables, one kind a file.

A dictionary works on scaled coordinates z and gives values, the gradient of a linear combination, the Dirichlet form,
the generator's action, and a coarser dictionary of half the size within its span, for the dictionary's share of the
error. Where the values at z are known already they are passed on as `values`. All array work goes through the array's
own module: NumPy on the host, CuPy on a GPU.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from kswgd_hpc.dictionary.gaussian import GaussianDictionary
from kswgd_hpc.dictionary.polynomial import PolynomialDictionary


class Dictionary(Protocol):
    """What the pipeline needs of a dictionary."""

    size: int
    bound: float  # largest absolute value of a function, infinite where there is none

    def values(self, z: np.ndarray) -> np.ndarray:
        """(n, c) coordinates to (n, p) values."""

    def gradient(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, c) gradients of the combination psi @ weights, weights (p,)."""

    def dirichlet_form(
        self,
        z: np.ndarray,
        mobility: np.ndarray,
        values: np.ndarray | None = None,
        columns: slice = slice(None),
    ) -> np.ndarray:
        """(p, p) sum over the n points of grad psi . mobility grad psi^T, or only some columns of it."""

    def generator(
        self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray, values: np.ndarray | None = None
    ) -> np.ndarray:
        """(n, p) values of the generator applied to each function, drift (n, c), mobility (c, c)."""

    def coarsening(self) -> np.ndarray:
        """(p, p // 2) map: psi @ map are the functions of a coarser dictionary."""


__all__ = ["Dictionary", "GaussianDictionary", "PolynomialDictionary"]
