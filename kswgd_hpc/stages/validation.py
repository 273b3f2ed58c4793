"""Predictions of the spectrum beside their references."""

from __future__ import annotations

from typing import Any

import numpy as np

from kswgd_hpc import feynman_kac
from kswgd_hpc.config import Config
from kswgd_hpc.parallel import local
from kswgd_hpc.plan import (
    Plan,
    estimator_for,
    most_modes,
)
from kswgd_hpc.progress import Progress
from kswgd_hpc.spectrum import Space, Spectrum
from kswgd_hpc.stages.koopman import lag_of


def validate(comm, config: Config, plan: Plan, spectrum: Spectrum, space: Space, progress: Progress) -> dict[str, Any]:
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
                lag_of(config),
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
