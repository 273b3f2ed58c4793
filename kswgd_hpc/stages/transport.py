"""Particles: moved to the invariant law, relaxed, judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kswgd_hpc import backend, streams, transport
from kswgd_hpc.checkpoint import Checkpoint
from kswgd_hpc.config import Config
from kswgd_hpc.dictionary import on_device
from kswgd_hpc.judging import Judge
from kswgd_hpc.parallel import by_block
from kswgd_hpc.plan import Plan
from kswgd_hpc.progress import Progress
from kswgd_hpc.spectrum import Spectrum
from kswgd_hpc.stages.particles import Dynamics, Particles, Pool, Target, initial_particles, spread_out
from kswgd_hpc.stages.way import compared_with_ensemble, flow_datasets, path_datasets
from kswgd_hpc.storage import Rows
from kswgd_hpc.transport_saves import Saves
from kswgd_hpc.visits import Visits
from spde.equations import SemilinearEquation


def transported_by(
    comm,
    config: Config,
    plan: Plan,
    target: Target,
    pool: Pool,
    judge: Judge | None,
    progress: Progress,
    checkpoint: Checkpoint,
) -> dict[str, Any]:
    """Move the particles, let them relax, and compare them with the ensemble. Collective.

    Parameters
    ----------
    judge : who looks at the particles on their way, None for nobody
    """
    spec = config.kswgd
    first = initial_particles(comm, config, plan, target, pool, progress)
    dynamics = Dynamics(config, plan, target.spectrum.coordinates, pool)
    started = spread_out(comm, config, dynamics, first, progress, checkpoint.stage("transport spreading"))
    visits = Visits(spec.snapshots or (), judge and (lambda rows: judge.distance_of(rows, first.start, first.total)))
    with progress.stage("transport", spec.steps) as stage, checkpoint.stage("transport") as kept:
        relaxation = _relaxation_time(config, plan, target.spectrum)
        target = target.kept(_moved_modes(comm, plan, target.moving, started, config, relaxation))
        steps, saves = _steps(config, plan, relaxation), Saves(kept, started.blocks, visits)
        transported, state, history = _flow(comm, plan, target.moving, started, steps, visits, stage, saves)
        stage.note = (
            f"{history.mode_means.shape[1]} modes, {len(history.step_size)} steps, flow time {history.time[-1]:.3g}, "
            f"{_ended(config, history)}"
        )
    progress.processor_seconds["transport"] -= visits.seconds
    relaxed = transported
    if relaxation > 0:
        with progress.stage("relaxation", len(first.blocks)) as tick:
            keeping = checkpoint.stage("transport relaxation")
            relaxed = dynamics.run(transported, first, relaxation, streams.RELAXATION, tick, keeping)
            tick.note = f"time {relaxation:.4g} of {dynamics.name}"
    particles = {"initial": first.states, "transported": transported, "particles": relaxed}
    with progress.stage("metrics", 1) as stage:
        found, stage.note = compared_with_ensemble(comm, config, pool.states, pool.weights, particles)
    found |= {f"kswgd/{name}": Rows(rows, first.start, first.total) for name, rows in particles.items()}
    found |= {
        "kswgd/spread_time": spec.spread,
        "kswgd/spread_steps": dynamics.steps(spec.spread),
        "kswgd/relaxation_time": relaxation,
        "kswgd/relaxation_steps": dynamics.steps(relaxation),
        "kswgd/relaxation": relaxation,
    }
    found |= path_datasets(visits, first, config, progress)
    found |= _law_datasets(target, pool.weights)
    return found | flow_datasets(comm, started, target.moving, state, history, pool, progress)


def _law_datasets(target: Target, weights: np.ndarray) -> dict[str, Any]:
    """What is known of the invariant law beside the ensemble."""
    found: dict[str, Any] = {}
    if target.stationary is not None:
        found["kswgd/stationary_means"] = target.stationary.means
        found["kswgd/stationary_means_error"] = target.stationary.error
    if target.stationary is not None or target.tilt is not None:
        found["ensemble/sample_weights"] = weights
    return found


def _ended(config: Config, history: transport.History) -> str:
    end = config.kswgd.time or (config.kswgd.snapshots or [0.0])[-1]
    if history.converged:
        return "at the iid floor"
    if end and history.time[-1] >= end:
        return "above the iid floor"
    start, last = np.abs(history.mode_means[[0, -1]])
    slowest = int(np.argmax(last))
    if history.time[-1] > 1 and last[slowest] > start[slowest] / 2:
        return (
            f"NOT converged: mode {slowest + 1} hardly moves, as happens where the ensemble has no states on the way "
            "between two sets; koopman.reweight takes a swarm of short runs that start there"
        )
    return "NOT converged: raise kswgd.steps"


def _steps(config: Config, plan: Plan, relaxation: float) -> transport.Steps:
    spec = config.kswgd
    return transport.Steps(
        spec.steps,
        None if spec.step_size == "auto" else spec.step_size,
        tolerance=spec.tolerance,
        times=tuple(spec.snapshots or ()),
        end=spec.time,
        at_floor=spec.stop == "floor",
        relaxation=relaxation if _relaxes_modes(plan) else 0.0,
    )


def _relaxes_modes(plan: Plan) -> bool:
    """Whether modes may be left to the dynamics: of fields under which each decays by its own rate.

    Off the states that they were learned from, fast modes of a field are extrapolations. In few dimensions the states
    are everywhere, and all modes are transported. Without detailed balance they are not those of the dynamics.
    """
    return isinstance(plan.system, SemilinearEquation) and plan.system.reversible is True


def _moved_modes(comm, plan: Plan, spectrum: Spectrum, first: Particles, config: Config, relaxation: float) -> int:
    """Modes to transport: all, where a flow is followed to a time or what follows does not relax modes. Collective."""
    spec, count = config.kswgd, len(spectrum.rates)
    followed = spec.stop != "floor" or spec.time is not None or spec.snapshots is not None
    if followed or relaxation == 0 or count < 3 or not _relaxes_modes(plan):
        return count
    flow, start = _flow_of(comm, plan, spectrum, first)
    try:
        return transport.modes_to_move(flow, start, relaxation)
    finally:
        flow.close()


def _flow_of(comm, plan: Plan, spectrum: Spectrum, first: Particles) -> tuple[transport.Flow, Any]:
    """The velocity field, and what it moves from the start: scaled coordinates, or states on a manifold and the like.
    Collective."""
    coordinates, initial = spectrum.coordinates, first.states
    if not coordinates.constant_mobility(plan.mobility):
        return transport.LocalFlow(comm, spectrum, plan.mobility, first.blocks, first.total), initial
    xp = plan.device
    moved = replace(spectrum, dictionary=on_device(spectrum.dictionary, xp))
    flow = transport.Flow(comm, moved, coordinates.mobility(plan.mobility), first.blocks, first.total, xp)
    return flow, xp.asarray(by_block(first.blocks, coordinates.of_rows, initial))


def _flow(comm, plan: Plan, spectrum: Spectrum, first: Particles, steps: transport.Steps, visits, stage, saves):
    """Transported states (n, d) of this rank, the final state of the flow, and the history. Collective."""
    coordinates, initial = spectrum.coordinates, first.states
    ratio = None if first.density is None else by_block(first.blocks, lambda x: first.density.of(x.T), initial)
    flow, start = _flow_of(comm, plan, spectrum, first)
    of_states = isinstance(flow, transport.LocalFlow)

    def states(state: transport.State) -> np.ndarray:
        if of_states:
            return state.z.copy()
        lifted = by_block(
            first.blocks, lambda rows: coordinates.lift(rows, plan.mobility), backend.to_host(state.impulse)
        )
        return initial - lifted if len(initial) else initial

    def visit(state: transport.State) -> None:
        visits.pass_by(state.steps, state.time, lambda: states(state))

    try:
        state, history = transport.transport(
            flow, start, steps, ratio, visit, lambda _, excess: stage(1, excess=excess), saves
        )
    finally:
        flow.close()
    return states(state), state, history


def _relaxation_time(config: Config, plan: Plan, spectrum: Spectrum) -> float:
    """Time of the system's own dynamics after the transport, in whole steps.

    `auto`: modes beyond the last one, whose rate they exceed, decay to the level of sampling noise, exp(-2 rate time) =
    1 / N.
    """
    wanted = config.kswgd.relaxation
    if wanted != "auto":
        return wanted
    time = np.log(max(config.kswgd.particles, 2)) / (2 * spectrum.rates.real[-1]) if len(spectrum.rates) > 1 else 0.0
    if plan.system is None:
        return float(time)
    step = plan.ensemble.stepper.time_step
    return float(np.ceil(time / step - 1e-9) * step)
