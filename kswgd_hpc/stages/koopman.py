"""The spectrum that was asked for, that of the transport, and the certificates of their rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kswgd_hpc.checkpoint import Keeping
from kswgd_hpc.config import Config
from kswgd_hpc.coordinates import linear_part
from kswgd_hpc.dictionary import CombinedDictionary
from kswgd_hpc.estimators import ESTIMATORS, Estimator
from kswgd_hpc.galerkin import Sums
from kswgd_hpc.heldout import Problem, resolved_modes
from kswgd_hpc.plan import (
    Plan,
    estimator_for,
    matrices_for,
    most_modes,
)
from kswgd_hpc.progress import Progress
from kswgd_hpc.records import Sample
from kswgd_hpc.restarts import Dynamics, certify, horizon_steps
from kswgd_hpc.reweighting import Density
from kswgd_hpc.spectrum import Space, Spectrum, solve
from kswgd_hpc.stationary import StationaryMeans, correct

_RESTARTS = 4096
_RESTARTS_CERTIFIED = 32768
_RESTART_NUMBERS = 2**26


def lag_of(config: Config) -> float:
    """The lag time, or the unit of time where there is none."""
    return config.ensemble.lag_time or 1.0


def solved(config: Config, plan: Plan, sums: Sums, estimator: Estimator) -> tuple[Spectrum, Space]:
    """The spectrum with the modes that were asked for, or with those that hold on held-out trajectories. Collective."""
    pairs, koopman = plan.ensemble.pairing, config.koopman
    problem = Problem(
        estimator,
        lag_of(config),
        most_modes(config, sums.size),
        koopman.regularization,
        pairs.stride / max(pairs.lag, 1),
        koopman.petsc_options,
    )
    spectrum, space = solve(sums, **vars(problem))
    if koopman.modes == "auto":
        needed = {*estimator.matrices, "ends", "cross", "c0"}
        names = tuple(name for name in matrices_for(config, plan) if name in needed)
        spectrum = spectrum.kept(resolved_modes(spectrum, sums, names, problem))
    return spectrum, space


def transport_spectrum(config: Config, plan: Plan, sums: Sums) -> tuple[Spectrum, StationaryMeans | None]:
    """The spectrum that moves particles, that of the Dirichlet form, and the stationary correction. Collective.

    Of all functions in the dictionary its potential kappa has the least energy mean |grad kappa|_M^2. Eigenfunctions
    from time lags are as good in their values, but nothing penalises sampling noise in their gradients, which transport
    multiplies by mobility over rate: on the metastable Allen-Cahn interval particles were thrown off their valley.
    """
    spectrum, space = solved(config, plan, sums, ESTIMATORS["dirichlet"])
    return spectrum, correct(space, spectrum) if "flux" in sums.matrices else None


def kept(config: Config, spectrum: Spectrum) -> str:
    if config.koopman.modes == "auto":
        hint = "" if len(spectrum.rates) > 1 else ": raise koopman.regularization, or take fewer functions"
        return f"{len(spectrum.rates)} of the modes hold on held-out trajectories{hint}"
    return f"{len(spectrum.rates)} modes kept, {spectrum.rejected} no more than noise"


def restart_count(config: Config, plan: Plan) -> int:
    """States from which the dynamics are restarted for certificates: more where residuals are wanted, whose noise falls
    with the fourth root of their number."""
    if plan.system is None or config.koopman is None or config.koopman.coordinates.kind == "delay":
        return 0  # nothing to restart, or states with a past
    wanted = _RESTARTS_CERTIFIED if config.koopman.certify else _RESTARTS * config.koopman.time_step_error
    return min(wanted, max(64, _RESTART_NUMBERS // plan.ensemble.dimension))


def step_errors(spectrum: Spectrum, certificates: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray] | None:
    """Function of rates (q,) to the errors (q,) that the time step leaves in them; None where nothing is known of it.

    Between the rates of the spectrum they are interpolated, beyond the last they grow with the rate.
    """
    known = certificates.get("koopman/rates_time_step_error")
    if known is None:
        return None
    rates, errors = np.abs(spectrum.rates), np.nan_to_num(known)
    order = np.argsort(rates)
    rates, errors = rates[order], errors[order]

    def errors_of(others: np.ndarray) -> np.ndarray:
        size = np.abs(others)
        return np.interp(size, rates, errors) * np.maximum(1.0, size / rates[-1])

    return errors_of


def certificates_of(
    config: Config,
    plan: Plan,
    spectrum: Spectrum,
    space: Space,
    states: list[np.ndarray],
    progress: Progress,
    keeping: Keeping,
) -> dict[str, Any]:
    """Time-step errors and true residuals of the rates. Collective."""
    if not restart_count(config, plan) or len(spectrum.rates) < 2:
        return {}
    estimator, stepper = estimator_for(config), plan.ensemble.stepper
    dynamics = Dynamics(
        stepper,
        plan.system.stepper(stepper.time_step / 2, config.ensemble.scheme),
        plan.system.drift,
        plan.mobility,
        config.seed,
        horizon_steps(spectrum, estimator, lag_of(config), stepper.time_step),
    )
    with progress.stage("certificates", len(states)) as tick:
        time_step, residuals = certify(
            space, spectrum, estimator, dynamics, states, config.koopman.certify, tick, keeping
        )
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


def say_rates(progress: Progress, spectrum: Spectrum, certificates: dict[str, Any]) -> None:
    time_step = certificates.get("koopman/rates_time_step_error", np.full(len(spectrum.rates), np.nan))
    progress.record(
        "rates",
        rates=spectrum.rates,
        rates_error=spectrum.rates_error,
        residuals=spectrum.residuals,
        time_step_error=time_step,
    )
    for k in range(1, min(len(spectrum.rates), 7)):
        rate = spectrum.rates[k]
        value = f"{rate.real:.5g}" + (f" {rate.imag:+.5g}i" if abs(rate.imag) > 1e-12 else "")
        errors = f"+- {spectrum.rates_error[k]:.2g} (sampling)"
        for error, source in ((spectrum.dictionary_error[k], "dictionary"), (time_step[k], "time step")):
            errors += f" +- {error:.2g} ({source})" if np.isfinite(error) else ""
        progress.say(f"  rate {k}: {value} {errors}")


def koopman_datasets(spectrum: Spectrum, config: Config) -> dict[str, Any]:
    found = {
        "koopman/eigenvalues": spectrum.eigenvalues,
        "koopman/rates": spectrum.rates,
        "koopman/rates_error": spectrum.rates_error,
        "koopman/rates_dictionary_error": spectrum.dictionary_error,
        "koopman/residuals": spectrum.residuals,
        "koopman/coefficients": _of_functions(spectrum, spectrum.coefficients),
        "koopman/offsets": spectrum.offsets,
        "koopman/left_coefficients": _of_functions(spectrum, spectrum.left),
        "koopman/left_offsets": spectrum.left_offsets,
        "koopman/noise_floor": spectrum.floor,
        "koopman/rejected": spectrum.rejected,
        "koopman/lag_time": lag_of(config),
        "koopman/coordinate_mean": spectrum.coordinates.mean,
        "koopman/coordinate_scale": spectrum.coordinates.scale,
    }
    matrix = linear_part(spectrum.coordinates.map)
    if matrix is not None:
        found["koopman/coordinate_matrix"] = matrix
    for name, value in spectrum.dictionary.parameters().items():
        found[f"koopman/dictionary/{name}"] = value
    return found


def _of_functions(spectrum: Spectrum, coefficients: np.ndarray) -> np.ndarray:
    """(p, r) coefficients of the dictionary's functions, also where the spectrum's are those of a few combinations."""
    dictionary = spectrum.dictionary
    return dictionary.coefficients @ coefficients if isinstance(dictionary, CombinedDictionary) else coefficients


def weights_datasets(density: Density, states: np.ndarray, sample: Sample) -> dict[str, Any]:
    """What the results keep of the weights, and the weights of the ensemble's sample (n, d)."""
    weights = density(sample.dictionary.values(sample.coordinates.of_rows(states)))
    return {
        "koopman/weight_coefficients": density.scale * density.coefficients,
        "koopman/weight_offset": density.scale * density.offset,
        "koopman/effective_sample_size": density.effective,
        "ensemble/sample_weights": weights / weights.sum(),
    }
