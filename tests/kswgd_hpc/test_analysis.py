"""Transitions and timescales of a double well, against its generator on a fine grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
from mpi4py import MPI
from support import sums

from kswgd_hpc.analysis import committors, lags, slow_functions, timescales
from kswgd_hpc.ensemble import Pairing
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.galerkin import assemble
from kswgd_hpc.plan import estimator_for, matrices_for, weighed_by
from kswgd_hpc.reweighting import invariant_density
from kswgd_hpc.spectrum import solve

COMM = MPI.COMM_WORLD
INTERVAL = 0.1

WELL = """
seed: 4
system: {kind: diffusion, variables: [x], potential: (x**2 - 1)**2, temperature: 0.5}
ensemble: {trajectories: 512, initial: {kind: uniform, low: -1.5, high: 1.5}, time_step: 0.01, burn_in: 10,
           duration: 30, lag_time: 0.4, stride: 0.1}
koopman: {estimator: reversible, dictionary: {kind: gaussian, size: 30}, modes: 4, sets: {A: x < -0.8, B: x > 0.8}}
"""
SWARM = WELL.replace("burn_in: 10", "burn_in: 0").replace("duration: 30", "duration: 1").replace("512", "8192")


def exact() -> dict[str, float]:
    """Rates and mean first passage times of the chain that the records see, and the slowest rate of the diffusion."""
    x = np.linspace(-2.1, 2.1, 400)
    energy = (x**2 - 1) ** 2 / 0.5
    jump = 0.5 / (x[1] - x[0]) ** 2 * np.exp(np.diff(-energy) / 2)
    generator = np.diag(jump, 1) + np.diag(1 / jump * (0.5 / (x[1] - x[0]) ** 2) ** 2, -1)
    generator -= np.diag(generator.sum(axis=1))
    law = np.exp(-energy) / np.exp(-energy).sum()
    P, A, B = scipy.linalg.expm(INTERVAL * generator), x < -0.8, x > 0.8

    def hit(targets, given, reward):
        out = ~targets
        u = np.where(out, 0.0, given)
        u[out] = np.linalg.solve(np.eye(out.sum()) - P[np.ix_(out, out)], reward + (P @ u)[out])
        return u

    flux = float((law * A) @ P @ hit(A | B, B, 0.0)) / INTERVAL
    passage = float((law * A) @ hit(B, 0.0, INTERVAL) / law[A].sum())
    slowest = -np.sort(np.linalg.eigvals(generator).real)[-2]
    return {"rate_ab": 2 * flux, "rate_ba": 2 * flux, "passage_ab": passage, "passage_ba": passage, "slowest": slowest}


def run(text: str, comm: MPI.Comm = MPI.COMM_SELF):
    """Spectrum, space, estimator and pairing, with weights where they are asked for."""
    config, plan, totals = sums(text, comm)
    if source := weighed_by(config):
        density = invariant_density(totals.sample, source, 1e-9)
        totals = assemble(replace(totals.sample, weight=density), matrices_for(config, plan))
    spectrum, space = solve(totals, estimator_for(config), 0.4, 4, 1e-9)
    return spectrum, space, estimator_for(config), plan.ensemble.pairing


@pytest.mark.parametrize("estimator", ["reversible", "edmd"])
def test_transitions_of_a_double_well_are_within_their_errors(estimator):
    _, space, chosen, pairing = run(WELL.replace("reversible", estimator))
    found, truth = committors(space, chosen, pairing), exact()
    for name in ("rate_ab", "rate_ba", "passage_ab", "passage_ba"):
        error = found.transitions.errors[name]
        assert abs(getattr(found.transitions, name) - truth[name]) < 3 * error, name
        assert error < 0.1 * truth[name]
    for way in ("ab", "ba"):
        counted, error = found.counts.rates(INTERVAL)[way]
        assert abs(counted - truth[f"rate_{way}"]) < 3 * error


@pytest.mark.parametrize("source", ["pairs", "generator"])
def test_a_swarm_of_short_runs_gives_the_transitions_of_equilibrium(source):
    _, space, chosen, pairing = run(SWARM.replace("modes: 4", f"modes: 4, reweight: {source}"))
    found, truth = committors(space, chosen, pairing), exact()
    assert found.counts is None
    for name in ("rate_ab", "rate_ba"):
        error = found.transitions.errors[name]
        assert abs(getattr(found.transitions, name) - truth[name]) < 3 * error, name
        assert error < 0.15 * truth[name]


def test_the_committor_rises_from_a_to_b_and_is_one_half_between():
    _, space, chosen, pairing = run(WELL)
    found, sample = committors(space, chosen, pairing), space.sums.sample
    x = np.linspace(-1.2, 1.2, 25)
    q = found.committor(sample.dictionary.values(sample.coordinates(x[None])), np.where(abs(x) > 0.8, 1 + (x > 0), 0))
    assert (q[x < -0.8] == 0).all() and (q[x > 0.8] == 1).all()
    assert (np.diff(q) > -0.01).all()
    assert q[12] == pytest.approx(0.5, abs=0.05)


def test_timescales_of_a_double_well_do_not_depend_on_the_lag():
    spectrum, space, _, pairing = run(WELL)
    found, test = timescales(spectrum, space, pairing, True, None)
    known = np.isfinite(found.rates[:, 0].real)
    assert known.sum() >= 6
    assert (np.abs(found.rates[known, 0].real - exact()["slowest"]) < 3 * found.errors[known, 0]).all()
    assert (np.abs(test.estimated - test.predicted)[1:] < 4 * test.error[1:]).mean() > 0.9


def test_timescales_of_a_swarm_are_those_of_the_process():
    spectrum, space, _, pairing = run(SWARM.replace("modes: 4", "modes: 4, reweight: pairs"))
    found, _ = timescales(spectrum, space, pairing, True, [0.1, 0.4, 0.8])
    assert (np.abs(found.rates[:, 0].real - exact()["slowest"]) < 3 * found.errors[:, 0]).all()
    assert (found.errors[:, 0] < 0.03).all()


def test_lags_are_those_asked_for_and_that_of_the_pairs():
    pairing = Pairing(0.1, 4, 1, 301)
    assert lags(pairing, [0.2, 1.0, 100.0]) == [2, 4, 10]
    chosen = lags(pairing, None)
    assert {1, 2, 4} <= set(chosen) and max(chosen) == 148 and all(lag < 4 or lag % 4 == 0 for lag in chosen)


def test_complex_modes_become_two_real_functions():
    text = WELL.replace("variables: [x], potential: (x**2 - 1)**2, temperature: 0.5", "variables: [x, y], DRIFT")
    text = text.replace("DRIFT", "drift: [-x - 2*y, 2*x - y], diffusion: 1").replace("modes: 4", "modes: 3")
    text = text.replace("gaussian, size: 30", "polynomial, degree: 1")
    spectrum, space, _, _ = run(text.replace("reversible", "edmd").replace("duration: 30", "duration: 3"))
    functions = slow_functions(spectrum)
    assert functions.coefficients.shape == (space.sums.size, 3)
    psi = np.random.default_rng(0).normal(size=(5, 2))
    phi = spectrum.offsets[1] + psi @ spectrum.coefficients[:, 1]
    np.testing.assert_allclose(functions(psi)[:, 1:], np.stack([phi.real, phi.imag], axis=1))


def test_sets_that_overlap_are_refused():
    with pytest.raises(ConfigurationError, match="in A and in B"):
        run(WELL.replace("B: x > 0.8", "B: x > -1"))


@pytest.mark.mpi(min_size=2)
def test_transitions_have_the_same_bits_on_every_rank_count():
    text = SWARM.replace("8192", "512").replace("modes: 4", "modes: 4, reweight: pairs")
    (_, ours, chosen, pairing), (_, own, _, _) = run(text, COMM), run(text)
    together, alone = committors(ours, chosen, pairing).transitions, committors(own, chosen, pairing).transitions
    assert together.errors == alone.errors
    assert together.rate_ab == alone.rate_ab
