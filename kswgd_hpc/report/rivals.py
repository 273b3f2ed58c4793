"""The transport beside its rivals: distances, histories and costs of one run."""

from __future__ import annotations

import numpy as np

from kswgd_hpc.report import canvas
from kswgd_hpc.report.methods import COLOURS, MEANING, NAMES, TITLES
from kswgd_hpc.report.numbers import NONE, error, number
from kswgd_hpc.report.page import Picture, Section, Table
from kswgd_hpc.report.view import Run

_COMPARISON, _BASELINES, _FLOOR = "kswgd/comparison/", "kswgd/baselines/", "kswgd/comparison/floor/"


def rivals(run: Run) -> Section | None:
    """Every method's particles against the reference; nothing where they were not judged."""
    if f"{_COMPARISON}sample" not in run.data:
        return None
    statistics = [name.removeprefix(_FLOOR) for name in run.data if name.startswith(_FLOOR)]
    methods = list(dict.fromkeys(n.split("/")[2] for n in run.data if n.startswith(_BASELINES)))
    parts: list = [_statistics(run, statistics, methods)]
    if methods:
        parts += [_history(run, methods), _costs(run, methods)]
    ratio = float(run.data[f"{_COMPARISON}kswgd/energy_distance"] / run.data[f"{_FLOOR}energy_distance"])
    finding = (
        f"The transported particles end at {number(ratio, 3)} times the iid floor in energy distance; "
        f"reference: {run.data[f'{_COMPARISON}reference']}."
    )
    return Section("KSWGD and its rivals" if methods else "Particles and the invariant law", finding, parts)


def _statistics(run: Run, statistics: list[str], methods: list[str]) -> Table:
    def cells(label: str, inside: str) -> tuple[str, ...]:
        values = [(float(run.data[inside + name]), float(run.data[_FLOOR + name])) for name in statistics]
        return (label, *(f"{number(v, 3)} ({number(v / f, 3) if f else NONE})" for v, f in values))

    rows = [cells("start", f"{_COMPARISON}initial/"), cells("KSWGD, transported", f"{_COMPARISON}transported/")]
    rows.append(cells("KSWGD", f"{_COMPARISON}kswgd/"))
    rows += [cells(NAMES[name], f"{_BASELINES}{name}/metrics/") for name in methods]
    spread = [float(run.data[f"{_COMPARISON}floor_deviation/{name}"]) for name in statistics]
    floors = [f"{number(float(run.data[_FLOOR + n]), 3)} ± {error(s)}" for n, s in zip(statistics, spread)]
    caption = (
        f"{int(run.data[f'{_COMPARISON}sample'])} particles of each method against as many states of the reference; in "
        "brackets times the iid floor, the same between two independent samples, ± the standard deviation of single "
        "values. " + "; ".join(MEANING[name] for name in statistics if name in MEANING) + "."
    )
    return Table(("method", *(TITLES.get(n, n) for n in statistics)), [*rows, ("iid floor", *floors)], caption)


def _history(run: Run, methods: list[str]) -> Picture:
    figure, (ax,) = canvas.panels(1, 1, 3.4)
    floor = float(run.data[f"{_FLOOR}energy_distance"])
    for name in methods:
        steps, distance = (run.data[f"{_BASELINES}{name}/history/{key}"] for key in ("steps", "energy_distance"))
        ax.plot(steps, distance / floor, color=COLOURS[name], label=NAMES[name], linewidth=1.1)
    steps, distance = (run.data[f"{_COMPARISON}history/{key}"] for key in ("steps", "energy_distance"))
    ax.plot(
        np.maximum(steps, 1), distance / floor, color=COLOURS["kswgd"], label=NAMES["kswgd"], marker="o", markersize=3
    )
    ax.axhline(1, color=canvas.BLACK, linewidth=0.8)
    ax.set(xscale="log", yscale="log", xlabel="steps", ylabel="energy distance / iid floor")
    canvas.legend_above(figure, ax)
    return Picture(
        figure,
        "Energy distance over its iid floor against steps; the last of KSWGD's points is that after relaxation, whose "
        "steps count. Steps of different methods cost differently.",
    )


def _costs(run: Run, methods: list[str]) -> Table:
    own = (
        "KSWGD",
        number(int(run.data[f"{_COMPARISON}steps"])),
        number(float(run.attributes[f"{_COMPARISON}seconds"]), 3),
        number(int(run.data[f"{_COMPARISON}gradient_calls"])),
        number(int(run.data[f"{_COMPARISON}data_used"])),
    )
    rows = [
        (
            NAMES[name],
            number(int(run.data[f"{_BASELINES}{name}/steps"])),
            number(float(run.attributes[f"{_BASELINES}{name}/seconds"]), 3),
            number(int(run.data[f"{_BASELINES}{name}/gradient_calls"])),
            number(int(run.data[f"{_BASELINES}{name}/data_used"])),
        )
        for name in methods
    ]
    caption = (
        "Costs: processor seconds over all ranks, calls of drift or score, states of the ensemble that the method "
        f"learns from. Those cost {number(float(run.attributes[f'{_COMPARISON}data_seconds']), 3)} seconds and "
        f"{number(int(run.data[f'{_COMPARISON}data_gradient_calls']))} calls."
    )
    return Table(("method", "steps", "seconds", "gradient calls", "states used"), [own, *rows], caption)
