"""Transport as a library: fit a spectrum to samples, then move particles of one's own to their law.

    sampler = Sampler.fit(states)                        # (n, d) samples of a law, nothing else known of it
    drawn = sampler.sample(initial)                      # (N, d) particles from anywhere to that law
    sampler.save("spectrum.h5"); Sampler.load("spectrum.h5")

With weights, or with the logarithm of a likelihood of observed data at the samples, it is the law so tilted: the
Dirichlet form and the inner product are means under the tilted law, and its particles are draws of the posterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc import storage
from kswgd_hpc.coordinates import Coordinates, LinearMap, Pilot, intrinsic
from kswgd_hpc.dictionary import GaussianDictionary
from kswgd_hpc.dictionary.fit import fit as fitted
from kswgd_hpc.ensemble import PILOT_ROWS, block_count
from kswgd_hpc.errors import DataError
from kswgd_hpc.estimators import ESTIMATORS
from kswgd_hpc.flow import Flow, particle_blocks
from kswgd_hpc.galerkin import assemble
from kswgd_hpc.parallel import by_block, cut, gather_blocks, local, span
from kswgd_hpc.records import WEIGHT, Records, Sample
from kswgd_hpc.schema.dictionary import GaussianDictionary as Section
from kswgd_hpc.spectrum import Spectrum, solve
from kswgd_hpc.statistics import effective_sample_size
from kswgd_hpc.transport import History, Steps, transport

_REGULARIZATION = 1e-9
_KEPT = ("rates", "rates_error", "coefficients", "offsets")


@dataclass(frozen=True)
class Journey:
    """Particles after transport, and how they came there.

    states : (N, d); log_ratio : (N,) logarithm of the density ratio that each carries; history : of the flow
    """

    states: np.ndarray
    log_ratio: np.ndarray
    history: History


@dataclass(frozen=True)
class Sampler:
    """A law that particles can be moved to, known by the slow modes of the diffusion that leaves it invariant.

    Parameters
    ----------
    spectrum : of the Dirichlet form of samples of the law
    mobility : (d,) M of the states, units of state**2 / time
    effective : number of equally weighted samples that know as much as those it was fitted to
    """

    spectrum: Spectrum
    mobility: np.ndarray
    effective: float

    @classmethod
    def fit(
        cls,
        states: np.ndarray,
        mobility: float | np.ndarray = 1.0,
        weights: np.ndarray | None = None,
        log_likelihood: np.ndarray | None = None,
        size: int = 300,
        modes: int = 30,
        seed: int = 0,
    ) -> Sampler:
        """The sampler of the law that states were drawn from. Not collective: each process fits by itself.

        Parameters
        ----------
        states : (n, d) samples of the law, at least 32
        mobility : M, one for all components or (d,): the unit of flow in each direction
        weights : (n,) of the samples, not negative; equal ones where there are none
        log_likelihood : (n,) logarithm of what the law is to be multiplied with, up to a constant
        size : Gaussians of the dictionary; modes : eigenpairs, the constant one included
        seed : of what is drawn at random

        Raises
        ------
        DataError : arrays that do not fit or are not finite, weights of too few samples
        SpectrumError : the eigenproblem could not be solved
        """
        states, weights = _checked(states, weights, log_likelihood)
        n, d = states.shape
        M = np.broadcast_to(np.asarray(mobility, dtype=float), (d,)).copy()
        observed = LinearMap(None, d)
        # centres where the law has mass: the pilot is thinned by the weights
        known = states if weights is None else states[weights * n > 1e-3]
        thin = known[:: -(-len(known) // PILOT_ROWS)]
        pilot = Pilot(observed, thin, observed.mobility(M))
        coordinates = intrinsic(pilot)
        section = Section(kind="gaussian", size=min(size, len(thin)))
        dictionary = fitted(section, coordinates, pilot, modes, True, seed)
        sample = _sample(coordinates, dictionary, coordinates.mobility(M), states, weights)
        spectrum, _ = solve(
            assemble(sample, ESTIMATORS["dirichlet"].matrices), ESTIMATORS["dirichlet"], 1.0, modes, _REGULARIZATION
        )
        return cls(spectrum, M, float(n) if weights is None else effective_sample_size(weights))

    def sample(
        self,
        initial: np.ndarray,
        steps: Steps | None = None,
        weights: np.ndarray | None = None,
        comm: MPI.Comm = MPI.COMM_SELF,
    ) -> Journey:
        """Move particles to the law. Collective.

        Parameters
        ----------
        initial : (N, d) particles at the start, the same on every rank; no two of them at one place
        steps : how far and in what steps, see `transport.Steps`
        weights : (N,) of the particles, where they differ
        comm : ranks that share the work

        Returns
        -------
        Journey, the same on every rank

        Raises
        ------
        DataError : particles of another dimension, or not finite; TransportError : see `transport.transport`
        """
        initial = np.atleast_2d(np.asarray(initial, dtype=float))
        if initial.ndim != 2 or initial.shape[1] != len(self.mobility) or not np.isfinite(initial).all():
            raise DataError(f"initial: shape {initial.shape}, expected finite (N, {len(self.mobility)})")
        total, coordinates = len(initial), self.spectrum.coordinates
        blocks = local(particle_blocks(total), comm)
        first, last = span(blocks)
        mine, share, effective = initial[first:last], None, None
        if weights is not None:
            weights = np.asarray(weights, dtype=float)
            share, effective = weights[first:last] / weights.sum(), effective_sample_size(weights)
        flow = Flow(
            comm,
            self.spectrum,
            coordinates.mobility(self.mobility),
            blocks,
            total,
            weights=share,
            effective=effective,
        )
        try:
            state, history = transport(flow, by_block(blocks, coordinates.of_rows, mine), steps or Steps())
        finally:
            flow.close()
        lifted = by_block(blocks, lambda rows: coordinates.lift(rows, self.mobility), state.impulse)
        moved = np.concatenate([mine - lifted, state.log_ratio[:, None]], axis=1)
        moved = gather_blocks(comm, [moved], moved.shape[1])
        return Journey(moved[:, :-1], moved[:, -1], history)

    def density_ratio(self, particles: np.ndarray, states: np.ndarray) -> np.ndarray:
        """(n,) ratio of the law of particles (N, d) to this one at states (n, d), as far as the modes resolve it."""
        means = self.spectrum.eigenfunctions(particles.T)[:, 1:].real.mean(axis=0)
        return 1 + self.spectrum.eigenfunctions(states.T)[:, 1:].real @ means

    def save(self, path: str | Path) -> None:
        """Write the fitted spectrum to an HDF5 file."""
        spectrum = self.spectrum
        datasets: dict[str, Any] = {name: getattr(spectrum, name).real for name in _KEPT}
        datasets |= {"mean": spectrum.coordinates.mean, "scale": spectrum.coordinates.scale}
        datasets |= {"mobility": self.mobility, "effective": self.effective}
        datasets |= {f"dictionary/{name}": value for name, value in spectrum.dictionary.parameters().items()}
        storage.write_file(Path(path), datasets, {"format": 1})

    @classmethod
    def load(cls, path: str | Path) -> Sampler:
        """The sampler that `save` wrote.

        Raises
        ------
        DataError : a file that it did not write
        """
        try:
            found, _ = storage.read_results(Path(path))
            kept = {name: found[name] for name in _KEPT}
            mean, scale = found["mean"], found["scale"]
            dictionary = GaussianDictionary(found["dictionary/centres"], float(found["dictionary/bandwidth"]))
            mobility, effective = found["mobility"], float(found["effective"])
        except (OSError, KeyError) as error:
            raise DataError(f"{path} is not a file that Sampler.save has written: {error}") from error
        r, p = len(kept["rates"]), dictionary.size
        spectrum = Spectrum(
            eigenvalues=np.exp(-kept["rates"]).astype(complex),
            dictionary_error=np.full(r, np.nan),
            residuals=np.full(r, np.nan),
            left=np.zeros((p, 0)),
            left_offsets=np.zeros(0),
            rejected=0,
            floor=0.0,
            coordinates=Coordinates(LinearMap(None, len(mean)), mean, scale),
            dictionary=dictionary,
            **kept,
        )
        return cls(spectrum, mobility, effective)


def _checked(states, weights, log_likelihood) -> tuple[np.ndarray, np.ndarray | None]:
    """States (n, d), and weights (n,) of mean one or None."""
    states = np.asarray(states, dtype=float)
    if states.ndim != 2 or len(states) < 32 or not np.isfinite(states).all():
        raise DataError(f"states: shape {states.shape}, expected (n, d) finite numbers with n of at least 32")
    total = None
    for name, given in (("weights", weights), ("log_likelihood", log_likelihood)):
        if given is None:
            continue
        values = np.asarray(given, dtype=float)
        if values.shape != (len(states),) or np.isnan(values).any():
            raise DataError(f"{name}: shape {values.shape}, expected one number for each of {len(states)} states")
        if name == "log_likelihood":
            values = np.exp(values - values.max())
        if (values < 0).any() or not np.isfinite(values).all():
            raise DataError(f"{name}: negative or not finite")
        total = values if total is None else total * values
    if total is None:
        return states, None
    if effective_sample_size(total) < 32:
        raise DataError(f"the weights leave {effective_sample_size(total):.1f} effective samples, expected 32 or more")
    return states, total / total.mean()


def _sample(coordinates: Coordinates, dictionary, mobility, states: np.ndarray, weights: np.ndarray | None) -> Sample:
    """States as the records of an ensemble of one time each."""
    n = len(states)
    blocks = cut(n, block_count(n, 1) if n >= 2**15 else min(16, n))
    at = np.zeros(1, dtype=int)
    records = []
    for block in blocks:
        rows = slice(block.start, block.stop)
        values = {} if weights is None else {WEIGHT: weights[None, rows]}
        z = coordinates.of_rows(states[rows])[None]
        records.append(Records(z, at, at, np.array([block.index]), values))
    return Sample(MPI.COMM_SELF, records, len(blocks), len(blocks), coordinates, dictionary, False, (), mobility)
