"""From Galerkin sums to rates and eigenfunctions with error bars: method.md section 2.

The features are centred, so that the constant, eigenfunction of rate zero, is represented exactly and left out. The
Gram matrix is never inverted: a pivoted Cholesky factorisation picks the functions that span the space in which the
problem is solved, and its triangular factor makes them orthonormal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from kswgd_hpc.coordinates import Coordinates
from kswgd_hpc.dictionary import Dictionary
from kswgd_hpc.eigensolver import Eigenpairs, Operator, eigenpairs
from kswgd_hpc.enrichment import enriched
from kswgd_hpc.errors import SpectrumError
from kswgd_hpc.estimators import Estimator, weighted_sum
from kswgd_hpc.galerkin import Form, Sums, coarsened, group_sums
from kswgd_hpc.statistics import standard_error
from kswgd_hpc.whitening import Factor, LocalFactor, SharedFactor

T = TypeVar("T")


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
    left : (p, r), left_offsets : (r,) of the left eigenfunctions, <left_k, phi_k> = 1; those of the adjoint
    rejected : number of pairs asked for that sampling noise does not allow, floor : the noise floor of mu
    """

    eigenvalues: np.ndarray
    rates: np.ndarray
    rates_error: np.ndarray
    dictionary_error: np.ndarray
    residuals: np.ndarray
    coefficients: np.ndarray
    offsets: np.ndarray
    left: np.ndarray
    left_offsets: np.ndarray
    rejected: int
    floor: float
    coordinates: Coordinates
    dictionary: Dictionary

    def eigenfunctions(self, states: np.ndarray) -> np.ndarray:
        """(n, r) values at states (d, n)."""
        return self.offsets + self.dictionary.values(self.coordinates(states)) @ self.coefficients

    def of_features(self, psi: np.ndarray) -> np.ndarray:
        """(n, r) real parts of the values at states with features (n, p)."""
        return self.offsets.real + psi @ self.coefficients.real

    def kept(self, count: int) -> Spectrum:
        """The first `count` modes alone; the others count as rejected."""
        fewer = {name: value[..., :count] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **fewer, rejected=self.rejected + len(self.rates) - count)


class Space:
    """The centred Galerkin space with an orthonormal basis of it in L2(pi), psi[pivots] R^-1 less its mean.

    Every rank gets the same answers; up to `galerkin.REPLICATED` functions from its own arithmetic, beyond from that of
    the ranks that hold rows. All calls are collective.

    Parameters
    ----------
    sums : means over the pairs
    regularization : a function is left out that adds less variance to the span of others than this fraction of the
        Frobenius norm of the Gram matrix
    """

    def __init__(self, sums: Sums, regularization: float):
        self.sums = sums
        self._factor: Factor | None = None
        self.pivots = self.shared(lambda: self._factorise(regularization))
        self.size = len(self.pivots)

    def _factorise(self, regularization: float) -> np.ndarray:
        gram = self.sums.gram()
        cut = regularization * gram.norm()
        self._factor = factorised(gram, np.arange(self.sums.size), cut)
        return self._factor.pivots

    def shared(self, work: Callable[[], T]) -> T:
        """Result of work() by the ranks that hold the matrices, on every rank, in the bits of the first. Collective."""
        working = self.sums.replicated or self.sums.owners is not None
        return self.sums.comm.bcast(work() if working else None)

    def coefficients(self, components: np.ndarray) -> np.ndarray:
        """(p,) or (p, k) coefficients in the dictionary of functions with components (q,) or (q, k) in the basis."""
        found = np.zeros((self.sums.size, *components.shape[1:]), dtype=components.dtype)
        found[self.pivots] = self.shared(lambda: self._by_parts(self._factor.solve, components))
        return found

    def components(self, products: np.ndarray) -> np.ndarray:
        """(q,) or (q, k) inner products with the basis, from those with the centred features, (p,) or (p, k)."""
        return self.shared(lambda: self._factor.solve(products[self.pivots], transposed=True))

    def expand(self, coefficients: np.ndarray) -> np.ndarray:
        """(q,) or (q, k) components in the basis of functions made by `coefficients`."""
        return self.shared(lambda: self._by_parts(self._factor.multiply, coefficients[self.pivots]))

    @staticmethod
    def _by_parts(function: Callable, values: np.ndarray) -> np.ndarray:
        """A real linear function of real or complex values."""
        if not np.iscomplexobj(values):
            return function(values)
        return function(np.ascontiguousarray(values.real)) + 1j * function(np.ascontiguousarray(values.imag))

    def project(self, form: Form) -> np.ndarray:
        """(q, q) matrix of a form in the basis; for problems that every rank holds."""
        if not self.sums.replicated:
            raise SpectrumError(f"a matrix of {self.sums.size} functions is too large for one rank")
        return self._whitened(form, False)

    def operator(self, form: Form, symmetric: bool) -> np.ndarray | Operator:
        """A form in the basis: its matrix where one rank holds all rows, else an operator on the ranks that do."""
        if form.matrix.shape[0] == self.sums.size:
            return self._whitened(form, symmetric)
        return Whitened(self._factor, form)

    def _whitened(self, form: Form, symmetric: bool) -> np.ndarray:
        part = form.dense()
        if np.array_equal(self.pivots, np.arange(self.size)):
            part = part[: self.size, : self.size]
        else:
            part = part[self.pivots][:, self.pivots]
        return self._factor.whiten_symmetric(part) if symmetric else self._factor.whiten(part)


class Whitened:
    """R^-T A R^-1 of a form A on the pivots, applied to vectors on the ranks that hold rows of it."""

    def __init__(self, factor: Factor, form: Form):
        self.comm, self.size = form.sums.owners, len(factor.pivots)
        self._factor, self._form, self._inner = factor, form, None

    def __call__(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        """The operator or its transpose times right, (q,) or (q, k)."""
        whole = np.zeros((self._form.sums.size, *right.shape[1:]))
        whole[self._factor.pivots] = self._factor.solve(right)
        return self._factor.solve(self._form.times(whole, transposed)[self._factor.pivots], transposed=True)

    def inverse(self, right: np.ndarray) -> np.ndarray:
        """The inverse of a positive definite operator times right, (q,) or (q, k): R A^-1 R^T."""
        order = np.argsort(self._factor.pivots)
        if self._inner is None:
            norm = self._form.norm()
            self._inner = factorised(self._form, self._factor.pivots[order], np.finfo(float).eps * norm)
        places = order[self._inner.pivots]
        inner = self._factor.multiply(right, transposed=True)[places]
        found = np.zeros_like(right)
        found[places] = self._inner.solve(self._inner.solve(inner, transposed=True))
        return self._factor.multiply(found)


def factorised(form: Form, chosen: np.ndarray, cut: float) -> Factor:
    """Factor of a symmetric form on chosen functions, in ascending order. Collective on the ranks that hold rows."""
    sums = form.sums
    if form.matrix.shape[0] == sums.size:
        whole = form.dense()
        return LocalFactor(whole if len(chosen) == sums.size else whole[chosen][:, chosen], cut)
    first, last = np.searchsorted(chosen, [sums.rows.start, sums.rows.stop])
    mine = chosen[first:last] - sums.rows.start
    return SharedFactor(
        sums.owners, int(first), int(last), len(chosen), lambda part: form.columns(chosen[part])[mine], cut
    )


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
    found, space = fit(sums, estimator, lag_time, modes, regularization, overlap, options)
    values, rates = found.values, estimator.rates(found.values, lag_time)
    offsets = estimator.offsets(sums, values, found.right)
    errors = estimator.rate_errors(values, found.spread, lag_time)
    dictionary_error = _dictionary_error(sums, estimator, regularization, rates, lag_time, options)
    order = np.flatnonzero(found.resolved)

    def with_constant(array, constant):
        return np.concatenate([[constant], array[order]])

    spectrum = Spectrum(
        with_constant(estimator.eigenvalues(values, lag_time).astype(complex), 1.0),
        with_constant(rates.astype(complex), 0.0),
        with_constant(errors, 0.0),
        with_constant(dictionary_error, 0.0),
        with_constant(found.residuals, 0.0),
        np.concatenate([np.zeros((sums.size, 1)), found.right[:, order]], axis=1),
        with_constant(offsets, 1.0),
        np.concatenate([np.zeros((sums.size, 1)), found.left[:, order]], axis=1),
        with_constant(-sums.mean @ found.left, 1.0),
        max(0, modes - 1 - len(order)),
        found.floor,
        sums.sample.coordinates,
        sums.sample.dictionary,
    )
    return spectrum, space


@dataclass(frozen=True)
class Fit:
    """Solutions of the Galerkin problem, slowest first, the constant one not among them.

    fitted : (k,) eigenvalues of the sample; values : (k,) less what they gained by fitting it
    right, left : (p, k) coefficients of the eigenfunctions and of those of the adjoint
    residuals : (k,) of the eigensolver; spread : (k,) standard errors of the values
    resolved : (k,) which stand above the noise; floor : of it
    """

    fitted: np.ndarray
    values: np.ndarray
    right: np.ndarray
    left: np.ndarray
    residuals: np.ndarray
    spread: np.ndarray
    resolved: np.ndarray
    floor: float


def fit(
    sums: Sums,
    estimator: Estimator,
    lag_time: float,
    modes: int,
    regularization: float,
    overlap: float = 1.0,
    options: dict | None = None,
) -> tuple[Fit, Space]:
    """The eigenpairs themselves; arguments as for `solve`. Collective."""
    space = Space(sums, regularization)
    fitted, vectors, left, residuals = space.shared(lambda: leading_pairs(space, estimator, modes - 1, options))
    values = _less_optimistic(space, estimator, fitted)
    right = space.coefficients(vectors)
    dual = right if left is None else space.coefficients(left)
    spread = _standard_errors(sums, estimator, fitted, right, dual)
    resolved, floor = _resolved(space, estimator, values, spread, overlap)
    return Fit(fitted, values, right, dual, residuals, spread, resolved, floor), space


def leading_pairs(space: Space, estimator: Estimator, count: int, options=None, both: bool = True) -> tuple:
    """Values by ascending rate, vectors of unit norm and fixed sign, left ones with w^H v = 1 if `both`, residuals."""
    operator, basis = space.operator(estimator.left(space.sums), estimator.symmetric), None
    if estimator.limited:
        basis = estimator.compress(operator, space.expand(np.eye(space.sums.size)), count)
        operator = basis.T @ operator @ basis
    pairs = _leading(operator, space.size if basis is None else basis.shape[1], estimator, count, options, both)
    values, vectors, left = pairs.values, pairs.vectors, pairs.left
    if basis is not None:
        vectors, left = basis @ vectors, None if left is None else basis @ left
    vectors = _fix_phase(vectors)
    if left is not None:
        left = left / np.conj((left.conj() * vectors).sum(axis=0))
    return values, vectors, left, pairs.residuals


def _leading(operator: np.ndarray | Operator, size: int, estimator: Estimator, count: int, options, both) -> Eigenpairs:
    """The `count` pairs of the slowest rates in order, of an operator on `size` components; of a complex pair both."""
    count = min(count, size)
    # those nearest to zero are not all of the slowest, where there is rotation
    wanted = count if estimator.symmetric or estimator.part != "smallest" else min(2 * count, size)
    pairs = eigenpairs(operator, wanted, estimator.part, estimator.symmetric, options, both)
    order = estimator.order(pairs.values)
    if estimator.symmetric:
        return pairs.taken(order[:count])
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
    unresolved = space.size - np.count_nonzero(values > np.sqrt(2 * space.size / space.sums.count))
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
    (semicircle law) and sqrt(q / n) when not (circular law): below that, mu is noise and has no rate. Nor has a mu that
    lies beyond one by two of its errors: the semigroup is a contraction, and too few pairs were fitted too well.
    """
    if not estimator.pairs:
        return np.ones(len(values), dtype=bool), 0.0
    degrees = space.size * (2 if estimator.symmetric else 1)
    floor = float(np.sqrt(degrees / (space.sums.count * min(1.0, overlap))))
    size = values if estimator.symmetric else np.abs(values)
    twice = np.nan_to_num(2 * spread)
    return (size > np.maximum(floor, twice)) & (np.abs(values) <= 1 + twice), floor


def _dictionary_error(sums: Sums, estimator: Estimator, regularization: float, rates, lag_time, options) -> np.ndarray:
    """(k,) change of each rate with a richer dictionary, or with one of half the size. Collective."""

    def by(other: Sums) -> np.ndarray:
        space = Space(other, regularization)
        count = min(len(rates), space.size)
        fitted = space.shared(lambda: leading_pairs(space, estimator, count, options, both=False)[0])
        return estimator.rates(_less_optimistic(space, estimator, fitted), lag_time)

    both = enriched(sums, estimator)
    if both is not None:
        return _distances(rates if both[0] is sums else by(both[0]), by(both[1]), len(rates))
    if sums.size < 4:
        return np.full(len(rates), np.nan)
    return _distances(rates, by(coarsened(sums, sums.sample.dictionary.coarsening())), len(rates))


def _distances(rates: np.ndarray, others: np.ndarray, count: int) -> np.ndarray:
    """(count,) distance of each rate from its counterpart, NaN where there is none.

    Real rates are compared in their order, so that a missing one shows; complex ones have none: the nearest.
    """
    found = np.full(count, np.nan)
    rotating = any((np.abs(some.imag) > 1e-9 * np.abs(some)).any() for some in (rates, others))
    with np.errstate(invalid="ignore"):
        if rotating:
            found[: len(rates)] = np.abs(others[None, :] - rates[:, None]).min(axis=1)
        else:
            both = min(count, len(rates), len(others))
            found[:both] = np.abs(np.sort(others.real)[:both] - np.sort(rates.real)[:both])
    return found
