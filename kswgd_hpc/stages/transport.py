"""Particles: moved to the invariant law, relaxed, judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc import backend, metrics, streams, transport
from kswgd_hpc.checkpoint import UNSAVED, Checkpoint, Keeping
from kswgd_hpc.config import Config
from kswgd_hpc.dictionary import on_device
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.parallel import by_block, gather_blocks, local, span
from kswgd_hpc.paths import advanced
from kswgd_hpc.plan import (
    Plan,
)
from kswgd_hpc.progress import Progress
from kswgd_hpc.spectrum import Spectrum
from kswgd_hpc.stages.koopman import lag_of
from kswgd_hpc.stationary import StationaryMeans
from kswgd_hpc.storage import Rows
from spde.stepping import Noise


def transported_by(
    comm,
    config: Config,
    plan: Plan,
    spectrum: Spectrum,
    stationary: StationaryMeans | None,
    datasets: dict[str, Any],
    progress: Progress,
    checkpoint: Checkpoint,
) -> dict[str, Any]:
    """Move the particles, let them relax, and judge them by the ensemble's sample among the datasets. Collective."""
    spec, pool, prior = config.kswgd, datasets["ensemble/sample"], datasets.get("ensemble/sample_weights")
    mine = local(transport.particle_blocks(spec.particles), comm)
    start, _ = span(mine)
    parts = [plan.particles(config.seed, streams.PARTICLES_INITIAL, b.start, b.stop).T for b in mine]
    initial = np.concatenate(parts) if parts else np.empty((0, plan.ensemble.dimension))
    started = spread(comm, config, plan, initial, mine, start, progress, checkpoint.stage("transport spreading"))
    target = spectrum if stationary is None else stationary.centre(spectrum)
    with progress.stage("transport", spec.steps) as stage:
        transported, history = _flow(comm, plan, target, started, mine, spec, stage)
        state = "stopped at the iid floor" if history.converged else "NOT converged: raise kswgd.steps"
        stage.note = f"{len(history.step_size)} steps, flow time {history.time[-1]:.3g}, {state}"
    relaxed = transported
    if spec.relaxation > 0:
        with progress.stage("relaxation", len(mine)) as tick:
            keeping = checkpoint.stage("transport relaxation")
            relaxed = _dynamics(
                config, plan, transported, mine, start, spec.relaxation, streams.RELAXATION, tick, keeping
            )
    particles = {"initial": initial, "transported": transported, "particles": relaxed}
    judges = pool if prior is None else metrics.drawn(pool, prior)
    weights = None if stationary is None else stationary.weights(spectrum, judges.T)
    with progress.stage("metrics", 1) as stage:
        found, stage.note = judge(comm, config, judges, weights, particles)
    found |= {f"kswgd/{name}": Rows(rows, start, spec.particles) for name, rows in particles.items()}
    if stationary is not None:
        found["kswgd/stationary_means"] = stationary.means
        found["kswgd/stationary_means_error"] = stationary.error
        weights = stationary.weights(spectrum, pool.T) * (1.0 if prior is None else prior)
        found["ensemble/sample_weights"] = weights / weights.sum()
    return found | {
        "kswgd/history/time": history.time,
        "kswgd/history/mode_means": history.mode_means,
        "kswgd/history/step_size": history.step_size,
        "kswgd/history/displacement": history.displacement,
        "kswgd/converged": history.converged,
        "kswgd/floor": transport.floor(history.mode_means.shape[1]),
    }


def _flow(comm, plan: Plan, spectrum: Spectrum, initial, mine, spec, stage):
    """Transported states (n, d) of this rank, and the history. Collective."""
    coordinates = spectrum.coordinates
    fixed = None if spec.step_size == "auto" else spec.step_size
    of_states = not coordinates.constant_mobility(plan.mobility)
    if of_states:
        flow, start = transport.LocalFlow(comm, spectrum, plan.mobility, mine, spec.particles), initial
    else:
        xp = plan.device
        moved = replace(spectrum, dictionary=on_device(spectrum.dictionary, xp))
        flow = transport.Flow(comm, moved, coordinates.mobility(plan.mobility), mine, spec.particles, xp)
        start = xp.asarray(by_block(mine, coordinates.of_rows, initial))
    try:
        end, impulse, history = transport.transport(
            flow, start, spec.steps, fixed, progress=lambda _, excess: stage(1, excess=excess)
        )
    finally:
        flow.close()
    if of_states:
        return end, history
    move = by_block(mine, lambda rows: coordinates.lift(rows, plan.mobility), backend.to_host(impulse))
    return (initial - move if len(initial) else initial), history


def spread(
    comm,
    config: Config,
    plan: Plan,
    states: np.ndarray,
    mine,
    start: int,
    progress: Progress,
    keeping: Keeping = UNSAVED,
) -> np.ndarray:
    """States that a deterministic flow can transport: a point mass stays one, so coinciding particles are spread first.

    The system's own dynamics for one lag time gives them a law with a density; it is part of the method's start, as
    method.md (2) asks for a density ratio. Collective.
    """
    d = states.shape[1]
    # the largest of x and of -x over all particles, in one reduction
    extremes = np.concatenate([states, -states], axis=1).max(axis=0, initial=-np.inf)
    comm.Allreduce(MPI.IN_PLACE, extremes, op=MPI.MAX)
    if (extremes[:d] > -extremes[d:]).any() or config.kswgd.particles == 1:
        return states
    if plan.system is None:
        raise ConfigurationError(
            "kswgd.initial: all particles start at one point, which no deterministic flow spreads; use kind: gaussian"
        )
    progress.say(f"all particles start at one point: spread by the system's own dynamics for time {lag_of(config):g}")
    return _dynamics(config, plan, states, mine, start, lag_of(config), streams.SPREADING, lambda _units: None, keeping)


def _dynamics(
    config: Config, plan: Plan, states, mine, start: int, time: float, stream: int, tick, keeping: Keeping
) -> np.ndarray:
    """(n, d) states of this rank's particles after running the system's own dynamics for a time. Collective."""
    stepper = plan.ensemble.stepper
    steps = round(time / stepper.time_step)
    out = np.empty_like(states)
    with keeping as kept:
        for block in mine:
            rows = slice(block.start - start, block.stop - start)
            noise = Noise(config.seed, stream, block.start)
            begin = np.ascontiguousarray(states[rows].T)
            out[rows] = advanced(stepper, begin, noise, steps, kept, block.index).T
            tick(1)
    return out


def judge(comm, config: Config, pool: np.ndarray, weights, particles: dict[str, np.ndarray]) -> tuple[dict, str]:
    """Energy distance of the particles to the invariant law at each stage, and the iid floor. Collective.

    The law is that of the whole pool (n, d) with the weights (n,) of the stationary correction: a part of it may be of
    a part of the trajectories, whose share of rare transitions is another.
    """
    count = min(metrics.affordable(config.kswgd.particles, pool.shape[1]), len(pool) // 2)
    if count < 2:
        return {}, "too few ensemble states to judge"
    mass = None if weights is None else weights / weights.sum()
    values = {}
    for name, rows in particles.items():
        sample = metrics.subsample(gather_blocks(comm, [rows], pool.shape[1]), count)
        values[f"kswgd/metrics/energy_distance_{name}"] = metrics.energy_distance(comm, sample, pool, mass)
    # what independent states of one law are apart, in proportion to 1/n + 1/m for samples of n and m
    scale = (1 + count / len(pool)) / 2
    mean, spread = (scale * value for value in metrics.iid_floor(comm, pool, count, config.seed))
    values["kswgd/metrics/energy_distance_floor"] = mean
    values["kswgd/metrics/energy_distance_floor_deviation"] = spread
    ratio = values["kswgd/metrics/energy_distance_particles"] / mean
    return values, f"energy distance to the invariant law {ratio:.2f} times the iid floor"
