"""From batches of records to the Galerkin matrices: method.md section 2.

Each group (a block of trajectories, or a stretch of time of a block when there are few) keeps its own sums, which
is what error bars are made of; the total over groups is a sum that does not depend on the rank count, scattered
straight into the row ownership of distributed PETSc matrices.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc
from scipy.linalg.blas import dgemm, dsyrk

from kswgd_hpc.coordinates import Coordinates
from kswgd_hpc.dictionary import Dictionary
from kswgd_hpc.ensemble import Pairing, Window
from kswgd_hpc.parallel import fixed_sum, sum_blocks

# matrices of the Galerkin problem by estimator: left and right hand sides are combined from these sums
MATRICES = {"reversible": ("plus", "minus"), "edmd": ("c0", "c1"), "dirichlet": ("c0", "form")}


@dataclass
class Moments:
    """Sums over the pairs of one group; p functions.

    `matrices` are (p, p), Fortran-ordered so that BLAS updates them in place; symmetric ones hold the upper triangle
    until `finish`. `vectors` are (p,) or longer. Everything is a plain sum over pairs: divide by `count`.
    """

    count: float = 0.0
    matrices: dict[str, np.ndarray] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)

    def rank_update(self, name: str, x: np.ndarray) -> None:
        """matrices[name] += x.T @ x, upper triangle only: half the flops."""
        target = self._matrix(name, x.shape[1])
        dsyrk(1.0, x.T, beta=1.0, c=target, trans=0, lower=0, overwrite_c=1)

    def product_update(self, name: str, x: np.ndarray, y: np.ndarray) -> None:
        """matrices[name] += x.T @ y."""
        target = self._matrix(name, x.shape[1])
        dgemm(1.0, x.T, y.T, beta=1.0, c=target, trans_a=0, trans_b=1, overwrite_c=1)

    def accumulate(self, name: str, matrix: np.ndarray) -> None:
        """matrices[name] += matrix."""
        self._matrix(name, len(matrix))[...] += matrix

    def _matrix(self, name: str, size: int) -> np.ndarray:
        if name not in self.matrices:
            self.matrices[name] = np.zeros((size, size), order="F")
        return self.matrices[name]

    def add(self, name: str, vector: np.ndarray) -> None:
        """vectors[name] += vector."""
        self.vectors[name] = self.vectors[name] + vector if name in self.vectors else np.array(vector, dtype=float)

    def finish(self) -> None:
        """Mirror the symmetric matrices, of which BLAS filled the upper triangle."""
        for name, matrix in self.matrices.items():
            if name in ("plus", "minus", "c0"):
                lower = np.tril_indices(len(matrix), -1)
                matrix[lower] = matrix.T[lower]


class Assembler:
    """Turns windows of records into moments.

    Parameters
    ----------
    coordinates, dictionary : what is evaluated
    pairing : how records pair up
    matrices : names of the sums wanted, see `MATRICES`
    mobility : of the state, needed for "form" and "flux"
    drift : function (d, batch) -> (d, batch), the system's drift, needed for "flux" = sum psi (G psi)^T
    observables : name -> function (d, batch) -> (batch,); gives the vectors "f:name"
    killing : names whose path integrals come with the windows; gives "k:name"
    rates : name -> killing rate as a function of states, for estimators without a lag; gives "k:name"
    """

    def __init__(
        self,
        coordinates: Coordinates,
        dictionary: Dictionary,
        pairing: Pairing,
        matrices: Sequence[str],
        mobility: np.ndarray | None = None,
        drift: Callable | None = None,
        observables: Mapping[str, Callable] | None = None,
        killing: Sequence[str] = (),
        rates: Mapping[str, Callable] | None = None,
    ):
        self.coordinates = coordinates
        self.dictionary = dictionary
        self.pairing = pairing
        self.names = tuple(matrices)
        self.mobility = mobility
        self.drift = drift
        self.observables = dict(observables or {})
        self.killing = tuple(killing)
        self.rates = dict(rates or {})

    def group_moments(self, windows, segments: int) -> list[Moments]:
        """Moments of the `segments` stretches of time of one block."""
        groups = [Moments() for _ in range(segments)]
        for window in windows:
            starts = self._starts(window)
            segment = starts * segments // self.pairing.starts
            for index in np.unique(segment):
                self._accumulate(groups[index], window, starts[segment == index] - window.first)
        for group in groups:
            group.finish()
        return groups

    def _starts(self, window: Window) -> np.ndarray:
        """Global record indices of the pair starts of a window."""
        last = window.first + len(window.states) - 1 - self.pairing.lag
        stride = self.pairing.stride
        return np.arange(-(-window.first // stride) * stride, last + 1, stride)

    def _accumulate(self, moments: Moments, window: Window, x: np.ndarray) -> None:
        """Add the pairs that start at records x of the window."""
        y = x + self.pairing.lag
        needed = np.union1d(x, y) if self._wants_pairs else x
        states = np.concatenate(window.states[needed], axis=1)
        psi = self.dictionary.values(self.coordinates(states)).reshape(len(needed), -1, self.dictionary.size)
        psi_x = self._rows(psi, needed, x)
        psi_y = self._rows(psi, needed, y) if self._wants_pairs else psi_x
        moments.count += len(psi_x)
        moments.add("x", psi_x.sum(axis=0))
        moments.add("y", psi_y.sum(axis=0))
        if "plus" in self.names:
            moments.rank_update("plus", psi_x + psi_y)
            moments.rank_update("minus", psi_x - psi_y)
        if "c0" in self.names:
            moments.rank_update("c0", psi_x)
        if "c1" in self.names:
            moments.product_update("c1", psi_x, psi_y)
        start = np.concatenate(window.states[x], axis=1)
        self._accumulate_generator(moments, start, psi_x)
        self._accumulate_observables(moments, start, psi_x)
        self._accumulate_killing(moments, window, x, y, psi_x, psi_y)

    @property
    def _wants_pairs(self) -> bool:
        return "plus" in self.names or "c1" in self.names

    @staticmethod
    def _rows(psi: np.ndarray, needed: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """(rows, p) features of the wanted records, a view where they are consecutive."""
        position = np.searchsorted(needed, wanted)
        if np.array_equal(position, np.arange(position[0], position[0] + len(position))):
            return psi[position[0] : position[0] + len(position)].reshape(-1, psi.shape[-1])
        return psi[position].reshape(-1, psi.shape[-1])

    def _accumulate_generator(self, moments: Moments, states: np.ndarray, psi_x: np.ndarray) -> None:
        if "form" not in self.names and "flux" not in self.names:
            return
        z, mobility = self.coordinates(states), self.coordinates.mobility(self.mobility, states)
        if "form" in self.names:
            moments.accumulate("form", self.dictionary.dirichlet_form(z, mobility, psi_x))
        if "flux" in self.names:
            drift = self.coordinates.velocity(self.drift(states), states, self.mobility)
            rates = self.dictionary.generator(z, drift, mobility, psi_x)
            moments.product_update("flux", psi_x, rates)
            moments.add("flux", rates.sum(axis=0))

    def _accumulate_observables(self, moments: Moments, states: np.ndarray, psi_x: np.ndarray) -> None:
        for name, observable in self.observables.items():
            values = observable(states)
            moments.add(f"f:{name}", np.concatenate([[values.sum()], values @ psi_x]))
        for name, rate in self.rates.items():
            self._weighted(moments, name, rate(states), psi_x, psi_x)
        moments.add("state", states.sum(axis=1))
        moments.add("square", (states**2).sum(axis=1))

    def _accumulate_killing(self, moments, window, x, y, psi_x, psi_y) -> None:
        for name in self.killing:
            integral = window.integrals[name]
            self._weighted(moments, name, np.exp(-(integral[y] - integral[x])).ravel(), psi_x, psi_y)

    @staticmethod
    def _weighted(moments: Moments, name: str, weight: np.ndarray, psi_x: np.ndarray, psi_y: np.ndarray) -> None:
        """Sums of weight (1, psi(x)) (1, psi(y))^T: total, two vectors, and a matrix."""
        moments.add(f"k:{name}", np.concatenate([[weight.sum()], weight @ psi_x, weight @ psi_y]))
        moments.product_update(f"k:{name}", psi_x * weight[:, None], psi_y)


def row_ranges(size: int, comm: MPI.Comm) -> list[tuple[int, int]]:
    """PETSc's contiguous row ownership for `size` rows."""
    counts = [size // comm.size + (1 if rank < size % comm.size else 0) for rank in range(comm.size)]
    edges = np.concatenate([[0], np.cumsum(counts)])
    return [(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def total_vector(comm: MPI.Comm, groups: list[Moments], name: str, length: int, terms: int) -> np.ndarray:
    """Sum of vectors[name] over all groups, on every rank, independent of the rank count. Collective."""
    return sum_blocks(comm, [g.vectors[name] for g in groups if name in g.vectors], (length,), terms)


def total_matrix(comm: MPI.Comm, groups: list[Moments], name: str, size: int, terms: int) -> PETSc.Mat:
    """Sum of matrices[name] over all groups as a distributed dense matrix. Collective; the caller destroys it.

    The sum is done in integers (see `parallel.sum_blocks`) and reduced straight into the rows that each rank owns.
    """
    parts = [g.matrices[name] for g in groups if name in g.matrices]
    total, exponent = fixed_sum(comm, parts, (size, size), terms)
    ranges = row_ranges(size, comm)
    first, last = ranges[comm.rank]
    rows = np.empty((last - first, size), dtype=np.int64)
    comm.Reduce_scatter(total, rows, [(b - a) * size for a, b in ranges], op=MPI.SUM)
    return dense_matrix(comm, np.ldexp(rows.astype(float), -exponent), size)


def dense_matrix(comm: MPI.Comm, rows: np.ndarray, columns: int) -> PETSc.Mat:
    """Distributed dense matrix from the rows that each rank owns. Collective; the caller destroys it."""
    matrix = PETSc.Mat().createDense(((len(rows), PETSc.DECIDE), (PETSc.DECIDE, columns)), comm=comm)
    matrix.setUp()
    matrix.getDenseArray()[...] = rows
    matrix.assemble()
    return matrix
