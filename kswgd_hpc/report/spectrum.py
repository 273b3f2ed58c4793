"""Rates with their errors, and eigenfunctions."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from kswgd_hpc.report import canvas
from kswgd_hpc.report.numbers import NONE, complex_number, count, error, number, symbol
from kswgd_hpc.report.page import Picture, Section, Table
from kswgd_hpc.report.view import Run

_SHOWN_RATES = 20
_TABLE_ROWS = 10
_SHOWN_FUNCTIONS = 6
_GRID = 160

_ERRORS = ("rates_error", "rates_dictionary_error")
_BROAD = {"fmt": "none", "ecolor": canvas.ORANGE, "elinewidth": 7, "alpha": 0.75}
_THIN = {"fmt": "none", "ecolor": canvas.BLACK, "elinewidth": 1, "capsize": 3}
_POINT = {"color": canvas.BLUE, "markersize": 5}
_BARS = (
    "Thin black bars are one standard error of sampling, broad orange bars the change when half the dictionary is "
    "left out; a bar that is not seen is smaller than its point. "
)
_REAL_CAPTION = "Rates λₖ at which the modes decay, by their number k. " + _BARS
_LIMIT_CAPTION = "Above the dashed line, −log(noise floor) / lag, modes cannot be told from sampling noise."
_COMPLEX_CAPTION = (
    "Rates λₖ in the complex plane: the real part is the rate of decay, the imaginary part the angular frequency. "
    + _BARS
)


def rates(run: Run) -> Section | None:
    """Decay rates of the slow modes with sampling and dictionary errors."""
    if "koopman/rates" not in run.data:
        return None
    if len(run.rates) < 2:
        return Section("Rates", "No mode stands above the sampling noise: more data or a shorter lag are needed.", [])
    shown = slice(1, _SHOWN_RATES + 1)
    values = run.rates[shown]
    sampling, dictionary = (_finite(run.data[f"koopman/{name}"][shown]) for name in _ERRORS)
    if _is_complex(values):
        picture = Picture(_complex_figure(values, sampling, dictionary), _COMPLEX_CAPTION)
    else:
        limit = _resolution(run)
        limit = limit if limit < 2 * values.real.max() else np.nan
        caption = _REAL_CAPTION + (_LIMIT_CAPTION if np.isfinite(limit) else "")
        picture = Picture(_real_figure(values.real, sampling, dictionary, limit), caption)
    table = _rates_table(run, values[:_TABLE_ROWS], sampling, dictionary)
    return Section("Rates", _rates_finding(run, sampling, dictionary), [picture, table])


def _finite(errors: np.ndarray) -> np.ndarray:
    """Errors, NaN where there is none."""
    return np.where(np.isfinite(errors), errors, np.nan)


def _is_complex(values: np.ndarray) -> bool:
    return bool(np.abs(values.imag).max() > 1e-9 * np.abs(values).max())


def _resolution(run: Run) -> float:
    """The largest rate that the noise floor of mu allows, NaN where there is no floor."""
    floor = float(run.data["koopman/noise_floor"])
    return -np.log(floor) / float(run.data["koopman/lag_time"]) if 0 < floor < 1 else np.nan


def _real_figure(values, sampling, dictionary, limit: float) -> Figure:
    figure, (ax,) = canvas.panels(1, 1, 3.6)
    k = np.arange(1, len(values) + 1)
    ax.errorbar(k, values, dictionary, label="dictionary error", **_BROAD)
    ax.errorbar(k, values, sampling, label="sampling error", **_THIN)
    ax.plot(k, values, "o", label="rate", **_POINT)
    lowest, highest = values.min(), values.max()
    if lowest > 0 and highest > 20 * lowest:
        ax.set_yscale("log")
        ax.set_ylim(lowest / 2, highest * 2.5)
    else:
        top = np.fmax(np.max(values + np.nan_to_num(sampling)), limit)
        ax.set_ylim(min(0.0, 1.2 * lowest), 1.15 * top)
    if np.isfinite(limit):
        ax.axhline(limit, color=canvas.GREY, linestyle="--", label="noise limit")
    ax.set_xlim(0.4, max(len(values), 6) + 0.6)
    ax.set_xticks(np.arange(1, max(len(values), 6) + 1))
    ax.set_xlabel("mode k")
    ax.set_ylabel("rate λₖ  [1/time]")
    canvas.legend_above(figure, ax)
    return figure


def _complex_figure(values, sampling, dictionary) -> Figure:
    figure, (ax,) = canvas.panels(1, 1, 4.2)
    x, y = values.real, values.imag
    ax.errorbar(x, y, dictionary, dictionary, label="dictionary error", **_BROAD)
    ax.errorbar(x, y, sampling, sampling, label="sampling error", **_THIN)
    ax.plot(x, y, "o", label="rate", **_POINT)
    ax.plot(0, 0, "o", markerfacecolor="white", markeredgecolor=canvas.BLUE, markersize=5, label="constant mode")
    height = 1.35 * max(np.abs(y).max(), 1e-12)
    ax.set_ylim(-height, height)
    ax.set_xlim(-0.05 * x.max(), 1.12 * x.max())
    ax.set_xlabel("Re λ  [1/time]")
    ax.set_ylabel("Im λ  [1/time]")
    canvas.legend_above(figure, ax)
    return figure


def _rates_table(run: Run, values, sampling, dictionary) -> Table:
    header = ["k", "rate λₖ [1/time]", "time scale 1/Re λₖ", "sampling error", "dictionary error"]
    shown = slice(1, len(values) + 1)
    time_step, residuals, spurious = (
        run.data[f"koopman/{name}"][shown] if f"koopman/{name}" in run.data else None
        for name in ("rates_time_step_error", "true_residuals", "spurious")
    )
    header += ["time-step error"] * (time_step is not None) + ["true residual"] * (residuals is not None)
    if oscillates := _is_complex(values):
        header.append("period 2π/|Im λₖ|")
    rows = []
    for k, value in enumerate(values):
        errors = [error(sampling[k]), error(dictionary[k])]
        if time_step is not None:
            errors.append(error(time_step[k]))
        if residuals is not None:
            errors.append(error(residuals[k]) + (" (spurious)" if spurious[k] else ""))
        row = [str(k + 1), complex_number(value), number(1 / value.real if value.real > 0 else np.nan), *errors]
        if oscillates:
            turning = abs(value.imag) > 1e-9 * abs(value)
            row.append(number(2 * np.pi / abs(value.imag)) if turning else NONE)
        rows.append(row)
    caption = "The slowest modes. A dash stands for what could not be estimated, or does not apply."
    if residuals is not None:
        caption += (
            " The true residual |Kφ − μφ| / |φ| comes from two independent successors of each state; a mode is "
            "spurious where it is beyond |μ| / 2."
        )
    return Table(header, rows, caption)


def _rates_finding(run: Run, sampling: np.ndarray, dictionary: np.ndarray) -> str:
    slowest = run.rates[1]
    text = f"The slowest mode has rate {complex_number(slowest)}"
    time_step = run.data.get("koopman/rates_time_step_error", [0.0, np.nan])[1]
    for deviation, source in ((sampling[0], "sampling"), (dictionary[0], "dictionary"), (time_step, "time step")):
        text += f" ± {error(deviation)} ({source})" if np.isfinite(deviation) else ""
    text += " per unit of time"
    text += f", a time scale of {number(1 / slowest.real, 3)}. " if slowest.real > 0 else ". "
    text += _gap(run.rates[1:].real)
    if "koopman/spurious" in run.data and run.data["koopman/spurious"].any():
        names = ", ".join(str(k) for k in np.flatnonzero(run.data["koopman/spurious"]))
        text += f"By their true residuals these modes are spurious: {names}. "
    if rejected := int(run.data["koopman/rejected"]):
        text += f"{count(rejected, 'further mode')} of those asked for could not be told from sampling noise."
    return text.strip()


def _gap(values: np.ndarray) -> str:
    """The largest ratio of consecutive rates, where it separates slow from fast."""
    values = values[:_SHOWN_RATES]
    if len(values) < 2 or values[0] <= 0:
        return ""
    ratios = values[1:] / values[:-1]
    k = int(np.argmax(ratios))
    if ratios[k] < 2.5:
        return ""
    modes = "the first mode is slow" if k == 0 else f"the first {k + 1} modes are slow"
    return f"The next after mode {k + 1} is {number(ratios[k], 2)} times as fast: {modes}. "


def eigenfunctions(run: Run) -> Section | None:
    """Slow eigenfunctions over the states that the ensemble visits."""
    if not run.has_eigenfunctions:
        return None
    modes = _distinct(run.rates[1 : _SHOWN_FUNCTIONS + 2])[:_SHOWN_FUNCTIONS]
    if plane(run):
        return _maps(run, modes)
    return _profiles(run, modes)


def plane(run: Run) -> bool:
    """Whether states are points of a plane that the ensemble fills."""
    return run.dimension == 2 and run.system is None and bool(np.ptp(run.sample, axis=0).all())


def _distinct(values: np.ndarray) -> list[int]:
    """Numbers of modes, of a conjugate pair the first alone."""
    modes = []
    for k, value in enumerate(values, 1):
        conjugate = modes and abs(value.imag) > 0 and np.isclose(value, np.conj(values[modes[-1] - 1]))
        if not conjugate:
            modes.append(k)
    return modes


def _faces(run: Run, modes: list[int], states: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Real functions to show with their labels: of a complex eigenfunction both parts."""
    values, faces = run.eigenfunctions(states, modes[-1] + 1), []
    for k in modes:
        column, label = values[:, k], f"λ = {complex_number(run.rates[k], 3)}"
        if abs(run.rates[k].imag) > 1e-9 * abs(run.rates[k]):
            faces.append((f"Re {symbol('φ', k)},  {label}", column.real))
            faces.append((f"Im {symbol('φ', k)},  {label}", column.imag))
        else:
            faces.append((f"{symbol('φ', k)},  {label}", column.real))
    return faces[:_SHOWN_FUNCTIONS]


def _profiles(run: Run, modes: list[int]) -> Section:
    """Eigenfunctions against one coordinate of the states."""
    faces = _faces(run, modes, run.sample)
    x, label = leading_coordinate(run, faces[0][1])
    described = f"the {label}" if run.system is not None else label
    rows, columns = canvas.grid(len(faces))
    figure, axes = canvas.panels(rows, columns, 2.7 if rows > 1 else 3.2)
    for ax, (title, values) in zip(axes, faces):
        ax.scatter(x, values, s=3, color=canvas.BLUE, alpha=0.35, linewidths=0, rasterized=True)
        ax.axhline(0, color=canvas.BLACK, linewidth=0.6)
        low, high = np.quantile(values, [0.001, 0.999])
        if high > low:
            ax.set_ylim(low - 0.15 * (high - low), high + 0.15 * (high - low))
        ax.set_title(title)
        ax.set_xlabel(label)
    canvas.blank(axes[len(faces) :])
    finding = _share(*faces[0])
    if run.dimension > 1:
        explained = _explained(x, faces[0][1])
        finding += (
            f" {number(100 * explained, 3)} % of the variance of {symbol('φ', modes[0])} is a function of {described}."
        )
    caption = (
        f"Eigenfunctions, of unit norm, at {count(len(x), 'state')} of the ensemble against {described}. A thin "
        "curve says that the mode depends on this coordinate alone, a cloud that it lives on others; plateaus are "
        "metastable sets and the steep part between them is the transition region. The axes leave out one state in "
        "a thousand at either end."
    )
    return Section("Eigenfunctions", finding, [Picture(figure, caption)])


def leading_coordinate(run: Run, phi: np.ndarray) -> tuple[np.ndarray, str]:
    """Spatial mean of the first field; else the component that a function of the states (n,) goes with most."""
    if run.system is not None:
        name = run.system.names[0]
        return run.spatial_means(run.sample)[name], f"spatial mean of {name}"
    centred = run.sample - run.sample.mean(axis=0)
    scale = np.maximum(np.sqrt((centred**2).mean(axis=0)), 1e-300)
    chosen = int(np.argmax(np.abs((phi - phi.mean()) @ centred) / scale))
    return run.sample[:, chosen], run.component(chosen)


def _explained(x: np.ndarray, phi: np.ndarray, bins: int = 40) -> float:
    """Fraction of the variance of phi that its means over bins of equal weight in x explain."""
    parts = np.array_split(phi[np.argsort(x, kind="stable")], min(bins, max(1, len(x) // 20)))
    within = sum(((part - part.mean()) ** 2).sum() for part in parts)
    return 1 - within / max(((phi - phi.mean()) ** 2).sum(), 1e-300)


def _maps(run: Run, modes: list[int]) -> Section:
    """Eigenfunctions of a plane as coloured maps, where the ensemble has been."""
    low, high = np.quantile(run.sample, [0.001, 0.999], axis=0)
    margin = 0.06 * (high - low)
    x, y = np.linspace(low - margin, high + margin, _GRID).T
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    far = _far(points / (high - low), run.sample / (high - low))
    faces = _faces(run, modes, points)
    rows, columns = canvas.grid(len(faces))
    figure, axes = canvas.panels(rows, columns, 3.0)
    for ax, (title, values) in zip(axes, faces):
        _map(ax, x, y, np.ma.array(values, mask=far).reshape(_GRID, _GRID))
        ax.set_title(title)
        ax.set_xlabel(run.component(0))
        ax.set_ylabel(run.component(1))
    canvas.blank(axes[len(faces) :])
    caption = (
        "Eigenfunctions, of unit norm, over the part of the plane that the ensemble visits; the black line is zero. "
        "What distinguishes regions of one colour from those of the other is forgotten at the rate λ."
    )
    first = _faces(run, modes[:1], run.sample)[0]
    return Section("Eigenfunctions", _share(*first), [Picture(figure, caption)])


def _share(title: str, values: np.ndarray) -> str:
    """On how much of the ensemble a function is positive."""
    return f"{title.split(',')[0]} is positive on {number(100 * np.mean(values > 0), 3)} % of the ensemble."


def _far(points: np.ndarray, states: np.ndarray) -> np.ndarray:
    """(m,) whether fewer than three of the states (n, 2) are near a point (m, 2), distances in units of the extent."""
    neighbours = min(3, len(states))
    return cKDTree(states).query(points, k=[neighbours])[0][:, 0] > 0.05


def _map(ax: Axes, x: np.ndarray, y: np.ndarray, values: np.ma.MaskedArray) -> None:
    canvas.image_panel(ax)
    largest = np.quantile(np.abs(values.compressed()), 0.98)
    mesh = ax.pcolormesh(x, y, values, cmap=canvas.DIVERGING, vmin=-largest, vmax=largest, rasterized=True)
    if values.min() < 0 < values.max():
        ax.contour(x, y, values, levels=[0], colors=canvas.BLACK, linewidths=0.8)
    ax.figure.colorbar(mesh, ax=ax, extend="both", pad=0.02)
