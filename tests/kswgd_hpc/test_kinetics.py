from __future__ import annotations

import numpy as np
from mpi4py import MPI

from kswgd_hpc.kinetics import kinetics
from kswgd_hpc.trajectories import Piece, Trajectories

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


def trajectories(values: np.ndarray, interval: float = STEP, weight: np.ndarray | None = None) -> Trajectories:
    """Functions (groups, records, batch, m), the constant one put in front."""
    values = np.concatenate([np.ones((*values.shape[:-1], 1)), values], axis=-1)
    labels, index = np.zeros((RECORDS, BATCH), dtype=np.int8), np.arange(RECORDS)

    def pieces(g: int, _lag: int) -> list[Piece]:
        return [Piece(values[g], labels, index, index, g, None if weight is None else weight[g])]

    return Trajectories(MPI.COMM_SELF, list(range(GROUPS)), GROUPS, GROUPS, pieces, values.shape[-1], interval)


def linear_and_square(seed: int) -> np.ndarray:
    x = autoregression(seed, np.array([[DECAY]]))
    return np.concatenate([x, (x**2 - 1) / np.sqrt(2)], axis=-1)


def test_timescales_of_a_markov_process_do_not_depend_on_the_lag():
    for symmetric in (True, False):
        found, _ = kinetics(trajectories(linear_and_square(1)), [1, 2, 4, 8], 1, 2, symmetric)
        np.testing.assert_allclose(found.lag_times, STEP * np.array([1, 2, 4, 8]))
        assert (np.abs(found.rates.real - [1, 2]) < 3 * found.errors)[:3].all()
        assert (found.errors[:2] < 0.1).all()
        # exp(-4) of the second mode is within the noise at the longest lag, or barely out of it
        assert np.isnan(found.errors[3, 1]) or found.errors[3, 1] > 0.2


def test_timescales_of_hidden_dynamics_grow_with_the_lag():
    # what is seen is a sum of a slow and a fast process: no function of it is an eigenfunction
    x = autoregression(2, np.diag([np.exp(-0.05), np.exp(-1.5)])).sum(axis=-1, keepdims=True)
    slow = kinetics(trajectories(x, 1.0), [1, 3, 6], 1, 1, True)[0].rates[:, 0].real
    assert slow[0] > 4 * 0.05
    assert (np.diff(slow) < -0.03).all()


def test_rotation_gives_complex_rates():
    angle = 0.4
    turn = DECAY * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found, _ = kinetics(trajectories(autoregression(3, turn)), [1, 2], 1, 2, False)
    expected = np.array([1 - 1j * angle / STEP, 1 + 1j * angle / STEP])
    assert (np.abs(np.sort_complex(found.rates) - np.sort_complex(expected)) < 3 * found.errors).all()
    assert (found.errors < 0.1).all()


def test_errors_of_rates_are_their_spread_over_independent_samples():
    runs = [kinetics(trajectories(linear_and_square(seed)), [1, 3], 1, 2, False)[0] for seed in range(40)]
    spread = np.std([run.rates.real for run in runs], axis=0, ddof=1)
    printed = np.median([run.errors for run in runs], axis=0)
    # the spread of forty is known to 11 %
    np.testing.assert_allclose(printed, spread, rtol=0.35)


def test_chapman_kolmogorov_holds_for_a_markov_process_within_its_errors():
    far = []
    for seed in range(20):
        _, test = kinetics(trajectories(linear_and_square(seed)), [1, 2, 3, 4], 1, 2, True)
        np.testing.assert_allclose(test.estimated[0], test.predicted[0], atol=1e-12)
        assert (test.error[0] < 1e-12).all()
        far += list((np.abs(test.estimated - test.predicted)[1:] / test.error[1:]).ravel())
    # 120 differences, of which neighbours in lag go together
    assert 0.85 < np.mean(np.array(far) < 2) <= 1.0
    assert max(far) < 5


def test_chapman_kolmogorov_fails_for_hidden_dynamics():
    x = autoregression(4, np.diag([np.exp(-0.05), np.exp(-1.5)])).sum(axis=-1, keepdims=True)
    _, test = kinetics(trajectories(x, 1.0), [1, 2, 3], 1, 1, True)
    assert (test.estimated - test.predicted)[2, 0].real > 5 * test.error[2, 0]


def test_modes_of_a_finer_lag_are_not_tested():
    _, test = kinetics(trajectories(linear_and_square(5)), [1, 2, 4, 6], 2, 1, True)
    np.testing.assert_allclose(test.lag_times, STEP * np.array([2, 4, 6]))


def test_weights_change_the_law_and_not_the_dynamics():
    # starts weighed by exp(x/2): pairs of the same process under a shifted law have the same eigenvalues
    values = linear_and_square(6)
    found, _ = kinetics(trajectories(values, weight=np.exp(values[..., 0] / 2)), [1, 2], 1, 2, False)
    assert (np.abs(found.rates - [1, 2]) < 3 * found.errors).all()
    assert (found.errors[0] < 0.15).all()
