from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from support import sums

from kswgd_hpc import galerkin, whitening
from kswgd_hpc.plan import estimator_for
from kswgd_hpc.spectrum import solve

COMM = MPI.COMM_WORLD

SPIRAL = """
seed: SEED
system: {kind: diffusion, variables: [x, y], drift: [-x - 2*y, 2*x - y], diffusion: 1.4142135623730951}
ensemble: {trajectories: 64, initial: {kind: gaussian}, time_step: 0.01, burn_in: 3, duration: 60, lag_time: 0.2}
koopman: {estimator: edmd, dictionary: {kind: polynomial, degree: 3}, modes: 6}
"""
OU = """
seed: SEED
system: {kind: diffusion, variables: [x], potential: x**2/2, temperature: 1.0}
ensemble: {trajectories: 64, initial: {kind: gaussian}, time_step: 0.05, burn_in: 2, duration: 50, lag_time: 0.5}
koopman: {estimator: reversible, dictionary: {kind: polynomial, degree: 2}, modes: 3}
"""


def estimate(text: str, comm=MPI.COMM_SELF):
    config, _plan, totals = sums(text, comm)
    koopman = config.koopman
    return solve(totals, estimator_for(config), config.ensemble.lag_time, koopman.modes, koopman.regularization)[0]


# rates of n right-handed and m left-handed quanta: (n + m) -+ 2i (n - m)
SPIRAL_RATES = np.array([0, 1 + 2j, 1 - 2j, 2 + 4j, 2, 2 - 4j])


@pytest.mark.parametrize("estimator", ["edmd", "reduced_rank"])
def test_a_rotating_process_has_complex_pairs(estimator):
    found = estimate(SPIRAL.replace("SEED", "1").replace("edmd", estimator))
    for value in SPIRAL_RATES:
        k = np.argmin(np.abs(found.rates - value))
        assert abs(found.rates[k] - value) < max(4 * found.rates_error[k], 1e-12)
        assert found.rates_error[k] < 0.25


def test_the_generator_of_a_linear_process_is_exact_on_polynomials():
    # G maps polynomials of a degree to themselves: no lag and no sampling noise, whatever the states
    found = estimate(SPIRAL.replace("SEED", "1").replace("edmd", "generator"))
    for value in SPIRAL_RATES:
        assert np.abs(found.rates - value).min() < 1e-9
    assert (found.rates_error < 1e-9).all()


def test_the_generator_in_gaussians_is_within_its_errors():
    text = SPIRAL.replace("edmd", "generator").replace("polynomial, degree: 3", "gaussian, size: 80")
    found = estimate(text.replace("SEED", "2"))
    for value in SPIRAL_RATES[1:]:
        k = np.argmin(np.abs(found.rates - value))
        assert abs(found.rates[k] - value) < 3 * found.rates_error[k] + found.dictionary_error[k]
        assert 0 < found.rates_error[k] < 0.1


def test_a_low_rank_predictor_is_within_the_errors_of_the_whole():
    text = SPIRAL.replace("polynomial, degree: 3", "gaussian, size: 80").replace("SEED", "3")
    whole, reduced = estimate(text), estimate(text.replace("edmd", "reduced_rank, rank: 30"))
    assert reduced.rates.tobytes() != whole.rates.tobytes()
    for value, error in zip(whole.rates[1:], whole.rates_error[1:]):
        assert np.abs(reduced.rates - value).min() < 2 * error


def test_eigenfunctions_of_starts_that_are_not_stationary_keep_their_eigenvalue():
    # from a shifted law the eigenfunctions have other means at the two ends of a pair; their constants make up for it
    text = OU.replace("reversible", "edmd").replace("burn_in: 2, duration: 50", "burn_in: 0, duration: 0.5")
    text = text.replace("{kind: gaussian}", "{kind: gaussian, mean: 2.0}").replace(
        "trajectories: 64", "trajectories: 4096"
    )
    found = estimate(text.replace("SEED", "1"))
    assert (np.abs(found.rates[1:].real - [1, 2]) < 3 * found.rates_error[1:]).all()
    # the first is x itself, of mean zero under the invariant law and not under that of the starts
    phi = found.eigenfunctions(np.array([[1.0, 2.0, 3.0]]))[:, 1].real
    np.testing.assert_allclose(phi / phi[1], [0.5, 1, 1.5], atol=0.2)


def test_the_reversible_estimator_is_the_generalised_symmetric_problem():
    import scipy.linalg

    config, plan, totals = sums(OU.replace("SEED", "4"))
    sample = totals.sample
    found = estimate(OU.replace("SEED", "4"))
    x, y = [], []
    for block in plan.ensemble.blocks:
        records = {}
        for window in plan.ensemble.windows(block):
            for offset, states in enumerate(window.states):
                records[window.first + offset] = states
        states = np.array([records[i] for i in sorted(records)])
        x.append(states[:-1].ravel())
        y.append(states[1:].ravel())
    psi_x, psi_y = (sample.dictionary.values(sample.coordinates(np.concatenate(s)[None])) for s in (x, y))
    both = np.concatenate([psi_x, psi_y]) - (psi_x.mean(axis=0) + psi_y.mean(axis=0)) / 2
    n = len(psi_x)
    gram, cross = both.T @ both / (2 * n), both[:n].T @ both[n:] / n
    mu = scipy.linalg.eigh((cross + cross.T) / 2, gram, eigvals_only=True)[::-1]
    np.testing.assert_allclose(found.eigenvalues[1:].real, mu, rtol=1e-8)
    np.testing.assert_allclose(found.rates[1:].real, -np.log(mu) / config.ensemble.lag_time, rtol=1e-8)


def test_eigenfunctions_have_unit_norm_and_mean_zero():
    _config, plan, _totals = sums(OU.replace("SEED", "4"))
    found = estimate(OU.replace("SEED", "4"))
    windows = [list(plan.ensemble.windows(block)) for block in plan.ensemble.blocks]
    states = np.concatenate([w.states[:-1].reshape(-1) for ws in windows for w in ws])[None]
    phi = found.eigenfunctions(states)
    np.testing.assert_allclose((phi**2).mean(axis=0), 1.0, atol=0.02)
    np.testing.assert_allclose(phi.mean(axis=0)[1:], 0.0, atol=0.02)
    assert (phi[:, 0] == 1.0).all()


def test_printed_errors_cover_the_truth():
    inside = []
    for seed in range(40):
        found = estimate(OU.replace("SEED", str(seed)))
        inside += list(np.abs(found.rates[1:].real - [1.0, 2.0]) < 2 * found.rates_error[1:])
    # nominal 95 %; 80 draws have a standard error of 2.4 %
    assert 0.85 <= np.mean(inside) <= 1.0


def test_pairs_below_the_noise_floor_are_rejected():
    text = OU.replace("SEED", "1").replace("lag_time: 0.5", "lag_time: 5").replace("degree: 2", "degree: 8")
    found = estimate(text.replace("modes: 3", "modes: 8"))
    # mu = exp(-5 k): only the first stands above sqrt(2 p / n)
    assert found.rejected >= 5
    assert (found.eigenvalues.real[1:] > found.floor).all()


def test_more_functions_than_pairs_give_no_growing_modes():
    text = (
        SPIRAL.replace("SEED", "1")
        .replace("trajectories: 64", "trajectories: 4")
        .replace("duration: 60", "duration: 4")
    )
    found = estimate(text.replace("kind: polynomial, degree: 3", "kind: gaussian, size: 80"))
    assert found.rejected >= 1
    assert (np.abs(found.eigenvalues[1:]) <= 1 + 2 * found.rates_error[1:] * np.abs(found.eigenvalues[1:]) * 0.2).all()


def test_many_functions_do_not_pull_a_fast_rate_down():
    # 150 Gaussians on 9,600 pairs at mu = 0.37: the noise that they fit would lower the rate by 5 %
    text = OU.replace("polynomial, degree: 2", "gaussian, size: 150").replace("lag_time: 0.5", "lag_time: 1")
    text = text.replace("time_step: 0.05", "time_step: 0.1").replace("duration: 50", "duration: 150")
    rates = np.array([estimate(text.replace("SEED", str(seed))).rates[1].real for seed in range(8)])
    error = rates.std(ddof=1) / np.sqrt(len(rates))
    assert error < 0.015
    assert rates.mean() == pytest.approx(1.0, abs=3 * error)


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("panel", [2**24, 40])
def test_matrices_are_distributed_by_rows_and_the_same_as_alone(monkeypatch, panel):
    text = (OU + "kswgd: {particles: 10, initial: {kind: gaussian}}\n").replace("degree: 2", "degree: 11")
    whole = sums(text.replace("SEED", "2"))[2]
    monkeypatch.setattr(galerkin, "REPLICATED", 4)
    monkeypatch.setattr(galerkin, "_ROWS_A_RANK", 4)
    monkeypatch.setattr(galerkin, "PANEL", panel)
    ours = sums(text.replace("SEED", "2"), COMM)[2]
    assert sum(COMM.allgather(ours.rows.stop - ours.rows.start)) == whole.size == 11
    assert set(whole.matrices) == {"c0", "c1", "form", "flux"}
    for name, matrix in whole.matrices.items():
        assert ours.matrices[name].shape == (ours.rows.stop - ours.rows.start, 11)
        np.testing.assert_allclose(ours.matrices[name], matrix[ours.rows], rtol=1e-11, atol=1e-12)
    assert whole.vectors["x"].tobytes() == ours.vectors["x"].tobytes()


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("text", [OU, SPIRAL])
def test_rates_have_the_same_bits_on_every_rank_count(text):
    together, alone = estimate(text.replace("SEED", "5"), COMM), estimate(text.replace("SEED", "5"))
    assert together.rates.tobytes() == alone.rates.tobytes()
    assert together.rates_error.tobytes() == alone.rates_error.tobytes()


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("estimator", ["reversible", "edmd", "dirichlet"])
@pytest.mark.parametrize("owners", [1, 2])
def test_a_distributed_eigenproblem_gives_the_same_rates(monkeypatch, estimator, owners):
    text = SPIRAL.replace("SEED", "6").replace("edmd", estimator).replace("polynomial, degree: 3", "gaussian, size: 40")
    if estimator == "reversible":  # needs detailed balance: no rotation
        assert "-x - 2*y" in text
        text = text.replace("-x - 2*y", "-x - 0.5*y").replace("2*x - y", "-0.5*x - y")
    redundant = estimate(text, COMM)
    monkeypatch.setattr(galerkin, "REPLICATED", 8)
    monkeypatch.setattr(galerkin, "_ROWS_A_RANK", 40 // owners)
    monkeypatch.setattr(galerkin, "PANEL", 500)
    monkeypatch.setattr(whitening, "_BLOCK", 7)
    distributed = estimate(text, COMM)
    np.testing.assert_allclose(distributed.rates, redundant.rates, rtol=1e-6)
    np.testing.assert_allclose(distributed.rates_error, redundant.rates_error, rtol=1e-4)
    np.testing.assert_allclose(distributed.dictionary_error, redundant.dictionary_error, rtol=1e-4, atol=1e-6)
