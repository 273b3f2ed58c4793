from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from support import sums

from kswgd_hpc.heldout import Problem, _shared, fold, resolved_modes, vamp
from kswgd_hpc.plan import estimator_for
from kswgd_hpc.spectrum import solve

COMM = MPI.COMM_WORLD

OU = """
seed: 2
system: {kind: diffusion, variables: [x], potential: x**2/2, temperature: 1.0}
ensemble: {trajectories: 64, initial: {kind: gaussian}, time_step: 0.05, burn_in: 2, duration: 100, lag_time: 0.5}
koopman: {estimator: reversible, dictionary: {kind: gaussian, size: 60}, modes: auto}
"""


def problem(text: str, modes: int, comm: MPI.Comm = MPI.COMM_SELF):
    config, _plan, totals = sums(text, comm)
    estimator = estimator_for(config)
    return totals, estimator.matrices, Problem(estimator, 0.5, modes, 1e-9, 1.0, None)


def resolved(totals, names, wanted: Problem) -> int:
    return resolved_modes(solve(totals, **vars(wanted))[0], totals, names, wanted)


@pytest.mark.parametrize("estimator", ["reversible", "edmd"])
def test_modes_are_kept_while_they_hold_on_held_out_trajectories(estimator):
    # mu = exp(-k / 2); on half of the data noise alone gives values up to sqrt(2 p / n) = 0.14
    kept = resolved(*problem(OU.replace("reversible", estimator), 30))
    assert 3 <= kept <= 5


def test_longer_trajectories_resolve_more_modes():
    short = resolved(*problem(OU.replace("duration: 100", "duration: 10"), 30))
    long = resolved(*problem(OU.replace("duration: 100", "duration: 400"), 30))
    assert short < long


def test_both_modes_of_a_complex_pair_are_kept():
    text = OU.replace("variables: [x], potential: x**2/2, temperature: 1.0", "variables: [x, y], SPIRAL")
    text = text.replace("SPIRAL", "drift: [-x - 2*y, 2*x - y], diffusion: 1.4142135623730951")
    text = text.replace("reversible", "edmd").replace("gaussian, size: 60", "gaussian, size: 40")
    # 1 +- 2i, then 2 and 2 +- 4i
    assert resolved(*problem(text, 12)) in (3, 4, 6)


def test_a_function_is_shared_as_far_as_it_lies_in_the_span_of_others():
    totals = problem(OU.replace("gaussian, size: 60", "polynomial, degree: 3"), 4)[0]
    gram = totals.gram().dense()
    basis = np.linalg.inv(np.linalg.cholesky(gram)).T  # orthonormal functions
    functions = np.stack([basis[:, 0], basis[:, 2], basis[:, 0] + 1j * basis[:, 2]], axis=1)
    np.testing.assert_allclose(_shared(totals, functions, basis[:, :2]), [1, 0, 0.5], atol=1e-8)
    assert not _shared(totals, functions, basis[:, :0]).any()


def test_folds_share_out_the_trajectories():
    sample = problem(OU, 4)[0].sample
    parts = [fold(sample, number, 5, True) for number in range(5)]
    assert sum(len(part.blocks) for part in parts) == len(sample.blocks)
    assert all(len(part.blocks) + len(fold(sample, i, 5, False).blocks) == 16 for i, part in enumerate(parts))


def test_singular_values_of_a_reversible_process_are_its_eigenvalues():
    sample = problem(OU.replace("gaussian, size: 60", "polynomial, degree: 3"), 4)[0].sample
    found = vamp(sample, 3, 1e-9)
    exact = np.exp(-0.5 * np.arange(1, 4))
    assert (np.abs(found.functions.values - exact) < 3 * found.errors + 0.01).all()
    assert (found.errors < 0.05).all()
    data = found.datasets()
    assert data["koopman/singular_values"][0] == 1 and len(data["koopman/vamp/left_offsets"]) == 4


def test_the_held_out_score_judges_a_dictionary_that_is_too_large():
    scores = {}
    for size in (8, 120):
        text = OU.replace("size: 60", f"size: {size}").replace("duration: 100", "duration: 10")
        sample = problem(text, 4)[0].sample
        scores[size] = vamp(sample, size - 1, 1e-9)
    assert scores[120].own["vampe"] > scores[8].own["vampe"]
    small, large = (scores[size].held_out["vampe"] for size in (8, 120))
    assert large[0] < small[0] - 2 * small[1]


@pytest.mark.mpi(min_size=2)
def test_held_out_judgements_are_the_same_on_every_rank_count():
    text = OU.replace("gaussian, size: 60", "polynomial, degree: 6")
    together, alone = problem(text, 7, COMM), problem(text, 7)
    assert resolved(*together) == resolved(*alone)
    ours, own = (vamp(totals.sample, 3, 1e-9) for totals in (together[0], alone[0]))
    assert ours.functions.values.tobytes() == own.functions.values.tobytes()
    assert ours.held_out == own.held_out
