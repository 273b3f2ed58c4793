"""The page of a study: the table of all methods and cases, how they got there, and their particles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from kswgd_hpc.comparison import Row
from kswgd_hpc.report import canvas, page, samples
from kswgd_hpc.report.methods import COLOURS, MEANING, NAMES, TITLES
from kswgd_hpc.report.numbers import NONE, error, number
from kswgd_hpc.report.page import Picture, Section, Table
from kswgd_hpc.studies import StudyPlan

_SHOWN_RATIO = 2.0


def write(ready: StudyPlan, rows: list[Row]) -> Path:
    """Write report.html into the study's directory, in one move. Returns its path."""
    with canvas.style():
        sections = [_summary(ready, rows), _distances(ready, rows), _paths(rows), _costs(rows)]
        sections += samples.sections(ready, rows)
        text = page.render(
            ready.study.title, [s for s in sections if s is not None], Path(ready.path).read_text("utf-8")
        )
    return page.write(ready.directory, text)


def _cases(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row.case for row in rows))


def _statistics(ready: StudyPlan, rows: list[Row]) -> list[str]:
    """Those asked for, of those there are."""
    wanted = ready.study.statistics or list(rows[0].values)
    return [name for name in wanted if all(name in row.values for row in rows)] or list(rows[0].values)


def _summary(ready: StudyPlan, rows: list[Row]) -> Section:
    seeds = len(ready.study.seed_list)
    runs = ready.runs[0].config
    finding = (
        f"{len(_cases(rows))} case{'s' * (len(_cases(rows)) > 1)}, {len(ready.study.methods)} methods, "
        f"{seeds} seed{'s' * (seeds > 1)}; {runs.kswgd.particles} particles, the same start for all methods, at most "
        f"{runs.kswgd.steps} steps each unless said otherwise. Every statistic stands beside its iid floor: the same "
        "between two independent samples of the invariant law."
    )
    return Section(ready.study.title, finding, [])


def _distances(ready: StudyPlan, rows: list[Row]) -> Section:
    names = _statistics(ready, rows)
    parts = [_ratio_picture(rows, names)]
    for case in _cases(rows):
        here = [row for row in rows if row.case == case]
        cells = [(NAMES[row.method], *(_value(row, name) for name in names)) for row in here]
        floor = tuple(f"{number(np.mean(here[0].floors[name]), 3)}" for name in names)
        header = ("method", *(TITLES.get(name, name) for name in names))
        caption = (
            f"{case}. Value ± standard error over the seeds, in brackets times the iid floor. "
            + "; ".join(MEANING[name] for name in names if name in MEANING)
            + "."
        )
        parts.append(Table(header, [*cells, ("iid floor", *floor)], caption))
    ratios = [row.ratio("energy_distance")[0] for row in rows if row.method == "kswgd"]
    finding = (
        "KSWGD ends at "
        + ", ".join(number(ratio, 3) for ratio in ratios)
        + " times the iid floor in energy distance"
        + (f" ({', '.join(_cases(rows))})" if len(ratios) > 1 else "")
        + "."
    )
    return Section("Distance to the invariant law", finding, parts)


def _value(row: Row, name: str) -> str:
    values = np.array(row.values[name])
    spread = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{number(values.mean(), 3)} ± {error(spread)} ({number(row.ratio(name)[0], 3)})"


def _ratio_picture(rows: list[Row], names: list[str]) -> Picture:
    cases = _cases(rows)
    methods = list(dict.fromkeys(row.method for row in rows))
    count = min(len(names), 4)
    figure, axes = canvas.panels(1, count, 3.4, sharey=True)
    for ax, name in zip(axes, names):
        for position, method in enumerate(methods):
            for place, case in enumerate(cases):
                found = [row for row in rows if row.method == method and row.case == case]
                if not found:
                    continue
                ratio, spread = found[0].ratio(name)
                y = len(methods) - position + 0.5 * (0.5 - (place + 0.5) / len(cases))
                bar = np.nan_to_num(spread)
                low = ratio - max(ratio - bar, ratio / 10)
                ax.errorbar(
                    ratio,
                    y,
                    xerr=[[low], [bar]],
                    fmt="os^Dv"[place % 5],
                    color=COLOURS[method],
                    markersize=4.5,
                    capsize=2,
                    elinewidth=1,
                )
        ax.axvline(1, color=canvas.BLACK, linewidth=0.8)
        ax.axvline(1.5, color=canvas.BLACK, linewidth=0.8, linestyle=":")
        ax.set_xscale("log")
        ax.set_title(TITLES.get(name, name))
        ax.set_xlabel("times the iid floor")
        ax.set_yticks(range(len(methods), 0, -1), [NAMES[m] for m in methods])
    marks = ", ".join(
        f"{shape} {case}" for shape, case in zip(("circle", "square", "triangle", "diamond", "down"), cases)
    )
    caption = (
        "Each statistic after the run, in units of its iid floor (line; dotted: 1.5 times), with bars of one standard "
        f"error over the seeds. {marks}."
    )
    return Picture(figure, caption)


def _paths(rows: list[Row]) -> Section:
    cases = _cases(rows)
    per_row, columns = canvas.grid(len(cases), 2)
    figure, axes = canvas.panels(per_row, columns, 3.2, sharey=True)
    for ax, case in zip(axes, cases):
        for row in (row for row in rows if row.case == case):
            _draw_path(ax, row)
        ax.axhline(1, color=canvas.BLACK, linewidth=0.8)
        ax.axhline(_SHOWN_RATIO, color=canvas.BLACK, linewidth=0.8, linestyle=":")
        ax.set(xscale="log", yscale="log", xlabel="steps", title=case)
    axes[0].set_ylabel("energy distance / iid floor")
    canvas.blank(axes[len(cases) :])
    canvas.legend_above(figure, axes[0])
    caption = (
        "Energy distance over its iid floor against steps, mean over the seeds; dotted: twice the floor. Steps of "
        "KSWGD are those of the transport, then those of the dynamics in its relaxation. Steps of different methods "
        "cost differently: see the table of costs."
    )
    return Section("How fast", _speed_finding(rows), [Picture(figure, caption), _speed_table(rows)])


def _draw_path(ax: Axes, row: Row) -> None:
    last = min(history[-1, 0] for history in row.histories)
    steps = np.unique(np.concatenate([history[:, 0] for history in row.histories]))
    steps = np.unique(np.append(steps[steps < last], last))
    distance = np.mean([np.interp(steps, history[:, 0], history[:, 2]) for history in row.histories], axis=0)
    style = {"linewidth": 2.0, "zorder": 5} if row.method == "kswgd" else {"linewidth": 1.1}
    ax.plot(np.maximum(steps, 1), distance, color=COLOURS[row.method], label=NAMES[row.method], **style)


def _speed_table(rows: list[Row]) -> Table:
    cells = []
    for case in _cases(rows):
        here = {row.method: row for row in rows if row.case == case}
        own = here["kswgd"].to_target
        for method, row in here.items():
            steps, time = row.to_target
            against = [NONE, NONE]
            if method != "kswgd" and np.isfinite(own[0]):
                against = [number(steps / own[0], 3), number(time / own[1], 3) if method == "langevin" else NONE]
            known = row.how if np.isfinite(steps) else f"not reached in {number(row.cost('steps'), 3)}"
            cells.append((f"{case}, {NAMES[method]}", number(steps, 4), number(time, 4), known, *against))
    header = (
        "case, method",
        "steps to twice the floor",
        "time",
        "how known",
        "steps over KSWGD's",
        "time over KSWGD's",
    )
    caption = (
        "Steps and time of each method until the energy distance is twice the iid floor, means over the seeds; "
        "relaxation counts where it was needed. Time is flow time of transports and flows, whose unit is one e-fold of "
        "every mode, simulated time of the dynamics, and of Markov chains it counts steps. Extrapolated: beyond its "
        "end the dynamics is taken to decay with its slowest rate, twice as fast in energy distance, which is a square."
    )
    return Table(header, cells, caption)


def _speed_finding(rows: list[Row]) -> str:
    texts = []
    for case in _cases(rows):
        here = {row.method: row for row in rows if row.case == case}
        if "langevin" not in here or not np.isfinite(here["kswgd"].to_target[0]):
            continue
        steps = here["langevin"].to_target[0] / here["kswgd"].to_target[0]
        if np.isfinite(steps):
            word = " (extrapolated)" if here["langevin"].how == "extrapolated" else ""
            texts.append(f"{number(steps, 3)}{word} at {case}")
    if not texts:
        return "Steps until the energy distance is twice the iid floor."
    return f"Langevin's steps to twice the floor over those of KSWGD: {', '.join(texts)}."


def _costs(rows: list[Row]) -> Section:
    cells = [
        (
            f"{row.case}, {NAMES[row.method]}",
            number(row.cost("steps"), 4),
            number(row.cost("simulated_time"), 3) if row.cost("simulated_time") else NONE,
            number(row.cost("seconds"), 3),
            number(row.cost("data_seconds"), 3),
            number(row.cost("gradient_calls"), 3),
            number(row.cost("data_gradient_calls"), 3),
            number(row.cost("data_used"), 4),
        )
        for row in rows
    ]
    header = (
        "case, method",
        "steps",
        "simulated time",
        "seconds",
        "seconds for data",
        "gradient calls",
        "for data",
        "states used",
    )
    caption = (
        "Steps of the whole run, and the time that each particle was simulated for by the dynamics on its way; "
        "processor seconds over all ranks, calls of drift or score, and what the data cost that a method learns from: "
        "the ensemble of the run. KSWGD's seconds are those of Galerkin sums, spectrum, transport and relaxation."
    )
    own = [row.cost("seconds") for row in rows if row.method == "kswgd"]
    finding = f"KSWGD took {number(float(np.mean(own)), 3)} processor seconds a run, without its data."
    return Section("Costs", finding, [Table(header, cells, caption)])
