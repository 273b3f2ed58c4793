from __future__ import annotations

import numpy as np

from kswgd_hpc.kinetics import (
    LaggedMoments,
    chapman_kolmogorov,
    implied_timescales,
    lagged_products,
    modes,
)
from kswgd_hpc.statistics import standard_error

GROUPS, RECORDS, BATCH = 32, 101, 8
STEP = 0.25
DECAY = np.exp(-STEP)


def autoregression(seed: int, matrix: np.ndarray) -> np.ndarray:
    """(groups, records, batch, d) of x' = matrix x + noise with a standard normal invariant law."""
    rng, d = np.random.default_rng(seed), len(matrix)
    noise = np.linalg.cholesky(np.eye(d) - matrix @ matrix.T)
    x = [rng.normal(size=(GROUPS, BATCH, d))]
    for _ in range(RECORDS - 1):
        x.append(x[-1] @ matrix.T + rng.normal(size=x[0].shape) @ noise.T)
    return np.stack(x, axis=1)


def moments(values: np.ndarray, lag: int, interval: float = STEP) -> LaggedMoments:
    """Sums of functions (groups, records, batch, m), the constant one put in front."""
    values = np.concatenate([np.ones((*values.shape[:-1], 1)), values], axis=-1)
    sums = np.array([lagged_products(group, lag, np.arange(RECORDS)) for group in values])
    return LaggedMoments(lag * interval, sums[:, 0], sums[:, 1], sums[:, 2])


def linear_and_square(seed: int) -> np.ndarray:
    x = autoregression(seed, np.array([[DECAY]]))
    return np.concatenate([x, (x**2 - 1) / np.sqrt(2)], axis=-1)


def test_timescales_of_a_markov_process_do_not_depend_on_the_lag():
    values = linear_and_square(1)
    for symmetric in (True, False):
        found = implied_timescales([moments(values, lag) for lag in (1, 2, 4, 8)], 2, symmetric)
        np.testing.assert_allclose(found.lag_times, STEP * np.array([1, 2, 4, 8]))
        assert (np.abs(found.rates.real - [1, 2]) < 3 * found.errors)[:3].all()
        assert (found.errors[:2] < 0.1).all()
        # exp(-4) of the second mode is within the noise at the longest lag, or barely out of it
        assert np.isnan(found.errors[3, 1]) or found.errors[3, 1] > 0.2


def test_timescales_of_hidden_dynamics_grow_with_the_lag():
    # what is seen is a sum of a slow and a fast process: no function of it is an eigenfunction
    x = autoregression(2, np.diag([np.exp(-0.05), np.exp(-1.5)]))
    found = implied_timescales([moments(x.sum(axis=-1, keepdims=True), lag, 1.0) for lag in (1, 3, 6)], 1, True)
    slow = found.rates[:, 0].real
    assert slow[0] > 4 * 0.05
    assert (np.diff(slow) < -0.03).all()


def test_rotation_gives_complex_rates():
    angle = 0.4
    turn = DECAY * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = implied_timescales([moments(autoregression(3, turn), lag) for lag in (1, 2)], 2, False)
    expected = np.array([1 - 1j * angle / STEP, 1 + 1j * angle / STEP])
    assert (np.abs(np.sort_complex(found.rates) - np.sort_complex(expected)) < 3 * found.errors).all()
    assert (found.errors < 0.1).all()


def test_chapman_kolmogorov_holds_for_a_markov_process_within_its_errors():
    far = []
    for seed in range(20):
        values = linear_and_square(seed)
        samples = [moments(values, lag) for lag in (1, 2, 3, 4)]
        test = chapman_kolmogorov(samples[0], samples, 2, True)
        np.testing.assert_allclose(test.estimated[0], test.predicted[0], atol=1e-12)
        far += list((np.abs(test.estimated - test.predicted)[1:] / test.error[1:]).ravel())
    # 120 differences, of which neighbours in lag go together
    assert 0.85 < np.mean(np.array(far) < 2) <= 1.0
    assert max(far) < 5


def test_chapman_kolmogorov_fails_for_hidden_dynamics():
    x = autoregression(4, np.diag([np.exp(-0.05), np.exp(-1.5)])).sum(axis=-1, keepdims=True)
    samples = [moments(x, lag, 1.0) for lag in (1, 3)]
    test = chapman_kolmogorov(samples[0], samples, 1, True)
    assert (test.estimated - test.predicted)[1, 0] > 5 * test.error[1, 0]


def test_the_influence_is_the_derivative_with_respect_to_a_groups_weight():
    values, small = linear_and_square(5), 1e-5
    for symmetric in (True, False):
        base = moments(values, 1)
        more = LaggedMoments(base.lag_time, *(getattr(base, name).copy() for name in ("xx", "xy", "yy")))
        for name in ("xx", "xy", "yy"):
            getattr(more, name)[3] *= 1 + small
        change = (modes(more, symmetric).values - modes(base, symmetric).values) / small
        np.testing.assert_allclose(modes(base, symmetric).influence[3], change, rtol=1e-3, atol=1e-7)


def test_weights_change_the_law_and_not_the_dynamics():
    # starts weighed by exp(x/2): pairs of the same process under a shifted law have the same eigenvalues
    values = linear_and_square(6)
    values = np.concatenate([np.ones((*values.shape[:-1], 1)), values], axis=-1)
    sums = np.array([lagged_products(g, 1, np.arange(RECORDS), np.exp(g[..., 1] / 2)) for g in values])
    found = modes(LaggedMoments(STEP, sums[:, 0], sums[:, 1], sums[:, 2]), False)
    assert (np.abs(found.values - DECAY ** np.array([1, 2])) < 3 * standard_error(found.influence)).all()
    assert (standard_error(found.influence) < 0.05).all()
