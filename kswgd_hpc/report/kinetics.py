"""Implied timescales against lag, the Chapman-Kolmogorov test, and singular values."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from kswgd_hpc.report import canvas
from kswgd_hpc.report.numbers import count, error, number, symbol
from kswgd_hpc.report.page import Picture, Section, Table
from kswgd_hpc.report.view import Run

_SHOWN = 5
_COLOURS = (canvas.BLUE, canvas.VERMILION, canvas.GREEN, canvas.PURPLE, canvas.ORANGE)
_TABLE_ROWS = 10


def timescales(run: Run) -> Section | None:
    """Timescales of the slow modes at many lags, and the decay of their autocorrelations."""
    if "koopman/implied_timescales/rates" not in run.data:
        return None
    figure, (left, right) = canvas.panels(1, 2, 3.6)
    _draw_timescales(left, run)
    _draw_test(right, run)
    canvas.legend_above(figure, left)
    caption = (
        "Left: implied timescales 1/Re λₖ(τ) against the lag τ, with bars of two standard errors; in the grey area a "
        "timescale is shorter than the lag. They level off where the modes are resolved; timescales that still grow "
        "with the lag belong to functions that are no eigenfunctions. Right: autocorrelation of each mode at multiples "
        "of the lag (points, with bars of two standard errors of the difference) against the power of that at the lag "
        "itself (lines), the Chapman-Kolmogorov test; of complex modes the absolute value."
    )
    return Section("Timescales against lag", _finding(run), [Picture(figure, caption)])


def _group(run: Run, name: str) -> dict[str, np.ndarray]:
    path = f"koopman/{name}/"
    return {key.removeprefix(path): value for key, value in run.data.items() if key.startswith(path)}


def _distinct(rates: np.ndarray) -> list[int]:
    """Columns to show, of a conjugate pair the first alone."""
    shown: list[int] = []
    for k, value in enumerate(rates):
        if not (shown and abs(value.imag) > 0 and np.isclose(value, np.conj(rates[shown[-1]]))):
            shown.append(k)
    return shown[:_SHOWN]


def _draw_timescales(ax: Axes, run: Run) -> None:
    found = _group(run, "implied_timescales")
    times, rates, errors = found["lag_times"], found["rates"], found["errors"]
    # fast modes are lost in the noise of long lags: a mode is named by the first lag at which it is known
    known = np.isfinite(rates.real)
    first = np.array([rates[np.argmax(column), k] for k, column in enumerate(known.T)])
    for colour, k in zip(_COLOURS, [k for k in _distinct(first) if known[:, k].any()]):
        rate = rates[:, k].real
        scale = np.where(rate > 0, 1 / rate, np.nan)
        # from the interval of the rate: that of a timescale is not symmetric
        low, high = (
            np.where(bound > 0, 1 / bound, np.nan) for bound in (rate + 2 * errors[:, k], rate - 2 * errors[:, k])
        )
        bars = np.nan_to_num([scale - low, np.where(np.isfinite(high), high, 3 * scale) - scale])
        ax.errorbar(times, scale, bars, color=colour, marker="o", markersize=4, capsize=3, label=f"mode {k + 1}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    canvas.plain_logarithm(ax.xaxis)
    canvas.plain_logarithm(ax.yaxis)
    low, high = ax.get_ylim()
    ax.fill_between(times, low, times, color=canvas.GREY, alpha=0.3, linewidth=0)
    ax.set_ylim(low, high)
    ax.set_xlabel("lag τ  [time]")
    ax.set_ylabel("timescale 1/Re λₖ  [time]")


def _draw_test(ax: Axes, run: Run) -> None:
    test = _group(run, "chapman_kolmogorov")
    times, predicted, estimated = test["lag_times"], test["predicted"], test["estimated"]
    rates = -np.log(predicted[0].astype(complex)) / times[0]
    fine = np.linspace(0, times[-1], 200)
    for colour, k in zip(_COLOURS, _distinct(rates)):
        ax.plot(fine, np.exp(-rates[k].real * fine), color=colour, linewidth=1)
        bars = 2 * np.nan_to_num(test["error"][:, k])
        values = np.abs(estimated[:, k]) if abs(rates[k].imag) > 1e-9 * abs(rates[k]) else estimated[:, k].real
        ax.errorbar(times, values, bars, color=colour, fmt="o", markersize=4, capsize=3)
    ax.axhline(0, color=canvas.BLACK, linewidth=0.6)
    ax.set_xlabel("time")
    ax.set_ylabel("autocorrelation")


def _finding(run: Run) -> str:
    found, test = _group(run, "implied_timescales"), _group(run, "chapman_kolmogorov")
    slowest = found["rates"][:, 0].real
    known = np.flatnonzero(np.isfinite(slowest) & (slowest > 0))
    text = "No timescale stands above the noise at any lag. "
    if len(known):
        first, last = known[0], known[-1]
        text = (
            f"The slowest timescale is {number(1 / slowest[first], 3)} at lag {number(found['lag_times'][first], 3)} "
            f"and {number(1 / slowest[last], 3)} at lag {number(found['lag_times'][last], 3)}. "
        )
    score = _scores(test)
    if not score.size:
        return text + "No longer lag was left to test the modes at."
    worst = np.unravel_index(np.argmax(score), score.shape)
    within = int((score <= 2).sum())
    return text + (
        f"Chapman-Kolmogorov test: {within} of {score.size} autocorrelations lie within two standard errors of the "
        f"powers; the largest difference is {number(score.max(), 2)} standard errors (mode {worst[1] + 1})."
    )


def _scores(test: dict[str, np.ndarray]) -> np.ndarray:
    """(lags, modes) differences of the test in standard errors, the lag of the pairs itself left out."""
    spread = np.where(test["error"] > 0, test["error"], np.inf)
    return np.nan_to_num(np.abs(test["estimated"] - test["predicted"]) / spread)[1:]


def singular_values(run: Run) -> Section | None:
    """Singular values of the Koopman operator between the laws of the two ends of the pairs, and VAMP scores."""
    if "koopman/singular_values" not in run.data:
        return None
    values, errors = run.data["koopman/singular_values"][1:], run.data["koopman/singular_values_error"][1:]
    rows = [(symbol("σ", k + 1), number(values[k]), error(errors[k])) for k in range(min(len(values), _TABLE_ROWS))]
    tables = [Table(("", "singular value", "standard error"), rows, "The constant function has the singular value 1.")]
    scores = [(name, f"vamp/score_{name}", f"vamp/held_out_{name}") for name in ("vamp1", "vamp2", "vampe")]
    rows = []
    for name, own, held in scores:
        other, spread = run.data.get(f"koopman/{held}", np.nan), run.data.get(f"koopman/{held}_error", np.nan)
        label = f"VAMP-{name[4:].upper()}"
        rows.append((label, number(float(run.data[f"koopman/{own}"])), number(float(other)), error(float(spread))))
    header = ("score", "on all trajectories", "on held-out ones", "standard error")
    caption = (
        "Scores of the singular functions, the constant one included. VAMP-E of held-out trajectories falls where the "
        "dictionary fits noise; compare it between dictionaries."
    )
    tables.append(Table(header, rows, caption))
    text = f"The largest of {count(len(values), 'singular value')} is {number(values[0])} ± {error(errors[0])}."
    return Section("Singular values", text, tables)
