"""Gaussian dictionary, normalised: psi_i(z) = g_i(z) / sum_j g_j(z), g_i(z) = exp(-|z - z_i|^2 / (2 h^2)).

The functions add up to one. Where there are no data they continue the value at the edge instead of falling to zero,
so that an eigenfunction has no false gradient out of the data and transport no false attraction to empty space.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from kswgd_hpc.backend import array_module
from kswgd_hpc.dictionary.centres import coarsening
from kswgd_hpc.dictionary.contractions import form, quadratic, times

_CACHED = 2**16  # numbers that stay in a core's cache
_FAR = 1e-200
_FAR_SINGLE = 1e-30


class GaussianDictionary:
    """Normalised Gaussians of one width around given centres.

    Parameters
    ----------
    centres : (p, c) array, in an order whose first half covers the same region more coarsely
    bandwidth : h
    """

    kind = "gaussian"
    bound = 1.0
    smoothness = 2
    sparse = False
    partition = True

    def __init__(self, centres: np.ndarray, bandwidth: float):
        self.centres = centres
        self.bandwidth = bandwidth
        self.size = len(centres)
        # one product with (z, 1, -|z|^2 / 2) gives all exponents -|z - z_i|^2 / (2 h^2)
        rest = (centres**2).sum(axis=1)[None] / (-2 * bandwidth**2)
        self._exponents = np.concatenate([centres.T / bandwidth**2, rest, np.full_like(rest, 1 / bandwidth**2)])

    def with_centres(self, centres: np.ndarray, bandwidth: float) -> GaussianDictionary:
        """The same around other centres (p, c), of another width."""
        return GaussianDictionary(centres, bandwidth)

    def _points(self, z: np.ndarray) -> np.ndarray:
        """(n, c + 2) factor of the exponents at the points z."""
        xp = array_module(z)
        return xp.concatenate([z, xp.ones((len(z), 1)), (z**2).sum(axis=1)[:, None] / -2], axis=1)

    def values(self, z: np.ndarray) -> np.ndarray:
        """(n, p) values at the (n, c) points z; each row sums to one."""
        xp = array_module(z)
        points, centres = self._points(z), self._exponents
        values, ones = points @ centres, xp.ones(self.size)
        # on the host the rest is done in parts that stay in the cache, each number one and the same work in any part
        size = max(1, _CACHED // self.size) if xp is np else max(1, len(z))
        for start in range(0, len(z), size):
            part = values[start : start + size]
            xp.exp(part, out=part)
            total = part @ ones
            far = ~(total >= _FAR)
            if far.any():  # where all have vanished, the largest is taken off the part that differs between them
                exponents = points[start : start + size][far, :-1] @ centres[:-1]
                part[far] = xp.exp(exponents - exponents.max(axis=1, keepdims=True))
                total[far] = part[far] @ ones
            part *= (1 / total)[:, None]
        return values

    def combinations(self, z: np.ndarray, coefficients: np.ndarray, error: float) -> np.ndarray:
        """(n, k) values of psi @ coefficients, (p, k): in single precision where that rounds by no more than `error`.

        The terms of an exponent add up to (|z|^2 + |z_i|^2) / h^2 in size, and are rounded on the way in and while they
        are added up. Twice the precision of numbers times that is the relative error of a function, at most.
        """
        reach = ((z**2).sum(axis=1).max(initial=0.0) + (self.centres**2).sum(axis=1).max()) / self.bandwidth**2
        rounding = 2 * float(np.finfo(np.float32).eps) * (1 + reach) * np.abs(coefficients).max(initial=0.0)
        kind, least = (np.float32, _FAR_SINGLE) if rounding <= error else (float, _FAR)
        points, centres = self._points(z).astype(kind), self._exponents.astype(kind)
        right = np.concatenate([coefficients, np.ones((self.size, 1))], axis=1).astype(kind)
        found, size = np.empty((len(z), right.shape[1])), max(1, _CACHED // self.size)
        for start in range(0, len(z), size):
            part = points[start : start + size] @ centres
            found[start : start + size] = np.exp(part, out=part) @ right
        total = found[:, -1:]
        near = total[:, 0] >= least
        values = found[:, :-1] / np.where(total >= least, total, 1.0)
        if not near.all():
            values[~near] = self.values(z[~near]) @ coefficients
        return values

    def gradient(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, c) gradient of psi @ weights: two matrix products, no gradient tensor.

        grad psi_i = psi_i (z_i - zbar) / h^2 with zbar = sum_j psi_j z_j.
        """
        psi = self.values(z) if values is None else values
        weighted = psi * weights
        return (weighted @ self.centres - weighted.sum(axis=1)[:, None] * (psi @ self.centres)) / self.bandwidth**2

    def slope_matrix(self, weights: np.ndarray, column: np.ndarray) -> np.ndarray:
        """(p, 2 c + 2) matrix by which `slopes` gives gradients of psi @ weights and values of psi @ column."""
        xp = array_module(self.centres)
        parts = [weights[:, None] * self.centres, self.centres, weights[:, None], column[:, None]]
        return xp.ascontiguousarray(xp.concatenate(parts, axis=1))

    def slopes(self, values: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, c) gradients and (n,) values of the combinations in a `slope_matrix`, of values (n, p): one product."""
        found, c = values @ matrix, self.centres.shape[1]
        pulled, local = found[:, :c], found[:, c : 2 * c]
        return (pulled - found[:, 2 * c, None] * local) / self.bandwidth**2, found[:, 2 * c + 1]

    def gradients(self, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """(n, k, c) gradients of the combinations psi @ weights, weights (p, k): see `gradient`."""
        psi = self.values(z) if values is None else values
        pulled = psi @ (weights[:, :, None] * self.centres[:, None, :]).reshape(self.size, -1)
        pulled = pulled.reshape(len(z), weights.shape[1], -1)
        return (pulled - (psi @ weights)[:, :, None] * (psi @ self.centres)[:, None, :]) / self.bandwidth**2

    def dirichlet_form(
        self,
        z: np.ndarray,
        mobility: np.ndarray,
        values: np.ndarray | None = None,
        columns: slice = slice(None),
    ) -> np.ndarray:
        """Sum over points of grad psi_i . K grad psi_j, (p, p), from matrix products: see `gradient`."""
        psi = self.values(z) if values is None else values
        origin = self.centres.mean(axis=0)
        centres = self.centres - origin
        local = psi @ centres
        if mobility.ndim == 3:
            slopes = [psi * (centre - mean[:, None]) for centre, mean in zip(centres.T, local.T)]
            return form(slopes, mobility, columns) / self.bandwidth**4
        projected = local @ mobility
        # (z_i - zbar) . K (z_j - zbar): half the part of zbar alone goes with each of the mixed parts
        pulled = psi * ((projected * local).sum(axis=1)[:, None] / 2 - projected @ centres.T)
        some = psi[:, columns]
        total = psi.T @ pulled[:, columns]
        total = total + (total.T if columns == slice(None) else pulled.T @ some)
        total += (centres @ mobility @ centres[columns].T) * (psi.T @ some)
        return total / self.bandwidth**4

    def generator(
        self, z: np.ndarray, drift: np.ndarray, mobility: np.ndarray, values: np.ndarray | None = None
    ) -> np.ndarray:
        """(n, p) values of G psi = drift . grad psi + mobility : hess psi.

        With t_i = (drift - 2 K zbar / h^2) . z_i / h^2 + z_i K z_i / h^4 it is psi_i (t_i - sum_j psi_j t_j).

        Parameters
        ----------
        z, drift : (n, c) points, and drift of the coordinates there
        mobility : (c, c) K, or (n, c, c) where it depends on the state
        values : (n, p) of the functions at z where they are known already
        """
        psi = self.values(z) if values is None else values
        local = drift - (2 / self.bandwidth**2) * times(psi @ self.centres, mobility)
        t = local @ (self.centres.T / self.bandwidth**2)
        t += quadratic(mobility, self.centres) / self.bandwidth**4
        t -= (psi * t).sum(axis=1)[:, None]
        t *= psi
        return t

    def coarsening(self) -> csr_array:
        """(p, p // 2) map to half as many functions: each joined to the nearest of the first half."""
        return coarsening(self.centres)

    def parameters(self) -> dict[str, np.ndarray]:
        """What `GaussianDictionary` is made from."""
        return {"centres": self.centres, "bandwidth": np.array(self.bandwidth)}
