"""What a prediction may be wrong by, one standard error or its like for each cause, and the setting that reduces it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kswgd_hpc.feynman_kac.case import Case
from kswgd_hpc.feynman_kac.features import Features
from kswgd_hpc.feynman_kac.propagator import Propagator
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
_NODES = 6
_SLOWEST_GAIN = 0.5


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
class Influence:
    """How a pair moves a row's prediction, to first order.

    The operator moves by the mean of l(t - s) (G - c - d/ds) u(., s), integrated over s; the projection of f by the
    mean of l(t) (f - z . a(0)).

    rate, formula : texts of killing and observable
    left : (nodes, P, times) weighted l; right, image : (nodes, P, times) a and what the operator makes of it
    last : (P, times) l(t); start : (P,) a(0)
    """

    rate: str
    formula: str
    left: np.ndarray
    right: np.ndarray
    image: np.ndarray
    last: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, case: Case, propagator: Propagator, components: np.ndarray, features: np.ndarray) -> Influence:
        """Of a case whose starts have the mean features (P,)."""
        times = np.array(case.times)
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        # s = T sin^2: nodes are dense at both ends, where fast modes live
        angle = (nodes + 1) * np.pi / 4
        shares, slopes = np.sin(angle) ** 2, np.pi / 4 * weights * np.sin(2 * angle)
        span = np.maximum(times - propagator.lag, 0.0)
        left, right, image = [], [], []
        for share, slope in zip(shares, slopes, strict=True):
            s = span * share
            weight = slope * (times / propagator.lag if propagator.lag else times)
            left.append(propagator.backward(features, span - s) * weight)
            right.append(propagator.forward(components, s))
            image.append(propagator.forward(components, s, derivative=True))
        return cls(
            case.rate,
            case.formula,
            np.array(left),
            np.array(right),
            np.array(image),
            propagator.backward(features, times),
            propagator.forward(components, np.zeros(1))[:, 0],
        )

    def of_pairs(self, pairs: Pairs, z: np.ndarray, moved: np.ndarray, by_generator: bool) -> np.ndarray:
        """(times,) sum over pairs, with features z (n, P) and what the operator's sample makes of them."""
        rest = pairs.values[f"f:{self.formula}"] - z @ self.start
        found = rest @ (z @ self.last)
        for left, right, image in zip(self.left, self.right, self.image, strict=True):
            residual = self._moved(pairs, z @ right, moved @ right, by_generator) - z @ image
            found += ((z @ left) * residual).sum(axis=0)
        return found

    def _moved(self, pairs: Pairs, here: np.ndarray, there: np.ndarray, by_generator: bool) -> np.ndarray:
        if not self.rate:
            return there
        if by_generator:
            return there - pairs.values[f"f:{self.rate}"][:, None] * here
        return pairs.values[f"k:{self.rate}"][:, None] * there


def sampling_errors(features: Features, influences: list[Influence], count: float) -> list[np.ndarray]:
    """(times,) standard error of each row, from the spread over independent groups of trajectories. Collective."""
    widths = [influence.last.shape[1] for influence in influences]

    def of(pairs: Pairs) -> np.ndarray:
        z, moved = features.of_pairs(pairs)
        return np.concatenate([i.of_pairs(pairs, z, moved, features.by_generator) for i in influences])

    deviations, _counts = group_sums(features.sample, of, sum(widths))
    return np.split(standard_error(deviations / count), np.cumsum(widths)[:-1])


def coarse_error(values: np.ndarray, coarse: list[np.ndarray]) -> np.ndarray:
    """(times,) error of values from the same by half and by a quarter of the dictionary.

    Halving it moves the values by about the error of the half. The whole's is smaller by as much as the half's is
    smaller than the quarter's: by two at least, where convergence is to be believed in.
    """
    if not coarse:
        return np.full(len(values), np.nan)
    half = _smooth(np.abs(values - coarse[0]))
    if len(coarse) < 2:
        return half
    quarter = _smooth(np.abs(coarse[0] - coarse[1]))
    size = np.maximum(np.abs(values), 1e-300)
    gain = np.sqrt(((half / size) ** 2).mean() / max(((quarter / size) ** 2).mean(), 1e-300))
    return half * gain / (1 - gain) if gain < _SLOWEST_GAIN else half


def _smooth(errors: np.ndarray) -> np.ndarray:
    """Errors with those of the neighbours in time: one that changes sign is not small for it."""
    square = np.pad(errors**2, 1, mode="edge")
    return np.sqrt((square[:-2] + 2 * square[1:-1] + square[2:]) / 4)
