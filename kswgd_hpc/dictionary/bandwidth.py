"""Bandwidths of radial dictionaries: from the distances of the centres, or by cross-validation on the pilot sample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg

_GRID = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
_CUT = 1e-9
_MODES = 10


def cross_validated(make: Callable, first: float, z: np.ndarray, mobility: np.ndarray, modes: int) -> float:
    """Bandwidth with the best held-out variational score on the pilot sample, of seven about a first guess.

    A pilot sample has states and no pairs, so the score is that of the resolvent (1 + t L)^-1, with the Dirichlet form
    in the place of the lagged correlations of VAMP-E: on one half of the sample the r slowest functions are found; with
    V their coefficients and C0, S the Gram matrix and Dirichlet form on the other half, the score is
    tr[ (V^T (C0 + t S) V)^-1 V^T C0 V ], which no subspace of dimension r brings above sum_k 1 / (1 + t lambda_k). It
    is the mean over both halves. r is the number of modes asked for, ten at most, and t = 1 / lambda_r of the first
    guess. The sample is thinned to five states for each function, at least 4000. All ranks have the same sample and
    come to the same result.

    Parameters
    ----------
    make : bandwidth -> dictionary
    first : bandwidth that the grid is about
    z : (n, c) pilot sample, trajectory by trajectory
    mobility : (c, c) of z
    modes : number of modes asked for, the constant one included

    Source of the score: McGibbon and Pande 2015, for the generator's resolvent.
    """
    dictionaries = [make(first * factor) for factor in _GRID]
    z = z[:: max(1, len(z) // max(4000, 5 * dictionaries[0].size))]
    halves = z[: len(z) // 2], z[len(z) // 2 :]
    count = min(modes - 1, _MODES)
    time = None
    scores = np.full(len(_GRID), -np.inf)
    for index in np.argsort(np.abs(np.log(_GRID)), kind="stable"):
        sides = [_moments(dictionaries[index], half, mobility) for half in halves]
        fits = [_slowest(*side, count) for side in sides]
        if time is None:
            time = 1 / np.mean([rates[-1] for rates, _ in fits])
        scores[index] = np.mean([_score(fits[1 - i][1], *sides[i], time) for i in range(2)])
    return float(first * _GRID[int(np.argmax(scores))])


def _moments(dictionary, z: np.ndarray, mobility: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centred Gram matrix and Dirichlet form over a sample."""
    psi = dictionary.values(z)
    form = dictionary.dirichlet_form(z, mobility, psi) / len(z)
    psi = psi - psi.mean(axis=0)
    return psi.T @ psi / len(z), form


def _slowest(gram: np.ndarray, form: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rates and coefficients of the slowest functions, within the directions that the Gram matrix resolves."""
    values, vectors = scipy.linalg.eigh(gram)
    keep = values > _CUT * values[-1]
    basis = vectors[:, keep] / np.sqrt(values[keep])
    rates, inner = scipy.linalg.eigh(basis.T @ form @ basis)
    return rates[:count], basis @ inner[:, :count]


def _score(vectors: np.ndarray, gram: np.ndarray, form: np.ndarray, time: float) -> float:
    left = vectors.T @ gram @ vectors
    right = left + time * (vectors.T @ form @ vectors)
    return float(np.trace(np.linalg.lstsq(right, left, rcond=None)[0]))
