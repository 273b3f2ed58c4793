from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from scipy.spatial.distance import cdist
from support import SMALL

from kswgd_hpc.config import parse
from kswgd_hpc.metrics import energy_distance, iid_floor, quadratic_forms, subsample
from kswgd_hpc.stages.way import compared_with_ensemble

COMM = MPI.COMM_WORLD
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(300, 2)), RNG.normal(size=(200, 2)) + 0.5


def direct(a, b):
    mean = lambda x, y: np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1)).mean()  # noqa: E731
    return 2 * mean(a, b) - mean(a, a) - mean(b, b)


def test_energy_distance_is_its_definition():
    assert energy_distance(MPI.COMM_SELF, A, B) == pytest.approx(direct(A, B), rel=1e-9)
    # squares are expanded, so coinciding points are the square root of a rounding error apart, 1e-8
    assert energy_distance(MPI.COMM_SELF, A, A) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("count", [1, 64, 65, 128, 130, 191, 250])
def test_every_pair_of_points_is_met_once(count):
    """Whatever the number of tiles, and however full the last."""
    generator = np.random.default_rng(3)
    points, signs = generator.normal(size=(count, 3)), generator.normal(size=(count, 2))
    expected = np.einsum("ik,ij,jk->k", signs, cdist(points, points), signs)
    np.testing.assert_allclose(quadratic_forms(MPI.COMM_SELF, points, signs), expected, rtol=1e-8, atol=1e-9)


def test_the_floor_is_the_distance_of_independent_samples():
    pool = RNG.normal(size=(4000, 2))
    floor, spread = iid_floor(MPI.COMM_SELF, pool, 300, 1)
    fresh = [direct(RNG.normal(size=(300, 2)), RNG.normal(size=(300, 2))) for _ in range(20)]
    assert floor == pytest.approx(np.mean(fresh), abs=4 * np.std(fresh) / np.sqrt(8))
    assert 0 < spread < floor


def test_subsamples_are_even():
    assert subsample(np.arange(10), 5).tolist() == [0, 2, 4, 6, 8]
    assert subsample(np.arange(3), 5).tolist() == [0, 1, 2]


@pytest.mark.mpi(min_size=2)
def test_distances_have_the_same_bits_on_every_rank_count():
    a = np.repeat(A, 3, axis=0)
    assert energy_distance(COMM, a, B) == energy_distance(MPI.COMM_SELF, a, B)


def test_particles_are_judged_by_the_states_of_all_trajectories():
    """Two wells, in which every second state lies: half of the states would judge by one well alone."""
    rng = np.random.default_rng(5)
    sides = np.tile([-1.0, 1.0], 1000)
    pool = sides[:, None] + 0.2 * rng.normal(size=(2000, 3))
    particles = rng.permutation(sides)[:1000, None] + 0.2 * rng.normal(size=(1000, 3))
    who = {"initial": pool[::2], "particles": particles}
    found, _note = compared_with_ensemble(MPI.COMM_SELF, parse(SMALL), pool, None, who)
    floor, spread = (found[f"kswgd/metrics/energy_distance_floor{name}"] for name in ("", "_deviation"))
    assert found["kswgd/metrics/energy_distance_particles"] < floor + 4 * spread
    assert found["kswgd/metrics/energy_distance_initial"] > 50 * floor
