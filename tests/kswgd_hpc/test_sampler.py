from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from scipy.special import ndtr

from kswgd_hpc.errors import DataError
from kswgd_hpc.sampler import Sampler

COMM = MPI.COMM_WORLD
RNG = np.random.default_rng(3)
# a mixture with two sets of unequal weight, 0.3 and 0.7
SIDES = np.where(RNG.random(6000) < 0.3, -1.0, 1.0)
STATES = np.stack([SIDES + 0.4 * RNG.normal(size=6000), 0.5 * RNG.normal(size=6000)], axis=1)
START = np.array([1.0, 0.0]) + 0.1 * RNG.normal(size=(1000, 2))


@pytest.fixture(scope="module")
def sampler():
    return Sampler.fit(STATES, size=150, modes=25)


def test_particles_from_one_set_come_to_the_law_of_the_samples(sampler):
    found = sampler.sample(START)
    assert found.history.converged
    assert (found.states[:, 0] < 0).mean() == pytest.approx((STATES[:, 0] < 0).mean(), abs=0.03)
    assert found.states[:, 1].std() == pytest.approx(0.5, rel=0.1)


def test_a_likelihood_tilts_the_law():
    """y = x + noise of deviation 1 is observed at -1: mixtures of normals stay mixtures of normals."""
    tilted = Sampler.fit(STATES, log_likelihood=-((STATES[:, 0] + 1) ** 2) / 2, size=150, modes=25)
    s2 = 0.4**2
    odds = 0.3 / 0.7 * np.exp(4 / (2 * (1 + s2)))
    deviation = np.sqrt(s2 / (1 + s2))
    inside = ndtr(1 / deviation), ndtr(-(1 - s2) / (1 + s2) / deviation)  # x < 0 in the left and in the right normal
    states = tilted.sample(START).states
    left = states[:, 0] < 0
    assert left.mean() == pytest.approx((odds * inside[0] + inside[1]) / (1 + odds), abs=0.04)
    assert states[left, 0].std() == pytest.approx(deviation, rel=0.15)
    assert 1000 < tilted.effective < 6000


def test_weighted_particles_are_moved_as_a_weighted_law(sampler):
    """Every second particle has no weight to speak of: the others alone have to come to the law."""
    weights = np.where(np.arange(1000) % 2, 1.0, 1e-9)
    states = sampler.sample(START, weights=weights).states[1::2]
    assert (states[:, 0] < 0).mean() == pytest.approx((STATES[:, 0] < 0).mean(), abs=0.04)


def test_what_was_saved_moves_particles_in_the_same_bits(sampler, tmp_path):
    sampler.save(tmp_path / "spectrum.h5")
    again = Sampler.load(tmp_path / "spectrum.h5")
    assert again.sample(START[:200]).states.tobytes() == sampler.sample(START[:200]).states.tobytes()


def test_bad_arrays_are_named(sampler, tmp_path):
    with pytest.raises(DataError, match="states: shape"):
        Sampler.fit(STATES[0])
    with pytest.raises(DataError, match="weights: shape"):
        Sampler.fit(STATES, weights=np.ones(3))
    with pytest.raises(DataError, match="effective samples"):
        Sampler.fit(STATES, log_likelihood=-1e4 * STATES[:, 0] ** 2 - 1e6 * STATES[:, 1] ** 2)
    with pytest.raises(DataError, match=r"expected finite \(N, 2\)"):
        sampler.sample(np.zeros((5, 3)))
    (tmp_path / "other.h5").write_bytes(b"no")
    with pytest.raises(DataError, match="is not a file"):
        Sampler.load(tmp_path / "other.h5")


@pytest.mark.mpi(min_size=2)
def test_ranks_share_the_particles_and_find_the_same_bits(sampler):
    together, alone = sampler.sample(START[:300], comm=COMM), sampler.sample(START[:300])
    assert together.states.tobytes() == alone.states.tobytes()
    assert together.log_ratio.tobytes() == alone.log_ratio.tobytes()
