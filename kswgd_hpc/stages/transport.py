"""Particles: moved to the invariant law, relaxed, judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc import backend, decay, metrics, starts, streams, transport
from kswgd_hpc.checkpoint import UNSAVED, Checkpoint, Keeping
from kswgd_hpc.config import Config
from kswgd_hpc.coordinates import Coordinates
from kswgd_hpc.dictionary import on_device
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.judging import Judge
from kswgd_hpc.kernel_density import KernelDynamics
from kswgd_hpc.parallel import Block, by_block, gather_blocks, local, span
from kswgd_hpc.paths import advanced
from kswgd_hpc.plan import Plan
from kswgd_hpc.progress import Progress
from kswgd_hpc.spectrum import Spectrum
from kswgd_hpc.stages.koopman import lag_of
from kswgd_hpc.starts import DensityRatio
from kswgd_hpc.stationary import StationaryMeans
from kswgd_hpc.storage import Rows
from kswgd_hpc.transport_saves import Saves
from kswgd_hpc.visits import Visits
from spde.equations import SemilinearEquation
from spde.stepping import Noise

HISTORY = ("steps", "time", "energy_distance")  # of a method on its way


@dataclass(frozen=True)
class Target:
    """The invariant law as it is known.

    spectrum : that moves particles
    stationary : correction of the law of the (weighted) ensemble, None where there is none
    density : weights of the ensemble's states, a function of their features; None for equal ones
    modes : that move particles, the constant one included; None for all
    tilt : function of the ensemble's states (n, d) -> (n,) that says all of their weights, of a conditioned law
    """

    spectrum: Spectrum
    stationary: StationaryMeans | None = None
    density: Callable[[np.ndarray], np.ndarray] | None = None
    modes: int | None = None
    tilt: Callable[[np.ndarray], np.ndarray] | None = None

    def kept(self, modes: int) -> Target:
        """The same with the leading modes alone to move particles by, the constant one counted."""
        return self if modes >= len(self.spectrum.rates) else replace(self, modes=modes)

    @property
    def moving(self) -> Spectrum:
        """The spectrum, its eigenfunctions of mean zero under the invariant law."""
        moving = self.spectrum if self.stationary is None else self.stationary.centre(self.spectrum)
        return moving if self.modes is None else moving.kept(self.modes)

    def weights(self, states: np.ndarray) -> np.ndarray:
        """(n,) weights under the invariant law of states (n, d) of the ensemble, not normalised."""
        if self.tilt is not None:
            return self.tilt(states)
        weights = np.ones(len(states))
        if self.density is not None and len(states):
            weights = self.density(self.spectrum.dictionary.values(self.spectrum.coordinates.of_rows(states)))
        if self.stationary is not None and len(states):
            weights = weights * self.stationary.density(self.spectrum, states.T)
        return weights


@dataclass(frozen=True)
class Particles:
    """This rank's particles at the start.

    states : (n, d); blocks : of all particles that this rank has; total : over all ranks
    density : ratio of their law to the invariant one, None where only the modes know it
    """

    states: np.ndarray
    blocks: list[Block]
    total: int
    density: DensityRatio | None

    @property
    def start(self) -> int:
        """Global index of the first."""
        return span(self.blocks)[0]


def transported_by(
    comm,
    config: Config,
    plan: Plan,
    target: Target,
    candidates: list[np.ndarray],
    pool: np.ndarray,
    weights: np.ndarray,
    judge: Judge | None,
    progress: Progress,
    checkpoint: Checkpoint,
) -> dict[str, Any]:
    """Move the particles, let them relax, and compare them with the ensemble. Collective.

    Parameters
    ----------
    candidates : states of the ensemble that particles may start from, by block
    pool : (n, d) states of the ensemble; weights : (n,) under the invariant law, summing to one
    judge : who looks at the particles on their way, None for nobody
    """
    spec = config.kswgd
    first = _particles(comm, config, plan, target, candidates, pool, weights, progress)
    dynamics = Dynamics(config, plan, target.spectrum.coordinates, pool, weights)
    started = _spread(comm, config, dynamics, first, progress, checkpoint.stage("transport spreading"))
    visits = Visits(spec.snapshots or (), judge and (lambda rows: judge.distance_of(rows, first.start, first.total)))
    with progress.stage("transport", spec.steps) as stage:
        relaxation = _relaxation_time(config, plan, target.spectrum)
        target = target.kept(_moved_modes(comm, plan, target.moving, started, config, relaxation))
        with checkpoint.stage("transport") as kept:
            saves = Saves(kept, started.blocks, visits)
            steps = _steps(config, plan, relaxation)
            moved = _flow(comm, plan, target.moving, started, steps, visits, stage, saves)
        transported, state, history = moved
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
        found, stage.note = compared_with_ensemble(comm, config, pool, weights, particles)
    found |= {f"kswgd/{name}": Rows(rows, first.start, first.total) for name, rows in particles.items()}
    if spec.snapshots is not None:
        found |= _snapshot_datasets(visits, first, progress)
    found |= _path_datasets(visits)
    if target.stationary is not None:
        found["kswgd/stationary_means"] = target.stationary.means
        found["kswgd/stationary_means_error"] = target.stationary.error
        found["ensemble/sample_weights"] = weights
    if target.tilt is not None:
        found["ensemble/sample_weights"] = weights
    found |= _decay_datasets(comm, started, target.moving, history, pool, weights, progress)
    return found | {
        "kswgd/spread_time": spec.spread,
        "kswgd/spread_steps": dynamics.steps(spec.spread),
        "kswgd/relaxation_time": relaxation,
        "kswgd/relaxation_steps": dynamics.steps(relaxation),
        "kswgd/history/time": history.time,
        "kswgd/history/mode_means": history.mode_means,
        "kswgd/history/step_size": history.step_size,
        "kswgd/history/displacement": history.displacement,
        "kswgd/history/error": history.error,
        "kswgd/density_ratio": Rows(np.exp(backend.to_host(state.log_ratio)), first.start, first.total),
        "kswgd/converged": history.converged,
        "kswgd/floor": transport.floor(history.mode_means.shape[1]),
        "kswgd/relaxation": relaxation,
    }


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


def _particles(
    comm, config: Config, plan: Plan, target: Target, candidates, pool, weights, progress: Progress
) -> Particles:
    """Initial states of this rank's particles, and the density ratio where it is known. Collective."""
    spec, d = config.kswgd, plan.ensemble.dimension
    mine = local(transport.particle_blocks(spec.particles), comm)
    if plan.start is None:
        parts = [plan.particles(config.seed, streams.PARTICLES_INITIAL, b.start, b.stop).T for b in mine]
        states = np.concatenate(parts) if parts else np.empty((0, d))
        known = None if target.tilt is not None else starts.ratio_of_density(config, pool, weights)
        return Particles(states, mine, spec.particles, known)
    there = comm.allreduce(sum(len(part) for part in candidates))
    if there == 0:
        raise ConfigurationError(f"kswgd.initial.where: no state of the ensemble is in {spec.initial.where!r}")
    if there < spec.particles:
        progress.say(f"kswgd.initial: {there} states of the ensemble for {spec.particles} particles: used in turn")
    shares = [target.weights(part) for part in candidates]
    drawn = starts.drawn_evenly(comm, candidates, shares, min(there, spec.particles))
    first, last = span(mine)
    states = drawn[np.arange(first, last) % len(drawn)]
    return Particles(states, mine, spec.particles, starts.ratio_of_set(plan.start, pool, weights))


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


def _path_datasets(visits: Visits) -> dict[str, Any]:
    """How far the particles were from the invariant law on their way."""
    if visits.distance is None:
        return {}
    steps, times, distances = (np.array(column) for column in zip(*visits.seen, strict=True))
    return {f"kswgd/comparison/history/{name}": column for name, column in zip(HISTORY, (steps, times, distances))}


def _snapshot_datasets(snapshots: Visits, first: Particles, progress: Progress) -> dict[str, Any]:
    if len(snapshots.taken) < len(snapshots.times):
        progress.say(
            f"kswgd.snapshots: {len(snapshots.taken)} of {len(snapshots.times)} times were reached; raise kswgd.steps"
        )
    found: dict[str, Any] = {"kswgd/snapshots/times": np.array([time for time, _ in snapshots.taken])}
    shape = (len(first.states), len(snapshots.taken), first.states.shape[1])
    together = np.empty(shape)
    for index, (_time, states) in enumerate(snapshots.taken):
        together[:, index] = states
    found["kswgd/snapshots/particles"] = Rows(together.transpose(1, 0, 2), first.start, first.total, axis=1)
    return found


def _decay_datasets(
    comm, first: Particles, spectrum: Spectrum, history: transport.History, pool, weights, progress: Progress
) -> dict[str, Any]:
    """The decay that theory predicts, and that which the modes and the particles show. Collective."""
    kl = history.overall(history.kl)
    modes = history.mode_means.shape[1]
    chi2 = (history.mode_means**2).sum(axis=1)
    floors = decay.sampling_floor(modes, first.total)
    found = {
        "kswgd/history/chi2": chi2,
        "kswgd/history/kl": kl,
        "kswgd/history/kl_carried": history.overall(history.kl_carried),
        "kswgd/decay/chi2_floor": floors[0],
        "kswgd/decay/kl_floor": floors[1],
        "kswgd/decay/chi2_measured": chi2[-1],
        "kswgd/decay/kl_measured": kl[-1],
    }
    rate = decay.decay_rate(history, floors[1])
    if rate is not None:
        found["kswgd/decay/rate"] = rate.rate
        found["kswgd/decay/rate_band"] = np.array([rate.low, rate.high])
        found["kswgd/decay/window"] = np.array(rate.window)
        progress.say(
            f"resolved KL decays at the rate {rate.rate:.3f} (95 %: {rate.low:.3f} to {rate.high:.3f}) "
            f"until flow time {rate.window[1]:.3g}"
        )
    if first.density is not None:
        total = len(transport.particle_blocks(first.total))
        ratio = by_block(first.blocks, lambda x: first.density.of(x.T), first.states)
        found["kswgd/history/kl_exact"] = decay.exact_kl(comm, history.time, ratio, first.blocks, total)
        resolved = spectrum.eigenfunctions(pool.T)[:, 1:].real @ history.mode_means[0]
        eta = decay.truncation_error(first.density.of(pool.T), resolved, weights)
        found["kswgd/decay/truncation_error"] = eta
        found["kswgd/decay/start"] = first.density.source
    return found


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


@dataclass(frozen=True)
class Dynamics:
    """What runs particles before and after the transport: the system's own dynamics, or that of samples.

    coordinates : that the dictionary sees; pool : (n, d) states of the ensemble; weights : (n,) of them
    """

    config: Config
    plan: Plan
    coordinates: Coordinates
    pool: np.ndarray
    weights: np.ndarray

    @property
    def name(self) -> str:
        """In words."""
        return "Langevin dynamics among the samples" if self.plan.system is None else "the system's own dynamics"

    def stepper(self, time: float) -> tuple[Any, int]:
        """Stepper, and its number of steps for a time."""
        if self.plan.system is not None:
            stepper = self.plan.ensemble.stepper
            return stepper, round(time / stepper.time_step)
        even = metrics.drawn(self.pool, self.weights) if np.ptp(self.weights) > 0 else self.pool
        stepper = KernelDynamics(self.coordinates, self.plan.mobility, even, time)
        return stepper, stepper.steps

    def steps(self, time: float) -> int:
        """Number of steps for a time."""
        return self.stepper(time)[1] if time > 0 else 0

    def run(self, states, first: Particles, time: float, stream: int, tick, keeping: Keeping) -> np.ndarray:
        """(n, d) states of this rank's particles after a time. Collective."""
        stepper, steps = self.stepper(time)
        out = np.empty_like(states)
        with keeping as kept:
            for block in first.blocks:
                rows = slice(block.start - first.start, block.stop - first.start)
                noise = Noise(self.config.seed, stream, block.start)
                begin = np.ascontiguousarray(states[rows].T)
                out[rows] = advanced(stepper, begin, noise, steps, kept, block.index).T
                tick(1)
        return out


def _spread(
    comm, config: Config, dynamics: Dynamics, first: Particles, progress: Progress, keeping: Keeping
) -> Particles:
    """Particles at the start of the flow: after a time of the dynamics, or so that no two coincide. Collective."""
    if config.kswgd.spread == 0:
        return spread(comm, config, dynamics, first, progress, keeping)
    with progress.stage("spreading", len(first.blocks)) as tick:
        moved = dynamics.run(first.states, first, config.kswgd.spread, streams.SPREADING, tick, keeping)
        tick.note = f"time {config.kswgd.spread:.4g} of {dynamics.name}"
    return replace(first, states=moved, density=None)


def spread(
    comm, config: Config, dynamics: Dynamics, first: Particles, progress: Progress, keeping: Keeping = UNSAVED
) -> Particles:
    """Particles that a deterministic flow can transport: a point mass stays one, so coinciding ones are spread first.

    The system's own dynamics for one lag time gives them a law with a density; it is part of the method's start, as
    method.md (2) asks for a density ratio. Collective.
    """
    states = first.states
    d = states.shape[1]
    # the largest of x and of -x over all particles, in one reduction
    extremes = np.concatenate([states.max(axis=0, initial=-np.inf), (-states).max(axis=0, initial=-np.inf)])
    comm.Allreduce(MPI.IN_PLACE, extremes, op=MPI.MAX)
    if (extremes[:d] > -extremes[d:]).any() or config.kswgd.particles == 1:
        return first
    if dynamics.plan.system is None:
        raise ConfigurationError(
            "kswgd.initial: all particles start at one point, which no deterministic flow spreads; use kind: gaussian"
        )
    time = lag_of(config)
    progress.say(f"all particles start at one point: spread by the system's own dynamics for time {time:g}")
    moved = dynamics.run(states, first, time, streams.SPREADING, lambda _units: None, keeping)
    return replace(first, states=moved, density=None)


def compared_with_ensemble(
    comm, config: Config, pool: np.ndarray, weights, particles: dict[str, np.ndarray]
) -> tuple[dict, str]:
    """Energy distance of the particles to the invariant law at each stage, and the iid floor. Collective.

    The law is that of the whole pool (n, d) with the weights (n,): a part of it may be of a part of the trajectories,
    whose share of rare transitions is another. States drawn by the weights alone tell the floor.
    """
    even = weights is None or np.ptp(weights) == 0
    drawn = pool if even else metrics.drawn(pool, weights)
    count = min(metrics.affordable(config.kswgd.particles, pool.shape[1]), len(drawn) // 2)
    if count < 2:
        return {}, "too few ensemble states to judge"
    mass = None if weights is None else weights / weights.sum()
    values = {}
    for name, rows in particles.items():
        sample = gather_blocks(comm, [metrics.local_subsample(comm, rows, count)], pool.shape[1])
        values[f"kswgd/metrics/energy_distance_{name}"] = metrics.energy_distance(comm, sample, pool, mass)
    # what independent states of one law are apart, in proportion to 1/n + 1/m for samples of n and m
    scale = (1 + count / len(drawn)) / 2
    mean, spread = (scale * value for value in metrics.iid_floor(comm, drawn, count, config.seed))
    values["kswgd/metrics/energy_distance_floor"] = mean
    values["kswgd/metrics/energy_distance_floor_deviation"] = spread
    ratio = values["kswgd/metrics/energy_distance_particles"] / mean
    return values, f"energy distance to the invariant law {ratio:.2f} times the iid floor"
