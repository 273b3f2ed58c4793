"""Triangular factors of Gram matrices by a Cholesky factorisation that leaves out functions which add nothing new.

The Gram matrix of the q functions that are kept is R^T R; every other one has, beyond their span, a variance below
the cut. It costs a fifteenth of an eigendecomposition and spans what the leading eigenvectors span. Beyond
`galerkin.REPLICATED` functions the factor is shared out over ranks by rows, as its matrix is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from mpi4py import MPI
from scipy.linalg.blas import dsymm, dsyr2k, dtrmm, dtrmv, dtrsm, dtrsv
from scipy.linalg.lapack import dpotrf, dpstrf, dsygst

from kswgd_hpc.errors import SpectrumError
from kswgd_hpc.kernels import mirror
from kswgd_hpc.parallel import tiles

_BLOCK = 256
_TAIL = 64  # functions at the end that may be left out one by one


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
    cut : variance below which what a function adds to the span of those before it is nothing
    """

    def __init__(self, gram: np.ndarray, cut: float):
        self._factor, self.pivots = _in_order(gram, cut) or _pivoted(gram, cut)
        _check(self.pivots)

    def whiten(self, matrix: np.ndarray) -> np.ndarray:
        """R^-T A R^-1 of a matrix (q, q) on the pivots."""
        half = dtrsm(1.0, self._factor, matrix, trans_a=1)
        return dtrsm(1.0, self._factor, half, side=1)

    def whiten_symmetric(self, matrix: np.ndarray) -> np.ndarray:
        """The same at half the cost for a symmetric matrix."""
        found = _whitened(matrix.T, self._factor)
        mirror(found.T)
        return found

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

    All calls are collective.

    Parameters
    ----------
    comm : communicator of the ranks that hold rows
    first, last : rows of this rank
    size : p
    columns : function of a slice -> (last - first, k), this rank's rows of those columns
    cut : variance below which what a function adds to the span of those before it is nothing
    """

    def __init__(
        self, comm: MPI.Comm, first: int, last: int, size: int, columns: Callable[[slice], np.ndarray], cut: float
    ):
        self._comm, self._first, self._last = comm, first, last
        lower, pivots, ends = np.zeros((last - first, size)), [], [0]
        self._diagonal: list[np.ndarray] = []
        for block in tiles(size, _BLOCK):
            a, b, done = block.start, block.stop, ends[-1]
            below = max(a - first, 0)  # rows of earlier functions are complete
            part = np.zeros((last - first, b - a))
            part[below:] = columns(slice(a, b))[below:]
            part[below:] -= lower[below:, :done] @ self._rows_of(lower[:, :done], np.arange(a, b)).T
            triangle, order = _pivoted(self._rows_of(part, np.arange(a, b)), cut)
            rank = len(order)
            if rank:
                new = dtrsm(1.0, triangle, part[below:, order].T, trans_a=1).T
                lower[below:, done : done + rank] = new
                # the rows of the block itself: zero beyond the diagonal, and where left out they do not matter
                chosen = a + order
                mine = (chosen >= first) & (chosen < last)
                lower[chosen[mine] - first, done : done + rank] = np.triu(triangle).T[mine]
                self._diagonal.append(triangle)
                ends.append(done + rank)
            pivots.append(a + order)
        self.pivots = np.concatenate(pivots)
        _check(self.pivots)
        self._ends = ends
        self._mine = np.flatnonzero((self.pivots >= first) & (self.pivots < last))
        self._lower = lower[self.pivots[self._mine] - first, : ends[-1]]

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
        for (a, b, rows, places), triangle in zip(self._blocks(), self._diagonal, strict=True):
            known = np.zeros((b - a, right.shape[1]))
            known[places] = self._lower[rows, :a] @ found[:a]
            self._comm.Allreduce(MPI.IN_PLACE, known, op=MPI.SUM)
            found[a:b] = dtrsm(1.0, triangle, right[a:b] - known, trans_a=1)
        return found

    def _backward(self, right: np.ndarray) -> np.ndarray:
        found, known = np.empty_like(right), np.zeros_like(right)
        for (a, b, rows, places), triangle in zip(self._blocks()[::-1], self._diagonal[::-1], strict=True):
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


def _whitened(A: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Upper triangle of R^-T A R^-1, of which LAPACK's dsygst spends too much on small blocks; Fortran-ordered."""
    n = len(R)
    if n <= 2 * _BLOCK:
        return dsygst(A, R)[0]
    h = n // 2
    R12, R22 = R[:h, h:], R[h:, h:]
    found = np.empty((n, n), order="F")
    found[:h, :h] = first = _whitened(A[:h, :h], R[:h, :h])
    half = dsymm(0.5, first, R12)
    beside = dtrsm(1.0, R[:h, :h], A[:h, h:], trans_a=1) - half
    found[h:, h:] = _whitened(dsyr2k(-1.0, beside, R12, beta=1.0, c=A[h:, h:], trans=1), R22)
    found[:h, h:] = dtrsm(1.0, R22, beside - half, side=1)
    return found


def _in_order(gram: np.ndarray, cut: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Factor and functions by plain Cholesky, for a matrix of which all functions but a few at the end are kept.

    It takes half the time of pivoting. Functions that add up to a constant leave one of them out: the last.
    """
    p = len(gram)
    factor, info = dpotrf(gram.T, clean=0)  # its transpose, which is itself, is in LAPACK's order
    good = factor.diagonal()[: info - 1 if info else p] ** 2 > cut
    k = int(np.argmin(good)) if not good.all() else len(good)
    if k < p - _TAIL:
        return None
    pivots = np.arange(p)
    if k < p:
        beside = dtrsm(1.0, factor[:k, :k], gram[:k, k:], trans_a=1)
        triangle, order = _pivoted(gram[k:, k:] - beside.T @ beside, cut)
        q = k + len(order)
        factor[:k, k:q], factor[k:q, k:q] = beside[:, order], triangle
        factor, pivots = np.asfortranarray(factor[:q, :q]), np.concatenate([pivots[:k], k + order])
    return factor, pivots


def _pivoted(gram: np.ndarray, cut: float) -> tuple[np.ndarray, np.ndarray]:
    """Upper triangle (k, k) and order (k,) of the functions that add more than the cut."""
    triangle, order, rank, _info = dpstrf(gram.T, tol=cut, lower=0)
    # LAPACK takes the first function whatever it adds
    rank = rank if gram.diagonal().max(initial=0.0) > cut else 0
    return np.asfortranarray(triangle[:rank, :rank]), order[:rank].astype(int) - 1


def _check(pivots: np.ndarray) -> None:
    if not len(pivots):
        raise SpectrumError("all features are constant on the ensemble: nothing to solve")
