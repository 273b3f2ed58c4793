"""Centres that paths visit often enough to predict with, and a width that leaves no gap between them.

The generator acts on functions exactly, so that predictions can be far more accurate than the ensemble is large: as
accurate as its functions are smooth. Two things spoil that. A function around a state that one excursion has been to is
fitted to that excursion. And of the farthest points of a line, some gaps are halved and some are not: half the distance
of neighbours is then too narrow for the others, and functions narrower than their distance are steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kswgd_hpc.dictionary.centres import nearest_neighbour, square_distances
from kswgd_hpc.parallel import tiles
from kswgd_hpc.records import Records, Sample

_VISITS = 6
_LEAST = 8  # functions that are left, where there are few visits
_COVERED = 0.99  # share of the states that lie in no gap
_BINS = 1000
_WIDEST = 10.0  # distances of neighbours, of the widest gap
_NUMBERS = 2**21


def settled(sample: Sample, automatic: bool) -> Sample:
    """The sample seen through those radial functions that paths have visited often, and wider where centres have gaps.

    Other dictionaries stay as they are. Collective.

    Parameters
    ----------
    automatic : whether the bandwidth is for the program to choose
    """
    dictionary = sample.dictionary
    if not hasattr(dictionary, "with_centres") or dictionary.size <= _LEAST:
        return sample
    kept, nearest = _often_visited(sample, dictionary.centres)
    centres = dictionary.centres[kept]
    bandwidth = dictionary.bandwidth
    if automatic:
        width = bandwidth / nearest_neighbour(dictionary.centres)
        bandwidth = width * _spacing(sample, dictionary.centres, nearest, nearest_neighbour(centres))
    return replace(sample, dictionary=dictionary.with_centres(centres, bandwidth))


def _often_visited(sample: Sample, centres: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Indices of centres that are nearest to a path on enough visits, and of each block which is (s, n). Collective.

    A visit lasts until another centre is nearer. Those with the fewest go first, and hand their visits on; of two
    neighbours only one goes at a time.
    """
    kept = np.arange(len(centres))
    nearest = [_nearest(_starts(block), centres, kept) for block in sample.blocks]
    while len(kept) > _LEAST:
        mine = sum((_visits(labels, len(centres)) for labels in nearest), np.zeros(len(centres), dtype=np.int64))
        visits = sample.comm.allreduce(mine)[kept]
        leaving = _leaving(centres[kept], visits)
        if not len(leaving):
            break
        gone = kept[leaving]
        kept = np.delete(kept, leaving)
        for block, labels in zip(sample.blocks, nearest, strict=True):
            lost = np.isin(labels, gone)
            labels[lost] = _nearest(_starts(block)[lost], centres, kept)
    return kept, nearest


def _leaving(centres: np.ndarray, visits: np.ndarray) -> list[int]:
    """Which centres go, the least visited first, none whose neighbour goes, and as many as may."""
    found: list[int] = []
    staying: set[int] = set()
    for index in np.argsort(visits, kind="stable"):
        if visits[index] >= _VISITS or len(centres) - len(found) <= _LEAST:
            break
        if index in staying:
            continue
        found.append(int(index))
        distance = square_distances(centres[[index]], centres)[0]
        distance[found] = np.inf
        staying.add(int(np.argmin(distance)))
    return found


def _starts(block: Records) -> np.ndarray:
    """(s, n, c) coordinates at which pairs start."""
    return block.z[block.x]


def _nearest(points: np.ndarray, centres: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(...) index of the nearest kept centre of points (..., c)."""
    flat = points.reshape(-1, points.shape[-1])
    found = np.empty(len(flat), dtype=np.int64)
    for part in tiles(len(flat), max(1, _NUMBERS // len(kept))) if len(flat) else []:
        rows = slice(part.start, part.stop)
        found[rows] = kept[square_distances(flat[rows], centres[kept]).argmin(axis=1)]
    return found.reshape(points.shape[:-1])


def _visits(labels: np.ndarray, size: int) -> np.ndarray:
    """(size,) number of times that the trajectories of labels (s, n) come to each."""
    if not labels.size:
        return np.zeros(size, dtype=np.int64)
    came = labels[1:][labels[1:] != labels[:-1]]
    return np.bincount(labels[0], minlength=size) + np.bincount(came, minlength=size)


def _spacing(sample: Sample, centres: np.ndarray, nearest: list[np.ndarray], neighbours: float) -> float:
    """Distance of neighbours, or that on a cubic lattice whose holes are as large as those of the centres. Collective.

    Parameters
    ----------
    nearest : of each block, which centre is nearest (s, n); neighbours : median distance of nearest neighbours
    """
    counts = np.zeros(_BINS, dtype=np.int64)
    for block, labels in zip(sample.blocks, nearest, strict=True):
        distance = np.sqrt(((_starts(block) - centres[labels]) ** 2).sum(axis=-1)).ravel()
        bins = (distance / neighbours * (_BINS / _WIDEST)).astype(np.int64)
        counts += np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)
    cumulated = np.cumsum(sample.comm.allreduce(counts))
    hole = (np.searchsorted(cumulated, _COVERED * cumulated[-1]) + 1) * _WIDEST / _BINS * neighbours
    return max(neighbours, 2 * hole / np.sqrt(centres.shape[1]))
