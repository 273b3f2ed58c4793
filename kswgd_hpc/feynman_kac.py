"""Feynman-Kac: u(x, t) = E_x[f(X_t) exp(-int_0^t c)] from the spectrum; `references` checks it. method.md section 4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kswgd_hpc import streams
from kswgd_hpc.eigensolver import eigenpairs
from kswgd_hpc.ensemble import block_count
from kswgd_hpc.estimators import Estimator
from kswgd_hpc.parallel import cut, local, sum_blocks
from kswgd_hpc.spectrum import Space, Spectrum


@dataclass(frozen=True)
class Case:
    """An entry of the configuration, made executable.

    observable, killing : functions of states (d, batch) -> (batch,); killing None where there is none
    sampler : initial states, see `systems.initial_states`
    method : of the reference, see `references.METHODS`, or auto
    """

    index: int
    name: str
    observable: Callable
    killing: Callable | None
    sampler: Callable
    times: tuple[float, ...]
    trajectories: int
    method: str = "auto"


def predict(
    case: Case, spectrum: Spectrum, space: Space, estimator: Estimator, seed: int, modes: int, lag_time: float
) -> tuple:
    """Spectral prediction at the case's times, averaged over its initial law, and the rates used. Collective.

    With c = 0 the eigenpairs of the spectrum; with killing the eigenpairs of C0^-1 C1^c in the space of the constant
    and the whitened features.
    """
    sums = space.sums
    moments = sums.vectors[f"f:{case.name}"]
    mean_f, correlation = moments[0], moments[1:] - sums.mean * moments[0]
    starts = cut(case.trajectories, block_count(case.trajectories))
    if case.killing is None:
        amplitudes = _plain_amplitudes(spectrum, space, estimator, correlation, mean_f)
        rates = spectrum.rates
        evaluate = spectrum.eigenfunctions
    else:
        rates, right, amplitudes = _killed(case, space, estimator, correlation, mean_f, modes, lag_time)
        coefficients = space.coefficients(right[1:])
        offsets = right[0] - sums.mean @ coefficients

        def evaluate(states):
            return offsets + spectrum.dictionary.values(spectrum.coordinates(states)) @ coefficients

    parts = [
        evaluate(case.sampler(seed, _stream(case), part.start, part.stop)).sum(axis=0)
        for part in local(starts, sums.comm)
    ]
    width = (len(rates),)
    real = sum_blocks(sums.comm, [part.real for part in parts], width, len(starts))
    imaginary = sum_blocks(sums.comm, [part.imag for part in parts], width, len(starts))
    at_start = (real + 1j * imaginary) / case.trajectories
    decay = np.exp(-np.outer(np.array(case.times), rates))
    return (decay @ (amplitudes * at_start)).real, rates


def _plain_amplitudes(
    spectrum: Spectrum, space: Space, estimator: Estimator, correlation: np.ndarray, mean_f: float
) -> np.ndarray:
    """<phi_k, f> of each eigenfunction; for non-symmetric problems through the dual basis within the kept span."""
    if estimator.symmetric:
        return np.concatenate([[mean_f], correlation @ spectrum.coefficients[:, 1:]])
    # f projected on the whitened space and expanded in the eigenvectors of all of it, constant included
    features = np.concatenate([[mean_f], space.components(correlation)])
    whole = space.expand(spectrum.coefficients[:, 1:])
    vectors = np.zeros((len(features), len(spectrum.rates)), dtype=complex)
    vectors[0, 0] = 1.0
    vectors[1:, 1:] = whole
    vectors[0, 1:] = spectrum.offsets[1:] + space.sums.mean @ spectrum.coefficients[:, 1:]
    return np.linalg.lstsq(vectors, features.astype(complex), rcond=None)[0]


def _killed(
    case: Case, space: Space, estimator: Estimator, correlation, mean_f: float, modes: int, lag_time: float
) -> tuple:
    """Rates of L + c, its eigenvectors in (1, whitened features), and the amplitudes of f. Collective."""
    symmetric = estimator.symmetric
    operator = _killed_operator(case, space, estimator)
    features = np.concatenate([[mean_f], space.components(correlation)])
    count = min(modes, len(operator) - 1)
    if not estimator.pairs:
        # L + c, shifted so that the slowest are nearest to zero; the shift is taken off the rates again
        shift = max(0.0, -float(np.linalg.eigvalsh((operator + operator.T) / 2)[0])) + 1.0
        pairs = eigenpairs(operator + shift * np.eye(len(operator)), count, "smallest", symmetric)
        rates = pairs.values - shift
    else:
        part = "largest" if symmetric else "largest_magnitude"
        pairs = eigenpairs(operator, count, part, symmetric)
        keep = pairs.values.real > 0 if symmetric else np.abs(pairs.values) > 0
        pairs = pairs._replace(
            values=pairs.values[keep],
            vectors=pairs.vectors[:, keep],
            left=None if pairs.left is None else pairs.left[:, keep],
        )
        rates = -np.log(pairs.values.astype(complex)) / lag_time
    if symmetric:
        amplitudes = pairs.vectors.T @ features
    else:
        weight = (pairs.left.conj() * pairs.vectors).sum(axis=0)
        amplitudes = (pairs.left.conj().T @ features) / weight
    return space.sums.comm.bcast((np.asarray(rates, dtype=complex), pairs.vectors, amplitudes))


def _killed_operator(case: Case, space: Space, estimator: Estimator) -> np.ndarray:
    """(q + 1, q + 1) matrix of K^c (or of L + c, without a lag) in (1, whitened features). Collective."""
    sums, name = space.sums, f"k:{case.name}"
    total, wx, wy = np.split(sums.vectors[name], [1, sums.size + 1])
    operator = np.empty((space.size + 1,) * 2)
    operator[0, 0] = total[0]
    operator[0, 1:] = space.components(wy - total * sums.mean)
    operator[1:, 0] = space.components(wx - total * sums.mean)
    operator[1:, 1:] = space.project(sums.form(name, wx, wy, total[0]))
    if not estimator.pairs:
        operator[1:, 1:] += space.project(estimator.left(sums))
        if not estimator.symmetric:
            operator[0, 1:] -= space.components(sums.vectors["flux"])
    return (operator + operator.T) / 2 if estimator.symmetric else operator


def _stream(case: Case) -> int:
    return streams.FEYNMAN_KAC + 2 * case.index
