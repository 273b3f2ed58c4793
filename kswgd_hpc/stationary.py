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

from kswgd_hpc.galerkin import Moments
from kswgd_hpc.parallel import gather_blocks
from kswgd_hpc.spectrum import Space, Spectrum, Sums, gram_matrix


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

    def weights(self, spectrum: Spectrum, states: np.ndarray) -> np.ndarray:
        """(n,) weights of ensemble states (d, n) under the corrected law, clipped at zero, summing to one."""
        weights = np.maximum(1 + spectrum.eigenfunctions(states)[:, 1:].real @ self.means, 0.0)
        return weights / weights.sum()


def correct(space: Space, spectrum: Spectrum, flux) -> StationaryMeans:
    """Means under the invariant law from the flux sums. Collective.

    Each mean is the average of two estimates, the generator's and the ensemble's own (zero), weighted by their
    inverse variances over groups of trajectories: where no state was seen between two sets, the generator knows
    nothing of their balance and the ensemble decides.

    Parameters
    ----------
    space : of the Dirichlet form, in which weights and test functions live
    spectrum : eigenpairs found in it
    flux : distributed PETSc matrix, sum of psi (G psi)^T over all groups
    """
    sums = space.sums
    W, V = space.basis, spectrum.coefficients.real[:, 1:]
    drift = sums.vector("flux", sums.size) @ W
    matrix = space.project_flux(flux, drift)
    inverse = np.linalg.pinv(matrix.T)
    weights = -inverse @ drift
    # coefficients of the eigenfunctions in the orthonormal basis: phi_k = psi W y_k
    y = np.linalg.lstsq(W, V, rcond=None)[0]
    mine = [_influence(sums, group, W, V, weights, weights @ y) for group in sums.groups if group.count]
    widths = (V.shape[1], V.shape[1], W.shape[1])
    own, mixed, residual = (
        gather_blocks(sums.comm, [parts[kind][None] for parts in mine], width) / sums.count
        for kind, width in enumerate(widths)
    )
    scale = len(own) / max(len(own) - 1, 1)
    variance = scale * ((mixed - residual @ inverse.T @ y) ** 2).sum(axis=0)
    own = scale * (own**2).sum(axis=0)
    both = np.maximum(own + variance, 1e-300)
    means, error = sums.comm.bcast((own / both * (weights @ y), np.sqrt(own * variance / both)))
    return StationaryMeans(means, error)


def _influence(sums: Sums, group: Moments, W: np.ndarray, V: np.ndarray, a: np.ndarray, means: np.ndarray) -> tuple:
    """Sums over a group of phi (r,), of w (phi - means) (r,), and of w G psi W (q,), with w = 1 + (psi - mean) W a.

    The first is the group's share in the error of the ensemble's own means. The generator's means move with a group by
    the second, at fixed weights, and by the change of the weights, which the third drives.
    """
    x, count, mean, slope = group.vectors["x"], group.count, sums.mean, W @ a
    constant = 1 - mean @ slope
    weighted = x * constant + slope @ gram_matrix(group.matrices)
    total = count * constant + x @ slope
    phi = (x - count * mean) @ V
    mixed = (weighted - total * mean) @ V - total * means
    return phi, mixed, (group.vectors["flux"] * constant + slope @ group.matrices["flux"]) @ W
