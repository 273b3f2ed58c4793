"""Diffusions, manifolds and inertia from the configuration to rates and particles; what is refused, and why."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from support import results, run_command, sums

from kswgd_hpc import transport
from kswgd_hpc.config import parse
from kswgd_hpc.coordinates import Coordinates, LinearMap
from kswgd_hpc.dictionary import GaussianDictionary, PolynomialDictionary
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.estimators import ESTIMATORS
from kswgd_hpc.parallel import local, span
from kswgd_hpc.plan import build
from kswgd_hpc.spectrum import solve
from kswgd_hpc.stationary import correct
from spde.diffusions import Diffusion
from spde.manifolds import ManifoldDiffusion, Torus

COMM = MPI.COMM_WORLD
RNG = np.random.default_rng(0)
STATES = RNG.normal(size=(2, 9))
PLANE = Diffusion(("x", "y"), ["-x", "-y"], [["1 + x**2/4", "0.5*sin(y)"], ["0.3*x", "0.7"]])
DICTIONARIES = {
    "gaussian": GaussianDictionary(RNG.normal(size=(12, 2)), 0.8),
    "polynomial": PolynomialDictionary(2, 3),
}

TORUS = """
seed: 2
system: {kind: diffusion, manifold: {kind: torus, R: 2, r: 0.8}}
ensemble: {trajectories: 400, initial: {kind: uniform, low: -3, high: 3}, time_step: 0.02, burn_in: 10, duration: 60}
koopman: {estimator: dirichlet, dictionary: {kind: gaussian, size: 150}, modes: 20}
kswgd: {particles: 2000, initial: {kind: gaussian, mean: [2.8, 0, 0], deviation: 0.1}, relaxation: 0.2}
output: {directory: out}
"""

# all start in one of two equal wells, at x = +1 (and x = -1)
CIRCLE = """
seed: 1
system: {kind: diffusion, manifold: {kind: circle, radius: 1}, potential: -x**2, temperature: 0.3}
ensemble: {trajectories: 500, initial: {kind: uniform, low: -1, high: 1}, time_step: 0.02, burn_in: 4, duration: 10}
koopman: {estimator: dirichlet, dictionary: {kind: gaussian, size: 60}, modes: 20}
kswgd: {particles: 10, initial: {kind: gaussian}}
"""
# M = 1 + x^2 / 2 and b = -M V' + M' with V = 4 (x^2 - 1)^2
LINE = """
seed: 1
system: {kind: diffusion, variables: [x], drift: ['-(1 + x**2/2)*16*x*(x**2 - 1) + x'], diffusion: sqrt(2 + x**2)}
ensemble:
  {trajectories: 500, initial: {kind: uniform, low: -1.3, high: 1.3}, time_step: 0.0025, burn_in: 1, duration: 5}
koopman: {estimator: dirichlet, dictionary: {kind: gaussian, size: 60}, modes: 20}
kswgd: {particles: 10, initial: {kind: gaussian}}
"""


@pytest.mark.parametrize("name", DICTIONARIES)
def test_form_and_generator_of_a_mobility_that_depends_on_the_state(name):
    """Against the form and generator of constant mobilities, state by state."""
    dictionary = DICTIONARIES[name]
    coordinates = Coordinates(LinearMap(None, 2), np.array([0.1, -0.2]), np.array([0.7, 1.3]))
    assert not coordinates.constant_mobility(PLANE.mobility)
    z, mobility = coordinates(STATES), coordinates.mobility(PLANE.mobility, STATES)
    values, drift = dictionary.values(z), coordinates.velocity(PLANE.drift(STATES))
    form, rates = 0, []
    for row in range(len(z)):
        noise = PLANE.noise_at(STATES[:, [row]])[:, :, 0]
        K = coordinates.mobility(noise @ noise.T / 2)
        form = form + dictionary.dirichlet_form(z[[row]], K)
        rates.append(dictionary.generator(z[[row]], drift[[row]], K)[0])
    np.testing.assert_allclose(dictionary.dirichlet_form(z, mobility, values), form, atol=1e-12)
    np.testing.assert_allclose(dictionary.generator(z, drift, mobility, values), rates, atol=1e-12)


def solved(text: str):
    """Plan, spectrum of the Dirichlet form, and states (d, n) of the ensemble."""
    config, plan, means = sums(text)
    found, _ = solve(means, ESTIMATORS["dirichlet"], 0.2, config.koopman.modes, 1e-9)
    ends = [list(plan.ensemble.windows(block))[-1].states[-1] for block in plan.ensemble.blocks]
    return plan, found, np.concatenate(ends, axis=1)


def carry(plan, found, x, steps, step_size=None, comm=MPI.COMM_SELF):
    """States (n, d) of this rank's particles after transport, and the history."""
    blocks = local(transport.particle_blocks(len(x)), comm)
    start, stop = span(blocks)
    flow = transport.LocalFlow(comm, found, plan.mobility, blocks, len(x))
    state, history = transport.transport(flow, x[start:stop], transport.Steps(steps, step_size))
    flow.close()
    return state.z, history


@pytest.mark.parametrize("text", [CIRCLE, LINE], ids=["circle", "line"])
def test_mass_crosses_a_barrier_by_the_exact_law_where_mobility_depends_on_the_state(text):
    # method.md (2'): rho_0 = 1 / f in the well where all start, f the mass that the ensemble has there
    plan, found, states = solved(text)
    records = [window.states[:, 0] > 0 for block in plan.ensemble.blocks for window in plan.ensemble.windows(block)]
    f = np.concatenate([record.ravel() for record in records]).mean()
    inside = states[:, states[0] > 0].T
    start = np.resize(inside, (2000, len(states)))
    for steps in (10, 20):
        x, history = carry(plan, found, start, steps, 0.1)
        expected = f / (1 - (1 - f) * np.exp(-history.time[-1]))
        assert (x[:, 0] > 0).mean() == pytest.approx(expected, abs=0.035)
        np.testing.assert_allclose(plan.system.from_fields(x.T).T, x, atol=1e-14)


def test_the_generator_balances_the_wells_of_a_manifold():
    """An ensemble that starts with too much in x > 0 is corrected by E[G f] = 0."""
    text = CIRCLE.replace("low: -1, high: 1", "low: [-0.5, -1], high: 1").replace("burn_in: 4", "burn_in: 0.5")
    _config, plan, means = sums(text)
    spectrum, space = solve(means, ESTIMATORS["dirichlet"], 0.2, 12, 1e-9)
    found = correct(space, spectrum)
    windows = [w for block in plan.ensemble.blocks for w in plan.ensemble.windows(block)]
    states = np.concatenate([np.concatenate(list(w.states), axis=1) for w in windows], axis=1)
    assert (states[0] > 0).mean() > 0.58
    assert found.weights(spectrum, states) @ (states[0] > 0) == pytest.approx(0.5, abs=0.02)


@pytest.mark.mpi(min_size=2)
def test_particles_on_a_manifold_move_in_the_same_bits_on_every_rank_count():
    plan, found, states = solved(CIRCLE)
    start = np.resize(states[:, states[0] > 0].T, (1000, 2))
    together, _ = carry(plan, found, start, 20, None, COMM)
    alone, _ = carry(plan, found, start, 20)
    first, last = span(local(transport.particle_blocks(len(start)), COMM))
    assert together.tobytes() == alone[first:last].tobytes()


def test_torus_by_the_public_command(tmp_path):
    """Rates and area law of method.md section 5, from a patch of particles on the outer equator."""
    process = run_command(TORUS, tmp_path)
    assert process.returncode == 0, process.stderr
    assert "time stepping: angles" in process.stdout + process.stderr
    found = results(tmp_path)
    exact = np.array([0.257239, 0.257239, 0.902844, 0.902844, 1.540200])
    rates, error = found["koopman/rates"][1:6].real, found["koopman/rates_error"][1:6]
    np.testing.assert_allclose(rates, exact, rtol=0.03)
    assert (np.abs(rates - exact) <= 3 * error + found["koopman/rates_dictionary_error"][1:6]).all()
    system = ManifoldDiffusion(Torus(2.0, 0.8))
    for name in ("initial", "transported", "particles"):
        x = found[f"kswgd/{name}"].T
        np.testing.assert_allclose(system.from_fields(np.ascontiguousarray(x)), x, atol=1e-14)
        cosine = np.cos(system.manifold.angles_of(x)["theta"])
        if name == "initial":
            assert cosine.min() > 0.5
            continue
        deviation = cosine.std() / np.sqrt(len(cosine))
        assert abs(cosine.mean() - 0.2) < 3 * deviation
        assert abs((cosine > 0).mean() - 0.6273) < 3 * np.sqrt(0.6273 * 0.3727 / len(cosine))
    # a transport that has converged may leave up to the noise of all modes in the slowest one
    distance = {name: found[f"kswgd/metrics/energy_distance_{name}"] for name in ("initial", "particles", "floor")}
    assert distance["particles"] < 5 * distance["floor"] < 0.02 * distance["initial"]


def test_underdamped_rates_are_complex_and_known():
    """Double well at T = 0.5, friction 0.5: rates of a basis of 81 points in q times 36 Hermite functions in p."""
    text = """
seed: 1
system: {kind: diffusion, variables: [q], potential: (q**2-1)**2, temperature: 0.5, friction: 0.5}
ensemble: {trajectories: 400, initial: {kind: gaussian}, time_step: 0.05, burn_in: 20, duration: 100, lag_time: 0.4}
koopman: {estimator: edmd, dictionary: {kind: gaussian, size: 150}, modes: 6}
"""
    config, _, means = sums(text)
    found, _ = solve(means, ESTIMATORS["edmd"], 0.4, config.koopman.modes, 1e-9)
    exact = np.array([0.07426, 0.51009, 0.54345 - 2.46030j, 0.54345 + 2.46030j])
    allowed = 3 * found.rates_error[1:5] + found.dictionary_error[1:5]
    assert (np.abs(found.rates[1:5] - exact) <= allowed).all()
    np.testing.assert_allclose(found.rates[1:5], exact, rtol=0.05)


BASE = """
system: {SYSTEM}
ensemble: {trajectories: 20, initial: {kind: gaussian}, time_step: 0.01, duration: 1, lag_time: 0.1SCHEME}
koopman: {estimator: ESTIMATOR, dictionary: {kind: gaussian, size: 20}, modes: 4}
"""
LANGEVIN = "variables: [q], potential: q**4, temperature: 1"
ROTATION = "variables: [x, y], drift: [-x - 2*y, 2*x - y]"
ON_TORUS = "manifold: {kind: torus, R: 2, r: 0.8}"
# name: (system, estimator, message)
REFUSED = {
    "no variables": ("potential: x**2, temperature: 1", "edmd", "'variables' is required, or 'manifold'"),
    "unknown manifold": ("manifold: {kind: klein}", "edmd", "'klein' is not available; choose one of circle"),
    "misspelt manifold key": ("manifold: {kind: torus, R: 2, s: 1}", "edmd", "system.manifold.s: unknown key"),
    "torus without a hole": ("manifold: {kind: torus, R: 1, r: 2}", "edmd", "needs R > r, got R = 1, r = 2"),
    "drift on a manifold": (f"{ON_TORUS}, drift: [x]", "edmd", "'drift' has no place beside 'manifold'"),
    "variables on a manifold": (f"{ON_TORUS}, variables: [x]", "edmd", "'variables' has no place beside 'manifold'"),
    "temperature alone": (f"{ON_TORUS}, temperature: 2", "edmd", "both 'potential' and 'temperature', or neither"),
    "angle in a potential": (f"{ON_TORUS}, potential: cos(theta), temperature: 1", "edmd", "unknown name 'theta'"),
    "mass without friction": (f"{LANGEVIN}, mass: 2", "edmd", "'mass' needs 'friction'"),
    "masses": (f"{LANGEVIN}, friction: 1, mass: [1, 2]", "edmd", "'mass' has 2 entries for 1 variables"),
    "friction in a drift": (f"{ROTATION}, diffusion: 1, friction: 1", "edmd", "belong to 'potential'"),
    "interpretation": (f"{LANGEVIN}, interpretation: ito", "edmd", "no 'diffusion' or 'interpretation'"),
    "misspelt interpretation": (f"{ROTATION}, diffusion: 1, interpretation: itoh", "edmd", "did you mean 'ito'?"),
    "momentum": (
        "variables: [q, p_q], potential: q**2, temperature: 1, friction: 1",
        "edmd",
        "takes that of a momentum",
    ),
    "noise entries": (f"{ROTATION}, diffusion: [1, 2, 3]", "edmd", "system.diffusion: 3 entries for 2 variables"),
    "noise name": (f"{ROTATION}, diffusion: 1 + z", "edmd", "system.diffusion: unknown name 'z'"),
    "reversible rotation": (
        f"{ROTATION}, diffusion: 1",
        "reversible",
        "needs detailed balance, which this system does not have; use edmd, or dirichlet",
    ),
    "reversible inertia": (f"{LANGEVIN}, friction: 1", "reversible", "does not have; use edmd"),
    "degenerate form": (f"{LANGEVIN}, friction: 1", "dirichlet", "dirichlet needs noise in every direction"),
    "degenerate noise": (f"{ROTATION}, diffusion: [1, 0]", "dirichlet", "dirichlet needs noise in every direction"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_system_that_does_not_fit_is_refused_in_one_line(name):
    system, estimator, message = REFUSED[name]
    text = BASE.replace("SYSTEM", f"kind: diffusion, {system}").replace("ESTIMATOR", estimator).replace("SCHEME", "")
    with pytest.raises(ConfigurationError) as caught:
        build(parse(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_transport_without_noise_in_every_direction_is_refused():
    text = BASE.replace("SYSTEM", f"kind: diffusion, {LANGEVIN}, friction: 1").replace("ESTIMATOR", "edmd")
    text = text.replace("SCHEME", "") + "kswgd: {particles: 10, initial: {kind: gaussian}}"
    with pytest.raises(ConfigurationError, match="kswgd: transport needs noise in every direction"):
        build(parse(text))


def test_a_scheme_that_a_system_cannot_be_stepped_with_is_refused():
    for system, scheme in ((ON_TORUS, "heun"), (LANGEVIN, "milstein"), (f"{LANGEVIN}, friction: 1", "platen")):
        text = BASE.replace("SYSTEM", f"kind: diffusion, {system}").replace("ESTIMATOR", "edmd")
        with pytest.raises(ConfigurationError, match=f"ensemble: scheme '{scheme}'"):
            build(parse(text.replace("SCHEME", f", scheme: {scheme}")))
