"""Predictions of E_x[f(X_t) exp(-int c)] against closed forms and a fine grid, and their error budgets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
from mpi4py import MPI
from support import ROOT, results, run_command, sums

from kswgd_hpc import feynman_kac
from kswgd_hpc.config import load
from kswgd_hpc.feynman_kac.budget import CAUSES, coarse_error
from kswgd_hpc.feynman_kac.propagator import Propagator, orthonormal
from kswgd_hpc.parallel import local
from kswgd_hpc.plan import build
from kswgd_hpc.references import Reference
from kswgd_hpc.stages.validation import Verdict, disagreeing

WELL = """
seed: 5
system: {kind: diffusion, variables: [x], potential: (x**2 - 1)**2, temperature: 0.5}
ensemble: {trajectories: 64, initial: {kind: uniform, low: -1.5, high: 1.5}, time_step: 0.01, burn_in: 4,
           duration: 20, lag_time: 0.2}
koopman: {dictionary: {kind: gaussian, size: 40}, modes: 6}
validation:
  feynman_kac:
    - {name: free, observable: x, initial: {kind: constant, value: 1.0}, times: TIMES}
    - {name: occupied, observable: x > 0, initial: {kind: constant, value: 1.0}, times: TIMES}
    - {name: quadratic, observable: 1, killing: x**2, initial: {kind: constant, value: 1.0}, times: TIMES}
    - {name: indicator, observable: x**2, killing: x > 0, initial: {kind: constant, value: -1.0}, times: TIMES}
    - {name: spread, observable: x > 0, initial: {kind: uniform, low: 0.0, high: 1.0}, times: TIMES}
    - {name: rate, kind: principal_eigenvalue, killing: -0.5*x**2, times: [10]}
output: {directory: out}
""".replace("TIMES", "[0.2, 1, 5]")
TIMES = (0.2, 1.0, 5.0)
HEAT = """
seed: 1
system:
  kind: spde
  equation: heat
  parameters: {nu: 1.0}
  domain: {length: 1.0, points: 16, boundary: dirichlet}
  discretization: spectral
  noise: {amplitude: 1.0}
ensemble: {trajectories: 64, initial: {kind: constant, value: 0.0}, time_step: 0.01, burn_in: 0.5, duration: 4,
           lag_time: 0.02}
koopman: {coordinates: {kind: modes, count: 2}, dictionary: {kind: polynomial, degree: 4}, modes: 4}
validation:
  feynman_kac:
    - {name: square, observable: mean(u**2), initial: {kind: expression, value: sin(pi*x)}, times: [0.02, 0.05, 0.2]}
"""


def predicted(text: str) -> dict[str, feynman_kac.Prediction]:
    """Predictions of all rows of a configuration."""
    config, plan, means = sums(text)
    features = features_of(plan, means.sample)
    lag = config.ensemble.lag_time
    return feynman_kac.predict(plan.cases, features, lag, config.koopman.regularization, config.seed)


def features_of(plan, sample) -> feynman_kac.Features:
    sample = replace(sample, pairs=not plan.by_generator)
    drift = plan.system.drift if plan.by_generator else None
    return feynman_kac.Features(sample, None, plan.smooth, drift, plan.mobility)


@pytest.fixture(scope="module")
def well_truth() -> dict[str, np.ndarray]:
    """A reversible chain on a fine grid whose points are half a step away from every jump."""
    n = 520
    x = np.linspace(-2.6, 2.6, n)
    h, V, between = x[1] - x[0], (x**2 - 1) ** 2, ((x[1:] + x[:-1]) ** 2 / 4 - 1) ** 2
    G = np.diag(0.5 / h**2 * np.exp((V[:-1] - between) / 0.5), 1) + np.diag(
        0.5 / h**2 * np.exp((V[1:] - between) / 0.5), -1
    )
    G -= np.diag(G.sum(axis=1))
    one = np.ones(n)

    def at(place: float) -> np.ndarray:
        """Weights of a linear interpolation."""
        return np.maximum(1 - np.abs(x - place) / h, 0.0)

    inside = (x > 0) & (x < 1)
    rows = {
        "free": (0 * x, x, at(1.0)),
        "occupied": (0 * x, x > 0, at(1.0)),
        "quadratic": (x**2, one, at(1.0)),
        "indicator": (1.0 * (x > 0), x**2, at(-1.0)),
        "spread": (0 * x, x > 0, inside / inside.sum()),
    }
    root = np.exp(-V)  # square root of the invariant law: V / (2 T) with T = 1 / 2
    found = {}
    for name, (rate, f, start) in rows.items():
        values, vectors = scipy.linalg.eigh(root[:, None] * (G - np.diag(rate)) / root)
        amplitude = (vectors.T @ (root * f)) * (vectors.T @ (start / root))
        found[name] = np.array([np.exp(t * values) @ amplitude for t in TIMES])
    values = scipy.linalg.eigvalsh(root[:, None] * (G + np.diag(0.5 * x**2)) / root)
    return found | {"rate": -values[-1:]}


@pytest.fixture(scope="module")
def well() -> dict[str, feynman_kac.Prediction]:
    return predicted(WELL)


def test_predictions_lie_within_three_errors_of_a_fine_grid(well, well_truth):
    for name, prediction in well.items():
        error = prediction.budget.total + 2e-5 * np.abs(well_truth[name])  # the grid's own
        assert (np.abs(prediction.values - well_truth[name]) < 3 * error).all(), name


def test_budgets_are_below_three_per_cent(well, well_truth):
    for name, prediction in well.items():
        assert (prediction.budget.total < 0.03 * np.abs(well_truth[name])).all(), name


def test_the_budget_is_the_sum_of_its_causes(well):
    budget = well["free"].budget
    np.testing.assert_allclose(budget.total**2, sum(getattr(budget, cause) ** 2 for cause in CAUSES))
    assert budget.largest in CAUSES


def test_sampling_errors_are_the_spread_over_seeds():
    seen = [predicted(WELL.replace("seed: 5", f"seed: {seed}"))["occupied"] for seed in range(8)]
    spread = np.std([prediction.values for prediction in seen], axis=0, ddof=1)
    printed = np.mean([prediction.budget.sampling for prediction in seen], axis=0)
    # eight seeds know their spread to a quarter
    assert (np.abs(np.log(spread[1:] / printed[1:])) < np.log(2)).all()


def test_an_observable_beyond_the_coordinates_is_predicted():
    """All of 16 modes count in mean(u**2), of which the dictionary sees two."""
    prediction = predicted(HEAT)["square"]
    t, k = np.array([0.02, 0.05, 0.2])[:, None], np.arange(1, 17)
    exact = np.exp(-2 * np.pi**2 * t[:, 0]) / 2 + ((1 - np.exp(-2 * np.pi**2 * k**2 * t)) / (2 * np.pi**2 * k**2)).sum(
        1
    )
    assert (np.abs(prediction.values - exact) < 3 * prediction.budget.total).all()
    np.testing.assert_allclose(prediction.values, exact, rtol=0.02)


def test_pairs_predict_where_the_generator_cannot_act(well_truth):
    """Splines of degree one have no second derivatives."""
    text = WELL.replace("{kind: gaussian, size: 40}", "{kind: splines, cells: 40, degree: 1}")
    text = text.replace("trajectories: 64", "trajectories: 128")
    _config, plan, _means = sums(text)
    assert not plan.by_generator
    for name, prediction in predicted(text).items():
        error = prediction.budget.total
        assert (np.abs(prediction.values - well_truth[name])[-2:] < 4 * error[-2:]).all(), name


def test_eigenvalues_that_grow_without_cause_are_left_out():
    growing = np.diag([0.0, 0.4, -1.0])
    found = Propagator.of(np.eye(3), growing, 0.0, 1e-9, 0.0)
    assert found.rejected == 1
    np.testing.assert_allclose(found.rates, [0.0, 1.0])
    # killing by a rate of -0.5 allows growth
    assert Propagator.of(np.eye(3), growing, 0.0, 1e-9, -0.5).rejected == 0


def test_powers_of_the_operator_of_a_lag_and_of_the_generator_are_the_same_semigroup():
    rng = np.random.default_rng(1)
    z = np.column_stack([np.ones(50), rng.normal(size=(50, 5))])
    gram = z.T @ z / 50
    generator = np.diag([0.0, -1, -2, -3, -5, -8])
    products, times = rng.normal(size=6), np.array([0.3, 1.7])
    slow = Propagator.of(gram, gram @ generator, 0.0, 1e-13, 0.0)
    lagged = Propagator.of(gram, gram @ scipy.linalg.expm(0.1 * generator), 0.1, 1e-13, 0.0)
    for found in (slow, lagged):
        forward = found.forward(found.drive(products), times)
        expected = [scipy.linalg.expm(t * generator) @ np.linalg.solve(gram, products) for t in times]
        np.testing.assert_allclose(forward.T, expected, rtol=1e-6, atol=1e-9)
        # from the left: <l(t), f> is the same number
        backward = found.backward(gram[:, 0], times)
        np.testing.assert_allclose(backward.T @ products, gram[0] @ forward, rtol=1e-6)


def test_functions_that_add_nothing_are_left_out_of_the_basis():
    z = np.random.default_rng(2).normal(size=(100, 3))
    z = np.column_stack([np.ones(100), z, z[:, 0] + z[:, 1], np.full(100, 2.0)])
    basis = orthonormal(z.T @ z / 100, 1e-9)
    assert basis.shape == (6, 4)
    np.testing.assert_allclose(basis.T @ (z.T @ z / 100) @ basis, np.eye(4), atol=1e-10)


def test_convergence_of_coarser_dictionaries_tells_the_error():
    """Errors e, 10 e, 100 e of whole, near and far: the estimate is e."""
    values, e = np.ones(4), 1e-4
    found = coarse_error(values, np.full(4, 9 * e), np.full(4, 99 * e), np.ones(4))
    np.testing.assert_allclose(found, e, rtol=0.1)
    stalled = coarse_error(values, np.full(4, 9 * e), np.full(4, 10 * e), np.full(4, 0.5))
    np.testing.assert_allclose(stalled, 4.5 * e)


def test_the_command_says_whether_every_row_agrees(tmp_path):
    process = run_command(WELL, tmp_path, command="validate")
    assert process.returncode == 0, process.stderr
    assert "every row agrees" in process.stderr
    found = results(tmp_path)
    assert found["feynman_kac/free/verdict"].all()
    assert set(CAUSES) == {name.split("/")[-1] for name in found if name.startswith("feynman_kac/free/budget/")}
    assert "kswgd/particles" not in found


def test_a_row_that_is_wrong_by_a_fifth_disagrees(well):
    prediction = well["free"]
    truth = Reference(prediction.values * 1.2, np.full(3, 1e-3), "somebody", 0.0)
    verdict = Verdict.of(prediction.values, prediction.budget.total, truth)
    assert not verdict.agree.any()
    assert disagreeing({"feynman_kac/free/verdict": verdict.agree}) == ["free"]


@pytest.mark.mpi
def test_predictions_have_the_same_bits_on_any_number_of_ranks():
    found = {}
    for comm in (MPI.COMM_SELF, MPI.COMM_WORLD):
        config, plan, means = sums(WELL, comm)
        assert len(local(plan.ensemble.blocks, comm)) > 0
        found[comm.size] = feynman_kac.predict(plan.cases, features_of(plan, means.sample), 0.2, 1e-9, config.seed)
    for name, alone in found[1].items():
        together = found[MPI.COMM_WORLD.size][name]
        np.testing.assert_array_equal(alone.values, together.values)
        np.testing.assert_array_equal(alone.budget.total, together.budget.total)


def test_the_examples_are_valid():
    for path in sorted((ROOT / "examples").glob("validate_*.yaml")):
        assert build(load(path)[0]).cases, path
