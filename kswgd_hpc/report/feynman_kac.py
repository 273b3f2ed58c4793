"""Feynman-Kac predictions against their references."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from kswgd_hpc.feynman_kac.budget import CAUSES, REMEDIES
from kswgd_hpc.report import canvas
from kswgd_hpc.report.numbers import NONE, count, error, number
from kswgd_hpc.report.page import Picture, Section, Table
from kswgd_hpc.report.summary import described
from kswgd_hpc.report.view import Run
from kswgd_hpc.schema.validation import FeynmanKac

_MOST_PANELS = 12
_MOST_STARTS = 6
_AXES = {"times": "time t", "values": "time average a"}
_HEADS = {"times": "time", "values": "average"}
_QUANTITIES = {
    "principal_eigenvalue": "rate",
    "rate_function": "I(a)",
    "resolvent": "u",
    "committor": "probability",
    "hitting_probability": "probability",
    "exit_probability": "probability",
    "hitting_time": "time",
    "exit_time": "time",
}


def comparisons(run: Run) -> Section | None:
    """Each prediction beside its reference."""
    names = [name for name in run.data if name.startswith("feynman_kac/") and name.endswith("/koopman")]
    cases = {key: case for name in names for key, case in _curves(run, name.removesuffix("koopman")).items()}
    if not cases:
        return None
    shown = list(cases)[:_MOST_PANELS]
    rows, columns = canvas.grid(len(shown), 2)
    figure, axes = canvas.panels(rows, columns, 3.0)
    for ax, name in zip(axes, shown):
        _draw(ax, name, cases[name])
    canvas.blank(axes[len(shown) :])
    caption = (
        "u(t) = E[f(X_t) exp(−∫c ds) + ∫ g(X_s) exp(−∫c) ds], averaged over the start law, and its relatives. "
        "The line and its band are the prediction from the "
        "Koopman operator and two errors of its budget, points and their band the reference and two standard errors. "
        + " ".join(dict.fromkeys(_meaning(run, cases[name]) for name in shown))
    )
    tables = [_table(name, cases[name]) for name in cases]
    return Section("Feynman-Kac predictions", _finding(cases), [Picture(figure, caption.strip()), *tables])


def _curves(run: Run, path: str) -> dict[str, dict]:
    """The comparisons of an entry by name: one, or one for each initial law where there is a time axis as well."""
    name, case = path.split("/")[1], _case(run, path)
    if case["koopman"].ndim == 1:
        return {name: case}
    found = {}
    for k in range(len(case["koopman"])):
        part = {
            key: value[k] if isinstance(value, np.ndarray) and value.ndim == 2 else value for key, value in case.items()
        }
        part["budget"] = {cause: value[k] for cause, value in case["budget"].items()}
        found[f"{name}, start {k + 1}"] = part | {"start": k}
    return found


def _case(run: Run, path: str) -> dict:
    """Arrays (n,), or (starts, n), of one comparison; `score` is the difference in errors of both, NaN without any.

    axis : its name; places : (n,) numbers along it, or those of the starts
    """
    case = {name: run.data[path + name] for name in ("koopman", "reference", "reference_error")}
    case["koopman_error"] = run.data.get(path + "koopman_error", np.zeros(case["koopman"].shape))
    both = np.hypot(case["koopman_error"], case["reference_error"])
    case["score"] = (case["koopman"] - case["reference"]) / np.where(both > 0, both, np.nan)
    axis = next((axis for axis in _AXES if path + axis in run.data), "start")
    count = np.arange(1.0, 1 + case["koopman"].shape[-1])
    case |= {"axis": axis, "places": run.data.get(path + axis, count), "start": None, "entry": path.split("/")[1]}
    budget = {cause: run.data[f"{path}budget/{cause}"] for cause in CAUSES if f"{path}budget/{cause}" in run.data}
    extra = {name: run.data.get(path + name, "") for name in ("method", "largest_error", "kind")}
    return case | extra | {"verdict": run.data.get(path + "verdict"), "budget": budget}


def _draw(ax: Axes, name: str, case: dict[str, np.ndarray]) -> None:
    places, value, other = case["places"], case["koopman"], case["reference"]
    wide, bars = 2 * np.nan_to_num(case["koopman_error"]), 2 * np.nan_to_num(case["reference_error"])
    single, apart = len(places) == 1, case["axis"] == "start"  # starts are no curve
    if not apart:
        ax.fill_between(places, value - wide, value + wide, color=canvas.BLUE, alpha=0.3, linewidth=0)
        ax.fill_between(places, other - bars, other + bars, color=canvas.BLACK, alpha=0.12, linewidth=0)
    style = {"color": canvas.BLUE, "marker": "_", "markersize": 12, "linestyle": "none" if apart else "-"}
    ax.errorbar(places, value, wide if single or apart else None, label="prediction", **style)
    points = {"fmt": "o", "color": canvas.BLACK, "markersize": 3.5, "capsize": 3, "elinewidth": 1}
    ax.errorbar(places, other, bars, label=f"reference ({case['method'] or 'unnamed'})", **points)
    if case["axis"] == "times" and places[-1] > 10 * places[0]:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    ax.set_title(name, parse_math=False)
    if single:
        ax.set_xticks([])
    elif apart:
        ax.set_xticks(places)
    ax.set_xlabel("" if single else _AXES.get(case["axis"], "start"))
    ax.set_ylabel(_QUANTITIES.get(case["kind"], "u(t)"))
    ax.legend()


def _meaning(run: Run, case: dict) -> str:
    """What a comparison is about, from the configuration."""
    entries = run.config.validation.feynman_kac if run.config is not None else []
    for entry in entries:
        if entry.name == case["entry"]:
            starts = "; ".join(described(start) for start in entry.initials[:_MOST_STARTS])
            more = f" and {len(entry.initials) - _MOST_STARTS} more" if len(entry.initials) > _MOST_STARTS else ""
            where = f", start {starts}{more}" if starts else ""
            return f"{entry.name}: {_described(entry)}{where}."
    return ""


def _described(entry: FeynmanKac) -> str:
    """What an entry asks for, in symbols."""
    killing = entry.killing if isinstance(entry.killing, str) else f"{entry.killing:g}"
    match entry.kind:
        case "principal_eigenvalue":
            return f"smallest eigenvalue of L + c, c = {killing}"
        case "rate_function":
            return f"I(a), rate function of the time average of {entry.observable}"
        case "resolvent":
            return f"(L + c)⁻¹ g, g = {entry.source}, c = {killing}" + ("" if entry.killing else ", g less its mean")
        case "committor":
            return f"probability of reaching {entry.sets.B} before {entry.sets.A}"
    if entry.target is not None or entry.domain is not None:
        what = f"{entry.target} holds" if entry.target is not None else f"{entry.domain} no longer holds"
        return f"{'P(T ≤ t)' if entry.kind.endswith('probability') else 'E[T]'}, T the first time that {what}"
    source = "" if entry.source is None else f", g = {entry.source}"
    return f"f = {0 if entry.observable is None else entry.observable}{source}, c = {killing}"


def _table(name: str, case: dict) -> Table:
    verdict = case["verdict"]
    rows = [
        (
            number(case["places"][i]),
            number(case["koopman"][i]),
            error(case["koopman_error"][i]),
            number(case["reference"][i]),
            error(case["reference_error"][i]),
            f"{case['score'][i]:+.1f}".replace("-", "−") if np.isfinite(case["score"][i]) else NONE,
            NONE if verdict is None else "agree" if verdict[i] else "DISAGREE",
        )
        for i in range(len(case["places"]))
    ]
    header = (
        _HEADS.get(case["axis"], "start"),
        "prediction",
        "error",
        "reference",
        "standard error",
        "difference / error",
        "verdict",
    )
    return Table(header, rows, f"{name}; reference: {case['method']}.{_budget(case)}")


def _budget(case: dict) -> str:
    """What the error of the prediction is made of, at its largest, and what would reduce it."""
    if not case["budget"]:
        return ""
    parts = ", ".join(f"{cause.replace('_', ' ')} {error(np.max(value))}" for cause, value in case["budget"].items())
    cause = case["largest_error"]
    return f" Errors of the prediction, at most: {parts}. The largest is reduced by {REMEDIES[cause]}."


def _finding(cases: dict[str, dict]) -> str:
    scores = np.abs(np.concatenate([case["score"] for case in cases.values()]))
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return f"{count(len(cases), 'prediction')}, with references that have no standard error."
    worst = max(cases, key=lambda name: np.nanmax(np.abs(cases[name]["score"]), initial=0.0))
    wrong = [name for name, case in cases.items() if case["verdict"] is not None and not np.all(case["verdict"])]
    verdict = f" DISAGREE: {', '.join(wrong)}." if wrong else ""
    return (
        f"{int((scores <= 2).sum())} of {len(scores)} predicted values lie within two standard errors of the "
        f"reference; the largest difference is {number(scores.max(), 2)} standard errors ({worst}).{verdict}"
    )
