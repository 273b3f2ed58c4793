"""A piece of one trajectory: space-time picture of a field, time series of a state in few dimensions."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from kswgd_hpc.report import canvas
from kswgd_hpc.report.numbers import count, number
from kswgd_hpc.report.page import Picture, Section
from kswgd_hpc.report.view import Run

_SHOWN_COMPONENTS = 4
_MOST_CELLS = 512
_FEWEST_RECORDS = 4
_SNAPSHOTS = 4


def trajectory(run: Run) -> Section | None:
    """The first records of trajectory 0."""
    path = run.data.get("ensemble/path")
    if path is None or len(path) < _FEWEST_RECORDS:
        return None
    times = np.arange(len(path)) * float(run.data["ensemble/path_interval"])
    if run.interval is not None:
        return _field(run, times, run.fields(path))
    if run.system is not None:
        return _snapshots(run, times, path)
    return _series(run, times, path)


def _time_label(run: Run) -> str:
    """Records that are not taken as pairs have a number and no time."""
    timeless = run.config is not None and run.config.system.kind == "data" and run.config.ensemble.lag_time is None
    return "record" if timeless else "time"


def _field(run: Run, times: np.ndarray, fields: np.ndarray) -> Section:
    mean = fields.sum(axis=1) * (run.interval.spacing / run.interval.length)
    caption = (
        "Space-time picture of one trajectory after the burn-in, and the spatial mean of the same trajectory; time "
        "runs to the right in both, from the first record kept."
    )
    found = (
        f"Over a time of {number(times[-1])} one trajectory crosses zero in the spatial mean "
        f"{count(_crossings(mean), 'time')}, and its values lie between {number(fields.min(), 3)} and "
        f"{number(fields.max(), 3)}."
    )
    return Section("A trajectory", found, [Picture(_field_figure(run, times, fields, mean), caption)])


def _crossings(series: np.ndarray) -> int:
    return int((np.diff(np.sign(series)) != 0).sum())


def _field_figure(run: Run, times: np.ndarray, fields: np.ndarray, mean: np.ndarray) -> Figure:
    figure, (above, below) = canvas.panels(2, 1, 2.4, sharex=True, height_ratios=[2, 1])
    canvas.image_panel(above)
    thin = max(1, fields.shape[1] // _MOST_CELLS)
    low, high = np.quantile(fields, [0.002, 0.998])
    if low < 0 < high:
        high = max(-low, high)
        limits = {"cmap": canvas.DIVERGING, "vmin": -high, "vmax": high}
    else:
        limits = {"cmap": "viridis", "vmin": low, "vmax": high}
    mesh = above.pcolormesh(
        times, run.interval.grid[::thin], fields[:, ::thin].T, shading="nearest", rasterized=True, **limits
    )
    above.set_ylabel("x  [length]")
    figure.colorbar(mesh, ax=above, label="u(x, t)", extend="both", pad=0.01)
    below.plot(times, mean, color=canvas.BLUE, linewidth=1)
    below.axhline(0, color=canvas.BLACK, linewidth=0.6)
    below.set_ylabel("spatial mean of u")
    below.set_xlabel("time")
    return figure


def _snapshots(run: Run, times: np.ndarray, path: np.ndarray) -> Section:
    """Fields in the plane, or cuts through them, at a few times, and spatial means against time."""
    domain, name = run.system.domain, run.system.names[0]
    fields = np.split(run.fields(path), len(run.system.names), axis=1)[0].reshape(-1, *domain.grid_shape)
    chosen = np.linspace(0, len(times) - 1, _SNAPSHOTS).astype(int)
    figure, rows = canvas.panels(2, _SNAPSHOTS, 2.4, height_ratios=[1.3, 1])
    axes = np.array(rows).reshape(2, _SNAPSHOTS)
    limit = float(np.abs(fields[chosen]).max()) or 1.0
    for ax, index in zip(axes[0], chosen):
        field = fields[index]
        x = domain.axes[0].grid
        if domain.dimensions == 1:
            ax.plot(x, field, color=canvas.BLUE, linewidth=1)
            ax.set_ylim(-limit, limit)
        else:
            canvas.image_panel(ax)
            cut = field if domain.dimensions == 2 else field[:, :, field.shape[2] // 2]
            ax.pcolormesh(
                x, domain.axes[1].grid, cut.T, cmap=canvas.DIVERGING, vmin=-limit, vmax=limit, shading="nearest",
                rasterized=True,
            )  # fmt: skip
        ax.set_title(f"t = {number(times[index], 3)}", fontsize="small")
        ax.set_xlabel("x")
    grid = axes[1, 0].get_gridspec()
    for ax in axes[1]:
        ax.remove()
    below = figure.add_subplot(grid[1, :])
    means = run.spatial_means(path)
    for (field, mean), colour in zip(means.items(), (canvas.BLUE, canvas.ORANGE)):
        below.plot(times, mean, color=colour, linewidth=1, label=field)
    below.set_xlabel("time")
    below.set_ylabel("spatial mean")
    if len(means) > 1:
        below.legend()
    cut = " in the plane halfway along z" if domain.dimensions == 3 else ""
    caption = f"{name} at {_SNAPSHOTS} times of one trajectory{cut}, and the spatial mean against time."
    low, high = number(fields.min(), 3), number(fields.max(), 3)
    found = f"Over a time of {number(times[-1])} the values of {name} lie between {low} and {high}."
    return Section("A trajectory", found, [Picture(figure, caption)])


def _series(run: Run, times: np.ndarray, path: np.ndarray) -> Section:
    shown = min(path.shape[1], _SHOWN_COMPONENTS)
    figure, axes = canvas.panels(shown, 1, 1.4 if shown > 1 else 2.6, sharex=True)
    for i, ax in enumerate(axes):
        ax.plot(times, path[:, i], color=canvas.BLUE, linewidth=1)
        ax.set_ylabel(run.component(i))
    label = _time_label(run)
    axes[-1].set_xlabel(label)
    caption = f"The first records of one trajectory against {label}."
    if path.shape[1] > shown:
        caption += f" {shown} of {path.shape[1]} components are shown."
    ranges = "; ".join(
        f"{run.component(i)} between {number(path[:, i].min(), 3)} and {number(path[:, i].max(), 3)}"
        for i in range(shown)
    )
    return Section(
        "A trajectory", f"{count(len(path), 'record')} of one trajectory: {ranges}.", [Picture(figure, caption)]
    )
