"""Feynman-Kac predictions against their references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kswgd_hpc.feynman_kac.budget import CAUSES, REMEDIES
from kswgd_hpc.references.account import account
from kswgd_hpc.report import canvas
from kswgd_hpc.report.numbers import NONE, count, error, number
from kswgd_hpc.report.page import Picture, Section, Table
from kswgd_hpc.report.summary import described
from kswgd_hpc.report.view import Run
from kswgd_hpc.schema.validation import FeynmanKac

_MOST_PANELS = 12
_MOST_STARTS = 6
_HEIGHT = 1.9  # of a panel, in inches, on average
_DECADES = 30.0  # from the least to the greatest value: a logarithmic axis
_AXES = {"times": "time t", "values": "time average a", "thetas": "theta"}  # of curves
_LABELS = {**_AXES, "start": "start", "row": "row"}
_HEADS = {"times": "time", "values": "average", "thetas": "theta", "start": "start", "row": "row"}
_ARRAYS = ("koopman", "koopman_error", "reference", "reference_error", "score", "verdict")
_QUANTITIES = {
    "principal_eigenvalue": "eigenvalue [1/time]",
    "generating_function": "Λ(theta) [1/time]",
    "rate_function": "I(a) [1/time]",
    "resolvent": "u",
    "committor": "probability",
    "hitting_probability": "probability",
    "exit_probability": "probability",
    "hitting_time": "mean time",
    "exit_time": "mean time",
}


def comparisons(run: Run) -> Section | None:
    """Each prediction beside its reference."""
    cases = {key: case for name in _names(run) for key, case in _curves(run, f"feynman_kac/{name}/").items()}
    if not cases:
        return None
    joined = _joined(cases)
    shown = list(joined)[:_MOST_PANELS]
    rows, columns = canvas.grid(len(shown), 2)
    figure, axes = canvas.panels(2 * rows, columns, _HEIGHT, height_ratios=[3, 1] * rows)
    above, below = (axes.reshape(rows, 2, columns)[:, k].ravel() for k in range(2))
    for upper, lower, name in zip(above, below, shown):
        _draw(upper, lower, name, joined[name])
    for left in (above, below):
        canvas.blank(left[len(shown) :])
    canvas.legend_above(figure, above[0])
    caption = (
        "u(t) = E[f(X_t) exp(−∫c ds) + ∫ g(X_s) exp(−∫c) ds], averaged over the start law, and its relatives. "
        "The line and its blue band are the prediction from the Koopman operator and two errors of its budget, points "
        "and their grey band the reference and two standard errors; below, the same less the reference. "
        + " ".join(dict.fromkeys(_meaning(run, entry) for name in shown for entry in joined[name]["entries"]))
    )
    tables = [table for name in joined for table in (_table(name, joined[name]), *_levels(name, joined[name]))]
    return Section("Feynman-Kac predictions", _finding(cases), [Picture(figure, caption.strip()), *tables])


def _names(run: Run) -> list[str]:
    """The entries that there are results of, in the order of the configuration where that is known."""
    found = [name.split("/")[1] for name in run.data if name.startswith("feynman_kac/") and name.endswith("/koopman")]
    order = [entry.name for entry in run.config.validation.feynman_kac] if run.config is not None else []
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def _joined(cases: dict[str, dict]) -> dict[str, dict]:
    """The same with all principal eigenvalues as one comparison: each of them is one number."""
    names = [name for name, case in cases.items() if case["kind"] == "principal_eigenvalue"]
    if len(names) < 2:
        return cases
    parts = [cases[name] for name in names]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in _ARRAYS}
    budget = {cause: np.concatenate([part["budget"][cause] for part in parts]) for cause in parts[0]["budget"]}
    worst = max(parts, key=lambda part: float(part["koopman_error"].max()))
    whole |= {"details": {}, "axis": "row", "places": np.arange(1.0, 1 + len(names)), "labels": names, "budget": budget}
    whole |= {"method": ", ".join(dict.fromkeys(part["method"] for part in parts)), "kind": worst["kind"]}
    whole |= {"largest_error": worst["largest_error"], "entries": [part["entries"][0] for part in parts]}
    found: dict[str, dict] = {}
    for name, case in cases.items():
        found |= {"principal eigenvalues": whole} if name in names else {name: case}
    return found


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
        part["details"] = _within(case["details"], f"{k + 1}/")
        found[f"{name}, start {k + 1}"] = part
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
    case |= {
        "axis": axis,
        "places": run.data.get(path + axis, count),
        "details": _within(run.data, f"{path}reference_details/"),
        "entries": [path.split("/")[1]],
    }
    budget = {cause: run.data[f"{path}budget/{cause}"] for cause in CAUSES if f"{path}budget/{cause}" in run.data}
    extra = {name: run.data.get(path + name, "") for name in ("method", "largest_error", "kind")}
    verdict = run.data.get(path + "verdict", np.full(case["koopman"].shape, None))
    return case | extra | {"verdict": verdict, "budget": budget}


def _within(data: Mapping, path: str) -> dict:
    """The data below a path, by the rest of their names."""
    return {name.removeprefix(path): value for name, value in data.items() if name.startswith(path)}


def _draw(upper: Axes, lower: Axes, name: str, case: dict) -> None:
    """A comparison, and below it what prediction and reference differ by."""
    places, value, other = case["places"], case["koopman"], case["reference"]
    wide, bars = 2 * np.nan_to_num(case["koopman_error"]), 2 * np.nan_to_num(case["reference_error"])
    curve = len(places) > 1 and case["axis"] in _AXES
    for ax, base in ((upper, np.zeros(len(places))), (lower, other)):
        if curve:
            low, high = value - base - wide, value - base + wide
            ax.fill_between(places, low, high, color=canvas.BLUE, alpha=0.3, linewidth=0)
            ax.fill_between(
                places, other - base - bars, other - base + bars, color=canvas.BLACK, alpha=0.12, linewidth=0
            )
        style = {"color": canvas.BLUE, "marker": "_", "markersize": 12, "linestyle": "-" if curve else "none"}
        ax.errorbar(places, value - base, None if curve else wide, label="prediction", **style)
        points = {"fmt": "o", "color": canvas.BLACK, "markersize": 3.5, "capsize": 3, "elinewidth": 1}
        ax.errorbar(places, other - base, bars, label="reference", **points)
    upper.sharex(lower)
    upper.tick_params(labelbottom=False)
    _scales(upper, lower, case)
    upper.set_title(f"{name} ({case['method'] or 'unnamed reference'})", parse_math=False)
    upper.set_ylabel(_QUANTITIES.get(case["kind"], "u(t)" if case["axis"] == "times" else "u"))
    lower.set_ylabel("difference")


def _scales(upper: Axes, lower: Axes, case: dict) -> None:
    """Marks and scales: logarithmic where times or values run over decades."""
    places, both = case["places"], np.concatenate([case["koopman"], case["reference"]])
    if case["axis"] == "times" and places[-1] > 10 * places[places > 0][0]:
        lower.set_xscale("log", nonpositive="mask")
        canvas.plain_logarithm(lower.xaxis)
    elif case["axis"] not in _AXES or len(places) == 1:
        lower.set_xlim(places[0] - 0.5, places[-1] + 0.5)
        lower.set_xticks(places, case.get("labels", [""] if len(places) == 1 else [f"{place:g}" for place in places]))
    if case["axis"] == "times" and both.min() > 0 and both.max() > _DECADES * both.min():
        upper.set_yscale("log")
        upper.set_ylim(both.min() / 2, 2 * both.max())
    lower.set_xlabel(_LABELS.get(case["axis"], "") if len(places) > 1 else "")
    lower.yaxis.set_major_locator(MaxNLocator(3))
    lower.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))


def _meaning(run: Run, name: str) -> str:
    """What an entry is about, from the configuration."""
    entries = run.config.validation.feynman_kac if run.config is not None else []
    for entry in entries:
        if entry.name == name:
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
        case "generating_function":
            return f"Λ, scaled cumulant generating function of the time average of {entry.observable}"
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
            case["labels"][i] if "labels" in case else number(case["places"][i]),
            number(case["koopman"][i]),
            error(case["koopman_error"][i]),
            number(case["reference"][i]),
            error(case["reference_error"][i]),
            f"{case['score'][i]:+.1f}".replace("-", "−") if np.isfinite(case["score"][i]) else NONE,
            NONE if verdict[i] is None else "agree" if verdict[i] else "DISAGREE",
        )
        for i in range(len(case["places"]))
    ]
    header = (
        _HEADS[case["axis"]],
        "prediction",
        "error",
        "reference",
        "standard error",
        "difference / error",
        "verdict",
    )
    took = f" {account(case['details'])}." if "paths" in case["details"] and account(case["details"]) else ""
    return Table(header, rows, f"{name}; reference: {case['method']}.{took}{_budget(case)}")


def _levels(name: str, case: dict) -> Iterator[Table]:
    """What multilevel Monte Carlo took, level by level, and for each tolerance on the way."""
    details = case["details"]
    if "level_samples" not in details:
        return
    columns = ("level_time_step", "level_dimension", "level_samples", "level_cost", "level_mean", "level_variance")
    rows = [[number(float(np.max(np.abs(value)))) for value in level] for level in zip(*(details[c] for c in columns))]
    header = ("time step", "dimension", "samples", "random numbers a sample", "largest |mean|", "largest variance")
    yield Table(header, rows, f"{name}: levels of the reference. {account(details)}.")
    columns = ("tolerances", "tolerance_costs", "tolerance_plain_costs")
    rows = [[number(float(value)) for value in row] for row in zip(*(details[c] for c in columns))]
    header = ("tolerance", "random numbers", "of plain paths")
    yield Table(header, rows, f"{name}: cost of the tolerances on the way, and of plain paths with the finest step.")


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
    wrong = [name for name, case in cases.items() if any(agree is not None and not agree for agree in case["verdict"])]
    verdict = f" DISAGREE: {', '.join(wrong)}." if wrong else ""
    return (
        f"{int((scores <= 2).sum())} of {len(scores)} predicted values lie within two standard errors of the "
        f"reference; the largest difference is {number(scores.max(), 2)} standard errors ({worst}).{verdict}"
    )
