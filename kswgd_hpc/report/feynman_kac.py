"""Feynman-Kac predictions against their references."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

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
        "u(t) = E[f(X_t) exp(−∫c ds)], averaged over the start law. Lines are predictions from the spectrum, points "
        "the "
        "reference with bars of two standard errors. " + " ".join(_meaning(run, name) for name in shown)
    )
    tables = [_table(name, cases[name]) for name in cases]
    return Section("Feynman-Kac predictions", _finding(cases), [Picture(figure, caption.strip()), *tables])


def _case(run: Run, path: str) -> dict[str, np.ndarray]:
    """Arrays (n,) of one comparison; `score` is the difference in standard errors of the reference, NaN without one."""
    case = {name: run.data[path + name] for name in ("times", "koopman", "reference", "reference_error")}
    deviation = np.where(case["reference_error"] > 0, case["reference_error"], np.nan)
    score = (case["koopman"] - case["reference"]) / deviation
    return case | {"score": score, "method": run.data.get(path + "method", "")}


def _draw(ax: Axes, name: str, case: dict[str, np.ndarray]) -> None:
    times = case["times"]
    bars = 2 * np.nan_to_num(case["reference_error"])
    ax.plot(times, case["koopman"], color=canvas.BLUE, marker="_", markersize=12, label="prediction")
    points = {"fmt": "o", "color": canvas.BLACK, "markersize": 3.5, "capsize": 3, "elinewidth": 1}
    ax.errorbar(times, case["reference"], bars, label="reference, 2 s.e.", **points)
    if times[-1] > 10 * times[0]:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    ax.set_title(name, parse_math=False)
    ax.set_xlabel("time t")
    ax.set_ylabel("u(t)")
    ax.legend()


def _meaning(run: Run, name: str) -> str:
    """What a comparison is about, from the configuration."""
    entries = run.config.validation.feynman_kac if run.config is not None else []
    for entry in entries:
        if entry.name == name:
            killing = entry.killing if isinstance(entry.killing, str) else f"{entry.killing:g}"
            return f"{name}: f = {entry.observable}, c = {killing}, start {described(entry.initial)}."
    return ""


def _table(name: str, case: dict) -> Table:
    rows = [
        (
            number(case["times"][i]),
            number(case["koopman"][i]),
            number(case["reference"][i]),
            error(case["reference_error"][i]),
            f"{case['score'][i]:+.1f}".replace("-", "−") if np.isfinite(case["score"][i]) else NONE,
        )
        for i in range(len(case["times"]))
    ]
    header = ("time", "prediction", "reference", "standard error", "difference / s.e.")
    return Table(header, rows, f"{name}; reference: {case['method']}.")


def _finding(cases: dict[str, dict]) -> str:
    scores = np.abs(np.concatenate([case["score"] for case in cases.values()]))
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return f"{count(len(cases), 'prediction')}, with references that have no standard error."
    worst = max(cases, key=lambda name: np.nanmax(np.abs(cases[name]["score"]), initial=0.0))
    return (
        f"{int((scores <= 2).sum())} of {len(scores)} predicted values lie within two standard errors of the "
        f"reference; the largest difference is {number(scores.max(), 2)} standard errors ({worst})."
    )
