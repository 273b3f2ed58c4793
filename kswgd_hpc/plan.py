"""From the configuration to objects: everything that it names, built and checked before any work."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
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
from kswgd_hpc.galerkin import MATRICES, Assembler
from kswgd_hpc.mobility import average_mobility, mobility_of
from kswgd_hpc.parallel import from_root
from spde.equations import SemilinearEquation
from spde.mobility import MobilityField

_LARGEST_DICTIONARY = 100_000


@dataclass(frozen=True)
class Plan:
    """Everything that the configuration names, made executable and checked before any work.

    system : None for recorded data; ensemble : the source of records; cases : Feynman-Kac comparisons
    matrix : (c, d) linear map to raw coordinates, None for the identity
    mobility : (d,) or (d, d), a field where it depends on the state, None if unknown
    """

    system: Any
    ensemble: SimulatedEnsemble | RecordedEnsemble
    matrix: np.ndarray | None
    mobility: np.ndarray | MobilityField | None
    cases: list[feynman_kac.Case]
    particles: Callable | None
    device: Any


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
    _check_dynamics(config, system)
    cases = _cases(config, system)
    ensemble = _recorded(config) if system is None else _simulated(config, system, cases)
    d = ensemble.dimension
    particles = None
    if config.kswgd is not None:
        particles = systems.initial_states(system, d, config.kswgd.initial, "kswgd.initial")
    matrix = _coordinate_matrix(config, system, d)
    _check_modes(config, d if matrix is None else len(matrix))
    mobility = _mobility(config, system, d)
    _check_device(config, mobility)
    return Plan(
        system,
        ensemble,
        matrix,
        mobility,
        cases,
        particles,
        backend.select(config.compute.device),
    )


def _simulated(config: Config, system, cases: list[feynman_kac.Case]) -> SimulatedEnsemble:
    sampler = systems.initial_states(system, system.dimension, config.ensemble.initial, "ensemble.initial")
    killing = {}
    if config.koopman is not None and config.koopman.estimator != "dirichlet":
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
    if config.koopman is None or config.koopman.estimator == "dirichlet":
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
    if config.koopman.modes > available:
        raise ConfigurationError(f"koopman.modes: {config.koopman.modes} asked for from {size} functions")


def _check_dynamics(config: Config, system) -> None:
    """That what is asked of a diffusion can be had: detailed balance, noise in every direction."""
    if config.koopman is None or system is None:
        return
    estimator = config.koopman.estimator
    field = isinstance(system, SemilinearEquation)  # nearly reversible ones are common: the pipeline says so
    if estimator == "reversible" and system.reversible is False and not field:
        also = ", or dirichlet for the rates of its symmetric part" if system.elliptic else ""
        raise ConfigurationError(
            f"koopman.estimator: reversible needs detailed balance, which this system does not have; use edmd{also}"
        )
    if system.elliptic:
        return
    reason = "needs noise in every direction, and the noise of this system is degenerate"
    if estimator == "dirichlet":
        raise ConfigurationError(f"koopman.estimator: dirichlet {reason}; use edmd")
    if config.kswgd is not None:
        raise ConfigurationError(f"kswgd: transport {reason}; leave this section out")


def _check_device(config: Config, mobility) -> None:
    if isinstance(mobility, MobilityField) and config.kswgd is not None and config.compute.device == "cuda":
        raise ConfigurationError(
            "compute.device: cuda cannot move particles whose noise depends on the state or the manifold; use auto"
        )


def _mobility(config: Config, system, dimension: int) -> np.ndarray | MobilityField | None:
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


def assembler_for(config: Config, plan: Plan, pilot: np.ndarray) -> Assembler:
    """The assembler of the sums that a run needs, its coordinates and dictionary made from the pilot sample (n, c)."""
    coordinates = _coordinates(config, plan, pilot)
    dictionary = _dictionary(config, coordinates.rescale(pilot))
    estimator = config.koopman.estimator
    names = list(MATRICES[estimator])
    if config.kswgd is not None and "form" not in names:
        names.append("form")  # transport uses the symmetrised generator: see `_transport_spectrum`
    if config.kswgd is not None and plan.system is not None:
        names.append("flux")  # see `stationary.correct`
    with_killing = {case.name: case.killing for case in plan.cases if case.killing is not None}
    return Assembler(
        coordinates,
        dictionary,
        plan.ensemble.pairing,
        names,
        mobility_of(coordinates, plan.mobility),
        plan.system.drift if plan.system is not None else None,
        {case.name: case.observable for case in plan.cases},
        () if estimator == "dirichlet" else tuple(with_killing),
        with_killing if estimator == "dirichlet" else {},
    )


def _coordinates(config: Config, plan: Plan, pilot: np.ndarray) -> Coordinates:
    # without noise along some direction the diffusion has no metric of its own
    degenerate = plan.system is not None and not plan.system.elliptic
    if config.koopman.dictionary.kind == "polynomial" or degenerate:
        return whitened(plan.matrix, pilot)
    return intrinsic(plan.matrix, pilot, average_mobility(plan.matrix, plan.mobility, pilot))


def _dictionary(config: Config, z: np.ndarray) -> Dictionary:
    spec = config.koopman.dictionary
    if spec.kind == "polynomial":
        return PolynomialDictionary(z.shape[1], spec.degree)
    chosen = farthest_points(z, min(spec.size, len(z)))
    centres = z[chosen]
    bandwidth = automatic_bandwidth(centres) if spec.bandwidth == "auto" else spec.bandwidth
    return GaussianDictionary(centres, bandwidth)
