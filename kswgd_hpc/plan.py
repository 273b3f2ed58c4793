"""From the configuration to objects: everything that it names, built and checked before any work."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc import backend, feynman_kac, storage, systems
from kswgd_hpc.config import Config
from kswgd_hpc.coordinates import Coordinates, intrinsic, whitened
from kswgd_hpc.dictionary import Dictionary, GaussianDictionary, PolynomialDictionary
from kswgd_hpc.dictionary.gaussian import automatic_bandwidth, farthest_points
from kswgd_hpc.ensemble import Pairing, RecordedEnsemble, SimulatedEnsemble, pairing
from kswgd_hpc.errors import ConfigurationError, DataError
from kswgd_hpc.estimators import ESTIMATORS, Estimator, ReducedRank
from kswgd_hpc.galerkin import REPLICATED
from kswgd_hpc.parallel import from_root
from kswgd_hpc.records import Collector
from kswgd_hpc.reweighting import Source

_LARGEST_DICTIONARY = 100_000
_MOST_MODES = 64  # of which `auto` keeps those that hold


@dataclass(frozen=True)
class Plan:
    """Everything that the configuration names, made executable and checked before any work.

    system : None for recorded data; ensemble : the source of records; cases : Feynman-Kac comparisons
    matrix : (c, d) linear map to raw coordinates, None for the identity; mobility : (d,) or (d, d), None if unknown
    label : number of the set that a state is in, see `systems.membership`, where there are sets
    """

    system: Any
    ensemble: SimulatedEnsemble | RecordedEnsemble
    matrix: np.ndarray | None
    mobility: np.ndarray | None
    cases: list[feynman_kac.Case]
    particles: Callable | None
    device: Any
    label: Callable | None = None


def prepare(comm: MPI.Comm, config: Config) -> Plan:
    """Build everything on rank 0 first, to find what is wrong, then on the others. Collective.

    Raises
    ------
    KswgdError : one line, the same on every rank
    """
    plans: list[Plan] = []
    from_root(comm, lambda: plans.append(build(config)))
    storage.prepare_directory(comm, Path(config.output.directory))
    return plans[0] if plans else build(config)


def build(config: Config) -> Plan:
    """The plan of a configuration, in this process alone. Raises KswgdError."""
    system = systems.build(config)
    cases = _cases(config, system)
    ensemble = _recorded(config) if system is None else _simulated(config, system, cases)
    d = ensemble.dimension
    particles = None
    if config.kswgd is not None:
        particles = systems.initial_states(system, d, config.kswgd.initial, "kswgd.initial")
    matrix = _coordinate_matrix(config, system, d)
    _check_modes(config, d if matrix is None else len(matrix))
    return Plan(
        system,
        ensemble,
        matrix,
        _mobility(config, system, d),
        cases,
        particles,
        backend.select(config.compute.device),
        _label(config, system, d),
    )


def _label(config: Config, system, dimension: int) -> Callable | None:
    if config.koopman is None or config.koopman.sets is None:
        return None
    return systems.membership(system, dimension, config.koopman.sets, "koopman.sets")


def _simulated(config: Config, system, cases: list[feynman_kac.Case]) -> SimulatedEnsemble:
    sampler = systems.initial_states(system, system.dimension, config.ensemble.initial, "ensemble.initial")
    killing = {}
    if config.koopman is not None and config.koopman.lagged:
        killing = {case.name: case.killing for case in cases if case.killing is not None}
    with systems.key("ensemble"):
        return SimulatedEnsemble(system, sampler, config.ensemble, config.seed, killing)


def _recorded(config: Config) -> RecordedEnsemble:
    spec = config.system
    recording = storage.open_recording(spec.path, spec.dataset, "system.path")
    shape = recording.shape
    if len(shape) == 2:
        if spec.sampling_interval is not None:
            raise DataError(f"system.path: shape {shape} is samples; trajectories need (trajectories, times, d)")
        read = lambda rows, _times: recording.read(rows)[:, None, :]  # noqa: E731
        return RecordedEnsemble(read, (shape[0], 1, shape[1]), Pairing(1.0, 0, 1, 1))
    if len(shape) != 3:
        raise DataError(f"system.path: shape {shape}, expected (samples, d) or (trajectories, times, d)")
    if config.koopman is None or not config.koopman.lagged:
        return RecordedEnsemble(recording.read, shape, Pairing(1.0, 0, 1, shape[1]))
    step, lag = spec.sampling_interval, config.ensemble.lag_time
    pairs = pairing(step, lag, config.ensemble.stride, (shape[1] - 1) * step)
    if round(pairs.interval / step) != 1:
        thin = round(pairs.interval / step)
        read = lambda rows, times: recording.read(rows, (times[0] * thin, (times[1] - 1) * thin + 1))[:, ::thin]  # noqa: E731
        shape = (shape[0], pairs.records, shape[2])
    else:
        read = recording.read
    if pairs.starts < 1:
        raise DataError(f"system.path: {shape[1]} times are too few for ensemble.lag_time {lag:g}")
    return RecordedEnsemble(read, shape, pairs)


def _coordinate_matrix(config: Config, system, dimension: int) -> np.ndarray | None:
    if config.koopman is None or config.koopman.coordinates.kind == "identity":
        return None
    count = config.koopman.coordinates.count
    if count > dimension:
        raise ConfigurationError(f"koopman.coordinates.count: {count} modes asked for, the system has {dimension}")
    return system.mode_map(count)


def _check_modes(config: Config, coordinates: int) -> None:
    if config.koopman is None:
        return
    spec = config.koopman.dictionary
    if spec.kind == "gaussian":
        size = available = spec.size  # the constant is their sum
    else:
        size = math.comb(coordinates + spec.degree, spec.degree) - 1
        available = size + 1
    if size > _LARGEST_DICTIONARY:
        raise ConfigurationError(f"koopman.dictionary: {size} functions; at most {_LARGEST_DICTIONARY} are sensible")
    if config.koopman.modes != "auto" and config.koopman.modes > available:
        raise ConfigurationError(f"koopman.modes: {config.koopman.modes} asked for from {size} functions")
    _check_size(config, size)


def _check_size(config: Config, size: int) -> None:
    """That every rank can hold the matrices that some of what is asked for needs whole."""
    koopman = config.koopman
    asked = {
        f"estimator: {koopman.estimator}": koopman.estimator in ("generator", "reduced_rank"),
        "reweight": bool(koopman.reweight),
        "sets": koopman.sets is not None,
        "vamp": koopman.vamp,
    }
    for name, wanted in asked.items():
        if wanted and size > REPLICATED:
            raise ConfigurationError(f"koopman.{name} takes at most {REPLICATED} functions, the dictionary has {size}")


def _mobility(config: Config, system, dimension: int) -> np.ndarray | None:
    if system is not None:
        return system.mobility
    if config.system.mobility is not None:
        values = np.atleast_1d(np.asarray(config.system.mobility, dtype=float))
        if len(values) not in (1, dimension):
            raise ConfigurationError(f"system.mobility: {len(values)} numbers for {dimension} components")
        return np.broadcast_to(values, dimension)
    return np.ones(dimension)


def _cases(config: Config, system) -> list[feynman_kac.Case]:
    cases = []
    for index, row in enumerate(config.validation.feynman_kac):
        path = f"validation.feynman_kac.{row.name}"
        killing = None
        if not (isinstance(row.killing, float) and row.killing == 0):
            killing = systems.observable(system, row.killing, f"{path}.killing")
        cases.append(
            feynman_kac.Case(
                index,
                row.name,
                systems.observable(system, row.observable, f"{path}.observable"),
                killing,
                systems.initial_states(system, system.dimension, row.initial, f"{path}.initial"),
                tuple(row.times),
                row.trajectories,
            )
        )
    return cases


def collector_for(config: Config, plan: Plan, pilot: np.ndarray) -> tuple[Collector, Dictionary]:
    """What is kept of the ensemble and the dictionary that looks at it, made from the pilot sample (n, c)."""
    coordinates = _coordinates(config, plan, pilot)
    killing = {case.name: case.killing for case in plan.cases if case.killing is not None}
    lagged = config.koopman.lagged
    drift = None
    if "flux" in matrices_for(config, plan) or weighed_by(config) == "generator":
        drift = lambda states: coordinates.velocity(plan.system.drift(states))  # noqa: E731
    collector = Collector(
        coordinates,
        plan.ensemble.pairing,
        plan.ensemble.segments,
        drift,
        None,
        {case.name: case.observable for case in plan.cases},
        tuple(killing) if lagged else (),
        {} if lagged else killing,
        plan.label,
    )
    return collector, _dictionary(config, coordinates.rescale(pilot))


def estimator_for(config: Config) -> Estimator:
    """The estimator that the configuration names."""
    estimator = ESTIMATORS[config.koopman.estimator]
    return replace(estimator, rank=config.koopman.rank) if isinstance(estimator, ReducedRank) else estimator


def most_modes(config: Config, size: int) -> int:
    """Modes to solve for, the constant one included; of those asked for as `auto`, as many as may be kept at most."""
    return min(_MOST_MODES, size) if config.koopman.modes == "auto" else config.koopman.modes


def weighed_by(config: Config) -> Source | None:
    """What makes the weights to the invariant law: the generator where it is known, unless told otherwise."""
    wanted = config.koopman.reweight
    if wanted is True:
        return "pairs" if config.system.kind == "data" else "generator"
    return wanted or None


def matrices_for(config: Config, plan: Plan) -> tuple[str, ...]:
    """Names of the Galerkin sums that a run needs, see `galerkin.assemble`."""
    names = dict.fromkeys(estimator_for(config).matrices)
    if config.kswgd is not None:
        names["form"] = None  # transport uses the symmetrised generator: see `pipeline._transport_spectrum`
        if plan.system is not None:
            names["flux"] = None  # see `stationary.correct`
    return (*names, *(f"k:{case.name}" for case in plan.cases if case.killing is not None))


def _coordinates(config: Config, plan: Plan, pilot: np.ndarray) -> Coordinates:
    if config.koopman.dictionary.kind == "polynomial":
        return whitened(plan.matrix, pilot)
    c = pilot.shape[1]
    unscaled = Coordinates(plan.matrix, np.zeros(c), np.ones(c))
    return intrinsic(plan.matrix, pilot, unscaled.mobility(plan.mobility))


def _dictionary(config: Config, z: np.ndarray) -> Dictionary:
    spec = config.koopman.dictionary
    if spec.kind == "polynomial":
        return PolynomialDictionary(z.shape[1], spec.degree)
    chosen = farthest_points(z, min(spec.size, len(z)))
    centres = z[chosen]
    bandwidth = automatic_bandwidth(centres) if spec.bandwidth == "auto" else spec.bandwidth
    return GaussianDictionary(centres, bandwidth)
