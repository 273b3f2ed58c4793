"""Tensor-product B-splines on a regular grid: sparse, a partition of unity, as many functions as cells.

A spline that reaches over an end of the range is folded back at it, as by a mirror: all functions have slope zero at
the ends and go on beyond them by their values, so that an eigenfunction has no false gradient out of the data.
"""

from __future__ import annotations

from functools import cached_property, reduce
from math import comb

import numpy as np

from kswgd_hpc.backend import array_module
from kswgd_hpc.dictionary.contractions import entries
from kswgd_hpc.dictionary.grid import Grid, strides
from kswgd_hpc.dictionary.sparse import SparseDictionary, padded
from kswgd_hpc.errors import ConfigurationError


class SplineDictionary(SparseDictionary):
    """Products of B-splines of one degree in each coordinate, (degree + 1)^c of them not zero at a point.

    Parameters
    ----------
    low, high, cells, periodic : see Grid; cells even, and at least 2 * degree
    degree : 1 (hats; continuous, no second derivatives) to 5

    Source: de Boor 1978, chapter X, for equally spaced knots.
    """

    kind = "splines"

    def __init__(self, low, high, cells, periodic, degree: int = 3):
        self.grid = Grid(*(np.asarray(part) for part in (low, high, cells, periodic)))
        self.degree = degree
        self.smoothness = min(degree, 2)
        self.width = (degree + 1) ** len(self.grid.cells)
        self.counts = self.count(self.grid.cells, self.grid.periodic, degree)
        self.size = int(np.prod(self.counts.astype(object)))
        self._strides = strides(self.counts)

    @staticmethod
    def count(cells: np.ndarray, periodic: np.ndarray, degree: int) -> np.ndarray:
        """(c,) number of splines of each coordinate."""
        return np.where(periodic, cells, cells + degree % 2).astype(np.int64)

    def sparse_values(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values, (n, k) each; see SparseDictionary."""
        indices, tables = self._tables(z, 0)
        return self._products(indices), _outer([tables[0][:, a] for a in range(z.shape[1])])

    def sparse_gradients(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices (n, k) and gradients (n, k, c)."""
        indices, tables = self._tables(z, 1)
        slopes = [_along(tables, (axis,)) for axis in range(z.shape[1])]
        return self._products(indices), array_module(z).stack(slopes, axis=2)

    def sparse_generator(self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values of G psi, (n, k) each."""
        if self.degree < 2:
            raise ConfigurationError("koopman.dictionary.degree: splines of degree 1 have no second derivatives; use 2")
        indices, tables = self._tables(z, 2)
        total = sum(drift[:, a, None] * _along(tables, (a,)) for a in range(z.shape[1]))
        for a, b, k in entries(mobility):
            total = total + k * _along(tables, (a, b))
        return self._products(indices), total

    def factors(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values (n, c, q + 1) of the factors; see SparseDictionary."""
        indices, tables = self._tables(z, 0)
        return np.where(indices < 0, -1, indices * self._strides[:, None]), tables[0]

    def coarse_rows(self, functions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the map to splines on a grid of half as many cells along each coordinate, within the span."""
        total, weights = np.zeros((len(functions), 1), dtype=np.int64), np.ones((len(functions), 1))
        places = np.unravel_index(functions, self.counts)
        coarse = strides(self.count(self.grid.cells // 2, self.grid.periodic, self.degree))
        for place, stride, (indices, shares) in zip(places, coarse, self._two_scales, strict=True):
            index, share = indices[place], shares[place]
            missing = (total < 0)[:, :, None] | (index < 0)[:, None, :]
            total = np.where(missing, -1, total[:, :, None] + stride * index[:, None, :]).reshape(len(functions), -1)
            weights = (weights[:, :, None] * share[:, None, :]).reshape(len(functions), -1)
        return total, weights

    def coarser(self) -> SplineDictionary | None:
        """Splines on half as many cells; None where those cannot be halved."""
        halved = self.grid.halved(max(2, self.degree))
        return SplineDictionary(**halved, degree=self.degree) if halved else None

    def sites(self, functions: np.ndarray) -> np.ndarray:
        """(m, c) middles of the supports."""
        places = np.stack(np.unravel_index(functions, self.counts), axis=1)
        return self.grid.low + (places + (0.0 if self.degree % 2 else 0.5)) * self.grid.spacing

    @cached_property
    def _two_scales(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Padded rows of the two-scale relation of each coordinate."""
        return [
            padded(_two_scale(int(cells), bool(periodic), self.degree))
            for cells, periodic in zip(self.grid.cells, self.grid.periodic, strict=True)
        ]

    def parameters(self) -> dict[str, np.ndarray]:
        """What `SplineDictionary` is made from."""
        return {**self.grid.parameters(), "degree": np.array(self.degree)}

    def _tables(self, z: np.ndarray, derivatives: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Indices (n, c, q + 1) of the splines of each coordinate, and per order of derivative their values."""
        xp = array_module(z)
        cell, place, inside = self.grid.locate(z)
        tables = [
            _uniform(place, self.degree, order) / (self.grid.spacing**order)[:, None]
            for order in range(derivatives + 1)
        ]
        for table in tables[1:]:
            table *= inside[:, :, None]
        indices = cell[:, :, None] + xp.arange(self.degree + 1) - self.degree // 2
        indices = xp.where(
            self.grid.periodic[:, None],
            indices % self.grid.cells[:, None],
            _folded(indices, self.grid.cells[:, None], self.degree, xp),
        )
        return _merged(indices, tables), tables

    def _products(self, indices: np.ndarray) -> np.ndarray:
        """(n, k) indices of products, of indices (n, c, q + 1) of factors; -1 where a factor has it."""
        xp = array_module(indices)
        total = xp.zeros((len(indices), 1), dtype=np.int64)
        for axis, stride in enumerate(self._strides.tolist()):
            factor = indices[:, axis]
            missing = (total < 0)[:, :, None] | (factor < 0)[:, None, :]
            total = xp.where(missing, -1, total[:, :, None] + stride * factor[:, None, :]).reshape(len(indices), -1)
        return total


def _uniform(place: np.ndarray, degree: int, order: int) -> np.ndarray:
    """(n, c, degree + 1) derivatives, in units of the spacing, of the splines alive at places (n, c) of a cell.

    N_{j,q} = ((t + q - j) N_{j-1,q-1} + (j + 1 - t) N_{j,q-1}) / q, and N_{j,q}' = N_{j-1,q-1} - N_{j,q-1}.
    """
    xp, t = array_module(place), place[..., None]
    table = xp.ones((*place.shape, 1))
    for q in range(1, degree - order + 1):
        j = xp.arange(q + 1)
        left, right = _shifted(table, xp)
        table = ((t + (q - j)) * left + (j + 1 - t) * right) / q
    for _ in range(order):
        left, right = _shifted(table, xp)
        table = left - right
    return table


def _shifted(table: np.ndarray, xp) -> tuple[np.ndarray, np.ndarray]:
    """N_{j-1} and N_j of one degree less, for one more j, with zeros at the ends."""
    zero = xp.zeros((*table.shape[:-1], 1))
    return xp.concatenate([zero, table], axis=-1), xp.concatenate([table, zero], axis=-1)


def _folded(indices, cells, degree: int, xp):
    """Indices with those beyond the ends of a range mirrored back into it; splines of odd degree sit on the nodes."""
    skip = 1 - degree % 2
    indices = xp.where(indices < 0, -indices - skip, indices)
    return xp.where(indices > cells - skip, 2 * cells - skip - indices, indices)


def _merged(indices: np.ndarray, tables: list[np.ndarray]) -> np.ndarray:
    """Indices with repetitions set to -1, whose values are added to the last of the repetitions in place."""
    for late in range(1, indices.shape[2]):
        for early in range(late):
            same = indices[:, :, early] == indices[:, :, late]
            if not same.any():
                continue
            for table in tables:
                table[:, :, late] += table[:, :, early] * same
                table[:, :, early] *= ~same
            indices[:, :, early] = array_module(indices).where(same, -1, indices[:, :, early])
    return indices


def _along(tables: list[np.ndarray], along: tuple[int, ...]) -> np.ndarray:
    """(n, k) products of factors differentiated once along each coordinate named."""
    return _outer([tables[along.count(axis)][:, axis] for axis in range(tables[0].shape[1])])


def _outer(factors: list[np.ndarray]) -> np.ndarray:
    """(n, k) products of one entry of each factor (n, q + 1), the last running fastest."""
    return reduce(lambda left, right: (left[:, :, None] * right[:, None, :]).reshape(len(left), -1), factors)


def _two_scale(cells: int, periodic: bool, degree: int) -> np.ndarray:
    """Splines on every other knot in terms of those on all: N(u / 2) = 2^-q sum_l C(q + 1, l) N(u - l), folded."""
    coarse = cells // 2
    fine_count, coarse_count = (cells, coarse) if periodic else (cells + degree % 2, coarse + degree % 2)
    found = np.zeros((fine_count, coarse_count))
    shift = degree // 2
    for fine in range(fine_count):
        for i in range((fine + shift - 1) // 2, (fine + shift + degree) // 2 + 1):
            l = fine + shift + degree - 2 * i
            if 0 <= l <= degree + 1:
                place = np.array(i - shift)
                j = int(place % coarse if periodic else _folded(place, coarse, degree, np))
                found[fine, j] += comb(degree + 1, l) / 2.0**degree
    return found
