"""What the generator knows of the invariant law: means of eigenfunctions beyond the sampling of the ensemble.

The occupation of metastable sets by an ensemble fluctuates as the few transitions in it do. But the drift is known,
and under the invariant law E[G f] = 0 for every f. For weights in the span of the dictionary this is a linear system,
in which no transition has to be waited for: the states between the sets, each with its own drift, say how the fluxes
balance. It is the reweighting of Wu et al. 2017 with the generator in the place of the lagged operator; on the
metastable Allen-Cahn interval it knows the occupation ten times better than the ensemble that it is computed from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kswgd_hpc.estimators import weighted_sum
from kswgd_hpc.galerkin import group_sums
from kswgd_hpc.records import Pairs
from kswgd_hpc.spectrum import Space, Spectrum


@dataclass(frozen=True)
class StationaryMeans:
    """Means of phi_1, phi_2, ... under the invariant law, relative to the ensemble, where they are zero.

    means : (r - 1,), error : (r - 1,) standard error
    """

    means: np.ndarray
    error: np.ndarray

    def centre(self, spectrum: Spectrum) -> Spectrum:
        """The spectrum with eigenfunctions of mean zero under the corrected law."""
        return replace(spectrum, offsets=spectrum.offsets - np.concatenate([[0.0], self.means]))

    def density(self, spectrum: Spectrum, states: np.ndarray) -> np.ndarray:
        """(n,) density of the corrected law to that of the ensemble at states (d, n), clipped at zero."""
        return np.maximum(1 + spectrum.eigenfunctions(states)[:, 1:].real @ self.means, 0.0)

    def weights(self, spectrum: Spectrum, states: np.ndarray) -> np.ndarray:
        """(n,) weights of ensemble states (d, n) under the corrected law, summing to one."""
        weights = self.density(spectrum, states)
        return weights / weights.sum()


def correct(space: Space, spectrum: Spectrum) -> StationaryMeans:
    """Means under the invariant law from the flux sums. Collective.

    Each mean is the average of two estimates, the generator's and the ensemble's own (zero), weighted by their
    inverse variances over groups of trajectories: where no state was seen between two sets, the generator knows
    nothing of their balance and the ensemble decides.

    Parameters
    ----------
    space : of the Dirichlet form, in which weights and test functions live; its sums have "flux"
    spectrum : eigenpairs found in it
    """
    sums, V = space.sums, spectrum.coefficients.real[:, 1:]
    drift = sums.vectors["flux"]
    # mean of (psi - m) (G psi)^T in the basis: left of it G has mean zero under the law that is looked for
    matrix = space.project(sums.form("flux", np.zeros(sums.size), drift, 0.0))
    weights = -_solved(matrix.T, space.components(drift))
    # components of the eigenfunctions in the orthonormal basis: phi_k = psi W y_k
    y = space.expand(V)
    means = weights @ y
    slope, response = space.coefficients(weights), space.coefficients(_solved(matrix, y))
    constant, offset, dictionary = 1 - sums.mean @ slope, sums.mean @ V, sums.sample.dictionary

    def influence(pairs: Pairs) -> np.ndarray:
        """phi, the share in the error of the ensemble's own means; and that in the generator's means: w (phi - means)
        at fixed weights w, and the change of the weights, which w G psi drives."""
        phi, w = pairs.x @ V - offset, constant + pairs.x @ slope
        change = dictionary.generator(pairs.z, pairs.drift, pairs.mobility, pairs.x) @ response
        both = np.concatenate([phi, w[:, None] * (phi - means - change)], axis=1)
        return weighted_sum(both, pairs.weight)

    shares, _count = group_sums(sums.sample, influence, 2 * V.shape[1])
    groups = len(shares)
    own, variance = np.split(groups / max(groups - 1, 1) * ((shares / sums.count) ** 2).sum(axis=0), 2)
    both = np.maximum(own + variance, 1e-300)
    return StationaryMeans(*sums.comm.bcast((own / both * means, np.sqrt(own * variance / both))))


def _solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """matrix^-1 right, or the least solution where the generator leaves something undecided."""
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(matrix) @ right
