"""Wendland's compactly supported radial functions, normalised: sparse, on scattered centres.

psi_i(z) = f(r_i) / sum_j f(r_j), r_i = |z - z_i| / h, f a polynomial on r < 1 and zero beyond. Where one function
alone is left it is one: the edge of the data goes on by its value, with no gradient. Beyond all supports the nearest
is one.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from kswgd_hpc.backend import array_module
from kswgd_hpc.dictionary.centres import join_to_first_half
from kswgd_hpc.dictionary.contractions import times, trace
from kswgd_hpc.dictionary.sparse import SparseDictionary, joined

_TINY = 1e-150
_FEW = 512  # centres, of which all distances are computed sooner than a tree is asked


class WendlandDictionary(SparseDictionary):
    """Functions of two or four continuous derivatives and of radius h around given centres.

    With l = floor(c / 2) + 2 and 3, of lowest degree for c coordinates,

        f = (1 - r)^(l + 1) ((l + 1) r + 1),    f = (1 - r)^(l + 2) ((l^2 + 4 l + 3) r^2 + (3 l + 6) r + 3) / 3.

    Parameters
    ----------
    centres : (p, c) array, in an order whose first half covers the same region more coarsely
    bandwidth : h
    order : number of continuous derivatives, 2 or 4

    Source: Wendland 1995.
    """

    kind = "wendland"
    smoothness = 2
    width = None

    def __init__(self, centres: np.ndarray, bandwidth: float, order: int = 2):
        self.centres = centres
        self.bandwidth = bandwidth
        self.order = order
        self.size = len(centres)
        self._tree = cKDTree(centres)
        self._power = centres.shape[1] // 2 + 1 + order // 2

    def sparse_values(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values, (n, k) each; k is the largest number of functions at any of the points."""
        indices, r = self._neighbours(z)
        raw = self._profile(r)
        return indices, self._normalised(raw, _total(raw))

    def sparse_gradients(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices (n, k) and gradients (n, k, c)."""
        indices, r = self._neighbours(z)
        raw = self._profile(r)
        total = _total(raw)
        slopes, _ = self._raw_gradients(z, indices, r)
        psi = self._normalised(raw, total)
        return indices, _quotient(slopes - psi[:, :, None] * _total(slopes), total[:, :, None])

    def sparse_generator(self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values of G psi, (n, k) each: G f = psi G F + F G psi + 2 grad psi . K grad F, F = sum f."""
        indices, r = self._neighbours(z)
        raw = self._profile(r)
        total = _total(raw)
        psi = self._normalised(raw, total)
        slopes, offsets = self._raw_gradients(z, indices, r)
        whole = _total(slopes)
        gradients = _quotient(slopes - psi[:, :, None] * whole, total[:, :, None])
        first, second = self._factors(r)
        moved = mobility if mobility.ndim == 2 else mobility[:, None]
        squares = ((offsets[:, :, None, :] @ moved)[:, :, 0, :] * offsets).sum(axis=2)
        action = (slopes * drift[:, None, :]).sum(axis=2)
        action += (first * trace(mobility) + second * squares / self.bandwidth**2) / self.bandwidth**2
        cross = 2 * (gradients * times(whole[:, 0], mobility)[:, None, :]).sum(axis=2)
        return indices, _quotient(action - psi * _total(action) - cross, total)

    def coarse_rows(self, functions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the map that joins each function to the nearest of the first half."""
        return joined(self._labels, functions)

    def coarser(self) -> WendlandDictionary | None:
        """Of the first half of the centres."""
        if self.size < 4:
            return None
        return WendlandDictionary(self.centres[: self.size // 2], self.bandwidth, self.order)

    def sites(self, functions: np.ndarray) -> np.ndarray:
        """(m, c) centres."""
        return self.centres[functions]

    @cached_property
    def _labels(self) -> np.ndarray:
        return join_to_first_half(self.centres)

    def parameters(self) -> dict[str, np.ndarray]:
        """What `WendlandDictionary` is made from."""
        return {"centres": self.centres, "bandwidth": np.array(self.bandwidth), "order": np.array(self.order)}

    def _neighbours(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices (n, k) of the centres within h, by distance, and distances over h, 1 for padding.

        Of a point beyond all supports the nearest centre is given at distance one.
        """
        if array_module(z) is not np or self.size <= _FEW:
            return self._neighbours_of_all(z)
        most = max(1, int(self._tree.query_ball_point(z, self.bandwidth, return_length=True).max(initial=1)))
        distance, indices = self._tree.query(z, k=np.arange(1, most + 1), distance_upper_bound=self.bandwidth)
        alone = np.flatnonzero(indices[:, 0] == self.size)
        indices[indices == self.size] = -1
        indices[alone, 0] = self._tree.query(z[alone])[1]
        return indices.astype(np.int64), np.minimum(distance / self.bandwidth, 1.0)

    def _neighbours_of_all(self, z):
        """The same by distances to all centres: for few of them, and for devices without a tree."""
        xp = array_module(z)
        squares = sum((z[:, axis, None] - self.centres[:, axis]) ** 2 for axis in range(z.shape[1]))
        distance = xp.sqrt(squares) / self.bandwidth
        most = max(1, int((distance < 1).sum(axis=1).max()))
        indices = xp.argsort(distance, axis=1)[:, :most]
        near = xp.take_along_axis(distance, indices, axis=1)
        indices = xp.where((near < 1) | (xp.arange(most) == 0), indices, -1)
        return indices, xp.minimum(near, 1.0)

    def _profile(self, r: np.ndarray) -> np.ndarray:
        l = self._power
        if self.order == 2:
            return (1 - r) ** (l + 1) * ((l + 1) * r + 1)
        return (1 - r) ** (l + 2) * ((l * l + 4 * l + 3) * r**2 + (3 * l + 6) * r + 3) / 3

    def _factors(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f'/r = a and a'/r = b: grad f = a y / h^2 and hess f = a I / h^2 + b y y^T / h^4, with y = z - z_i."""
        l = self._power
        if self.order == 2:
            scale = (l + 1) * (l + 2)
            # grows as 1/r at the centre, where it multiplies r^2
            return -scale * (1 - r) ** l, scale * l * (1 - r) ** (l - 1) / r.clip(_TINY, None)
        scale = (l + 3) * (l + 4) / 3
        first = -scale * (1 - r) ** (l + 1) * (1 + (l + 1) * r)
        return first, scale * (l + 1) * (l + 2) * (1 - r) ** l

    def _raw_gradients(self, z: np.ndarray, indices: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, k, c) gradients of f, and z - z_i."""
        offsets = z[:, None, :] - self.centres[indices]
        first, _ = self._factors(r)
        return (first / self.bandwidth**2)[:, :, None] * offsets, offsets

    @staticmethod
    def _normalised(raw: np.ndarray, total: np.ndarray) -> np.ndarray:
        """f / sum f, and one for the nearest where the sum is zero."""
        values = _quotient(raw, total)
        values[:, 0] += total[:, 0] == 0
        return values


def _total(rows: np.ndarray) -> np.ndarray:
    """Sum over the neighbours, axis 1, kept. One after the other: padding for the sake of others changes no bit."""
    return sum(rows[:, i : i + 1] for i in range(rows.shape[1]))


def _quotient(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Zero where the denominator is."""
    return numerator / array_module(numerator).where(denominator == 0, 1.0, denominator)
