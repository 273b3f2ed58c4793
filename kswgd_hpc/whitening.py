"""Triangular factors of Gram matrices by pivoted Cholesky, which leaves out functions that add nothing new.

B = P^T R^T R P for the q functions that the pivoting chose: every other one has, beyond their span, a variance below
the cut. It costs a tenth of an eigendecomposition and spans what the leading eigenvectors span. One process works
with LAPACK; beyond `galerkin.REPLICATED` functions the factor is shared out over ranks by rows, as its matrix is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from mpi4py import MPI
from scipy.linalg.blas import dtrmm, dtrmv, dtrsm, dtrsv
from scipy.linalg.lapack import dpstrf

from kswgd_hpc.errors import SpectrumError

_BLOCK = 128
_SHARE = 0.1  # of the largest variance that is left, for a function to be taken together with the one that has it


class Factor(Protocol):
    """R of the functions `pivots` (q,), in that order: their Gram matrix is R^T R."""

    pivots: np.ndarray

    def solve(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """R^-1 or R^-T times right, (q,) or (q, k)."""

    def multiply(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """R or R^T times right, (q,) or (q, k)."""


class LocalFactor:
    """Factor of a matrix that this process holds.

    Parameters
    ----------
    gram : (p, p), symmetric
    cut : variance below which what a function adds to the span of others is nothing
    """

    def __init__(self, gram: np.ndarray, cut: float):
        factor, pivots, rank, _info = dpstrf(gram, tol=cut, lower=0)
        _check(rank)
        self.pivots = pivots[:rank].astype(int) - 1
        self._factor = np.asfortranarray(factor[:rank, :rank])

    def solve(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """R^-1 or R^-T times right, (q,) or (q, k)."""
        if right.ndim == 1:
            return dtrsv(self._factor, right, trans=int(transposed))
        return dtrsm(1.0, self._factor, right, trans_a=int(transposed))

    def multiply(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """R or R^T times right, (q,) or (q, k)."""
        if right.ndim == 1:
            return dtrmv(self._factor, right, trans=int(transposed))
        return dtrmm(1.0, self._factor, right, trans_a=int(transposed))


class SharedFactor:
    """Factor of a matrix that the ranks of a communicator hold by rows; L = R^T is held by the same rows.

    Left-looking, in blocks: the functions with the largest variance left are brought up to date together, and those
    among them that still have a share of it once the others are taken become pivots. All calls are collective.

    Parameters
    ----------
    comm : communicator of the ranks that hold rows
    first, last : rows of this rank
    size : p
    columns : function of indices (k,) -> (last - first, k), this rank's rows of those columns
    diagonal : (last - first,) of this rank's rows
    cut : variance below which what a function adds to the span of others is nothing
    """

    def __init__(
        self,
        comm: MPI.Comm,
        first: int,
        last: int,
        size: int,
        columns: Callable[[np.ndarray], np.ndarray],
        diagonal: np.ndarray,
        cut: float,
    ):
        self._comm, self._first, self._last = comm, first, last
        left = gather_rows(comm, diagonal)
        lower = np.zeros((last - first, min(size, _BLOCK)))
        pivots, ends = [], [0]
        self._diagonal_blocks: list[np.ndarray] = []
        while left.max() > cut:
            chosen = np.argsort(-left, kind="stable")[: min(_BLOCK, size - ends[-1])]
            chosen = chosen[left[chosen] > max(cut, _SHARE * left[chosen[0]])]
            done, taken = ends[-1], lower[:, : ends[-1]]
            part = columns(chosen) - taken @ self._rows_of(taken, chosen).T
            triangle, order, rank, _info = dpstrf(
                self._rows_of(part, chosen), tol=max(cut, _SHARE * left[chosen[0]]), lower=0
            )
            rank = max(rank, 1)  # rounding may hide the first
            triangle = np.asfortranarray(np.triu(triangle[:rank, :rank]))
            order = order[:rank].astype(int) - 1
            # columns of L: what is left of those functions' columns times the inverse of their own triangle
            new = dtrsm(1.0, triangle, np.asfortranarray(part[:, order].T), trans_a=1).T
            new[np.isinf(left[first:last])] = 0.0  # rows of earlier pivots are complete
            if done + rank > lower.shape[1]:
                lower = np.concatenate([lower, np.zeros((last - first, min(lower.shape[1], size - lower.shape[1])))], 1)
            lower[:, done : done + rank] = new
            chosen = chosen[order]
            mine = (chosen >= first) & (chosen < last)
            left -= gather_rows(comm, (new**2).sum(axis=1))
            lower[chosen[mine] - first, done : done + rank] = triangle.T[mine]
            left[chosen] = -np.inf
            pivots.append(chosen)
            ends.append(done + rank)
            self._diagonal_blocks.append(triangle)
        _check(ends[-1])
        self.pivots = np.concatenate(pivots)
        self._ends = ends
        mine = np.flatnonzero((self.pivots >= first) & (self.pivots < last))
        self._mine, self._lower = mine, lower[self.pivots[mine] - first, : ends[-1]]

    def _rows_of(self, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """(len(wanted), k) rows of a matrix (p, k) that is held by rows, on every rank."""
        mine = (wanted >= self._first) & (wanted < self._last)
        found = np.zeros((len(wanted), rows.shape[1]))
        found[mine] = rows[wanted[mine] - self._first]
        self._comm.Allreduce(MPI.IN_PLACE, found, op=MPI.SUM)
        return found

    def _blocks(self) -> list[tuple[int, int, slice, np.ndarray]]:
        """Of each block of pivots: first and last, those of this rank among its rows, and their places in it."""
        edges = np.searchsorted(self._mine, self._ends)
        return [
            (a, b, slice(i, j), self._mine[i:j] - a)
            for a, b, i, j in zip(self._ends[:-1], self._ends[1:], edges[:-1], edges[1:], strict=True)
        ]

    def solve(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """R^-1 or R^-T times right, (q,) or (q, k), the same on every rank."""
        columns = right.reshape(len(right), -1)
        found = (self._forward if transposed else self._backward)(columns)
        return found.reshape(right.shape)

    def _forward(self, right: np.ndarray) -> np.ndarray:
        found = np.empty_like(right)
        for (a, b, rows, places), triangle in zip(self._blocks(), self._diagonal_blocks, strict=True):
            known = np.zeros((b - a, right.shape[1]))
            known[places] = self._lower[rows, :a] @ found[:a]
            self._comm.Allreduce(MPI.IN_PLACE, known, op=MPI.SUM)
            found[a:b] = dtrsm(1.0, triangle, right[a:b] - known, trans_a=1)
        return found

    def _backward(self, right: np.ndarray) -> np.ndarray:
        found, known = np.empty_like(right), np.zeros_like(right)
        for (a, b, rows, places), triangle in zip(self._blocks()[::-1], self._diagonal_blocks[::-1], strict=True):
            total = known[a:b].copy()
            self._comm.Allreduce(MPI.IN_PLACE, total, op=MPI.SUM)
            found[a:b] = dtrsm(1.0, triangle, right[a:b] - total)
            known[:a] += self._lower[rows, :a].T @ found[a:b][places]
        return found

    def multiply(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """R or R^T times right, (q,) or (q, k), the same on every rank."""
        found = np.zeros_like(right)
        if transposed:
            found[self._mine] = self._lower @ right
        else:
            found[...] = self._lower.T @ right[self._mine]
        self._comm.Allreduce(MPI.IN_PLACE, found, op=MPI.SUM)
        return found


def gather_rows(comm: MPI.Comm, rows: np.ndarray) -> np.ndarray:
    """Rows of all ranks in rank order, (m, ...), on every rank. Collective."""
    return rows if comm.size == 1 else np.concatenate(comm.allgather(np.ascontiguousarray(rows)))


def _check(rank: int) -> None:
    if rank == 0:
        raise SpectrumError("all features are constant on the ensemble: nothing to solve")
