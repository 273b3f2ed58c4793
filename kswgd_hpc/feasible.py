"""What is asked for against what the system and its dictionary can give: one line for each thing that cannot be."""

from __future__ import annotations

from typing import Any

from kswgd_hpc import feynman_kac, judging, storage
from kswgd_hpc.baselines import lacking
from kswgd_hpc.config import Config
from kswgd_hpc.coordinates import CoordinateMap, Coordinates
from kswgd_hpc.dictionary.fit import SPARSE, count, has_constant
from kswgd_hpc.errors import ConfigurationError, DataError
from kswgd_hpc.galerkin import REPLICATED
from spde.equations import SemilinearEquation


def check_boundaries(cases: list[feynman_kac.Case], by_generator: bool) -> None:
    """That the generator acts on the dictionary where it is restricted to what is outside of a set."""
    for case in cases:
        if case.boundary is not None and not by_generator:
            raise ConfigurationError(
                f"validation.feynman_kac.{case.name}: kind: {case.kind} needs a dictionary and coordinates with second "
                "derivatives"
            )


def check_modes(config: Config, coordinates: int) -> None:
    """That the dictionary has as many functions as modes are asked for, and no more than ranks can hold."""
    if config.koopman is None:
        return
    spec = config.koopman.dictionary
    size = count(spec, coordinates)
    if config.koopman.modes != "auto" and config.koopman.modes > size + (not has_constant(spec)):
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
    if koopman.dictionary.kind in SPARSE:
        asked["dictionary with entries in validation.feynman_kac"] = bool(config.validation.feynman_kac)
    for name, wanted in asked.items():
        if wanted and size > REPLICATED:
            raise ConfigurationError(f"koopman.{name} takes at most {REPLICATED} functions, the dictionary has {size}")


def check_dynamics(config: Config, system) -> None:
    """That what is asked of a diffusion can be had: detailed balance, noise in every direction."""
    if config.koopman is None or system is None:
        return
    estimator = config.koopman.estimator
    field = isinstance(system, SemilinearEquation)  # nearly reversible ones are common: the pipeline says so
    if field and config.system.equation in ("heat", "advection_diffusion"):
        slowest = system.rates.min() + min(config.system.parameters.get("damping", 0.0), 0.0)
        if slowest < 0:
            raise ConfigurationError(
                f"system.parameters.damping: a mode of this linear equation grows at the rate {-slowest:.4g}, so that "
                "it has no invariant law; more damping gives it one"
            )
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


def check_device(config: Config, observed: CoordinateMap, mobility) -> None:
    """That particles can be moved where they are asked to be."""
    if config.kswgd is None or config.compute.device != "cuda":
        return
    if not Coordinates(observed, 0.0, 1.0).constant_mobility(mobility):
        raise ConfigurationError(
            "compute.device: cuda cannot move particles where the mobility of the coordinates depends on the state; "
            "use auto"
        )


def check_judging(config: Config, system, dimension: int) -> None:
    """That the rivals of the transport can be had, and what particles are compared in and with."""
    if config.kswgd is None:
        return
    for name in config.kswgd.baselines:
        reason = lacking(name, system)
        if reason is not None:
            raise ConfigurationError(f"kswgd.baselines: {name} cannot be had here: {reason}")
    judge = config.kswgd.judge
    if judge.occupation and system is None:
        raise ConfigurationError(
            "kswgd.judge.occupation: sets are expressions in the variables of a system, not of data"
        )
    judging.sets_of(config, system)
    if judge.reference is not None:
        shape = storage.open_recording(
            judge.reference.path, judge.reference.dataset, "kswgd.judge.reference.path"
        ).shape
        if len(shape) != 2 or shape[1] != dimension:
            raise DataError(f"kswgd.judge.reference.path: shape {shape}, expected (n, {dimension})")


def check_references(cases: list, system: Any) -> None:
    """That exact references asked for by name can be had; cheap, but for rank 0 alone."""
    named = [case for case in cases if case.method in ("closed_form", "deterministic")]
    if named:
        from kswgd_hpc.references import check  # PETSc's solvers with it

        for case in named:
            check(case, system)
