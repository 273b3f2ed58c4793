"""The stages in order: ensemble -> galerkin -> spectrum -> transport -> validation -> results.h5, report.html."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
from mpi4py import MPI

from kswgd_hpc import __version__, eigensolver, storage
from kswgd_hpc.checkpoint import Checkpoint
from kswgd_hpc.config import Config
from kswgd_hpc.extension import obstacle, recorder_for
from kswgd_hpc.galerkin import assemble, passes
from kswgd_hpc.machine import oversubscription
from kswgd_hpc.parallel import local
from kswgd_hpc.plan import (
    Plan,
    collector_for,
    estimator_for,
    matrices_for,
    needs_mobility,
    pilot_sample,
    weighed_by,
)
from kswgd_hpc.progress import Progress
from kswgd_hpc.recorder import Recorder
from kswgd_hpc.records import Collector, Records, Sample
from kswgd_hpc.resume import finish, open_checkpoint
from kswgd_hpc.reweighting import invariant_density
from kswgd_hpc.schema.output import seconds
from kswgd_hpc.sizes import DRAWING
from kswgd_hpc.spectrum import Space, Spectrum
from kswgd_hpc.stages.analyses import analyses
from kswgd_hpc.stages.baselines import compared, judge_for
from kswgd_hpc.stages.condition import conditioned
from kswgd_hpc.stages.ensemble import collected, replaced
from kswgd_hpc.stages.koopman import (
    certificates_of,
    kept,
    koopman_datasets,
    say_rates,
    solved,
    step_errors,
    transport_spectrum,
    weights_datasets,
)
from kswgd_hpc.stages.particles import Pool, Target
from kswgd_hpc.stages.sparse import is_sparse, solved_sparse, sparse_transport_spectrum
from kswgd_hpc.stages.transport import transported_by
from kswgd_hpc.stages.validation import validate
from kswgd_hpc.stationary import StationaryMeans
from kswgd_hpc.stopping import Stop
from kswgd_hpc.watchdog import Watchdog
from spde.stepping import Noise

# processor seconds of this run: attributes, not datasets
_TIMINGS = ("koopman_cost", "reference_cost", "seconds", "data_seconds")


def run(comm: MPI.Comm, config: Config, text: str, plan: Plan, resume: bool = False, page: bool = True) -> Path:
    """Run all stages and write results.h5 and report.html. Collective.

    Parameters
    ----------
    comm : communicator
    config, text : the configuration and its text, kept with the results
    plan : from `prepare`
    resume : whether to go on from what an earlier run has saved
    page : whether to write report.html

    Raises
    ------
    Interrupted : on all ranks, after a request to stop; what there was has been saved

    Returns
    -------
    path of results.h5
    """
    directory = Path(config.output.directory)
    progress = Progress(comm, directory)
    progress.record("run", title=config.title, version=__version__)
    progress.say(f"{config.title}: {comm.size} rank{'s' if comm.size > 1 else ''}, {_describe(plan)}")
    if plan.system is not None:
        progress.say("time stepping: {} ({})".format(*plan.system.choose_scheme(config.ensemble.scheme)))
        if config.koopman and config.koopman.estimator == "reversible" and plan.system.reversible is False:
            progress.say(
                "koopman.estimator: reversible assumes detailed balance, which this system does not have: its rates "
                "are those of symmetrised pairs; edmd assumes nothing"
            )
    stop = Stop(directory, comm.size)
    checkpoint = open_checkpoint(comm, config, stop, resume, progress.say, lambda saved: obstacle(saved, config, plan))
    watchdog = Watchdog(comm, directory, seconds(config.compute.watchdog))
    checkpoint.beat = progress.beat = watchdog.beat
    if warning := oversubscription(comm):
        progress.say(f"warning: {warning}")
    # one thread a rank: the ranks fill the cores, and BLAS adds in the same order on every machine share
    with threadpoolctl.threadpool_limits(1), watchdog, stop if checkpoint.schedule.active else nullcontext():
        datasets = _stages(comm, config, plan, progress, checkpoint)
        attributes = _attributes(comm, config, text, progress) | _timings(datasets)
        with progress.stage("results", 1):
            path = storage.write_results(comm, directory, datasets, attributes)
    if page:
        with threadpoolctl.threadpool_limits(1), progress.stage("report", 1) as stage:
            _report(comm, path)
            stage.note = str(directory / "report.html")
    if (cost := checkpoint.cost).saves:
        progress.say(f"checkpoint: {cost.saves} saves, {cost.bytes / 1e6:.3g} MB, {cost.seconds:.2f} s of rank 0")
    finish(comm, config, checkpoint)
    progress.record("end", seconds=progress.seconds)
    return path


def _report(comm: MPI.Comm, path: Path) -> None:
    """Write the page, on a few ranks of rank 0's node, which is sure to see the file. Collective."""
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    drawing = node.Split(0 if node.bcast(comm.rank) == 0 and node.rank < DRAWING else MPI.UNDEFINED)
    node.Free()
    if drawing != MPI.COMM_NULL:
        from kswgd_hpc import report  # matplotlib is slow to import: not before the end

        report.write(path, drawing)
        drawing.Free()
    comm.Barrier()


def _describe(plan: Plan) -> str:
    e = plan.ensemble
    return f"{e.trajectories} trajectories in R^{e.dimension}, {len(e.blocks)} blocks"


def _stages(comm: MPI.Comm, config: Config, plan: Plan, progress: Progress, checkpoint: Checkpoint) -> dict[str, Any]:
    _compile_once_a_node(comm, plan)
    recorder = recorder_for(config, plan, checkpoint.schedule.lasting)
    datasets, sample = _simulated(comm, config, plan, recorder, progress, checkpoint)
    if sample is None:
        return datasets
    sample, weights = _weighed(config, plan, sample, datasets["ensemble/sample"], progress)
    datasets |= weights
    spectral = _spectral(config, plan, sample, progress, checkpoint)
    spectrum, sample = spectral.spectrum, spectral.sample
    datasets |= koopman_datasets(spectrum, config)
    certificates = certificates_of(
        config, plan, spectrum, spectral.space, recorder.restarts, progress, checkpoint.stage("certificates")
    )
    datasets |= certificates
    say_rates(progress, spectrum, certificates)
    datasets |= analyses(config, plan, spectrum, spectral.space, datasets["ensemble/sample"], progress)
    if config.kswgd is not None:
        with progress.stage("transport spectrum", 1):
            moving, stationary = spectral.transport()
        target = Target(moving, stationary, sample.weight)
        if config.kswgd.condition is not None:
            target, told = conditioned(comm, config, plan, target, sample, progress)
            datasets |= told
        pool = datasets["ensemble/sample"]
        datasets |= _particles(comm, config, plan, target, recorder.starts, pool, progress, checkpoint)
    step_error = step_errors(spectrum, certificates)
    datasets |= validate(comm, config, plan, spectrum, sample, progress, checkpoint, step_error)
    return datasets


def _simulated(
    comm, config: Config, plan: Plan, recorder: Recorder, progress: Progress, checkpoint: Checkpoint
) -> tuple[dict[str, Any], Sample | None]:
    """The datasets of the ensemble, and its records as the dictionary sees them, None where nothing looks at them."""
    mine = local(plan.ensemble.blocks, comm)
    with progress.stage("burn-in and pilot", len(mine)) as tick:
        pilot = pilot_sample(comm, config, plan, tick, checkpoint.stage("pilot"))
    collector = dictionary = None
    if config.koopman is not None:
        collector, dictionary = collector_for(config, plan, pilot)
    with progress.stage("ensemble", len(mine)) as tick:
        records = collected(plan, collector, recorder, mine, checkpoint, tick)
        tick.note = _describe_records(comm, records)
    datasets = recorder.datasets(comm)
    if config.ensemble.on_blow_up == "replace":
        datasets |= _replaced(comm, plan, progress)
    return datasets, None if collector is None else sample_of(comm, config, plan, collector, dictionary, records)


def _weighed(
    config: Config, plan: Plan, sample: Sample, states: np.ndarray, progress: Progress
) -> tuple[Sample, dict[str, Any]]:
    """The sample with the weights that bring it to equilibrium, where they are asked for, and their datasets."""
    if source := weighed_by(config):
        with progress.stage("weights", 1) as stage:
            density = invariant_density(sample, source, config.koopman.regularization)
            stage.note = (
                f"effective sample size {density.effective:.4g}, {density.clipped:.2%} of the pairs without weight"
            )
        sample = replace(sample, weight=density)
        return sample, weights_datasets(density, states, sample)
    if plan.system is not None and config.ensemble.burn_in == 0:
        progress.say(
            "ensemble.burn_in is 0: states are taken as stationary; koopman.reweight weighs them to equilibrium"
        )
    return sample, {}


@dataclass(frozen=True)
class _Spectral:
    """A spectrum and where it was found; `transport` solves for the one that moves particles. Collective."""

    sample: Sample
    spectrum: Spectrum
    space: Space
    transport: Callable[[], tuple[Spectrum, StationaryMeans | None]]


def _spectral(config: Config, plan: Plan, sample: Sample, progress: Progress, checkpoint: Checkpoint) -> _Spectral:
    whole = replace(sample, values=())
    if is_sparse(config, sample):
        spectrum, space = solved_sparse(config, plan, whole, progress)
        seen = replace(space.sums.sample, values=sample.values)  # what follows sees the functions in its span
        return _Spectral(seen, spectrum, space, lambda: sparse_transport_spectrum(config, plan, whole))
    size = sample.dictionary.size
    with progress.stage("galerkin", len(sample.blocks) * passes(size)) as tick:
        keeping = lambda panel: checkpoint.stage(f"galerkin {panel}")  # noqa: E731
        sums = assemble(whole, matrices_for(config, plan), tick, keeping)
        tick.note = f"{size} functions, {sums.count:g} pairs"
    with progress.stage("spectrum", 1) as stage:
        spectrum, space = solved(config, plan, sums, estimator_for(config))
        stage.note = kept(config, spectrum)
    return _Spectral(sample, spectrum, space, lambda: transport_spectrum(config, plan, sums))


def _particles(
    comm: MPI.Comm, config: Config, plan: Plan, target: Target, starts, states: np.ndarray, progress, checkpoint
) -> dict[str, Any]:
    """Transport, its rivals, and one judgement of all. Collective."""
    weights = target.weights(states)
    pool = Pool(starts, states, weights / weights.sum())
    even = pool.even
    judge = judge_for(comm, config, plan, even, progress)
    found = transported_by(comm, config, plan, target, pool, judge, progress, checkpoint)
    if judge is not None:
        found |= compared(comm, config, plan, target.spectrum, even, judge, found, progress)
    return found


def sample_of(comm, config: Config, plan: Plan, collector: Collector, dictionary, records: list[Records]) -> Sample:
    """The records of a run as its estimator looks at them."""
    blocks, coordinates, mobility = len(plan.ensemble.blocks), collector.coordinates, None
    if needs_mobility(config, plan) and coordinates.constant_mobility(plan.mobility):
        mobility = coordinates.mobility(plan.mobility)
    return Sample(
        comm,
        records,
        blocks,
        blocks * plan.ensemble.segments,
        coordinates,
        dictionary,
        config.koopman.lagged,
        collector.values,
        mobility,
    )


def _describe_records(comm: MPI.Comm, records: list[Records]) -> str:
    """How much memory the records take. Collective."""
    largest = comm.allreduce(sum(block.nbytes for block in records), op=MPI.MAX)
    return f"coordinates of records: {largest / 1e6:.3g} MB a rank" if largest else ""


def _compile_once_a_node(comm: MPI.Comm, plan: Plan) -> None:
    """Let one rank of each node compile the kernels into the cache before the others load them. Collective."""
    if plan.system is None:
        return
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    still = plan.system.from_fields(plan.system.fields(np.zeros((plan.system.dimension, 1))))
    for first_on_node in (True, False):
        if (node.rank == 0) is first_on_node:
            plan.ensemble.stepper.advance(still, Noise(0, 0, 0), 0, 1)
        node.Barrier()
    node.Free()


def _replaced(comm: MPI.Comm, plan: Plan, progress: Progress) -> dict[str, Any]:
    """The trajectories that were replaced because they blew up. Collective."""
    numbers = replaced(comm, plan)
    if len(numbers):
        which = f"{', '.join(map(str, numbers[:8]))}{', ...' if len(numbers) > 8 else ''}"
        progress.say(f"ensemble.on_blow_up: replaced {len(numbers)} of {plan.ensemble.trajectories}: {which}")
    return {"ensemble/replaced": numbers}


def _attributes(comm: MPI.Comm, config: Config, text: str, progress: Progress) -> dict[str, Any]:
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "mpi": MPI.Get_library_version().split(",")[0].strip("\x00\n "),
        "h5py": storage.version(),
        **eigensolver.versions(),
    }
    return {
        "title": config.title,
        "config": text,
        "version": __version__,
        "revision": _revision(),
        "ranks": comm.size,
        **{f"library_{name}": version for name, version in versions.items()},
        **{f"seconds_{name.replace(' ', '_')}": seconds for name, seconds in comm.bcast(progress.seconds).items()},
    }


def _timings(datasets: dict[str, Any]) -> dict[str, Any]:
    """Take measured times out of the datasets, which are the same in every run: path of a group and name -> value."""
    names = [name for name in datasets if name.rpartition("/")[2] in _TIMINGS]
    return {name: datasets.pop(name) for name in names}


def _revision() -> str:
    """Commit of the checkout that the package runs from, empty where it is installed otherwise."""
    git = Path(__file__).resolve().parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        return (git / head[5:]).read_text().strip() if head.startswith("ref: ") else head
    except OSError:
        return ""
