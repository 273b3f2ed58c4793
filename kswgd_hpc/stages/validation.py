"""Predictions of the Koopman operator beside independent references, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kswgd_hpc import feynman_kac
from kswgd_hpc.checkpoint import Checkpoint
from kswgd_hpc.config import Config
from kswgd_hpc.feynman_kac import Case, Prediction
from kswgd_hpc.feynman_kac.budget import CAUSES, REMEDIES
from kswgd_hpc.feynman_kac.rate_function import Row, check_covered, generating_function, rate_function
from kswgd_hpc.plan import Plan
from kswgd_hpc.progress import Progress
from kswgd_hpc.records import Sample
from kswgd_hpc.references import Reference, account, principal_eigenvalue, reference
from kswgd_hpc.schema.validation import STEADY
from kswgd_hpc.spectrum import Spectrum
from kswgd_hpc.stages.koopman import lag_of

_ERRORS = 3.0  # standard errors within which two numbers agree
_AXES = {"times": "t", "values": "a"}  # of a curve, and as they are printed


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
    def of(cls, values: np.ndarray, errors: np.ndarray, found: Reference) -> Verdict:
        """Of predicted values and their errors; both errors are independent of each other."""
        allowed = _ERRORS * np.hypot(errors, found.errors)
        # the last digits of two calculations
        return cls(values - found.values, allowed + 1e-12 * np.abs(found.values))


def validate(
    comm,
    config: Config,
    plan: Plan,
    spectrum: Spectrum,
    sample: Sample,
    progress: Progress,
    checkpoint: Checkpoint,
    step_error: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, Any]:
    """Predict every row, compute its reference, say whether they agree. Collective.

    Parameters
    ----------
    step_error : function of rates (q,) to the errors (q,) that the time step leaves in them, where it is known
    """
    if not plan.cases:
        return {}
    modes = feynman_kac.reduced(sample.dictionary.size, spectrum.coefficients)
    sample = replace(sample, pairs=not plan.by_generator, weight=None)
    if modes is None:
        sample = feynman_kac.settled(sample, getattr(config.koopman.dictionary, "bandwidth", None) == "auto")
    drift = plan.system.drift if plan.by_generator else None
    features = feynman_kac.Features(sample, modes, plan.smooth, drift, plan.mobility)
    with progress.stage("predictions", 1) as stage:
        predictions = feynman_kac.predict(
            plan.cases, features, lag_of(config), config.koopman.regularization, config.seed, step_error
        )
        stage.note = f"{len(predictions)} rows in the span of {features.size} functions"
    for index, entry in enumerate(config.validation.feynman_kac):
        if entry.kind == "rate_function":
            function = [-predictions[case.name].values[0] for case in plan.cases if case.index == index]
            check_covered(entry, np.array(function))
    found: dict[str, Any] = {}
    for index, entry in enumerate(config.validation.feynman_kac):
        cases = [case for case in plan.cases if case.index == index]
        with progress.stage(f"reference {entry.name}", 1) as stage:
            others = [_reference(comm, config, plan, case, predictions[case.name], checkpoint) for case in cases]
            own = [predictions[case.name] for case in cases]
            made, cost = (sum(some.cost for some in both) for both in (own, others))
            judged = sum(some.budget_cost for some in own)
            stage(1)
            stage.note = (
                f"{others[0].method}, {cost:.3g} processor seconds; prediction {made:.3g} (errors {judged:.3g})"
            )
        # processor seconds differ from run to run: attributes of the results, not datasets
        progress.seconds[f"cpu prediction {entry.name}"] = made
        progress.seconds[f"cpu budget {entry.name}"] = judged
        progress.seconds[f"cpu reference {entry.name}"] = cost
        rows = [Row.of(case, predictions[case.name], other) for case, other in zip(cases, others, strict=True)]
        if entry.kind == "rate_function":
            rows, extra = [rate_function(entry, rows)], generating_function(entry, rows)
            found |= {f"feynman_kac/{entry.name}/{name}": value for name, value in extra.items()}
        _say(progress, entry, rows)
        found |= _datasets(entry, rows)
    return found


def _reference(comm, config: Config, plan: Plan, case: Case, prediction: Prediction, checkpoint) -> Reference:
    """The reference of one curve. Collective."""

    def nobody(_units: int) -> None:
        """The entry is told when all of its curves are there."""

    if case.kind == "principal_eigenvalue":
        return principal_eigenvalue(comm, case, config, plan, case.tolerance, nobody)
    keeping = checkpoint.stage(f"validation {case.name}")
    return reference(comm, case, config, plan, prediction.control, case.tolerance, nobody, keeping)


def _datasets(entry, rows: list[Row]) -> dict[str, Any]:
    """What is kept of an entry: an array has a first axis of curves where `initial` is a list, and one of times."""
    several, axis = isinstance(entry.initial, list), rows[0].axis
    steady = entry.kind in STEADY

    def joined(of: Callable[[Row], np.ndarray]) -> np.ndarray:
        whole = np.stack([of(row) for row in rows])
        return whole[:, 0] if steady else whole if several else whole[0]

    arrays: dict[str, Callable] = {
        "koopman": lambda row: row.values,
        "koopman_error": lambda row: row.budget.total,
        "reference": lambda row: row.reference.values,
        "reference_error": lambda row: row.reference.errors,
        "verdict": lambda row: Verdict.of(row.values, row.budget.total, row.reference).agree,
        **{f"budget/{cause}": lambda row, cause=cause: getattr(row.budget, cause) for cause in CAUSES},
    }
    found = {name: joined(of) for name, of in arrays.items()}
    found |= {} if axis is None else {axis[0]: np.array(axis[1])}
    found |= {"kind": entry.kind, "method": rows[0].reference.method, "largest_error": _largest(rows)}
    found |= {} if entry.kind == "rate_function" else {"rates": rows[0].rates}
    for number, row in enumerate(rows):
        where = f"reference_details/{number + 1}" if several else "reference_details"
        found |= {f"{where}/{key}": value for key, value in row.reference.details.items()}
    return {f"feynman_kac/{entry.name}/{name}": value for name, value in found.items()}


def _largest(rows: list[Row]) -> str:
    """The cause that adds most to the errors, over all curves and times."""
    return max(CAUSES, key=lambda cause: sum(float((getattr(row.budget, cause) ** 2).sum()) for row in rows))


def _say(progress: Progress, entry, rows: list[Row]) -> None:
    """One line for each curve and time, and what would make the predictions better."""
    for number, row in enumerate(rows):
        start = f" start {number + 1}" if len(rows) > 1 else ""
        agree, budget, other = Verdict.of(row.values, row.budget.total, row.reference).agree, row.budget, row.reference
        for i, value in enumerate(row.values):
            what = "" if row.axis is None else f" {_AXES[row.axis[0]]} = {row.axis[1][i]:g}"
            if entry.kind != "expectation":
                what = f" {entry.kind.replace('_', ' ')}" + ("" if entry.kind == "principal_eigenvalue" else what)
            progress.say(
                f"  {entry.name}{start}{what}: predicted {value:.6g} +- {budget.total[i]:.2g}, "
                f"{other.method} {other.values[i]:.6g} +- {other.errors[i]:.2g}: {'agree' if agree[i] else 'DISAGREE'}"
            )
        if took := account(row.reference.details):
            progress.say(f"  {entry.name}{start}: {took}")
    if rejected := max(row.rejected for row in rows):
        progress.say(f"  {entry.name}: {rejected} eigenvalues that grow without cause were left out")
    if entry.kind == "resolvent" and entry.killing == 0:
        progress.say(f"  {entry.name}: nothing is killed, so the source is taken less its mean under the invariant law")
    cause = _largest(rows)
    remedy = "a finer grid of thetas" if (entry.kind, cause) == ("rate_function", "projection") else REMEDIES[cause]
    progress.say(f"  {entry.name}: the largest error is {cause.replace('_', ' ')}; {remedy} reduces it")


def disagreeing(datasets: dict[str, Any]) -> list[str]:
    """Names of the rows that do not agree with their reference at every time."""
    verdicts = {name.split("/")[1]: value for name, value in datasets.items() if name.endswith("/verdict")}
    return [name for name, agree in verdicts.items() if not np.all(agree)]
