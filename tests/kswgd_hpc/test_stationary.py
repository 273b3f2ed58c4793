from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from support import sums

from kswgd_hpc.estimators import ESTIMATORS
from kswgd_hpc.parallel import local
from kswgd_hpc.spectrum import solve
from kswgd_hpc.stationary import correct

COMM = MPI.COMM_WORLD

# an ensemble that has not forgotten where it started: two thirds of it too far to the right
TILTED = """
seed: SEED
system: {kind: diffusion, variables: [x], potential: (x**2-1)**2, temperature: TEMPERATURE}
ensemble: {trajectories: 400, initial: {kind: uniform, low: -1.0, high: 2.0}, time_step: 0.01, burn_in: 0.5,
  duration: 5, lag_time: 0.1}
koopman: {estimator: dirichlet, dictionary: {kind: gaussian, size: 60}, modes: 12}
kswgd: {particles: 100, initial: {kind: gaussian}}
"""


def corrected(seed: int, temperature: float, comm: MPI.Comm = MPI.COMM_SELF):
    """Occupation x > 0 by the ensemble and corrected, of all records; the correction."""
    text = TILTED.replace("SEED", str(seed)).replace("TEMPERATURE", str(temperature))
    _config, plan, totals = sums(text, comm)
    spectrum, space = solve(totals, ESTIMATORS["dirichlet"], 0.1, 12, 1e-9)
    found = correct(space, spectrum)
    windows = [w for block in local(plan.ensemble.blocks, comm) for w in plan.ensemble.windows(block)]
    states = np.concatenate([w.states[:-1].ravel() for w in windows])[None]
    weights = found.weights(spectrum, states)
    return (states[0] > 0).mean(), weights @ (states[0] > 0), found, spectrum


def test_the_generator_balances_the_wells_of_an_ensemble_that_has_not_relaxed():
    before, after, _, _ = corrected(1, 0.25)
    assert before > 0.6
    assert after == pytest.approx(0.5, abs=0.01)


def test_printed_errors_cover_the_correction():
    grid = np.linspace(-1.8, 1.8, 4001)
    law = np.exp(-((grid**2 - 1) ** 2) / 0.5)
    deviations = []
    for seed in range(10):
        _, _, found, spectrum = corrected(seed, 0.5)
        exact = spectrum.eigenfunctions(grid[None])[:, 1:4].real.T @ (law / law.sum())
        deviations += list((found.means[:3] - exact) / found.error[:3])
    assert 0.4 < np.sqrt(np.mean(np.square(deviations))) < 2.0


def test_where_nothing_was_seen_between_the_wells_the_ensemble_decides():
    before, after, found, _ = corrected(1, 0.02)
    assert after == pytest.approx(before, abs=0.1)
    assert np.isfinite(found.means).all()


@pytest.mark.mpi(min_size=2)
def test_the_correction_has_the_same_bits_on_every_rank_count():
    together, alone = corrected(3, 0.5, COMM)[2], corrected(3, 0.5)[2]
    assert together.means.tobytes() == alone.means.tobytes()
    assert together.error.tobytes() == alone.error.tobytes()
