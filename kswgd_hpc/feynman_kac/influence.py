"""How each pair of the records moves a prediction, to first order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

from kswgd_hpc.feynman_kac.case import Case
from kswgd_hpc.feynman_kac.features import Features, Moments
from kswgd_hpc.feynman_kac.levels import Levels
from kswgd_hpc.feynman_kac.propagator import Drive, Propagator
from kswgd_hpc.records import Pairs

_NODES = 64  # of integrals over time, where u may begin with a jump
_EXACT, _ROUGH = 1e-9, 1e-4  # of functions of time in the span of a few, and of those whose size alone is asked for


@dataclass(frozen=True)
class Spanned:
    """Functions of nodes and times as combinations of a few.

    functions, images : (P, r) of z, and what the operator makes of them
    shares : (r, nodes, times)
    """

    functions: np.ndarray
    images: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, parts: np.ndarray, propagator: Propagator, gram: np.ndarray, tolerance: float) -> Spanned:
        """Of parts (2, nodes, P, times): functions, and what the operator makes of them.

        The error of each, relative to its norm, is below the tolerance; images are measured by the typical rate.
        """
        products = propagator.basis.T @ gram
        columns = parts.transpose(0, 2, 1, 3).reshape(2, parts.shape[2], -1)
        size = 1.0 if propagator.lag else max(propagator.typical_rate, 1e-300)
        stacked = np.concatenate([products @ columns[0], products @ (columns[1] / size)])
        norms = np.maximum(np.linalg.norm(stacked, axis=0), 1e-300)
        span, factor, _pivots = scipy.linalg.qr(stacked / norms, mode="economic", pivoting=True)
        sizes = np.abs(factor.diagonal())
        span = span[:, : max(1, int((sizes > tolerance * sizes[0]).sum()))]
        shares = (span.T @ stacked).reshape(-1, parts.shape[1], parts.shape[3])
        functions, images = np.split(span, 2)
        return cls(propagator.basis @ functions, size * (propagator.basis @ images), shares)


@dataclass(frozen=True)
class Influence:
    """How a pair moves a row's prediction.

    The operator moves by the mean of l(t - s) (G - c - d/ds) u(., s), integrated over s; the projection of f by the
    mean of l(t) (f - z . a(0)), and that of a source g by the mean of its residual times the integral of l.

    rate, formula, driven : texts of killing, observable and source; empty where there is none
    weights : (nodes,) of the integral over s / t
    left : weighted l; right : a; half : the same by half of the dictionary
    last : (P, times) l(t); start : (P,) a(0)
    summed : (P, times) integral of l; source, half_source : (P,) g in the span, and by half of the dictionary
    step : of the operator: its lag, or 1 for a generator
    """

    rate: str
    formula: str
    driven: str
    weights: np.ndarray
    left: Spanned
    right: Spanned
    half: Spanned
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
        weights, left, half, right = _steady(*parts) if case.steady else _in_time(*parts)
        return cls(
            case.rate,
            case.formula,
            case.driven,
            weights,
            *_spanned(left, right, half, whole, means),
            whole.backward(features, times),
            whole.basis @ drive.start,
            whole.backward_sum(features, times),
            whole.basis @ drive.source,
            mapping @ (coarse.basis @ less.source),
            whole.lag or 1.0,
        )

    @classmethod
    def of_principal(cls, case: Case, levels: Levels, means: Moments) -> Influence:
        """Of the smallest rate, which moves by minus the mean of l (G - c - its exponent) phi."""
        (right, image, left), (coarse, coarse_image, _) = (
            _slowest(propagator, mapping) for mapping, propagator in ((None, levels.whole), levels.near[0])
        )
        half, right = (np.stack(both)[:, None] for both in ((coarse, coarse_image), (right, image)))
        nothing, none = np.zeros_like(left), np.zeros(len(left))
        parts = _spanned(left[None], right, half, levels.whole, means)
        return cls(case.rate, case.formula, "", np.ones(1), *parts, nothing, none, nothing, none, none)

    def of_pairs(
        self, pairs: Pairs, features: Features, z: np.ndarray, moved: np.ndarray, weight: np.ndarray
    ) -> np.ndarray:
        """(3 times,) sums over pairs.

        Of the influence, and of the squares of what the operator leaves over of the prediction and of that by half of
        the dictionary.

        Parameters
        ----------
        z, moved : (n, P) features, and what the operator's sample makes of them
        weight : (n,) of the influence
        """
        width, r = self.last.shape[1], self.right.functions.shape[1]
        # one product each: thin ones would read z many times
        projected, sums, left, images, here = np.split(z @ self._of_z, self._edges, axis=1)
        residual = self._moved(pairs, features, here, moved @ self._functions) - images
        residual, coarse = residual[:, :r], residual[:, r:]
        found = ((features.formula(pairs, self.formula) - projected[:, 0]) * weight) @ sums[:, :width]
        found += np.einsum("ij,ijt->t", (left * weight[:, None]).T @ residual, self._core)
        if self.driven:
            over = features.formula(pairs, self.driven)[:, None] - projected[:, 1:]
            found += (over[:, 0] * weight) @ sums[:, width:]
            residual = np.concatenate([residual, self.step * over[:, :1]], axis=1)
            coarse = np.concatenate([coarse, self.step * over[:, 1:]], axis=1)
        squares = [self._squares(*both) for both in ((residual, self.right), (coarse, self.half))]
        return np.concatenate([found, *squares])

    @cached_property
    def _functions(self) -> np.ndarray:
        """(P, r) all that the operator is applied to."""
        return np.concatenate([self.right.functions, self.half.functions], axis=1)

    @cached_property
    def _of_z(self) -> np.ndarray:
        """(P, ..) all that is multiplied by z: f and g, last, summed, left, images, and with killing the functions."""
        projected = np.stack([self.start, self.source, self.half_source], axis=1)
        parts = [projected, self.last, self.summed, self.left.functions, self.right.images, self.half.images]
        return np.concatenate([*parts, self._functions] if self.rate else parts, axis=1)

    @cached_property
    def _edges(self) -> np.ndarray:
        """Where the parts of that begin, from the second on."""
        sizes = 3, 2 * self.last.shape[1], self.left.functions.shape[1], self._functions.shape[1]
        return np.cumsum(sizes)

    @cached_property
    def _core(self) -> np.ndarray:
        """(r of left, r of right, times) sums over the nodes."""
        return np.einsum("int,jnt->ijt", self.left.shares, self.right.shares)

    def _squares(self, residual: np.ndarray, spanned: Spanned) -> np.ndarray:
        """(times,) sums over pairs and nodes of squares of what is left over, (n, r or more) of the functions."""
        shares, more = spanned.shares, residual.shape[1] - len(spanned.shares)
        shares = np.concatenate([shares, np.ones((more, *shares.shape[1:]))])
        products = residual.T @ residual
        return np.maximum(np.einsum("n,int,int->t", self.weights, shares, np.tensordot(products, shares, 1)), 0.0)

    def _moved(self, pairs: Pairs, features: Features, here: np.ndarray, there: np.ndarray) -> np.ndarray:
        """(n, r) what the killed operator makes of functions, from them (..) and what the plain one makes of them."""
        if not self.rate:
            return there
        if features.by_generator:
            return there - pairs.values[f"f:{self.rate}"][:, None] * here
        return pairs.values[f"k:{self.rate}"][:, None] * there


def _spanned(left: np.ndarray, right: np.ndarray, half: np.ndarray, whole: Propagator, means: Moments) -> list[Spanned]:
    """Left (nodes, P, times), right and half (2, nodes, P, times) as combinations of a few functions."""
    both, gram = np.stack([left, np.zeros_like(left)]), means.gram
    return [
        Spanned.of(part, whole, gram, tolerance)
        for part, tolerance in ((both, _EXACT), (right, _EXACT), (half, _ROUGH))
    ]


def _in_time(whole, mapping, coarse, times, drive: Drive, less: Drive, features) -> tuple[np.ndarray, ...]:
    """Weights (nodes,), left (nodes, P, times), half and right (2, nodes, P, times) between the start and the times."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    # s = T sin^2: nodes are dense at both ends, where fast modes live
    angle = (nodes + 1) * np.pi / 4
    shares, slopes = np.sin(angle) ** 2, np.pi / 4 * weights * np.sin(2 * angle)
    span = np.maximum(times - whole.lag, 0.0)
    scale = times / whole.lag if whole.lag else times
    now, rest = np.outer(shares, span), np.outer(1 - shares, span)

    def at(found: np.ndarray) -> np.ndarray:
        return found.reshape(len(found), *now.shape).transpose(1, 0, 2)

    return (
        slopes,
        at(whole.backward(features, rest.ravel())) * scale * slopes[:, None, None],
        np.array([at(mapping @ coarse.forward(less, now.ravel(), image)) for image in (False, True)]),
        np.array([at(whole.forward(drive, now.ravel(), image)) for image in (False, True)]),
    )


def _steady(whole, mapping, coarse, times, drive: Drive, less: Drive, features) -> tuple[np.ndarray, ...]:
    """Of what is left after infinite time; where constants stay its mean is zero, which moves with the operator."""
    left, weights = [whole.backward_steps(features)], [1.0]
    right = [[whole.forward(drive, times, image)] for image in (False, True)]
    half = [[mapping @ coarse.forward(less, times, image)] for image in (False, True)]
    if whole.conserved:
        left, weights = [*left, whole.stationary()], [1.0, 0.0]
        right = [[*part, whole.summed_twice(drive, image)] for part, image in zip(right, (False, True), strict=True)]
        half = [[part[0], 0 * part[0]] for part in half]
    return np.array(weights), np.array(left), np.array(half), np.array(right)


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
