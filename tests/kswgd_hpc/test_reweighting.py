from __future__ import annotations

import numpy as np
import pytest

from kswgd_hpc.reweighting import invariant_weights
from kswgd_hpc.statistics import effective_sample_size, standard_error
from kswgd_hpc.vamp import whitening

DECAY = np.exp(-0.5)


def swarm(seed: int, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """One lag of an Ornstein-Uhlenbeck process from uniform starts."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-4, 4, count)
    return x, DECAY * x + np.sqrt(1 - DECAY**2) * rng.normal(size=count)


def bumps(x: np.ndarray) -> np.ndarray:
    centres = np.linspace(-4, 4, 12)
    return np.exp(-((x[:, None] - centres) ** 2) / 1.2)


def fit(x: np.ndarray, y: np.ndarray):
    """Weights of a sample, and the functions chi."""
    psi = bumps(x)
    mean = psi.mean(axis=0)
    basis = whitening((psi - mean).T @ (psi - mean) / len(x), 1e-9)

    def chi(points):
        return (bumps(points) - mean) @ basis

    increment = chi(y) - chi(x)
    return invariant_weights(increment.mean(axis=0), chi(x).T @ increment / len(x)), chi


def test_a_swarm_is_weighed_to_the_invariant_law():
    squares = []
    for seed in range(12):
        x, y = swarm(seed)
        weights, chi = fit(x, y)
        w = weights(chi(x))
        squares.append([(w * x**2).sum() / w.sum(), (w * x**4).sum() / w.sum()])
        assert effective_sample_size(w) < 0.8 * len(x)  # a standard normal within a uniform of width 8
    squares = np.array(squares)
    error = squares.std(axis=0, ddof=1) / np.sqrt(len(squares))
    assert (error < [0.02, 0.1]).all()
    assert (np.abs(squares.mean(axis=0) - [1, 3]) < 3 * error + [0.005, 0.03]).all()


def test_the_generator_knows_the_weights_without_pairs():
    x, _ = swarm(1)
    psi, step = bumps(x), 1e-4
    first = (bumps(x + step) - bumps(x - step)) / (2 * step)
    second = (bumps(x + step) - 2 * psi + bumps(x - step)) / step**2
    mean = psi.mean(axis=0)
    basis = whitening((psi - mean).T @ (psi - mean) / len(x), 1e-9)
    chi, rates = (psi - mean) @ basis, (-x[:, None] * first + second) @ basis
    w = invariant_weights(rates.mean(axis=0), chi.T @ rates / len(x))(chi)
    exact = np.exp(-(x**2) / 2)
    np.testing.assert_allclose(w / w.sum(), exact / exact.sum(), atol=0.03 * exact.max() / exact.sum())


def test_the_error_of_the_weights_enters_the_error_of_a_mean():
    # standard error of the weighted mean of x, from one sample by influence and from many samples
    def mean_and_influence(seed):
        x, y = swarm(seed, 4000)
        weights, chi = fit(x, y)
        w = weights(chi(x))
        mean = (w * x).sum() / w.sum()
        fixed = ((x - mean) / w.sum())[:, None]
        moved = weights.influence(weights.active(chi(x)).T @ fixed)
        influence = w[:, None] * fixed + (w[:, None] * (chi(y) - chi(x)) / len(x)) @ moved
        return mean, standard_error(influence)[0], standard_error(w[:, None] * fixed)[0]

    means, errors, naive = np.array([mean_and_influence(seed) for seed in range(60)]).T
    spread = means.std(ddof=1)  # known to 9 %
    assert np.median(errors) == pytest.approx(spread, rel=0.3)
    assert np.median(naive) < 0.6 * spread


def test_effective_sample_size_of_equal_weights_is_their_number():
    assert effective_sample_size(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_sample_size(np.zeros(3)) == 0
