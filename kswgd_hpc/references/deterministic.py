"""Deterministic reference for at most three dimensions: finite volumes, and a rational Krylov method in time.

Fluxes are exponentially fitted, see `cells`: they are those of a Markov chain, which has detailed balance where the
system has, with the exact density at centres.
u(t) = exp(t (G - c)) f is projected on the Krylov space of (1 - gamma (G - c))^-1: one real factorisation serves all of
a time (van den Eshof and Hochbruck 2006). With a source g it is the exponential of [[G - c, g], [0, 0]], and for all
times one linear system. Two grids are extrapolated; a third, between them, says what that is worth. A state that all
paths start from is the centre of a cell on each of them: u has a kink where a rate jumps, through which no rule
interpolates well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import scipy.sparse
from mpi4py import MPI
from petsc4py import PETSc
from slepc4py import SLEPc

from kswgd_hpc.petsc_types import communicator
from kswgd_hpc.references.cells import Cells, generator
from kswgd_hpc.references.charts import Chart, NotSolvable

if TYPE_CHECKING:
    from kswgd_hpc.feynman_kac.boundary import Boundary

_CELLS = {1: (1024, 8192), 2: (96, 384), 3: (24, 48)}  # an axis: of the first grid, and at most
_ORDERS = {1: (40, 60), 2: (24, 36), 3: (14, 20)}  # of the rules for a start law, an axis
_NO_MASS = 1e-13
_KRYLOV = 60
_FEWEST = 10  # vectors: of a start that decays at once nearly everywhere, the first few see nothing
_EXACT = 1e-9
_EXHAUSTED = 1e-11  # part of a vector that is new to the Krylov space
_GROWTH = 300.0  # logarithm of what no solution grows by
_APART, _TRUST = 2.0, 0.3  # of what three grids disagree by, and of the correction by extrapolation, counts as error
_USUAL = 0.7  # of the median of relative errors over all times: none is taken to be smaller
_GOOD = 1e-3  # of the largest value: finer grids are tried until the error is below


@dataclass(frozen=True)
class Starts:
    """States (d, m) that the start law is a sum over.

    weights : (rules, m): the last rule is the best, and the difference to the others its error; equal weights of draws
    drawn : whether the states are draws, whose spread is the error
    """

    nodes: np.ndarray
    weights: np.ndarray
    drawn: bool = False

    def average(self, values: np.ndarray) -> tuple[float, float]:
        """Mean over the law of values (m,) at the states, and its error."""
        found = self.weights @ values
        if self.drawn:
            return float(found[-1]), float(values.std() / np.sqrt(max(len(values) - 1, 1)))
        return float(found[-1]), float(np.abs(found - found[-1]).max())


@dataclass(frozen=True)
class Problem:
    """What is solved: functions of states (d, n) -> (n,), killing and source None where there is none.

    times : infinity alone for the integral of the source over all times
    boundary : the set that stops paths, with what they are worth there and before; None where there is none
    """

    chart: Chart
    observable: Callable
    killing: Callable | None
    starts: Starts
    times: tuple[float, ...]
    source: Callable | None = None
    boundary: Boundary | None = None


def solve(comm: MPI.Comm, problem: Problem, tolerance: float | None) -> tuple[np.ndarray, np.ndarray, dict]:
    """(times,) values, (times,) bounds on their errors, details. Collective.

    Parameters
    ----------
    tolerance : error wanted; None for a thousandth of the largest value
    """
    way = _settle if np.isinf(problem.times[-1]) else _evolve

    def on_grid(chart: Chart, cells: int) -> np.ndarray:
        return shared(comm, lambda group: way(group, problem, chart, cells))

    values, errors, cells = _converged(problem.chart, on_grid, tolerance)
    walls = _wall_error(problem.chart, on_grid)
    return values, errors + walls, {"cells": np.array(cells), "wall_error": walls}


def principal_eigenvalue_of(comm: MPI.Comm, chart: Chart, killing: Callable | None, tolerance: float | None) -> tuple:
    """Smallest eigenvalue of L + c, a bound on its error, details. Collective."""

    if killing is None:
        return np.zeros(1), np.zeros(1), {}

    def on_grid(chart: Chart, cells: int) -> np.ndarray:
        return shared(comm, lambda group: _smallest(group, chart, killing, cells))

    values, errors, cells = _converged(chart, on_grid, tolerance)
    walls = _wall_error(chart, on_grid)
    return values, errors + walls, {"cells": np.array(cells), "wall_error": walls}


def _converged(chart: Chart, on_grid: Callable, tolerance: float | None) -> tuple[np.ndarray, np.ndarray, int]:
    """Extrapolated values, bounds on errors, cells an axis of the finest grid; a grid gives values and start errors."""
    cells, most = _CELLS[chart.dimension]
    coarse = on_grid(chart, cells)
    while True:
        middle, fine = on_grid(chart, 3 * cells // 2), on_grid(chart, 2 * cells)
        # second order, and a third that depends on where in its cell a jump is: no two grids agree on that
        values = (4 * fine[0] - coarse[0]) / 3
        others = (9 * middle[0] - 4 * coarse[0]) / 5, (16 * fine[0] - 9 * middle[0]) / 7
        apart = np.maximum(*(np.abs(other - values) for other in others))
        errors = _APART * apart + _TRUST * np.abs(values - fine[0])
        # where it changes its sign on the way, an error is no smaller than before and after
        size = np.maximum(np.abs(values), 1e-300)
        errors = np.maximum(errors, _USUAL * np.median(errors / size) * size)
        errors = errors + _EXACT * np.abs(fine[0]).max() + fine[1]
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
        return np.abs(on_grid(chart.widened(1.5), round(1.5 * cells))[0] - on_grid(chart, cells)[0])
    except NotSolvable:  # drift or noise has no meaning further out
        return np.zeros(1)


def shared(comm: MPI.Comm, work: Callable[[MPI.Comm], np.ndarray]) -> np.ndarray:
    """The result of work that one rank does, on all of them. Collective.

    Grids have at most some hundred thousand cells. Shared out they would be solved sooner, to bits that depend on the
    number of ranks.
    """
    result, error = None, None
    if comm.rank == 0:
        try:
            result = work(MPI.COMM_SELF)
        except NotSolvable as caught:
            error = caught
    result, error = comm.bcast((result, error))
    if error is not None:
        raise error
    return result


class _Inverse:
    """The inverse of a PETSc matrix."""

    def __init__(self, matrix: PETSc.Mat, direct: bool):
        self._found = matrix.createVecRight()
        self._solver = PETSc.KSP().create(matrix.comm)
        self._solver.setOperators(matrix)
        preconditioner = self._solver.getPC()
        if direct:
            self._solver.setType("preonly")
            preconditioner.setType("lu")
        else:
            self._solver.setType("gmres")
            self._solver.setTolerances(rtol=1e-12, max_it=2000)
            preconditioner.setType("ilu")

    def __call__(self, right: PETSc.Vec) -> np.ndarray:
        """This rank's part of the inverse times a vector. Collective."""
        self._solver.solve(right, self._found)
        if self._solver.getConvergedReason() < 0:
            raise NotSolvable("the linear solver did not converge on this grid")
        return np.array(self._found.getArray())

    def destroy(self) -> None:
        """Free what PETSc holds."""
        for held in (self._solver, self._found):
            held.destroy()


def _shifted(matrix: PETSc.Mat, gamma: float) -> PETSc.Mat:
    """1 - gamma A; a new matrix."""
    shifted = matrix.copy()
    shifted.scale(-gamma)
    shifted.shift(1.0)
    return shifted


class _Resolvents:
    """The inverses of 1 - gamma A, of which the last is kept: times that are evenly spaced share one."""

    def __init__(self, matrix: PETSc.Mat, direct: bool):
        self.matrix, self._direct = matrix, direct
        self._gamma, self._held = np.nan, []

    def __call__(self, gamma: float) -> _Inverse:
        """That for a gamma, to rounding. Collective."""
        if not np.isclose(gamma, self._gamma, rtol=1e-9, atol=0.0):
            self.destroy()
            shifted = _shifted(self.matrix, gamma)
            self._gamma, self._held = gamma, [_Inverse(shifted, self._direct), shifted]
        return self._held[0]

    def destroy(self) -> None:
        """Free what PETSc holds."""
        for held in self._held:
            held.destroy()
        self._held = []


def _rows(group: MPI.Comm, cells: Cells) -> np.ndarray:
    """Numbers of the cells of this rank."""
    edges = [cells.size * r // group.size for r in range(group.size + 1)]
    return np.arange(edges[group.rank], edges[group.rank + 1])


def _generator(cells: Cells, rows: np.ndarray, killing: Callable | None, boundary: Boundary | None) -> tuple:
    """Rows of G - c, and what they gain at the boundary."""
    rate = np.zeros(len(rows)) if killing is None else cells.average(killing, rows)
    return generator(cells, rows, rate, boundary)


def _petsc(group: MPI.Comm, local: scipy.sparse.csr_matrix) -> PETSc.Mat:
    """The matrix of which this rank has some rows. Collective."""
    size = ((local.shape[0], local.shape[1]), (local.shape[0], local.shape[1]))
    indices = local.indptr.astype(PETSc.IntType), local.indices.astype(PETSc.IntType)
    return PETSc.Mat().createAIJ(size, csr=(*indices, local.data), comm=communicator(group))


def _bordered(group: MPI.Comm, local: scipy.sparse.csr_matrix, column: np.ndarray, row: float) -> PETSc.Mat:
    """The matrix with one more column (m,), and one more row, of equal numbers, on the last rank. Collective."""
    m, n = local.shape
    own = local.tocoo()  # with the zeros that are on its diagonal
    i, j, entries = [own.row, np.arange(m)], [own.col, np.full(m, n)], [own.data, column]
    last = group.rank == group.size - 1
    if last:
        # the entry on the diagonal is zero, and has to be there
        i, j, entries = [*i, np.full(n + 1, m)], [*j, np.arange(n + 1)], [*entries, np.append(np.full(n, row), 0.0)]
    triplets = (np.concatenate(entries), (np.concatenate(i), np.concatenate(j)))
    return _petsc(group, scipy.sparse.coo_matrix(triplets, shape=(m + last, n + 1)).tocsr())


def _source(problem: Problem, cells: Cells, rows: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """(m,) what drives u in the cells."""
    if problem.boundary is None:
        return gains if problem.source is None else gains + cells.average(problem.source, rows)
    stopped = problem.boundary.inside(cells.chart.states(cells.centres(rows)))
    return gains + np.where(stopped, 0.0, problem.boundary.reward)


def _starting(problem: Problem, cells: Cells, rows: np.ndarray) -> np.ndarray:
    """(m,) what u begins as in the cells."""
    if problem.boundary is None:
        return cells.average(problem.observable, rows)
    states = cells.chart.states(cells.centres(rows))
    return np.where(problem.boundary.inside(states), problem.boundary.given(states), 0.0)


def _at_starts(problem: Problem, cells: Cells, whole: np.ndarray) -> tuple[float, float]:
    """Mean over the start law of u with values in the cells, and the error of that mean."""
    nodes = problem.starts.nodes
    values = _interpolated(cells, whole, nodes)
    if problem.boundary is not None:
        values = np.where(problem.boundary.inside(nodes), problem.boundary.given(nodes), values)
    return problem.starts.average(values)


def _cells(problem: Problem, chart: Chart, n: int) -> Cells:
    """The cells of a box, of which one has a state that all paths start from as its centre."""
    single = problem.starts.nodes.shape[1] == 1
    return Cells(chart.centred(chart.points(problem.starts.nodes)[:, 0], n) if single else chart, n)


def _evolve(group: MPI.Comm, problem: Problem, chart: Chart, n: int) -> np.ndarray:
    """(2, times) values on one grid, and the errors of averages over the start law. Collective on the group."""
    cells = _cells(problem, chart, n)
    rows, last = _rows(group, cells), group.rank == group.size - 1
    local, gains = _generator(cells, rows, problem.killing, problem.boundary)
    begin, driven = _starting(problem, cells, rows), problem.source is not None or problem.boundary is not None
    if driven:
        matrix = _bordered(group, local, _source(problem, cells, rows, gains), 0.0)
        begin = np.append(begin, 1.0) if last else begin
    else:
        matrix = _petsc(group, local)
    state, found, now = matrix.createVecRight(), [], 0.0
    state.setArray(begin)
    resolvents = _Resolvents(matrix, cells.k < 3)
    for time in problem.times:
        after = _advance(resolvents, state, time - now)
        state.destroy()
        state, now = after, time
        whole = np.concatenate(group.allgather(np.array(state.getArray())))[: cells.size]
        found.append(_at_starts(problem, cells, whole))
    state.destroy()
    resolvents.destroy()
    matrix.destroy()
    return np.array(found).T


def _settle(group: MPI.Comm, problem: Problem, chart: Chart, n: int) -> np.ndarray:
    """The same for all times together, (2, 1): (L + c) u = g, where nothing is killed of g without its mean."""
    cells = _cells(problem, chart, n)
    rows, last = _rows(group, cells), group.rank == group.size - 1
    local, gains = _generator(cells, rows, problem.killing, problem.boundary)
    right = -_source(problem, cells, rows, gains)
    conserved = problem.killing is None and problem.boundary is None
    if conserved:  # of a chain whose constants stay: what is taken off g is one more unknown
        matrix = _bordered(group, local, np.ones(len(rows)), 1.0 / cells.size)
    else:
        if problem.boundary is not None:
            stopped = problem.boundary.inside(cells.chart.states(cells.centres(rows)))
            right = np.where(stopped, -_starting(problem, cells, rows), right)
            held = scipy.sparse.coo_matrix((-1.0 * stopped, (np.arange(len(rows)), rows)), shape=local.shape)
            local = (local + held).tocsr()
        matrix = _petsc(group, local)
    inverse = _Inverse(matrix, cells.k < 3)

    def solved(values: np.ndarray) -> np.ndarray:
        vector = matrix.createVecRight()
        vector.setArray(np.append(values, 0.0) if conserved and last else values)
        found = np.concatenate(group.allgather(inverse(vector)))
        vector.destroy()
        return found

    whole = solved(right)
    if conserved:  # the mean of u under the invariant law is zero; that of any function is minus the multiplier
        whole = whole[:-1] + solved(-whole[rows])[-1]
    inverse.destroy()
    matrix.destroy()
    return np.array(_at_starts(problem, cells, whole))[:, None]


def _advance(resolvents: _Resolvents, start: PETSc.Vec, time: float, halvings: int = 6) -> PETSc.Vec:
    """exp(time A) start; a new vector. Collective."""
    found = _rational_krylov(resolvents, start, time)
    if found is not None:
        return found
    if not halvings:
        raise NotSolvable("the Krylov method in time did not converge on this grid")
    half = _advance(resolvents, start, time / 2, halvings - 1)
    whole = _advance(resolvents, half, time / 2, halvings - 1)
    half.destroy()
    return whole


def _rational_krylov(resolvents: _Resolvents, start: PETSc.Vec, time: float) -> PETSc.Vec | None:
    """exp(time A) start by Arnoldi's method for (1 - gamma A)^-1; None where it does not converge. Collective."""
    comm, gamma = resolvents.matrix.comm.tompi4py(), time / 10
    resolvent, norm = resolvents(gamma), start.norm()
    vector, found, last = start.copy(), None, np.zeros(0)
    basis = np.zeros((_KRYLOV + 1, start.getLocalSize()))
    basis[0] = start.getArray() / (norm or 1.0)
    H = np.zeros((_KRYLOV + 1, _KRYLOV))
    for m in range(1, _KRYLOV + 1):
        vector.setArray(basis[m - 1])
        new = resolvent(vector)
        size = np.sqrt(comm.allreduce(new @ new))
        for _ in range(2):  # the second time against rounding
            products = comm.allreduce(basis[:m] @ new)
            new -= products @ basis[:m]
            H[:m, m - 1] += products
        H[m, m - 1] = np.sqrt(comm.allreduce(new @ new))
        # of a start that is nearly an eigenfunction, what comes next is rounding, and must not be looked at
        exhausted = H[m, m - 1] < _EXHAUSTED * size
        now = norm * _exponential(H[:m, :m], time / gamma)
        change = now - np.pad(last, (0, m - len(last)))
        still = np.linalg.norm(change) <= _EXACT * max(np.linalg.norm(now), 1e-3 * norm)
        if exhausted or (still and m >= _FEWEST):
            found = start.duplicate()
            found.setArray(now @ basis[:m])
            break
        last = now
        basis[m] = new / H[m, m - 1]
    vector.destroy()
    return found


def _exponential(H: np.ndarray, ratio: float) -> np.ndarray:
    """First column of exp((1 - H^-1) ratio), by way of the eigenvalues where the squarings of expm overflow."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
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
    """(2, 1) smallest eigenvalue of L + c on one grid: the one nearest to a number below all of c; no start error.

    Collective.
    """
    cells = Cells(chart, n)
    rows = _rows(group, cells)
    matrix = _petsc(group, _generator(cells, rows, killing, None)[0])
    lowest = group.allreduce(float(cells.average(killing, rows).min(initial=np.inf)), op=MPI.MIN)
    matrix.scale(-1.0)
    solver = SLEPc.EPS().create(communicator(group))
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
    else:
        linear.setType("gmres")
        linear.setTolerances(rtol=1e-12, max_it=2000)
        linear.getPC().setType("ilu")
    solver.solve()
    count = solver.getConverged()
    value = solver.getEigenvalue(0) if count else np.nan
    solver.destroy()
    matrix.destroy()
    if not count:
        raise NotSolvable("the eigensolver did not converge on this grid")
    return np.array([[complex(value).real], [0.0]])


def _interpolated(cells: Cells, values: np.ndarray, states: np.ndarray) -> np.ndarray:
    """(m,) cubic interpolation of values at centres, at states (d, m)."""
    chart, grid, pad = cells.chart, values.reshape((cells.n,) * cells.k), 12
    grid = np.pad(grid, [(pad, pad) if p else (0, 0) for p in chart.periodic], mode="wrap")
    place = (chart.points(states) - chart.low[:, None]) / cells.width[:, None] - 0.5
    place += pad * np.array(chart.periodic, dtype=float)[:, None]
    from scipy.ndimage import map_coordinates  # of no use to a run without this reference

    return map_coordinates(grid, place, order=3, mode="nearest")


def start_nodes(spec: Any, sampler: Callable, dimension: int, curved: bool, count: int) -> Starts:
    """States that the initial law is a sum over.

    Parameters
    ----------
    spec : section of the initial law; sampler : of it
    curved : whether states lie on a manifold
    count : draws that the law is replaced by where there is no quadrature for it
    """
    if spec.kind in ("constant", "expression"):
        return Starts(sampler(0, 0, 0, 1), np.ones((1, 1)))
    if spec.kind not in ("gaussian", "uniform") or curved:
        return Starts(sampler(0, 0, 0, count), np.full((1, count), 1 / count), drawn=True)
    if spec.kind == "gaussian":
        rule, middle, half = np.polynomial.hermite_e.hermegauss, spec.mean, spec.deviation
    else:
        low, high = np.asarray(spec.low, dtype=float), np.asarray(spec.high, dtype=float)
        rule, middle, half = np.polynomial.legendre.leggauss, (low + high) / 2, (high - low) / 2
    middle, half = (np.broadcast_to(np.asarray(a, dtype=float), dimension)[:, None] for a in (middle, half))
    nodes, masses = [], []
    for order in _ORDERS[dimension]:
        each, mass = rule(order)
        points = np.stack(np.meshgrid(*[each] * dimension, indexing="ij")).reshape(dimension, -1)
        mass = np.stack(np.meshgrid(*[mass / mass.sum()] * dimension, indexing="ij")).reshape(dimension, -1)
        whole = mass.prod(axis=0)
        kept = whole > _NO_MASS * whole.max()  # far nodes would only make the box large
        nodes.append(points[:, kept])
        masses.append(whole[kept] / whole[kept].sum())
    return Starts(middle + half * np.concatenate(nodes, axis=1), scipy.linalg.block_diag(*masses))
