"""Committor and transition rates between the two sets of the configuration."""

from __future__ import annotations

import numpy as np

from kswgd_hpc.report import canvas
from kswgd_hpc.report.numbers import NONE, error, number
from kswgd_hpc.report.page import Picture, Section, Table
from kswgd_hpc.report.spectrum import leading_coordinate, plane
from kswgd_hpc.report.view import Run

_PATH = "koopman/transitions"


def transitions(run: Run) -> Section | None:
    """Committor over the ensemble, rates and mean first passage times."""
    if f"{_PATH}/rate_ab" not in run.data:
        return None
    return Section("Transitions between A and B", _finding(run), [_picture(run), _table(run)])


def _value(run: Run, name: str) -> tuple[float, float]:
    """A quantity and its standard error, NaN where it is not known."""
    path = f"{_PATH}/{name}"
    return float(run.data.get(path, np.nan)), float(run.data.get(f"{path}_error", np.nan))


def _sets(run: Run) -> str:
    if run.config is None or run.config.koopman is None or run.config.koopman.sets is None:
        return "A and B"
    return f"A: {run.config.koopman.sets.A}, and B: {run.config.koopman.sets.B}"


def _finding(run: Run) -> str:
    forth, back = _value(run, "rate_ab"), _value(run, "rate_ba")
    return (
        f"Between {_sets(run)}, transitions happen at the rate {number(forth[0])} ± {error(forth[1])} from A to B and "
        f"{number(back[0])} ± {error(back[1])} back, per unit of time that the set left was the last of the two "
        f"visited; the mean first passage times are {number(_value(run, 'passage_ab')[0])} and "
        f"{number(_value(run, 'passage_ba')[0])}."
    )


def _table(run: Run) -> Table:
    rows = []
    for name, ab, ba in (
        ("transition rate  [1/time]", "rate_ab", "rate_ba"),
        ("the same, by counting", "counted_rate_ab", "counted_rate_ba"),
        ("mean first passage time  [time]", "passage_ab", "passage_ba"),
    ):
        cells = [_value(run, ab), _value(run, ba)]
        if np.isfinite(cells[0][0]) or np.isfinite(cells[1][0]):
            rows.append((name, *(_cell(*cell) for cell in cells)))
    flux, last = _value(run, "flux"), _value(run, "last_in_a")
    rows.append(("transitions per unit of time", _cell(*flux), _cell(*flux)))
    rows.append(("fraction of time that it was visited last", _cell(*last), _cell(1 - last[0], last[1])))
    interval = number(float(run.data[f"{_PATH}/monitoring_interval"]))
    caption = f"A set is visited where a record lies in it; records are {interval} apart. Errors are standard errors."
    return Table(("", "A → B", "B → A"), rows, caption)


def _cell(value: float, spread: float) -> str:
    return f"{number(value)} ± {error(spread)}" if np.isfinite(value) else NONE


def _picture(run: Run) -> Picture:
    states, committor = run.data["ensemble/sample"], run.data["koopman/committor/sample"]
    chosen = np.arange(len(run.sample)) * len(states) // len(run.sample)
    committor = committor[chosen]
    meaning = (
        "the probability q to reach B before A: 0 in A, 1 in B, and 1/2 where a trajectory cannot tell. The histogram "
        "shows how many states of the ensemble are undecided."
    )
    figure, (left, right) = canvas.panels(1, 2, 3.4, width_ratios=[1.4, 1])
    if plane(run):
        canvas.image_panel(left)
        points = left.scatter(*run.sample.T, c=committor, s=5, cmap="viridis", vmin=0, vmax=1, rasterized=True)
        figure.colorbar(points, ax=left, label="committor q", pad=0.02)
        left.set_xlabel(run.component(0))
        left.set_ylabel(run.component(1))
        caption = "Left: the committor at states of the ensemble, " + meaning
    else:
        x, label = leading_coordinate(run, committor)
        left.scatter(x, committor, s=4, color=canvas.BLUE, alpha=0.4, linewidths=0, rasterized=True)
        left.axhline(0.5, color=canvas.BLACK, linewidth=0.6)
        left.set_xlabel(label)
        left.set_ylabel("committor q")
        caption = f"Left: the committor at states of the ensemble against {label}, {meaning}"
    right.hist(np.clip(committor, 0, 1), bins=40, range=(0, 1), color=canvas.GREY)
    right.set_yscale("log")
    right.set_xlabel("committor q")
    right.set_ylabel("states")
    return Picture(figure, caption)
