"""Diffusion map particle system: the transport flow with the generator of a diffusion map of the ensemble's states.

With k(x, z) = exp(-|x - z|^2 / (4 eps)), q(x) = sum_z k(x, z) and P(x, z) ~ k(x, z) / sqrt(q(z)), rows summing to one,
P is exp(-eps L) up to O(eps), L = -Laplacian - grad log pi . grad: its eigenvalues mu give rates -log(mu) / eps, on the
same clock as the transport. Eigenvectors are extended to particles by phi(x) = sum_z P(x, z) phi(z) / mu.

Source: Li and Marzouk 2023, arXiv 2304.00200; Coifman and Lafon 2006 for the normalisation.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from kswgd_hpc.baselines.ring import TILE
from kswgd_hpc.baselines.spectral import flow
from kswgd_hpc.baselines.task import Task
from kswgd_hpc.errors import SpectrumError
from kswgd_hpc.kernel_density import squared_distances
from kswgd_hpc.metrics import subsample
from kswgd_hpc.parallel import gather_blocks, local, tiles

NEEDS = ("data",)
_MOST = 1024  # data
_NEIGHBOUR = 4
_SMALLEST = 0.02  # mu below it belongs to a mode that the kernel blurs
_KRYLOV = 8  # products with the kernel, each of which widens the basis


def move(task: Task, y: np.ndarray) -> np.ndarray:
    """(n, d) coordinates of this rank's particles after the steps of the task."""
    data = subsample(task.data, _MOST)
    task.data_used = len(data)
    chart = Chart(task.ring.comm, data, min(task.modes, len(data) // 8))
    return flow(task, y, chart.rates, chart.values, chart.gradient)


class Chart:
    """Eigenpairs of the diffusion map of data (m, d), extended to all of space. Collective.

    Products with the m x m kernel are taken by tiles of rows, shared out over ranks; it is never held whole.

    Raises
    ------
    SpectrumError : no mode is resolved
    """

    def __init__(self, comm, data: np.ndarray, modes: int):
        self._data, self._comm = data, comm
        self.eps = choose_eps(data)
        self._log_share = -0.5 * np.log(self._product(np.ones((len(data), 1)))[:, 0])
        degree = np.exp(self._log_share) * self._product(np.exp(self._log_share)[:, None])[:, 0]
        root = np.sqrt(degree)
        scale = (np.exp(self._log_share) / root)[:, None]
        values, vectors = self._eigenpairs(
            lambda v: scale * self._product(scale * v), root / np.linalg.norm(root), modes
        )
        kept = values > _SMALLEST
        if not kept.any():
            raise SpectrumError("dmps: the diffusion map resolves no mode; more states of the ensemble are needed")
        mu = np.minimum(values[kept], 1 - 1e-12)
        functions = vectors[:, kept] / root[:, None]
        mass = degree / degree.sum()
        functions -= mass @ functions
        functions /= np.sqrt(mass @ functions**2)
        self.rates = -np.log(mu) / self.eps
        self._functions = functions / mu

    def _product(self, columns: np.ndarray) -> np.ndarray:
        """Kernel times columns (m, c), the same on every rank. Collective."""
        parts = [
            np.exp(squared_distances(self._data[t.start : t.stop], self._data) * (-0.25 / self.eps)) @ columns
            for t in local(tiles(len(self._data), TILE), self._comm)
        ]
        return gather_blocks(self._comm, parts, columns.shape[1])

    def _eigenpairs(self, apply, ground: np.ndarray, modes: int) -> tuple[np.ndarray, np.ndarray]:
        """Largest eigenpairs orthogonal to the ground state: Rayleigh-Ritz in a block Krylov space, restarted once."""
        rng = np.random.Generator(np.random.Philox(0))
        block = rng.standard_normal((len(self._data), modes + 8))
        for _ in range(2):
            basis = np.empty((len(self._data), 0))
            for _ in range(_KRYLOV):
                for _twice in range(2):
                    block = block - np.outer(ground, ground @ block)
                    block = block - basis @ (basis.T @ block)
                block, _ = scipy.linalg.qr(block, mode="economic")
                basis = np.hstack([basis, block])
                if basis.shape[1] + block.shape[1] > len(self._data) // 2:
                    break
                block = apply(block)
            image = apply(basis)
            small = basis.T @ image
            values, vectors = np.linalg.eigh((small + small.T) / 2)
            block = basis @ vectors[:, ::-1][:, : modes + 8]
        return values[::-1][:modes], block[:, :modes]

    def _shares(self, rows: np.ndarray) -> np.ndarray:
        """(a, m) P(x, z) of rows (a, d)."""
        exponent = squared_distances(rows, self._data) * (-0.25 / self.eps) + self._log_share
        exponent -= exponent.max(axis=1)[:, None]
        kernel = np.exp(exponent, out=exponent)
        return kernel / kernel.sum(axis=1)[:, None]

    def values(self, rows: np.ndarray) -> np.ndarray:
        """(a, r) eigenfunctions at rows (a, d)."""
        return self._shares(rows) @ self._functions

    def gradient(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(a, d) gradient of sum_k weights_k phi_k."""
        share, heights = self._shares(rows), self._functions @ weights
        # grad log k = (z - x) / (2 eps); the x cancels, as shares sum to one
        tilted = share * (heights - (share @ heights)[:, None])
        return tilted @ self._data / (2 * self.eps)


def choose_eps(data: np.ndarray) -> float:
    """Smallest eps at which no state stands alone: 4 eps is the largest squared distance to a fourth neighbour.

    A state without neighbours is a set of its own to the diffusion map, with a rate near zero that no dynamics has.
    """
    neighbours = [
        np.partition(squared_distances(data[t.start : t.stop], data), _NEIGHBOUR, axis=1)[:, _NEIGHBOUR]
        for t in tiles(len(data), TILE)
    ]
    return float(max(np.concatenate(neighbours).max() / 4, 1e-12))
