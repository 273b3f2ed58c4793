"""Numerics of transfer matrices: range of the nodes, narrow bands, powers, sums over a chain, draws from a table."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from spde.compiling import njit
from spde.errors import SpdeError

if TYPE_CHECKING:
    from spde.transfer_matrix import InvariantLaw

BAND = 9.7  # half width of the band in units of s: exp(-BAND^2 / 2) = 1e-21
_COLLECTIVE = 45.0  # action of the whole field, above its smallest, at which the search for the ends begins
FINE = 4  # nodes of the table for sampling per quadrature node
STENCIL = np.arange(-3, 5)  # of its interpolation


def band(u: np.ndarray, nodes: np.ndarray, width: float) -> scipy.sparse.csr_matrix:
    """(k, m) values of exp(-(u - node)^2 / (2 width^2)), without those below 1e-21; both ascending."""
    first = np.searchsorted(nodes, u - BAND * width)
    last = np.searchsorted(nodes, u + BAND * width, side="right")
    counts = last - first
    starts = np.concatenate([[0], np.cumsum(counts)])
    columns = np.arange(starts[-1]) - np.repeat(starts[:-1] - first, counts)
    values = np.exp(-(((np.repeat(u, counts) - nodes[columns]) / width) ** 2) / 2)
    return scipy.sparse.csr_matrix((values, columns, starts), shape=(len(u), len(nodes)))


def scaled(columns: np.ndarray, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns divided by a power of two near the largest entry, and its exponent added: exact, however often done."""
    more = np.frexp(np.abs(columns).max(axis=0))[1]
    return columns * 2.0**-more, exponents + more


def power_of_nearly_one(excess: np.ndarray, exponent: int) -> np.ndarray:
    """(1 + excess)^exponent - 1 by repeated squaring, without the rounding errors of adding 1 in between."""
    power, square = np.zeros_like(excess), excess
    while exponent:
        if exponent % 2:
            power = power + square + power @ square
        square, exponent = 2 * square + square @ square, exponent // 2
    return power


def gauss_pieces(edges: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes and weights on each [edges[i], edges[i+1]], in panels of ten steps at most."""
    panels = [np.linspace(a, b, 2 + int((b - a) / (10 * step))) for a, b in pairwise(edges)]
    low, high = (np.concatenate([panel[part] for panel in panels]) for part in (slice(None, -1), slice(1, None)))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    u = low[:, None] + np.outer(high - low, (nodes + 1) / 2)
    return u.ravel(), np.outer((high - low) / 2, weights).ravel()


def lagrange(x: np.ndarray) -> list[np.ndarray]:
    """Coefficients of polynomial interpolation from the points of the stencil to x in [0, 1)."""
    return [
        np.prod([(x - other) / (point - other) for other in STENCIL if other != point], axis=0) for point in STENCIL
    ]


def chained(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Symmetric C_ij = sum_l rows[i, l] values[l]^(j - i) columns[j, l] for i <= j, 0 <= values <= 1.

    As matrix products, block by block: values^(j - i) is split at the block's end, so that no power is negative.
    """
    n, block = len(rows), 64
    powers = values ** np.arange(n + 1)[:, None]
    out = np.zeros((n, n))
    for start in range(0, n, block):
        stop = min(start + block, n)
        ahead = rows[start:stop] * powers[stop - start : 0 : -1]
        out[start:stop, stop:] = ahead @ (columns[stop:] * powers[: n - stop]).T
        for i in range(start, stop):
            out[i, i:stop] = (columns[i:stop] * powers[: stop - i]) @ rows[i]
    return np.triu(out) + np.triu(out, 1).T


def draw_site(table, group, anchor, precision, choice, shift, low: float, step: float) -> np.ndarray:
    """(batch,) draws from exp(table(v) - precision (v - anchor)^2).

    Parameters
    ----------
    table : (groups, fine nodes) logarithms on a table `FINE` times as fine as the nodes, with a margin for the stencil
    group : (batch,) row of the table of each draw
    anchor : (batch,); precision : number
    choice, shift : (batch,) uniforms that pick the node, and shift the lattice of nodes
    low, step : of the nodes
    """
    m = (table.shape[1] - len(STENCIL)) // FINE
    reach = m if precision == 0 else int(np.ceil(8.5 / np.sqrt(2 * precision) / step))
    width = min(m, 2 * reach + 2)
    base = np.floor(shift * FINE).astype(np.int64)
    coefficients = np.stack(lagrange(shift * FINE - base), axis=1)
    rows = np.ascontiguousarray(np.broadcast_to(group, len(anchor)))
    table, anchor = np.ascontiguousarray(table), np.ascontiguousarray(anchor, dtype=float)
    return _draws(table, rows, anchor, precision, choice, shift, base, coefficients, low, step, reach, width)


@njit(cache=True, nogil=True)
def _draws(table, group, anchor, precision, choice, shift, base, coefficients, low, step, reach, width):
    """The loop of `draw_site`: by column, logarithms at `width` nodes around the anchor, and the one that is picked."""
    m = (table.shape[1] - coefficients.shape[1]) // FINE
    draws, log = np.empty(len(anchor)), np.empty(width)
    for j in range(len(anchor)):
        start = int(np.rint((anchor[j] - low) / step - shift[j])) - reach
        start = min(max(start, 0), m - width)
        largest = -np.inf
        for i in range(width):
            away = low + (start + i + shift[j]) * step - anchor[j]
            log[i] = -precision * away * away
            place = (start + i) * FINE + base[j]
            for k in range(coefficients.shape[1]):
                log[i] += coefficients[j, k] * table[group[j], place + k]
            largest = max(largest, log[i])
        total = 0.0
        for i in range(width):
            total += np.exp(log[i] - largest)
            log[i] = total
        index = 0
        while index < width - 1 and log[index] < choice[j] * total:
            index += 1
        draws[j] = low + (start + index + shift[j]) * step
    return draws


def collective_range(law: InvariantLaw) -> tuple[float, float]:
    """Where the whole field, moved as one, has an action near the smallest; a guess where that is unbounded."""
    magnitudes = np.geomspace(1e-6, 1e6, 40 * 16)
    u = np.concatenate([-magnitudes[::-1], [0.0], magnitudes])
    with np.errstate(over="ignore"):
        action = law.length * np.asarray(law.potential(u), dtype=float)
    if law.boundary == "dirichlet":
        action = action + 2 * law.diffusivity * u**2 / law.length  # a tent of height u costs this at least
    if np.isnan(action).all():
        raise SpdeError("the potential is not a number anywhere, or its reaction could not be integrated")
    action = 2 / law.amplitude**2 * np.where(np.isnan(action), np.inf, action)
    inside = np.flatnonzero(action - action.min() < _COLLECTIVE)
    if inside[0] == 0 or inside[-1] == len(u) - 1:
        reach = 4 * law.stiffness_length * np.sqrt(law.points + 1)
        return -reach, reach
    return float(u[inside[0] - 1]), float(u[inside[-1] + 1])
