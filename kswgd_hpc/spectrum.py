"""From Galerkin sums to rates and eigenfunctions with error bars: method.md section 2.

The features are centred, so that the constant, eigenfunction of rate zero, is represented exactly and left out. The
Gram matrix is never inverted: its eigenvectors above a relative cut span the space in which the problem is solved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from mpi4py import MPI

from kswgd_hpc.coordinates import Coordinates
from kswgd_hpc.dictionary import Dictionary
from kswgd_hpc.eigensolver import Eigenpairs, dense_matrix, eigenpairs
from kswgd_hpc.errors import SpectrumError
from kswgd_hpc.estimators import Estimator, weighted_sum
from kswgd_hpc.galerkin import Sums, group_sums
from kswgd_hpc.statistics import standard_error


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


class Space:
    """The centred Galerkin space, whitened: an orthonormal basis of it in L2(pi).

    Parameters
    ----------
    sums : means over the pairs
    regularization : directions whose variance is below this fraction of the largest are left out
    coarsening : (p, p') map to fewer functions, whose span is used instead
    capacity : largest dimension kept where the problem is too large to be solved on every rank
    """

    def __init__(self, sums: Sums, regularization: float, coarsening: np.ndarray | None = None, capacity: int = 1024):
        self.sums = sums
        gram = sums.centred(sums.gram(), sums.mean, sums.mean)
        self._basis = self._whiten(gram, coarsening, regularization, capacity)
        self.size = self._basis.shape[1]

    def _whiten(self, gram: np.ndarray, coarsening: np.ndarray | None, cut: float, capacity: int) -> np.ndarray:
        """(p, q) basis W with W^T B W = 1, from the eigenvectors of B above the cut."""
        if coarsening is not None:
            values, vectors = scipy.linalg.eigh(coarsening.T @ self._times(gram, coarsening))
            vectors = coarsening @ vectors
        elif self.sums.replicated:
            values, vectors = scipy.linalg.eigh(gram)
        else:
            matrix = dense_matrix(self.sums.comm, gram, self.sums.size)
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

    def coefficients(self, components: np.ndarray) -> np.ndarray:
        """(p, k) coefficients in the dictionary of functions with components (q, k) in the basis."""
        return self._basis @ components

    def components(self, products: np.ndarray) -> np.ndarray:
        """(q,) or (q, k) inner products with the basis, from those with the centred features, (p,) or (p, k)."""
        return self._basis.T @ products

    def expand(self, coefficients: np.ndarray) -> np.ndarray:
        """(q, k) components in the basis of functions of this space with coefficients (p, k) in the dictionary."""
        return np.linalg.lstsq(self._basis, coefficients, rcond=None)[0]

    def project(self, rows: np.ndarray) -> np.ndarray:
        """(q, q) W^T A W on every rank, A given by this rank's rows. Collective."""
        return self._basis.T @ self._times(rows, self._basis)

    def _times(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Product of a (p, p) matrix, given by rows, with (p, k) columns, on every rank. Collective."""
        product = rows @ columns
        return product if self.sums.replicated else np.concatenate(self.sums.comm.allgather(product))


def small_eigenpairs(matrix: np.ndarray, count: int, part: str, symmetric: bool, options=None):
    """Eigenpairs of a matrix that every rank holds, by SLEPc on each rank alone."""
    handle = dense_matrix(MPI.COMM_SELF, matrix, len(matrix))
    try:
        return eigenpairs(handle, count, part, symmetric, options)
    finally:
        handle.destroy()


def solve(
    sums: Sums,
    estimator: Estimator,
    lag_time: float,
    modes: int,
    regularization: float,
    overlap: float = 1.0,
    options: dict | None = None,
) -> tuple[Spectrum, Space]:
    """Leading eigenpairs with error bars. Collective.

    Parameters
    ----------
    sums : means over the pairs
    estimator : from `estimators.ESTIMATORS`
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
    fitted, vectors, left, residuals = sums.comm.bcast(_eigenpairs(space, estimator, modes - 1, options))
    values = _less_optimistic(space, estimator, fitted)
    rates = estimator.rates(values, lag_time)
    coefficients = space.coefficients(vectors)
    dual = coefficients if left is None else space.coefficients(left)
    spread = _standard_errors(sums, estimator, fitted, coefficients, dual)
    keep, floor = _resolved(space, estimator, values, spread, overlap)
    errors = estimator.rate_errors(values, spread, lag_time)
    offsets = estimator.offsets(sums, values, coefficients)
    dictionary_error = _dictionary_error(sums, estimator, regularization, rates, lag_time, options)
    order = np.flatnonzero(keep)

    def with_constant(array, constant):
        return np.concatenate([[constant], array[order]])

    spectrum = Spectrum(
        with_constant(estimator.eigenvalues(values, lag_time).astype(complex), 1.0),
        with_constant(rates.astype(complex), 0.0),
        with_constant(errors, 0.0),
        with_constant(dictionary_error, 0.0),
        with_constant(residuals, 0.0),
        np.concatenate([np.zeros((sums.size, 1)), coefficients[:, order]], axis=1),
        with_constant(offsets, 1.0),
        max(0, modes - 1 - len(order)),
        floor,
        sums.sample.coordinates,
        sums.sample.dictionary,
    )
    return spectrum, space


def _eigenpairs(space: Space, estimator: Estimator, count: int, options) -> tuple:
    """Values by ascending rate, vectors of unit norm and fixed sign, left vectors with w^H v = 1, residuals."""
    matrix = space.project(estimator.left(space.sums))
    basis = estimator.compress(matrix, space.coefficients(np.eye(space.size)), count)
    if basis is not None:
        matrix = basis.T @ matrix @ basis
    pairs = _leading(matrix, min(count, len(matrix)), estimator, options)
    values, vectors, left = pairs.values, pairs.vectors, pairs.left
    if basis is not None:
        vectors, left = basis @ vectors, basis @ left
    vectors = _fix_phase(vectors)
    if left is not None:
        left = left / np.conj((left.conj() * vectors).sum(axis=0))
    return values, vectors, left, pairs.residuals


def _leading(matrix: np.ndarray, count: int, estimator: Estimator, options) -> Eigenpairs:
    """The `count` pairs of the slowest rates in order; of a complex pair both."""
    if estimator.symmetric:
        pairs = small_eigenpairs((matrix + matrix.T) / 2, count, estimator.part, True, options)
        return pairs.taken(estimator.order(pairs.values)[:count])
    # those nearest to zero are not all of the slowest, where there is rotation
    wanted = min(2 * count, len(matrix)) if estimator.part == "smallest" else count
    pairs = small_eigenpairs(matrix, wanted, estimator.part, False, options)
    order = estimator.order(pairs.values)
    splits = count < len(order) and np.isclose(pairs.values[order[count - 1]], pairs.values[order[count]].conj())
    return pairs.taken(order[: count + 1] if splits else order[:count])


def _fix_phase(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors whose largest component is real and positive."""
    vectors = vectors / np.linalg.norm(vectors, axis=0)
    pivot = vectors[np.argmax(np.abs(vectors), axis=0), np.arange(vectors.shape[1])]
    return vectors * (np.abs(pivot) / pivot)


def _less_optimistic(space: Space, estimator: Estimator, values: np.ndarray) -> np.ndarray:
    """Eigenvalues without what was gained by fitting the sample, for the variational estimator.

    An eigenfunction bends towards the noise of the q functions that are not resolved. Their coupling to it has variance
    (1 - mu^2) / (2 n) each for n pairs, which raises mu to mu + c / mu, c = q (1 - mu^2) / (2 n): the position of an
    outlier of a noisy symmetric matrix (Benaych-Georges and Nadakuditi 2011), solved here for mu.
    """
    if estimator.name != "reversible":
        return values
    unresolved = max(0, space.size - len(values))
    c = unresolved * (1 - values**2) / (2 * space.sums.count)
    return np.where(values > 0, (values + np.sqrt(np.maximum(values**2 - 4 * c, 0.0))) / 2, values)


def _standard_errors(sums: Sums, estimator: Estimator, values, right, left) -> np.ndarray:
    """(k,) standard errors of the eigenvalues from s_g = w^H (A_g - mu B_g) v over independent groups. Collective."""
    influence, sample = estimator.influence(sums, values, right, left), sums.sample
    if sample.weight is not None:
        influence, sample = sample.weight.with_own_error(sums, influence, len(values)), sample.weight.sees(sample)
    deviations, _count = group_sums(sample, lambda pairs: weighted_sum(influence(pairs), pairs.weight), len(values))
    return standard_error(deviations / sums.count)


def _resolved(space: Space, estimator: Estimator, values, spread, overlap: float) -> tuple[np.ndarray, float]:
    """Which pairs stand above sampling noise, and the floor.

    A noise-only problem of q whitened functions and n pairs has eigenvalues up to sqrt(2 q / n) when symmetrised
    (semicircle law) and sqrt(q / n) when not (circular law): below that, mu is noise and has no rate.
    """
    if not estimator.pairs:
        return np.ones(len(values), dtype=bool), 0.0
    degrees = space.size * (2 if estimator.symmetric else 1)
    floor = float(np.sqrt(degrees / (space.sums.count * min(1.0, overlap))))
    size = values if estimator.symmetric else np.abs(values)
    return size > np.maximum(floor, np.nan_to_num(2 * spread)), floor


def _dictionary_error(sums: Sums, estimator: Estimator, regularization: float, rates, lag_time, options) -> np.ndarray:
    """(k,) change of each rate when a coarser dictionary of half the size is used. Collective."""
    error = np.full(len(rates), np.nan)
    if sums.size < 4:
        return error
    coarse = Space(sums, regularization, sums.sample.dictionary.coarsening())
    count = min(len(rates), coarse.size)
    fitted = sums.comm.bcast(_eigenpairs(coarse, estimator, count, options)[0])
    found = estimator.rates(_less_optimistic(coarse, estimator, fitted), lag_time)
    if not estimator.symmetric:  # complex rates have no order to compare them in: the nearest
        return np.abs(found[None, :] - rates[:, None]).min(axis=1)
    with np.errstate(invalid="ignore"):
        error[: len(found)] = np.abs(found - rates[: len(found)])
    return error
