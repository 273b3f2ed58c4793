"""References against one another: closed form, deterministic, Monte Carlo, multilevel, splitting."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from mpi4py import MPI

from kswgd_hpc import references
from kswgd_hpc.config import parse
from kswgd_hpc.coordinates import Coordinates, LinearMap
from kswgd_hpc.dictionary import LinearDictionary
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.plan import build
from kswgd_hpc.references import Expansion
from spde.diffusions import Diffusion
from spde.exact import OrnsteinUhlenbeck, Quadratic, feynman_kac, principal_eigenpair
from spde.manifolds import Circle, ManifoldDiffusion, Sphere, Torus
from spde.stepping import Noise

HEAT = """
kind: spde, equation: heat, parameters: {nu: 1.0, damping: 1.0}, discretization: KIND,
domain: {length: 3.0, points: 12, boundary: neumann}, noise: {amplitude: 1.0}
"""
WELL = "kind: diffusion, variables: [x], potential: (x**2-1)**2, temperature: 0.4"
SPIRAL = "kind: diffusion, variables: [x, y], drift: [-x + 2*y, -y - 2*x], diffusion: [[1.0, 0.3], [0.0, 0.8]]"
START = "initial: {kind: constant, value: 1.0}, trajectories: 4000"


@cache
def setting(system: str, *rows: str, time_step: float = 0.02):
    """Configuration and plan of a system and of entries to validate."""
    entries = "".join(f"    - {{name: row{i}, {row}}}\n" for i, row in enumerate(rows))
    text = (
        f"seed: 4\nsystem: {{{' '.join(system.split())}}}\n"
        "ensemble: {trajectories: 16, initial: {kind: gaussian}, duration: 2, lag_time: 0.5, "
        f"time_step: {time_step}}}\n"
        "koopman: {estimator: edmd, dictionary: {kind: gaussian, size: 8}, modes: 4}\n"
        f"validation:\n  feynman_kac:\n{entries}"
    )
    config = parse(text)
    return config, build(config)


def reference(setup, method: str, tolerance=None, expansion=None, index: int = 0, comm=MPI.COMM_SELF):
    config, plan = setup
    case = replace(plan.cases[index], method=method)
    return references.reference(comm, case, config, plan, expansion, tolerance, lambda _units: None)


def eigenvalue(setup, method: str, tolerance=None, comm=MPI.COMM_SELF):
    config, plan = setup
    case = replace(plan.cases[0], method=method)
    return references.principal_eigenvalue(comm, case, config, plan, tolerance, lambda _units: None)


def assert_agree(one, other, size: float):
    """Both within three standard errors, which are below a share of the value."""
    error = np.hypot(one.errors, other.errors)
    assert (np.abs(one.values - other.values) < 3 * error).all(), (one.values, other.values, error)
    assert (error < size * np.abs(other.values).max()).all()


@pytest.mark.parametrize("kind", ["spectral", "finite_difference"])
def test_closed_form_agrees_with_monte_carlo_for_every_functional_it_knows(kind):
    rows = (
        f"observable: mean(u), killing: 0.3*mean(u)**2, times: [0.5, 1], {START}",
        "observable: mean(u**2), killing: 0.3*mean(u**2), times: [0.5, 1], trajectories: 4000, "
        "initial: {kind: gaussian, mean: 0.5, deviation: 0.7}",
        "observable: 2*exp(mean(u)), times: [0.5, 1], trajectories: 4000, "
        "initial: {kind: expression, value: cos(pi*x/3) + x}",
        "observable: mean(u) > 0.2, killing: 0.1 + mean(u*x)**2, times: [0.5, 1], trajectories: 4000, "
        "initial: {kind: gaussian, mean: 0.1}",
        "observable: exp(-0.3*mean(u)**2), killing: 0.1 + 0.2*mean(u*x), times: [0.5, 1], trajectories: 4000, "
        "initial: {kind: gaussian, mean: 0.1}",
    )
    setup = setting(HEAT.replace("KIND", kind), *rows)
    for index in range(len(rows)):
        exact = reference(setup, "auto", index=index)
        assert exact.method == "closed form"
        assert_agree(reference(setup, "monte_carlo", index=index), exact, 0.05)


@pytest.mark.parametrize("observable", ["cos(0.001*mean(u))", "max(u)", "mean(u)**2 > 0.1", "exp(mean(u)**3)"])
def test_closed_form_refuses_what_it_is_not_sure_of(observable):
    setup = setting(HEAT.replace("KIND", "spectral"), f"observable: {observable}, times: [1], {START}")
    with pytest.raises(ConfigurationError, match=r"row0\.reference: closed_form cannot be had"):
        reference(setup, "closed_form")


def test_deterministic_solution_is_the_closed_form_of_an_irreversible_process():
    setup = setting(SPIRAL, f"observable: x**2, killing: 0.2*x, times: [0.5, 2], {START}")
    found, exact = reference(setup, "deterministic"), reference(setup, "closed_form")
    law = OrnsteinUhlenbeck([[1.0, -2.0], [2.0, 1.0]], [[1.0, 0.3], [0.0, 0.8]])
    by_hand = [
        float(feynman_kac(law, Quadratic(0, [0.2, 0.0]), t).polynomial(np.ones(2), Quadratic(0, 0, [1.0, 0.0])))
        for t in (0.5, 2)
    ]
    np.testing.assert_allclose(exact.values, by_hand, rtol=1e-9)
    assert (np.abs(found.values - exact.values) < found.errors).all()
    assert (found.errors < 0.01 * exact.values).all()


@pytest.mark.parametrize("place", [-0.37])
def test_deterministic_errors_hold_where_a_rate_jumps_inside_of_cells(place):
    # along (1, 1) / sqrt 2 both are the same process in one variable, which a grid of 2048 cells knows to six digits
    slanted, z = f"(x + y)/sqrt(2) > {place}", place + 0.02
    start = f"initial: {{kind: constant, value: [{z * np.sqrt(2) - 0.3}, 0.3]}}"
    plane = setting(
        "kind: diffusion, variables: [x, y], drift: [-x, -y], diffusion: 1.0",
        f"observable: 1, killing: 2*({slanted}), times: [0.1, 0.5, 2], {start}",
        f"observable: {slanted}, times: [0.1, 0.5, 2], {start}",
    )
    line = setting(
        "kind: diffusion, variables: [x], drift: [-x], diffusion: 1.0",
        f"observable: 1, killing: 2*(x > {place}), times: [0.1, 0.5, 2], initial: {{kind: constant, value: {z}}}",
    )
    killed, exact = reference(plane, "deterministic"), reference(line, "deterministic")
    seen, closed = (reference(plane, method, index=1) for method in ("deterministic", "closed_form"))
    for found, truth in ((killed, exact), (seen, closed)):
        assert (np.abs(found.values - truth.values) < 2 * found.errors).all()
        assert (found.errors < 1e-3 * truth.values).all()
    assert (exact.errors < 1e-5).all()


def test_references_of_the_double_well_agree():
    rows = tuple(
        f"observable: {f}, killing: {c}, times: [0.1, 1, 5], {START}"
        for f, c in (("x**2", "0.0"), ("x**2", "x**2"), ("x < 0.3", "x > 0"))
    )
    setup = setting(WELL, *rows, time_step=0.01)
    for index in range(3):
        exact = reference(setup, "auto", index=index)
        assert exact.method == "deterministic"
        assert (exact.errors < 1e-4 * exact.values.max()).all()
        for method in ("monte_carlo", "splitting", "multilevel"):
            assert_agree(reference(setup, method, index=index), exact, 0.1)


def test_deterministic_solution_goes_on_when_one_eigenfunction_is_left():
    # after t = 5 an odd function is the slowest one alone, and a Krylov space has nothing to add to it
    setup = setting(WELL, f"observable: x, killing: 0, times: [1, 5, 10, 20, 40], {START}")
    found = reference(setup, "deterministic")
    slow = -np.log(found.values[2] / found.values[1]) / 5
    np.testing.assert_allclose(found.values[3:], found.values[2] * np.exp(-slow * np.array([10, 30])), rtol=1e-4)


def test_principal_eigenvalues_of_all_methods_agree():
    setup = setting(SPIRAL, f"observable: x, killing: 0.3 + 0.2*x**2, times: [20], {START}", time_step=0.05)
    law = OrnsteinUhlenbeck([[1.0, -2.0], [2.0, 1.0]], [[1.0, 0.3], [0.0, 0.8]])
    exact = principal_eigenpair(law, Quadratic(0.3, 0.0, [0.2, 0.0])).rate
    closed, grid, particles = (eigenvalue(setup, m) for m in ("closed_form", "deterministic", "splitting"))
    assert closed.values[0] == pytest.approx(exact, rel=1e-9)
    assert abs(grid.values[0] - exact) < grid.errors[0] < 1e-3 * exact
    assert abs(particles.values[0] - exact) < 3 * particles.errors[0] < 0.02 * exact


def test_angles_solve_what_paths_on_manifolds_do():
    for surface, start in (("circle, radius: 1.5", [1.5, 0]), ("torus, R: 2, r: 0.8", [2.8, 0, 0])):
        row = f"observable: x, killing: 0.2*x**2, times: [0.5, 2], {START}".replace("1.0", str(start))
        setup = setting(f"kind: diffusion, manifold: {{kind: {surface}}}", row)
        exact = reference(setup, "deterministic")
        assert (exact.errors < 1e-3).all()
        assert_agree(reference(setup, "monte_carlo"), exact, 0.1)


def linear(slope: float, rate: float) -> Expansion:
    """v(x, s) = slope exp(-rate s) times the first mode of the heat equation."""
    matrix = np.eye(1, 12)
    coordinates = Coordinates(LinearMap(matrix, 1), np.zeros(1), np.ones(1))
    return Expansion(np.array([rate]), np.ones(1), np.zeros(1), np.array([[slope]]), coordinates, LinearDictionary(1))


def test_control_variate_takes_the_variance_of_a_good_prediction_and_no_bias_of_a_bad_one():
    rows = (f"observable: exp(mean(u)), times: [0.5, 2], {START}", f"observable: mean(u), times: [0.5, 2], {START}")
    setup = setting(HEAT.replace("KIND", "spectral"), *rows)
    for index, expansion, least in (
        (1, linear(3**-0.5, 1.0), 50.0),
        (0, linear(3**-0.5, 1.0), 4.0),
        (0, linear(-2.0, 9.0), 0.4),
    ):
        found, exact = (
            reference(setup, "monte_carlo", expansion=expansion, index=index),
            reference(setup, "auto", index=index),
        )
        assert (np.abs(found.values - exact.values) < 3.5 * found.errors).all()
        assert (found.details["control_variate_factor"] > least).all()


@pytest.mark.parametrize("observable", ["x**2", "x > 0.2"])
def test_multilevel_beats_plain_paths_at_a_cost_of_one_over_the_squared_tolerance(observable):
    setup = setting(WELL, f"observable: {observable}, killing: x**2, times: [0.5, 1], {START}", time_step=0.01)
    found, exact = reference(setup, "multilevel", tolerance=0.001), reference(setup, "deterministic")
    table = found.details
    assert abs(table["cost_slope"] + 2) < 0.3
    assert table["total_cost"] < table["plain_cost"]
    assert table["total_cost"] == table["tolerance_costs"][-1] == table["level_cost"] @ table["level_samples"]
    assert (np.abs(found.values - exact.values) < 3 * found.errors).all()
    assert found.errors.max() < 0.001


def test_starts_drawn_from_a_law_are_part_of_the_control():
    # the starts are most of the variance here: without them the factor is at most 1.5
    start = "initial: {kind: gaussian, mean: 1.0, deviation: 5.0}, trajectories: 400"
    setup = setting(HEAT.replace("KIND", "spectral"), f"observable: mean(u), times: [0.5], {start}")
    found = reference(setup, "monte_carlo", expansion=linear(1 / np.sqrt(3), 1.0))
    exact = reference(setup, "closed_form")
    assert (np.abs(found.values - exact.values) < 3.5 * found.errors).all()
    assert (found.details["control_variate_factor"] > 5).all()


def test_tolerance_is_the_error_that_is_had():
    setup = setting(WELL, f"observable: x**2, killing: x**2, times: [0.5, 1], {START}", time_step=0.01)
    exact = reference(setup, "deterministic")
    for method in ("monte_carlo", "multilevel", "splitting"):
        found = reference(setup, method, tolerance=0.004)
        assert 0.001 < found.errors.max() < 0.0048
        assert (np.abs(found.values - exact.values) < 3.5 * found.errors).all()


STEPPERS = {
    "platen": Diffusion(["x", "y"], ["-x", "x - y"], ["1 + x**2/4", "1 + y**2/9"]),
    "exact": Diffusion(["x", "y"], ["-x", "x - y"], [[1.0, 0.2], [0.0, 0.5]]),
    "circle": ManifoldDiffusion(Circle(1.3)),
    "sphere": ManifoldDiffusion(Sphere(1.0)),
    "torus": ManifoldDiffusion(Torus(2.0, 0.8)),
}


@pytest.mark.parametrize("name", STEPPERS)
def test_kick_is_what_small_random_numbers_do_to_a_step(name):
    system, size = STEPPERS[name], 1e-3
    stepper = system.stepper(1e-4)
    states = system.from_fields(np.random.default_rng(1).standard_normal((system.dimension, 5)) + 1.5)
    numbers = np.random.default_rng(2).standard_normal((stepper.rows, 5))
    moved = [stepper.advance(states, Noise(0, 0, 0, table=sign * size * numbers[None]), 0, 1) for sign in (1.0, -1.0)]
    np.testing.assert_allclose((moved[0] - moved[1]) / (2 * size), stepper.kick(states, numbers), rtol=0.02, atol=2e-4)


def test_negated_noise_is_the_same_with_the_other_sign():
    system = setting(HEAT.replace("KIND", "spectral"), f"observable: mean(u), times: [1], {START}")[1].system
    stepper, still = system.stepper(0.02), np.zeros((12, 3))
    for merged in (0, 2):
        there, back = (stepper.advance(still, Noise(3, 5, 0, merged, negated), 0, 7) for negated in (False, True))
        np.testing.assert_array_equal(there, -back)
        numbers = Noise(3, 5, 0, merged, True).normals(np.empty((12, 3)), 2)
        np.testing.assert_array_equal(numbers, -Noise(3, 5, 0, merged).normals(np.empty((12, 3)), 2))


@pytest.mark.mpi
def test_sampled_references_are_the_same_bits_on_any_number_of_ranks():
    setup = setting(
        WELL,
        "observable: x**2, killing: x**2, times: [0.5, 1], trajectories: 400, initial: {kind: constant, value: 1.0}",
    )
    for method in ("monte_carlo", "multilevel", "splitting", "deterministic"):
        one, all_ranks = (reference(setup, method, 0.02, comm=comm) for comm in (MPI.COMM_SELF, MPI.COMM_WORLD))
        np.testing.assert_array_equal(one.values, all_ranks.values)
        np.testing.assert_array_equal(one.errors, all_ranks.errors)
