"""What a prediction may be wrong by, one standard error or its like for each cause, and the setting that reduces it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kswgd_hpc.feynman_kac.features import Features
from kswgd_hpc.feynman_kac.influence import Influence
from kswgd_hpc.galerkin import group_sums
from kswgd_hpc.records import Pairs
from kswgd_hpc.statistics import standard_error

CAUSES = ("time_step", "sampling", "dictionary", "projection")
REMEDIES = {
    "time_step": "a smaller ensemble.time_step",
    "sampling": "a longer ensemble.duration or more ensemble.trajectories",
    "dictionary": "a larger koopman.dictionary, or more koopman.coordinates",
    "projection": "koopman.coordinates or a koopman.dictionary that sees the observable",
}
_SLOWEST_GAIN = 0.5
_MOST_LEVERAGE = 0.8  # beyond, a pair is not told from its function: it is taken off as a whole in a refit


@dataclass(frozen=True)
class Budget:
    """(times,) each: one standard error, or the like."""

    time_step: np.ndarray
    sampling: np.ndarray
    dictionary: np.ndarray
    projection: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """(times,) all causes together: they are independent of each other."""
        return np.sqrt(sum(getattr(self, cause) ** 2 for cause in CAUSES))

    @property
    def largest(self) -> str:
        """The cause that adds most, over all times."""
        return max(CAUSES, key=lambda cause: float((getattr(self, cause) ** 2).sum()))


@dataclass(frozen=True)
class Seen:
    """What features show of a batch of n pairs.

    z : (n, P) features; moved : (n, P) what the operator's sample makes of them
    weight : (n,) by which what a pair leaves over is smaller than had it not been fitted, see `sampled`
    """

    z: np.ndarray
    moved: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, features: Features, pairs: Pairs, basis: np.ndarray, count: float) -> Seen:
        """Of a batch; basis (P, q) is orthonormal, count the number of all pairs."""
        z, moved = features.of_pairs(pairs)
        leverage = ((z @ basis) ** 2).sum(axis=1) / count
        return cls(z, moved, 1 / (1 - np.minimum(leverage, _MOST_LEVERAGE)))


@dataclass(frozen=True)
class Sampled:
    """What the second pass over the records finds of a row: error (times,), and the gain (times,) of the dictionary.

    The gain is the ratio of what the operator leaves over of the prediction to what it leaves over of that by half of
    the dictionary. The error would fall with its square if the density l were resolved better by as much, which for a
    start at one point is too much to hope for.
    """

    error: np.ndarray
    gain: np.ndarray


def sampled(features: Features, influences: list[Influence], basis: np.ndarray, count: float) -> list[Sampled]:
    """Of each row, the errors from the spread over independent groups of trajectories. Collective.

    A pair where few others are, such as an excursion far out, is fitted nearly exactly: what it leaves over is small
    because it was fitted, and is taken as it would be if it had not been, divided by one minus its leverage, its share
    of the Gram matrix (MacKinnon and White 1985). Without that the error is that of places that are often visited.

    Parameters
    ----------
    basis : (P, q) orthonormal basis of the span; count : number of all pairs
    """
    widths = [3 * influence.last.shape[1] for influence in influences]

    def of(pairs: Pairs) -> np.ndarray:
        seen = Seen.of(features, pairs, basis, count)
        return np.concatenate(
            [influence.of_pairs(pairs, features, seen.z, seen.moved, seen.weight) for influence in influences]
        )

    sums, _counts = group_sums(features.sample, of, sum(widths))
    found = []
    for part in np.split(sums, np.cumsum(widths)[:-1], axis=1):
        deviations, fine, coarse = np.split(part, 3, axis=1)
        gain = np.sqrt(fine.sum(axis=0) / np.maximum(coarse.sum(axis=0), 1e-300))
        found.append(Sampled(standard_error(deviations / count), np.minimum(gain, 1.0)))
    return found


def coarse_error(values: np.ndarray, near: np.ndarray, far: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """(times,) error of values from their distances (times,) to those of coarser dictionaries, near and far.

    The near distance is about the error of the near dictionary. That of the whole is smaller by as much as the near one
    is smaller than the far one, where that converges, or by the gain of what the operator leaves over. A near one that
    is farther than the far one is an accident, as functions that few pairs determine are, and tells nothing.
    """
    near, far, size = _smooth(near), _smooth(far), np.maximum(np.abs(values), 1e-300)
    if not np.isfinite(far).all():
        return near * gain
    near = np.minimum(near, far)
    ratio = np.sqrt(((near / size) ** 2).mean() / max(((far / size) ** 2).mean(), 1e-300))
    return near * (np.minimum(gain, ratio / (1 - ratio)) if ratio < _SLOWEST_GAIN else gain)


def _smooth(errors: np.ndarray) -> np.ndarray:
    """Errors, those that are less than both of their neighbours in time lifted to the lesser of them: an error that
    changes sign is not small for it."""
    if len(errors) < 3:
        return errors
    lifted = errors.copy()
    lifted[1:-1] = np.maximum(errors[1:-1], np.minimum(errors[:-2], errors[2:]))
    return lifted
