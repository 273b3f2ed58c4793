"""Proper orthogonal decomposition: the directions in which the ensemble varies most (Karhunen-Loeve modes).

Found in parallel: ranks keep the pilot states of their own blocks, and exchange sums only, as integers, so that the
same bits come out on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from mpi4py import MPI

from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.parallel import quantum_exponent, to_fixed
from spde.random import normals

_EXACT = 768  # up to this dimension the covariance matrix itself is summed
_OVERSAMPLING = 10
_POWERS = 3
_NUMBERS = 2**27  # states kept on all ranks together


class Snapshots:
    """Takes the place of a coordinate map in `pilot`, and keeps the states themselves.

    Parameters
    ----------
    dimension : d
    rows : number of states that the pilot shows
    """

    def __init__(self, dimension: int, rows: int):
        self.parts: list[np.ndarray] = []
        self._thin = max(1, -(-rows * dimension // _NUMBERS))

    def __len__(self) -> int:
        return 0

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """(n, 0) array; keeps the states (d, n), or some of them where all would take too much memory."""
        self.parts.append(np.array(states[:, :: self._thin]))
        return np.empty((states.shape[1], 0))


def principal_directions(comm: MPI.Comm, parts: list[np.ndarray], dimension: int, count: int, seed: int, stream: int):
    """(count, d) orthonormal directions of largest variance, the largest first. Collective.

    Up to some hundred components by the covariance matrix, beyond by a randomised range finder with power iterations,
    which touches the states only in products with few columns.
    Source: Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.3.

    Parameters
    ----------
    parts : this rank's states, arrays (d, n) cut independently of the rank count
    count : at most d
    seed, stream : of the random numbers

    Raises
    ------
    ConfigurationError : the states vary in fewer directions
    """
    total = _Totals(comm, parts, dimension)
    centred = [part - total.mean[:, None] for part in parts]
    if dimension <= max(_EXACT, count + _OVERSAMPLING):
        covariance = total.sum((part @ part.T for part in centred), (dimension, dimension), total.square)
        values, vectors = comm.bcast(np.linalg.eigh(covariance) if comm.rank == 0 else None)
        directions, values = vectors[:, ::-1][:, :count], values[::-1]
    else:
        directions, values = _sketched(comm, total, centred, count, seed, stream)
    found = int((values > 1e-12 * values[0]).sum()) if values[0] > 0 else 0
    if count > found:
        raise ConfigurationError(
            f"koopman.coordinates.count: {count} principal directions asked for, the ensemble varies in {found}"
        )
    # a direction and its opposite are the same: the largest component is made positive
    largest = directions[np.argmax(np.abs(directions), axis=0), np.arange(count)]
    return np.ascontiguousarray((directions * np.sign(largest)).T)


def _sketched(comm: MPI.Comm, total: _Totals, centred: list[np.ndarray], count: int, seed: int, stream: int):
    d, width = len(total.mean), count + _OVERSAMPLING
    draws = []
    start = comm.exscan(sum(part.shape[1] for part in centred)) or 0
    for part in centred:
        draws.append(normals(np.empty((width, part.shape[1])), seed, stream, start, 0))
        start += part.shape[1]
    bound = 7.0 * np.sqrt(total.count * total.square)  # no normal of spde.random exceeds 6.7
    sketch = total.sum((part @ draw.T for part, draw in zip(centred, draws)), (d, width), bound)
    for _ in range(_POWERS):
        basis = _orthonormal(comm, sketch)
        sketch = total.sum((part @ (part.T @ basis) for part in centred), (d, width), total.square)
    basis = _orthonormal(comm, sketch)
    small = total.sum((_gram(basis.T @ part) for part in centred), (width, width), total.square)
    values, vectors = comm.bcast(np.linalg.eigh(small) if comm.rank == 0 else None)
    return basis @ vectors[:, ::-1][:, :count], values[::-1]


def _gram(rows: np.ndarray) -> np.ndarray:
    return rows @ rows.T


def _orthonormal(comm: MPI.Comm, columns: np.ndarray) -> np.ndarray:
    return comm.bcast(np.linalg.qr(columns)[0] if comm.rank == 0 else None)


class _Totals:
    """Sums over the states of all ranks that do not depend on their order, one part at a time in memory.

    mean : (d,); square : sum of all squared distances from the mean, which bounds the sums that follow
    """

    def __init__(self, comm: MPI.Comm, parts: list[np.ndarray], dimension: int):
        self._comm = comm
        self._terms = comm.allreduce(len(parts))
        self.count = comm.allreduce(sum(part.shape[1] for part in parts))
        largest = comm.allreduce(max((float(np.abs(part).max(initial=0.0)) for part in parts), default=0.0), op=MPI.MAX)
        widest = comm.allreduce(max((part.shape[1] for part in parts), default=0), op=MPI.MAX)
        self.mean = self.sum((part.sum(axis=1) for part in parts), (dimension,), largest * widest) / self.count
        squares = (np.array([((part - self.mean[:, None]) ** 2).sum()]) for part in parts)
        self.square = float(self.sum(squares, (1,), 4 * largest**2 * dimension * widest)[0]) * (1 + 1e-9)

    def sum(self, parts: Iterable[np.ndarray], shape: tuple[int, ...], bound: float) -> np.ndarray:
        """Sum over all ranks of parts, of which no entry exceeds the bound. Collective."""
        exponent = quantum_exponent(bound, self._terms)
        total = np.zeros(shape, dtype=np.int64)
        for part in parts:
            total += to_fixed(part, exponent)
        self._comm.Allreduce(MPI.IN_PLACE, total, op=MPI.SUM)
        return np.ldexp(total.astype(float), -exponent)
