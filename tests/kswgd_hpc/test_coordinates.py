from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI
from support import SMALL, results, run_command

from kswgd_hpc import transport
from kswgd_hpc.config import parse
from kswgd_hpc.coordinates import Coordinates, LinearMap, Pilot, WithMobility, intrinsic, whitened
from kswgd_hpc.delay import DelayedEnsemble, DelayMap
from kswgd_hpc.dictionary import GaussianDictionary
from kswgd_hpc.ensemble import Pairing, RecordedEnsemble
from kswgd_hpc.errors import ConfigurationError, KswgdError
from kswgd_hpc.functions import FunctionMap, expression_map
from kswgd_hpc.parallel import cut, local
from kswgd_hpc.plan import build, pilot_sample
from kswgd_hpc.pod import Snapshots, principal_directions
from kswgd_hpc.report import view
from spde.catalogue import named_equation
from spde.domain import Domain
from spde.equations import Field, SemilinearEquation
from spde.errors import SpdeError
from spde.noise import Covariance

COMM = MPI.COMM_WORLD
RNG = np.random.default_rng(0)
PLANE = LinearMap(None, 2, ["x", "y"])


class Curved:
    """A mobility that depends on the state: M(x) = f f^T + g g^T with f = x / 2 and g = 1."""

    def directions(self, states):
        return np.stack([states.T / 2, np.ones_like(states.T)])

    def apply(self, states, slopes):
        return sum((f * slopes).sum(axis=1, keepdims=True) * f for f in self.directions(states))

    def seen_by(self, matrix, states):
        return self.directions(states) if matrix is None else self.directions(states) @ matrix.T


def interval(discretization):
    return named_equation("allen_cahn", Domain.box(2.5, 8, "neumann", discretization), 0.5, {})


FIELDS = interval("finite_difference")
MAPS = {
    "plane": FunctionMap(["x*y", "sin(x) + y**2", "x", "exp(-y)/(1 + x**2)"], PLANE),
    "of modes": FunctionMap(["c1*c2", "tanh(c1)"], LinearMap(RNG.normal(size=(2, 8)), 2)),
    "of functions": FunctionMap(["c1**2", "c2/c3"], FunctionMap(["x*y", "x", "3 + y**2"], PLANE)),
    "field": expression_map(
        ["mean(u)", "mean(u**2)*mean(x*sin(u)) - mean(u)", "sum(u**3)", "u(0.7)**2 + mode(u**2, 2)"],
        FIELDS,
        LinearMap(None, 8),
    ),
    "spectral field": expression_map(
        ["mean(u)", "mean(u**2)*mean(x*sin(u))", "exp(-u(2.1))*mode(u, 3)"], interval("spectral"), LinearMap(None, 8)
    ),
    "energy": expression_map(["energy(u)", "energy(u)*u(1) - mean(u**4)"], FIELDS, LinearMap(None, 8)),
    "spectral energy": expression_map(["energy(u)**2"], interval("spectral"), LinearMap(None, 8)),
}


def mobilities(d):
    root = RNG.normal(size=(d, d))
    return {"diagonal": np.arange(1.0, d + 1), "matrix": root @ root.T, "of the state": Curved()}


def matrices(mobility, states):
    """(n, d, d) mobility at each state."""
    d, n = states.shape
    if not isinstance(mobility, np.ndarray):
        return np.einsum("knd,kne->nde", mobility.directions(states), mobility.directions(states))
    return np.broadcast_to(np.diag(mobility) if mobility.ndim == 1 else mobility, (n, d, d))


@pytest.mark.parametrize("kind", ["diagonal", "matrix", "of the state"])
@pytest.mark.parametrize("name", MAPS)
def test_curved_coordinates_move_as_differences_say(name, kind):
    observed, h = MAPS[name], 1e-4
    if "energy" in name and kind == "of the state":
        with pytest.raises(SpdeError, match="noise that depends on the state"):
            observed.velocity(np.zeros((8, 1)), np.zeros((8, 1)), mobilities(8)[kind])
        return
    d = 2 if name in ("plane", "of functions") else 8
    states, drift, slopes = RNG.normal(size=(d, 5)), RNG.normal(size=(d, 5)), RNG.normal(size=(5, len(observed)))
    shifts = h * np.eye(d)[:, :, None]
    jacobian = np.array([(observed(states + s) - observed(states - s)) / (2 * h) for s in shifts])
    hessian = np.array(
        [
            [
                observed(states + a + b)
                - observed(states + a - b)
                - observed(states - a + b)
                + observed(states - a - b)
                for b in shifts
            ]
            for a in shifts
        ]
    ) / (4 * h**2)
    mobility = mobilities(d)[kind]
    M = matrices(mobility, states)
    velocity = np.einsum("dn,dnc->nc", drift, jacobian) + np.einsum("nde,denc->nc", M, hessian)
    np.testing.assert_allclose(observed.velocity(drift, states, mobility), velocity, rtol=1e-4, atol=1e-4)
    moved = np.einsum("dnc,nde,enb->ncb", jacobian, M, jacobian)
    np.testing.assert_allclose(observed.mobility(mobility, states), moved, rtol=1e-5, atol=1e-5)
    lifted = np.einsum("nde,enc,nc->nd", M, jacobian, slopes)
    np.testing.assert_allclose(observed.lift(slopes, mobility, states), lifted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["diagonal", "matrix", "of the state"])
def test_linear_coordinates_have_the_mobility_of_their_rows(kind):
    J, states, mobility = RNG.normal(size=(2, 3)), RNG.normal(size=(3, 5)), mobilities(3)[kind]
    coordinates = Coordinates(LinearMap(J, 2), np.array([1.0, 2.0]), np.array([0.5, 3.0]))
    D = np.diag(1 / coordinates.scale)
    expected = D @ J @ matrices(mobility, states) @ J.T @ D
    found = coordinates.mobility(mobility, states)
    np.testing.assert_allclose(np.broadcast_to(found, expected.shape), expected)
    assert coordinates.constant_mobility(mobility) is (kind != "of the state")
    slopes = RNG.normal(size=(5, 2))
    lifted = np.einsum("nde,ce,nc->nd", matrices(mobility, states), D @ J, slopes)
    np.testing.assert_allclose(coordinates.lift(slopes, mobility, states), lifted)


def equation(kind, discretization):
    """Two fields in the plane: one with correlated noise, the other with noise that is multiplied or additive."""
    fields = [Field("u", 0.3, reaction="u - v", amplitude=0.5), Field("v", 0.2, reaction="u*v", amplitude=kind)]
    domain = Domain.box([1.5, 2.0], [3, 4], ["neumann", "periodic"], discretization)
    return SemilinearEquation(domain, fields, Covariance("matern", length=0.5, smoothness=2.0))


@pytest.mark.parametrize("amplitude", [0.4, "1 + v**2/4"])
@pytest.mark.parametrize("discretization", ["finite_difference", "spectral"])
def test_functions_of_fields_in_the_plane_move_by_their_noise(amplitude, discretization):
    """Against the noise applied to each mode in turn, and differences."""
    system, h = equation(amplitude, discretization), 1e-4
    d, M = system.dimension, system.mobility
    # the energy has no second derivatives where noise is multiplied
    last = "u(0.4, 1.1)*mode(v, 3)" + " + energy(u)*energy(v)" * isinstance(amplitude, float)
    observed = expression_map(["mean(u*v)", "mean(v**2)*sum(y*u)", last], system, LinearMap(None, d))
    states, drift, slopes = RNG.normal(size=(d, 3)), RNG.normal(size=(d, 3)), RNG.normal(size=(3, 3))
    noise = []
    for mode in np.eye(d):
        values = system.each(system.domain.synthesis, np.repeat((mode * system.scales)[:, None], 3, axis=1))
        noise.append(system.from_fields(system.amplitudes(states) * values))
    jacobian = np.array([(observed(states + s) - observed(states - s)) / (2 * h) for s in h * np.eye(d)[:, :, None]])
    exact = sum(np.einsum("dn,en->nde", s, s) for s in noise) / 2
    curvature = sum(observed(states + h * s) - 2 * observed(states) + observed(states - h * s) for s in noise) / 2
    velocity = np.einsum("dn,dnc->nc", drift, jacobian) + curvature / h**2
    np.testing.assert_allclose(observed.velocity(drift, states, M), velocity, rtol=1e-5, atol=1e-6)
    moved = np.einsum("dnc,nde,enb->ncb", jacobian, exact, jacobian)
    np.testing.assert_allclose(observed.mobility(M, states), moved, rtol=1e-6, atol=1e-8)
    lifted = np.einsum("nde,enc,nc->nd", exact, jacobian, slopes)
    np.testing.assert_allclose(observed.lift(slopes, M, states), lifted, rtol=1e-6, atol=1e-8)
    for linear in (LinearMap(None, d), LinearMap(system.mode_map(3), 3)):
        J = np.eye(d) if linear.matrix is None else linear.matrix
        found = np.broadcast_to(linear.mobility(M, states), (3, len(J), len(J)))
        np.testing.assert_allclose(found, J @ exact @ J.T, rtol=1e-8, atol=1e-10)
        g = RNG.normal(size=(3, len(J)))
        np.testing.assert_allclose(linear.lift(g, M, states), np.einsum("nde,ne->nd", exact, g @ J), atol=1e-10)
    assert Coordinates(observed, 0.0, 1.0).constant_mobility(M) is False
    assert Coordinates(LinearMap(None, d), 0.0, 1.0).constant_mobility(M) is isinstance(amplitude, float)


def test_batches_of_fields_do_not_change_values(monkeypatch):
    whole, states = MAPS["field"], RNG.normal(size=(8, 50))
    expected = whole.inner(states), whole.mobility(np.ones(8), states), whole.velocity(states, states, np.ones(8))
    monkeypatch.setattr(whole.inner, "_batch", 7)
    found = whole.inner(states), whole.mobility(np.ones(8), states), whole.velocity(states, states, np.ones(8))
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-12)


ROUGH = {
    "absolute value": (["abs(x)"], PLANE, "'abs(x)' is not smooth"),
    "comparison": (["x > y"], PLANE, "only a smooth pointwise formula"),
    "largest": (["max(u)"], None, "max() of u has no derivative"),
    "nested": (["mean((u - mean(u))**2)"], None, "has no derivative"),
    "no field": (["2*pi"], None, "do not depend on the field"),
}


@pytest.mark.parametrize("name", ROUGH)
def test_functions_that_are_not_smooth_have_values_and_no_generator(name):
    texts, inner, message = ROUGH[name]
    observed = FunctionMap(texts, inner) if inner else expression_map(texts, FIELDS, LinearMap(None, 8))
    assert np.isfinite(observed(RNG.normal(size=(2 if inner else 8, 4)))).all()
    with pytest.raises(ConfigurationError) as caught:
        observed.require_derivatives()
    assert message in str(caught.value)
    assert "kswgd" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_that_is_not_finite_is_named():
    with pytest.raises(ConfigurationError, match=r"'log\(x\)' is not finite"):
        FunctionMap(["y", "log(x)"], PLANE)(np.array([[1.0, -1.0], [0.0, 0.0]]))


def test_the_pilot_of_curved_coordinates_averages_their_mobility():
    states = RNG.normal(size=(2, 1000))
    shown = WithMobility(MAPS["plane"], np.array([1.0, 2.0]))
    pilot = shown.pilot(shown(states))
    np.testing.assert_array_equal(pilot.raw, MAPS["plane"](states))
    np.testing.assert_allclose(pilot.mobility[0, 0], (states[1] ** 2 + 2 * states[0] ** 2).mean())
    np.testing.assert_allclose(pilot.mobility[2, 0], states[1].mean())


def test_intrinsic_scales_follow_the_noise_and_give_the_rest_unit_deviation():
    raw = RNG.normal(size=(1000, 3)) * [1.0, 10.0, 5.0]
    coordinates = intrinsic(Pilot(PLANE, raw, np.diag([4.0, 1.0, 0.0])))
    assert coordinates.scale[0] / coordinates.scale[1] == pytest.approx(2.0)
    deviation = coordinates.rescale(raw).std(axis=0)
    np.testing.assert_allclose(deviation[1:], 1.0)
    assert deviation[0] < 0.1


def test_a_coordinate_that_never_changes_is_refused():
    raw = np.column_stack([RNG.normal(size=100), np.ones(100)])
    with pytest.raises(ConfigurationError, match="coordinate 1 is constant"):
        whitened(Pilot(PLANE, raw, np.eye(2)))
    with pytest.raises(ConfigurationError, match="all coordinates are constant"):
        intrinsic(Pilot(PLANE, np.ones((100, 2)), np.eye(2)))


def snapshots(d, number=600):
    """States that vary in five directions of very different size, and a little in all others."""
    rng = np.random.default_rng(1)
    directions = np.linalg.qr(rng.normal(size=(d, 5)))[0]
    return (
        directions @ (rng.normal(size=(5, number)) * [[9.0], [5.0], [3.0], [2.0], [1.0]])
        + 0.01 * rng.normal(size=(d, number))
        + 7.0
    )


@pytest.mark.parametrize("d", [40, 1000])  # by the covariance matrix, and by a sketch
def test_principal_directions_are_the_singular_vectors_of_the_sample(d):
    states = snapshots(d)
    parts = [states[:, block.start : block.stop] for block in cut(states.shape[1], 7)]
    found = principal_directions(MPI.COMM_SELF, parts, d, 5, 0, 6)
    exact = np.linalg.svd(states - states.mean(axis=1, keepdims=True))[0][:, :5].T
    np.testing.assert_allclose(found @ found.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(np.abs((found * exact).sum(axis=1)), 1.0, atol=1e-8)
    with pytest.raises(ConfigurationError, match="the ensemble varies in 1"):
        principal_directions(MPI.COMM_SELF, [parts[0][:, :2]], d, 3, 0, 6)


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("d", [40, 1000])
def test_principal_directions_have_the_same_bits_on_every_rank_count(d):
    states = snapshots(d)
    blocks = cut(states.shape[1], 7)
    parts = [states[:, block.start : block.stop] for block in blocks]
    mine = [parts[block.index] for block in local(blocks, COMM)]
    together = principal_directions(COMM, mine, d, 5, 0, 6)
    assert together.tobytes() == principal_directions(MPI.COMM_SELF, parts, d, 5, 0, 6).tobytes()


def test_snapshots_keep_states_and_show_nothing():
    keeper = Snapshots(3, 100)
    states = RNG.normal(size=(3, 10))
    assert keeper(states).shape == (10, len(keeper)) == (10, 0)
    np.testing.assert_array_equal(keeper.parts[0], states)


@pytest.mark.parametrize(("lag", "stride", "spacing"), [(2, 2, 3), (3, 1, 1), (1, 4, 2)])
def test_delayed_records_are_states_with_their_past_and_lose_no_pair(lag, stride, spacing):
    data, history = RNG.normal(size=(3, 101, 2)), 2 * spacing
    read = lambda rows, times: data[slice(*rows), slice(*times)]  # noqa: E731
    source = RecordedEnsemble(read, data.shape, Pairing(0.1, lag + history, stride, 101))
    delayed = DelayedEnsemble(source, 3, spacing)
    assert delayed.dimension == 6
    assert delayed.pairing == Pairing(0.1, lag, stride, 101 - history)
    found = []
    for block in delayed.blocks:
        first_row, _, first_time, _ = source._parts[block.index]
        seen = set()
        for window in delayed.windows(block):
            for offset in range(len(window.states) - lag):
                start = window.first + offset
                if start % stride or start in seen:
                    continue
                seen.add(start)
                for end, states in ((start, window.states[offset]), (start + lag, window.states[offset + lag])):
                    past = [data[first_row, end + history - i * spacing] for i in range(3)]
                    np.testing.assert_array_equal(states[:, 0], np.concatenate(past))
        assert first_time % stride == 0
        found += [(first_row, start) for start in seen]
    assert len(found) == len(set(found)) == 3 * delayed.pairing.starts


def test_delay_coordinates_are_coordinates_at_several_times_without_a_generator():
    observed = DelayMap(MAPS["plane"], 2, 3)
    states = RNG.normal(size=(6, 4))
    expected = np.concatenate([MAPS["plane"](states[i : i + 2]) for i in (0, 2, 4)], axis=1)
    np.testing.assert_array_equal(observed(states), expected)
    assert len(observed.names) == len(observed) == 12
    for call in (observed.velocity, lambda *_: observed.mobility(None, states), observed.lift):
        with pytest.raises(ConfigurationError, match="use estimator: edmd"):
            call(states, states, None)


def test_states_are_moved_as_their_coordinates_are():
    """A flow of states through functions that are linear is the flow of those coordinates."""
    J, x, mobility = np.array([[1.0, 2.0], [0.5, -1.0]]), RNG.normal(size=(200, 2)), np.array([1.0, 3.0])
    linear = Coordinates(LinearMap(J, 2), np.zeros(2), np.array([1.0, 2.0]))
    curved = Coordinates(FunctionMap(["x + 2*y", "x/2 - y"], PLANE), linear.mean, linear.scale)
    spectrum = {
        "rates": np.array([0.0, 1.0, 2.0]),
        "coefficients": RNG.normal(size=(12, 3)),
        "offsets": np.zeros(3),
        "dictionary": GaussianDictionary(RNG.normal(size=(12, 2)), 0.8),
    }
    blocks = transport.particle_blocks(len(x))
    moves = []
    for coordinates in (linear, curved):
        found = SimpleNamespace(coordinates=coordinates, **spectrum)
        if coordinates is linear:
            flow, at = (
                transport.Flow(MPI.COMM_SELF, found, linear.mobility(mobility), blocks, len(x)),
                linear.of_rows(x),
            )
        else:
            flow, at = transport.LocalFlow(MPI.COMM_SELF, found, mobility, blocks, len(x)), x
        totals = [None] * len(blocks)
        values = [flow.survey(at[tile.rows], tile, totals) for tile in flow.tiles]
        field = flow.field(flow.tally(totals).means)
        slopes = [flow.slopes(at[t.rows], psi, field)[0] for t, psi in zip(flow.tiles, values, strict=True)]
        move = flow.displacement(np.concatenate(slopes))
        moves.append((move if coordinates is linear else move @ J.T / linear.scale, flow.largest(at, move)))
        flow.close()
    np.testing.assert_allclose(moves[0][0], moves[1][0], rtol=1e-10, atol=1e-12)
    assert moves[0][1] == pytest.approx(moves[1][1])


# name: (what is replaced in SMALL, by what, part of the message)
MODES = "{kind: modes, count: 3}"
REFUSED = {
    "kind": (MODES, "{kind: mode, count: 3}", "did you mean 'modes'?"),
    "key": (MODES, "{kind: pod, cuont: 3}", "koopman.coordinates.cuont: unknown key; did you mean 'count'?"),
    "nested key": (MODES, "{kind: delay, count: 2, spacing: 0.5, of: {kind: pod}}", "koopman.coordinates.of.count"),
    "too many directions": (MODES, "{kind: pod, count: 33}", "33 principal directions asked for, the system has 32"),
    "reversible delays": (MODES, "{kind: delay, count: 2, spacing: 0.5}", "use estimator: edmd"),
    "delays of delays": (MODES, "{kind: delay, count: 2, spacing: 1, of: {kind: delay}}", "'delay' is not available"),
    "unknown name": (
        MODES,
        "{kind: expressions, functions: [mean(v)]}",
        "koopman.coordinates.functions: unknown name 'v'",
    ),
    "a field": (MODES, "{kind: expressions, functions: [u**2]}", "'u**2' is a field"),
    "code": (MODES, "{kind: expressions, functions: [().__class__]}", "is not allowed"),
    "of modes": (MODES, "{kind: expressions, functions: [c3], of: {kind: modes, count: 2}}", "unknown name 'c3'"),
    "not smooth": (MODES, "{kind: expressions, functions: [max(u)]}", "max() of u has no derivative"),
    "rough dictionary": (
        "{kind: gaussian, size: 60}",
        "{kind: expressions, functions: [c1, c2, c3, abs(c1), c1**2, c2**2, c3**2]}",
        "'abs(c1)' is not smooth",
    ),
    "cells": ("{kind: gaussian, size: 60}", "{kind: indicator, size: 60}", "which kswgd needs"),
    "hats": ("{kind: gaussian, size: 60}", "{kind: splines, cells: 8, degree: 1}", "which kswgd needs; use 2 or more"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_coordinates_that_cannot_be_are_refused_in_one_line(name):
    old, new, message = REFUSED[name]
    assert old in SMALL
    with pytest.raises(KswgdError) as caught:
        build(parse(SMALL.replace(old, new)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


DELAYS = """
seed: 5
system: {kind: data, path: data.npy, sampling_interval: 0.1}
ensemble: {lag_time: 0.4, stride: 0.2}
koopman:
  estimator: edmd
  coordinates: {kind: delay, count: 3, spacing: 0.2, of: {kind: pod, count: 1}}
  dictionary: {kind: wendland, size: 40, centres: kmeans, bandwidth: cross_validated}
  modes: 4
output: {directory: out}
"""


def test_a_past_that_does_not_fit_the_records_is_refused(tmp_path):
    np.save(tmp_path / "data.npy", RNG.normal(size=(4, 30, 2)))
    text = DELAYS.replace("data.npy", str(tmp_path / "data.npy"))
    for old, new, message in (
        ("spacing: 0.2", "spacing: 0.3", "koopman.coordinates.spacing = 0.3 is not a multiple of 0.2"),
        ("count: 3", "count: 20", "are longer than a trajectory"),
        (
            "sampling_interval: 0.1}",
            "sampling_interval: 0.1, mobility: 1}\nkswgd: {particles: 9, initial: {kind: gaussian}}",
            "kswgd: starts from states without a past",
        ),
    ):
        with pytest.raises(KswgdError) as caught:
            build(parse(text.replace(old, new)))
        assert message in str(caught.value)


def oscillator(path, trajectories):
    """Positions, in three proportional components, of dq = p dt, dp = -(q + p/2) dt + dW: rates 1/4 -+ 0.968i."""
    rng, step = np.random.default_rng(2), 0.01
    q, p, record = np.zeros(trajectories), np.zeros(trajectories), []
    for i in range(20_000):
        q, p = q + step * p, p + step * (-q - p / 2) + np.sqrt(step) * rng.normal(size=trajectories)
        if i >= 2000 and i % 10 == 0:
            record.append(q)
    np.save(path, np.array(record).T[:, :, None] * np.array([1.0, -2.0, 0.5]))


def test_delays_of_principal_directions_see_a_hidden_variable(tmp_path):
    oscillator(tmp_path / "data.npy", 64)
    text = DELAYS.replace("data.npy", str(tmp_path / "data.npy"))
    rates = {}
    for number in (2, 12):
        config = parse(text.replace("count: 3", f"count: {number}").replace("spacing: 0.2", "spacing: 0.4"))
        x, y = pilot_sample(MPI.COMM_SELF, config, build(config), lambda _units: None).pairs
        mu = np.linalg.eigvals(np.linalg.lstsq(x, y, rcond=None)[0])
        rates[number] = -np.log(mu[np.argmax(np.abs(mu))]) / 0.4
    # 64 trajectories of 180 time units: a standard error of about sqrt(2 * 0.25 / (64 * 180)) = 0.007
    assert abs(rates[12].real - 0.25) < 0.03
    assert abs(abs(rates[12].imag) - np.sqrt(15 / 16)) < 0.03
    assert abs(rates[2].real - 0.25) > 0.03


def test_delays_run_by_the_command_to_the_same_bits_on_any_number_of_ranks(tmp_path):
    found = []
    for ranks in (1, 2):
        directory = tmp_path / str(ranks)
        directory.mkdir()
        oscillator(directory / "data.npy", 16)
        process = run_command(DELAYS, directory, ranks)
        assert process.returncode == 0, process.stderr
        found.append(results(directory))
    for name, values in found[0].items():
        assert np.asarray(values).tobytes() == np.asarray(found[1][name]).tobytes(), name
    page = view.load(tmp_path / "1" / "out" / "results.h5")
    size = np.abs(page.eigenfunctions(page.sample, 3)) ** 2
    np.testing.assert_allclose(size.mean(axis=0), 1.0, rtol=0.2)
    assert page.component(4) == "component 2, 0.2 earlier"


def test_a_pilot_of_pairs_is_a_lag_apart(tmp_path):
    times = np.arange(200) * 0.1
    np.save(tmp_path / "data.npy", np.repeat(times[None, :, None], 3, axis=0) + [[[0.0]], [[50.0]], [[100.0]]])
    text = DELAYS.replace("data.npy", str(tmp_path / "data.npy")).replace("count: 1", "count: 1", 1)
    text = text.replace("{kind: delay, count: 3, spacing: 0.2, of: {kind: pod, count: 1}}", "{kind: identity}")
    config = parse(text)
    pilot = pilot_sample(MPI.COMM_SELF, config, build(config), lambda _units: None)
    x, y = pilot.pairs
    np.testing.assert_allclose(y - x, 0.4)
    assert len(x) > 50
