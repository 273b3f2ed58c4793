"""Large sparse dictionaries: free functions, matrices without dense ones, rates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from support import results, run_command

from kswgd_hpc import galerkin, petsc_types
from kswgd_hpc.config import parse
from kswgd_hpc.dictionary import BoxDictionary, SplineDictionary, VoronoiDictionary, WendlandDictionary, restore
from kswgd_hpc.dictionary.hierarchy import prolongation
from kswgd_hpc.dictionary.sparse import rows_to_matrix
from kswgd_hpc.eigensolver import whole_vector
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.estimators import ESTIMATORS
from kswgd_hpc.parallel import local
from kswgd_hpc.pipeline import sample_of
from kswgd_hpc.plan import build, collector_for, pilot_sample
from kswgd_hpc.sparse_galerkin import diagonal_matrix, energy_matrix, lagged_matrix, sparse_space
from kswgd_hpc.sparse_spectrum import solve_sparse
from kswgd_hpc.stages.sparse import is_sparse

COMM = MPI.COMM_WORLD
PLANE = """
seed: 2
system: {kind: diffusion, variables: [x, y], potential: x**2/2 + y**2, temperature: 1.0}
ensemble: {trajectories: 64, initial: {kind: gaussian}, time_step: 0.05, burn_in: 2, duration: 30, lag_time: 0.2}
koopman:
  estimator: reversible
  dictionary: {kind: splines, cells: 20}
  modes: 5
  time_step_error: false
output: {directory: out}
"""
PLANE_RATES = np.array([1, 2, 2, 3])
SPACE = (
    PLANE.replace("[x, y], potential: x**2/2 + y**2", "[x, y, z], potential: x**2/2 + y**2 + 3*z**2/2")
    .replace("cells: 20", "cells: 12")
    .replace("trajectories: 64", "trajectories: 96")
)


def sample(text: str, comm: MPI.Comm = MPI.COMM_SELF):
    """Configuration and records of an ensemble. Collective."""
    config = parse(text)
    plan = build(config)
    collector, dictionary = collector_for(config, plan, pilot_sample(comm, config, plan, lambda _units: None))
    blocks = local(plan.ensemble.blocks, comm)
    records = [collector.collect(block, plan.ensemble.windows(block)) for block in blocks]
    return config, sample_of(comm, config, plan, collector, dictionary, records)


def estimate(text: str, comm: MPI.Comm = MPI.COMM_SELF):
    config, seen = sample(text, comm)
    estimator = ESTIMATORS[config.koopman.estimator]
    names = tuple(name for name in estimator.matrices)
    return solve_sparse(seen, estimator, config.ensemble.lag_time, config.koopman.modes, names)[0]


def assert_within_errors(found, truth: np.ndarray) -> None:
    error = np.hypot(found.rates_error, np.nan_to_num(found.dictionary_error))[1 : len(truth) + 1]
    assert (np.abs(found.rates[1 : len(truth) + 1].real - truth) < 3 * error).all()
    assert (found.rates_error[1 : len(truth) + 1] < 0.1 * truth).all()


def dictionaries(rng):
    box = np.zeros(2), np.ones(2), np.array([16, 24]), np.array([False, True])
    centres = rng.random((200, 2))
    return [
        SplineDictionary(*box, 3),
        SplineDictionary(*box, 1),
        BoxDictionary(*box),
        VoronoiDictionary(centres),
        WendlandDictionary(centres, 0.25),
    ]


@pytest.mark.parametrize("number", range(5))
def test_functions_with_few_visits_take_their_coefficients_from_coarser_ones(number):
    rng = np.random.default_rng(1)
    dictionary = dictionaries(rng)[number]
    z = np.clip(rng.normal(0.5, 0.12, (4000, 2)), 0, 1)
    rows = rows_to_matrix(*dictionary.sparse_values(z), dictionary.size)
    visits = rows.sum(axis=0)
    functions = np.flatnonzero(visits)
    P = prolongation(dictionary, functions, visits[functions], 8.0)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-12)
    assert P.data.min() >= 0
    # one for each free function, all of them with visits of their own; those with many stand for themselves
    own = P.T @ visits[functions]
    assert own.min() >= 7.9
    assert P.shape[1] < len(functions)
    well = visits[functions] >= 8
    assert (np.diff(P.indptr)[well] == 1).all()
    # a smooth function is in the span, up to the width of the functions
    values = np.asarray(rows[:, functions] @ P.toarray())
    fitted = np.linalg.lstsq(values, z[:, 0], rcond=None)[0]
    assert np.sqrt(np.mean((values @ fitted - z[:, 0]) ** 2)) < 0.25 * z[:, 0].std()


def dense(matrix) -> np.ndarray:
    """All of a matrix, by its products."""
    right, left = matrix.createVecs()
    first, last = right.getOwnershipRange()
    columns = []
    for j in range(matrix.getSize()[1]):
        right.set(0.0)
        if first <= j < last:
            right.setValue(j, 1.0)
        right.assemble()
        matrix.mult(right, left)
        columns.append(whole_vector(left))
    return np.array(columns).T


@pytest.mark.mpi
@pytest.mark.parametrize("kind", ["splines, cells: 8", "wendland, size: 60", "indicator, size: 50"])
def test_sparse_matrices_are_the_dense_ones(kind):
    comm = COMM if COMM.size > 1 else MPI.COMM_SELF
    text = PLANE.replace("splines, cells: 20", kind).replace("trajectories: 64", "trajectories: 16")
    _config, alone = sample(text)
    _config, shared = sample(text, comm)
    space = sparse_space(shared, True)
    everything = sparse_space(alone, True)
    assert (space.P != everything.P).nnz == 0
    assert space.mean.tobytes() == everything.mean.tobytes()
    block = [(b.z[b.x].reshape(-1, 2), b.z[b.y].reshape(-1, 2)) for b in alone.blocks]
    x, y = (np.concatenate(part) for part in zip(*block, strict=True))
    to_free = everything.P.toarray()
    psi = [alone.dictionary.values(z)[:, everything.visited.functions] @ to_free for z in (x, y)]
    lagged = psi[0].T @ psi[1] / len(x)
    matrix = lagged_matrix(space)
    np.testing.assert_allclose(dense(matrix), (lagged + lagged.T) / 2, atol=1e-7)
    matrix.destroy()
    gram = np.array([space.gram(unit) for unit in np.eye(space.size)])
    np.testing.assert_allclose(gram, (psi[0].T @ psi[0] + psi[1].T @ psi[1]) / (2 * len(x)), atol=1e-7)
    inner = diagonal_matrix(space)
    np.testing.assert_allclose(dense(inner), np.diag(gram.sum(axis=0)), atol=1e-7)
    inner.destroy()


@pytest.mark.mpi
@pytest.mark.parametrize("kind", ["splines, cells: 8", "wendland, size: 60"])
def test_the_energy_matrix_is_the_dense_dirichlet_form(kind):
    text = PLANE.replace("splines, cells: 20", kind).replace("reversible", "dirichlet")
    comm = COMM if COMM.size > 1 else MPI.COMM_SELF
    _config, alone = sample(text)
    space = sparse_space(sample(text, comm)[1], False)
    z = np.concatenate([b.z[b.x].reshape(-1, 2) for b in alone.blocks])
    P = space.P.toarray()
    form = alone.dictionary.dirichlet_form(z, alone.mobility)[space.visited.functions][:, space.visited.functions]
    form = P.T @ form @ P / len(z)
    matrix = energy_matrix(space)
    found = dense(matrix) - np.diag(space.mean)
    matrix.destroy()
    time = np.trace(found) / np.trace(form)
    assert time > 0
    np.testing.assert_allclose(found, time * form, atol=1e-7 * np.abs(found).max())


@pytest.mark.parametrize("estimator", ["reversible", "dirichlet", "edmd"])
def test_rates_in_thousands_of_splines_are_within_their_errors(estimator):
    assert_within_errors(estimate(SPACE.replace("reversible", estimator)), np.array([1, 2, 2, 3]))


@pytest.mark.parametrize("kind", ["indicator, cells: 48", "indicator, size: 600", "wendland, size: 300"])
def test_rates_in_other_sparse_dictionaries_are_within_their_errors(kind):
    found = estimate(PLANE.replace("splines, cells: 20", kind))
    assert_within_errors(found, PLANE_RATES[:2] if "indicator" in kind else PLANE_RATES)


def test_a_rotating_process_has_complex_pairs_in_sparse_splines():
    text = PLANE.replace(
        "potential: x**2/2 + y**2, temperature: 1.0", "drift: [-x - 2*y, 2*x - y], diffusion: 1.4142135"
    )
    found = estimate(text.replace("reversible", "edmd"))
    for value in (1 + 2j, 1 - 2j, 2 + 4j, 2 - 4j):
        k = np.argmin(np.abs(found.rates - value))
        assert abs(found.rates[k] - value) < 3 * np.hypot(found.rates_error[k], found.dictionary_error[k])
        assert found.rates_error[k] < 0.2


@pytest.mark.parametrize("estimator", ["reversible", "dirichlet"])
def test_states_far_away_from_all_others_make_no_slow_modes(estimator):
    _config, seen = sample(PLANE.replace("reversible", estimator))
    truth = solve_sparse(seen, ESTIMATORS[estimator], 0.2, 5, ESTIMATORS[estimator].matrices)[0]
    # single trajectories stay for three records where no other one is: functions that only they see have no energy
    rng, blocks = np.random.default_rng(1), []
    for block in seen.blocks:
        z = block.z.copy()
        z[50:53, 0] = seen.dictionary.grid.high * rng.uniform(0.8, 1.0, 2) * rng.choice([-1, 1], 2)
        blocks.append(replace(block, z=z))
    far = replace(seen, blocks=blocks)
    found = solve_sparse(far, ESTIMATORS[estimator], 0.2, 5, ESTIMATORS[estimator].matrices)[0]
    assert (found.rates[1:3].real > 0.85 * truth.rates[1:3].real).all()


def test_few_visits_decide_for_sparse_matrices_where_dense_ones_would_do():
    config, seen = sample(PLANE)
    assert seen.dictionary.size < galerkin.REPLICATED
    assert is_sparse(config, seen)
    config, seen = sample(PLANE.replace("cells: 20", "cells: 2, degree: 1"))
    assert not is_sparse(config, seen)
    config, seen = sample(PLANE.replace("cells: 20", "cells: 60"))
    assert seen.dictionary.size > galerkin.REPLICATED
    assert is_sparse(config, seen)


def test_results_give_the_eigenfunctions_in_the_functions_that_were_visited(tmp_path):
    process = run_command(PLANE.replace("cells: 20", "cells: 60"), tmp_path)
    assert process.returncode == 0, process.stderr
    found = results(tmp_path)
    inside = "koopman/dictionary/"
    parts = {name.removeprefix(inside): value for name, value in found.items() if name.startswith(inside)}
    dictionary = restore("splines", parts)
    assert found["koopman/coefficients"].shape == (len(parts["functions"]), 5) == (dictionary.size, 5)
    states = found["ensemble/sample"]
    z = (states - found["koopman/coordinate_mean"]) / found["koopman/coordinate_scale"]
    phi = found["koopman/offsets"] + dictionary.values(z) @ found["koopman/coefficients"]
    np.testing.assert_allclose((phi**2).mean(axis=0), 1, atol=0.3)
    assert abs(np.corrcoef(phi[:, 1].real, states[:, 0])[0, 1]) > 0.98
    assert (tmp_path / "out" / "report.html").stat().st_size > 0


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("estimator", ["reversible", "dirichlet", "edmd"])
def test_sparse_rates_do_not_depend_on_the_number_of_ranks(estimator):
    text = PLANE.replace("reversible", estimator).replace("trajectories: 64", "trajectories: 32")
    together, alone = estimate(text, COMM), estimate(text)
    np.testing.assert_allclose(together.rates, alone.rates, rtol=1e-6)
    np.testing.assert_allclose(together.rates_error, alone.rates_error, rtol=1e-4)
    np.testing.assert_allclose(together.dictionary_error, alone.dictionary_error, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("device", "built", "gpus", "kind"),
    [
        ("auto", True, 1, "cuda"),
        ("cuda", True, 2, "cuda"),
        ("auto", True, 0, "host"),
        ("auto", False, 1, "host"),
        ("cpu", True, 1, "host"),
    ],
)
def test_types_follow_the_device(device, built, gpus, kind):
    expected = {"cuda": ("densecuda", "aijcusparse"), "host": ("dense", "aij")}[kind]
    types = petsc_types.types_for(device, built, gpus)
    assert (types.dense, types.aij) == expected


@pytest.mark.parametrize(("built", "gpus", "reason"), [(False, 1, "without CUDA"), (True, 0, "no GPU is visible")])
def test_a_device_that_cannot_be_had_is_an_error_by_name(built, gpus, reason):
    with pytest.raises(ConfigurationError, match=f"compute.device: cuda cannot be used: .*{reason}"):
        petsc_types.types_for("cuda", built, gpus)


def test_options_that_nothing_used_are_reported(tmp_path):
    options = "modes: 3\n  petsc_options: {eps_tol: 1.0e-9, esp_nev: 3}"
    text = PLANE.replace("cells: 20", "cells: 6").replace("modes: 5", options)
    process = run_command(text, tmp_path, options=("-eps_nvc", "12", "-eps_max_it", "500"))
    assert process.returncode == 0, process.stderr
    warnings = [line for line in process.stderr.splitlines() if "warning" in line]
    assert len(warnings) == 2
    assert "-eps_nvc: no PETSc or SLEPc object used" in warnings[0]
    assert "koopman.petsc_options.esp_nev: no PETSc" in warnings[1]


@pytest.mark.mpi(min_size=3)
def test_ranks_without_trajectories_take_part():
    text = PLANE.replace("splines, cells: 20", "indicator, cells: 50").replace("modes: 5", "modes: 2")
    found = estimate(text.replace("trajectories: 64", "trajectories: 2").replace("duration: 30", "duration: 400"), COMM)
    assert 0.5 < found.rates[1].real < 1.6
