"""What predictions see of a field beyond the dictionary: moments of its modes, alone or in bands.

Means over space, of the field or of its square, are sums over all modes, each of which forgets at a rate of its own. A
span that holds the sum alone takes it to decay at one rate, and what the generator leaves over is as large as the sum
is long. In bands of neighbouring modes rates differ by little, and few bands cover all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kswgd_hpc.coordinates import CoordinateMap, LinearMap, is_field
from kswgd_hpc.errors import KswgdError
from kswgd_hpc.feynman_kac.case import Case, SmoothFormula, formulas_of, probes
from spde.equations import SemilinearEquation
from spde.errors import SpdeError

_WIDTH = 1.2  # last number of a band over its first: rates differ by less than half
_MOST_MODES = 512
_SHAKES = 8
_NEW = 1e-9  # of a norm, that what is in bands already leaves of a linear function
_MOST_RESOLVED = 6  # coordinates whose products are looked at


class _Modes:
    """All modes of a field and their drift; of the last states asked for they are kept for the next moment."""

    def __init__(self, matrix: np.ndarray, drift: Callable[[np.ndarray], np.ndarray]):
        self.map, self._drift = LinearMap(matrix, len(matrix)), drift
        self._states, self._modes, self._velocity = np.empty(0), None, None

    def values(self, states: np.ndarray) -> np.ndarray:
        """(n, d) modes at states (d, n)."""
        if not np.array_equal(states, self._states):
            self._states, self._modes, self._velocity = states.copy(), self.map(states), None
        return self._modes

    def velocity(self, states: np.ndarray) -> np.ndarray:
        """(n, d) their drift."""
        self.values(states)
        if self._velocity is None:
            self._velocity = self.map.velocity(self._drift(states))
        return self._velocity


@dataclass(frozen=True)
class _Moment:
    """slope . c + c . curvature c of some modes c, the curvature symmetric.

    rows : of the modes; noise : what the noise alone makes of it, curvature : 2 M
    """

    modes: _Modes
    rows: slice
    slope: np.ndarray
    curvature: np.ndarray
    noise: float

    def value(self, states: np.ndarray) -> np.ndarray:
        """(n,) at states (d, n)."""
        modes = self.modes.values(states)[:, self.rows]
        return modes @ self.slope + ((modes @ self.curvature) * modes).sum(axis=1)

    def generator(self, states: np.ndarray) -> np.ndarray:
        """(n,) the generator applied to it."""
        pull = self.slope + 2 * self.modes.values(states)[:, self.rows] @ self.curvature
        return (pull * self.modes.velocity(states)[:, self.rows]).sum(axis=1) + self.noise


def moments_of_modes(
    cases: list[Case], system, mobility, observed: CoordinateMap, polynomial: bool
) -> list[SmoothFormula]:
    """Linear and quadratic functions of the modes of a field, of as many as there are below some hundreds.

    There are none where nothing that is asked for sees more than the dictionary, unless the equation is linear, and its
    moments all that there is to know.

    Parameters
    ----------
    cases : what is asked for
    system : from `spde`; mobility : of the state
    observed : what the dictionary sees
    polynomial : whether it has the linear and quadratic functions of that already
    """
    if not isinstance(system, SemilinearEquation) or len(system.names) > 1 or is_field(mobility):
        return []
    d = system.dimension
    if d > _MOST_MODES:
        return []
    matrix = system.mode_map(d)
    seen = len(observed) if isinstance(observed, LinearMap) and _leads(observed.matrix, matrix) else 0
    states = np.linalg.pinv(matrix)  # of modes
    if not (system.is_linear or _see(cases, states[:, seen:], system)):
        return []
    # of the mean over space, in modes, and of what is asked for and linear
    mean = system.fields(np.eye(d)).mean(axis=0) @ states
    slopes = {"mean": mean} | _slopes(cases, states)

    modes = _Modes(matrix, system.drift)
    spread = modes.map.mobility(mobility)

    def moment(name: str, rows: slice, slope: np.ndarray, curvature: np.ndarray) -> SmoothFormula:
        part = _Moment(modes, rows, slope, curvature, 2 * (spread[rows, rows] * curvature).sum())
        return SmoothFormula(name, part.value, part.generator)

    found = []
    if seen and not polynomial and seen <= _MOST_RESOLVED:
        rows, nothing = slice(0, seen), np.zeros((seen, seen))
        for i in range(seen):
            unit = np.eye(seen)[i]
            found.append(moment(f"mode {i}", rows, unit, nothing))
            for j in range(i + 1):
                product = np.outer(unit, np.eye(seen)[j])
                found.append(moment(f"mode {i} times mode {j}", rows, 0 * unit, (product + product.T) / 2))
    for rows in _bands(seen, d):
        size, name = rows.stop - rows.start, f"modes {rows.start} to {rows.stop - 1}"
        found.append(moment(f"energy of {name}", rows, np.zeros(size), np.eye(size)))
        known = np.zeros((size, 0))
        for text, slope in slopes.items():
            more = slope[rows] - known @ (known.T @ slope[rows])
            if (length := np.linalg.norm(more)) > _NEW * np.linalg.norm(slope):
                found.append(moment(f"{text} of {name}", rows, slope[rows], np.zeros((size, size))))
                known = np.concatenate([known, more[:, None] / length], axis=1)
    return found


def _slopes(cases: list[Case], states: np.ndarray) -> dict[str, np.ndarray]:
    """Formula -> (d,) coefficients of the modes, with states (d, d), of the observables and sources that are linear."""
    functions = {case.formula: case.observable for case in cases}
    functions |= {case.driven: case.source for case in cases if case.source is not None}
    trial, found = np.random.Generator(np.random.Philox(1)).normal(size=(len(states), 2)), {}
    for text, function in functions.items():
        try:
            slope = (function(states) - function(-states)) / 2
            rest = function(states @ trial) - slope @ trial
        except (KswgdError, SpdeError):
            continue  # not defined everywhere
        if np.abs(rest - function(0 * states[:, :1])).max() < _NEW * np.abs(slope).max(initial=0.0):
            found[text] = slope
    return found


def _see(cases: list[Case], hidden: np.ndarray, system) -> bool:
    """Whether any formula of the cases changes with modes that the dictionary does not see, states (d, hidden)."""
    points = probes(system)
    points = np.repeat(points, _SHAKES, axis=1)
    shaken = points + hidden @ np.random.Generator(np.random.Philox(0)).normal(size=(hidden.shape[1], points.shape[1]))

    def changes(value: Callable) -> bool:
        try:
            return not np.allclose(value(shaken), value(points), rtol=1e-9, atol=1e-12)
        except (KswgdError, SpdeError):
            return True  # not defined everywhere, as the logarithm

    return any(map(changes, formulas_of(cases).values()))


def _leads(matrix: np.ndarray | None, modes: np.ndarray) -> bool:
    """Whether rows are those of the first modes."""
    return matrix is not None and np.array_equal(matrix, modes[: len(matrix)])


def _bands(first: int, end: int) -> list[slice]:
    """Bands of the modes first, ..., end - 1."""
    found = []
    while first < end:
        last = min(end, max(first + 1, int(_WIDTH * (first + 1))))
        found.append(slice(first, last))
        first = last
    return found
