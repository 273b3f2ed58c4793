"""SLEPc, behind one function: eigenpairs of a dense PETSc matrix, and readable errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc
from scipy.linalg.blas import dsymv
from slepc4py import SLEPc

from kswgd_hpc.errors import SpectrumError
from kswgd_hpc.kernels import symmetric_product
from kswgd_hpc.petsc_types import communicator, typed

_IN_CACHE = 2**22  # numbers of a matrix

Part = Literal["largest", "largest_magnitude", "smallest"]

_REASONS = {
    "DIVERGED_ITS": (
        "the iteration limit was reached before {wanted} pairs converged ({found} did)",
        "ask for fewer koopman.modes, or raise koopman.petsc_options: {{eps_max_it: ...}} or eps_ncv",
    ),
    "DIVERGED_BREAKDOWN": (
        "the Krylov basis broke down",
        "raise koopman.regularization: the Gram matrix is close to singular",
    ),
    "DIVERGED_SYMMETRY_LOST": (
        "the inner product lost symmetry or definiteness",
        "raise koopman.regularization",
    ),
    "CONVERGED_ITERATING": ("the solver stopped without a verdict", "remove koopman.petsc_options"),
}


class Eigenpairs(NamedTuple):
    """Right (and for non-symmetric problems left) eigenvectors as columns.

    values : (k,), vectors : (n, k), left : (n, k) or None, residuals : (k,) of |A v - mu v|
    """

    values: np.ndarray
    vectors: np.ndarray
    left: np.ndarray | None
    residuals: np.ndarray

    def taken(self, order: np.ndarray) -> Eigenpairs:
        """Some of the pairs, in an order."""
        left = None if self.left is None else self.left[:, order]
        return Eigenpairs(self.values[order], self.vectors[:, order], left, self.residuals[order])


class Operator(Protocol):
    """A linear operator on vectors that every rank of `comm` holds whole."""

    comm: MPI.Comm
    size: int

    def __call__(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """The operator, or its transpose, times right, (size,) or (size, k). Collective."""

    def inverse(self, right: np.ndarray) -> np.ndarray:
        """Its inverse, where it is positive definite, times right, (size,) or (size, k). Collective."""


def versions() -> dict[str, str]:
    """Versions of the libraries behind this module."""
    return {
        "petsc": ".".join(map(str, PETSc.Sys.getVersion())),
        "slepc": ".".join(map(str, SLEPc.Sys.getVersion())),
    }


def check_real() -> None:
    """Refuse a complex PETSc by name."""
    if np.issubdtype(PETSc.ScalarType, np.complexfloating):
        raise SpectrumError(
            "this PETSc was built with complex scalars; kswgd-hpc needs a real one (PETSC_DIR, PETSC_ARCH)"
        )


def dense_matrix(comm: MPI.Comm, rows: np.ndarray, columns: int) -> PETSc.Mat:
    """Distributed dense matrix from the rows that each rank owns. Collective; the caller destroys it."""
    matrix = PETSc.Mat().create(comm=communicator(comm))
    matrix.setSizes(((len(rows), PETSc.DECIDE), (PETSc.DECIDE, columns)))
    typed(matrix, "dense")
    matrix.setUp()
    matrix.getDenseArray()[...] = rows
    matrix.assemble()
    return matrix


def shell_matrix(operator: Operator, inverted: bool = False) -> PETSc.Mat:
    """An operator as a PETSc matrix. Collective on its ranks; the caller destroys it."""
    rows = (PETSc.DECIDE, operator.size)
    matrix = PETSc.Mat().createPython((rows, rows), _Shell(operator, inverted), comm=communicator(operator.comm))
    matrix.setUp()
    return matrix


class _Symmetric:
    """A symmetric matrix as an operator that reads one triangle: PETSc reads both."""

    def __init__(self, matrix: np.ndarray):
        self.comm, self.size, self._matrix = MPI.COMM_SELF, len(matrix), np.asfortranarray(matrix)

    def __call__(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        return dsymv(1.0, self._matrix, right)


class _Rounded:
    """A symmetric matrix whose entries are rounded to single precision, all else being done in double.

    Beyond the cache a product takes the time to read the matrix, and of this one there is half as much.
    """

    def __init__(self, matrix: np.ndarray):
        self.comm, self.size, self._matrix = MPI.COMM_SELF, len(matrix), matrix.astype(np.float32, order="C")

    def __call__(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        product = np.empty(self.size)
        symmetric_product(self._matrix, np.ascontiguousarray(right), product)
        return product


def _rotated(matrix: np.ndarray, pairs: Eigenpairs) -> Eigenpairs:
    """Eigenpairs of a symmetric matrix in the span of those of a matrix near to it, in the same order.

    A difference of 1e-8 between the two matrices is one of 1e-16 over the gap in these values.
    """
    basis = np.linalg.qr(pairs.vectors)[0]
    image = matrix @ basis
    values, mixing = np.linalg.eigh(basis.T @ image)
    values, mixing = values[::-1], mixing[:, ::-1]
    vectors = basis @ mixing
    return Eigenpairs(values, vectors, None, np.linalg.norm(image @ mixing - vectors * values, axis=0))


class _Shell:
    """What PETSc calls of an operator."""

    def __init__(self, operator: Operator, inverted: bool):
        self._operator, self._inverted = operator, inverted

    def mult(self, _matrix: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = A x."""
        whole = whole_vector(x)
        self._store(self._operator.inverse(whole) if self._inverted else self._operator(whole), y)

    def multTranspose(self, _matrix: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = A^T x."""
        self._store(self._operator(whole_vector(x), transposed=True), y)

    @staticmethod
    def _store(values: np.ndarray, y: PETSc.Vec) -> None:
        first, last = y.getOwnershipRange()
        y.setArray(values[first:last])


def eigenpairs(
    problem: np.ndarray | Operator,
    count: int,
    part: Part,
    symmetric: bool = True,
    options: Mapping[str, object] | None = None,
    left: bool = True,
) -> Eigenpairs:
    """Leading eigenpairs of a matrix that this process holds, or of an operator. Collective on the operator's ranks.

    Parameters
    ----------
    problem : (n, n) array, or operator; symmetric where said so
    count : pairs wanted
    part : largest (real), largest_magnitude, or smallest of something positive definite
    options : PETSc options such as eps_tol, set before the solver reads the options database
    left : whether left vectors are wanted where they are not the right ones

    Returns
    -------
    Eigenpairs, the same on every rank of the problem; a complex pair takes two columns

    Raises
    ------
    SpectrumError : the solver's divergence reason and a remedy
    """
    if isinstance(problem, np.ndarray) and not (symmetric and part == "largest"):
        matrix = dense_matrix(MPI.COMM_SELF, problem, len(problem))
        return _krylov_schur(matrix, count, part, symmetric, options, left)
    if isinstance(problem, np.ndarray):
        small = problem.size <= _IN_CACHE
        matrix = shell_matrix(_Symmetric(problem) if small else _Rounded(problem))
        pairs = _krylov_schur(matrix, count, part, symmetric, options, left)
        return pairs if small else _rotated(problem, pairs)
    # the inverse of an operator is applied as a whole: its largest eigenvalues are wanted
    inverted = part == "smallest"
    matrix = shell_matrix(problem, inverted)
    pairs = _krylov_schur(matrix, count, "largest" if inverted else part, symmetric, options, left)
    return pairs._replace(values=1 / pairs.values, residuals=pairs.residuals / pairs.values**2) if inverted else pairs


def _krylov_schur(matrix: PETSc.Mat, count: int, part: Part, symmetric: bool, options, left: bool) -> Eigenpairs:
    """SLEPc's solution; destroys the matrix."""
    left = left and not symmetric
    eps = SLEPc.EPS().create(matrix.getComm())
    start = matrix.createVecRight()
    first, last = start.getOwnershipRange()
    start.setArray(np.cos(np.arange(first, last) * 0.7 + 0.3) + 1.5)
    try:
        eps.setOperators(matrix)
        kinds = SLEPc.EPS.ProblemType
        eps.setProblemType(kinds.HEP if symmetric else kinds.NHEP)
        eps.setType(SLEPc.EPS.Type.KRYLOVSCHUR)
        eps.setDimensions(count, PETSc.DECIDE, PETSc.DECIDE)
        # errors of the eigenvalues of a symmetric problem are the square of this
        eps.setTolerances(1e-10 if symmetric else 1e-12, 1000)
        eps.setTwoSided(left)
        eps.setInitialSpace(start)
        _select(eps, part)
        _read_options(eps, options)
        converge(eps, count)
        return _collect(eps, matrix, count, symmetric, left)
    finally:
        start.destroy()
        eps.destroy()
        matrix.destroy()


def _read_options(eps: SLEPc.EPS, options: Mapping[str, object] | None) -> None:
    """Options for a solver, put into the database of those of the command line. Raises SpectrumError."""
    database = PETSc.Options()
    for name, value in (options or {}).items():
        database[name] = value
    try:
        eps.setFromOptions()
    except (PETSc.Error, SystemError) as error:  # slepc4py 3.26 raises the second, caused by the first
        said = _reason(error.__cause__ or error)
        raise SpectrumError(f"koopman.petsc_options, or an option of the command line: {said}") from error


def check_options(options: Mapping[str, object]) -> None:
    """Let a solver that is not used read some options, and those of the command line. Raises SpectrumError."""
    eps, database = SLEPc.EPS().create(MPI.COMM_SELF), PETSc.Options()
    try:
        _read_options(eps, options)
    finally:
        eps.destroy()
        for name in options:
            database.delValue(name)


def _reason(error: BaseException) -> str:
    """The last line of what PETSc says, which is the cause."""
    return (str(error).strip().splitlines() or ["unknown"])[-1].removeprefix("[0] ")


def _select(eps: SLEPc.EPS, part: Part) -> None:
    which = SLEPc.EPS.Which
    if part == "smallest":
        eps.setWhichEigenpairs(which.TARGET_MAGNITUDE)
        eps.setTarget(0.0)
        eps.getST().setType(SLEPc.ST.Type.SINVERT)
    else:
        eps.setWhichEigenpairs(which.LARGEST_REAL if part == "largest" else which.LARGEST_MAGNITUDE)


def converge(eps: SLEPc.EPS, count: int) -> None:
    """Solve; SpectrumError with the reason and a remedy where fewer than `count` pairs are found. Collective."""
    try:
        eps.solve()
    except PETSc.Error as error:
        raise SpectrumError(
            f"SLEPc failed with PETSc error {error.ierr} ({_reason(error)}); raise koopman.regularization"
        ) from error
    reason, found = eps.getConvergedReason(), eps.getConverged()
    if reason > 0 and found >= count:
        return
    names = {getattr(SLEPc.EPS.ConvergedReason, name): name for name in _REASONS}
    what, remedy = _REASONS[names.get(reason, "DIVERGED_ITS")]
    text = f"{what}; {remedy}".format(wanted=count, found=found)
    raise SpectrumError(f"SLEPc did not converge: {text}")


def _collect(eps: SLEPc.EPS, matrix: PETSc.Mat, count: int, symmetric: bool, sided: bool) -> Eigenpairs:
    real, imaginary = matrix.createVecs()
    total = min(eps.getConverged(), count + (0 if symmetric else 1))
    values, columns, left = [], [], []
    try:
        for i in range(total):
            value = eps.getEigenpair(i, real, imaginary)
            columns.append(whole_vector(real) + 1j * whole_vector(imaginary))
            values.append(complex(value))
            if sided:
                eps.getLeftEigenvector(i, real, imaginary)
                left.append(_partner(columns[-1], whole_vector(real) + 1j * whole_vector(imaginary)))
        residuals = [eps.computeError(i, SLEPc.EPS.ErrorType.ABSOLUTE) for i in range(total)]
    finally:
        real.destroy()
        imaginary.destroy()
    values, vectors = np.array(values), np.array(columns).T
    if symmetric:
        return Eigenpairs(values.real, np.ascontiguousarray(vectors.real), None, np.array(residuals))
    return Eigenpairs(values, vectors, np.array(left).T if sided else None, np.array(residuals))


def _partner(right: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Left vector of the same eigenvalue, of one that may belong to its conjugate and be orthogonal to the right one.

    SLEPc puts the values of a pair in order after an inversion, and the right vectors with them, but not the left ones.
    """
    return left if abs(left.conj() @ right) >= abs(left @ right) else left.conj()


def whole_vector(vector: PETSc.Vec) -> np.ndarray:
    """All entries of a distributed vector on every rank. Collective."""
    comm = vector.getComm().tompi4py()
    mine = vector.getArray(readonly=True).copy()  # PETSc locks what it multiplies
    return np.concatenate(comm.allgather(mine)) if comm.size > 1 else mine
