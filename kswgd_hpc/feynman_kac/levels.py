"""The operator of one killing rate on the features, and on parts of their span that tell how good they are."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from kswgd_hpc.feynman_kac.features import Features, Moments, moments
from kswgd_hpc.feynman_kac.propagator import Propagator, orthonormal
from kswgd_hpc.whitening import LocalFactor

_ROUNDED = 0.01  # of the norm, that only rounding makes a function with
_FINER = 1e-3  # of the cut: what the functions of `shapes` are for, far out, shows little where most pairs are


@dataclass(frozen=True)
class Fine:
    """Means of functions that are orthonormal already, to the rounding of means of those that they are made of.

    Once more orthonormal they are so to rounding, as in two rounds of a factorisation by Cholesky (Yamamoto et al.
    2015): what only a small difference of features shows is lost in products of these, in its own it is not.

    basis : (P, q) combinations of the features; means : of them
    """

    basis: np.ndarray
    means: Moments

    @classmethod
    def of(cls, features: Features, means: Moments, killings: list[str], regularization: float) -> Fine | None:
        """None where features are no finer than the regularisation. Collective."""
        if not any(extra.rank for extra in features.extras):
            return None
        ranks = np.repeat([extra.rank for extra in features.extras], [extra.size for extra in features.extras])
        coarse = np.concatenate([np.ones(1 + features.inner, dtype=bool), ranks == 0])
        basis = _joined(means.gram, coarse, _FINER * regularization)
        means = moments(features, [], killings, basis)
        sound = np.flatnonzero(np.abs(means.gram.diagonal() - 1) < _ROUNDED)
        return cls(basis[:, sound], means.of(sound))


def _joined(gram: np.ndarray, coarse: np.ndarray, cut: float) -> np.ndarray:
    """(P, q) orthonormal basis of the coarse functions (P,) bool, and of what the others add to their span.

    Together they would leave out coarse ones as well, such as an observable that is near to the sum of many others.
    """
    kept, other = np.flatnonzero(coarse), np.flatnonzero(~coarse)
    inner = orthonormal(gram[np.ix_(kept, kept)], cut)
    first = np.zeros((len(gram), inner.shape[1]))
    first[kept] = inner
    cross = first.T @ gram[:, other]
    left = gram[np.ix_(other, other)] - cross.T @ cross
    scale = np.sqrt(gram.diagonal()[other])
    scaled = left / np.outer(scale, scale)
    if scaled.diagonal().max() <= cut * len(other):
        return first
    factor = LocalFactor(scaled, cut * len(other))
    more = np.zeros((len(gram), len(factor.pivots)))
    chosen = factor.solve(np.eye(len(factor.pivots))) / scale[factor.pivots][:, None]
    more[other[factor.pivots]] = chosen
    return np.concatenate([first, more - first @ (cross[:, factor.pivots] @ chosen)], axis=1)


@dataclass(frozen=True)
class Levels:
    """The operator of one killing rate on the features and on parts of their span.

    whole : on all; inner : on the dictionary alone
    near, far : map (P, P') and operator of each coarser family, see `Features.coarsenings`
    seconds : of this processor, for the whole and for all others
    """

    whole: Propagator
    near: list[tuple[np.ndarray, Propagator]]
    far: list[tuple[np.ndarray, Propagator]]
    inner: Propagator
    seconds: tuple[float, float]

    @classmethod
    def of(
        cls, features: Features, means: Moments, rate: str, lag: float, regularization: float, fine: Fine | None
    ) -> Levels:
        """Solve them, in this process alone."""
        moved, least = operator(means, rate, lag), means.least.get(rate, 0.0)
        cut = regularization if fine is None else _FINER * regularization
        free = features.boundary is None
        kind = {"constant": free, "conserved": free and not rate}

        def on(mapping: np.ndarray) -> Propagator:
            parts = (mapping.T @ part @ mapping for part in (means.gram, moved))
            return Propagator.of(*parts, lag, cut, least, **kind)

        began = time.process_time()
        if fine is None:
            whole = Propagator.of(means.gram, moved, lag, cut, least, **kind)
        else:
            whole = Propagator.of(fine.means.gram, operator(fine.means, rate, lag), lag, regularization, least, **kind)
            whole = replace(whole, basis=fine.basis @ whole.basis)
        solved = time.process_time()
        inner = on(np.eye(features.size, 1 + features.inner)) if features.extras else whole
        near, far = ([(mapping, on(mapping)) for mapping in maps] for maps in features.coarsenings)
        return cls(whole, near, far, inner, (solved - began, time.process_time() - solved))


def operator(means: Moments, rate: str, lag: float) -> np.ndarray:
    """(P, P) means of z times the generator less the killing, or the operator of a lag, applied to z."""
    if not rate:
        return means.moved
    return means.killed[rate] if lag else means.moved - means.killed[rate]
