"""The operator of one killing rate on the features, and on parts of their span that tell how good they are."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from kswgd_hpc.feynman_kac.features import Features, Moments
from kswgd_hpc.feynman_kac.propagator import Propagator

_FINER = 1e-3  # of the cut: what the functions of `shapes` are for, far out, shows little where most pairs are


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
    def of(cls, features: Features, means: Moments, rate: str, lag: float, regularization: float) -> Levels:
        """Solve them, in this process alone."""
        moved, least = operator(means, rate, lag), means.least.get(rate, 0.0)
        if any(extra.rank for extra in features.extras):
            regularization *= _FINER
        free = features.boundary is None
        kind = {"constant": free, "conserved": free and not rate}

        def on(mapping: np.ndarray) -> Propagator:
            parts = (mapping.T @ part @ mapping for part in (means.gram, moved))
            return Propagator.of(*parts, lag, regularization, least, **kind)

        began = time.process_time()
        whole = Propagator.of(means.gram, moved, lag, regularization, least, **kind)
        solved = time.process_time()
        inner = on(np.eye(features.size, 1 + features.inner)) if features.extras else whole
        near, far = ([(mapping, on(mapping)) for mapping in maps] for maps in features.coarsenings)
        return cls(whole, near, far, inner, (solved - began, time.process_time() - solved))


def operator(means: Moments, rate: str, lag: float) -> np.ndarray:
    """(P, P) means of z times the generator less the killing, or the operator of a lag, applied to z."""
    if not rate:
        return means.moved
    return means.killed[rate] if lag else means.moved - means.killed[rate]
