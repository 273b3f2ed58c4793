from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from support import sums

from kswgd_hpc.plan import estimator_for
from kswgd_hpc.recorder import Recorder, Selection
from kswgd_hpc.restarts import Dynamics, certify, horizon_steps
from kswgd_hpc.spectrum import solve

COMM = MPI.COMM_WORLD
STEP = 0.1
OU = """
seed: 5
system: {kind: diffusion, variables: [x], drift: [-x], diffusion: 1.4142135623730951}
ensemble: {trajectories: 512, initial: {kind: gaussian}, scheme: euler_maruyama, time_step: 0.1, burn_in: 5,
           duration: 40, lag_time: 0.5}
koopman: {estimator: ESTIMATOR, dictionary: {kind: polynomial, degree: 4}, modes: 3}
"""


def certificates(estimator: str, again: bool = True, comm: MPI.Comm = MPI.COMM_SELF):
    """Certificates of the first two modes from some 8,000 restarts."""
    config, plan, totals = sums(OU.replace("ESTIMATOR", estimator), comm)
    chosen = estimator_for(config)
    spectrum, space = solve(totals, chosen, 0.5, 3, 1e-9)
    recorder = Recorder.for_run(plan.ensemble, 64, False, 8192)
    for block in plan.ensemble.blocks[len(plan.ensemble.blocks) * comm.rank // comm.size :]:
        if block.index < len(plan.ensemble.blocks) * (comm.rank + 1) // comm.size:
            for _ in recorder.watch(block, plan.ensemble.windows(block)):
                pass
    steppers = (plan.system.stepper(h, "euler_maruyama") for h in (STEP, STEP / 2))
    steps = horizon_steps(spectrum, chosen, 0.5, STEP)
    dynamics = Dynamics(*steppers, plan.system.drift, plan.mobility, config.seed, steps)
    return certify(space, spectrum, chosen, dynamics, recorder.restarts, again, lambda _units: None)


@pytest.mark.parametrize("estimator", ["reversible", "edmd"])
def test_lagged_rates_change_with_the_time_step_as_the_chain_does(estimator):
    # Euler-Maruyama multiplies x by 1 - h a step
    rate = [-np.log(1 - h) / h for h in (STEP, STEP / 2)]
    exact = (rate[0] - rate[1]) * np.array([1, 2])
    found, residuals = certificates(estimator)
    assert (np.abs(found.difference.real - exact) < 3 * found.error + 0.05 * exact).all()
    assert (found.error < 0.2 * exact).all()
    assert not residuals.spurious.any()


@pytest.mark.parametrize(("estimator", "exact"), [("dirichlet", [-STEP / 4, -STEP / 2]), ("generator", [0.0, 0.0])])
def test_rates_without_a_lag_change_as_the_law_of_the_states_does(estimator, exact):
    # the invariant law of the chain has variance 1 / (1 - h / 2); the generator's rates do not depend on the law
    found, _ = certificates(estimator, again=False)
    assert (np.abs(found.difference.real - exact) < 3 * found.error + 0.05 * np.abs(exact) + 1e-9).all()
    assert (found.error < 0.01).all()


def test_states_to_restart_from_are_spread_over_times_and_trajectories():
    _config, plan, _totals = sums(OU.replace("ESTIMATOR", "edmd"))
    chosen = Selection.of(plan.ensemble, 2048, False)
    # 512 trajectories: four times would do, and spacings are powers of two, so that samples of longer runs hold these
    assert chosen.thin == 1 and (np.diff(chosen.times) == 16).all() and len(chosen.times) == 5
    swarm = Selection.of(plan.ensemble, 2048, True)
    # many times and fewer trajectories, none of them where no pair starts
    assert len(swarm.times) == 20 and swarm.thin == 4
    assert swarm.times.max() < plan.ensemble.pairing.starts * plan.ensemble.pairing.stride


@pytest.mark.mpi(min_size=2)
def test_certificates_have_the_same_bits_on_every_rank_count():
    together, alone = certificates("edmd", comm=COMM), certificates("edmd")
    assert together[0].difference.tobytes() == alone[0].difference.tobytes()
    assert together[1].values.tobytes() == alone[1].values.tobytes()
