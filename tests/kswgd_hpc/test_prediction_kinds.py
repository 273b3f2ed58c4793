"""Sources, resolvents, stopped paths and rate functions: predictions and references against what is known exactly."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.linalg
from mpi4py import MPI
from scipy.interpolate import CubicSpline
from support import results, run_command, sums

from benchmarks.validation import DOUBLE, double_truths
from benchmarks.validation import predictions as predicted_in
from kswgd_hpc import feynman_kac, references
from kswgd_hpc.config import parse
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.feynman_kac.boundary import outside
from kswgd_hpc.feynman_kac.propagator import Propagator
from kswgd_hpc.feynman_kac.rate_function import check_covered, transformed
from kswgd_hpc.plan import build
from kswgd_hpc.references import monte_carlo
from spde.expressions import Expression

ROWS = """
    - {name: driven, observable: x, source: x**2, killing: 0.3*x**2, initial: STARTS, times: [0.2, 1, 5]}
    - {name: resolvent, kind: resolvent, source: x**2, killing: 0.5, initial: STARTS}
    - {name: poisson, kind: resolvent, source: x + x**2, initial: STARTS}
    - {name: hit, kind: hitting_probability, target: x > 1, initial: STARTS, times: [1, 5, 20]}
    - {name: wait, kind: hitting_time, target: x > 1, initial: STARTS}
    - {name: leave, kind: exit_time, domain: abs(x) < 1.5, initial: STARTS}
    - {name: commit, kind: committor, sets: {A: x < -1, B: x > 1}, initial: STARTS}
""".replace("STARTS", "[{kind: constant, value: -0.5}, {kind: constant, value: 0.3}]")
STARTS = (-0.5, 0.3)
WELL = f"""
seed: 5
system: {{kind: diffusion, variables: [x], potential: (x**2 - 1)**2, temperature: 0.5}}
ensemble: {{trajectories: 128, initial: {{kind: uniform, low: -1.5, high: 1.5}}, time_step: 0.01, burn_in: 4,
           duration: 20, lag_time: 0.2}}
koopman: {{dictionary: {{kind: gaussian, size: 40}}, modes: 6}}
validation:
  feynman_kac:{ROWS}
output: {{directory: out}}
"""
T = 0.5  # temperature, and the mobility as well
FLAT = "kind: diffusion, variables: [x], potential: x**2/2, temperature: 0.5"


def chain(low: float, high: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n points between two walls, and the generator of a chain that is stopped at walls within [-2.6, 2.6]."""
    h = (high - low) / n
    x = low + (np.arange(n) + 0.5) * h
    V, face = (x**2 - 1) ** 2, ((low + h * np.arange(n + 1)) ** 2 - 1) ** 2
    rates = {1: T / h**2 * np.exp((V - face[1:]) / T), -1: T / h**2 * np.exp((V - face[:-1]) / T)}
    rates[1][-1] *= 2 * (high < 2.6)  # the wall is half a step away
    rates[-1][0] *= 2 * (low > -2.6)
    G = np.diag(rates[1][:-1], 1) + np.diag(rates[-1][1:], -1) - np.diag(rates[1] + rates[-1])
    return x, G


@cache
def truths() -> dict[str, np.ndarray]:
    """(starts,) or (starts, times), extrapolated from two grids of our own."""
    coarse, fine = on_grid(260), on_grid(520)
    return {name: (4 * values - coarse[name]) / 3 for name, values in fine.items()}


def on_grid(n: int) -> dict[str, np.ndarray]:
    """The truths on n points."""
    x, G = chain(-2.6, 2.6, n)
    free, one = np.eye(len(x)), np.ones(len(x))

    def at(values: np.ndarray, points: np.ndarray) -> np.ndarray:
        return CubicSpline(points, values)(STARTS)

    A, driven = G - np.diag(0.3 * x**2), []
    steady = np.linalg.solve(-A, x**2)
    for t in (0.2, 1, 5):
        driven.append(at(steady + scipy.linalg.expm(t * A) @ (x - steady), x))
    pi = np.exp(-((x**2 - 1) ** 2) / T)
    pi /= pi.sum()
    g = x + x**2
    poisson = np.linalg.solve(np.outer(one, pi) - G, g - pi @ g)
    left, stopped = chain(-2.6, 1.0, n)
    hit = [at(1 - scipy.linalg.expm(t * stopped) @ np.ones(len(left)), left) for t in (1, 5, 20)]
    inner, both = chain(-1.5, 1.5, n)
    fine = np.linspace(-1, 1, 4001)
    scale = np.concatenate([[0.0], np.cumsum(np.exp((((fine[1:] + fine[:-1]) / 2) ** 2 - 1) ** 2 / T))])
    return {
        "driven": np.array(driven).T,
        "resolvent": at(np.linalg.solve(0.5 * free - G, x**2), x),
        "poisson": at(poisson, x),
        "hit": np.array(hit).T,
        "wait": at(np.linalg.solve(-stopped, np.ones(len(left))), left),
        "leave": at(np.linalg.solve(-both, np.ones(len(inner))), inner),
        "commit": np.array([np.interp(start, fine, scale / scale[-1]) for start in STARTS]),
    }


def predicted(text: str, comm: MPI.Comm = MPI.COMM_SELF) -> tuple:
    """Configuration, plan and predictions of all curves."""
    config, plan, means = sums(text, comm)
    sample = replace(means.sample, pairs=not plan.by_generator)
    drift = plan.system.drift if plan.by_generator else None
    features = feynman_kac.Features(sample, None, plan.smooth, drift, plan.mobility)
    lag = config.ensemble.lag_time
    return config, plan, feynman_kac.predict(plan.cases, features, lag, config.koopman.regularization, config.seed)


@pytest.fixture(scope="module")
def well():
    return predicted(WELL)


def of_entry(config, plan, name: str) -> list:
    index = [entry.name for entry in config.validation.feynman_kac].index(name)
    return [case for case in plan.cases if case.index == index]


@pytest.mark.parametrize("name", ["driven", "resolvent", "poisson", "hit", "wait", "leave", "commit"])
def test_predictions_of_every_kind_lie_within_their_budget_of_the_truth(well, name):
    config, plan, found = well
    for case, truth in zip(of_entry(config, plan, name), truths()[name], strict=True):
        prediction, truth = found[case.name], np.atleast_1d(truth)
        assert (np.abs(prediction.values - truth) < 3 * prediction.budget.total + 2e-4 * np.abs(truth)).all()
        assert (prediction.budget.total < 0.05 * np.abs(truth).max()).all()


def referred(case, config, plan, comm: MPI.Comm = MPI.COMM_SELF):
    return references.reference(comm, case, config, plan, None, None, lambda _units: None)


@pytest.mark.parametrize("name", ["driven", "resolvent", "poisson", "hit", "wait", "leave", "commit"])
def test_deterministic_references_of_every_kind_are_the_truth(well, name):
    config, plan, _found = well
    for case, truth in zip(of_entry(config, plan, name), truths()[name], strict=True):
        found = referred(case, config, plan)
        assert found.method == "deterministic"
        np.testing.assert_allclose(found.values, np.atleast_1d(truth), rtol=3e-4, atol=3e-6)
        assert (found.errors < 1e-3 * np.abs(found.values).max()).all()


def by_paths(case, config, plan, paths: int, comm: MPI.Comm = MPI.COMM_SELF):
    return referred(replace(case, method="monte_carlo", trajectories=paths), config, plan, comm)


@pytest.mark.parametrize(("name", "paths"), [("driven", 1500), ("resolvent", 600), ("hit", 1500), ("commit", 3000)])
def test_paths_find_what_every_kind_asks_for(well, name, paths):
    config, plan, _found = well
    case, truth = of_entry(config, plan, name)[1], np.atleast_1d(truths()[name][1])
    found = by_paths(case, config, plan, paths)
    assert (np.abs(found.values - truth) < 3.5 * found.errors).all(), (found.values, truth, found.errors)
    assert (found.errors < 0.08 * np.abs(truth).max()).all()


def test_visits_between_steps_are_seen():
    """Walls are steep: at steps alone a path would leave after 5.1 and not 3.2, at a step of 0.005."""
    config = parse(WELL.replace("time_step: 0.01", "time_step: 0.005"))
    plan = build(config)
    case, truth = of_entry(config, plan, "leave")[1], truths()["leave"][1]
    found = by_paths(case, config, plan, 1500)
    assert abs(found.values[0] - truth) < 3 * found.errors[0] < 0.3 * truth


def test_without_killing_two_paths_along_one_noise_give_the_resolvent():
    exact, found, error = both_ways(
        "kind: diffusion, variables: [x], potential: x**2/2 + x**4/4, temperature: 0.5",
        "kind: resolvent, source: x + x**2, initial: {kind: constant, value: 1.0}",
        600,
    )
    assert abs(found - exact) < 3 * error < 0.2 * exact


@cache
def setting(system: str, *rows: str):
    """Configuration and plan of a system and of entries to validate."""
    entries = "".join(f"    - {{name: row{i}, {row}}}\n" for i, row in enumerate(rows))
    config = parse(
        f"seed: 4\nsystem: {{{system}}}\n"
        "ensemble: {trajectories: 16, initial: {kind: gaussian}, burn_in: 4, duration: 8, lag_time: 0.5, "
        "time_step: 0.02}\nkoopman: {estimator: edmd, dictionary: {kind: gaussian, size: 8}, modes: 4}\n"
        f"validation:\n  feynman_kac:\n{entries}"
    )
    return config, build(config)


def exactly(system: str, row: str, index: int = 0):
    config, plan = setting(system, row)
    return referred(plan.cases[index], config, plan)


def both_ways(system: str, row: str, paths: int) -> tuple[float, float, float]:
    """The value of an entry without sampling, and by paths with its error."""
    config, plan = setting(system, row)
    exact, found = referred(plan.cases[0], config, plan), by_paths(plan.cases[0], config, plan, paths)
    return exact.values[0], found.values[0], found.errors[0]


def test_closed_forms_of_sources_and_resolvents():
    """dX = -X dt + dW: E_x[X_s] = x exp(-s), E_x[X_s^2] = 1/2 + (x^2 - 1/2) exp(-2 s)."""
    start = "initial: {kind: constant, value: 2.0}"
    t = np.array([0.5, 2.0])
    for row, expected in (
        (f"source: x, times: [0.5, 2], {start}", 2 * (1 - np.exp(-t))),
        (f"observable: x, source: x**2, times: [0.5, 2], {start}",
         2 * np.exp(-t) + t / 2 + 3.5 * (1 - np.exp(-2 * t)) / 2),
        (f"kind: resolvent, source: x, killing: 0.5, {start}", 2 / 1.5),
        (f"kind: resolvent, source: x**2, killing: 0.5, {start}", 0.5 / 0.5 + 3.5 / 2.5),
        (f"kind: resolvent, source: x**2, {start}", 3.5 / 2),
        ("kind: resolvent, source: x**2, initial: {kind: gaussian, mean: 1.0, deviation: 1.0}", 1.5 / 2),
    ):  # fmt: skip
        found = exactly(FLAT, row)
        assert found.method == "closed form"
        np.testing.assert_allclose(found.values, expected, rtol=1e-8)


def test_a_disc_is_left_after_the_time_that_brownian_motion_takes():
    """E[T] = (1 - |x|^2) / 2 in the plane with unit noise: a boundary that no grid follows."""
    free = "kind: diffusion, variables: [x, y], drift: [-1e-9*x, -1e-9*y], diffusion: 1.0"
    where = [[0.0, 0.0], [0.5, 0.3]]
    rows = ", ".join(f"{{kind: constant, value: {point}}}" for point in where)
    for index, (x, y) in enumerate(where):
        found = exactly(free, f"kind: exit_time, domain: x**2 + y**2 < 1, initial: [{rows}]", index)
        np.testing.assert_allclose(found.values, (1 - x**2 - y**2) / 2, rtol=1e-3)


def test_a_start_law_does_not_make_the_box_so_large_that_far_values_rule():
    """Nodes 15 deviations out, where exp(x) is 400, once gave 1e-15."""
    exact, found, error = both_ways(
        "kind: diffusion, variables: [x], potential: (x**2 - 1)**2, temperature: 0.5",
        "observable: exp(x), initial: {kind: gaussian, mean: 0.2, deviation: 0.4}, times: [0.1], trajectories: 4000",
        4000,
    )
    assert abs(found - exact) < 3.5 * error < 0.05 * exact


def test_hats_keep_the_place_of_a_jump():
    """P(X_t > 0.2) of a normal law, on grids that have no wall at 0.2."""
    row = "observable: x > 0.2, initial: {kind: gaussian, mean: 0.2, deviation: 0.4}, times: [0.2, 1], reference: REF"
    grid, closed = (exactly(FLAT, row.replace("REF", method)) for method in ("deterministic", "closed_form"))
    np.testing.assert_allclose(grid.values, closed.values, atol=2e-5)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("x > 1", lambda x, y: x > 1),
        ("1 < x", lambda x, y: x > 1),
        ("abs(x) > 1", lambda x, y: abs(x) > 1),
        ("(x > 0)*(y < 1)", lambda x, y: (x > 0) & (y < 1)),
        ("(x > 0.5) + (x + y < -1)", lambda x, y: (x > 0.5) | (x + y < -1)),
        ("1 - (x**2 + y**2 < 1)", lambda x, y: x**2 + y**2 > 1),
    ],
)
def test_level_functions_are_positive_outside_of_a_set_and_negative_inside(text, inside):
    x, y = np.random.default_rng(1).normal(size=(2, 500))
    level = Expression(outside(text), ("x", "y"))({"x": x, "y": y})
    np.testing.assert_array_equal(level < 0, inside(x, y))


@pytest.mark.parametrize("rate", [0.03, 0.11, 0.5])
@pytest.mark.parametrize("count", [13, 25, 97])
def test_the_error_of_a_grid_of_thetas_covers_that_of_the_rate_function_between_two_states(rate, count):
    # jumps at a rate between two states at -1 and 1: a kink of the generating function where that is slow
    thetas, at = np.linspace(-3, 3, count), np.linspace(-0.9, 0.9, 19)
    found = transformed(thetas, np.sqrt(rate**2 + thetas**2) - rate, at)
    error = np.abs(found.values - rate * (1 - np.sqrt(1 - at**2)))
    assert (error <= 2 * found.interpolation + 1e-12).all()
    assert np.median(found.interpolation) < max(10 * np.median(error), 0.03)


def test_the_rate_function_of_a_gaussian_average_is_a_parabola():
    """dX = -X dt + dW: Lambda(theta) = theta^2 / 2, I(a) = a^2 / 2."""
    thetas = np.linspace(-2, 2, 9)
    found = transformed(thetas, thetas**2 / 2, np.array([-1.0, 0.0, 1.7]))
    np.testing.assert_allclose(found.values, [0.5, 0.0, 1.7**2 / 2], atol=1e-12)
    # I moves by minus what Lambda moves by at the maximiser
    np.testing.assert_allclose(transformed(thetas, thetas**2 / 2 + 0.1, np.array([0.7])).values, 0.245 - 0.1, atol=1e-9)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0)


def test_the_command_takes_every_kind_and_keeps_curves_together(tmp_path):
    text = WELL.replace(
        ROWS,
        ROWS + "    - {name: rates, kind: rate_function, observable: x, "
        "thetas: [-2, -1.4, -1, -0.7, -0.4, -0.2, 0, 0.2, 0.4, 0.7, 1, 1.4, 2], "
        "values: [-0.5, 0.5, 0.8]}\n"
        "    - {name: cumulants, kind: generating_function, observable: x, thetas: [-1, 0, 1]}\n",
    )
    process = run_command(text, tmp_path, command="validate")
    assert process.returncode == 0, process.stderr
    found = results(tmp_path)
    shapes = {"driven": (2, 3), "hit": (2, 3), "wait": (2,), "commit": (2,), "rates": (3,), "cumulants": (3,)}
    for name, shape in shapes.items():
        parts = ("koopman", "koopman_error", "reference", "reference_error", "verdict", "budget/sampling")
        for part in parts:
            assert found[f"feynman_kac/{name}/{part}"].shape == shape, (name, part)
    np.testing.assert_array_equal(found["feynman_kac/hit/times"], [1, 5, 20])
    assert "feynman_kac/wait/times" not in found
    np.testing.assert_array_equal(found["feynman_kac/rates/values"], [-0.5, 0.5, 0.8])
    # I is symmetric here, and convex: the slopes of its generating function ascend
    symmetric = found["feynman_kac/rates/koopman"]
    assert abs(symmetric[0] - symmetric[1]) < 3 * found["feynman_kac/rates/koopman_error"][:2].sum()
    assert (np.diff(found["feynman_kac/rates/slopes"]) > 0).all()
    for part in ("", "_reference"):
        function = found[f"feynman_kac/rates/generating_function{part}"][[2, 6, 10]]
        np.testing.assert_allclose(found[f"feynman_kac/cumulants/{part[1:] or 'koopman'}"], function, atol=1e-9)
    np.testing.assert_array_equal(found["feynman_kac/cumulants/thetas"], [-1, 0, 1])
    assert "hit, start 2" in (tmp_path / "out" / "report.html").read_text()


def test_terminal_is_another_word_for_observable():
    row = "times: [1], initial: {kind: constant, value: 1.0}"
    one, other = (setting(FLAT, f"{word}: x**2, {row}")[0] for word in ("terminal", "observable"))
    assert one.validation == other.validation
    with pytest.raises(ConfigurationError, match="'terminal' is another word for 'observable'"):
        setting(FLAT, f"terminal: x, observable: x, {row}")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("kind: resolvent, initial: {kind: gaussian}", "'source': this key is required"),
        ("kind: resolvent, source: x, times: [1], initial: {kind: gaussian}", "kind: resolvent has no 'times'"),
        ("kind: exit_time, target: x > 1, initial: {kind: gaussian}", "kind: exit_time has no 'target'"),
        ("kind: hitting_time, target: x, initial: {kind: gaussian}", "'x' is not a set: write comparisons"),
        ("kind: hitting_time, target: sin(abs(x)) > 1, initial: {kind: gaussian}", "boundary of the set is not smooth"),
        ("kind: hitting_time, target: x > 1, killing: 1, initial: {kind: gaussian}", "has no 'killing'"),
        ("kind: hitting_time, target: x > 1, reference: splitting, initial: {kind: gaussian}",
         "takes reference: deterministic, monte_carlo"),
        ("kind: rate_function, observable: x, thetas: [0, 1, 2, 4, 3], values: [0]", "thetas must ascend"),
        ("kind: rate_function, observable: x, thetas: [0, 1, 2], values: [0]", "a rate function takes at least 5"),
        ("kind: principal_eigenvalue, killing: x, initial: [{kind: gaussian}]", "give one 'initial' or none"),
        ("observable: x, initial: [{kind: gaussian, maen: 1}], times: [1]", "did you mean 'mean'"),
        ("observable: x, initial: [], times: [1]", "initial"),
    ],
)  # fmt: skip
def test_a_kind_says_which_keys_it_takes(row, said):
    with pytest.raises(ConfigurationError, match=r"validation\.feynman_kac") as error:
        setting(FLAT, row)
    assert said in str(error.value)


def test_curves_may_begin_at_time_zero(tmp_path):
    """There u is f, averaged over the starts; a path that starts in its set has reached it."""
    rows = """
    - {name: free, observable: x**2, times: [0, 1],
       initial: [{kind: constant, value: 0.5}, {kind: gaussian, deviation: 0.5}]}
    - {name: hit, kind: hitting_probability, target: x > 1, initial: {kind: gaussian, mean: 1.0}, times: [0, 0.5]}
    - {name: killed, observable: x, killing: x**2, initial: {kind: constant, value: 1.0}, times: [0, 0.1, 2],
       reference: monte_carlo, trajectories: 400}
"""
    assert run_command(WELL.replace(ROWS, rows), tmp_path, command="validate").returncode == 0
    found = results(tmp_path)
    np.testing.assert_array_equal(found["feynman_kac/free/times"], [0, 1])
    free, error = found["feynman_kac/free/koopman"][:, 0], found["feynman_kac/free/koopman_error"][:, 0]
    assert free[0] == 0.25
    assert error[0] == 0
    assert error[1] == pytest.approx(0.25 * np.sqrt(2 / 16384), rel=0.1)
    assert abs(free[1] - 0.25) < 4 * error[1]
    assert found["feynman_kac/hit/koopman"][0] == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(found["feynman_kac/killed/koopman"][0], 1.0)
    assert found["feynman_kac/killed/reference"].shape == found["feynman_kac/killed/verdict"].shape == (3,)
    with pytest.raises(ConfigurationError, match="u at time 0 is f itself; give a time after it"):
        parse(WELL.replace(ROWS, rows.replace("[0, 1]", "[0]")))


PLANE = """
seed: 2
system: {kind: diffusion, variables: [x, y], potential: x**2/2 + y**2/2, temperature: 0.5}
ensemble: {trajectories: 128, initial: {kind: gaussian, mean: 0.0, deviation: 0.7}, time_step: 0.01, burn_in: 2,
           duration: 20, lag_time: 0.2}
koopman: {coordinates: {kind: expressions, functions: [x]}, dictionary: {kind: gaussian, size: 40}, modes: 6}
validation:
  feynman_kac:
    - {name: hit, kind: hitting_probability, target: SET, initial: {kind: constant, value: 0.0}, times: [0.5, 2, 8]}
    - {name: wait, kind: hitting_time, target: SET, initial: {kind: constant, value: 0.0}}
output: {directory: out}
"""


@pytest.mark.parametrize("a", [0.2, 0.5])
def test_errors_allow_for_what_of_a_set_the_coordinates_do_not_see(a):
    """(x + a y) / (1 + a^2)^(1/2) has the law of x on a line. Without the allowance errors are 3 to 12 budgets."""
    _config, plan, found = predicted(PLANE.replace("SET", f"x + {a}*y > 1"))
    line = (
        PLANE.replace("[x, y]", "[x]")
        .replace(" + y**2/2", "")
        .replace("{kind: expressions, functions: [x]}", "{kind: identity}")
    )
    config = parse(line.replace("SET", f"x > {(1 + a**2) ** -0.5!r}"))
    exact = build(config)
    for case, same in zip(plan.cases, exact.cases, strict=True):
        hidden = case.hidden(plan.observed, plan.mobility, 0)
        assert hidden == pytest.approx(a**2 / (1 + a**2))
        assert same.hidden(exact.observed, exact.mobility, 0) == 0
        truth, prediction = referred(same, config, exact).values, found[case.name]
        assert (np.abs(prediction.values - truth) < 3 * prediction.budget.total).all()
        assert (prediction.budget.total < 2 * np.sqrt(hidden) * truth).all()


def test_a_set_of_which_the_coordinates_see_too_little_is_refused():
    with pytest.raises(ConfigurationError, match=r"kac\.hit: 80% of the noise .* hidden from koopman\.coordinates"):
        build(parse(PLANE.replace("SET", "x + 2*y > 1")))


def test_principal_directions_are_looked_at_once_they_are_known():
    directions = PLANE.replace("{kind: expressions, functions: [x]}", "{kind: pod, count: 1}")
    directions = directions.replace("y**2/2,", "2*y**2,")
    assert predicted(directions.replace("SET", "x > 1"))[2]["hit"].budget.total.max() < 0.5
    with pytest.raises(ConfigurationError, match="hidden from koopman"):
        predicted(directions.replace("SET", "y > 0.5"))


def test_time_averages_beyond_the_thetas_are_refused():
    thetas = np.linspace(-1, 1, 5)
    entry, _plan = setting(FLAT, f"kind: rate_function, observable: x, thetas: {thetas.tolist()}, values: [0, 1.5]")
    with pytest.raises(ConfigurationError, match=r"row0\.values: 1\.5 is beyond .* give larger thetas"):
        check_covered(entry.validation.feynman_kac[0], thetas**2 / 2)


def test_a_resolvent_that_does_not_exist_is_refused():
    row = "    - {name: grows, kind: resolvent, source: x**2, killing: -1.0, initial: {kind: constant, value: 0.0}}\n"
    with pytest.raises(ConfigurationError, match=r"grows: L \+ c has the eigenvalue -1"):
        predicted(WELL.replace(ROWS, "\n" + row))


def test_errors_allow_for_what_was_fitted_to_rare_excursions():
    """Few of these trajectories go far out, where c = x^2 is large: without the leverage the error is 20 of its own."""
    lines = [line for line in DOUBLE.splitlines() if "name:" not in line or "quadratic" in line]
    prediction = predicted_in("\n".join(lines).replace("SEED", "3"))["quadratic"]
    assert (np.abs(prediction.values - double_truths()["quadratic"]) < 4 * prediction.budget.total).all()


def test_the_time_step_of_pairs_is_in_the_budget_of_what_they_predict():
    """u = exp(-t) f to start with: a rate that errs by a tenth moves it by a tenth of t exp(-t) f."""
    gram = np.eye(2)
    found = Propagator.of(gram, np.diag([1.0, np.exp(-0.3)]), 0.3, 1e-12, 0.0, conserved=True)
    times, start = np.array([0.3, 1.0]), np.array([1.0, 2.0])
    moved = found.shifted(start, found.drive(np.array([0.0, 1.0])), times, 0.1 * np.abs(found.exponents))
    np.testing.assert_allclose(moved, 0.1 * times * np.exp(-times) * 2)
    # int_0^t exp(-s) ds: its derivative by the rate
    summed = found.shifted(start, found.drive(0 * start, np.array([0.0, 1.0])), times, 0.1 * np.abs(found.exponents))
    np.testing.assert_allclose(summed, 0.1 * 2 * (1 - np.exp(-times) - times * np.exp(-times)))


def test_few_paths_tell_that_weights_degenerate():
    start = "initial: {kind: constant, value: 0.0}, times: [10], trajectories: 4096"
    config, plan = setting(FLAT, f"observable: 1, killing: x**2, {start}", f"observable: 1, killing: 6*x**2, {start}")
    stepper = plan.ensemble.stepper
    assert not monte_carlo.degenerate(MPI.COMM_SELF, plan.cases[0], stepper, config.seed)
    assert monte_carlo.degenerate(MPI.COMM_SELF, plan.cases[1], stepper, config.seed)


@pytest.mark.mpi
def test_every_kind_has_the_same_bits_on_any_number_of_ranks():
    (config, plan, alone), (_config, _plan, together) = (predicted(WELL, c) for c in (MPI.COMM_SELF, MPI.COMM_WORLD))
    for name, prediction in alone.items():
        np.testing.assert_array_equal(prediction.values, together[name].values)
        np.testing.assert_array_equal(prediction.budget.total, together[name].budget.total)
    for name in ("resolvent", "hit"):
        case = of_entry(config, plan, name)[0]
        one, all_ranks = (by_paths(case, config, plan, 300, comm) for comm in (MPI.COMM_SELF, MPI.COMM_WORLD))
        np.testing.assert_array_equal(one.values, all_ranks.values)
        np.testing.assert_array_equal(one.errors, all_ranks.errors)
