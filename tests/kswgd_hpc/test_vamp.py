from __future__ import annotations

import numpy as np
import pytest

from kswgd_hpc.errors import SpectrumError
from kswgd_hpc.statistics import standard_error
from kswgd_hpc.vamp import Covariances, scores, singular_functions


def hermite(x: np.ndarray, degree: int) -> np.ndarray:
    """(n, degree) normalised Hermite polynomials of degree 1, 2, ..."""
    table = [np.ones_like(x), x]
    for k in range(1, degree):
        table.append((x * table[k] - np.sqrt(k) * table[k - 1]) / np.sqrt(k + 1))
    return np.stack(table[1:], axis=1)


def covariances(x: np.ndarray, y: np.ndarray) -> Covariances:
    return Covariances(len(x), x.sum(axis=0), y.sum(axis=0), x.T @ x, x.T @ y, y.T @ y)


def spreading_pairs(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Pairs of an Ornstein-Uhlenbeck process on its way out of a narrow law, and their correlation."""
    rng = np.random.default_rng(seed)
    decay, start = 0.7, 0.5
    x = start * rng.normal(size=count)
    y = decay * x + np.sqrt(1 - decay**2) * rng.normal(size=count)
    return x, y, decay * start / np.sqrt(decay**2 * start**2 + 1 - decay**2)


def test_singular_values_out_of_equilibrium_are_powers_of_the_correlation():
    # Mehler's formula: for jointly normal x, y the singular functions are Hermite polynomials of each
    x, y, correlation = spreading_pairs(1, 40_000)
    psi_x, psi_y = hermite(x, 3), hermite(y, 3)
    found = singular_functions(covariances(psi_x, psi_y), 3, 1e-9)
    groups = found.influence(psi_x, psi_y).reshape(50, -1, 3).sum(axis=1) / len(x)
    error = standard_error(groups)
    assert (np.abs(found.values - correlation ** np.arange(1, 4)) < 3 * error).all()
    assert error[0] < 0.01


def test_singular_functions_are_orthonormal_under_the_two_laws():
    x, y, _ = spreading_pairs(2, 5000)
    psi_x, psi_y = hermite(x, 4), hermite(y, 4)
    found = singular_functions(covariances(psi_x, psi_y), 4, 1e-9)
    left, right = found.left_offsets + psi_x @ found.left, found.right_offsets + psi_y @ found.right
    for values in (left, right):
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-10)
        np.testing.assert_allclose(values.T @ values / len(x), np.eye(4), atol=1e-10)
    np.testing.assert_allclose(left.T @ right / len(x), np.diag(found.values), atol=1e-10)


def test_the_influence_is_the_derivative_of_the_singular_values():
    x, y, _ = spreading_pairs(3, 2000)
    psi_x, psi_y = hermite(x, 3), hermite(y, 3)
    whole, part = covariances(psi_x, psi_y), covariances(psi_x[:100], psi_y[:100])
    found = singular_functions(whole, 3, 1e-9)
    small = 1e-5
    more = Covariances(*(getattr(whole, n) + small * getattr(part, n) for n in whole.__dataclass_fields__))
    change = (singular_functions(more, 3, 1e-9).values - found.values) / small
    influence = found.influence(psi_x[:100], psi_y[:100]).sum(axis=0) / len(x)
    np.testing.assert_allclose(influence, change, rtol=1e-3, atol=1e-6)


def test_scores_on_the_own_sample_are_sums_of_singular_values():
    x, y, _ = spreading_pairs(4, 3000)
    sample = covariances(hermite(x, 4), hermite(y, 4))
    found = singular_functions(sample, 4, 1e-9)
    score = scores(found, sample)
    assert score["vamp1"] == pytest.approx(1 + found.values.sum(), rel=1e-9)
    assert score["vamp2"] == pytest.approx(1 + (found.values**2).sum(), rel=1e-9)
    assert score["vampe"] == pytest.approx(1 + (found.values**2).sum(), rel=1e-9)


def test_held_out_trajectories_do_not_reward_what_fits_noise():
    x, y, correlation = spreading_pairs(5, 1500)
    best = 1 + correlation**2 + correlation**4 + correlation**6
    score = {}
    for degree in (3, 14):
        psi_x, psi_y = hermite(x, degree), hermite(y, degree)
        whole, held = covariances(psi_x, psi_y), covariances(psi_x[::2], psi_y[::2])
        found = singular_functions(whole - held, degree, 1e-9)
        score[degree] = (scores(found, whole - held)["vampe"], scores(found, held)["vampe"])
    assert score[14][0] > score[3][0]
    assert score[14][1] < score[3][1] < best + 0.1


def test_features_that_never_change_are_refused():
    ones = np.ones((10, 2))
    with pytest.raises(SpectrumError, match="constant"):
        singular_functions(covariances(ones, ones), 1, 1e-9)
