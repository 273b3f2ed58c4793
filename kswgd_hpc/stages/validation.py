"""Predictions of the spectrum beside their references."""

from __future__ import annotations

from typing import Any

import numpy as np

from kswgd_hpc import feynman_kac
from kswgd_hpc.checkpoint import Checkpoint
from kswgd_hpc.config import Config
from kswgd_hpc.plan import (
    Plan,
    estimator_for,
    most_modes,
)
from kswgd_hpc.progress import Progress
from kswgd_hpc.references import reference
from kswgd_hpc.spectrum import Space, Spectrum
from kswgd_hpc.stages.koopman import lag_of


def validate(
    comm, config: Config, plan: Plan, spectrum: Spectrum, space: Space, progress: Progress, checkpoint: Checkpoint
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for case in plan.cases:
        with progress.stage(f"validation {case.name}", 1) as stage:
            prediction, rates = feynman_kac.predict(
                case,
                spectrum,
                space,
                estimator_for(config),
                config.seed,
                most_modes(config, space.sums.size),
                lag_of(config),
            )
            found_otherwise = reference(
                comm, case, config, plan, None, None, stage, checkpoint.stage(f"validation {case.name}")
            )
            largest = np.max(np.abs(prediction - found_otherwise.values) / np.maximum(found_otherwise.errors, 1e-300))
            stage.note = f"largest difference {largest:.1f} errors of the reference ({found_otherwise.method})"
        path = f"feynman_kac/{case.name}"
        found |= {
            f"{path}/times": np.array(case.times),
            f"{path}/koopman": prediction,
            f"{path}/reference": found_otherwise.values,
            f"{path}/reference_error": found_otherwise.errors,
            f"{path}/rates": rates,
            f"{path}/method": found_otherwise.method,
        }
        found |= {f"{path}/reference_details/{key}": value for key, value in found_otherwise.details.items()}
    return found
