from __future__ import annotations

import numpy as np
import pytest

from kswgd_hpc.coordinates import Coordinates, LinearMap
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.kernel_density import KernelDynamics
from spde.stepping import Noise


def coordinates(matrix: np.ndarray | None, c: int) -> Coordinates:
    return Coordinates(LinearMap(matrix, c), np.zeros(c), np.ones(c))


def test_langevin_among_samples_comes_to_rest_in_their_kernel_density():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((1000, 2)) * [1.0, 0.5]
    dynamics = KernelDynamics(coordinates(None, 2), np.ones(2), data, 6.0, 0.4)
    start = rng.standard_normal((2, 4000)) + [[1.5], [0.0]]
    end = dynamics.advance(start, Noise(1, 0, 0), 0, dynamics.steps)
    wanted = data.var(axis=0) + 0.4**2
    assert end.var(axis=1) == pytest.approx(wanted, rel=3 * np.sqrt(2 / 4000) + 0.05)
    assert end.mean(axis=1) == pytest.approx(data.mean(axis=0), abs=3 * 1.1 / np.sqrt(4000) + 0.05)


def test_what_the_coordinates_do_not_see_stays_as_it_is():
    rng = np.random.default_rng(1)
    data = rng.standard_normal((200, 3))
    seen = np.array([[0.6, 0.8, 0.0]])
    dynamics = KernelDynamics(coordinates(seen, 1), np.ones(3), data, 0.5, 0.3)
    start = rng.standard_normal((3, 50))
    end = dynamics.advance(start, Noise(1, 0, 0), 0, dynamics.steps)
    moved = end - start
    assert np.abs(moved[2]).max() == 0.0
    assert np.abs(moved[0] * 0.8 - moved[1] * 0.6).max() < 1e-12
    assert moved[0].std() > 0.1


def test_pieces_of_the_way_are_the_whole_way():
    data = np.random.default_rng(2).standard_normal((100, 2))
    dynamics = KernelDynamics(coordinates(None, 2), np.array([1.0, 0.3]), data, 0.3)
    start = np.zeros((2, 7))
    whole = dynamics.advance(start, Noise(4, 0, 0), 0, dynamics.steps)
    half = dynamics.advance(start, Noise(4, 0, 0), 0, 1)
    assert dynamics.advance(half, Noise(4, 0, 0), 1, dynamics.steps - 1).tobytes() == whole.tobytes()


def test_coordinates_that_are_no_linear_ones_are_refused():
    class Curved(LinearMap):
        linear = False

    with pytest.raises(ConfigurationError, match="among samples need"):
        KernelDynamics(Coordinates(Curved(None, 2), np.zeros(2), np.ones(2)), np.ones(2), np.zeros((9, 2)), 1.0)
