"""The cells of a box and the generator on them, for the deterministic reference.

Between the centres of two cells whose densities have the ratio exp(delta) the generator has the rates (M / h^2)
B(-delta) and (M / h^2) B(delta), B(x) = x / (exp(x) - 1) (Scharfetter and Gummel 1969). Where a set that stops paths
lies between them, at a share theta of the way, the rate there is (M / (theta h^2)) B(theta delta), which keeps the
second order (Gibou, Fedkiw, Cheng and Kang 2002).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from kswgd_hpc.references.charts import Chart, NotSolvable

if TYPE_CHECKING:
    from kswgd_hpc.feynman_kac.boundary import Boundary

_PARTS = {1: 32, 2: 6, 3: 4}  # of a hat, an axis, where functions are averaged
_POINTS = {1: 2**13, 2: 2**12, 3: 2**10}  # around a jump
# steps of the sequences that fill an interval, a square and a cube evenly: powers of the roots of x^(k + 1) = x + 1
_FILLING = {
    k: root ** -np.arange(1.0, k + 1)
    for k, root in ((1, 1.618033988749895), (2, 1.324717957244746), (3, 1.2207440846057596))
}
_GAP = 0.45  # of the range of values around a centre, with none in between: a jump
_CELLS_AT_ONCE = 4096
_BISECTIONS = 40


class Cells:
    """The cells of a box, n an axis; cell numbers run fastest along the last axis."""

    def __init__(self, chart: Chart, n: int):
        self.chart, self.n, self.k = chart, n, chart.dimension
        self.width = (chart.high - chart.low) / n
        self.size = n**self.k

    def centres(self, rows: np.ndarray) -> np.ndarray:
        """(k, m) centres of cells."""
        index = np.array(np.unravel_index(rows, (self.n,) * self.k))
        return self.chart.low[:, None] + (index + 0.5) * self.width[:, None]

    def neighbours(self, rows: np.ndarray, axis: int, side: int) -> np.ndarray:
        """Cell numbers of the neighbours, -1 behind a wall."""
        index = np.array(np.unravel_index(rows, (self.n,) * self.k))
        index[axis] += side
        if self.chart.periodic[axis]:
            index[axis] %= self.n
        outside = (index[axis] < 0) | (index[axis] >= self.n)
        index[axis] = np.clip(index[axis], 0, self.n - 1)
        return np.where(outside, -1, np.ravel_multi_index(tuple(index), (self.n,) * self.k))

    def average(self, function: Callable, rows: np.ndarray) -> np.ndarray:
        """(m,) averages of a function of states over hats, two cells wide, around the centres.

        A hat keeps the first moment of a jump within a cell, so that the error is of second order and as smooth in the
        width as two grids need. Around a jump many more points are taken, spread so that none are in line with it.
        """
        each = (np.arange(_PARTS[self.k]) + 0.5) / _PARTS[self.k]
        values = self._at(function, rows, np.stack(np.meshgrid(*[each] * self.k, indexing="ij")).reshape(self.k, -1))
        # the corners as well: a jump near the end of a hat has no other point beyond it
        corners = self._at(
            function, rows, np.stack(np.meshgrid(*[[0.0, 1.0]] * self.k, indexing="ij")).reshape(self.k, -1)
        )
        ordered = np.sort(np.concatenate([values, corners]), axis=0)
        wide = ordered[-1] - ordered[0]
        found = values.mean(axis=0)
        jumps = np.flatnonzero(np.diff(ordered, axis=0).max(axis=0) > np.maximum(_GAP * wide, 1e-300))
        points = (0.5 + _FILLING[self.k][:, None] * np.arange(1, 1 + _POINTS[self.k])) % 1.0
        for start in range(0, len(jumps), _CELLS_AT_ONCE):
            some = jumps[start : start + _CELLS_AT_ONCE]
            found[some] = self._at(function, rows[some], points).mean(axis=0)
        return found

    def _at(self, function: Callable, rows: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """(points, m) values at shares (k, points) of the mass of hats."""
        offsets = np.where(shares < 0.5, np.sqrt(2 * shares) - 1, 1 - np.sqrt(2 * (1 - shares)))
        centres = self.centres(rows)
        found = np.empty((shares.shape[1], len(rows)))
        for row, offset in zip(found, offsets.T, strict=True):
            row[:] = function(self.chart.states(centres + (offset * self.width)[:, None]))
        return found


def generator(
    cells: Cells, rows: np.ndarray, killing: np.ndarray, boundary: Boundary | None = None
) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """Rows of G - c on the cells, and (m,) what they gain from paths that are stopped at a neighbour.

    A cell whose centre is in the set keeps the value that it starts with.

    Raises
    ------
    NotSolvable : where drift or noise is not finite
    """
    centres, diagonal, gains = cells.centres(rows), -killing, np.zeros(len(rows))
    stopped = np.zeros(len(rows), dtype=bool) if boundary is None else boundary.inside(cells.chart.states(centres))
    diagonal[stopped] = 0.0
    i, j, entries = [], [], []
    for axis in range(cells.k):
        h = cells.width[axis]
        for side in (-1, 1):
            there = cells.neighbours(rows, axis, side)
            inner = (there >= 0) & ~stopped
            here, steps = centres[:, inner], np.full(inner.sum(), side * h)
            ends = np.zeros(len(steps), dtype=bool)
            if boundary is not None:
                ends = boundary.inside(cells.chart.states(cells.centres(there[inner])))
                steps[ends] *= _share(cells.chart, boundary, axis, here[:, ends], side * h)
            rate = _rates(cells.chart, axis, here, steps, h)
            if not np.isfinite(rate).all():
                raise NotSolvable("drift or noise is not finite, or the noise vanishes, in the box around the paths")
            diagonal[inner] -= rate
            if ends.any():
                at = here[:, ends]
                at[axis] += steps[ends]
                gains[np.flatnonzero(inner)[ends]] += rate[ends] * boundary.given(cells.chart.states(at))
            i.append(np.flatnonzero(inner)[~ends])
            j.append(there[inner][~ends])
            entries.append(rate[~ends])
    i.append(np.arange(len(rows)))
    j.append(rows)
    entries.append(diagonal)
    triplets = (np.concatenate(entries), (np.concatenate(i), np.concatenate(j)))
    return scipy.sparse.coo_matrix(triplets, shape=(len(rows), cells.size)).tocsr(), gains


def _share(chart: Chart, boundary: Boundary, axis: int, here: np.ndarray, step: float) -> np.ndarray:
    """(n,) share of a step from points (k, n) at which a set begins that the other end is in, just inside of it."""
    outer, inner = np.zeros(here.shape[1]), np.ones(here.shape[1])
    for _ in range(_BISECTIONS if here.shape[1] else 0):
        middle, point = (outer + inner) / 2, here.copy()
        point[axis] += middle * step
        inside = boundary.inside(chart.states(point))
        outer, inner = np.where(inside, outer, middle), np.where(inside, middle, inner)
    return inner


def _rates(chart: Chart, axis: int, here: np.ndarray, steps: np.ndarray, width: float) -> np.ndarray:
    """Rates from cells over steps (n,) along an axis; central differences where there is no noise."""
    face = here.copy()
    face[axis] += steps / 2
    mobility = chart.mobility(face)[axis]
    if not mobility.any():
        return chart.drift(here)[axis] / (2 * steps)
    delta = chart.log_ratio(axis, here, steps)
    with np.errstate(over="ignore"):
        bernoulli = np.where(np.abs(delta) < 1e-6, 1 + delta / 2, -delta / np.expm1(np.where(delta == 0, 1.0, -delta)))
    bernoulli = np.where(delta < -700, 0.0, bernoulli)
    return mobility / (np.abs(steps) * width) * bernoulli
