"""What a prediction may be wrong by, one standard error or its like for each cause, and the setting that reduces it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kswgd_hpc.feynman_kac.case import Case
from kswgd_hpc.feynman_kac.features import Features, Moments
from kswgd_hpc.feynman_kac.levels import Levels
from kswgd_hpc.feynman_kac.propagator import Drive, Propagator
from kswgd_hpc.galerkin import group_sums
from kswgd_hpc.records import Pairs
from kswgd_hpc.statistics import standard_error

CAUSES = ("time_step", "sampling", "dictionary", "projection")
REMEDIES = {
    "time_step": "a smaller ensemble.time_step",
    "sampling": "a longer ensemble.duration or more ensemble.trajectories",
    "dictionary": "a larger koopman.dictionary, more koopman.coordinates, or an ensemble.initial that has the start",
    "projection": "koopman.coordinates or a koopman.dictionary that sees the observable",
}
_NODES = 6
_STOPPED_NODES = 16  # where u begins with a jump at a boundary
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
class Influence:
    """How a pair moves a row's prediction, to first order.

    The operator moves by the mean of l(t - s) (G - c - d/ds) u(., s), integrated over s; the projection of f by the
    mean of l(t) (f - z . a(0)), and that of a source g by the mean of its residual times the integral of l.

    rate, formula, driven : texts of killing, observable and source; empty where there is none
    weights : (nodes,) of the integral over s / t
    left : (nodes, P, times) weighted l; right, image : (nodes, P, times) a and what the operator makes of it
    half : the same two, (2, nodes, P, times), by half of the dictionary
    last : (P, times) l(t); start : (P,) a(0)
    summed : (P, times) integral of l; source, half_source : (P,) g in the span, and by half of the dictionary
    step : of the operator: its lag, or 1 for a generator
    """

    rate: str
    formula: str
    driven: str
    weights: np.ndarray
    left: np.ndarray
    half: np.ndarray
    right: np.ndarray
    image: np.ndarray
    last: np.ndarray
    start: np.ndarray
    summed: np.ndarray
    source: np.ndarray
    half_source: np.ndarray
    step: float = 1.0

    @classmethod
    def of(cls, case: Case, levels: Levels, means: Moments, drive: Drive, features: np.ndarray) -> Influence:
        """Of a case whose starts have the mean features (P,)."""
        whole, times = levels.whole, np.array(case.times)
        mapping, coarse = levels.near[0]
        less = drive_of(case, means, coarse, mapping)
        parts = whole, mapping, coarse, times, drive, less, features
        count = _NODES if case.boundary is None else _STOPPED_NODES
        weights, left, half, right, image = cls._steady(*parts) if case.steady else cls._in_time(*parts, count)
        return cls(
            case.rate,
            case.formula,
            case.driven,
            weights,
            left,
            half,
            right,
            image,
            whole.backward(features, times),
            whole.basis @ drive.start,
            whole.backward_sum(features, times),
            whole.basis @ drive.source,
            mapping @ (coarse.basis @ less.source),
            whole.lag or 1.0,
        )

    @staticmethod
    def _in_time(whole, mapping, coarse, times, drive: Drive, less: Drive, features, count: int) -> tuple:
        nodes, weights = np.polynomial.legendre.leggauss(count)
        # s = T sin^2: nodes are dense at both ends, where fast modes live
        angle = (nodes + 1) * np.pi / 4
        shares, slopes = np.sin(angle) ** 2, np.pi / 4 * weights * np.sin(2 * angle)
        span = np.maximum(times - whole.lag, 0.0)
        scale = times / whole.lag if whole.lag else times
        return (
            slopes,
            np.array([whole.backward(features, span * (1 - x)) * scale * w for x, w in zip(shares, slopes)]),
            np.array([[mapping @ coarse.forward(less, span * x, image) for x in shares] for image in (False, True)]),
            np.array([whole.forward(drive, span * x) for x in shares]),
            np.array([whole.forward(drive, span * x, True) for x in shares]),
        )

    @staticmethod
    def _steady(whole, mapping, coarse, times, drive: Drive, less: Drive, features) -> tuple[np.ndarray, ...]:
        """Of what is left after infinite time; where constants stay its mean is zero, which moves with the operator."""
        left, right = [whole.backward_steps(features)], [whole.forward(drive, times)]
        image, weights = [whole.forward(drive, times, True)], [1.0]
        half = [[mapping @ coarse.forward(less, times, part)] for part in (False, True)]
        if whole.conserved:
            left, weights = [*left, whole.stationary()], [1.0, 0.0]
            right, image = [*right, whole.summed_twice(drive)], [*image, whole.summed_twice(drive, True)]
            half = [[part[0], 0 * part[0]] for part in half]
        return np.array(weights), np.array(left), np.array(half), np.array(right), np.array(image)

    @classmethod
    def of_principal(cls, case: Case, levels: Levels) -> Influence:
        """Of the smallest rate, which moves by minus the mean of l (G - c - its exponent) phi."""
        (right, image, left), (coarse, coarse_image, _) = (
            _slowest(propagator, mapping) for mapping, propagator in ((None, levels.whole), levels.near[0])
        )
        nothing = np.zeros_like(right)
        half, none = np.stack([coarse, coarse_image])[:, None], nothing[:, 0]
        parts = (np.ones(1), left[None], half, right[None], image[None])
        return cls(case.rate, case.formula, "", *parts, nothing, none, nothing, none, none)

    def of_pairs(self, pairs: Pairs, seen: Seen) -> np.ndarray:
        """(3 times,) sums over pairs.

        Of the influence, and of the squares of what the operator leaves over of the prediction and of that by half of
        the dictionary.
        """
        features, weight = seen.features, seen.weight
        n, nodes, width = len(weight), len(self.weights), self.last.shape[1]
        # one product each: thin ones would read z many times
        here, there = seen.z @ self._of_z, seen.moved @ self._of_moved
        projected, sums, here = np.split(here, [3, 3 + 2 * width], axis=1)
        here = here.reshape(n, -1, nodes, width)
        there = self._moved(pairs, seen, here[:, 3:], there.reshape(n, 2, nodes, width))
        residual, coarse = there[:, 0] - here[:, 1], there[:, 1] - here[:, 2]
        found = ((features.formula(pairs, self.formula) - projected[:, 0]) * weight) @ sums[:, :width]
        found += (here[:, 0] * residual * weight[:, None, None]).sum(axis=(0, 1))
        if self.driven:
            over = features.formula(pairs, self.driven)[:, None] - projected[:, 1:]
            found += (over[:, 0] * weight) @ sums[:, width:]
            residual = residual + self.step * over[:, 0, None, None]
            coarse = coarse + self.step * over[:, 1, None, None]
        squares = [self.weights @ (part**2).sum(axis=0) for part in (residual, coarse)]
        return np.concatenate([found, *squares])

    @cached_property
    def _of_z(self) -> np.ndarray:
        """(P, 3 + 2 times + 3 nodes times or more) all that is multiplied by z: f and g, last, summed, left, images."""
        parts = [self.left, self.image, self.half[1]] + ([self.right, self.half[0]] if self.rate else [])
        projected = np.stack([self.start, self.source, self.half_source], axis=1)
        return np.concatenate([projected, self.last, self.summed, *map(_flat, parts)], axis=1)

    @cached_property
    def _of_moved(self) -> np.ndarray:
        """(P, 2 nodes times) all that is multiplied by what the operator makes of z."""
        return np.concatenate([_flat(self.right), _flat(self.half[0])], axis=1)

    def _moved(self, pairs: Pairs, seen: Seen, here: np.ndarray, there: np.ndarray) -> np.ndarray:
        """(n, 2, nodes, times) what the killed operator makes of a, from a (..) and what the plain one makes of it."""
        if not self.rate:
            return there
        if seen.features.by_generator:
            return there - pairs.values[f"f:{self.rate}"][:, None, None, None] * here
        return pairs.values[f"k:{self.rate}"][:, None, None, None] * there


def _flat(array: np.ndarray) -> np.ndarray:
    """(P, nodes times) of (nodes, P, times)."""
    return array.transpose(1, 0, 2).reshape(array.shape[1], -1)


@dataclass(frozen=True)
class Seen:
    """What features show of a batch of n pairs.

    z : (n, P) features; moved : (n, P) what the operator's sample makes of them
    weight : (n,) by which what a pair leaves over is smaller than had it not been fitted, see `sampled`
    """

    features: Features
    z: np.ndarray
    moved: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, features: Features, pairs: Pairs, basis: np.ndarray, count: float) -> Seen:
        """Of a batch; basis (P, q) is orthonormal, count the number of all pairs."""
        z, moved = features.of_pairs(pairs)
        leverage = ((z @ basis) ** 2).sum(axis=1) / count
        return cls(features, z, moved, 1 / (1 - np.minimum(leverage, _MOST_LEVERAGE)))


def drive_of(case: Case, means: Moments, propagator: Propagator, mapping: np.ndarray | None = None) -> Drive:
    """What a case begins as and what drives it, in the basis of a propagator on all features, or on those of a map."""
    start, source = means.projected[case.formula], means.projected.get(case.driven)
    if mapping is not None:
        start, source = mapping.T @ start, None if source is None else mapping.T @ source
    return propagator.drive(start, source)


def _slowest(propagator: Propagator, mapping: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P, 1) coefficients of the slowest eigenfunction, of its image, and of how the smallest rate answers to both."""
    k = propagator.slowest
    right, left = propagator.right[:, k].real, propagator.left[k].real
    left = left / (left @ right)
    value = propagator.eigenvalues[k].real
    slope = -1 / (value * propagator.lag) if propagator.lag else -1.0
    basis = propagator.basis if mapping is None else mapping @ propagator.basis
    function = (basis @ right)[:, None]
    return function, value * function, slope * (basis @ left)[:, None]


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
        return np.concatenate([influence.of_pairs(pairs, seen) for influence in influences])

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
