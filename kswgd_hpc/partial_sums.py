"""Sums that were interrupted: integers over ranges of items, which can be put together in any way.

A rank that is interrupted saves its sum over the items begin..end that it has added. Being sums of integers, the saved
sums of disjoint ranges are as good to another number of ranks: whoever has the first item of a range takes the sum, and
the others leave its items out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from mpi4py import MPI

from kswgd_hpc.checkpoint import Shelf

_ATTEMPT = 40  # bits of the progress below the number of the attempt


@dataclass(frozen=True)
class Found:
    """Ranges of items whose sums have been saved.

    Parameters
    ----------
    mine : first item of a range of this rank -> the item after its last, and what was saved
    others : items of this rank that belong to ranges of others
    first : number of this rank's first item
    attempt : at a scale of the sums
    bounds : of the entries for that scale, None where nothing was saved
    """

    mine: dict[int, tuple[int, dict[str, np.ndarray]]] = field(default_factory=dict)
    others: int = 0
    first: int = 0
    attempt: int = 0
    bounds: np.ndarray | None = None

    def begin(self, count: int) -> int:
        """The first of this rank's items that is not in a range of others."""
        return self.first + min(self.others, count)

    def progress(self, position: int) -> int:
        """A number that grows with the items done, and with the attempt."""
        return (self.attempt << _ATTEMPT) + position


def found(comm: MPI.Comm, kept: Shelf, count: int) -> Found:
    """What can be used of the saved sums, by a rank with `count` items. Collective."""
    if not kept.keeps:
        return Found()
    first = comm.exscan(count) or 0
    if not kept.saved():  # the same on all ranks
        return Found(first=first)
    mine = {}
    for start in kept.saved():
        saved = kept.get(start) if first <= start < first + count else None
        if saved is not None:
            mine[start] = saved
    everywhere = [
        row for rows in comm.allgather([(s.progress, i, s.arrays["bounds"]) for i, s in mine.items()]) for row in rows
    ]
    if not everywhere:
        return Found(first=first)
    attempt = max(progress >> _ATTEMPT for progress, _, _ in everywhere)
    ranges, bounds = [], None
    for progress, start, limits in everywhere:
        if progress >> _ATTEMPT == attempt:
            ranges.append((start, progress - (attempt << _ATTEMPT)))
            bounds = limits
    chosen = _disjoint(ranges)
    taken = {start: (stop, mine[start].arrays) for start, stop in chosen if start in mine}
    others = max((stop - first for start, stop in chosen if start < first), default=0)
    return Found(taken, max(others, 0), first, attempt, bounds)


def _disjoint(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that do not overlap, the longest first: the same choice on all ranks."""
    chosen: list[tuple[int, int]] = []
    for start, stop in sorted(ranges, key=lambda r: (r[0] - r[1], r[0])):
        if all(stop <= a or b <= start for a, b in chosen):
            chosen.append((start, stop))
    return chosen
