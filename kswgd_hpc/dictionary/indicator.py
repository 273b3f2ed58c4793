"""Indicator functions of the cells of a partition: Ulam's method, Markov state models.

They are piecewise constant and have no gradient: rates come from pairs a lag time apart, and nothing can be
transported.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from kswgd_hpc.backend import array_module
from kswgd_hpc.dictionary.centres import join_to_first_half, square_distances
from kswgd_hpc.dictionary.grid import Grid, strides
from kswgd_hpc.dictionary.sparse import SparseDictionary, joined
from kswgd_hpc.errors import ConfigurationError


class IndicatorDictionary(SparseDictionary):
    """Cells of a partition; a kind of partition says by `cell` in which one a point lies."""

    kind = "indicator"
    smoothness = 0
    width = 1

    @abstractmethod
    def cell(self, z: np.ndarray) -> np.ndarray:
        """(n,) index of the cell of each of the (n, c) points."""

    def sparse_values(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cell of each point, (n, 1), and ones."""
        cell = self.cell(z)[:, None]
        return cell, array_module(z).ones(cell.shape)

    def sparse_gradients(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Refused: piecewise constant functions have none."""
        raise ConfigurationError("koopman.dictionary: indicator functions have no gradients; use splines")

    def sparse_generator(self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Refused: see `sparse_gradients`."""
        return self.sparse_gradients(z)


class VoronoiDictionary(IndicatorDictionary):
    """Cells of the points nearest each of given centres.

    Parameters
    ----------
    centres : (p, c) array, in an order whose first half covers the same region more coarsely
    """

    def __init__(self, centres: np.ndarray):
        self.centres = centres
        self.size = len(centres)
        self._tree = cKDTree(centres)

    def cell(self, z: np.ndarray) -> np.ndarray:
        """(n,) index of the nearest centre."""
        if array_module(z) is np:
            return self._tree.query(z)[1].astype(np.int64)
        return square_distances(z, self.centres).argmin(axis=1)

    def coarse_rows(self, functions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the map that joins each cell to the nearest of the first half."""
        return joined(self._labels, functions)

    def coarser(self) -> VoronoiDictionary | None:
        """Of the first half of the centres."""
        return VoronoiDictionary(self.centres[: self.size // 2]) if self.size >= 4 else None

    def sites(self, functions: np.ndarray) -> np.ndarray:
        """(m, c) centres."""
        return self.centres[functions]

    @cached_property
    def _labels(self) -> np.ndarray:
        return join_to_first_half(self.centres)

    def parameters(self) -> dict[str, np.ndarray]:
        """What `VoronoiDictionary` is made from."""
        return {"centres": self.centres}


class BoxDictionary(IndicatorDictionary):
    """Boxes of a regular grid; the outermost reach to infinity.

    Parameters
    ----------
    low, high, cells, periodic : see Grid; cells even
    """

    def __init__(self, low, high, cells, periodic):
        self.grid = Grid(*(np.asarray(part) for part in (low, high, cells, periodic)))
        self.size = int(np.prod(self.grid.cells.astype(object)))
        self._strides = strides(self.grid.cells)

    def cell(self, z: np.ndarray) -> np.ndarray:
        """(n,) index of the box."""
        return (self.grid.locate(z)[0] * self._strides).sum(axis=1)

    def coarse_rows(self, functions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the map that joins two boxes along each coordinate."""
        places = np.unravel_index(functions, self.grid.cells)
        labels = np.ravel_multi_index([place // 2 for place in places], self.grid.cells // 2)
        return labels[:, None].astype(np.int64), np.ones((len(functions), 1))

    def coarser(self) -> BoxDictionary | None:
        """Boxes of twice the width; None where their number would be odd."""
        return BoxDictionary(**self.grid.halved()) if self.grid.halved() else None

    def sites(self, functions: np.ndarray) -> np.ndarray:
        """(m, c) middles of boxes."""
        places = np.stack(np.unravel_index(functions, self.grid.cells), axis=1)
        return self.grid.low + (places + 0.5) * self.grid.spacing

    def parameters(self) -> dict[str, np.ndarray]:
        """What `BoxDictionary` is made from."""
        return self.grid.parameters()
