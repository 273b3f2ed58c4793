"""The table of a study: every method in every case, mean and standard error over the seeds, floors beside them."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kswgd_hpc import storage
from kswgd_hpc.studies import StudyPlan, StudyRun, results_of

COSTS = ("steps", "time", "seconds", "data_seconds", "gradient_calls", "data_gradient_calls", "data_used")
_USES_DATA = ("kswgd", "dmps", "mmd_flow", "kde_langevin")
_TARGET = 2.0  # times the floor


@dataclass
class Row:
    """One method in one case.

    values, floors : statistic -> (seeds,); costs : name -> (seeds,)
    histories : of each seed, (k, 3) of steps, time and energy distance over its floor
    reached : (seeds, 2) steps and time to twice the floor; `beyond` where they are not reached, or extrapolated
    """

    case: str
    method: str
    values: dict[str, list[float]] = field(default_factory=dict)
    floors: dict[str, list[float]] = field(default_factory=dict)
    costs: dict[str, list[float]] = field(default_factory=dict)
    histories: list[np.ndarray] = field(default_factory=list)
    reached: list[tuple[float, float]] = field(default_factory=list)
    how: str = "measured"

    def ratio(self, statistic: str) -> tuple[float, float]:
        """Mean over seeds of the statistic over the mean floor, and its standard error."""
        values = np.array(self.values[statistic]) / max(np.mean(self.floors[statistic]), 1e-300)
        return float(values.mean()), standard_error(values)

    def cost(self, name: str) -> float:
        """Mean over seeds."""
        return float(np.mean(self.costs[name]))

    @property
    def to_target(self) -> tuple[float, float]:
        """Mean steps and time to twice the floor, infinite where they are not known."""
        return tuple(float(x) for x in np.mean(self.reached, axis=0))


def standard_error(values: np.ndarray) -> float:
    """Of the mean; not a number for one value."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def collect(ready: StudyPlan) -> list[Row]:
    """All rows, case by case, from the results of the runs."""
    rows: dict[tuple[str, str], Row] = {}
    for run in ready.runs:
        data, _ = storage.read_results(results_of(run), skip=("ensemble/snapshots",))
        for method in ready.study.methods:
            row = rows.setdefault((run.label, method), Row(run.label, method))
            if method == "kswgd" or f"kswgd/baselines/{method}/seconds" in data:
                _add(row, run, data)
    return [row for row in rows.values() if row.values]


def _add(row: Row, run: StudyRun, data: dict) -> None:
    own = row.method == "kswgd"
    group = "kswgd/comparison" if own else f"kswgd/baselines/{row.method}"
    inside = f"{group}/kswgd/" if own else f"{group}/metrics/"
    floor = "kswgd/comparison/floor/"
    for name in (key.removeprefix(floor) for key in data if key.startswith(floor)):
        row.values.setdefault(name, []).append(float(data[inside + name]))
        row.floors.setdefault(name, []).append(float(data[floor + name]))
    for name, value in _costs(row.method, group, run, data).items():
        row.costs.setdefault(name, []).append(value)
    at_floor = float(data[floor + "energy_distance"])
    row.histories.append(_history(row, group, data, at_floor))
    steps, time, how = _to_target(row, run, data)
    row.reached.append((steps, time))
    if how != "measured" and row.how != "not reached":
        row.how = how


def _costs(method: str, group: str, run: StudyRun, data: dict) -> dict[str, float]:
    uses, costs = method in _USES_DATA, {}
    for name in ("steps", "seconds", "gradient_calls"):
        costs[name] = float(data[f"{group}/{name}"])
    shared = "kswgd/comparison/"
    for name in ("data_seconds", "data_gradient_calls"):
        costs[name] = float(data[shared + name]) if uses else 0.0
    if method == "kswgd":
        costs["time"] = float(data["kswgd/history/time"][-1] + data["kswgd/relaxation_time"])
        costs["data_used"] = float(data[f"{group}/data_used"])
    else:
        costs["time"], costs["data_used"] = float(data[f"{group}/time"]), float(data[f"{group}/data_used"])
    return costs


def _history(row: Row, group: str, data: dict, floor: float) -> np.ndarray:
    """(k, 3) steps, time, energy distance in units of its floor: of the transport, its start, end and relaxation."""
    if row.method != "kswgd":
        columns = (data[f"{group}/history/{name}"] for name in ("steps", "time", "energy_distance"))
        table = np.stack([np.asarray(column, dtype=float) for column in columns], axis=1)
    else:
        flow = len(data["kswgd/history/step_size"])
        time = float(data["kswgd/history/time"][-1])
        table = np.array(
            [
                (0, 0.0, data["kswgd/comparison/initial/energy_distance"]),
                (flow, time, data["kswgd/comparison/transported/energy_distance"]),
                (row.costs["steps"][-1], row.costs["time"][-1], data["kswgd/comparison/kswgd/energy_distance"]),
            ],
            dtype=float,
        )
    table[:, 2] /= floor
    return table


def _to_target(row: Row, run: StudyRun, data: dict) -> tuple[float, float, str]:
    """Steps and time to twice the floor, and how they are known.

    A transport counts whole: all its steps, if it ended below. The dynamics, where it was too slow to be run to its
    end, is extrapolated by its slowest rate, with which the energy distance, a square, decays twice as fast.
    """
    history = row.histories[-1]
    if row.method == "kswgd":
        ended = [i for i in (1, 2) if history[i, 2] <= _TARGET]
        return (*history[ended[0], :2], "measured") if ended else (np.inf, np.inf, "not reached")
    below = np.flatnonzero(history[:, 2] <= _TARGET)
    if len(below):
        return (*history[below[0], :2], "measured")
    rates = np.sort(np.asarray(data["koopman/rates"]).real)
    if row.method == "langevin" and len(rates) > 1 and rates[1] > 0:
        steps, time, distance = history[-1]
        longer = np.log(distance / _TARGET) / (2 * rates[1])
        return steps + longer / run.config.ensemble.time_step, time + longer, "extrapolated"
    return np.inf, np.inf, "not reached"


def write_table(rows: list[Row], path: Path) -> None:
    """Write the table as CSV, in one move: a line for each case and method."""
    statistics = list(rows[0].values)
    header = ["case", "method", "seeds"]
    for name in statistics:
        header += [name, f"{name}_error", f"{name}_floor", f"{name}_times_floor", f"{name}_times_floor_error"]
    header += [*COSTS, "steps_to_twice_floor", "time_to_twice_floor", "twice_floor"]
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in rows:
            cells: list[object] = [row.case, row.method, len(row.reached)]
            for name in statistics:
                values = np.array(row.values[name])
                numbers = (values.mean(), standard_error(values), np.mean(row.floors[name]), *row.ratio(name))
                cells += [f"{x:.6g}" for x in numbers]
            cells += [f"{row.cost(name):.6g}" for name in COSTS]
            cells += [f"{x:.6g}" for x in row.to_target] + [row.how]
            writer.writerow(cells)
    os.replace(partial, path)
