from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from scipy.special import ndtri
from support import sums

from kswgd_hpc import decay, transport
from kswgd_hpc.errors import TransportError
from kswgd_hpc.estimators import ESTIMATORS
from kswgd_hpc.flow import GROUPS
from kswgd_hpc.parallel import local, span
from kswgd_hpc.spectrum import solve

COMM = MPI.COMM_WORLD

DOUBLE_WELL = """
seed: 1
system: {kind: diffusion, variables: [x], potential: (x**2-1)**2, temperature: TEMPERATURE}
ensemble: {trajectories: 1000, initial: {kind: uniform, low: -1.5, high: 1.5}, time_step: 0.01, burn_in: 5,
  duration: 20, lag_time: 0.2}
koopman: {estimator: dirichlet, dictionary: {kind: gaussian, size: 80}, modes: 30}
"""


def solved(temperature: float):
    """Spectrum, mobility of the coordinate, and states of the invariant law."""
    config, plan, totals = sums(DOUBLE_WELL.replace("TEMPERATURE", str(temperature)))
    found, _ = solve(totals, ESTIMATORS["dirichlet"], 0.2, config.koopman.modes, 1e-9)
    states = [w.states[::20].ravel() for block in plan.ensemble.blocks for w in plan.ensemble.windows(block)]
    return (
        found,
        found.coordinates.mobility(plan.mobility),
        np.random.default_rng(1).permutation(np.concatenate(states)),
    )


@pytest.fixture(scope="module")
def cold():
    return solved(0.25)


def one_well(states: np.ndarray, count: int) -> np.ndarray:
    return np.resize(states[states > 0], count)


def carry(found, mobility, x, steps, step_size=None, comm=MPI.COMM_SELF):
    """Positions of this rank's particles after transport, and the history."""
    blocks = local(transport.particle_blocks(len(x)), comm)
    start, stop = span(blocks)
    flow = transport.Flow(comm, found, mobility, blocks, len(x))
    z = found.coordinates(x[None, start:stop])
    state, history = transport.transport(flow, z, transport.Steps(steps, step_size))
    flow.close()
    moved = z + flow.displacement(state.impulse)
    return moved[:, 0] * found.coordinates.scale[0] + found.coordinates.mean[0], history


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_mass_crosses_any_barrier_by_the_exact_law(temperature):
    # method.md (2'): rho_0 = 2 in the well where all start, so its mass at time t is 1 / (2 - exp(-t))
    found, mobility, states = solved(temperature)
    for steps in (10, 20):
        x, history = carry(found, mobility, one_well(states, 2000), steps, 0.1)
        exact = 1 / (2 - np.exp(-history.time[-1]))
        assert (x > 0).mean() == pytest.approx(exact, abs=0.035)


def test_modes_that_relaxation_settles_by_itself_are_left_to_it(cold):
    found, mobility, states = cold
    x = one_well(states, 2000)
    flow = transport.Flow(MPI.COMM_SELF, found, mobility, transport.particle_blocks(2000), 2000)
    z = found.coordinates(x[None])
    means, rates = transport.transport(flow, z, transport.Steps(1))[1].mode_means[0], found.rates.real
    counts = [transport.modes_to_move(flow, z, time) for time in (0.0, 1.0, 100 / rates[2])]
    flow.close()
    # one well of two: the slowest mode alone is far from independent draws, and no relaxation below its time helps
    assert 2000 * means[0] ** 2 > 1000
    assert counts[0] == len(rates)
    assert counts[2] == 2 < counts[0]
    left = 2000 * means**2 * np.exp(-2 * rates[1:])
    assert (left[counts[1] - 1 :] <= 1).all()


def test_a_flow_before_relaxation_stops_where_that_will_settle_what_is_left(cold):
    found, mobility, states = cold
    z = found.coordinates(one_well(states, 2000)[None])
    flow = transport.Flow(MPI.COMM_SELF, found, mobility, transport.particle_blocks(2000), 2000)
    alone = transport.transport(flow, z, transport.Steps())[1]
    before = transport.transport(flow, z, transport.Steps(relaxation=1.0))[1]
    flow.close()
    assert before.converged
    assert before.time[-1] <= alone.time[-1]
    left = 2000 * (before.mode_means[-1] * np.exp(-found.rates.real[1:])) ** 2
    assert left[0] <= 0.1
    assert left.sum() <= transport.floor(len(left))


def test_particles_end_as_independent_draws(cold):
    found, mobility, states = cold
    x, history = carry(found, mobility, one_well(states, 2000), 400)
    assert history.converged
    assert 2000 * (history.mode_means[-1] ** 2).sum() <= transport.floor(len(found.rates) - 1)
    assert (x > 0).mean() == pytest.approx((states > 0).mean(), abs=0.05)
    assert len(history.step_size) < 120


def test_the_energy_of_the_flow_falls(cold):
    found, mobility, states = cold
    _, history = carry(found, mobility, one_well(states, 1000), 400)
    energy = (history.mode_means**2 / found.rates.real[1:]).sum(axis=1)
    assert (energy[1:] <= 1.01 * energy[:-1]).all()


def test_a_fixed_step_that_is_too_large_is_an_error(cold):
    found, mobility, states = cold
    with pytest.raises(TransportError, match="diverged"), np.errstate(over="ignore"):
        carry(found, mobility, one_well(states, 1000), 400, 1e300)


def test_few_particles_cross_a_barrier_in_steps_of_their_own():
    """At a barrier of 6.7 kT velocities are a thousand times those in the wells; the steps of all others stay long."""
    found, mobility, states = solved(0.15)
    x, history = carry(found, mobility, one_well(states, 2000), 400)
    assert len(history.step_size) < 90
    assert (x > 0).mean() == pytest.approx((states > 0).mean(), abs=0.05)


def test_steps_land_on_the_times_asked_for(cold):
    found, mobility, states = cold
    blocks = transport.particle_blocks(500)
    flow = transport.Flow(MPI.COMM_SELF, found, mobility, blocks, 500)
    seen = []
    steps = transport.Steps(times=(0.3, 0.31, 1.0), end=1.5, at_floor=False)
    z = found.coordinates(one_well(states, 500)[None])
    _, history = transport.transport(flow, z, steps, visit=lambda state: seen.append(state.time))
    flow.close()
    assert {0.0, 0.3, 0.31, 1.0, 1.5} <= set(seen)
    assert history.time[-1] == 1.5
    np.testing.assert_allclose(np.cumsum(history.step_size), history.time[1:])


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_decay_follows_the_exact_curve_at_any_temperature(temperature):
    """method.md (2') for rho_0 = 2: by a histogram, by the modes, and by the ratio that each particle carries."""
    found, mobility, states = solved(temperature)
    x0, times = one_well(states, 4000), (0.5, 1.0, 2.0)
    blocks = transport.particle_blocks(len(x0))
    flow = transport.Flow(MPI.COMM_SELF, found, mobility, blocks, len(x0))
    kept = {}

    def visit(state):
        kept[state.time] = state.z[:, 0] * found.coordinates.scale[0] + found.coordinates.mean[0]

    z, ratio = found.coordinates(x0[None]), np.full(len(x0), 1 / (states > 0).mean())
    _, history = transport.transport(flow, z, transport.Steps(times=times), ratio, visit)
    flow.close()
    curve = decay.exact_kl(MPI.COMM_SELF, history.time, ratio, blocks, len(blocks))
    edges = np.quantile(states, np.linspace(0, 1, 31)[1:-1])
    for time in times:
        exact = curve[np.searchsorted(history.time, time)]
        share = np.bincount(np.searchsorted(edges, kept[time]), minlength=30) / len(x0)
        by_histogram = (share[share > 0] * np.log(30 * share[share > 0])).sum() - 29 / (2 * len(x0))
        assert by_histogram == pytest.approx(exact, abs=0.04)
        at = np.searchsorted(history.time, time)
        assert history.overall(history.kl)[at] == pytest.approx(exact, abs=0.02)
        assert history.overall(history.kl_carried)[at] == pytest.approx(exact, abs=0.03)
    rate = decay.decay_rate(history, decay.sampling_floor(len(found.rates) - 1, len(x0))[1])
    assert rate.low < rate.rate < rate.high
    assert 0.85 < rate.rate < 2


def test_the_exact_curve_is_that_of_a_normal_law():
    # N(2, 1) to N(0, 1), method.md: 2, 0.20848, 0.049115, 0.011575 at t = 0, 1, 2, 3
    x = 2 + ndtri((np.arange(20000) + 0.5) / 20000)
    blocks = transport.particle_blocks(len(x))
    found = decay.exact_kl(MPI.COMM_SELF, np.arange(4.0), np.exp(2 * x - 2), blocks, len(blocks))
    np.testing.assert_allclose(found, [2, 0.20848, 0.049115, 0.011575], rtol=2e-3)


class CountingComm:
    """A communicator that counts its reductions."""

    def __init__(self, comm):
        self._comm, self.sizes = comm, []

    def Allreduce(self, send, receive, op):
        self.sizes.append(receive.size)
        self._comm.Allreduce(send, receive, op=op)

    def __getattr__(self, name):
        return getattr(self._comm, name)


def test_a_step_costs_one_reduction_of_r_plus_a_few_numbers(cold):
    found, mobility, states = cold
    comm = CountingComm(MPI.COMM_SELF)
    _, history = carry(found, mobility, one_well(states, 500), 5, 0.05, comm)
    # one for each step, one for the start, one for the logarithms of the last
    assert comm.sizes == [len(found.rates) + 2 + 2 * GROUPS] * (len(history.step_size) + 2)


@pytest.mark.mpi(min_size=2)
def test_particles_move_in_the_same_bits_on_every_rank_count():
    found, mobility, states = solved(1.0)
    x = one_well(states, 1000)
    together, _ = carry(found, mobility, x, 20, None, COMM)
    alone, _ = carry(found, mobility, x, 20)
    start, stop = span(local(transport.particle_blocks(len(x)), COMM))
    assert together.tobytes() == alone[start:stop].tobytes()
