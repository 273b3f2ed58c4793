"""Particles before the transport: where they start, and the dynamics that spreads and relaxes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc import metrics, starts, streams, transport
from kswgd_hpc.checkpoint import UNSAVED, Keeping
from kswgd_hpc.config import Config
from kswgd_hpc.coordinates import Coordinates
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.kernel_density import KernelDynamics
from kswgd_hpc.parallel import Block, local, span
from kswgd_hpc.paths import advanced
from kswgd_hpc.plan import Plan
from kswgd_hpc.progress import Progress
from kswgd_hpc.spectrum import Spectrum
from kswgd_hpc.stages.koopman import lag_of
from kswgd_hpc.starts import DensityRatio
from kswgd_hpc.stationary import StationaryMeans
from spde.stepping import Noise


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
class Pool:
    """What the ensemble shows of the invariant law.

    candidates : states that particles may start from, by block
    states : (n, d); weights : (n,) under the invariant law, summing to one
    """

    candidates: list[np.ndarray]
    states: np.ndarray
    weights: np.ndarray

    @property
    def even(self) -> np.ndarray:
        """(n, d) states of equal weight."""
        return metrics.drawn(self.states, self.weights) if np.ptp(self.weights) > 0 else self.states


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


def initial_particles(comm, config: Config, plan: Plan, target: Target, pool: Pool, progress: Progress) -> Particles:
    """Initial states of this rank's particles, and the density ratio where it is known. Collective."""
    spec, d = config.kswgd, plan.ensemble.dimension
    mine = local(transport.particle_blocks(spec.particles), comm)
    if plan.start is None:
        parts = [plan.particles(config.seed, streams.PARTICLES_INITIAL, b.start, b.stop).T for b in mine]
        states = np.concatenate(parts) if parts else np.empty((0, d))
        known = None if target.tilt is not None else starts.ratio_of_density(config, pool.states, pool.weights)
        return Particles(states, mine, spec.particles, known)
    there = comm.allreduce(sum(len(part) for part in pool.candidates))
    if there == 0:
        raise ConfigurationError(f"kswgd.initial.where: no state of the ensemble is in {spec.initial.where!r}")
    if there < spec.particles:
        progress.say(f"kswgd.initial: {there} states of the ensemble for {spec.particles} particles: used in turn")
    shares = [target.weights(part) for part in pool.candidates]
    drawn = starts.drawn_evenly(comm, pool.candidates, shares, min(there, spec.particles))
    first, last = span(mine)
    states = drawn[np.arange(first, last) % len(drawn)]
    return Particles(states, mine, spec.particles, starts.ratio_of_set(plan.start, pool.states, pool.weights))


@dataclass(frozen=True)
class Dynamics:
    """What runs particles before and after the transport: the system's own dynamics, or that of samples.

    coordinates : that the dictionary sees
    """

    config: Config
    plan: Plan
    coordinates: Coordinates
    pool: Pool

    @property
    def name(self) -> str:
        """In words."""
        return "Langevin dynamics among the samples" if self.plan.system is None else "the system's own dynamics"

    def stepper(self, time: float) -> tuple[Any, int]:
        """Stepper, and its number of steps for a time."""
        if self.plan.system is not None:
            stepper = self.plan.ensemble.stepper
            return stepper, round(time / stepper.time_step)
        stepper = KernelDynamics(self.coordinates, self.plan.mobility, self.pool.even, time)
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


def spread_out(
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
