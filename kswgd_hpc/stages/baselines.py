"""The rivals: the same particles from the same start by other methods, and one judgement of all."""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc import streams
from kswgd_hpc.baselines import RIVALS
from kswgd_hpc.baselines.frame import frame_of
from kswgd_hpc.baselines.ring import Ring
from kswgd_hpc.baselines.task import Task
from kswgd_hpc.config import Config
from kswgd_hpc.judging import Judge, judge_of
from kswgd_hpc.parallel import by_block
from kswgd_hpc.plan import Plan
from kswgd_hpc.progress import Progress
from kswgd_hpc.spectrum import Spectrum
from kswgd_hpc.stages.particles import Dynamics, Particles, Pool, spread
from kswgd_hpc.stages.way import HISTORY
from kswgd_hpc.storage import Rows
from spde.density import invariant_density
from spde.spectra import exact_spectrum

_OWN_STAGES = ("galerkin", "transport spectrum", "spreading", "transport", "relaxation")
_DATA_STAGES = ("burn-in and pilot", "ensemble")


def judge_for(comm: MPI.Comm, config: Config, plan: Plan, ensemble: np.ndarray, progress: Progress) -> Judge | None:
    """Who judges the particles of the run, None where neither that nor rivals are asked for. Collective.

    Parameters
    ----------
    ensemble : (n, d) states of the ensemble under the invariant law
    """
    if not config.kswgd.baselines and "judge" not in config.kswgd.model_fields_set:
        return None
    with progress.stage("reference", 1) as stage:
        judge = judge_of(comm, config, plan, ensemble)
        stage.note = f"{len(judge.reference)} states, {judge.source}"
    return judge


def compared(
    comm: MPI.Comm,
    config: Config,
    plan: Plan,
    spectrum: Spectrum,
    ensemble: np.ndarray,
    judge: Judge,
    datasets: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Run the rivals and judge everybody's particles. Collective.

    Parameters
    ----------
    spectrum : that moved the particles; rivals with modes take as many
    ensemble : (n, d) states under the invariant law, which rivals may learn from
    datasets : of the transport
    """
    with progress.stage("judging", 1) as stage:
        found = _of_transport(comm, config, plan, judge, datasets, progress)
        floor = found["kswgd/comparison/floor/energy_distance"]
        ratio = found["kswgd/comparison/kswgd/energy_distance"] / floor
        stage.note = f"energy distance {ratio:.2f} times the iid floor"
    for name in config.kswgd.baselines:
        with progress.stage(name, 1) as stage:
            found |= _of_rival(comm, name, config, plan, spectrum, ensemble, datasets["kswgd/initial"], judge, progress)
            ratio = found[f"kswgd/baselines/{name}/metrics/energy_distance"] / floor
            stage.note = f"energy distance {ratio:.2f} times the iid floor"
    return found


def _of_transport(comm, config: Config, plan: Plan, judge: Judge, datasets: dict, progress: Progress) -> dict[str, Any]:
    """Floors, and the statistics of the transport's own particles at each stage, with its costs. Collective."""
    found: dict[str, Any] = {"kswgd/comparison/reference": judge.source, "kswgd/comparison/sample": judge.count}
    for kind, values in zip(("floor", "floor_deviation"), judge.floors()):
        found |= {f"kswgd/comparison/{kind}/{name}": value for name, value in values.items()}
    for stage, rows in (("initial", "initial"), ("transported", "transported"), ("kswgd", "particles")):
        particles = datasets[f"kswgd/{rows}"]
        sample = judge.sample(particles.local, particles.start, particles.total)
        found |= {f"kswgd/comparison/{stage}/{name}": value for name, value in judge.statistics(sample).items()}
    for name, stages in (("seconds", _OWN_STAGES), ("data_seconds", _DATA_STAGES)):
        used = sum(progress.processor_seconds.get(stage, 0.0) for stage in stages)
        found[f"kswgd/comparison/{name}"] = comm.allreduce(used)
    step, ensemble = config.ensemble.time_step, config.ensemble
    around = datasets["kswgd/spread_steps"] + datasets["kswgd/relaxation_steps"]
    simulated = 0.0 if plan.system is None else (ensemble.burn_in + ensemble.duration) / step * ensemble.trajectories
    found["kswgd/comparison/gradient_calls"] = around * config.kswgd.particles
    found["kswgd/comparison/data_gradient_calls"] = round(simulated)
    found["kswgd/comparison/data_used"] = plan.ensemble.trajectories * plan.ensemble.pairing.records
    found["kswgd/comparison/steps"] = len(datasets["kswgd/history/step_size"]) + around
    return found | _whole_path(found, datasets)


def _whole_path(found: dict[str, Any], datasets: dict[str, Any]) -> dict[str, np.ndarray]:
    """The way of the particles: what spreads them where that was asked for, the flow, its end, and the relaxation."""
    names = [f"kswgd/comparison/history/{name}" for name in HISTORY]
    steps, times, distances = (datasets[name] for name in names)
    flow, time = len(datasets["kswgd/history/step_size"]), float(datasets["kswgd/history/time"][-1])
    before, spread_time = datasets["kswgd/spread_steps"], datasets["kswgd/spread_time"]
    way = [(0, 0.0, found["kswgd/comparison/initial/energy_distance"])] if before else []
    way += [(before + s, spread_time + t, x) for s, t, x in zip(steps, times, distances, strict=True) if s < flow]
    way.append((before + flow, spread_time + time, found["kswgd/comparison/transported/energy_distance"]))
    if after := datasets["kswgd/relaxation_steps"]:
        end = spread_time + time + datasets["kswgd/relaxation_time"]
        way.append((before + flow + after, end, found["kswgd/comparison/kswgd/energy_distance"]))
    return {name: np.array(column) for name, column in zip(names, zip(*way, strict=True), strict=True)}


def _of_rival(
    comm, name: str, config: Config, plan: Plan, spectrum: Spectrum, ensemble, initial: Rows, judge: Judge, progress
) -> dict[str, Any]:
    """Particles, statistics, costs and history of one rival. Collective."""
    task = _task(comm, name, config, plan, spectrum, ensemble)
    ring, seen = task.ring, []
    dynamics = Dynamics(config, plan, spectrum.coordinates, Pool([], ensemble, np.ones(len(ensemble))))
    first = Particles(initial.local, ring.blocks, ring.particles, None)
    start = spread(comm, config, dynamics, first, progress).states

    def watch(step: int, time: float, states: np.ndarray) -> None:
        sample = judge.sample(states, ring.start, ring.particles)
        seen.append((step, time, judge.energy_distance(sample)))

    task.watch = watch
    with task.charged():
        y = RIVALS[name].move(task, by_block(ring.blocks, task.frame.enter, start))
    states = task.states(y)
    if not seen or seen[-1][0] < task.steps_taken:  # it ended before it was to be looked at again
        watch(task.steps_taken, task.time, states)
    steps, times, distances = (np.array(column) for column in zip(*seen)) if seen else (np.empty(0),) * 3
    path = f"kswgd/baselines/{name}"
    found = {
        f"{path}/particles": Rows(states, ring.start, ring.particles),
        f"{path}/seconds": comm.allreduce(task.seconds),
        f"{path}/gradient_calls": task.gradient_calls,
        f"{path}/data_used": task.data_used,
        f"{path}/steps": task.steps_taken,
        f"{path}/time": task.time,
        f"{path}/history/steps": steps,
        f"{path}/history/time": times,
        f"{path}/history/energy_distance": distances,
    }
    statistics = judge.statistics(judge.sample(states, ring.start, ring.particles))
    return found | {f"{path}/metrics/{key}": value for key, value in statistics.items()}


def _task(comm, name: str, config: Config, plan: Plan, spectrum: Spectrum, ensemble: np.ndarray) -> Task:
    """What a rival is given."""
    spec, needs = config.kswgd, RIVALS[name].NEEDS
    modes = len(spectrum.rates) - 1
    frame = frame_of(plan.system, ensemble, "density" in needs)
    return Task(
        Ring(comm, spec.particles),
        frame,
        frame.enter(ensemble),
        modes,
        spec.baseline_steps.get(name, spec.steps),
        config.seed,
        streams.BASELINES + 2 * list(RIVALS).index(name),
        invariant_density(plan.system) if "density" in needs else None,
        exact_spectrum(plan.system, modes) if "spectrum" in needs else None,
        plan.ensemble.stepper if "dynamics" in needs else None,
    )
