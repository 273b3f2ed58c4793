"""From Galerkin sums to rates and eigenfunctions with error bars: method.md section 2.

The features are centred, so that the constant, eigenfunction of rate zero, is represented exactly and left out. The
Gram matrix is never inverted: its eigenvectors above a relative cut span the space in which the problem is solved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from mpi4py import MPI
from petsc4py import PETSc

from kswgd_hpc.coordinates import Coordinates
from kswgd_hpc.dictionary import Dictionary
from kswgd_hpc.eigensolver import eigenpairs
from kswgd_hpc.errors import SpectrumError
from kswgd_hpc.galerkin import Moments, dense_matrix, row_ranges, total_matrix, total_vector

# up to this many functions every rank solves the whole problem itself, in the same bits; beyond, SLEPc distributes it
REDUNDANT_SIZE = 2048


@dataclass(frozen=True)
class Spectrum:
    """Eigenpairs of the generator, the constant one first.

    Eigenfunction k is phi_k(x) = offsets[k] + psi(x) @ coefficients[:, k], of unit norm in L2(pi).

    Parameters
    ----------
    eigenvalues : (r,) complex mu at the lag
    rates : (r,) complex lambda, 1/time, ascending real part
    rates_error : (r,) standard error of the rates from the spread over groups of trajectories
    dictionary_error : (r,) change of each rate when half the dictionary is left out
    residuals : (r,) algebraic residual of the eigensolver
    coefficients : (p, r), offsets : (r,)
    rejected : number of pairs asked for that sampling noise does not allow, floor : the noise floor of mu
    """

    eigenvalues: np.ndarray
    rates: np.ndarray
    rates_error: np.ndarray
    dictionary_error: np.ndarray
    residuals: np.ndarray
    coefficients: np.ndarray
    offsets: np.ndarray
    rejected: int
    floor: float
    coordinates: Coordinates
    dictionary: Dictionary

    def eigenfunctions(self, states: np.ndarray) -> np.ndarray:
        """(n, r) values at states (d, n)."""
        return self.offsets + self.dictionary.values(self.coordinates(states)) @ self.coefficients


@dataclass(frozen=True)
class Sums:
    """Totals over all groups, and this rank's groups: what `solve` and Feynman-Kac predictions work on.

    `matrices` hold distributed PETSc matrices, owned by the pipeline, which destroys them by `destroy`.
    """

    comm: MPI.Comm
    estimator: str
    names: tuple[str, ...]
    size: int
    count: float
    terms: int
    x: np.ndarray
    y: np.ndarray
    matrices: dict[str, PETSc.Mat]
    groups: list[Moments]

    @property
    def galerkin(self) -> dict[str, PETSc.Mat]:
        """The matrices of the Galerkin problem itself."""
        return {name: self.matrices[name] for name in self.names}

    @property
    def mean(self) -> np.ndarray:
        """(p,) mean of the features in the inner product of the estimator."""
        return (self.x + self.y) / 2 if "plus" in self.matrices else self.x

    def vector(self, name: str, length: int) -> np.ndarray:
        """Total of a named vector, divided by the number of pairs. Collective."""
        return total_vector(self.comm, self.groups, name, length, self.terms) / self.count

    def destroy(self) -> None:
        """Free the PETSc matrices. Collective."""
        for matrix in self.matrices.values():
            matrix.destroy()


def reduce_sums(
    comm: MPI.Comm,
    estimator: str,
    names: tuple[str, ...],
    groups: list[Moments],
    size: int,
    extra: tuple[str, ...] = (),
) -> Sums:
    """Reduce the groups of all ranks. Collective.

    Parameters
    ----------
    estimator : see `galerkin.MATRICES`
    names : matrices of the Galerkin problem
    groups : moments of this rank's groups
    size : p
    extra : further matrices to total, such as the killed ones of Feynman-Kac
    """
    terms = comm.allreduce(len(groups))
    count = float(comm.allreduce(round(sum(g.count for g in groups))))
    if count < 2:
        raise SpectrumError("no snapshot pairs: ensemble.duration is too short for ensemble.lag_time")
    x = total_vector(comm, groups, "x", size, terms) / count
    y = total_vector(comm, groups, "y", size, terms) / count
    matrices = {name: total_matrix(comm, groups, name, size, terms) for name in (*names, *extra)}
    return Sums(comm, estimator, tuple(names), size, count, terms, x, y, matrices, groups)


def gram_matrix(parts: dict[str, np.ndarray]) -> np.ndarray:
    """Sum of psi psi^T from the sums that an estimator keeps: over pair starts, or over both ends."""
    return parts["c0"] if "c0" in parts else (parts["plus"] + parts["minus"]) / 4


def _problem(estimator: str, parts: dict, count: float, x, y, mean, rows: slice):
    """Rows of the centred left and right matrices A, B of the Galerkin problem, sums over `count` pairs.

    `parts` maps matrix names to arrays of those rows; x, y are the sums of the features over the same pairs.
    """
    outer = np.outer(mean[rows], mean) * count
    if "plus" in parts:
        x = y = (x + y) / 2
    gram = gram_matrix(parts) - np.outer(mean[rows], x) - np.outer(x[rows], mean) + outer
    if estimator == "dirichlet":
        return parts["form"], gram
    product = (parts["plus"] - parts["minus"]) / 4 if estimator == "reversible" else parts["c1"]
    return product - np.outer(mean[rows], y) - np.outer(x[rows], mean) + outer, gram


class Space:
    """The centred Galerkin space, whitened: an orthonormal basis W of it in L2(pi).

    Parameters
    ----------
    sums : totals
    regularization : directions whose variance is below this fraction of the largest are left out
    coarsening : (p, p') map to fewer functions, whose span is used instead
    capacity : largest dimension kept where the problem is too large to be solved on every rank
    """

    def __init__(self, sums: Sums, regularization: float, coarsening: np.ndarray | None = None, capacity: int = 1024):
        self.sums = sums
        self._rows = slice(*row_ranges(sums.size, sums.comm)[sums.comm.rank])
        parts = {name: matrix.getDenseArray() / sums.count for name, matrix in sums.galerkin.items()}
        self._left, gram = _problem(sums.estimator, parts, 1.0, sums.x, sums.y, sums.mean, self._rows)
        self.basis = self._whiten(gram, coarsening, regularization, capacity)

    def _whiten(self, gram_rows: np.ndarray, coarsening: np.ndarray | None, cut: float, capacity: int) -> np.ndarray:
        """(p, q) basis W with W^T B W = 1, from the eigenvectors of B above the cut."""
        if coarsening is not None:
            values, vectors = scipy.linalg.eigh(coarsening.T @ self._times(gram_rows, coarsening))
            vectors = coarsening @ vectors
        elif self.sums.size <= REDUNDANT_SIZE:
            values, vectors = scipy.linalg.eigh(self._gather(gram_rows))
        else:
            matrix = dense_matrix(self.sums.comm, gram_rows, self.sums.size)
            try:
                pairs = eigenpairs(matrix, min(capacity, self.sums.size - 1), "largest")
            finally:
                matrix.destroy()
            values, vectors = pairs.values[::-1], pairs.vectors[:, ::-1]
        keep = values > cut * values[-1]
        if not keep.any() or values[-1] <= 0:
            raise SpectrumError("all features are constant on the ensemble: nothing to solve")
        basis = vectors[:, keep] / np.sqrt(values[keep])
        return self.sums.comm.bcast(np.ascontiguousarray(basis[:, ::-1]))

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        """Rows of all ranks on every rank."""
        return np.concatenate(self.sums.comm.allgather(np.ascontiguousarray(rows)))

    def _times(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Product of a row-distributed (p, p) matrix with (p, q) columns, on every rank: the same bits anywhere
        up to REDUNDANT_SIZE, and beyond without any rank holding the matrix. Collective."""
        if self.sums.size <= REDUNDANT_SIZE:
            return self._gather(rows) @ columns
        return self._gather(rows @ columns)

    def project(self, rows: np.ndarray) -> np.ndarray:
        """(q, q) W^T A W on every rank, A given by this rank's rows. Collective."""
        return self.basis.T @ self._times(rows, self.basis)

    def left_matrix(self) -> np.ndarray:
        """(q, q) matrix of the estimator's left-hand side in this basis. Collective."""
        return self.project(self._left)

    def project_killed(self, matrix: PETSc.Mat, wx: np.ndarray, wy: np.ndarray, total: float) -> np.ndarray:
        """(q, q) of the sum of omega psi(x) psi(y)^T with features centred. Collective.

        Parameters
        ----------
        matrix : the distributed sum
        wx, wy : (p,) means of omega psi(x) and omega psi(y); total : mean of omega
        """
        mean, local = self.sums.mean, self._rows
        rows = matrix.getDenseArray() / self.sums.count - np.outer(mean[local], wy) - np.outer(wx[local], mean)
        return self.project(rows + total * np.outer(mean[local], mean))

    def project_flux(self, matrix: PETSc.Mat, drift: np.ndarray) -> np.ndarray:
        """(q, q) mean of (psi - mean) (G psi)^T in the basis; drift (q,) is the mean of G psi in it. Collective."""
        return self.project(matrix.getDenseArray() / self.sums.count) - np.outer(self.sums.mean @ self.basis, drift)


def small_eigenpairs(matrix: np.ndarray, count: int, part: str, symmetric: bool, options=None):
    """Eigenpairs of a matrix that every rank holds, by SLEPc on each rank alone."""
    handle = dense_matrix(MPI.COMM_SELF, matrix, len(matrix))
    try:
        return eigenpairs(handle, count, part, symmetric, options)
    finally:
        handle.destroy()


def solve(
    sums: Sums,
    coordinates: Coordinates,
    dictionary: Dictionary,
    lag_time: float,
    modes: int,
    regularization: float,
    overlap: float = 1.0,
    options: dict | None = None,
) -> tuple[Spectrum, Space]:
    """Leading eigenpairs with error bars. Collective.

    Parameters
    ----------
    sums : totals of the Galerkin sums
    lag_time : tau; for `dirichlet` only the meaning of `eigenvalues`
    modes : pairs wanted, the constant one included
    regularization : see `Space`
    overlap : stride over lag where below one: pairs that overlap in time carry less independent noise
    options : PETSc options

    Returns
    -------
    the spectrum and the space it was computed in

    Raises
    ------
    SpectrumError : nothing to solve, or the eigensolver failed
    """
    space = Space(sums, regularization)
    fitted, vectors, left, residuals = sums.comm.bcast(_eigenpairs(space, modes - 1, options))
    values = _less_optimistic(space, fitted)
    rates = _to_rates(sums.estimator, values, lag_time)
    coefficients = space.basis @ vectors
    dual = coefficients if left is None else space.basis @ left
    spread = _standard_errors(sums, fitted, coefficients, dual)
    keep, floor = _resolved(sums, space, values, spread, overlap)
    if sums.estimator == "dirichlet":
        errors, eigenvalues = spread, np.exp(-values * lag_time)
    else:
        errors, eigenvalues = spread / (np.abs(values) * lag_time), values
    offsets = -sums.mean @ coefficients
    if sums.estimator == "edmd":
        offsets = offsets + (sums.y - sums.x) @ coefficients / (values - 1)
    dictionary_error = _dictionary_error(sums, dictionary, regularization, rates, lag_time, options)
    order = np.flatnonzero(keep)

    def with_constant(array, constant):
        return np.concatenate([[constant], array[order]])

    spectrum = Spectrum(
        with_constant(eigenvalues.astype(complex), 1.0),
        with_constant(rates.astype(complex), 0.0),
        with_constant(errors, 0.0),
        with_constant(dictionary_error, 0.0),
        with_constant(residuals, 0.0),
        np.concatenate([np.zeros((sums.size, 1)), coefficients[:, order]], axis=1),
        with_constant(offsets, 1.0),
        max(0, modes - 1 - len(order)),
        floor,
        coordinates,
        dictionary,
    )
    return spectrum, space


def _eigenpairs(space: Space, count: int, options) -> tuple:
    """Values by ascending rate, vectors of unit norm and fixed sign, left vectors with w^H v = 1, residuals."""
    estimator, matrix = space.sums.estimator, space.left_matrix()
    count = min(count, len(matrix))
    if estimator == "edmd":
        pairs = small_eigenpairs(matrix, count, "largest_magnitude", False, options)
        order = np.lexsort((-pairs.values.imag, -np.round(np.abs(pairs.values), 12)))
        # a complex pair is kept whole
        splits = count < len(order) and np.isclose(pairs.values[order[count - 1]], pairs.values[order[count]].conj())
        order = order[: count + 1] if splits else order[:count]
        values, vectors, left = pairs.values[order], pairs.vectors[:, order], pairs.left[:, order]
        vectors = _fix_phase(vectors)
        left = left / np.conj((left.conj() * vectors).sum(axis=0))
        return values, vectors, left, pairs.residuals[order]
    part = "smallest" if estimator == "dirichlet" else "largest"
    pairs = small_eigenpairs((matrix + matrix.T) / 2, count, part, True, options)
    order = np.argsort(pairs.values if part == "smallest" else -pairs.values, kind="stable")[:count]
    return pairs.values[order], _fix_phase(pairs.vectors[:, order]), None, pairs.residuals[order]


def _fix_phase(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors whose largest component is real and positive."""
    vectors = vectors / np.linalg.norm(vectors, axis=0)
    pivot = vectors[np.argmax(np.abs(vectors), axis=0), np.arange(vectors.shape[1])]
    return vectors * (np.abs(pivot) / pivot)


def _less_optimistic(space: Space, values: np.ndarray) -> np.ndarray:
    """Eigenvalues without what was gained by fitting the sample, for the variational estimator.

    An eigenfunction bends towards the noise of the q functions that are not resolved. Their coupling to it has variance
    (1 - mu^2) / (2 n) each for n pairs, which raises mu to mu + c / mu, c = q (1 - mu^2) / (2 n): the position of an
    outlier of a noisy symmetric matrix (Benaych-Georges and Nadakuditi 2011), solved here for mu.
    """
    if space.sums.estimator != "reversible":
        return values
    unresolved = max(0, space.basis.shape[1] - len(values))
    c = unresolved * (1 - values**2) / (2 * space.sums.count)
    return np.where(values > 0, (values + np.sqrt(np.maximum(values**2 - 4 * c, 0.0))) / 2, values)


def _to_rates(estimator: str, values: np.ndarray, lag_time: float) -> np.ndarray:
    """lambda = -log(mu) / tau, principal branch; infinite where mu <= 0 in a symmetric problem."""
    if estimator == "dirichlet":
        return values
    if estimator == "edmd":
        return -np.log(values) / lag_time
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, -np.log(np.maximum(values, 1e-300)) / lag_time, np.inf)


def _standard_errors(sums: Sums, values, right, left) -> np.ndarray:
    """(k,) standard errors of the eigenvalues from s_g = w^H (A_g - mu B_g) v over independent groups. Collective."""
    mine = [_group_deviations(sums, group, values, right, left) for group in sums.groups if group.count]
    deviations = np.concatenate(sums.comm.allgather(np.array(mine).reshape(-1, len(values))))
    groups = len(deviations)
    if groups < 2:
        return np.full(len(values), np.nan)
    return np.sqrt(groups / (groups - 1) * (np.abs(deviations) ** 2).sum(axis=0))


def _group_deviations(sums: Sums, group: Moments, values, right, left) -> np.ndarray:
    A, B = _problem(
        sums.estimator,
        {name: group.matrices[name] for name in sums.galerkin},
        group.count,
        group.vectors["x"],
        group.vectors["y"],
        sums.mean,
        slice(0, sums.size),
    )
    form_a = (left.conj() * (A @ right)).sum(axis=0)
    form_b = (left.conj() * (B @ right)).sum(axis=0)
    return (form_a - values * form_b) / sums.count


def _resolved(sums: Sums, space: Space, values, spread, overlap: float) -> tuple[np.ndarray, float]:
    """Which pairs stand above sampling noise, and the floor.

    A noise-only problem of q whitened functions and n pairs has eigenvalues up to sqrt(2 q / n) when symmetrised
    (semicircle law) and sqrt(q / n) when not (circular law): below that, mu is noise and has no rate.
    """
    if sums.estimator == "dirichlet":
        return np.ones(len(values), dtype=bool), 0.0
    degrees = space.basis.shape[1] * (2 if sums.estimator == "reversible" else 1)
    floor = float(np.sqrt(degrees / (sums.count * min(1.0, overlap))))
    size = values if sums.estimator == "reversible" else np.abs(values)
    return size > np.maximum(floor, np.nan_to_num(2 * spread)), floor


def _dictionary_error(
    sums: Sums, dictionary: Dictionary, regularization: float, rates, lag_time, options
) -> np.ndarray:
    """(k,) change of each rate when a coarser dictionary of half the size is used. Collective."""
    error = np.full(len(rates), np.nan)
    if dictionary.size < 4:
        return error
    coarse = Space(sums, regularization, dictionary.coarsening())
    count = min(len(rates), coarse.basis.shape[1])
    values = _less_optimistic(coarse, sums.comm.bcast(_eigenpairs(coarse, count, options)[0]))
    found = _to_rates(sums.estimator, values, lag_time)
    if sums.estimator == "edmd":  # complex rates have no order to compare them in: the nearest
        return np.abs(found[None, :] - rates[:, None]).min(axis=1)
    with np.errstate(invalid="ignore"):
        error[: len(found)] = np.abs(found - rates[: len(found)])
    return error
