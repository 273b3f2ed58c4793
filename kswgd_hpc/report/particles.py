"""Transport: the particles before and after against the ensemble, and how the flow converged."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from kswgd_hpc.report import canvas
from kswgd_hpc.report.numbers import count, error, number
from kswgd_hpc.report.page import Picture, Section, Table
from kswgd_hpc.report.view import Law, Run

_MARGINALS = 4
_FEWEST_BINS, _MOST_BINS = 12, 60


def laws(run: Run) -> Section:
    """Where the particles started, where they arrived, and where the ensemble is; without particles, the ensemble."""
    if run.interval is not None:
        parts = [_field_picture(run)]
    elif run.dimension == 2 and run.system is None:
        parts = [_plane_picture(run)]
    else:
        parts = [_marginal_picture(run)]
    parts.append(_moment_table(run))
    if len(run.laws) == 1:
        states = len(run.data["ensemble/sample"])
        return Section("The ensemble", f"{count(states, 'state')} of the ensemble were kept.", parts)
    if (distances := _distance_table(run)) is not None:
        parts.insert(1, distances)
    return Section("Particles before and after", _distance_finding(run), parts)


def _metric(run: Run, name: str) -> float:
    return float(run.data.get(f"kswgd/metrics/energy_distance_{name}", np.nan))


def _distance_table(run: Run) -> Table | None:
    floor = _metric(run, "floor")
    if not np.isfinite(floor):
        return None
    rows = [
        (law.label, number(_metric(run, law.name), 3), number(_metric(run, law.name) / floor, 3))
        for law in run.laws[:-1]
    ]
    rows.append(("iid floor", f"{number(floor, 3)} ± {error(_metric(run, 'floor_deviation'))}", "1"))
    return Table(
        ("particles", "energy distance", "times the floor"),
        rows,
        "Energy distance to the invariant law, the ensemble weighted by the generator. The floor is that between "
        "two independent samples of the ensemble of the "
        "same size, ± the standard deviation of single values: a distance within that cannot be told from "
        "independent draws.",
    )


def _distance_finding(run: Run) -> str:
    floor = _metric(run, "floor")
    if not np.isfinite(floor):
        return "The ensemble has too few states to judge the particles by."
    steps = ", ".join(f"{number(_metric(run, law.name) / floor, 3)} ({law.label})" for law in run.laws[:-1])
    return f"Energy distance to the invariant law in units of the iid floor: {steps}."


def _scalars(run: Run) -> list[tuple[str, list[np.ndarray]]]:
    """Named scalars of the states, for each law (n,): the spatial means of fields, or the first components."""
    if run.system is not None:
        means = [run.spatial_means(law.states) for law in run.laws]
        return [(f"spatial mean of {name}", [of_law[name] for of_law in means]) for name in run.system.names]
    return [(run.component(i), [law.states[:, i] for law in run.laws]) for i in range(min(run.dimension, _MARGINALS))]


def _moment_table(run: Run) -> Table:
    rows = []
    for name, samples in _scalars(run):
        for law, values in zip(run.laws, samples):
            spread = 0.0 if _is_point(values) else values.std()
            cells = (number(values.mean()), number(spread), number(100 * np.mean(values > 0), 3))
            rows.append((f"{name}, {law.label}", *cells))
    return Table(("quantity", "mean", "standard deviation", "% above zero"), rows, "Moments of the laws in the figure.")


def _is_point(values: np.ndarray) -> bool:
    """Whether all rows of (n,) or (n, d) values are the same, up to rounding."""
    return bool(np.ptp(values, axis=0).max() <= 1e-9 * np.abs(values).max())


def _histograms(ax: Axes, run: Run, samples: list[np.ndarray], label: str) -> None:
    """Densities of one scalar under each law; a law that is a point is a vertical line."""
    low, high = np.quantile(np.concatenate(samples), [0.0005, 0.9995])
    low, high = (low, high) if high > low else (low - 0.5, low + 0.5)
    bins = 1.5 * np.sqrt(min(len(values) for values in samples))
    edges = np.linspace(low, high, int(np.clip(bins, _FEWEST_BINS, _MOST_BINS)) + 1)
    heights = []
    for law, values in zip(run.laws, samples):
        if _is_point(values):
            ax.axvline(values[0], color=law.colour, linestyle="--", label=law.label)
            continue
        density = np.histogram(values, edges)[0] / (len(values) * np.diff(edges))
        heights.append(0.0 if law.name == "initial" else density.max())
        ax.stairs(density, edges, label=law.label, **_stairs(law))
    ax.set_xlim(low, high)
    if heights and max(heights) > 0:
        ax.set_ylim(0, 1.15 * max(heights))
    ax.set_xlabel(label)


def _stairs(law: Law) -> dict:
    if law.name == "ensemble":
        return {"fill": True, "color": canvas.GREY, "alpha": 0.45, "zorder": 0}
    return {"color": law.colour, "linewidth": 1.4}


def _marginal_picture(run: Run) -> Picture:
    scalars = _scalars(run)
    rows, columns = canvas.grid(len(scalars), 2)
    figure, axes = canvas.panels(rows, columns, 2.7)
    for ax, (name, samples) in zip(axes, scalars):
        _histograms(ax, run, samples, name)
    axes[0].set_ylabel("density")
    canvas.blank(axes[len(scalars) :])
    if len(run.laws) > 1:
        canvas.legend_above(figure, axes[0])
    shown = "each component"
    if run.dimension > _MARGINALS:
        shown = f"the first {len(scalars)} of {run.dimension} components"
    return Picture(figure, f"Densities of {shown}.{_particle_caption(run)}")


def _particle_caption(run: Run) -> str:
    """How to read histograms of particles, where there are any."""
    if len(run.laws) == 1:
        return ""
    return (
        " Lines are the particles, the grey area is the weighted ensemble: the last line should follow its edge. The "
        "vertical axis fits the ensemble and the transported particles, and cuts a start law that is narrower; a "
        "dashed line is a start in one point."
    )


def _plane_picture(run: Run) -> Picture:
    figure, axes = canvas.panels(1, max(3, len(run.laws)), 2.9, sharex=True, sharey=True)
    ensemble = run.laws[-1].states
    others = np.concatenate([np.quantile(law.states, [0.01, 0.99], axis=0) for law in run.laws])
    low = np.minimum(ensemble.min(axis=0), others.min(axis=0))
    high = np.maximum(ensemble.max(axis=0), others.max(axis=0))
    margin = np.where(high > low, 0.03 * (high - low), 1.0)
    low, high = low - margin, high + margin
    shown = min(len(law.states) for law in run.laws)
    for ax, law in zip(axes, run.laws):
        x, y = law.states[np.arange(shown) * len(law.states) // shown].T
        colour = canvas.BLACK if law.name == "ensemble" else law.colour
        ax.scatter(x, y, s=4, color=colour, alpha=0.45, linewidths=0, rasterized=True)
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel=run.component(0), title=law.label)
    axes[0].set_ylabel(run.component(1))
    canvas.blank(axes[len(run.laws) :])
    caption = f"{count(shown, 'state')} of the ensemble."
    if len(run.laws) > 1:
        caption = (
            f"{count(shown, 'state')} each of the particles at the start, of the particles afterwards, and of the "
            "ensemble, on the same axes: the last two clouds should look alike."
        )
    return Picture(figure, caption)


def _field_picture(run: Run) -> Picture:
    figure, (left, right) = canvas.panels(1, 2, 3.3)
    name, samples = _scalars(run)[0]
    _histograms(left, run, samples, name)
    left.set_ylabel("density")
    _draw_correlations(right, run)
    if len(run.laws) > 1:
        canvas.legend_above(figure, left)
    where = "averaged over translations" if run.interval.boundary == "periodic" else "with the midpoint x₀"
    caption = f"Left: density of the spatial mean.{_particle_caption(run)} Right: two-point covariance {where}"
    if len(run.laws) > 1:
        caption += (
            "; the band is two standard errors of the last particle law, within which the dashed curve of the ensemble "
            "should lie; a start in one point has none"
        )
    return Picture(figure, caption + ".")


def _draw_correlations(ax: Axes, run: Run) -> None:
    """Two-point covariance of each law that is not a point."""
    for law in run.laws:
        if _is_point(law.states):
            continue
        x, curve, deviation = two_point_covariance(run, law.states)
        colour = canvas.BLACK if law.name == "ensemble" else law.colour
        ax.plot(x, curve, color=colour, linestyle="--" if law.name == "ensemble" else "-")
        if len(run.laws) > 1 and law is run.laws[-2]:
            ax.fill_between(x, curve - 2 * deviation, curve + 2 * deviation, color=colour, alpha=0.2, linewidth=0)
    periodic = run.interval.boundary == "periodic"
    ax.set_xlabel("distance r  [length]" if periodic else "x  [length]")
    ax.set_ylabel("cov(u(x), u(x + r))" if periodic else "cov(u(x₀), u(x))")


def two_point_covariance(run: Run, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two-point covariance of fields.

    Returns
    -------
    x : positions, or distances up to half the length of a periodic domain
    curve, deviation : covariance there, and its standard error for independent states
    """
    fields, grid = run.fields(states), run.interval.grid
    if run.interval.boundary == "periodic":
        points = len(grid)
        spectrum = np.fft.rfft(fields - fields.mean(), axis=1)
        products = np.fft.irfft(np.abs(spectrum) ** 2, points, axis=1)[:, : points // 2 + 1] / points
        x = np.arange(points // 2 + 1) * run.interval.spacing
    else:
        centred = fields - fields.mean(axis=0)
        products = centred * centred[:, [len(grid) // 2]]
        x = grid
    return x, products.mean(axis=0), products.std(axis=0) / np.sqrt(len(products))


def convergence(run: Run) -> Section | None:
    """How the resolved modes of the particles approached those of independent draws."""
    if "kswgd/history/time" not in run.data:
        return None
    time, means = run.data["kswgd/history/time"], run.data["kswgd/history/mode_means"]
    excess = len(run.data["kswgd/particles"]) * (means**2).sum(axis=1)
    floor = float(run.data["kswgd/floor"])
    figure, (left, right) = canvas.panels(1, 2, 3.2)
    _draw_excess(left, time, excess, floor)
    _draw_steps(right, time[1:], run.data["kswgd/history/step_size"], run.data["kswgd/history/displacement"])
    caption = (
        "Left: N Σ mₖ², with mₖ the mean of eigenfunction k over the N particles, against flow time. Independent "
        "draws of the invariant law lie below the dashed floor r + 2√(2r). Near the invariant law every mode decays "
        "alike, with the slope of the dotted line, whatever its rate in the dynamics. Right: size of each step in "
        "flow time, and the largest move of a particle in it, in standard deviations of the ensemble."
    )
    ended = "below" if bool(run.data["kswgd/converged"]) else "NOT below"
    finding = (
        f"N Σ mₖ² over {count(means.shape[1], 'mode')} went from {number(excess[0], 3)} to {number(excess[-1], 3)} "
        f"in flow time {number(time[-1], 3)} and {count(len(time) - 1, 'step')}, {ended} the floor of "
        f"{number(floor, 3)}."
    )
    return Section("Convergence of the transport", finding, [Picture(figure, caption)])


def _draw_excess(ax: Axes, time: np.ndarray, excess: np.ndarray, floor: float) -> None:
    ax.semilogy(time, excess, color=canvas.BLUE, marker=".", markersize=4, label="particles")
    ax.axhline(floor, color=canvas.BLACK, linestyle="--", linewidth=1, label="floor of independent draws")
    low, high = min(excess.min(), floor) / 3, 3 * max(excess.max(), floor)
    ax.plot(time, excess[0] * np.exp(-2 * time), color=canvas.VERMILION, linestyle=":", label="slope exp(−2t)")
    ax.set_ylim(low, high)
    ax.set_xlabel("flow time t")
    ax.set_ylabel("N Σ mₖ²")
    ax.legend()


def _draw_steps(ax: Axes, time: np.ndarray, step: np.ndarray, displacement: np.ndarray) -> None:
    ax.semilogy(time, step, color=canvas.BLUE, label="step size")
    ax.semilogy(time, displacement, color=canvas.ORANGE, label="largest displacement")
    canvas.whole_decades(ax)
    ax.set_xlabel("flow time t")
    ax.set_ylabel("flow time,  standard deviations")
    ax.legend()
