"""The invariant law given what was observed: a likelihood, survival under a killing rate, or both.

The target is pi(x) exp(l(x)) u(x, T), with l the logarithm of a likelihood and u(x, T) = E_x[exp(-int_0^T c)] from the
Feynman-Kac operator of method.md section 4, exp(-T (L + c)) in the span of the eigenfunctions. The Dirichlet form and
the inner product are then means under the tilted law: with the same mobility they belong to the reversible diffusion
that leaves it invariant, and its eigenfunctions move the particles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
from mpi4py import MPI

from kswgd_hpc.config import Config
from kswgd_hpc.coordinates import Pilot
from kswgd_hpc.dictionary import Dictionary
from kswgd_hpc.dictionary.fit import fit
from kswgd_hpc.ensemble import PILOT_ROWS
from kswgd_hpc.errors import DataError
from kswgd_hpc.estimators import ESTIMATORS
from kswgd_hpc.galerkin import assemble, group_sums
from kswgd_hpc.metrics import subsample
from kswgd_hpc.parallel import gather_blocks, sum_blocks
from kswgd_hpc.plan import KILLING, LIKELIHOOD, Plan, most_modes
from kswgd_hpc.progress import Progress
from kswgd_hpc.records import WEIGHT, Pairs, Records, Sample
from kswgd_hpc.spectrum import Spectrum
from kswgd_hpc.stages.koopman import solved
from kswgd_hpc.stages.particles import Target

_FEWEST = 32.0
_NEGLIGIBLE = 1e-3  # weight, of a mean of one


@dataclass(frozen=True)
class Tilt:
    """Density of the target to the law of the ensemble's states, not normalised.

    base : the invariant law as it is known; survival : (r,) coefficients of u(x, T) in its eigenfunctions, None for one
    log_likelihood : function of states (d, n) -> (n,), None for none; largest : what its values are taken less
    """

    base: Target
    survival: np.ndarray | None
    log_likelihood: Callable[[np.ndarray], np.ndarray] | None
    largest: float = 0.0

    def of_features(self, psi: np.ndarray, log: np.ndarray | None) -> np.ndarray:
        """(n,) of states with features (n, p) and log likelihoods (n,), without the weights of a reweighted sample."""
        phi, weight = self.base.spectrum.of_features(psi), np.ones(len(psi))
        if self.base.stationary is not None:
            weight = weight * np.maximum(1 + phi[:, 1:] @ self.base.stationary.means, 0.0)
        if self.survival is not None:
            weight = weight * np.maximum(phi @ self.survival, 0.0)
        return weight if log is None else weight * np.exp(log - self.largest)

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """(n,) of states (n, d)."""
        if not len(states):
            return np.ones(0)
        spectrum = self.base.spectrum
        psi = spectrum.dictionary.values(spectrum.coordinates.of_rows(states))
        log = None if self.log_likelihood is None else self.log_likelihood(np.ascontiguousarray(states.T))
        weight = self.of_features(psi, log)
        return weight if self.base.density is None else weight * self.base.density(psi)


def conditioned(
    comm: MPI.Comm, config: Config, plan: Plan, base: Target, sample: Sample, progress: Progress
) -> tuple[Target, dict[str, Any]]:
    """The target given the condition, and what is told of it. Collective.

    Parameters
    ----------
    base : the invariant law; sample : whose records have the values of likelihood and killing rate

    Raises
    ------
    DataError : hardly any state of the ensemble agrees with the condition
    """
    with progress.stage("condition", 1) as stage:
        spec, found = config.kswgd.condition, {}
        survival = None
        if spec.killing is not None:
            survival = _survival(base.spectrum, replace(sample, values=(KILLING,), pairs=False), spec.time)
            found["kswgd/condition/survival"] = survival[0]
        tilt = Tilt(base, survival, plan.condition.get(LIKELIHOOD), _largest(comm, sample))
        weighted, effective = _weighted(comm, sample, tilt)
        if effective < _FEWEST:
            raise DataError(
                f"kswgd.condition leaves {effective:.1f} of the ensemble's states, expected {_FEWEST:.0f} or more: "
                "it says of the law what no trajectory did; take more of them, or a weaker condition"
            )
        dictionary = _dictionary(comm, config, weighted)
        sums = assemble(replace(weighted, dictionary=dictionary), ESTIMATORS["dirichlet"].matrices)
        spectrum, _ = solved(config, plan, sums, ESTIMATORS["dirichlet"])
        found["kswgd/condition/effective_sample_size"] = effective
        stage.note = f"effective sample size {effective:.4g}" + (
            "" if survival is None else f", {survival[0]:.3g} survive"
        )
    return Target(spectrum, tilt=tilt), found


def _survival(spectrum: Spectrum, sample: Sample, time: float) -> np.ndarray:
    """(r,) coefficients of E_x[exp(-int_0^time c)] in the eigenfunctions: exp(-time (L + c)) of one. Collective."""
    r = len(spectrum.rates)

    def products(pairs: Pairs) -> np.ndarray:
        phi, rate = spectrum.of_features(pairs.x), pairs.values[KILLING]
        weight = rate if pairs.weight is None else rate * pairs.weight
        return (phi.T @ (phi * weight[:, None])).ravel()

    shares, count = group_sums(sample, products, r * r)
    killing = (shares.sum(axis=0) / count.sum()).reshape(r, r)
    return scipy.linalg.expm(-time * (np.diag(spectrum.rates.real) + (killing + killing.T) / 2))[:, 0]


def _largest(comm: MPI.Comm, sample: Sample) -> float:
    """Largest log likelihood of all records. Collective."""
    values = [
        block.values[LIKELIHOOD].max() for block in sample.blocks if block.values.get(LIKELIHOOD, np.empty(0)).size
    ]
    largest = comm.allreduce(float(max(values, default=-np.inf)), op=MPI.MAX)
    return largest if np.isfinite(largest) else 0.0


def _weighted(comm: MPI.Comm, sample: Sample, tilt: Tilt) -> tuple[Sample, float]:
    """The sample with the weights of the condition, of mean one, and its effective size. Collective."""
    weights = [_of_records(block, sample, tilt) for block in sample.blocks]
    parts = [np.array([w.sum(), (w**2).sum(), w.size]) for w in weights]
    total, square, count = sum_blocks(comm, parts, (3,), sample.terms)
    blocks = [
        replace(block, values=block.values | {WEIGHT: w * (count / max(total, 1e-300))})
        for block, w in zip(sample.blocks, weights, strict=True)
    ]
    return replace(sample, blocks=blocks, values=(), weight=None, pairs=False), total**2 / max(square, 1e-300)


def _dictionary(comm: MPI.Comm, config: Config, sample: Sample) -> Dictionary:
    """The dictionary, made from records that have weight: elsewhere nothing is known. Collective."""
    parts = []
    for block in sample.blocks:
        known = block.z[block.x][block.values[WEIGHT] > _NEGLIGIBLE]
        parts.append(subsample(known, max(1, PILOT_ROWS // sample.terms)))
    z = gather_blocks(comm, parts, sample.coordinates.size)
    section, coordinates = config.koopman.dictionary, sample.coordinates
    if getattr(section, "size", None) is not None:
        section = section.model_copy(update={"size": min(section.size, len(z))})
    if getattr(section, "centres", None) == "auto":
        section = section.model_copy(update={"centres": "farthest"})
    pilot = Pilot(
        coordinates.map,
        z * coordinates.scale + coordinates.mean,
        _mobility(comm, sample) * np.outer(coordinates.scale, coordinates.scale),
    )
    return fit(section, coordinates, pilot, most_modes(config, sample.dictionary.size), True, config.seed)


def _mobility(comm: MPI.Comm, sample: Sample) -> np.ndarray:
    """(c, c) mobility of the coordinates, its mean where it depends on the state. Collective."""
    if sample.mobility is not None:
        return sample.mobility
    c = sample.coordinates.size
    parts = [np.append(block.mobility.sum(axis=(0, 1)).ravel(), block.pairs) for block in sample.blocks]
    total = sum_blocks(comm, parts, (c * c + 1,), sample.terms)
    return (total[:-1] / total[-1]).reshape(c, c)


def _of_records(block: Records, sample: Sample, tilt: Tilt) -> np.ndarray:
    """(s, n) weights of the records at which pairs start."""
    out = np.empty((len(block.x), block.z.shape[1]))
    for row, record in enumerate(block.x):
        psi = sample.dictionary.values(block.z[record])
        log = block.values[LIKELIHOOD][row] if LIKELIHOOD in block.values else None
        out[row] = tilt.of_features(psi, log) * (1.0 if sample.weight is None else sample.weight(psi))
    return out
