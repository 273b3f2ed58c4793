"""From records to the Galerkin matrices: method.md section 2.

One pass over the records of a rank forms one set of sums, whatever the number of blocks: the part of each block is
rounded to fixed point and added as integers, so that the same bits come out on any number of ranks. Up to
`REPLICATED` functions every rank holds the sums; beyond, each holds the rows that PETSc would give it, and they are
formed in panels of columns, so that no rank ever holds a whole matrix.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI
from scipy.linalg.blas import dgemm, dsyrk
from scipy.sparse import csr_array

from kswgd_hpc.chains import fold, fold_turns, paths, transformed, turns
from kswgd_hpc.checkpoint import UNSAVED, Keeping
from kswgd_hpc.errors import SpectrumError
from kswgd_hpc.kernels import mirror
from kswgd_hpc.parallel import Block, FixedSum, sum_items, tiles
from kswgd_hpc.records import Pairs, Records, Sample
from kswgd_hpc.whitening import gather_rows

# up to this many functions every rank holds and solves the whole problem itself, in the same bits
REPLICATED = 2048
_ROWS_A_RANK = 1024
PANEL = 2**24  # numbers of a panel: 128 MB
_SYMMETRIC = ("ends", "cross", "c0", "l0")
# pairs of the longest paths whose products are shared: each more costs memory, and beyond `REPLICATED` there is little
_PATH, _PATH_IN_PANELS = 4, 2
_EDGES = 256  # rows that are worth a product
_FEW = 8  # pairs that follow each other, in strides of a lag, from which on `edmd` gains by it


@dataclass(frozen=True)
class Sums:
    """Means over the pairs of all ranks.

    Parameters
    ----------
    sample : what they are means over
    count : number of pairs, or the sum of their weights
    owners : communicator of the ranks that hold rows of the matrices; None on the others
    rows : the rows of each matrix that this rank holds: all of them up to `REPLICATED` functions
    matrices : name -> those rows, (m, p)
    vectors : name -> (p,) or longer, on every rank
    both_ends : whether c0 and c1 are symmetrised, (C0 + L0)/2 and (C1 + C1^T)/2, and the inner product is that of both
        ends of the pairs
    """

    sample: Sample
    count: float
    owners: MPI.Comm | None
    rows: slice
    matrices: dict[str, np.ndarray]
    vectors: dict[str, np.ndarray]
    both_ends: bool

    @property
    def comm(self) -> MPI.Comm:
        """Communicator."""
        return self.sample.comm

    @property
    def size(self) -> int:
        """p, number of functions."""
        return len(self.vectors["x"])

    @property
    def replicated(self) -> bool:
        """Whether every rank holds all rows, and does all that follows by itself."""
        return self.size <= REPLICATED

    @property
    def mean(self) -> np.ndarray:
        """(p,) mean of the features in the inner product."""
        x, y = self.vectors["x"], self.vectors["y"]
        return (x + y) / 2 if self.both_ends else x

    def gram(self) -> Form:
        """Mean of (psi - m)(psi - m)^T in the inner product."""
        return self.form("c0", self.mean, self.mean)

    def form(self, name: str, left: np.ndarray, right: np.ndarray, total: float = 1.0) -> Form:
        """Mean of a (f - m)(g - m)^T from that of a f g^T, of the mean of a and those of a f (left) and a g (right)."""
        mean, rows = self.mean, self.rows
        columns = np.stack([-mean[rows], total * mean[rows] - left[rows]], axis=1)
        return Form(self, self.matrices[name], columns, np.stack([right, mean], axis=1))

    def uncentred(self, name: str) -> Form:
        """The mean as it is."""
        return Form(self, self.matrices[name], np.zeros((self.matrices[name].shape[0], 0)), np.zeros((self.size, 0)))


@dataclass(frozen=True)
class Form:
    """A bilinear form of the features by rows, A + U V^T, in which V and this rank's rows of U centre it.

    matrix : (m, p), U : (m, k), V : (p, k)
    """

    sums: Sums
    matrix: np.ndarray
    U: np.ndarray
    V: np.ndarray

    def negative(self) -> Form:
        """The form with its sign changed."""
        return replace(self, matrix=-self.matrix, U=-self.U)

    def dense(self) -> np.ndarray:
        """(m, p) this rank's rows."""
        found = self.U @ self.V.T
        found += self.matrix
        return found

    def columns(self, index: np.ndarray) -> np.ndarray:
        """(m, len(index)) of this rank's rows."""
        return self.matrix[:, index] + self.U @ self.V[index].T

    def norm(self) -> float:
        """Frobenius norm, the same on every rank that holds rows. Collective on them."""
        square = sum(float((self._some(part) ** 2).sum()) for part in tiles(max(len(self.matrix), 1), 256))
        return float(np.sqrt(square if self.sums.replicated else self.sums.owners.allreduce(square)))

    def _some(self, part: Block) -> np.ndarray:
        rows = slice(part.start, part.stop)
        return self.matrix[rows] + self.U[rows] @ self.V.T

    def times(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """A or A^T times right, (p,) or (p, k), on every rank that holds rows. Collective on them."""
        if transposed:
            right = right[self.sums.rows]
            product = self.matrix.T @ right + self.V @ (self.U.T @ right)
            if not self.sums.replicated:
                self.sums.owners.Allreduce(MPI.IN_PLACE, product, op=MPI.SUM)
            return product
        product = self.matrix @ right + self.U @ (self.V.T @ right)
        return product if self.sums.replicated else gather_rows(self.sums.owners, product)


def row_ranges(size: int, comm: MPI.Comm) -> list[tuple[int, int]]:
    """Rows of each rank, contiguous: a thousand or more for each rank that has any, as many ranks as that allows."""
    ranks = min(comm.size, max(1, size // _ROWS_A_RANK))
    edges = [size * i // ranks for i in range(ranks + 1)] + [size] * (comm.size - ranks)
    return list(itertools.pairwise(edges))


def assemble(
    sample: Sample,
    names: tuple[str, ...],
    tick: Callable[[int], None] = lambda _units: None,
    keeping: Callable[[str], Keeping] = lambda _panel: UNSAVED,
) -> Sums:
    """Means of products of features over all pairs. Collective.

    Parameters
    ----------
    sample : the records
    names : of the matrices, means of
        ends, cross : psi(x) psi(x)^T + psi(y) psi(y)^T and psi(x) psi(y)^T + psi(y) psi(x)^T, both or none; half of
            them become c0 and c1 of `Sums.both_ends`
        c0, c1, l0 : psi(x) psi(x)^T, psi(x) psi(y)^T, psi(y) psi(y)^T
        form : grad psi . M grad psi^T at x
        flux : psi(x) (G psi(x))^T, of the generator G
    tick : called for each block of each of the `passes`
    keeping : name of a panel -> where the sums for it are saved

    Returns
    -------
    Sums, with the vectors x, y : means of psi(x), psi(y); flux : of G psi(x)

    Raises
    ------
    SpectrumError : there are no pairs
    """
    comm, p = sample.comm, sample.dictionary.size
    whole = p <= REPLICATED
    ranges = row_ranges(p, comm)
    first, last = (0, p) if whole else ranges[comm.rank]
    matrices = {} if whole else {name: np.empty((last - first, p)) for name in names}
    vectors: dict[str, np.ndarray] = {}
    for columns in _panels(p):
        panel = _Panel(sample, names, columns.start, columns.stop, tick)
        sums = sum_items(
            comm, sample.blocks, panel.add, panel.shapes, sample.terms, panel.triangles, keeping(str(columns.start))
        )
        vectors = vectors or _reduced_vectors(comm, sums, sample)
        for name in names:
            if whole:
                matrices[name] = _whole_matrix(comm, sums.pop(name), name)
            else:
                _scatter_panel(comm, sums.pop(name), name, panel, ranges, matrices[name])
    count = float(vectors.pop("count")[0])
    for array in (*matrices.values(), *vectors.values()):
        array *= 1 / count
    both_ends = "ends" in matrices
    if both_ends:
        for name, half in (("ends", "c0"), ("cross", "c1")):
            matrices[half] = matrices.pop(name)
            matrices[half] /= 2
    return Sums(sample, count, _owners(comm, ranges), slice(first, last), matrices, vectors, both_ends)


def coarsened(sums: Sums, mapping: csr_array) -> Sums:
    """The sums of fewer functions, psi @ mapping, (p, p'). Collective."""
    comm, rows = sums.comm, sums.rows
    p = mapping.shape[1]
    whole = p <= REPLICATED
    ranges = row_ranges(p, comm)
    first, last = (0, p) if whole else ranges[comm.rank]
    mine, matrices = mapping[rows].T.tocsr(), {}
    for name, matrix in sums.matrices.items():
        matrices[name] = np.empty((last - first, p))
        for part in _panels(p):
            columns = slice(part.start, part.stop)
            panel = mine @ (mapping[:, columns].T @ matrix.T).T
            if sums.replicated:
                matrices[name][:, columns] = panel
            elif whole:
                matrices[name][:, columns] = comm.allreduce(panel)
            else:
                matrices[name][:, columns] = _scattered(comm, panel, ranges)
    vectors = {name: sums.vectors[name] @ mapping for name in ("x", "y", "flux") if name in sums.vectors}
    return replace(sums, owners=_owners(comm, ranges), rows=slice(first, last), matrices=matrices, vectors=vectors)


def _scattered(comm: MPI.Comm, panel: np.ndarray, ranges: list[tuple[int, int]]) -> np.ndarray:
    first, last = ranges[comm.rank]
    rows = np.empty((last - first, panel.shape[1]))
    counts = [(b - a) * panel.shape[1] for a, b in ranges]
    comm.Reduce_scatter(np.ascontiguousarray(panel), rows, counts, op=MPI.SUM)
    return rows


def _owners(comm: MPI.Comm, ranges: list[tuple[int, int]]) -> MPI.Comm | None:
    """Communicator of the ranks that own rows, None on the others. Collective."""
    if all(last > first for first, last in ranges):
        return comm
    first, last = ranges[comm.rank]
    owners = comm.Split(0 if last > first else MPI.UNDEFINED, comm.rank)
    return None if owners == MPI.COMM_NULL else owners


def _panels(size: int) -> list[Block]:
    return tiles(size, size if size <= REPLICATED else max(1, PANEL // size))


def passes(size: int) -> int:
    """Passes over the records that it takes to form matrices of `size` functions."""
    return len(_panels(size))


class _Panel:
    """Adds a block's pairs to columns start..stop of every matrix, and to the vectors with the first columns.

    A part of a matrix is held as (columns, rows), Fortran-ordered so that BLAS updates it in place: of symmetric ones
    only the rows from `start` on, and of a whole symmetric matrix only the triangle that dsyrk fills. Those that share
    products along paths of pairs, see `chains`, get them at the end of a block.
    """

    def __init__(self, sample: Sample, names: tuple[str, ...], start: int, stop: int, tick: Callable[[int], None]):
        p = sample.dictionary.size
        self.sample, self.names, self.start, self.stop, self._tick = sample, names, start, stop, tick
        self.whole = stop - start == p
        self.triangles = tuple(name for name in names if self.whole and name in _SYMMETRIC)
        self.shapes = {name: (stop - start, p - (start if name in _SYMMETRIC else 0)) for name in names}
        if start == 0:
            self.shapes |= {f"vector {name}": (n, 1) for name, n in self._vector_lengths().items()}
        self._longest = _PATH if p <= REPLICATED else _PATH_IN_PANELS
        self._waves: np.ndarray | None = None  # (longest + 1, rows, columns) of each cosine, not yet in the parts
        self._turns: np.ndarray | None = None  # (2, p, p) of `edmd`: the symmetric part, and products of `turns`
        self._edges: list[tuple[np.ndarray, np.ndarray]] = []  # features at the ends of chains, not yet in c0

    def _vector_lengths(self) -> dict[str, int]:
        p = self.sample.dictionary.size
        return {"count": 1, "x": p, "y": p} | ({"flux": p} if "flux" in self.names else {})

    def add(self, block: Records, parts: dict[str, np.ndarray]) -> None:
        """Add the pairs of a block to the parts."""
        for pairs in self.sample.batches(block):
            generator = self._generator(pairs) if "flux" in self.names else None
            shared = self._along_paths(parts, pairs)
            for name in self.names:
                if name == "form":
                    parts[name] += self._form(pairs)
                elif name not in shared:
                    self._product(parts[name], name, *self._factors(name, pairs, generator))
            if self.start == 0:
                self._add_vectors(parts, pairs, generator)
        self._fold(parts)
        self._tick(1)

    def _along_paths(self, parts: dict[str, np.ndarray], pairs: Pairs) -> tuple[str, ...]:
        """Add the products that matrices share along paths of pairs; the names of those matrices."""
        if "ends" in self.names:
            if pairs.weight is None:
                self._add_waves(pairs.features, paths(pairs.first, pairs.second, self._longest))
            else:
                root = np.sqrt(pairs.weight)[:, None]
                self._add_waves(np.stack([pairs.x * root, pairs.y * root]), [np.array([[0, 1]])])
            return "ends", "cross"
        if self.whole and pairs.weight is None and {"c0", "c1"} <= set(self.names):
            lag, found = int(pairs.second[0] - pairs.first[0]), paths(pairs.first, pairs.second, self._longest)
            if found[0].shape[1] > 2 and len(pairs.first) >= _FEW * lag:
                self._add_chain(parts, pairs, found, lag * pairs.features.shape[1])
                return "c0", "c1"
        return ()

    def _add_chain(self, parts: dict[str, np.ndarray], pairs: Pairs, found: list[np.ndarray], edge: int) -> None:
        """Both halves of c1, and c0. Of x the first `edge` rows are no y, and of y the last no x."""
        self._add_waves(pairs.features, found)
        if self._turns is None:
            self._turns = np.zeros((2, self.stop, self.stop))
        self._product(self._turns[1].T, "c1", *turns(pairs.features, found))
        self._edges.append((pairs.x[:edge].copy(), pairs.y[-edge:].copy()))
        if sum(len(x) for x, _y in self._edges) >= _EDGES:
            self._add_edges(parts)

    def _add_edges(self, parts: dict[str, np.ndarray]) -> None:
        """To c0, half of what x has and y has not, less half of the contrary."""
        for half, rows in zip((0.5, -0.5), zip(*self._edges, strict=True), strict=False):
            dsyrk(half, np.concatenate(rows).T, beta=1.0, c=parts["c0"], trans=0, lower=0, overwrite_c=1)
        self._edges.clear()

    def _add_waves(self, features: np.ndarray, found: list[np.ndarray]) -> None:
        if self._waves is None:
            rows = self.sample.dictionary.size - self.start
            self._waves = np.zeros((self._longest + 1, rows, self.stop - self.start))
        for path in found:
            waves = self._waves[:: self._longest // (path.shape[1] - 1)]
            for wave, chi in zip(waves, transformed(features, path), strict=True):
                self._product(wave.T, "ends", chi, None)

    def _fold(self, parts: dict[str, np.ndarray]) -> None:
        """Put the products that were shared into the parts of a block."""
        if self._waves is None:
            return
        values = np.cos(np.pi * np.arange(self._longest + 1) / self._longest)
        if "ends" in self.names:
            fold(parts["ends"].T, parts["cross"].T, self._waves, values, 1.0, self.whole)
        else:
            self._add_edges(parts)
            fold(parts["c0"].T, self._turns[0], self._waves, values, 0.5, True)
            fold_turns(parts["c1"].T, *self._turns)

    def _generator(self, pairs: Pairs) -> np.ndarray:
        return self.sample.dictionary.generator(pairs.z, pairs.drift, pairs.mobility, pairs.x)

    def _form(self, pairs: Pairs) -> np.ndarray:
        """(columns, rows) of the Dirichlet form; weights are as good as a mobility that depends on the state."""
        mobility, dictionary = pairs.mobility, self.sample.dictionary
        if pairs.weight is not None:
            mobility = pairs.weight[:, None, None] * mobility
        if self.whole:
            return dictionary.dirichlet_form(pairs.z, mobility, pairs.x)
        return dictionary.dirichlet_form(pairs.z, mobility, pairs.x, columns=slice(self.start, self.stop)).T

    @staticmethod
    def _factors(name: str, pairs: Pairs, generator: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """left (n, p) and right (n, p) of a sum left^T right; right is None where it is left."""
        weight, x, y = pairs.weight, pairs.x, pairs.y
        if name in _SYMMETRIC:
            left = x if name == "c0" else y
            return (left if weight is None else left * np.sqrt(weight)[:, None]), None
        return (x if weight is None else x * weight[:, None]), (generator if name == "flux" else y)

    def _product(self, part: np.ndarray, name: str, left: np.ndarray, right: np.ndarray | None) -> None:
        if self.whole and right is None:
            dsyrk(1.0, left.T, beta=1.0, c=part, trans=0, lower=0, overwrite_c=1)
            return
        a = (left if right is None else right)[:, self.start : self.stop]
        b = left[:, self.start :] if right is None else left
        dgemm(1.0, a.T, b.T, beta=1.0, c=part, trans_a=0, trans_b=1, overwrite_c=1)

    def _add_vectors(self, parts: dict[str, np.ndarray], pairs: Pairs, generator: np.ndarray | None) -> None:
        parts["vector count"][0, 0] += pairs.count
        for name, total in zip(("x", "y"), pairs.totals(), strict=True):
            parts[f"vector {name}"][:, 0] += total
        if generator is not None:
            parts["vector flux"][:, 0] += generator.sum(axis=0) if pairs.weight is None else pairs.weight @ generator


def _reduced_vectors(comm: MPI.Comm, sums: dict[str, FixedSum], sample: Sample) -> dict[str, np.ndarray]:
    names = [name for name in sums if name.startswith("vector ")]
    found = {name.removeprefix("vector "): sums.pop(name).reduced(comm)[:, 0] for name in names}
    if found["count"][0] < 2:
        raise SpectrumError("no snapshot pairs: ensemble.duration is too short for ensemble.lag_time")
    return found


def _whole_matrix(comm: MPI.Comm, part: FixedSum, name: str) -> np.ndarray:
    """(p, p) sum over all ranks, on every rank."""
    matrix = part.reduced(comm).T
    if name in _SYMMETRIC:
        mirror(matrix)
    return matrix


def _scatter_panel(
    comm: MPI.Comm, part: FixedSum, name: str, panel: _Panel, ranges: list[tuple[int, int]], rows: np.ndarray
) -> None:
    """Put the sum of a panel over all ranks into this rank's rows. Collective."""
    first, last = ranges[comm.rank]
    start, stop = panel.start, panel.stop
    if name not in _SYMMETRIC:
        rows[:, start:stop] = part.scattered(comm, ranges)
        return
    columns = part.reduced(comm).T  # rows from start on, columns of the panel
    below = max(first, start)
    if below < last:
        rows[below - first :, start:stop] = columns[below - start : last - start]
    for i in range(max(first, start), min(last, stop)):
        rows[i - first, i:] = columns[i - start :, i - start]


def pair_sums(sample: Sample, function: Callable[[Pairs], np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Sum of a real function of pairs over all pairs of all ranks, the same bits on any of them. Collective.

    Parameters
    ----------
    function : Pairs -> array of `shape`, its sum over them
    """

    def add(block: Records, parts: dict[str, np.ndarray]) -> None:
        for pairs in sample.batches(block):
            parts["sum"] += function(pairs)

    return sum_items(sample.comm, sample.blocks, add, {"sum": shape}, sample.terms)["sum"].reduced(sample.comm)


def group_sums(sample: Sample, function: Callable[[Pairs], np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the pairs of each group: a second pass, once the eigenvectors are known. Collective.

    Parameters
    ----------
    function : pairs of one group -> (width,) sum over them, real or complex

    Returns
    -------
    (groups, width) sums and (groups,) numbers of pairs, of the groups that have any, on every rank
    """
    totals = np.zeros((sample.groups, width + 1), dtype=complex)
    for block in sample.blocks:
        for pairs in sample.batches(block):
            totals[pairs.group, :width] += function(pairs)
            totals[pairs.group, width] += pairs.count
    # each group belongs to one rank: the others add zeros, which changes no bit
    sample.comm.Allreduce(MPI.IN_PLACE, totals, op=MPI.SUM)
    count = totals[:, width].real
    kept = count > 0
    sums = totals[kept, :width]
    return (sums if np.iscomplexobj(sums) and sums.imag.any() else sums.real), count[kept]
