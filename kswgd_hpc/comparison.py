"""The table of a study: every method in every case, mean and standard error over the seeds, floors beside them."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kswgd_hpc import storage
from kswgd_hpc.stages.way import HISTORY
from kswgd_hpc.studies import StudyPlan, StudyRun, results_of

COSTS = (
    "steps",
    "time",
    "simulated_time",
    "seconds",
    "data_seconds",
    "gradient_calls",
    "data_gradient_calls",
    "data_used",
)
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
        data, attributes = storage.read_results(results_of(run), skip=("ensemble/snapshots",))
        for method in ready.study.methods:
            row = rows.setdefault((run.label, method), Row(run.label, method))
            if method == "kswgd" or f"kswgd/baselines/{method}/steps" in data:
                _add(row, run, data, attributes)
    return [row for row in rows.values() if row.values]


def _add(row: Row, run: StudyRun, data: dict, attributes: dict) -> None:
    own = row.method == "kswgd"
    group = "kswgd/comparison" if own else f"kswgd/baselines/{row.method}"
    inside = f"{group}/kswgd/" if own else f"{group}/metrics/"
    floor = "kswgd/comparison/floor/"
    for name in (key.removeprefix(floor) for key in data if key.startswith(floor)):
        row.values.setdefault(name, []).append(float(data[inside + name]))
        row.floors.setdefault(name, []).append(float(data[floor + name]))
    for name, value in _costs(row.method, group, data, attributes).items():
        row.costs.setdefault(name, []).append(value)
    at_floor = float(data[floor + "energy_distance"])
    columns = [np.asarray(data[f"{group}/history/{name}"], dtype=float) for name in HISTORY]
    row.histories.append(np.stack(columns, axis=1) / np.array([1.0, 1.0, at_floor]))
    steps, time, how = _to_target(row, run, data)
    row.reached.append((steps, time))
    if how != "measured" and row.how != "not reached":
        row.how = how


def _costs(method: str, group: str, data: dict, attributes: dict) -> dict[str, float]:
    uses, shared = method in _USES_DATA, "kswgd/comparison/"
    costs = {name: float(data[f"{group}/{name}"]) for name in ("steps", "gradient_calls", "data_used")}
    costs["time"] = float(data[f"{group}/history/time"][-1])
    costs["simulated_time"] = _simulated(method, data)
    costs["seconds"] = float(attributes[f"{group}/seconds"])
    costs["data_seconds"] = float(attributes[f"{shared}data_seconds"]) if uses else 0.0
    costs["data_gradient_calls"] = float(data[f"{shared}data_gradient_calls"]) if uses else 0.0
    return costs


def _simulated(method: str, data: dict) -> float:
    """Time that the system's own dynamics is run for on the way of the particles."""
    if method == "kswgd":
        return float(data["kswgd/spread_time"] + data["kswgd/relaxation_time"])
    return float(data["kswgd/baselines/langevin/time"]) if method == "langevin" else 0.0


def _to_target(row: Row, run: StudyRun, data: dict) -> tuple[float, float, str]:
    """Steps and time to twice the floor, and how they are known.

    The dynamics, where it was too slow to be run to its end, is extrapolated by its slowest rate, with which the energy
    distance, a square, decays twice as fast.
    """
    history = row.histories[-1]
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
