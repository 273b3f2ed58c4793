"""Predictions of the Koopman operator beside independent references, and whether they agree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kswgd_hpc import feynman_kac
from kswgd_hpc.checkpoint import Checkpoint
from kswgd_hpc.config import Config
from kswgd_hpc.feynman_kac import Prediction
from kswgd_hpc.feynman_kac.budget import CAUSES, REMEDIES
from kswgd_hpc.plan import Plan
from kswgd_hpc.progress import Progress
from kswgd_hpc.records import Sample
from kswgd_hpc.references import Reference, principal_eigenvalue, reference
from kswgd_hpc.spectrum import Spectrum
from kswgd_hpc.stages.koopman import lag_of

_ERRORS = 3.0  # standard errors within which two numbers agree


@dataclass(frozen=True)
class Verdict:
    """Whether prediction and reference agree at each time.

    difference : (times,); allowed : (times,) three errors of both together; agree : (times,)
    """

    difference: np.ndarray
    allowed: np.ndarray

    @property
    def agree(self) -> np.ndarray:
        """(times,) whether the difference is allowed."""
        return np.abs(self.difference) <= self.allowed

    @classmethod
    def of(cls, prediction: Prediction, found: Reference) -> Verdict:
        """Errors are independent of each other."""
        allowed = _ERRORS * np.hypot(prediction.budget.total, found.errors)
        # the last digits of two calculations
        return cls(prediction.values - found.values, allowed + 1e-12 * np.abs(found.values))


def validate(
    comm, config: Config, plan: Plan, spectrum: Spectrum, sample: Sample, progress: Progress, checkpoint: Checkpoint
) -> dict[str, Any]:
    """Predict every row, compute its reference, say whether they agree. Collective."""
    if not plan.cases:
        return {}
    modes = feynman_kac.reduced(sample.dictionary.size, spectrum.coefficients)
    sample = replace(sample, pairs=not plan.by_generator, weight=None)
    drift = plan.system.drift if plan.by_generator else None
    features = feynman_kac.Features(sample, modes, plan.smooth, drift, plan.mobility)
    with progress.stage("predictions", 1) as stage:
        predictions = feynman_kac.predict(
            plan.cases, features, lag_of(config), config.koopman.regularization, config.seed
        )
        stage.note = f"{len(predictions)} rows in the span of {features.size} functions"
    found: dict[str, Any] = {}
    for case in plan.cases:
        prediction = predictions[case.name]
        with progress.stage(f"reference {case.name}", 1) as stage:
            keeping = checkpoint.stage(f"validation {case.name}")
            if case.kind == "principal_eigenvalue":
                other = principal_eigenvalue(comm, case, config, plan, case.tolerance, stage)
            else:
                other = reference(comm, case, config, plan, prediction.control, case.tolerance, stage, keeping)
            stage.note = f"{other.method}, {other.cost:.3g} processor seconds; prediction {prediction.cost:.3g}"
        # processor seconds differ from run to run: attributes of the results, not datasets
        progress.seconds[f"cpu prediction {case.name}"] = prediction.cost
        progress.seconds[f"cpu reference {case.name}"] = other.cost
        verdict = Verdict.of(prediction, other)
        _say(progress, case, prediction, other, verdict)
        found |= _datasets(case, prediction, other, verdict)
    return found


def _datasets(case, prediction: Prediction, other: Reference, verdict: Verdict) -> dict[str, Any]:
    budget = prediction.budget
    found = {
        "times": np.array(case.times)[-len(prediction.values) :],
        "kind": case.kind,
        "koopman": prediction.values,
        "koopman_error": budget.total,
        "reference": other.values,
        "reference_error": other.errors,
        "method": other.method,
        "rates": prediction.rates,
        "verdict": verdict.agree,
        "largest_error": budget.largest,
        **{f"budget/{cause}": getattr(budget, cause) for cause in CAUSES},
        **{f"reference_details/{key}": value for key, value in other.details.items()},
    }
    return {f"feynman_kac/{case.name}/{name}": value for name, value in found.items()}


def _say(progress: Progress, case, prediction: Prediction, other: Reference, verdict: Verdict) -> None:
    """One line for each time, and what would make the prediction better."""
    budget = prediction.budget
    for i, time in enumerate(case.times[-len(prediction.values) :]):
        word = "agree" if verdict.agree[i] else "DISAGREE"
        what = f"t = {time:g}" if case.kind == "expectation" else "principal eigenvalue"
        progress.say(
            f"  {case.name} {what}: predicted {prediction.values[i]:.6g} +- {budget.total[i]:.2g}, "
            f"{other.method} {other.values[i]:.6g} +- {other.errors[i]:.2g}: {word}"
        )
    if prediction.rejected:
        progress.say(f"  {case.name}: {prediction.rejected} eigenvalues that grow without cause were left out")
    cause = budget.largest
    progress.say(f"  {case.name}: the largest error is {cause.replace('_', ' ')}; {REMEDIES[cause]} reduces it")


def disagreeing(datasets: dict[str, Any]) -> list[str]:
    """Names of the rows that do not agree with their reference at every time."""
    verdicts = {name.split("/")[1]: value for name, value in datasets.items() if name.endswith("/verdict")}
    return [name for name, agree in verdicts.items() if not np.all(agree)]
