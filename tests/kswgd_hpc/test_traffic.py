"""What is sent, counted at the MPI layer."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from support import SMALL, sums

from kswgd_hpc import transport
from kswgd_hpc.config import parse
from kswgd_hpc.eigensolver import dense_matrix
from kswgd_hpc.estimators import ESTIMATORS
from kswgd_hpc.flow import GROUPS
from kswgd_hpc.parallel import local
from kswgd_hpc.plan import build, collector_for, pilot_sample
from kswgd_hpc.spectrum import solve
from kswgd_hpc.traffic import Counted

TEXT = SMALL.replace("duration: 20", "duration: 5")


@pytest.mark.mpi
def test_an_ensemble_sends_nothing_until_its_end():
    comm = Counted(MPI.COMM_WORLD)
    config = parse(TEXT)
    plan = build(config)
    pilot = pilot_sample(comm, config, plan, lambda _units: None)
    collector, _ = collector_for(config, plan, pilot)
    before = comm.traffic.state()
    assert before  # the pilot sample is gathered, and counted
    for block in local(plan.ensemble.blocks, comm):
        collector.collect(block, plan.ensemble.windows(block))
    assert comm.traffic.since(before) == []


@pytest.mark.mpi
def test_petsc_works_on_ranks_whose_messages_are_counted():
    comm = Counted(MPI.COMM_WORLD)
    matrix = dense_matrix(comm, np.ones((1, comm.size)), comm.size)
    assert matrix.getSizes()[0] == (1, comm.size)
    matrix.destroy()


@pytest.mark.mpi
@pytest.mark.parametrize("particles", [200, 3000])
def test_a_step_of_transport_is_one_allreduce_of_one_number_a_mode_and_a_few(particles):
    comm = Counted(MPI.COMM_WORLD)
    _, plan, found = sums(TEXT, MPI.COMM_WORLD)
    spectrum, _ = solve(found, ESTIMATORS["dirichlet"], 1.0, 6, 1e-9, 1.0, {})
    mine = local(transport.particle_blocks(particles), comm)
    flow = transport.Flow(comm, spectrum, spectrum.coordinates.mobility(plan.mobility), mine, particles)
    count, tried = sum(block.size for block in mine), []
    start = np.random.default_rng(comm.rank).normal(1.0, 0.3, size=(count, spectrum.coordinates.size))
    tally = flow.tally
    flow.tally = lambda *arguments: tried.append(1) or tally(*arguments)
    before = comm.traffic.state()
    _, history = transport.transport(flow, start, transport.Steps(20))
    flow.close()
    sent = {operation: (size, calls) for operation, size, calls in comm.traffic.since(before)}
    modes = len(spectrum.rates) - 1
    assert len(history.step_size) > 3
    assert sent["Allreduce"] == (8 * (modes + 2 * GROUPS + 3), len(tried))
    assert sum(calls for _, calls in sent.values()) <= len(tried) + 1  # the scale
