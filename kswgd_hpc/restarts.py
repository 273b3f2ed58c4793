"""The dynamics restarted from recorded states, for the certificates: see `certificates`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kswgd_hpc import streams
from kswgd_hpc.certificates import Restarts, TimeStepError, TrueResiduals, time_step_error, true_residuals
from kswgd_hpc.checkpoint import UNSAVED, Keeping
from kswgd_hpc.coordinates import Mobility
from kswgd_hpc.estimators import Estimator
from kswgd_hpc.galerkin import pair_sums
from kswgd_hpc.parallel import gather_blocks, tiles
from kswgd_hpc.records import Pairs, Sample
from kswgd_hpc.spectrum import Space, Spectrum
from spde.stepping import Noise

_BATCH = 64


@dataclass(frozen=True)
class Dynamics:
    """A system's paths from given states, with the step of the run and with half of it.

    stepper, fine : time steppers; drift : function of states (d, n) -> (d, n)
    mobility : of the state, see `coordinates`; seed : of the run
    steps : of the run's, from a state to its successors
    """

    stepper: object
    fine: object
    drift: Callable
    mobility: Mobility
    seed: int
    steps: int

    @property
    def horizon(self) -> float:
        """Time from a state to its successors."""
        return self.steps * self.stepper.time_step

    def successors(self, states: np.ndarray, first: int, again: bool) -> list[np.ndarray]:
        """Successors (d, n) of states: with the run's step, with half of it on the same Brownian path, and, if asked
        for, an independent one with the run's step. `first` is the number of the first of the states."""
        coarse, fine = (Noise(self.seed, streams.RESTART, first, merged) for merged in (1, 0))
        found = [
            self.stepper.advance(states, coarse, 0, self.steps),
            self.fine.advance(states, fine, 0, 2 * self.steps),
        ]
        if again:
            found.append(self.stepper.advance(states, Noise(self.seed, streams.RESTART_AGAIN, first), 0, self.steps))
        return found


def horizon_steps(spectrum: Spectrum, estimator: Estimator, lag_time: float, time_step: float) -> int:
    """Steps to the successors: a lag time, or, without one, until the fastest mode has decayed by a factor e."""
    if not estimator.pairs:
        lag_time = 1 / spectrum.rates.real.max()
    return max(1, round(lag_time / time_step))


def certify(
    space: Space,
    spectrum: Spectrum,
    estimator: Estimator,
    dynamics: Dynamics,
    states: list[np.ndarray],
    again: bool,
    tick: Callable[[int], None],
    keeping: Keeping = UNSAVED,
) -> tuple[TimeStepError, TrueResiduals | None]:
    """Time-step errors of all modes but the constant one, and, if asked for, their true residuals. Collective.

    Parameters
    ----------
    space, spectrum, estimator : what is certified
    states : (n, d) of each of this rank's blocks, in order
    again : whether the true residuals are wanted, which take a second successor
    keeping : where the sums over some states at a time are saved
    """
    comm, rates = space.sums.comm, spectrum.rates[1:]
    eigenvalues = spectrum.eigenvalues[1:] if estimator.pairs else np.exp(-rates * dynamics.horizon)
    look = _Look(space, spectrum, estimator, dynamics, eigenvalues)
    counts = [n for part in comm.allgather([len(rows) for rows in states]) for n in part]
    first = sum(n for part in comm.allgather([len(rows) for rows in states])[: comm.rank] for n in part)
    rows = []
    with keeping as kept:
        for block in states:
            sums = np.zeros((4, len(rates)), dtype=complex)
            for part in tiles(len(block), _BATCH) if len(block) else []:
                here, number = np.ascontiguousarray(block[part.start : part.stop].T), first + part.start
                sums += kept(number, lambda here=here, number=number: look(here, number, again).sums(eigenvalues))
            first += len(block)
            rows.append(np.concatenate([sums.real.ravel(), sums.imag.ravel()])[None])
            tick(1)
    gathered = gather_blocks(comm, rows, 8 * len(rates)).reshape(len(counts), 2, 4, len(rates))
    groups = (gathered[:, 0] + 1j * gathered[:, 1])[np.array(counts) > 0]
    slope = -1 / (eigenvalues * dynamics.horizon) if estimator.pairs else np.ones(len(rates))
    return time_step_error(groups, slope), true_residuals(groups, eigenvalues) if again else None


class _Look:
    """Evaluates eigenfunctions at states and their successors."""

    def __init__(
        self, space: Space, spectrum: Spectrum, estimator: Estimator, dynamics: Dynamics, eigenvalues: np.ndarray
    ):
        self._sample, self._spectrum, self._estimator, self._dynamics = (
            space.sums.sample,
            spectrum,
            estimator,
            dynamics,
        )
        if not estimator.pairs:
            right, left = spectrum.coefficients[:, 1:], spectrum.left[:, 1:]
            self._influence = estimator.influence(space.sums, spectrum.rates[1:], right, left)
            # sum_n K^n f over n > 0, in the resolved modes
            share = _projections(space.sums.sample, spectrum, self._influence) / space.sums.count
            self._memory = (eigenvalues / (1 - eigenvalues))[:, None] * share

    def __call__(self, states: np.ndarray, first: int, again: bool) -> Restarts:
        """What the certificates need of states (d, n)."""
        spectrum, estimator = self._spectrum, self._estimator
        x, *others = (self._pairs(s) for s in (states, *self._dynamics.successors(states, first, again)))
        phi = [_values(spectrum.offsets, spectrum.coefficients, pairs) for pairs in (x, *others)]
        if estimator.pairs:
            left = _values(spectrum.left_offsets, spectrum.left, x)
            change = left.conj() * (phi[1] - phi[2])
        else:
            whole, half = (self._influence(y) + p @ self._memory for y, p in zip(others[:2], phi[1:3]))
            change = whole - half
        weight = np.ones(states.shape[1]) if self._sample.weight is None else self._sample.weight(x.x)
        return Restarts(phi[0], phi[1], phi[3] if again else None, change, weight)

    def _pairs(self, states: np.ndarray) -> Pairs:
        """States (d, n) as the estimator's influence looks at them."""
        coordinates, dictionary = self._sample.coordinates, self._sample.dictionary
        z = coordinates(states)
        drift, mobility = None, self._sample.mobility
        if not self._estimator.pairs:
            M = self._dynamics.mobility
            drift = coordinates.velocity(self._dynamics.drift(states), states, M)
            mobility = coordinates.mobility(M, states) if mobility is None else mobility
        alone = np.zeros(1, dtype=int)
        return Pairs(0, dictionary, z[None], alone, alone, z, mobility, drift, None, {})


def _values(offsets: np.ndarray, coefficients: np.ndarray, pairs: Pairs) -> np.ndarray:
    """(n, k) values of all modes but the constant one at x."""
    return offsets[1:] + pairs.x @ coefficients[:, 1:]


def _projections(sample: Sample, spectrum: Spectrum, influence: Callable) -> np.ndarray:
    """(k, k) sums over the sample of conj(left_j) times the influence on the values of mode k. Collective."""
    k = len(spectrum.rates) - 1

    def products(pairs: Pairs) -> np.ndarray:
        left = _values(spectrum.left_offsets, spectrum.left, pairs).conj()
        weighted = left if pairs.weight is None else left * pairs.weight[:, None]
        found = weighted.T @ influence(pairs)
        return np.concatenate([found.real, found.imag], axis=1)

    real, imaginary = np.split(pair_sums(sample, products, (k, 2 * k)), 2, axis=1)
    return real + 1j * imaginary
