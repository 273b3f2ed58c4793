"""From the configuration to objects: everything that it names, built and checked before any work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc import backend, eigensolver, feynman_kac, memory, petsc_types, storage, streams, systems
from kswgd_hpc.checkpoint import UNSAVED, Keeping
from kswgd_hpc.config import Config
from kswgd_hpc.coordinates import CoordinateMap, Coordinates, LinearMap, Pilot, WithMobility, intrinsic, whitened
from kswgd_hpc.delay import DelayedEnsemble, DelayMap
from kswgd_hpc.dictionary import Dictionary
from kswgd_hpc.dictionary.fit import fit
from kswgd_hpc.ensemble import PILOT_ROWS, Pairing, RecordedEnsemble, SimulatedEnsemble, pairing
from kswgd_hpc.errors import ConfigurationError, DataError
from kswgd_hpc.estimators import ESTIMATORS, Estimator, ReducedRank
from kswgd_hpc.feasible import (
    check_boundaries,
    check_device,
    check_dynamics,
    check_judging,
    check_modes,
    check_references,
)
from kswgd_hpc.functions import FunctionMap, expression_map
from kswgd_hpc.parallel import from_all, from_root, gather_blocks
from kswgd_hpc.pod import Snapshots, principal_directions
from kswgd_hpc.records import Collector
from kswgd_hpc.reweighting import Source
from kswgd_hpc.schema.dictionary import AnyDictionary
from kswgd_hpc.starts import set_label
from spde.equations import SemilinearEquation
from spde.mobility import MobilityField, ModeMobility

_MOST_MODES = 64  # of which `auto` keeps those that hold
# names among the values of records, see `kswgd.condition`
LIKELIHOOD, KILLING = "f:condition.log_likelihood", "f:condition.killing"
_FAR_APART = 0.15  # relative difference of mean squares over one and two intervals: 3 % in the mobility
_INCREMENTS = 2**22  # numbers that a mobility is estimated from
_JUDGED_MODES = 10  # by which a bandwidth is judged where their number is open
# dictionaries of unbounded functions, which need coordinates of one size
_WHITENED = ("polynomial", "expressions")


@dataclass(frozen=True)
class Plan:
    """Everything that the configuration names, made executable and checked before any work.

    system : None for recorded data; ensemble : the source of records; cases : Feynman-Kac comparisons
    observed : map to raw coordinates; principal directions in it are still zero, see `pilot_sample`
    mobility : (d,), (d, d) or diagonal in modes; a field where it depends on the state; None if unknown
    label : number of the set that a state is in, see `systems.membership`, where there are sets
    particles : sampler of their initial states; start : not zero on the states of the ensemble that they start from
    by_generator : whether predictions project the generator; else the operator of the lag
    smooth : observables, killing rates and moments of modes, on which the generator can act
    condition : name -> function of states (d, n) -> (n,), of what particles are conditioned on
    """

    system: Any
    ensemble: SimulatedEnsemble | RecordedEnsemble | DelayedEnsemble
    observed: CoordinateMap
    mobility: np.ndarray | ModeMobility | MobilityField | None
    cases: list[feynman_kac.Case]
    particles: Callable | None
    device: Any
    label: Callable | None = None
    start: Callable | None = None
    by_generator: bool = False
    smooth: tuple[feynman_kac.SmoothFormula, ...] = ()
    condition: dict[str, Callable] = field(default_factory=dict)


def prepare(comm: MPI.Comm, config: Config) -> Plan:
    """Build everything, on all ranks at once, and find what is wrong. Collective.

    Raises
    ------
    KswgdError : one line, the same on every rank
    """
    on_node = memory.ranks_on_node(comm)
    from_root(comm, lambda: memory.check(config, comm.size, on_node, memory.of_machine()))
    plan = from_all(comm, lambda: build(config))
    from_root(comm, lambda: check_references(plan.cases, plan.system))
    storage.prepare_directory(comm, Path(config.output.directory))
    return plan


def build(config: Config) -> Plan:
    """The plan of a configuration, in this process alone. Raises KswgdError."""
    if config.koopman is not None:
        eigensolver.check_options(config.koopman.petsc_options)
    system = systems.build(config)
    check_dynamics(config, system)
    cases = [] if system is None else feynman_kac.cases_of(config, system, system.mobility)
    by_generator = bool(cases) and _by_generator(config, system)
    check_boundaries(cases, by_generator)
    ensemble = _recorded(config) if system is None else _simulated(config, system, cases, by_generator)
    d = ensemble.dimension
    particles = start = None
    if config.kswgd is not None and config.kswgd.initial.kind == "ensemble":
        if config.kswgd.initial.where is not None:
            systems.check_set(config.kswgd.initial.where, "kswgd.initial.where")
        start = set_label(system, d, config.kswgd.initial.where, "kswgd.initial.where")
    elif config.kswgd is not None:
        particles = systems.initial_states(system, d, config.kswgd.initial, "kswgd.initial")
    observed = coordinate_map(config, system, d)
    check_modes(config, len(observed))
    _check_derivatives(config, observed)
    mobility = _mobility(config, system, d)
    if _principal(config) is None:  # else there are no coordinates yet
        for case in cases:
            case.hidden(observed, mobility, config.seed)
    petsc_types.select(config.compute.device)
    check_device(config, observed, mobility)
    check_judging(config, system, d)
    return Plan(
        system,
        _delayed(config, ensemble),
        observed,
        mobility,
        cases,
        particles,
        backend.select(config.compute.device),
        _label(config, system, d),
        start,
        by_generator,
        _smooth(config, system, cases, observed, mobility) if by_generator else (),
        _condition(config, system, d),
    )


def _smooth(config: Config, system, cases: list[feynman_kac.Case], observed: CoordinateMap, mobility) -> tuple:
    """Functions beside the dictionary in whose span predictions are made."""
    spec = config.koopman.dictionary
    polynomial = spec.kind == "polynomial" and spec.degree > 1
    return (
        *feynman_kac.smooth_formulas(cases, system, mobility),
        *feynman_kac.moments_of_modes(cases, system, mobility, observed, polynomial),
        *feynman_kac.factors_of_killing(cases, system),
    )


def _condition(config: Config, system, dimension: int) -> dict[str, Callable]:
    """Functions of states that particles are conditioned on."""
    spec = config.kswgd.condition if config.kswgd is not None else None
    if spec is None:
        return {}
    if spec.killing is not None and system is not None and system.reversible is not True:
        raise ConfigurationError("kswgd.condition.killing needs dynamics with detailed balance; use log_likelihood")
    texts = {LIKELIHOOD: ("log_likelihood", spec.log_likelihood), KILLING: ("killing", spec.killing)}
    found = {}
    for name, (key, text) in texts.items():
        if text is not None:
            found[name] = set_label(system, dimension, str(text), f"kswgd.condition.{key}")
    return found


def _by_generator(config: Config, system) -> bool:
    """Whether the generator can act on the dictionary, so that predictions need no lag.

    Raises
    ------
    ConfigurationError : where it cannot, and there are no pairs either
    """
    smooth = config.koopman.dictionary.twice_differentiable
    observed = coordinate_map(config, system, system.dimension)
    if smooth and isinstance(observed, FunctionMap):
        try:
            observed.require_derivatives()
        except ConfigurationError:
            smooth = False
    if not smooth and not config.koopman.lagged:
        raise ConfigurationError(
            "validation.feynman_kac: predictions need a dictionary and coordinates with second derivatives, or pairs: "
            "estimator: reversible or edmd"
        )
    return smooth


def _label(config: Config, system, dimension: int) -> Callable | None:
    if config.koopman is None or config.koopman.sets is None:
        return None
    return systems.membership(system, dimension, config.koopman.sets, "koopman.sets")


def _simulated(config: Config, system, cases: list[feynman_kac.Case], by_generator: bool) -> SimulatedEnsemble:
    sampler = systems.initial_states(system, system.dimension, config.ensemble.initial, "ensemble.initial")
    killing = {case.rate: case.killing for case in cases if case.killing is not None and not by_generator}
    with systems.key("ensemble"):
        ensemble = SimulatedEnsemble(system, sampler, config.ensemble, config.seed, killing)
    ensemble.pairing = _with_history(config, ensemble.pairing)
    return ensemble


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
    return RecordedEnsemble(read, shape, _with_history(config, pairs))


def _with_history(config: Config, pairs: Pairing) -> Pairing:
    """The pairing whose lag includes the past that delay coordinates look at."""
    spec = config.koopman.coordinates if config.koopman is not None else None
    if spec is None or spec.kind != "delay":
        return pairs
    spacing = round(spec.spacing / pairs.interval)
    if spacing < 1 or abs(spec.spacing - spacing * pairs.interval) > 1e-6 * spec.spacing:
        raise ConfigurationError(
            f"koopman.coordinates.spacing = {spec.spacing:g} is not a multiple of {pairs.interval:g}, the largest time "
            "that ensemble.lag_time and stride are multiples of"
        )
    history = (spec.count - 1) * spacing
    if pairs.records <= pairs.lag + history:
        raise ConfigurationError(
            f"koopman.coordinates: a past of {history * pairs.interval:g} and a lag time of "
            f"{pairs.lag * pairs.interval:g} are longer than a trajectory"
        )
    return replace(pairs, lag=pairs.lag + history)


def _delayed(config: Config, ensemble: SimulatedEnsemble | RecordedEnsemble):
    """The ensemble, embedded where the coordinates are delays."""
    spec = config.koopman.coordinates if config.koopman is not None else None
    if spec is None or spec.kind != "delay":
        return ensemble
    return DelayedEnsemble(ensemble, spec.count, round(spec.spacing / ensemble.pairing.interval))


def coordinate_map(config: Config, system, dimension: int, principal: np.ndarray | None = None) -> CoordinateMap:
    """The map from states to the raw coordinates that the dictionary sees.

    Parameters
    ----------
    system : None for recorded data
    dimension : d of a state
    principal : (count, d) principal directions, found from a pilot sample; zeros stand in for them until then

    Raises
    ------
    ConfigurationError : expressions or numbers that do not fit the system
    """
    if config.koopman is None:  # nothing is looked at
        return LinearMap(np.empty((0, dimension)), 0)
    observed = _map(config.koopman.coordinates, system, dimension, principal)
    if config.koopman.dictionary.kind == "expressions":
        with systems.key("koopman.dictionary.functions"):
            return expression_map(config.koopman.dictionary.functions, system, observed)
    return observed


def _map(spec, system, dimension: int, principal: np.ndarray | None) -> CoordinateMap:
    if spec.kind == "delay":
        return DelayMap(_map(spec.of, system, dimension, principal), dimension, spec.count)
    if spec.kind == "expressions":
        inner = _map(spec.of, system, dimension, principal)
        with systems.key("koopman.coordinates.functions"):
            return expression_map(spec.functions, system, inner)
    if spec.kind == "identity":
        if isinstance(system, SemilinearEquation):
            return LinearMap(None, dimension)
        names = system.variables if system is not None else [f"x{i + 1}" for i in range(dimension)]
        return LinearMap(None, dimension, names)
    if spec.count > dimension:
        what = "modes" if spec.kind == "modes" else "principal directions"
        raise ConfigurationError(
            f"koopman.coordinates.count: {spec.count} {what} asked for, the system has {dimension}"
        )
    if spec.kind == "modes":
        return LinearMap(system.mode_map(spec.count), spec.count)
    return LinearMap(np.broadcast_to(0.0, (spec.count, dimension)) if principal is None else principal, spec.count)


def _check_derivatives(config: Config, observed: CoordinateMap) -> None:
    """That functions of the state have the derivatives that will be asked of them."""
    if config.koopman is None or not isinstance(observed, FunctionMap):
        return
    if config.kswgd is not None or not config.koopman.lagged or weighed_by(config) == "generator":
        observed.require_derivatives()


def _mobility(config: Config, system, dimension: int) -> np.ndarray | ModeMobility | MobilityField | None:
    if system is not None:
        return system.mobility
    if config.system.mobility == "auto":
        return _mobility_of_increments(config)
    if config.system.mobility is not None:
        values = np.atleast_1d(np.asarray(config.system.mobility, dtype=float))
        if len(values) not in (1, dimension):
            raise ConfigurationError(f"system.mobility: {len(values)} numbers for {dimension} components")
        return np.broadcast_to(values, dimension)
    return np.ones(dimension)


def _mobility_of_increments(config: Config) -> np.ndarray:
    """(d,) mobility of the components of recorded trajectories, from the mean squares of their increments.

    Increments over a time s give E (x(t + s) - x(t))^2 / (2 s) = M + O(s); those over 2 s take away the term in s.

    Raises
    ------
    DataError : no trajectories of three times, or records too far apart to tell
    """
    spec = config.system
    recording = storage.open_recording(spec.path, spec.dataset, "system.path")
    if len(recording.shape) != 3 or recording.shape[1] < 3 or spec.sampling_interval is None:
        raise DataError("system.mobility: auto needs trajectories of three times or more, and their sampling_interval")
    trajectories, times, d = recording.shape
    rows = min(trajectories, max(1, _INCREMENTS // (times * d)))
    # the same records on every rank, whatever it holds
    path = recording.read((0, rows), (0, min(times, max(3, _INCREMENTS // d))))
    steps = (path[:, k:] - path[:, :-k] for k in (1, 2))
    near, far = ((step**2).mean(axis=(0, 1)) / (2 * k * spec.sampling_interval) for k, step in enumerate(steps, 1))
    # of a linear drift what is left over is 4/3 of the square of this difference
    if (np.abs(near - far) >= _FAR_APART * near).any():
        raise DataError(
            f"system.mobility: auto: records {spec.sampling_interval:g} apart are too far from each other to tell the "
            "noise from the drift; give its value"
        )
    return 2 * near - far


def pilot_sample(comm: MPI.Comm, config: Config, plan: Plan, tick: Callable, keeping: Keeping = UNSAVED) -> Pilot:
    """Run the burn-in, and look at some states: the raw coordinates of a pilot sample. Collective.

    Principal directions are found from the pilot's own states first. Pairs are added where a bandwidth is to be
    cross-validated by them.
    """
    pilot, ensemble = _pilot_states(comm, config, plan, tick, keeping), plan.ensemble
    judged = config.koopman is not None and getattr(config.koopman.dictionary, "bandwidth", None) == "cross_validated"
    if not judged or ensemble.pairing.lag == 0:
        return pilot
    # a pair is a state with its own past
    pairs = DelayedEnsemble(ensemble, 2, ensemble.pairing.lag)
    both = pairs.pilot(comm, DelayMap(pilot.observed, ensemble.dimension, 2), lambda _units: None)
    y, x = np.split(both, 2, axis=1)
    return replace(pilot, pairs=(x, y))


def _pilot_states(comm: MPI.Comm, config: Config, plan: Plan, tick: Callable, keeping: Keeping) -> Pilot:
    delayed = isinstance(plan.ensemble, DelayedEnsemble)
    source = plan.ensemble.source if delayed else plan.ensemble
    principal = _principal(config)
    if principal is None and not delayed:
        shown = _shown(plan.observed, plan.mobility)
        return _pilot(shown, source.pilot(comm, shown, tick, keeping), plan.mobility)
    snapshots = Snapshots(source.dimension, PILOT_ROWS)
    source.pilot(comm, snapshots, tick, keeping)
    observed = plan.observed
    if principal is not None:
        directions = principal_directions(
            comm, snapshots.parts, source.dimension, principal.count, config.seed, streams.PRINCIPAL_DIRECTIONS
        )
        observed = coordinate_map(config, plan.system, source.dimension, directions)
    if delayed:
        raw = plan.ensemble.pilot(comm, observed, lambda _units: None)
        return Pilot(observed, raw, np.diag(raw.var(axis=0)))
    shown = _shown(observed, plan.mobility)
    return _pilot(shown, gather_blocks(comm, [shown(part) for part in snapshots.parts], len(shown)), plan.mobility)


def _principal(config: Config):
    """The section of the coordinates that asks for principal directions, None where there is none."""
    spec = config.koopman.coordinates if config.koopman is not None else None
    while hasattr(spec, "of"):
        spec = spec.of
    return spec if spec is not None and spec.kind == "pod" else None


def _shown(observed: CoordinateMap, mobility) -> CoordinateMap | WithMobility:
    """What a pilot looks at: the coordinates, and their mobility where it depends on the state."""
    constant = mobility is None or Coordinates(observed, 0.0, 1.0).constant_mobility(mobility)
    return observed if constant else WithMobility(observed, mobility)


def _pilot(shown: CoordinateMap | WithMobility, rows: np.ndarray, mobility) -> Pilot:
    return shown.pilot(rows) if isinstance(shown, WithMobility) else Pilot(shown, rows, shown.mobility(mobility, None))


def collector_for(config: Config, plan: Plan, pilot: Pilot) -> tuple[Collector, Dictionary]:
    """What is kept of the ensemble and the dictionary that looks at it, made from the pilot sample."""
    coordinates = _coordinates(config, plan, pilot)
    drift = mobility = None
    if needs_drift(config, plan):
        drift = lambda x: coordinates.velocity(plan.system.drift(x), x, plan.mobility)  # noqa: E731
    if needs_mobility(config, plan) and not coordinates.constant_mobility(plan.mobility):
        mobility = lambda x: coordinates.mobility(plan.mobility, x)  # noqa: E731
    boundaries = {case.boundary.text: case.boundary for case in plan.cases if case.boundary is not None}
    collector = Collector(
        coordinates,
        plan.ensemble.pairing,
        plan.ensemble.segments,
        drift,
        mobility,
        feynman_kac.formulas_of(plan.cases)
        | {formula.text: formula.value for formula in plan.smooth}
        | {name[2:]: function for name, function in plan.condition.items()},
        () if plan.by_generator else tuple({case.rate: None for case in plan.cases if case.killing is not None}),
        {formula.text: formula.generator for formula in plan.smooth}
        | {text: boundary.level_rate for text, boundary in boundaries.items()},
        plan.label,
        {text: boundary.slope_in(coordinates, plan.mobility) for text, boundary in boundaries.items()},
    )
    modes, symmetric = most_modes(config, _JUDGED_MODES), config.koopman.estimator == "reversible"
    return collector, fit(_dictionary(config), coordinates, pilot, modes, symmetric, config.seed)


def _dictionary(config: Config) -> AnyDictionary:
    """The section of the dictionary, with what decides by itself decided.

    Far centres hold functions that a few visits determine, and a lagged estimator mixes them with the modes. They are
    wanted where particles or predictions start out there, and where functions have to bend on a barrier that is hardly
    visited: the Dirichlet form, and weights by the generator, have no other way to see how high it is.
    """
    spec = config.koopman.dictionary
    if getattr(spec, "centres", None) != "auto":
        return spec
    koopman = config.koopman
    far = not koopman.lagged or koopman.reweight or config.kswgd is not None or config.validation.feynman_kac
    return spec.model_copy(update={"centres": "farthest" if far else "kmeans"})


def estimator_for(config: Config) -> Estimator:
    """The estimator that the configuration names."""
    estimator = ESTIMATORS[config.koopman.estimator]
    return replace(estimator, rank=config.koopman.rank) if isinstance(estimator, ReducedRank) else estimator


def most_modes(config: Config, size: int) -> int:
    """Modes to solve for, the constant one included; of those asked for as `auto`, as many as may be kept at most."""
    return min(_MOST_MODES, size) if config.koopman.modes == "auto" else config.koopman.modes


def weighed_by(config: Config) -> Source | None:
    """What makes the weights to the invariant law: the generator where it is known, unless told otherwise."""
    koopman = config.koopman
    if koopman is None or koopman.reweight is not True:
        return koopman.reweight or None if koopman is not None else None
    known = config.system.kind != "data" and koopman.coordinates.kind != "delay"
    return "generator" if known and koopman.dictionary.twice_differentiable else "pairs"


def matrices_for(config: Config, plan: Plan) -> tuple[str, ...]:
    """Names of the Galerkin sums that a run needs, see `galerkin.assemble`."""
    names = dict.fromkeys(estimator_for(config).matrices)
    if config.kswgd is not None:
        names["form"] = None  # transport uses the symmetrised generator: see `pipeline._transport_spectrum`
        if plan.system is not None:
            names["flux"] = None  # see `stationary.correct`
    return tuple(names)


def needs_drift(config: Config, plan: Plan) -> bool:
    """Whether the drift of the coordinates is wanted, for the generator."""
    return "flux" in matrices_for(config, plan) or weighed_by(config) == "generator" or plan.by_generator


def needs_mobility(config: Config, plan: Plan) -> bool:
    """Whether the mobility of the coordinates is wanted: for the Dirichlet form, or for the generator."""
    return "form" in matrices_for(config, plan) or needs_drift(config, plan)


def _coordinates(config: Config, plan: Plan, pilot: Pilot) -> Coordinates:
    # without noise along some direction the diffusion has no metric of its own
    degenerate = plan.system is not None and not plan.system.elliptic
    return whitened(pilot) if degenerate or config.koopman.dictionary.kind in _WHITENED else intrinsic(pilot)
