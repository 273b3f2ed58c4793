"""Dictionaries of observables, one kind a file.

A dictionary works on scaled coordinates z and gives values, the gradient of a linear combination, the Dirichlet form,
the generator's action, and a coarser dictionary of half the size within its span, for the dictionary's share of the
error. Of functions each of which has a part of its own, such as powers, no half is like the whole: those have an
`enrichment` instead, a larger dictionary whose span holds theirs. Where the values at z are known already they are
passed on as `values`. All array work goes through the array's own module: NumPy on the host, CuPy on a GPU. Kinds of
which few functions are not zero at a point also give rows of indices and values: see `SparseDictionary`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from types import ModuleType
from typing import Any, ClassVar, Protocol

import numpy as np
from scipy.sparse import csr_array

from kswgd_hpc.dictionary.fourier import FourierDictionary
from kswgd_hpc.dictionary.gaussian import GaussianDictionary
from kswgd_hpc.dictionary.indicator import BoxDictionary, VoronoiDictionary
from kswgd_hpc.dictionary.linear import LinearDictionary
from kswgd_hpc.dictionary.matern import MaternDictionary
from kswgd_hpc.dictionary.polynomial import PolynomialDictionary
from kswgd_hpc.dictionary.random_fourier import RandomFourierDictionary
from kswgd_hpc.dictionary.rational_quadratic import RationalQuadraticDictionary
from kswgd_hpc.dictionary.sparse import SparseDictionary
from kswgd_hpc.dictionary.splines import SplineDictionary
from kswgd_hpc.dictionary.visited import CombinedDictionary, VisitedDictionary
from kswgd_hpc.dictionary.wendland import WendlandDictionary


class Dictionary(Protocol):
    """What the pipeline needs of a dictionary. The mobility is (c, c), or (n, c, c) where it depends on the state."""

    kind: ClassVar[str]  # as in the configuration
    size: int
    bound: float  # largest absolute value of a function, infinite where there is none
    smoothness: int  # derivatives that are functions: 0 none, 1 no generator, 2 all
    sparse: bool  # whether it is a SparseDictionary
    partition: bool  # whether the functions add up to one everywhere

    def values(self, z: np.ndarray) -> np.ndarray:
        """(n, c) coordinates to (n, p) values."""

    def gradient(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, c) gradients of the combination psi @ weights, weights (p,)."""

    def gradients(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, k, c) gradients of the combinations psi @ weights, weights (p, k)."""

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
        """(n, p) values of the generator applied to each function, drift (n, c)."""

    def coarsening(self) -> csr_array:
        """(p, p') map, p' about p / 2: psi @ map are the functions of a coarser dictionary."""

    def parameters(self) -> dict[str, Any]:
        """What the dictionary is made from, for the results; see `restore`."""


def enrichment(dictionary: Dictionary) -> Dictionary | None:
    """A larger dictionary to compare with, None where the comparison is with half of the dictionary."""
    return dictionary.enrichment() if hasattr(dictionary, "enrichment") else None


_CLASSES = (
    GaussianDictionary,
    MaternDictionary,
    RationalQuadraticDictionary,
    WendlandDictionary,
    PolynomialDictionary,
    FourierDictionary,
    RandomFourierDictionary,
    SplineDictionary,
    VoronoiDictionary,
    BoxDictionary,
    LinearDictionary,
)


def restore(kind: str, parameters: Mapping[str, Any]) -> Dictionary:
    """The dictionary of a kind that had these `parameters`."""
    plain = {
        name: value.item() if np.ndim(value) == 0 and hasattr(value, "item") else value
        for name, value in parameters.items()
    }
    functions = plain.pop("functions", None)
    if functions is not None:
        return VisitedDictionary(restore(kind, plain), functions)
    if kind == "indicator":
        return (VoronoiDictionary if "centres" in plain else BoxDictionary)(**plain)
    return next(chosen for chosen in _CLASSES if chosen.kind == kind)(**plain)


def combinations(dictionary: Dictionary, z: np.ndarray, coefficients: np.ndarray, error: float) -> np.ndarray:
    """(n, k) values of psi @ coefficients, (p, k) and real, at z: rounded by up to `error` where that is cheaper."""
    if isinstance(dictionary, GaussianDictionary):
        return dictionary.combinations(z, coefficients, error)
    return dictionary.values(z) @ coefficients


def on_device(dictionary: Dictionary, xp: ModuleType) -> Dictionary:
    """The dictionary with its arrays on the device of an array module."""
    moved = copy.copy(dictionary)
    for name, value in vars(dictionary).items():
        if isinstance(value, np.ndarray):
            setattr(moved, name, xp.asarray(value))
        elif is_dataclass(value):
            setattr(moved, name, replace(value, **{f.name: xp.asarray(getattr(value, f.name)) for f in fields(value)}))
    return moved


__all__ = [
    "BoxDictionary",
    "CombinedDictionary",
    "Dictionary",
    "FourierDictionary",
    "GaussianDictionary",
    "LinearDictionary",
    "MaternDictionary",
    "PolynomialDictionary",
    "RandomFourierDictionary",
    "RationalQuadraticDictionary",
    "SparseDictionary",
    "SplineDictionary",
    "VisitedDictionary",
    "VoronoiDictionary",
    "WendlandDictionary",
    "combinations",
    "enrichment",
    "on_device",
    "restore",
]
