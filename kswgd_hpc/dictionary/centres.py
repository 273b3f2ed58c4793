"""Centres among the states of the ensemble, in an order whose first half covers the same region more coarsely."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from spde.random import uniforms

_SWEEPS = 30


def square_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, p) squared distances between points (n, c) and (p, c), by a matrix product."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    return squares.clip(0.0, None)


def nearest_neighbour(centres: np.ndarray) -> float:
    """Median distance from a centre to its nearest neighbour: the resolution of the centres."""
    return float(np.median(cKDTree(centres).query(centres, k=2)[0][:, 1]))


def farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` points, each the farthest from those before it; the first is nearest the mean.

    Every prefix is a coarser cover of the same region. Source: Gonzalez 1985.

    Parameters
    ----------
    points : (n, c) array
    count : at most n; fewer are returned when points coincide
    """
    first = int(np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1)))
    chosen = [first]
    distance = ((points - points[first]) ** 2).sum(axis=1)
    while len(chosen) < count:
        farthest = int(np.argmax(distance))
        if distance[farthest] == 0:
            break
        chosen.append(farthest)
        np.minimum(distance, ((points - points[farthest]) ** 2).sum(axis=1), out=distance)
    return np.array(chosen)


def kmeans(points: np.ndarray, count: int, seed: int, stream: int) -> np.ndarray:
    """(count, c) centres of k-means, seeded by k-means++, then ordered as by `farthest_points`.

    More centres where there are more data, fewer on the rim than `farthest_points` has. The random numbers of the
    seeding come from counters, so the same points give the same centres on every rank.
    Source: Arthur and Vassilvitskii 2007; Lloyd 1982, at most 30 sweeps.

    Parameters
    ----------
    points : (n, c) array
    count : at most n; fewer are returned when points coincide
    seed, stream : of the random numbers, see `spde.random`
    """
    centres = points[_plus_plus(points, uniforms(np.empty((1, count)), seed, stream, 0, 0)[0])]
    previous = None
    for _ in range(_SWEEPS):
        label = cKDTree(centres).query(points)[1]
        if previous is not None and (label == previous).all():
            break
        previous = label
        members = np.bincount(label, minlength=len(centres))
        sums = np.column_stack([np.bincount(label, column, minlength=len(centres)) for column in points.T])
        centres = np.where(members[:, None] > 0, sums / np.maximum(members, 1)[:, None], centres)
    return centres[farthest_points(centres, len(centres))]


def _plus_plus(points: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Indices of points drawn one by one with probability proportional to the squared distance from those drawn."""
    chosen = [int(draws[0] * len(points))]
    distance = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    for draw in draws[1:]:
        cumulated = np.cumsum(distance)
        if cumulated[-1] == 0:
            break
        chosen.append(int(np.searchsorted(cumulated, draw * cumulated[-1], side="right")))
        np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1), out=distance)
    return np.array(chosen)


def join_to_first_half(centres: np.ndarray) -> np.ndarray:
    """(p,) index of the nearest among the first p // 2 centres: how a coarser dictionary joins functions."""
    return cKDTree(centres[: max(1, len(centres) // 2)]).query(centres)[1]


def coarsening(centres: np.ndarray) -> csr_array:
    """(p, p // 2) map of functions around centres to half as many: each joined to the nearest of the first half."""
    p = len(centres)
    return csr_array((np.ones(p), join_to_first_half(centres), np.arange(p + 1)), shape=(p, max(1, p // 2)))
