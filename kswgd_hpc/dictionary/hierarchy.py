"""Which functions of a sparse dictionary the data determine, and where the others take their coefficients from.

A function with few visits would fit their noise. It has no coefficient of its own: it takes that of the coarser
functions which it is a part of, those of still coarser ones where they have few visits too, and so on. All rows of
the map P from free coefficients to all of them are non-negative and add up to one, so that the new basis, the
functions psi P, is non-negative and adds up to one as the dictionary does; the constant is in it exactly. For splines
these are truncated hierarchical B-splines (Giannelli, Juettler and Speleers 2012).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from kswgd_hpc.dictionary.sparse import SparseDictionary

_MOST_LEVELS = 24


@dataclass
class _Level:
    """Functions of one level that some finer one takes its coefficient from.

    visits : (m,) pairs that see them; own : (m,) those that no finer function with a coefficient of its own sees
    up : (m, k) indices among the next level's functions, -1 for padding, and their weights
    """

    dictionary: SparseDictionary
    functions: np.ndarray
    visits: np.ndarray
    own: np.ndarray
    kept: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=bool))
    inside: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=bool))
    up: tuple[np.ndarray, np.ndarray] | None = None


def prolongation(dictionary: SparseDictionary, functions: np.ndarray, visits: np.ndarray, least: float) -> csr_array:
    """(p, q) map P from free coefficients to those of the visited functions.

    Parameters
    ----------
    functions : (p,) indices of the functions that are visited, ascending
    visits : (p,) sums of each over the pairs
    least : visits from which on a function has a coefficient of its own
    """
    levels = _levels(dictionary, functions, visits, least)
    sites = [level.dictionary.sites(level.functions[level.kept]) for level in levels]
    counts = [len(part) for part in sites]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    size, places = int(offsets[-1]), np.concatenate(sites)
    known, last = None, len(levels) - 1
    for number in range(last, -1, -1):
        level, m = levels[number], len(levels[number].functions)
        columns = np.full(m, -1, dtype=np.int64)
        columns[level.kept] = offsets[number] + np.arange(counts[number])
        near = level.inside if number < last else ~level.kept
        if near.any():
            # what surrounds the place: finer functions, which know it better, or, at the end, any
            among = offsets[number] if number < last else size
            found = cKDTree(places[:among]).query(level.dictionary.sites(level.functions[near]))[1]
            columns[near] = found
        own = columns >= 0
        rows = csr_array((np.ones(own.sum()), columns[own], np.concatenate([[0], np.cumsum(own)])), shape=(m, size))
        if not own.all():
            index, weight = level.up
            there = index >= 0
            pointers = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
            rows = rows + csr_array((weight[there], index[there], pointers), shape=(m, known.shape[0])) @ known
        known = csr_array(rows)
    return known


def _levels(dictionary: SparseDictionary, functions: np.ndarray, visits: np.ndarray, least: float) -> list[_Level]:
    levels = [_Level(dictionary, functions, visits, visits)]
    while True:
        level = levels[-1]
        level.kept = level.own >= least
        level.inside = ~level.kept & (level.visits >= least)  # most of it is seen by finer functions of their own
        above = ~level.kept & ~level.inside
        coarse = level.dictionary.coarser() if above.any() and len(levels) < _MOST_LEVELS else None
        if coarse is None:
            if above.any() and not any(part.kept.any() for part in levels):
                level.kept = level.own > 0
            return levels
        index, weight = level.dictionary.coarse_rows(level.functions)
        names = np.unique(index[above])
        names = names[names >= 0]
        place = np.searchsorted(names, index)
        there = (index >= 0) & (names[np.minimum(place, len(names) - 1)] == index)
        place = np.where(there, place, -1)
        seen = np.bincount(place[there], (level.visits[:, None] * weight)[there], len(names))
        mine = there & above[:, None]
        own = np.bincount(place[mine], (level.own[:, None] * weight)[mine], len(names))
        level.up = np.where(mine, place, -1), np.where(mine, weight, 0.0)
        levels.append(_Level(coarse, names, seen, own))
