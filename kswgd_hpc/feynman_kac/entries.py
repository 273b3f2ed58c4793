"""From the entries of the configuration to cases: one for each curve, or for each theta of a rate function."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from kswgd_hpc import systems
from kswgd_hpc.feynman_kac.boundary import stopped_by
from kswgd_hpc.feynman_kac.case import Case
from kswgd_hpc.schema.validation import STEADY, TILTED


def cases_of(config, system: Any, mobility: Any) -> list[Case]:
    """The cases of all entries, in order.

    Parameters
    ----------
    config : the whole configuration
    system : from `spde`; mobility : of the state, see `coordinates`

    Raises
    ------
    ConfigurationError : an expression, a set or an initial law that does not fit the system
    """
    found: list[Case] = []
    for index, entry in enumerate(config.validation.feynman_kac):
        for case in _curves(config, system, mobility, index, entry):
            found.append(replace(case, number=len(found)))
    return found


def _curves(config, system: Any, mobility: Any, index: int, entry: Any) -> Iterator[Case]:
    path = f"validation.feynman_kac.{entry.name}"
    asked = entry.times or [config.ensemble.duration]
    times = (math.inf,) if entry.kind in STEADY else tuple(time for time in asked if time > 0)
    if entry.kind in TILTED:
        for number, theta in enumerate(entry.thetas):
            tilted = f"{-theta!r}*({entry.observable})"
            case = _case(config, system, index, entry, times, killing=tilted, observable=1.0)
            yield replace(case, name=f"{entry.name} theta {number + 1}", kind="principal_eigenvalue")
        return
    boundary = None
    if entry.target is not None or entry.domain is not None or entry.sets is not None:
        boundary = stopped_by(system, mobility, entry, path)
    for number, start in enumerate(entry.initials or [None]):
        case = _case(config, system, index, entry, times, entry.killing, entry.observable, start)
        case = replace(case, begins=asked[0] == 0 and entry.kind not in (*STEADY, "principal_eigenvalue"))
        if len(entry.initials) > 1:
            case = replace(case, name=f"{entry.name} start {number + 1}")
        yield case if boundary is None else _stopped(case, boundary)


def _case(config, system, index: int, entry, times, killing, observable, start=None) -> Case:
    path = f"validation.feynman_kac.{entry.name}"
    rate = source = None
    nothing = 1.0 if entry.kind == "principal_eigenvalue" else 0.0
    formula = nothing if observable is None else observable
    if not (isinstance(killing, float) and killing == 0):
        rate = systems.observable(system, killing, f"{path}.killing")
    if entry.source is not None:
        source = systems.observable(system, entry.source, f"{path}.source")
    several = len(entry.initials) > 1
    where = f"{path}.initial.{entry.initials.index(start)}" if several else f"{path}.initial"
    law = start or entry.initial or config.ensemble.initial
    return Case(
        index,
        entry.name,
        systems.observable(system, formula, f"{path}.observable"),
        rate,
        systems.initial_states(system, system.dimension, law, where),
        times,
        entry.trajectories,
        entry.reference,
        entry.tolerance,
        str(formula),
        "" if rate is None else str(killing),
        law.kind not in ("constant", "expression"),
        entry.kind,
        0,
        law,
        source,
        "" if source is None else str(entry.source),
    )


def _stopped(case: Case, boundary) -> Case:
    """A case in terms of what is left of u when the boundary values are taken off."""

    def constant(value: float):
        return lambda states: np.full(states.shape[1], value)

    if case.kind.endswith("probability"):
        return replace(case, boundary=boundary, observable=constant(-1.0), formula="-1.0")
    case = replace(case, boundary=boundary, observable=constant(0.0), formula="0.0")
    if case.kind.endswith("time"):
        return replace(case, source=constant(1.0), driven="1.0")
    return replace(case, source=boundary.lifted_rate, driven=f"G of {boundary.text}")
