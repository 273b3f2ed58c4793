"""From pairs under any law to the invariant one: method.md section 2, "Non-stationary data".

For weights w(x) = psi(x)^T q the law w rho is invariant when E_rho[w(x) f(y)] = E_rho[w(x) f(x)] for all f in the span:
q is the left eigenvector of K for mu = 1. Where the drift is known, E_rho[w G f] = 0 says the same without the noise of
the transitions, and knows the balance of metastable sets between which no transition has to be waited for.
Source: Wu, Nueske, Paul, Klus, Koltai and Noe 2017, "Variational Koopman models".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from kswgd_hpc.galerkin import Sums, assemble, pair_sums
from kswgd_hpc.records import Pairs, Sample
from kswgd_hpc.spectrum import Space

Source = Literal["pairs", "generator"]


@dataclass(frozen=True)
class Weights:
    """Density of the invariant law with respect to the law of the sample, w = max(1 + chi @ slope, 0).

    chi are q functions of mean zero and unit covariance under the law of the sample. `response` turns the mean of
    w (chi(y) - chi(x)), or of w G chi, over a part of the sample into what that part adds to the slope's error.

    slope : (q,), response : (q, q)
    """

    slope: np.ndarray
    response: np.ndarray

    def __call__(self, chi: np.ndarray) -> np.ndarray:
        """(n,) weights, not normalised, of functions (n, q)."""
        return np.maximum(1 + chi @ self.slope, 0.0)

    def active(self, chi: np.ndarray) -> np.ndarray:
        """(n, q) derivative of the weights with respect to the slope: chi, where the weight is not clipped."""
        return chi * (1 + chi @ self.slope > 0)[:, None]

    def influence(self, sensitivity: np.ndarray) -> np.ndarray:
        """(q, k) map from the increments chi(y) - chi(x), or G chi, times w, to the influence on k estimates.

        Parameters
        ----------
        sensitivity : (q, k) mean over the sample of `active` times the influence of a pair at fixed weights
        """
        return self.response @ sensitivity


def invariant_weights(drift: np.ndarray, matrix: np.ndarray) -> Weights:
    """Weights under which the mean increment of every function vanishes.

    Parameters
    ----------
    drift : (q,) mean of chi(y) - chi(x), or of G chi, under the law of the sample
    matrix : (q, q) mean of chi(x) (chi(y) - chi(x))^T, or of chi (G chi)^T
    """
    # drift + matrix^T slope = 0; a change of the left-hand side by r changes the slope by -matrix^-T r
    inverse = np.linalg.pinv(matrix)
    return Weights(-drift @ inverse, -inverse)


@dataclass(frozen=True)
class Density:
    """Weights of the records of a sample, as a function of the dictionary: what `Sample.weight` is.

    Scaled so that their sum over the pairs is the effective sample size.

    space : in which they were found; weights : in its basis; source : what made them
    coefficients, offset : (p,) in the dictionary; the weight is scale * max(offset + psi @ coefficients, 0)
    scale : factor; effective : sample size; clipped : fraction of pairs whose weight was below zero
    """

    space: Space
    weights: Weights
    source: Source
    coefficients: np.ndarray
    offset: float
    scale: float = 1.0
    effective: float = np.nan
    clipped: float = np.nan

    def __call__(self, psi: np.ndarray) -> np.ndarray:
        """(n,) weights of features (n, p)."""
        return self.scale * np.maximum(self.offset + psi @ self.coefficients, 0.0)

    def sees(self, sample: Sample) -> Sample:
        """A sample with the pairs that the weights were made of."""
        return replace(sample, pairs=True) if self.source == "pairs" else sample

    def increments(self, pairs: Pairs) -> np.ndarray:
        """(n, p) what has mean zero under the weights: psi(y) - psi(x), or G psi."""
        if self.source == "pairs":
            return pairs.y - pairs.x
        return self.space.sums.sample.dictionary.generator(pairs.z, pairs.drift, pairs.mobility, pairs.x)

    def share(self, moved: np.ndarray, plain: np.ndarray) -> np.ndarray:
        """(p, k) map from the increments of a pair to its influence, by its part in the weights, on k estimates.

        Parameters
        ----------
        moved, plain : (p, k), (k,) sums over the pairs that have a weight of psi(x) times the influence, and of that
        """
        base = self.space.sums
        moved = self.space.components(self.scale * (moved - np.outer(base.mean, plain)))
        # the mean increments that the weights come from are means over unscaled weights
        return self.space.coefficients(self.weights.influence(moved)) / (base.count * self.scale)

    def with_own_error(self, sums: Sums, influence: Callable, width: int) -> Callable:
        """The influence of each pair on what is estimated, by its part in the weights as well. Collective.

        Parameters
        ----------
        sums : under these weights
        influence : function of `Pairs` -> (n, width) at fixed weights, of weighted mean zero
        """

        def sensitivity(pairs: Pairs) -> np.ndarray:
            # the derivative of a clipped weight is zero
            values = influence(pairs) * (pairs.weight > 0)[:, None]
            values = np.concatenate([values.real, values.imag], axis=1)
            return np.concatenate([pairs.x.T @ values, values.sum(axis=0)[None]])

        moved = pair_sums(sums.sample, sensitivity, (sums.size + 1, 2 * width))
        share = self.share(moved[:-1], moved[-1])
        share = share[:, :width] + 1j * share[:, width:]
        return lambda pairs: influence(pairs) + self.increments(pairs) @ share


def invariant_density(sample: Sample, source: Source, regularization: float) -> Density:
    """Weights under which a sample has the invariant law, from its pairs or its generator. Collective."""
    pairs = source == "pairs"
    sums = assemble(replace(sample, pairs=pairs, values=()), ("c0", "c1" if pairs else "flux"))
    space = Space(sums, regularization)
    nothing = np.zeros(sums.size)
    drift = sums.vectors["y"] - sums.vectors["x"] if pairs else sums.vectors["flux"]
    if pairs:
        # mean of (psi(x) - m) (psi(y) - psi(x))^T
        matrix = space.project(sums.form("c1", nothing, sums.vectors["y"], 0.0))
        matrix -= space.project(sums.form("c0", nothing, sums.vectors["x"], 0.0))
    else:
        matrix = space.project(sums.form("flux", nothing, drift, 0.0))
    weights = invariant_weights(space.components(drift), matrix)
    # once, and by all ranks together: weights are asked for batch by batch, of which ranks have different numbers
    coefficients = space.coefficients(weights.slope[:, None])[:, 0]
    found = Density(space, weights, source, coefficients, 1 - float(sums.mean @ coefficients))

    def moments(pairs: Pairs) -> np.ndarray:
        w = found(pairs.x)
        return np.array([[w.sum(), (w**2).sum(), (w == 0).sum()]])

    total, square, clipped = pair_sums(replace(sample, pairs=False), moments, (1, 3))[0]
    return replace(found, scale=total / square, effective=total**2 / square, clipped=clipped / sums.count)
