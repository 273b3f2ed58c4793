"""Galerkin problems of sparse dictionaries, without any array of p x p: method.md section 2.

The functions that data visit are found first, and which of them have coefficients of their own (see
`dictionary.hierarchy`). The Gram matrix is replaced by its row sums D, the mean of each function: a diagonal inner
product which differs from the Gram matrix only for functions that are rough on the scale of the grid, and those are
damped by it. Matrices are PETSc's AIJ, put together by rank and added up by its COO interface. The lagged C1 couples
all functions that a lag time connects, many more than the few that are alive at a point: where more than one is, it is
kept as the product Psi(x)^T Psi(y) of the features.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc
from scipy.sparse import coo_array, csr_array, diags_array

from kswgd_hpc.dictionary import SparseDictionary
from kswgd_hpc.dictionary.hierarchy import prolongation
from kswgd_hpc.dictionary.visited import VisitedDictionary
from kswgd_hpc.eigensolver import whole_vector
from kswgd_hpc.errors import SpectrumError
from kswgd_hpc.galerkin import row_ranges
from kswgd_hpc.parallel import quantum_exponent, tiles
from kswgd_hpc.petsc_types import communicator, typed
from kswgd_hpc.records import Records, Sample
from kswgd_hpc.sparse_kernels import (
    add_forms,
    columns_of_groups,
    count_visits,
    gather,
    group_edges,
    pattern,
    spread,
)

# visits from which on a function is known, times the mean of sum_i psi_i^2, the share of its noise that D leaves it
_VISITS = 40
_ROWS = 2**14
_FEW = 64  # records of a block that give scales


@dataclass(frozen=True)
class Features:
    """The features of this rank's records, as factors: see `sparse_kernels`. Eight digits are enough for matrices whose
    eigenvalues are computed again in the span of the eigenvectors.

    index : (N, a, w) int32, factor : (N, a, w) float32, records that see the same functions behind one another
    order : (N,) which record each is
    stretches : of each block, its first record and its `Records`, whose (m, n) records follow one another
    """

    index: np.ndarray
    factor: np.ndarray
    order: np.ndarray
    stretches: list[tuple[int, Records]]

    def of_pairs(self, values: np.ndarray) -> Iterator[tuple[np.ndarray, Records]]:
        """Of each block, a view (m, n) of an array over the records."""
        for start, block in self.stretches:
            m, n = block.z.shape[:2]
            yield values[start : start + m * n].reshape(m, n), block


def features(sample: Sample, dictionary: SparseDictionary) -> Features:
    """Features of all records of this rank; not collective."""
    parts, stretches, start = [], [], 0
    for block in sample.blocks:
        z = block.z.reshape(-1, block.z.shape[2])
        stretches.append((start, block))
        start += len(z)
        for tile in tiles(len(z), _ROWS) if len(z) else []:
            index, factor = dictionary.factors(z[tile.start : tile.stop])
            parts.append((index.astype(np.int32), factor.astype(np.float32)))
    shape = parts[0][0].shape[1] if parts else 1, max([part[0].shape[2] for part in parts], default=1)
    whole = np.full((start, *shape), -1, dtype=np.int32), np.zeros((start, *shape), dtype=np.float32)
    while parts:  # the last first, so that they are held once
        part = parts.pop()
        start -= len(part[0])
        for array, values in zip(whole, part, strict=True):
            array[start : start + len(values), :, : values.shape[2]] = values
    order = np.argsort(whole[0][:, :, -1].sum(axis=1), kind="stable")
    return Features(whole[0][order], whole[1][order], order, stretches)


@dataclass(frozen=True)
class SparseSpace:
    """The span of the functions that the data determine.

    Parameters
    ----------
    sample : the records; count : number of pairs
    visited : the functions psi that they visit; visits : (p,) sums of them over the pairs
    P : (p, q) from free coefficients to those of psi
    mean : (q,) means of the free functions psi P, which add up to one: the inner product D
    features : of this rank's records; once : (N,) times that a record counts in the inner product
    both_ends : whether that is over both ends of the pairs
    """

    sample: Sample
    count: float
    visited: VisitedDictionary
    visits: np.ndarray
    P: csr_array
    mean: np.ndarray
    features: Features
    once: np.ndarray
    both_ends: bool

    @property
    def comm(self) -> MPI.Comm:
        """Communicator."""
        return self.sample.comm

    @property
    def size(self) -> int:
        """q, number of free coefficients."""
        return self.P.shape[1]

    def at_records(self, coefficients: np.ndarray) -> np.ndarray:
        """(N,) sum of psi times coefficients (p,) at this rank's records."""
        f = self.features
        ordered, found = np.empty(len(f.index)), np.empty(len(f.index))
        gather(f.index, f.factor, self.visited.place, np.append(coefficients, 0.0), ordered)
        found[f.order] = ordered
        return found

    def summed(self, weights: np.ndarray) -> np.ndarray:
        """(q,) mean over the pairs of all ranks of the free functions times weights (N,). Collective."""
        total = np.zeros(self.visited.size + 1)
        f = self.features
        spread(f.index, f.factor, self.visited.place, weights[f.order], total)
        self.comm.Allreduce(MPI.IN_PLACE, total, op=MPI.SUM)
        return self.P.T @ total[:-1] / self.count

    def gram(self, right: np.ndarray) -> np.ndarray:
        """(q,) the Gram matrix times right. Collective."""
        return self.summed(self.once * self.at_records(self.P @ right))

    def lagged(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """(q,) C1, its transpose, or (C1 + C1^T)/2 where that is over both ends, times right. Collective."""
        values, other = self.at_records(self.P @ right), np.zeros(len(self.features.index))
        pairs = zip(self.features.of_pairs(values), self.features.of_pairs(other), strict=True)
        for (f, block), (g, _) in pairs:
            if self.both_ends:
                g[block.x] += f[block.y] / 2
                g[block.y] += f[block.x] / 2
            elif transposed:
                g[block.y] += f[block.x]
            else:
                g[block.x] += f[block.y]
        return self.summed(other)

    def degrees(self, seed: int = 0, probes: int = 2) -> tuple[float, float]:
        """Degrees of freedom: of q, and the 2 tr S - tr S^2 that S = D^-1 C0 leaves of them. Collective.

        Traces from products with random signs (Hutchinson 1990); of many thousand functions two are enough.
        """
        root, found = np.sqrt(self.mean), []
        for number in range(probes):
            signs = np.random.Generator(np.random.Philox([seed, number])).integers(0, 2, self.size) * 2.0 - 1
            smoothed = self.gram(signs / root) / root
            found.append(2 * signs @ smoothed - smoothed @ smoothed)
        return float(self.size), float(np.clip(np.mean(found), 1.0, self.size))


def sparse_space(sample: Sample, both_ends: bool, coarser: float = 1.0) -> SparseSpace:
    """The functions that the records visit, and the free ones among them. Collective.

    Parameters
    ----------
    both_ends : whether the inner product is over both ends of the pairs
    coarser : factor of the visits from which on a function is free

    Raises
    ------
    SpectrumError : there are no pairs, or all functions are constant on them
    """
    comm, dictionary = sample.comm, sample.dictionary
    found = features(sample, dictionary)
    once = np.zeros(len(found.index))
    for number, block in found.of_pairs(once):
        number[block.x] += 0.5 if both_ends else 1.0
        if both_ends:
            number[block.y] += 0.5
    count = comm.allreduce(float(once.sum()))
    if count < 2:
        raise SpectrumError("no snapshot pairs: ensemble.duration is too short for ensemble.lag_time")
    exponent = quantum_exponent(1.0, int(2 * count))
    totals = np.zeros(dictionary.size, dtype=np.int64)
    count_visits(found.index, found.factor, once[found.order], 2.0**exponent, totals)
    comm.Allreduce(MPI.IN_PLACE, totals, op=MPI.SUM)
    seen = totals.copy()
    if sample.pairs and not both_ends:  # far ends visit functions too, and may be the only ones that do
        seen[:] = 0
        count_visits(found.index, found.factor, np.ones(len(once)), 2.0 ** (exponent - 1), seen)
        comm.Allreduce(MPI.IN_PLACE, seen, op=MPI.SUM)
    functions = np.flatnonzero(seen)
    visits = np.ldexp(totals[functions].astype(float), -exponent)
    del totals, seen
    alone = (found.factor.astype(float) ** 2).sum(axis=2).prod(axis=1) if len(once) else np.empty(0)
    least = np.ceil(coarser * _VISITS * comm.allreduce(float(once[found.order] @ alone)) / count)
    P = prolongation(dictionary, functions, visits, least)
    mean = P.T @ visits / count
    if P.shape[1] < 2:
        raise SpectrumError("all features are constant on the ensemble: nothing to solve")
    return SparseSpace(sample, count, VisitedDictionary(dictionary, functions), visits, P, mean, found, once, both_ends)


def lagged_matrix(space: SparseSpace) -> PETSc.Mat:
    """The lagged matrix: AIJ for indicator functions, of which one is alive at a point, else the product of features.

    Collective; the caller destroys it.
    """
    if space.visited.whole.width != 1:
        return product_matrix(space, space.lagged)
    q, column = space.size, np.append(space.P.indices, -1)  # indicator functions are joined: one entry a row
    where = np.empty(len(space.features.index), dtype=np.int64)
    where[space.features.order] = column[space.visited.place[space.features.index[:, 0, 0]]]
    total = csr_array((q, q))
    for here, block in space.features.of_pairs(where):
        x, y = here[block.x].ravel(), here[block.y].ravel()
        total = total + coo_array((np.full(len(x), 1 / space.count), (x, y)), shape=(q, q)).tocsr()
    return aij_matrix(space.comm, (total + total.T) / 2 if space.both_ends else total)


def energy_matrix(space: SparseSpace) -> PETSc.Mat:
    """D + t S of the free functions, S the Dirichlet form: AIJ. Collective; the caller destroys it.

    The largest eigenvalues of C0 v = mu (D + t S) v are 1 / (1 + t lambda) of the slowest functions. Not so the
    smallest of S v = lambda D v: a function that is rough is small at most of its places, and so is its gradient. The
    time t is long enough for t S to outweigh D - C0, and short enough for D + t S to be well conditioned.
    """
    z, mobility = _states(space)
    time = _short_time(space, z, mobility)
    dictionary, P, q = space.visited.whole, space.P, space.size
    # products of states that see the same functions are added up before they are sorted in
    order = space.features.order[space.once[space.features.order] > 0]
    chunks = [order[tile.start : tile.stop] for tile in (tiles(len(order), _ROWS) if len(order) else [])]
    rows, inside = _pattern(space, (dictionary.sparse_values(z(chunk))[0] for chunk in chunks))
    data = np.zeros(len(inside))
    for chunk in chunks:
        indices, slopes = dictionary.sparse_gradients(z(chunk))
        ids = _places(space.visited, indices)
        moved = slopes @ mobility(chunk) * (time * space.once[chunk] / space.count)[:, None, None]
        add_forms(group_edges(ids), ids, slopes, moved, P.indptr, P.indices, P.data, rows, inside, data)
    part = csr_array((data, inside, rows), shape=(q, q))
    return aij_matrix(space.comm, part + _inner_product(space))


def _short_time(space: SparseSpace, z, mobility) -> float:
    """Ten times tr(D - C0) / tr S, from some records of each block. Collective."""
    total = np.zeros(3)
    for start, block in space.features.stretches:
        chunk = start + np.arange(min(_FEW, block.z.shape[0] * block.z.shape[1]))
        chunk = chunk[space.once[chunk] > 0]
        if len(chunk):
            (_, values), (_, slopes) = (
                of(z(chunk)) for of in (space.visited.whole.sparse_values, space.visited.whole.sparse_gradients)
            )
            energies = ((slopes @ mobility(chunk)) * slopes).sum()
            total += [values.sum(), (values**2).sum(), energies]
    mass, square, energies = space.comm.allreduce(total)
    return 10 * (mass - square) / energies


def _pattern(space: SparseSpace, indices: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Row pointers and columns of the products of free functions that meet in this rank's records."""
    groups = []
    for part in indices:
        ids = _places(space.visited, part)
        groups.append(ids[group_edges(ids)[:-1]])
    width = max([part.shape[1] for part in groups], default=1)
    ids = np.full((sum(map(len, groups)), width), -1, dtype=np.int32)
    start = 0
    for part in groups:
        ids[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    pointers, columns = columns_of_groups(ids, space.P.indptr, space.P.indices, space.size)
    back = csr_array((np.ones(len(columns), dtype=np.int8), columns, pointers), shape=(len(ids), space.size)).tocsc()
    return pattern(pointers, columns, back.indptr, back.indices, space.size)


def _states(space: SparseSpace):
    """Functions of record numbers: coordinates (n, c), and their mobility (c, c) or (n, c, c)."""
    blocks = [block for _, block in space.features.stretches]
    c = space.sample.coordinates.size
    z = np.concatenate([block.z.reshape(-1, c) for block in blocks]) if blocks else np.empty((0, c))
    if space.sample.mobility is not None:
        return lambda chunk: z[chunk], lambda _chunk: space.sample.mobility
    field = np.zeros((len(z), c, c))
    for start, block in space.features.stretches:
        m, n = block.z.shape[:2]
        field[start : start + m * n].reshape(m, n, c, c)[block.x] = block.mobility
    return lambda chunk: z[chunk], lambda chunk: field[chunk]


def _places(visited: VisitedDictionary, indices: np.ndarray) -> np.ndarray:
    """Places (n, k) of functions among the visited ones; -1 for padding, and where values round to nothing."""
    places = np.where(indices >= 0, visited.place[indices], visited.size)
    return np.where(places < visited.size, places, -1).astype(np.int32)


def diagonal_matrix(space: SparseSpace) -> PETSc.Mat:
    """The inner product D. Collective; the caller destroys it."""
    return aij_matrix(space.comm, _inner_product(space))


def _inner_product(space: SparseSpace) -> csr_array:
    """D on the first rank, nothing on the others."""
    q = space.size
    return csr_array(diags_array(space.mean)) if space.comm.rank == 0 else csr_array((q, q))


def aij_matrix(comm: MPI.Comm, part: csr_array) -> PETSc.Mat:
    """The sum over ranks of their parts (q, q), as a sparse matrix whose rows are shared out. Collective.

    Entries of other ranks' rows are sent there by PETSc's COO interface.
    """
    matrix = PETSc.Mat().create(comm=communicator(comm))
    first, last = row_ranges(part.shape[0], comm)[comm.rank]
    matrix.setSizes(((last - first, part.shape[0]), (last - first, part.shape[0])))
    typed(matrix, "aij")
    rows = np.repeat(np.arange(part.shape[0], dtype=PETSc.IntType), np.diff(part.indptr))
    _set_coo(matrix, rows, part.indices.astype(PETSc.IntType), part.data.astype(PETSc.ScalarType))
    matrix.setOption(PETSc.Mat.Option.NEW_NONZERO_LOCATIONS, False)
    return matrix


def _set_coo(matrix: PETSc.Mat, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
    """MatSetPreallocationCOO and MatSetValuesCOO. Collective."""
    if hasattr(matrix, "setPreallocationCOO"):
        matrix.setPreallocationCOO(rows, columns)
        matrix.setValuesCOO(values)
        return
    # petsc4py of Debian 12 has no interface to them, but the library it is linked to has
    library = ctypes.CDLL(PETSc.__file__)
    integers, numbers = np.ctypeslib.ndpointer(PETSc.IntType), np.ctypeslib.ndpointer(PETSc.ScalarType)
    library.MatSetPreallocationCOO.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, integers, integers]
    library.MatSetValuesCOO.argtypes = [ctypes.c_void_p, numbers, ctypes.c_int]
    insert = 1
    for error in (
        library.MatSetPreallocationCOO(matrix.handle, len(rows), rows, columns),
        library.MatSetValuesCOO(matrix.handle, values, insert),
    ):
        if error:
            raise PETSc.Error(error)


def product_matrix(space: SparseSpace, product: Callable[..., np.ndarray]) -> PETSc.Mat:
    """A function of whole vectors (q,), such as `SparseSpace.gram`, as a matrix. Collective; the caller destroys it."""
    first, last = row_ranges(space.size, space.comm)[space.comm.rank]
    rows = (last - first, space.size)
    matrix = PETSc.Mat().createPython((rows, rows), _Product(product), comm=communicator(space.comm))
    matrix.setUp()
    return matrix


class _Product:
    """What PETSc calls of a product."""

    def __init__(self, product: Callable[..., np.ndarray]):
        self._product = product

    def mult(self, _matrix: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = A x."""
        self._store(self._product(whole_vector(x)), y)

    def multTranspose(self, _matrix: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = A^T x."""
        self._store(self._product(whole_vector(x), transposed=True), y)

    @staticmethod
    def _store(values: np.ndarray, y: PETSc.Vec) -> None:
        first, last = y.getOwnershipRange()
        y.setArray(values[first:last])
