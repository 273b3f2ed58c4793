"""Deterministic reference for at most three dimensions: finite volumes, and a rational Krylov method in time.

Fluxes are exponentially fitted (Scharfetter and Gummel 1969): between the centres of two cells whose densities have the
ratio exp(delta) the generator has the rates (M / h^2) B(-delta) and (M / h^2) B(delta), B(x) = x / (exp(x) - 1).
They are those of a Markov chain, which has detailed balance where the system has, with the exact density at centres.
u(t) = exp(t (G - c)) f is projected on the Krylov space of (1 - gamma (G - c))^-1: one real factorisation serves all of
a time (van den Eshof and Hochbruck 2006). Two grids give the error, and are extrapolated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.ndimage
import scipy.sparse
from mpi4py import MPI
from petsc4py import PETSc
from slepc4py import SLEPc

from kswgd_hpc.references.charts import Chart, NotSolvable

_CELLS = {1: (1024, 8192), 2: (96, 384), 3: (24, 48)}  # an axis: of the first grid, and at most
_PARTS = {1: 32, 2: 6, 3: 4}  # of a cell, an axis, where functions are averaged
_ROWS_A_RANK = 20_000
_KRYLOV = 60
_EXACT = 1e-9
_EXHAUSTED = 1e-11  # part of a unit vector that is new to the Krylov space
_GROWTH = 300.0  # logarithm of what no solution grows by
_GOOD = 1e-3  # of the largest value: finer grids are tried until the error is below


@dataclass(frozen=True)
class Problem:
    """What is solved: functions of states (d, n) -> (n,), killing None where there is none.

    nodes : (d, m) states that the start law is a sum over, weights : (m,)
    """

    chart: Chart
    observable: Callable
    killing: Callable | None
    nodes: np.ndarray
    weights: np.ndarray
    times: tuple[float, ...]


def solve(comm: MPI.Comm, problem: Problem, tolerance: float | None) -> tuple[np.ndarray, np.ndarray, dict]:
    """(times,) values, (times,) bounds on their errors, details. Collective.

    Parameters
    ----------
    tolerance : error wanted; None for a thousandth of the largest value
    """

    def on_grid(chart: Chart, cells: int) -> np.ndarray:
        return shared(comm, cells**chart.dimension, lambda group: _evolve(group, problem, chart, cells))

    values, errors, cells = _converged(problem.chart, on_grid, tolerance)
    walls = _wall_error(problem.chart, on_grid)
    return values, errors + walls, {"cells": np.array(cells), "wall_error": walls}


def principal_eigenvalue_of(comm: MPI.Comm, chart: Chart, killing: Callable | None, tolerance: float | None) -> tuple:
    """Smallest eigenvalue of L + c, a bound on its error, details. Collective."""

    if killing is None:
        return np.zeros(1), np.zeros(1), {}

    def on_grid(chart: Chart, cells: int) -> np.ndarray:
        return shared(comm, cells**chart.dimension, lambda group: _smallest(group, chart, killing, cells))

    values, errors, cells = _converged(chart, on_grid, tolerance)
    walls = _wall_error(chart, on_grid)
    return values, errors + walls, {"cells": np.array(cells), "wall_error": walls}


def _converged(chart: Chart, on_grid: Callable, tolerance: float | None) -> tuple[np.ndarray, np.ndarray, int]:
    """Extrapolated values, bounds on the errors, cells an axis of the finer grid."""
    cells, most = _CELLS[chart.dimension]
    coarse = on_grid(chart, cells)
    while True:
        fine = on_grid(chart, 2 * cells)
        # second order; a kink of an indicator between cells spoils the order, so the whole of the correction is a bound
        values, errors = (4 * fine - coarse) / 3, np.abs(fine - coarse) / 3 + _EXACT * np.abs(fine).max()
        wanted = _GOOD * np.abs(values).max() if tolerance is None else tolerance
        if (errors <= wanted).all() or 4 * cells > most:
            return values, errors, 2 * cells
        cells, coarse = 2 * cells, fine


def _wall_error(chart: Chart, on_grid: Callable) -> np.ndarray:
    """By how much values change when the walls are half as far out again; the cells stay as large."""
    if not chart.open:
        return np.zeros(1)
    cells = _CELLS[chart.dimension][0]
    try:
        return np.abs(on_grid(chart.widened(1.5), round(1.5 * cells)) - on_grid(chart, cells))
    except NotSolvable:  # drift or noise has no meaning further out
        return np.zeros(1)


def shared(comm: MPI.Comm, rows: int, work: Callable[[MPI.Comm], np.ndarray]) -> np.ndarray:
    """The result of work on as many ranks as there is work for, on all of them. Collective."""
    group = comm.Split(0 if comm.rank < max(1, rows // _ROWS_A_RANK) else 1)
    try:
        result, error = None, None
        if comm.rank < max(1, rows // _ROWS_A_RANK):
            try:
                result = work(group)
            except NotSolvable as caught:
                error = caught
    finally:
        group.Free()
    result, error = comm.bcast((result, error))
    if error is not None:
        raise error
    return result


class Cells:
    """The cells of a box, n an axis; cell numbers run fastest along the last axis."""

    def __init__(self, chart: Chart, n: int):
        self.chart, self.n, self.k = chart, n, chart.dimension
        self.width = (chart.high - chart.low) / n
        self.size = n**self.k

    def centres(self, rows: np.ndarray) -> np.ndarray:
        """(k, m) centres of cells."""
        index = np.array(np.unravel_index(rows, (self.n,) * self.k))
        return self.chart.low[:, None] + (index + 0.5) * self.width[:, None]

    def neighbours(self, rows: np.ndarray, axis: int, side: int) -> np.ndarray:
        """Cell numbers of the neighbours, -1 behind a wall."""
        index = np.array(np.unravel_index(rows, (self.n,) * self.k))
        index[axis] += side
        if self.chart.periodic[axis]:
            index[axis] %= self.n
        outside = (index[axis] < 0) | (index[axis] >= self.n)
        index[axis] = np.clip(index[axis], 0, self.n - 1)
        return np.where(outside, -1, np.ravel_multi_index(tuple(index), (self.n,) * self.k))

    def average(self, function: Callable, rows: np.ndarray) -> np.ndarray:
        """(m,) averages of a function of states over cells."""
        parts = _PARTS[self.k]
        shifts = (np.arange(parts) + 0.5) / parts - 0.5
        total, centres = np.zeros(len(rows)), self.centres(rows)
        for offset in np.stack(np.meshgrid(*[shifts] * self.k, indexing="ij")).reshape(self.k, -1).T:
            total += function(self.chart.states(centres + (offset * self.width)[:, None]))
        return total / parts**self.k


def _generator(cells: Cells, rows: np.ndarray, killing: np.ndarray) -> scipy.sparse.csr_matrix:
    """Rows of G - c on the cells. Raises NotSolvable where drift or noise is not finite."""
    centres, diagonal = cells.centres(rows), -killing
    i, j, entries = [], [], []
    for axis in range(cells.k):
        h = cells.width[axis]
        for side in (-1, 1):
            there = cells.neighbours(rows, axis, side)
            inner = there >= 0
            here = centres[:, inner]
            rate = _rates(cells.chart, axis, here, side * h)
            if not np.isfinite(rate).all():
                raise NotSolvable("drift or noise is not finite, or the noise vanishes, in the box around the paths")
            diagonal[inner] -= rate
            i.append(np.flatnonzero(inner))
            j.append(there[inner])
            entries.append(rate)
    i.append(np.arange(len(rows)))
    j.append(rows)
    entries.append(diagonal)
    triplets = (np.concatenate(entries), (np.concatenate(i), np.concatenate(j)))
    return scipy.sparse.coo_matrix(triplets, shape=(len(rows), cells.size)).tocsr()


def _rates(chart: Chart, axis: int, here: np.ndarray, step: float) -> np.ndarray:
    """Rates from cells to their neighbours a step along an axis; central differences where there is no noise."""
    face = here.copy()
    face[axis] += step / 2
    mobility = chart.mobility(face)[axis]
    if not mobility.any():
        return chart.drift(here)[axis] / (2 * step)
    delta = chart.log_ratio(axis, here, step)
    with np.errstate(over="ignore"):
        bernoulli = np.where(np.abs(delta) < 1e-6, 1 + delta / 2, -delta / np.expm1(np.where(delta == 0, 1.0, -delta)))
    bernoulli = np.where(delta < -700, 0.0, bernoulli)
    return mobility / step**2 * bernoulli


class _Resolvent:
    """(1 - gamma A)^-1 of a PETSc matrix A."""

    def __init__(self, matrix: PETSc.Mat, gamma: float, direct: bool):
        shifted = matrix.copy()
        shifted.scale(-gamma)
        shifted.shift(1.0)
        self._matrix, self._found = shifted, matrix.createVecRight()
        self._solver = PETSc.KSP().create(matrix.comm)
        self._solver.setOperators(shifted)
        preconditioner = self._solver.getPC()
        if direct:
            self._solver.setType("preonly")
            preconditioner.setType("lu")
            if matrix.comm.size > 1:
                preconditioner.setFactorSolverType("mumps")
        else:
            self._solver.setType("gmres")
            self._solver.setTolerances(rtol=1e-12, max_it=2000)
            preconditioner.setType("ilu" if matrix.comm.size == 1 else "bjacobi")

    def __call__(self, right: PETSc.Vec) -> np.ndarray:
        """This rank's part of the resolvent times a vector. Collective."""
        self._solver.solve(right, self._found)
        if self._solver.getConvergedReason() < 0:
            raise NotSolvable("the linear solver did not converge on this grid")
        return np.array(self._found.getArray())

    def destroy(self) -> None:
        """Free what PETSc holds."""
        for held in (self._solver, self._matrix, self._found):
            held.destroy()


def _matrix(group: MPI.Comm, cells: Cells, killing: Callable | None) -> tuple[PETSc.Mat, np.ndarray]:
    """G - c, and the numbers of the cells of this rank. Collective."""
    edges = [cells.size * r // group.size for r in range(group.size + 1)]
    rows = np.arange(edges[group.rank], edges[group.rank + 1])
    rate = np.zeros(len(rows)) if killing is None else cells.average(killing, rows)
    local = _generator(cells, rows, rate)
    size = ((len(rows), cells.size), (len(rows), cells.size))
    indices = local.indptr.astype(PETSc.IntType), local.indices.astype(PETSc.IntType)
    return PETSc.Mat().createAIJ(size, csr=(*indices, local.data), comm=group), rows


def _evolve(group: MPI.Comm, problem: Problem, chart: Chart, n: int) -> np.ndarray:
    """(times,) values on one grid. Collective on the group."""
    cells = Cells(chart, n)
    matrix, rows = _matrix(group, cells, problem.killing)
    state, found, now = matrix.createVecRight(), [], 0.0
    state.setArray(cells.average(problem.observable, rows))
    for time in problem.times:
        after = _advance(matrix, state, time - now, cells.k < 3)
        state.destroy()
        state, now = after, time
        whole = np.concatenate(group.allgather(np.array(state.getArray())))
        found.append(problem.weights @ _interpolated(cells, whole, problem.nodes))
    state.destroy()
    matrix.destroy()
    return np.array(found)


def _advance(matrix: PETSc.Mat, start: PETSc.Vec, time: float, direct: bool, halvings: int = 6) -> PETSc.Vec:
    """exp(time A) start; a new vector. Collective."""
    found = _rational_krylov(matrix, start, time, direct)
    if found is not None:
        return found
    if not halvings:
        raise NotSolvable("the Krylov method in time did not converge on this grid")
    half = _advance(matrix, start, time / 2, direct, halvings - 1)
    whole = _advance(matrix, half, time / 2, direct, halvings - 1)
    half.destroy()
    return whole


def _rational_krylov(matrix: PETSc.Mat, start: PETSc.Vec, time: float, direct: bool) -> PETSc.Vec | None:
    """exp(time A) start by Arnoldi's method for (1 - gamma A)^-1; None where it does not converge. Collective."""
    comm, gamma = matrix.comm.tompi4py(), time / 10
    resolvent, norm = _Resolvent(matrix, gamma, direct), start.norm()
    vector, found, last = start.copy(), None, np.zeros(0)
    basis = np.zeros((_KRYLOV + 1, start.getLocalSize()))
    basis[0] = start.getArray() / (norm or 1.0)
    H = np.zeros((_KRYLOV + 1, _KRYLOV))
    for m in range(1, _KRYLOV + 1):
        vector.setArray(basis[m - 1])
        new = resolvent(vector)
        for _ in range(2):  # the second time against rounding
            products = comm.allreduce(basis[:m] @ new)
            new -= products @ basis[:m]
            H[:m, m - 1] += products
        H[m, m - 1] = np.sqrt(comm.allreduce(new @ new))
        # of a start that is nearly an eigenfunction, what comes next is rounding, and must not be looked at
        exhausted = H[m, m - 1] < _EXHAUSTED
        now = norm * _exponential(H[:m, :m], time / gamma)
        change = now - np.pad(last, (0, m - len(last)))
        if exhausted or np.linalg.norm(change) <= _EXACT * max(np.linalg.norm(now), 1e-3 * norm):
            found = start.duplicate()
            found.setArray(now @ basis[:m])
            break
        last = now
        basis[m] = new / H[m, m - 1]
    resolvent.destroy()
    vector.destroy()
    return found


def _exponential(H: np.ndarray, ratio: float) -> np.ndarray:
    """First column of exp((1 - H^-1) ratio), infinite where it overflows."""
    try:
        column = scipy.linalg.expm((np.eye(len(H)) - np.linalg.inv(H)) * ratio)[:, 0]
    except (np.linalg.LinAlgError, ValueError, OverflowError):
        return _by_eigenvalues(H, ratio)
    return column if np.isfinite(column).all() else _by_eigenvalues(H, ratio)


def _by_eigenvalues(H: np.ndarray, ratio: float) -> np.ndarray:
    """The same without eigenvalues that are zero but for rounding: those decay at once."""
    values, vectors = scipy.linalg.eig(H)
    values = np.where(values == 0, 1e-300, values)
    kept = ((1 - 1 / values) * ratio).real < _GROWTH
    powers = np.zeros(len(values), dtype=complex)
    powers[kept] = np.exp((1 - 1 / values[kept]) * ratio)
    return (vectors @ (powers * np.linalg.solve(vectors, np.eye(len(H))[:, 0]))).real


def _smallest(group: MPI.Comm, chart: Chart, killing: Callable, n: int) -> np.ndarray:
    """(1,) smallest eigenvalue of L + c on one grid: the one nearest to a number below all of c. Collective."""
    cells = Cells(chart, n)
    matrix, rows = _matrix(group, cells, killing)
    lowest = group.allreduce(float(cells.average(killing, rows).min(initial=np.inf)), op=MPI.MIN)
    matrix.scale(-1.0)
    solver = SLEPc.EPS().create(group)
    solver.setOperators(matrix)
    solver.setProblemType(SLEPc.EPS.ProblemType.NHEP)
    solver.setWhichEigenpairs(SLEPc.EPS.Which.TARGET_MAGNITUDE)
    solver.setTarget(lowest - 1e-2 * max(1.0, abs(lowest)))
    solver.setTolerances(1e-11, 500)
    transform = solver.getST()
    transform.setType(SLEPc.ST.Type.SINVERT)
    linear = transform.getKSP()
    if cells.k < 3:
        linear.setType("preonly")
        linear.getPC().setType("lu")
        if group.size > 1:
            linear.getPC().setFactorSolverType("mumps")
    else:
        linear.setType("gmres")
        linear.setTolerances(rtol=1e-12, max_it=2000)
        linear.getPC().setType("ilu" if group.size == 1 else "bjacobi")
    solver.solve()
    count = solver.getConverged()
    value = solver.getEigenvalue(0) if count else np.nan
    solver.destroy()
    matrix.destroy()
    if not count:
        raise NotSolvable("the eigensolver did not converge on this grid")
    return np.array([complex(value).real])


def _interpolated(cells: Cells, values: np.ndarray, states: np.ndarray) -> np.ndarray:
    """(m,) cubic interpolation of values at centres, at states (d, m)."""
    chart, grid, pad = cells.chart, values.reshape((cells.n,) * cells.k), 12
    grid = np.pad(grid, [(pad, pad) if p else (0, 0) for p in chart.periodic], mode="wrap")
    place = (chart.points(states) - chart.low[:, None]) / cells.width[:, None] - 0.5
    place += pad * np.array(chart.periodic, dtype=float)[:, None]
    return scipy.ndimage.map_coordinates(grid, place, order=3, mode="nearest")


def start_nodes(spec: Any, sampler: Callable, dimension: int, curved: bool, count: int) -> tuple:
    """States (d, m) and weights (m,) that the initial law is a sum over.

    Parameters
    ----------
    spec : section of the initial law; sampler : of it
    curved : whether states lie on a manifold
    count : draws that the law is replaced by where there is no quadrature for it
    """
    if spec.kind in ("constant", "expression"):
        return sampler(0, 0, 0, 1), np.ones(1)
    if spec.kind in ("gaussian", "uniform") and not curved:
        if spec.kind == "gaussian":
            nodes, weights = np.polynomial.hermite_e.hermegauss(24)
            middle, half = spec.mean, spec.deviation
        else:
            nodes, weights = np.polynomial.legendre.leggauss(24)
            low, high = np.asarray(spec.low, dtype=float), np.asarray(spec.high, dtype=float)
            middle, half = (low + high) / 2, (high - low) / 2
        each = np.stack(np.meshgrid(*[nodes] * dimension, indexing="ij")).reshape(dimension, -1)
        mass = np.stack(np.meshgrid(*[weights / weights.sum()] * dimension, indexing="ij")).reshape(dimension, -1)
        middle, half = (np.broadcast_to(np.asarray(a, dtype=float), dimension)[:, None] for a in (middle, half))
        return middle + half * each, mass.prod(axis=0)
    return sampler(0, 0, 0, count), np.full(count, 1 / count)
