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

_MOST_PANELS = 12


def comparisons(run: Run) -> Section | None:
    """Each prediction beside its reference."""
    names = [name for name in run.data if name.startswith("feynman_kac/") and name.endswith("/koopman")]
    cases = {name.split("/")[1]: _case(run, name.removesuffix("koopman")) for name in names}
    if not cases:
        return None
    shown = list(cases)[:_MOST_PANELS]
    rows, columns = canvas.grid(len(shown), 2)
    figure, axes = canvas.panels(rows, columns, 3.0)
    for ax, name in zip(axes, shown):
        _draw(ax, name, cases[name])
    canvas.blank(axes[len(shown) :])
    caption = (
        "u(t) = E[f(X_t) exp(−∫c ds)], averaged over the start law. The line and its band are the prediction from the "
        "Koopman operator and two errors of its budget, points and their band the reference and two standard errors. "
        + " ".join(_meaning(run, name) for name in shown)
    )
    tables = [_table(name, cases[name]) for name in cases]
    return Section("Feynman-Kac predictions", _finding(cases), [Picture(figure, caption.strip()), *tables])


def _case(run: Run, path: str) -> dict[str, np.ndarray]:
    """Arrays (n,) of one comparison; `score` is the difference in errors of both, NaN where there are none."""
    case = {name: run.data[path + name] for name in ("times", "koopman", "reference", "reference_error")}
    case["koopman_error"] = run.data.get(path + "koopman_error", np.zeros(len(case["times"])))
    both = np.hypot(case["koopman_error"], case["reference_error"])
    case["score"] = (case["koopman"] - case["reference"]) / np.where(both > 0, both, np.nan)
    budget = {cause: run.data[f"{path}budget/{cause}"] for cause in CAUSES if f"{path}budget/{cause}" in run.data}
    extra = {name: run.data.get(path + name, "") for name in ("method", "largest_error", "kind")}
    return case | extra | {"verdict": run.data.get(path + "verdict"), "budget": budget}


def _draw(ax: Axes, name: str, case: dict[str, np.ndarray]) -> None:
    times, value, other = case["times"], case["koopman"], case["reference"]
    wide, bars = 2 * np.nan_to_num(case["koopman_error"]), 2 * np.nan_to_num(case["reference_error"])
    single = len(times) == 1
    ax.fill_between(times, value - wide, value + wide, color=canvas.BLUE, alpha=0.3, linewidth=0)
    ax.fill_between(times, other - bars, other + bars, color=canvas.BLACK, alpha=0.12, linewidth=0)
    ax.errorbar(
        times, value, wide if single else None, color=canvas.BLUE, marker="_", markersize=12, label="prediction"
    )
    points = {"fmt": "o", "color": canvas.BLACK, "markersize": 3.5, "capsize": 3, "elinewidth": 1}
    ax.errorbar(times, other, bars, label=f"reference ({case['method'] or 'unnamed'})", **points)
    if times[-1] > 10 * times[0]:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    ax.set_title(name, parse_math=False)
    if case["kind"] == "principal_eigenvalue":
        ax.set_xticks([])
        ax.set_ylabel("rate")
    else:
        ax.set_xlabel("time t")
        ax.set_ylabel("u(t)")
    ax.legend()


def _meaning(run: Run, name: str) -> str:
    """What a comparison is about, from the configuration."""
    entries = run.config.validation.feynman_kac if run.config is not None else []
    for entry in entries:
        if entry.name == name:
            killing = entry.killing if isinstance(entry.killing, str) else f"{entry.killing:g}"
            if entry.kind == "principal_eigenvalue":
                return f"{name}: smallest eigenvalue of L + c, c = {killing}."
            return f"{name}: f = {entry.observable}, c = {killing}, start {described(entry.initial)}."
    return ""


def _table(name: str, case: dict) -> Table:
    verdict = case["verdict"]
    rows = [
        (
            number(case["times"][i]),
            number(case["koopman"][i]),
            error(case["koopman_error"][i]),
            number(case["reference"][i]),
            error(case["reference_error"][i]),
            f"{case['score'][i]:+.1f}".replace("-", "−") if np.isfinite(case["score"][i]) else NONE,
            NONE if verdict is None else "agree" if verdict[i] else "DISAGREE",
        )
        for i in range(len(case["times"]))
    ]
    header = ("time", "prediction", "error", "reference", "standard error", "difference / error", "verdict")
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
