"""Spectra of large sparse dictionaries: few functions out of many, then the problem of those few without shortcuts.

SLEPc finds eigenfunctions for the diagonal inner product D of `sparse_galerkin`: A v = mu D v takes no factorisation
and no inner solver, and damps what is rough on the scale of the grid. The dense pipeline then solves the problem as
method.md has it, with the Gram matrix itself, in the span of these functions. By the variational principle that
leaves of the damping its square, and all certificates are those of the dense pipeline.

What q functions gain by fitting the noise of n pairs is taken off the eigenvalues. The noise is that of the residual
phi(y) - mu phi(x), and counts where functions are free, sum_i psi_i / D_i. For `reversible` mu is found from
mu + c / mu, see `spectrum._less_optimistic`, with c = q R / (2 n), q the degrees of freedom that D leaves, R the mean
squared residual weighed so. For `dirichlet` the rate is raised by q E / (n d), with E the energy weighed so, of which a
function in one direction out of d finds its share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from kswgd_hpc.dictionary.visited import CombinedDictionary
from kswgd_hpc.eigensolver import converge, whole_vector
from kswgd_hpc.estimators import Estimator, energy
from kswgd_hpc.galerkin import assemble, pair_sums
from kswgd_hpc.records import Pairs, Sample
from kswgd_hpc.sparse_galerkin import (
    SparseSpace,
    diagonal_matrix,
    energy_matrix,
    lagged_matrix,
    product_matrix,
    sparse_space,
)
from kswgd_hpc.spectrum import Space, Spectrum, solve

SUPPORTED = ("reversible", "dirichlet", "edmd")
_TOLERANCE = 1e-8  # of eigenvectors whose error in the eigenvalue is the square of theirs
_MORE = 4  # functions beyond those asked for: their span holds the others better
_UNSURE = 0.25  # of what is taken off for fitted noise, how much is not known


@dataclass(frozen=True)
class Found:
    """The few functions of one dictionary, and the problem in their span.

    count : number of pairs; freedom : degrees of freedom that fit them
    spectrum, small : in the span, as it is; gain : (r,) what the values owe to fitted noise
    """

    count: float
    freedom: float
    spectrum: Spectrum
    small: Space
    gain: np.ndarray


def solve_sparse(
    sample: Sample,
    estimator: Estimator,
    lag_time: float,
    modes: int,
    names: tuple[str, ...],
    overlap: float = 1.0,
    options: Mapping[str, object] | None = None,
) -> tuple[Spectrum, Space]:
    """Leading eigenpairs with error bars. Collective.

    Parameters
    ----------
    sample : the records and a sparse dictionary
    estimator, lag_time, modes, overlap, options : see `spectrum.solve`
    names : of the sums wanted in the span of the eigenfunctions, see `galerkin.assemble`

    Returns
    -------
    the spectrum, whose dictionary combines the functions that data visit, and the space of the eigenfunctions

    Raises
    ------
    SpectrumError : nothing to solve, or the eigensolver failed
    """
    found = _found(sample, estimator, lag_time, modes, names, options)
    spectrum = _corrected(found, estimator, lag_time)
    coarser = sample.dictionary.coarser()
    error = np.full(len(spectrum.rates), np.nan)
    if coarser is not None and coarser.size >= 4:
        rough, factor = replace(sample, dictionary=coarser), sample.dictionary.size / coarser.size
        other = _found(rough, estimator, lag_time, modes, estimator.matrices, options, factor)
        error = _change(spectrum.rates, _corrected(other, estimator, lag_time).rates, estimator.symmetric)
    fitted = np.abs(spectrum.rates - found.spectrum.rates)
    error = np.hypot(error, _UNSURE * fitted)
    error[0] = 0.0
    resolved, floor = _resolved(found, spectrum, estimator, lag_time, overlap)
    return _taken(replace(spectrum, dictionary_error=error, floor=floor), resolved, modes), found.small


def _found(
    sample: Sample, estimator: Estimator, lag_time: float, modes: int, names, options, coarser: float = 1.0
) -> Found:
    space = sparse_space(sample, estimator.name == "reversible", coarser)
    kept = min(modes - 1, space.size - 1)
    count = min(kept + _MORE, space.size - 1)
    functions = _functions(space, estimator, count, options)
    few = replace(sample, dictionary=CombinedDictionary(space.visited, space.P @ functions))
    sums = assemble(few, names)
    spectrum, small = solve(sums, estimator, lag_time, functions.shape[1] + 1, 1e-13)
    spectrum = _slowest(spectrum, estimator, kept)
    full, smoothed = space.degrees()
    freedom = full if estimator.name == "dirichlet" else smoothed
    gain = np.append(0.0, _gain(space, few, estimator, spectrum, freedom))
    return Found(space.count, freedom, spectrum, small, gain)


def _functions(space: SparseSpace, estimator: Estimator, count: int, options) -> np.ndarray:
    """(q, k) real functions that span the leading eigenfunctions and, where they are others, those of the adjoint."""
    without_lag = not estimator.pairs
    A = product_matrix(space, space.gram) if without_lag else lagged_matrix(space)
    B = (energy_matrix if without_lag else diagonal_matrix)(space)
    made = [A, B]
    try:
        right = _pairs(A, B, estimator.symmetric, without_lag, count, options)
        if estimator.symmetric:
            return right.real
        made.append(PETSc.Mat().createTranspose(A))
        left = _pairs(made[-1], B, False, False, count, options)
    finally:
        for matrix in made[::-1]:
            matrix.destroy()
    both = np.concatenate([right.real, right.imag, left.real, left.imag], axis=1)
    both -= space.mean @ both
    # functions of a complex pair are there twice, those of a normal process four times
    root = np.sqrt(space.mean)[:, None]
    U, s, _ = np.linalg.svd(root * both, full_matrices=False)
    return (U / root)[:, s > 1e-6 * s[0]]


def _pairs(A: PETSc.Mat, B: PETSc.Mat, symmetric: bool, iterate: bool, count: int, options) -> np.ndarray:
    """(q, k) eigenvectors of A v = mu B v of the largest values, on every rank, without the constant one. Collective.

    iterate : whether B, which is well conditioned, is not diagonal
    """
    eps = SLEPc.EPS().create(B.getComm())
    start, constant = B.createVecRight(), B.createVecRight()
    first, last = start.getOwnershipRange()
    start.setArray(np.cos(np.arange(first, last) * 0.7 + 0.3) + 1.5)
    constant.set(1.0)
    wanted = count if symmetric else count + 1
    which = SLEPc.EPS.Which
    try:
        eps.setOperators(A, B)
        eps.setProblemType(SLEPc.EPS.ProblemType.GHEP if symmetric else SLEPc.EPS.ProblemType.GNHEP)
        eps.setType(SLEPc.EPS.Type.KRYLOVSCHUR)
        eps.setDimensions(wanted, min(B.getSize()[0], max(2 * wanted, wanted + 40)), PETSc.DECIDE)
        eps.setTolerances(_TOLERANCE, 2000)
        eps.setInitialSpace(start)
        if symmetric:
            eps.setDeflationSpace(constant)
        eps.setWhichEigenpairs(which.LARGEST_REAL if symmetric else which.LARGEST_MAGNITUDE)
        ksp = eps.getST().getKSP()
        ksp.setType(PETSc.KSP.Type.CG if iterate else PETSc.KSP.Type.PREONLY)
        ksp.setTolerances(rtol=1e-10, max_it=2000)
        ksp.getPC().setType(PETSc.PC.Type.JACOBI)
        database = PETSc.Options()
        if not database.hasName("eps_purify"):
            database["eps_purify"] = False  # B is not singular
        for name, value in (options or {}).items():
            database[name] = value
        eps.setFromOptions()
        converge(eps, wanted)
        values, vectors = _collected(eps, B, wanted)
    finally:
        for made in (start, constant, eps):
            made.destroy()
    return vectors if symmetric else np.delete(vectors, np.argmin(np.abs(values - 1)), axis=1)


def _collected(eps: SLEPc.EPS, B: PETSc.Mat, count: int) -> tuple[np.ndarray, np.ndarray]:
    real, imaginary = B.createVecs()
    values, columns = [], []
    for i in range(min(eps.getConverged(), count)):
        values.append(complex(eps.getEigenpair(i, real, imaginary)))
        columns.append(whole_vector(real) + 1j * whole_vector(imaginary))
    real.destroy()
    imaginary.destroy()
    return np.array(values), np.array(columns).T


def _slowest(spectrum: Spectrum, estimator: Estimator, kept: int) -> Spectrum:
    """The first modes of a spectrum; of a complex pair both."""
    count = min(kept + 1, len(spectrum.rates))
    if not estimator.symmetric and count < len(spectrum.rates):
        count += bool(count > 1 and np.isclose(spectrum.rates[count - 1], spectrum.rates[count].conj()))
    return spectrum.kept(count)


def _gain(space: SparseSpace, few: Sample, estimator: Estimator, spectrum: Spectrum, freedom: float) -> np.ndarray:
    """(k,) what fitting the noise has changed the values by, see the head of this file. Collective."""
    k, n = len(spectrum.rates) - 1, space.count
    if not estimator.symmetric or not k:
        return np.zeros(k)  # noise of the two eigenfunctions of a pair, left and right, is independent
    mu = spectrum.eigenvalues[1:].real
    coefficients, offsets = spectrum.coefficients[:, 1:].real, spectrum.offsets[1:].real
    # how free the functions are at a point, itself a function in the span
    free = CombinedDictionary(space.visited, (space.P @ (1 / space.mean))[:, None])

    def weighed(pairs: Pairs) -> np.ndarray:
        x, y = pairs.ends(coefficients, offsets)
        freedoms = free.values(pairs.z)
        if estimator.name == "dirichlet":
            noise = energy(few.dictionary, pairs, coefficients)
        else:
            noise = (y - mu * x) ** 2
        return np.concatenate([freedoms * noise, freedoms], axis=1).sum(axis=0)[None]

    total = pair_sums(few, weighed, (1, k + 1))[0]
    mean = total[:-1] / total[-1]
    if estimator.name == "dirichlet":
        return -freedom * mean / (n * space.sample.coordinates.size)
    c = freedom * mean / (2 * n)
    return mu - (mu + np.sqrt(np.maximum(mu**2 - 4 * c, 0.0))) / 2


def _corrected(found: Found, estimator: Estimator, lag_time: float) -> Spectrum:
    """The spectrum without what it gained by fitting noise."""
    spectrum = found.spectrum
    if not estimator.symmetric:
        return spectrum
    if not estimator.pairs:
        rates = spectrum.rates - found.gain
        return replace(spectrum, rates=rates, eigenvalues=estimator.eigenvalues(rates, lag_time))
    values = spectrum.eigenvalues - found.gain
    rates = np.append(0.0, estimator.rates(values.real[1:], lag_time)).astype(complex)
    errors = spectrum.rates_error * np.append(1.0, np.abs(spectrum.eigenvalues[1:] / values[1:]))
    return replace(spectrum, eigenvalues=values, rates=rates, rates_error=errors)


def _change(rates: np.ndarray, others: np.ndarray, ordered: bool) -> np.ndarray:
    """(k,) distance of each rate to that of another dictionary; NaN where that has none."""
    if not ordered:
        return np.abs(others[None, :] - rates[:, None]).min(axis=1)
    found = np.full(len(rates), np.nan)
    count = min(len(rates), len(others))
    found[:count] = np.abs(rates[:count] - others[:count])
    return found


def _resolved(found: Found, spectrum: Spectrum, estimator: Estimator, lag_time: float, overlap: float):
    """Which modes stand above the noise of all functions, and the floor; see `spectrum._resolved`."""
    if not estimator.pairs:
        return np.ones(len(spectrum.rates), dtype=bool), 0.0
    degrees = found.freedom * (2 if estimator.symmetric else 1)
    floor = float(np.sqrt(degrees / (found.count * min(1.0, overlap))))
    values = spectrum.eigenvalues.real if estimator.symmetric else np.abs(spectrum.eigenvalues)
    return (values > floor) | (np.arange(len(values)) == 0), floor


def _taken(spectrum: Spectrum, resolved: np.ndarray, modes: int) -> Spectrum:
    """Those modes that are resolved."""
    order = np.flatnonzero(resolved)
    order = order[np.argsort(spectrum.rates[order].real.round(12), kind="stable")]
    fewer = {name: value[..., order] for name, value in vars(spectrum).items() if isinstance(value, np.ndarray)}
    return replace(spectrum, **fewer, rejected=max(0, modes - len(order)))
