from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from mpi4py import MPI

from kswgd_hpc.reweighting import invariant_weights
from kswgd_hpc.trajectories import Piece, Trajectories
from kswgd_hpc.transitions import OUTSIDE, A, B, Counts, Setting, count_transitions, stopped_ends, transitions

COMM = MPI.COMM_SELF
STATES = np.arange(9)
LABELS = np.where(STATES < 2, A, np.where(STATES > 6, B, OUTSIDE)).astype(np.int8)


def hopping(turning: float = 0.0) -> np.ndarray:
    """Transition matrix of a walk on nine states with two wells; `turning` adds a current around a ring."""
    energy = 0.25 * (STATES - 1) * (STATES - 4) * (STATES - 4) * (STATES - 7) / 16
    rate = np.zeros((9, 9))
    for i in range(8):
        rate[i, i + 1] = 0.3 * np.exp((energy[i] - energy[i + 1]) / 2) + turning
        rate[i + 1, i] = 0.3 * np.exp((energy[i + 1] - energy[i]) / 2)
    rate[8, 0] = turning
    return rate + np.diag(1 - rate.sum(axis=1))


def stationary(P: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eig(P.T)
    law = np.abs(vectors[:, np.argmax(values.real)].real)
    return law / law.sum()


def exact(P: np.ndarray) -> dict[str, float]:
    """All quantities from the transition matrix: Metzner, Schuette and Vanden-Eijnden 2009."""
    law = stationary(P)
    backwards = P.T * law / law[:, None]

    def hit(matrix, targets, given, reward):
        outside = ~np.isin(LABELS, targets)
        u = np.where(outside, 0.0, given)
        u[outside] = np.linalg.solve(
            np.eye(outside.sum()) - matrix[np.ix_(outside, outside)], reward + (matrix @ u)[outside]
        )
        return u

    forward, backward = hit(P, [A, B], LABELS == B, 0.0), hit(backwards, [A, B], LABELS == A, 0.0)
    in_a, in_b = law * (LABELS == A), law * (LABELS == B)
    flux = float(in_a @ P @ forward)
    last = float(law @ backward)
    return {
        "rate_ab": flux / last,
        "rate_ba": flux / (1 - last),
        "flux": flux,
        "last_in_a": last,
        "passage_ab": float(in_a @ hit(P, [B], 0.0, 1.0) / in_a.sum()),
        "passage_ba": float(in_b @ hit(P, [A], 0.0, 1.0) / in_b.sum()),
    }


def walk(P: np.ndarray, seed: int, start: np.ndarray, records: int, batch: int) -> np.ndarray:
    """(records, batch) states, from the law `start`."""
    rng, edges = np.random.default_rng(seed), np.cumsum(P, axis=1)
    x = [rng.choice(9, size=batch, p=start)]
    for _ in range(records - 1):
        x.append((rng.random(batch)[:, None] > edges[x[-1]]).sum(axis=1))
    return np.array(x)


def setting(x: np.ndarray, lag: int, symmetric: bool, groups: int) -> Setting:
    """Indicator functions, the last replaced by the constant, of trajectories (records, batch) cut into groups."""
    values = np.concatenate([np.ones((*x.shape, 1)), np.eye(9)[x][..., :-1]], axis=-1)
    starts, steps = np.arange(len(x) - lag), np.arange(len(x) - 1)

    def pieces(g: int, _lag: int) -> list[Piece]:
        return [Piece(values[:, g::groups], LABELS[x[:, g::groups]], starts, steps, g)]

    return Setting(Trajectories(COMM, list(range(groups)), groups, groups, pieces, 9, 1.0), lag, symmetric)


@pytest.mark.parametrize(("turning", "symmetric"), [(0.0, True), (0.0, False), (0.1, False)])
def test_rates_and_passage_times_of_a_chain_are_within_their_errors(turning, symmetric):
    P = hopping(turning)
    truth, law = exact(P), stationary(P)
    for lag in (1, 5):
        found = transitions(setting(walk(P, 1, law, 200, 512), lag, symmetric, 32))
        for name, value in truth.items():
            error = found.errors[name]
            assert abs(getattr(found, name) - value) < 3 * error, (name, lag)
            assert error < 0.08 * value


def test_a_cycle_is_not_read_backwards():
    truth, P = exact(hopping(0.1)), hopping(0.1)
    found = transitions(setting(walk(P, 1, stationary(P), 200, 512), 2, True, 32))
    assert abs(found.last_in_a - truth["last_in_a"]) > 5 * found.errors["last_in_a"]


def test_standard_errors_are_the_spread_over_independent_samples():
    P = hopping()
    law, names = stationary(P), list(exact(P))
    runs = [transitions(setting(walk(P, seed, law, 100, 64), 2, True, 16)) for seed in range(120)]
    spread = np.array([[getattr(run, name) for name in names] for run in runs]).std(axis=0, ddof=1)
    printed = np.median([[run.errors[name] for name in names] for run in runs], axis=0)
    # the spread of 120 is known to 6 %; half of an interval of 95.4 % from 16 groups is 7 % longer than a standard
    # deviation, more where the law is skew
    np.testing.assert_allclose(printed, 1.15 * spread, rtol=0.2)


def test_the_committor_is_zero_in_a_and_one_in_b_and_rises_between():
    P = hopping()
    found = transitions(setting(walk(P, 3, stationary(P), 300, 256), 3, True, 16))
    values = np.concatenate([np.ones((9, 1)), np.eye(9)[:, :-1]], axis=1)
    q = found.committor(values, LABELS)
    assert (q[LABELS == A] == 0).all() and (q[LABELS == B] == 1).all()
    assert (np.diff(q[1:8]) > 0).all()


def test_counted_transitions_agree_with_the_chain():
    P, groups = hopping(), 32
    x = walk(P, 4, stationary(P), 1000, 256)
    counts = Counts(*np.array([count_transitions(LABELS[x[:, g::groups]]) for g in range(groups)]).T)
    truth = exact(P)
    for way in ("ab", "ba"):
        rate, error = counts.rates(1.0)[way]
        assert abs(rate - truth[f"rate_{way}"]) < 3 * error
        assert error < 0.06 * rate


def test_counts_of_a_path_by_hand():
    path = np.array([[OUTSIDE], [A], [OUTSIDE], [A], [B], [OUTSIDE], [A]], dtype=np.int8)
    # last set visited: -, A, A, A, B, B, A; six steps, the first of which does not count
    np.testing.assert_array_equal(count_transitions(path), [1, 1, 3, 2])


def test_a_pair_stops_at_the_first_record_in_a_target():
    inside = np.array([[0, 0], [0, 1], [1, 0], [0, 1], [0, 0]], dtype=bool)
    np.testing.assert_array_equal(stopped_ends(inside, np.array([0, 1]), 3), [[2, 1], [2, 1]])
    np.testing.assert_array_equal(stopped_ends(inside, np.array([0]), 1), [[1, 1]])


def test_a_swarm_from_a_wrong_law_gives_the_rates_of_equilibrium():
    P, lag = hopping(), 2
    truth, groups = exact(P), 32
    x = walk(P, 5, np.full(9, 1 / 9), 6, 16384)
    values = np.concatenate([np.ones((*x.shape, 1)), np.eye(9)[x][..., :-1]], axis=-1)
    chi = values[..., 1:] - values[:-lag, :, 1:].mean(axis=(0, 1))
    start, end = chi[:-lag], chi[lag:]
    gram = np.einsum("rbi,rbj->ij", start, start) / start[..., 0].size
    basis = np.linalg.inv(scipy.linalg.sqrtm(gram).real)
    values = np.concatenate([values[..., :1], chi @ basis], axis=-1)
    increments = (end - start) @ basis
    mean, count = increments.mean(axis=(0, 1)), start[..., 0].size
    weights = invariant_weights(mean, np.einsum("rbi,rbj->ij", start @ basis, increments) / count)
    w = weights(values[..., 1:].reshape(-1, 8)).reshape(x.shape)
    drifts = np.array([(w[:-lag, g::groups, None] * increments[:, g::groups]).sum(axis=(0, 1)) for g in range(groups)])
    index = np.arange(6 - lag)

    def pieces(g: int, _lag: int, weighted: bool = True) -> list[Piece]:
        mine = values[:, g::groups]
        extra = (w[:, g::groups], mine[..., 1:]) if weighted else ()
        return [Piece(mine, LABELS[x[:, g::groups]], index, index, g, *extra)]

    def of_weights(sums: np.ndarray) -> np.ndarray:
        return drifts / count @ weights.influence(sums[:-1])

    common = (COMM, list(range(groups)), groups, groups)
    found = transitions(Setting(Trajectories(*common, pieces, 9, 1.0, 8, of_weights), lag, True))
    for name, value in truth.items():
        assert abs(getattr(found, name) - value) < 3 * found.errors[name], name
        assert found.errors[name] < 0.1 * value
    plain = Trajectories(*common, lambda g, lag: pieces(g, lag, False), 9, 1.0)
    unweighted = transitions(Setting(plain, lag, True))
    assert abs(unweighted.flux - truth["flux"]) > 10 * unweighted.errors["flux"]


def test_transitions_that_pass_unseen_are_told_from_records_twice_as_far_apart():
    rng, x, rho, every = np.random.default_rng(0), np.zeros(256), np.exp(-0.002), 32
    labels = np.empty((40_000, 256), dtype=np.int8)
    for row in labels:
        x = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=256)
        row[:] = np.where(x < -0.8, A, np.where(x > 0.8, B, OUTSIDE))
    seen, rarely, finely = (count_transitions(labels[::n])[:2].sum() for n in (every, 2 * every, 1))
    zero = np.zeros(1)
    unseen = Counts(np.array([seen]), zero, zero, zero, np.array([rarely])).unseen
    # every step sees all but what visits shorter than a step hide, the square root of a thirty-second of the rest
    assert unseen == pytest.approx((finely / seen - 1) / (1 - 1 / np.sqrt(every)), rel=0.2)
    assert 0.2 < unseen < 0.6
