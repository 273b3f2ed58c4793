"""The stages in order: ensemble -> galerkin -> spectrum -> transport -> validation -> results.h5, report.html."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
from mpi4py import MPI

from kswgd_hpc import __version__, analysis, backend, eigensolver, feynman_kac, metrics, storage, streams, transport
from kswgd_hpc.config import Config
from kswgd_hpc.coordinates import linear_part
from kswgd_hpc.dictionary import on_device
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.estimators import ESTIMATORS, Estimator
from kswgd_hpc.galerkin import Sums, assemble, passes
from kswgd_hpc.heldout import Problem, resolved_modes, vamp
from kswgd_hpc.kinetics import ChapmanKolmogorov
from kswgd_hpc.parallel import by_block, from_root, gather_blocks, local, span
from kswgd_hpc.plan import (
    Plan,
    collector_for,
    estimator_for,
    matrices_for,
    most_modes,
    needs_mobility,
    pilot_sample,
    weighed_by,
)
from kswgd_hpc.progress import Progress
from kswgd_hpc.recorder import Recorder
from kswgd_hpc.records import Collector, Records, Sample
from kswgd_hpc.restarts import Dynamics, certify, horizon_steps
from kswgd_hpc.reweighting import Density, invariant_density
from kswgd_hpc.spectrum import Space, Spectrum, solve
from kswgd_hpc.stationary import StationaryMeans, correct
from kswgd_hpc.storage import Rows
from spde.stepping import Noise

_JUDGED = 4096  # states kept to judge by where there are no particles
_RESTARTS = 4096
_RESTARTS_CERTIFIED = 32768
_RESTART_NUMBERS = 2**26


def run(comm: MPI.Comm, config: Config, text: str, plan: Plan) -> Path:
    """Run all stages and write results.h5 and report.html. Collective.

    Parameters
    ----------
    comm : communicator
    config, text : the configuration and its text, kept with the results
    plan : from `prepare`

    Returns
    -------
    path of results.h5
    """
    progress = Progress(comm)
    progress.say(f"{config.title}: {comm.size} rank{'s' if comm.size > 1 else ''}, {_describe(plan)}")
    if plan.system is not None:
        progress.say("time stepping: {} ({})".format(*plan.system.choose_scheme(config.ensemble.scheme)))
        if config.koopman and config.koopman.estimator == "reversible" and plan.system.reversible is False:
            progress.say(
                "koopman.estimator: reversible assumes detailed balance, which this system does not have: its rates "
                "are those of symmetrised pairs; edmd assumes nothing"
            )
    if config.output.checkpoint is not None:
        progress.say("output.checkpoint has no effect in this version: the run starts from the beginning")
    # one thread a rank: the ranks fill the cores, and BLAS adds in the same order on every machine share
    with threadpoolctl.threadpool_limits(1):
        datasets = _stages(comm, config, plan, progress)
        attributes = _attributes(comm, config, text, progress)
        directory = Path(config.output.directory)
        with progress.stage("results", 1):
            path = storage.write_results(comm, directory, datasets, attributes)
        with progress.stage("report", 1) as stage:
            from_root(comm, lambda: _report(path))
            stage.note = str(directory / "report.html")
    return path


def _report(path: Path) -> None:
    from kswgd_hpc import report  # matplotlib is slow to import: rank 0 alone, at the end

    report.write(path)


def _describe(plan: Plan) -> str:
    e = plan.ensemble
    return f"{e.trajectories} trajectories in R^{e.dimension}, {len(e.blocks)} blocks"


def _stages(comm: MPI.Comm, config: Config, plan: Plan, progress: Progress) -> dict[str, Any]:
    _compile_once_a_node(comm, plan)
    mine = local(plan.ensemble.blocks, comm)
    particles = config.kswgd.particles if config.kswgd is not None else _JUDGED
    restarts, weighed = _restart_count(config, plan), weighed_by(config) is not None
    recorder = Recorder.for_run(plan.ensemble, particles, config.ensemble.store, restarts, weighed)
    with progress.stage("burn-in and pilot", len(mine)) as tick:
        pilot = pilot_sample(comm, config, plan, tick)
    collector = dictionary = None
    if config.koopman is not None:
        collector, dictionary = collector_for(config, plan, pilot)
    with progress.stage("ensemble", len(mine)) as tick:
        records = _collect(plan, collector, recorder, mine, tick)
        tick.note = _describe_records(comm, records)
    datasets = recorder.datasets(comm)
    if collector is None:
        return datasets
    sample = sample_of(comm, config, plan, collector, dictionary, records)
    if source := weighed_by(config):
        with progress.stage("weights", 1) as stage:
            density = invariant_density(sample, source, config.koopman.regularization)
            stage.note = (
                f"effective sample size {density.effective:.4g}, {density.clipped:.2%} of the pairs without weight"
            )
        sample = replace(sample, weight=density)
        datasets |= _weights_datasets(density, datasets["ensemble/sample"], sample)
    elif plan.system is not None and config.ensemble.burn_in == 0:
        progress.say(
            "ensemble.burn_in is 0: states are taken as stationary; koopman.reweight weighs them to equilibrium"
        )
    with progress.stage("galerkin", len(mine) * passes(dictionary.size)) as tick:
        sums = assemble(sample, matrices_for(config, plan), tick)
        tick.note = f"{dictionary.size} functions, {sums.count:g} pairs"
    with progress.stage("spectrum", 1) as stage:
        spectrum, space = _solve(config, plan, sums, estimator_for(config))
        stage.note = _kept(config, spectrum)
    datasets |= _koopman_datasets(spectrum, config)
    certificates = _certificates(config, plan, spectrum, space, recorder.restarts, progress)
    datasets |= certificates
    _say_rates(progress, spectrum, certificates)
    datasets |= _analyses(config, plan, spectrum, space, datasets["ensemble/sample"], progress)
    if config.kswgd is not None:
        with progress.stage("transport spectrum", 1):
            moving, stationary = _transport_spectrum(config, plan, sums)
        datasets |= _transport(comm, config, plan, moving, stationary, datasets, progress)
    datasets |= _validate(comm, config, plan, spectrum, space, progress)
    return datasets


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


def _collect(plan: Plan, collector: Collector | None, recorder: Recorder, mine, tick) -> list[Records]:
    """Run the ensemble: what the dictionary will see of it; the recorder keeps what the results show."""
    records = []
    for block in mine:
        windows = recorder.watch(block, plan.ensemble.windows(block))
        if collector is not None:
            records.append(collector.collect(block, windows))
        else:
            for _window in windows:
                pass
        tick(1)
    return records


def _lag(config: Config) -> float:
    return config.ensemble.lag_time or 1.0


def _solve(config: Config, plan: Plan, sums: Sums, estimator: Estimator) -> tuple[Spectrum, Space]:
    """The spectrum with the modes that were asked for, or with those that hold on held-out trajectories. Collective."""
    pairs, koopman = plan.ensemble.pairing, config.koopman
    problem = Problem(
        estimator,
        _lag(config),
        most_modes(config, sums.size),
        koopman.regularization,
        pairs.stride / max(pairs.lag, 1),
        koopman.petsc_options,
    )
    spectrum, space = solve(sums, **vars(problem))
    if koopman.modes == "auto":
        needed = {*estimator.matrices, "plus", "minus", "c0"}
        names = tuple(name for name in matrices_for(config, plan) if name in needed)
        sample = replace(sums.sample, values=())
        spectrum = spectrum.kept(min(len(spectrum.rates), resolved_modes(sample, names, problem)))
    return spectrum, space


def _transport_spectrum(config: Config, plan: Plan, sums: Sums) -> tuple[Spectrum, StationaryMeans | None]:
    """The spectrum that moves particles, that of the Dirichlet form, and the stationary correction. Collective.

    Of all functions in the dictionary its potential kappa has the least energy mean |grad kappa|_M^2. Eigenfunctions
    from time lags are as good in their values, but nothing penalises sampling noise in their gradients, which transport
    multiplies by mobility over rate: on the metastable Allen-Cahn interval particles were thrown off their valley.
    """
    spectrum, space = _solve(config, plan, sums, ESTIMATORS["dirichlet"])
    return spectrum, correct(space, spectrum) if "flux" in sums.matrices else None


def _kept(config: Config, spectrum: Spectrum) -> str:
    if config.koopman.modes == "auto":
        hint = "" if len(spectrum.rates) > 1 else ": raise koopman.regularization, or take fewer functions"
        return f"{len(spectrum.rates)} of the modes hold on held-out trajectories{hint}"
    return f"{len(spectrum.rates)} modes kept, {spectrum.rejected} below the noise floor"


def _restart_count(config: Config, plan: Plan) -> int:
    """States from which the dynamics are restarted for certificates: more where residuals are wanted, whose noise falls
    with the fourth root of their number."""
    if plan.system is None or config.koopman is None or config.koopman.coordinates.kind == "delay":
        return 0  # nothing to restart, or states with a past
    wanted = _RESTARTS_CERTIFIED if config.koopman.certify else _RESTARTS * config.koopman.time_step_error
    return min(wanted, max(64, _RESTART_NUMBERS // plan.ensemble.dimension))


def _certificates(
    config: Config, plan: Plan, spectrum: Spectrum, space: Space, states: list[np.ndarray], progress: Progress
) -> dict[str, Any]:
    """Time-step errors and true residuals of the rates. Collective."""
    if not _restart_count(config, plan) or len(spectrum.rates) < 2:
        return {}
    estimator, stepper = estimator_for(config), plan.ensemble.stepper
    dynamics = Dynamics(
        stepper,
        plan.system.stepper(stepper.time_step / 2, config.ensemble.scheme),
        plan.system.drift,
        plan.mobility,
        config.seed,
        horizon_steps(spectrum, estimator, _lag(config), stepper.time_step),
    )
    with progress.stage("certificates", len(states)) as tick:
        time_step, residuals = certify(space, spectrum, estimator, dynamics, states, config.koopman.certify, tick)
        found = {
            "rates_time_step_error": np.append(0.0, time_step.bound),
            "rates_time_step_difference": np.append(0.0, time_step.difference),
            "rates_time_step_difference_error": np.append(0.0, time_step.error),
        }
        if residuals is not None:
            found |= {
                "true_residuals": np.append(0.0, residuals.values),
                "true_residuals_error": np.append(0.0, residuals.errors),
                "spurious": np.append(False, residuals.spurious),
            }
            spurious = 1 + np.flatnonzero(residuals.spurious)
            tick.note = f"spurious: modes {', '.join(map(str, spurious))}" if len(spurious) else "no mode is spurious"
    return {f"koopman/{name}": value for name, value in found.items()}


def _say_rates(progress: Progress, spectrum: Spectrum, certificates: dict[str, Any]) -> None:
    time_step = certificates.get("koopman/rates_time_step_error", np.full(len(spectrum.rates), np.nan))
    for k in range(1, min(len(spectrum.rates), 7)):
        rate = spectrum.rates[k]
        value = f"{rate.real:.5g}" + (f" {rate.imag:+.5g}i" if abs(rate.imag) > 1e-12 else "")
        errors = f"+- {spectrum.rates_error[k]:.2g} (sampling)"
        for error, source in ((spectrum.dictionary_error[k], "dictionary"), (time_step[k], "time step")):
            errors += f" +- {error:.2g} ({source})" if np.isfinite(error) else ""
        progress.say(f"  rate {k}: {value} {errors}")


def _koopman_datasets(spectrum: Spectrum, config: Config) -> dict[str, Any]:
    found = {
        "koopman/eigenvalues": spectrum.eigenvalues,
        "koopman/rates": spectrum.rates,
        "koopman/rates_error": spectrum.rates_error,
        "koopman/rates_dictionary_error": spectrum.dictionary_error,
        "koopman/residuals": spectrum.residuals,
        "koopman/coefficients": spectrum.coefficients,
        "koopman/offsets": spectrum.offsets,
        "koopman/left_coefficients": spectrum.left,
        "koopman/left_offsets": spectrum.left_offsets,
        "koopman/noise_floor": spectrum.floor,
        "koopman/rejected": spectrum.rejected,
        "koopman/lag_time": _lag(config),
        "koopman/coordinate_mean": spectrum.coordinates.mean,
        "koopman/coordinate_scale": spectrum.coordinates.scale,
    }
    matrix = linear_part(spectrum.coordinates.map)
    if matrix is not None:
        found["koopman/coordinate_matrix"] = matrix
    for name, value in spectrum.dictionary.parameters().items():
        found[f"koopman/dictionary/{name}"] = value
    return found


def _analyses(
    config: Config, plan: Plan, spectrum: Spectrum, space: Space, states: np.ndarray, progress: Progress
) -> dict[str, Any]:
    """Timescales against lag, and transitions between sets, where there are consecutive pairs. Collective."""
    pairing, wanted, found = plan.ensemble.pairing, config.koopman.lag_times, {}
    if config.koopman.vamp:
        with progress.stage("singular values", 1) as stage:
            count = most_modes(config, space.sums.size) - 1
            result = vamp(space.sums.sample, count, config.koopman.regularization)
            if result.held_out:
                score, error = result.held_out["vampe"]
                stage.note = (
                    f"VAMP-E score {result.own['vampe']:.4g}, on held-out trajectories {score:.4g} +- {error:.2g}"
                )
        found |= result.datasets()
    if not pairing.consecutive:
        return found
    with progress.stage("timescales", 1) as stage:
        reversible = config.koopman.estimator == "reversible"
        both = analysis.timescales(spectrum, space, pairing, reversible, None if wanted == "auto" else wanted)
        if both is not None:
            for name, result in zip(("implied_timescales", "chapman_kolmogorov"), both):
                found |= {f"koopman/{name}/{key}": value for key, value in vars(result).items()}
            stage.note = _furthest(both[1])
    if plan.label is None:
        return found
    with progress.stage("transitions", 1) as stage:
        committors = analysis.committors(space, estimator_for(config), pairing)
        psi = space.sums.sample.dictionary.values(space.sums.sample.coordinates.of_rows(states))
        found |= committors.datasets() | {"koopman/committor/sample": committors.committor(psi, plan.label(states.T))}
    for way in ("ab", "ba"):
        rate, error = getattr(committors.transitions, f"rate_{way}"), committors.transitions.errors[f"rate_{way}"]
        time, spread = (
            getattr(committors.transitions, f"passage_{way}"),
            committors.transitions.errors[f"passage_{way}"],
        )
        name = f"{way[0].upper()} -> {way[1].upper()}"
        progress.say(f"  {name}: rate {rate:.4g} +- {error:.2g}, mean first passage time {time:.4g} +- {spread:.2g}")
    return found


def _furthest(test: ChapmanKolmogorov) -> str:
    """The largest difference of the Chapman-Kolmogorov test in its standard errors."""
    known = np.isfinite(test.error) & (test.error > 0) & (test.lag_times > test.lag_times[0])[:, None]
    if not known.any():
        return ""
    far = (np.abs(test.estimated - test.predicted)[known] / test.error[known]).max()
    return f"Chapman-Kolmogorov: largest difference {far:.1f} standard errors"


def _weights_datasets(density: Density, states: np.ndarray, sample: Sample) -> dict[str, Any]:
    """What the results keep of the weights, and the weights of the ensemble's sample (n, d)."""
    weights = density(sample.dictionary.values(sample.coordinates.of_rows(states)))
    return {
        "koopman/weight_coefficients": density.scale * density.coefficients,
        "koopman/weight_offset": density.scale * density.offset,
        "koopman/effective_sample_size": density.effective,
        "ensemble/sample_weights": weights / weights.sum(),
    }


def _transport(
    comm,
    config: Config,
    plan: Plan,
    spectrum: Spectrum,
    stationary: StationaryMeans | None,
    datasets: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Move the particles, let them relax, and judge them by the ensemble's sample among the datasets. Collective."""
    spec, pool, prior = config.kswgd, datasets["ensemble/sample"], datasets.get("ensemble/sample_weights")
    mine = local(transport.particle_blocks(spec.particles), comm)
    start, _ = span(mine)
    parts = [plan.particles(config.seed, streams.PARTICLES_INITIAL, b.start, b.stop).T for b in mine]
    initial = np.concatenate(parts) if parts else np.empty((0, plan.ensemble.dimension))
    started = _spread(comm, config, plan, initial, mine, start, progress)
    target = spectrum if stationary is None else stationary.centre(spectrum)
    with progress.stage("transport", spec.steps) as stage:
        transported, history = _flow(comm, plan, target, started, mine, spec, stage)
        state = "stopped at the iid floor" if history.converged else "NOT converged: raise kswgd.steps"
        stage.note = f"{len(history.step_size)} steps, flow time {history.time[-1]:.3g}, {state}"
    relaxed = transported
    if spec.relaxation > 0:
        with progress.stage("relaxation", len(mine)) as tick:
            relaxed = _dynamics(config, plan, transported, mine, start, spec.relaxation, streams.RELAXATION, tick)
    particles = {"initial": initial, "transported": transported, "particles": relaxed}
    judges = pool if prior is None else metrics.drawn(pool, prior)
    weights = None if stationary is None else stationary.weights(spectrum, judges.T)
    with progress.stage("metrics", 1) as stage:
        found, stage.note = _judge(comm, config, judges, weights, particles)
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
        end, impulse, history = transport.transport(flow, start, spec.steps, fixed, progress=lambda *_: stage(1))
    finally:
        flow.close()
    if of_states:
        return end, history
    move = by_block(mine, lambda rows: coordinates.lift(rows, plan.mobility), backend.to_host(impulse))
    return (initial - move if len(initial) else initial), history


def _spread(comm, config: Config, plan: Plan, states: np.ndarray, mine, start: int, progress: Progress) -> np.ndarray:
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
    progress.say(f"all particles start at one point: spread by the system's own dynamics for time {_lag(config):g}")
    return _dynamics(config, plan, states, mine, start, _lag(config), streams.SPREADING, lambda _units: None)


def _dynamics(config: Config, plan: Plan, states, mine, start: int, time: float, stream: int, tick) -> np.ndarray:
    """(n, d) states of this rank's particles after running the system's own dynamics for a time."""
    stepper = plan.ensemble.stepper
    steps = round(time / stepper.time_step)
    out = np.empty_like(states)
    for block in mine:
        rows = slice(block.start - start, block.stop - start)
        noise = Noise(config.seed, stream, block.start)
        out[rows] = stepper.advance(np.ascontiguousarray(states[rows].T), noise, 0, steps).T
        tick(1)
    return out


def _judge(comm, config: Config, pool: np.ndarray, weights, particles: dict[str, np.ndarray]) -> tuple[dict, str]:
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


def _validate(comm, config: Config, plan: Plan, spectrum: Spectrum, space: Space, progress: Progress) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for case in plan.cases:
        shares = len(local(feynman_kac.path_batches(case), comm))
        with progress.stage(f"validation {case.name}", shares) as stage:
            prediction, rates = feynman_kac.predict(
                case,
                spectrum,
                space,
                estimator_for(config),
                config.seed,
                most_modes(config, space.sums.size),
                _lag(config),
            )
            reference, error = feynman_kac.monte_carlo(comm, case, plan.ensemble.stepper, config.seed, stage)
            largest = np.max(np.abs(prediction - reference) / np.maximum(error, 1e-300))
            stage.note = f"largest difference {largest:.1f} Monte Carlo standard errors"
        path = f"feynman_kac/{case.name}"
        found |= {
            f"{path}/times": np.array(case.times),
            f"{path}/koopman": prediction,
            f"{path}/reference": reference,
            f"{path}/reference_error": error,
            f"{path}/rates": rates,
            f"{path}/method": "Monte Carlo",
        }
    return found


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


def _revision() -> str:
    """Commit of the checkout that the package runs from, empty where it is installed otherwise."""
    git = Path(__file__).resolve().parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        return (git / head[5:]).read_text().strip() if head.startswith("ref: ") else head
    except OSError:
        return ""
