"""Checks of the configuration across its sections: combinations that cannot be run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kswgd_hpc.config import Config

_MOST_STEPS = 2**40  # of a trajectory: months of stepping a single number


def check(config: Config) -> None:
    """Raise ValueError, which names the keys, for what cannot be run together."""
    if config.koopman is None and (config.kswgd is not None or config.validation.feynman_kac):
        raise ValueError("'kswgd' and 'validation' need a 'koopman' section")
    (_check_data if config.system.kind == "data" else _check_simulation)(config)
    if config.koopman is not None:
        _check_reweighting(config)
        _check_analyses(config)
        _check_coordinates(config)
        _check_dictionary(config)
    if config.kswgd is not None and config.kswgd.condition is not None:
        _check_condition(config)


def _check_condition(config: Config) -> None:
    """That nothing is asked for that only the invariant law itself has."""
    kswgd = config.kswgd
    if config.system.kind != "data" and kswgd.relaxation != 0:
        raise ValueError("kswgd.relaxation: the dynamics do not stay in the law that kswgd.condition asks for")
    unaware = [name for name in kswgd.baselines if name not in ("dmps", "mmd_flow", "kde_langevin")]
    if unaware:
        raise ValueError(f"kswgd.baselines: {unaware[0]} knows nothing of kswgd.condition")
    if config.koopman.dictionary.kind in ("splines", "indicator", "wendland"):
        raise ValueError(f"kswgd.condition cannot be had with dictionary: {config.koopman.dictionary.kind}")


def _check_simulation(config: Config) -> None:
    ensemble = config.ensemble
    needed = ["trajectories", "initial", "time_step", "duration"]
    if config.koopman is not None and config.koopman.lagged:
        needed.append("lag_time")
    for key in needed:
        if getattr(ensemble, key) is None:
            raise ValueError(f"'ensemble' needs the key '{key}'")
    for key in ("burn_in", "duration", "lag_time", "stride"):
        _whole_steps(f"ensemble.{key}", getattr(ensemble, key), ensemble.time_step)
    if ensemble.lag_time is not None and ensemble.duration < ensemble.lag_time:
        raise ValueError(f"ensemble.duration {ensemble.duration:g} is shorter than lag_time {ensemble.lag_time:g}")
    if config.kswgd is not None:
        _whole_steps("kswgd.spread", config.kswgd.spread, ensemble.time_step)
    if config.kswgd is not None and config.kswgd.relaxation != "auto":
        _whole_steps("kswgd.relaxation", config.kswgd.relaxation, ensemble.time_step)
    for row in config.validation.feynman_kac:
        for time in row.times or []:
            _whole_steps(f"validation.feynman_kac.{row.name}.times", time, ensemble.time_step)


def _check_analyses(config: Config) -> None:
    """Singular values need pairs, timescales and transitions consecutive ones."""
    koopman, ensemble = config.koopman, config.ensemble
    if koopman.vamp and ensemble.lag_time is None:
        raise ValueError("koopman.vamp needs the key ensemble.lag_time")
    key = "sets" if koopman.sets is not None else "lag_times"
    if koopman.sets is None and koopman.lag_times == "auto":
        return
    if koopman.sets is not None and koopman.coordinates.kind == "delay":
        raise ValueError("koopman.sets are sets of states, and koopman.coordinates: delay sees several at once")
    if ensemble.lag_time is None:
        raise ValueError(f"koopman.{key} needs the key ensemble.lag_time")
    stride = ensemble.lag_time if ensemble.stride is None else ensemble.stride
    if abs(ensemble.lag_time / stride - round(ensemble.lag_time / stride)) > 1e-6:
        raise ValueError(f"koopman.{key}: ensemble.lag_time has to be a multiple of ensemble.stride")
    for time in koopman.lag_times if koopman.lag_times != "auto" else []:
        _whole_steps("koopman.lag_times", time, stride, "ensemble.stride")
        if ensemble.duration is not None and time > ensemble.duration:
            raise ValueError(f"koopman.lag_times: {time:g} is longer than ensemble.duration, {ensemble.duration:g}")


def _check_reweighting(config: Config) -> None:
    data, lag = config.system.kind == "data", config.ensemble.lag_time
    if not config.koopman.reweight:
        return
    by_pairs = data or config.koopman.reweight == "pairs" or not config.koopman.dictionary.twice_differentiable
    if config.koopman.reweight == "generator" and (data or config.koopman.coordinates.kind == "delay"):
        without = "data" if data else "delay coordinates"
        raise ValueError(f"koopman.reweight: generator needs a drift, which {without} do not have; use pairs")
    if lag is None and by_pairs:
        raise ValueError("koopman.reweight: pairs needs the key ensemble.lag_time")


def _check_data(config: Config) -> None:
    system, ensemble, koopman = config.system, config.ensemble, config.koopman
    if koopman is not None and koopman.certify:
        raise ValueError("koopman.certify restarts the dynamics, which data do not have")
    given = ensemble.model_fields_set - {"lag_time", "stride"}
    if given:
        raise ValueError(f"ensemble.{sorted(given)[0]} has no meaning for recorded data")
    if config.validation.feynman_kac:
        raise ValueError("'validation' needs a system that can be simulated, and data cannot")
    if config.kswgd is not None and config.kswgd.initial.kind in ("constant", "expression"):
        kind = config.kswgd.initial.kind
        raise ValueError(f"kswgd.initial.kind: {kind} is one point, which only dynamics would spread; use gaussian")
    if koopman is None:
        return
    if koopman.estimator == "generator":
        raise ValueError("estimator: generator needs the drift of a system, which data do not have; use edmd")
    if koopman.lagged:
        if system.sampling_interval is None or ensemble.lag_time is None:
            raise ValueError(
                f"estimator: {koopman.estimator} needs pairs: give system.sampling_interval and ensemble.lag_time, "
                "or use estimator: dirichlet"
            )
        for key in ("lag_time", "stride"):
            _whole_steps(f"ensemble.{key}", getattr(ensemble, key), system.sampling_interval)
        if config.kswgd is not None and system.mobility is None:
            raise ValueError("transport from recorded trajectories needs system.mobility, or estimator: dirichlet")


def _check_coordinates(config: Config) -> None:
    spec = config.koopman.coordinates
    seen = [spec]
    while hasattr(seen[-1], "of"):
        seen.append(seen[-1].of)
    if any(part.kind == "modes" for part in seen) and config.system.kind != "spde":
        raise ValueError("koopman.coordinates: modes are Laplacian modes, which only an spde has; use identity or pod")
    if spec.kind != "delay":
        return
    if config.koopman.estimator in ("reversible", "dirichlet", "generator"):
        raise ValueError(
            f"koopman.coordinates: a delay embedding is not reversible and has no generator, so estimator: "
            f"{config.koopman.estimator} cannot be used; use estimator: edmd"
        )
    if config.kswgd is not None or config.validation.feynman_kac:
        stage = "kswgd" if config.kswgd is not None else "validation.feynman_kac"
        raise ValueError(f"{stage}: starts from states without a past, which koopman.coordinates: delay needs")


def _check_dictionary(config: Config) -> None:
    """That the dictionary has the derivatives that are asked of it."""
    koopman, spec = config.koopman, config.koopman.dictionary
    if spec.kind not in ("indicator", "splines"):
        return
    transport = config.kswgd is not None
    needs = {  # stage -> whether it takes second derivatives
        "kswgd": transport and config.system.kind != "data",
        f"estimator: {koopman.estimator}": koopman.estimator == "generator",
        "reweight: generator": koopman.reweight == "generator",
    }
    gradients = {"kswgd": transport, f"estimator: {koopman.estimator}": not koopman.lagged}
    for stage, curved in needs.items():
        if spec.kind == "indicator" and (curved or gradients.get(stage, False)):
            raise ValueError(
                f"koopman.dictionary: indicator functions have no gradients, which {stage} needs; use kind: splines"
            )
        if curved and not spec.twice_differentiable:
            raise ValueError(
                f"koopman.dictionary.degree: 1 has no second derivatives, which {stage} needs; use 2 or more"
            )


def _whole_steps(path: str, value: float | None, step: float, unit: str = "the time step") -> None:
    if value is None:
        return
    steps = value / step
    if steps > _MOST_STEPS:
        raise ValueError(f"{path} = {value:g} is {steps:.3g} times {unit} {step:g}; at most {_MOST_STEPS:.3g} can be")
    if abs(steps - round(steps)) > 1e-6 * max(1.0, steps) or (value > 0 and round(steps) < 1):
        raise ValueError(f"{path} = {value:g} is not a multiple of {unit} {step:g}")
