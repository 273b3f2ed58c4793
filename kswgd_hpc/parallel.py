"""Blocks and ranks, sums that do not depend on the rank count, and ends on which all ranks agree."""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from mpi4py import MPI

from kswgd_hpc.checkpoint import UNSAVED, Keeping, Shelf
from kswgd_hpc.errors import ConfigurationError, KswgdError
from kswgd_hpc.kernels import add_rounded
from kswgd_hpc.partial_sums import Found, found
from spde.errors import SpdeError

S = TypeVar("S")
T = TypeVar("T")

_BITS = 62
_HEADROOM = 2.0**8
_LARGEST_EXPONENT = 1000


@dataclass(frozen=True)
class Block:
    """A contiguous range of trajectories or particles; the cut does not depend on the rank count."""

    index: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


def cut(total: int, blocks: int) -> list[Block]:
    """Cut `total` items into `blocks` contiguous blocks whose sizes differ by one at most."""
    blocks = max(1, min(blocks, total))
    edges = [total * i // blocks for i in range(blocks + 1)]
    return [Block(i, edges[i], edges[i + 1]) for i in range(blocks)]


def tiles(total: int, size: int) -> list[Block]:
    """Cut `total` items into as few blocks of at most `size` as there can be."""
    return cut(total, -(-total // size))


def local(blocks: list[Block], comm: MPI.Comm) -> list[Block]:
    """The contiguous share of this rank; not collective."""
    first = len(blocks) * comm.rank // comm.size
    last = len(blocks) * (comm.rank + 1) // comm.size
    return blocks[first:last]


def span(blocks: list[Block]) -> tuple[int, int]:
    """Range of items that a rank's blocks cover; empty for a rank without blocks."""
    return (blocks[0].start, blocks[-1].stop) if blocks else (0, 0)


def by_block(blocks: list[Block], function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
    """function(rows) taken block by block: arrays of fixed shapes give fixed bits, whatever else a rank holds.

    Parameters
    ----------
    blocks : this rank's, contiguous
    rows : (n, ...) array of the items that they cover
    """
    start, _ = span(blocks)
    parts = [function(rows[block.start - start : block.stop - start]) for block in blocks]
    return np.concatenate(parts) if parts else function(rows)


def quantum_exponent(bound: float, terms: int) -> int:
    """Power of two that scales numbers below `bound` so that `terms` of them add up within an int64."""
    exponent = math.frexp(bound)[1] if bound > 0 else 0
    return min(_BITS - exponent - math.ceil(math.log2(max(terms, 1))), _LARGEST_EXPONENT)


def to_fixed(values: np.ndarray, exponent: int) -> np.ndarray:
    """Round to int64 multiples of 2**-exponent."""
    return np.rint(np.ldexp(values, exponent)).astype(np.int64)


def fixed_sum(comm: MPI.Comm, parts: list[np.ndarray], shape: tuple[int, ...], terms: int) -> tuple[np.ndarray, int]:
    """Sum of this rank's parts in int64 multiples of 2**-exponent, and the exponent, the same on all ranks. Collective.

    The exponent comes from the largest entry of any part anywhere. Arguments as for `sum_blocks`.
    """
    # np.max, unlike max, passes on a NaN wherever it stands
    largest = float(np.max([np.abs(part).max(initial=0.0) for part in parts], initial=0.0))
    bound = comm.allreduce(math.inf if math.isnan(largest) else largest, op=MPI.MAX)
    if not math.isfinite(bound):
        raise KswgdError("a sum over the ensemble is not finite: the data or features overflow")
    exponent = quantum_exponent(bound, terms)
    total = np.zeros(shape, dtype=np.int64)
    for part in parts:
        total += to_fixed(part, exponent)
    return total, exponent


def sum_blocks(comm: MPI.Comm, parts: Iterable[np.ndarray], shape: tuple[int, ...], terms: int) -> np.ndarray:
    """Sum of one array per block over all blocks of all ranks: the same bits for any rank count. Collective.

    Each part is rounded to a multiple of one power of two, chosen from the largest entry anywhere, and
    added as an integer, so that order does not matter. The rounding is 2**(62 - log2(terms)) times
    smaller than that entry: below double precision up to a thousand blocks.

    Parameters
    ----------
    comm : communicator
    parts : the arrays of this rank's blocks, each of `shape`; may be empty
    shape : shape of a part
    terms : number of blocks over all ranks

    Returns
    -------
    array of `shape`
    """
    total, exponent = fixed_sum(comm, [np.asarray(part, dtype=float) for part in parts], shape, terms)
    comm.Allreduce(MPI.IN_PLACE, total, op=MPI.SUM)
    return np.ldexp(total.astype(float), -exponent)


@dataclass
class FixedSum:
    """A sum in int64 multiples of 2**-exponent, so far of this rank alone; (n, m), Fortran-ordered."""

    total: np.ndarray
    exponent: int

    def reduced(self, comm: MPI.Comm) -> np.ndarray:
        """The sum over all ranks, on every rank, in the same layout. Collective."""
        comm.Allreduce(MPI.IN_PLACE, self.total.T, op=MPI.SUM)
        return self.total * 2.0**-self.exponent

    def scattered(self, comm: MPI.Comm, ranges: list[tuple[int, int]]) -> np.ndarray:
        """The sum over all ranks of the columns that a rank owns, transposed: (columns, n). Collective."""
        first, last = ranges[comm.rank]
        rows = np.empty((last - first, self.total.shape[0]), dtype=np.int64)
        comm.Reduce_scatter(self.total.T, rows, [(b - a) * rows.shape[1] for a, b in ranges], op=MPI.SUM)
        return rows * 2.0**-self.exponent


def sum_items(
    comm: MPI.Comm,
    items: list,
    add: Callable[[Any, dict[str, np.ndarray]], None],
    shapes: dict[str, tuple[int, int]],
    terms: int,
    triangles: tuple[str, ...] = (),
    keeping: Keeping = UNSAVED,
) -> dict[str, FixedSum]:
    """Sums over the items of all ranks, the same bits in any order, in bounded memory. Collective.

    Each item's part is rounded to a multiple of one power of two and added as an integer. The power is chosen from the
    part of the very first item, with room for others to be 256 times larger; should that not do, all is done again.

    Parameters
    ----------
    items : of this rank, contiguous in a global order
    add : function (item, parts) that adds the item's part to zeroed arrays, Fortran-ordered
    shapes : name -> (n, m) of the arrays
    terms : number of items over all ranks
    triangles : names of square parts of which only the upper triangle is used; the rest of the sum is undefined
    keeping : where each rank saves its sum over the first of its items, see `partial_sums`

    Returns
    -------
    name -> FixedSum, not reduced yet
    """
    saved, bounds = Found(), None
    while True:
        with keeping as kept:
            saved = (
                found(comm, kept, len(items)) if bounds is None else Found(attempt=saved.attempt + 1, first=saved.first)
            )
            bounds = saved.bounds if bounds is None else bounds
            sums, largest, bounds = _sum_once(comm, items, add, shapes, terms, triangles, bounds, saved, kept)
        comm.Allreduce(MPI.IN_PLACE, largest, op=MPI.MAX)
        if not np.isfinite(largest).all():
            raise KswgdError("a sum over the ensemble is not finite: the data or features overflow")
        if (largest <= bounds).all():
            return sums
        bounds = largest


def _sum_once(
    comm, items, add, shapes, terms, triangles, bounds, saved: Found, kept: Shelf
) -> tuple[dict[str, FixedSum], np.ndarray, np.ndarray]:
    """One attempt: the sums, the largest entry of any part of this rank, and the bounds for which there was room."""
    parts = {name: np.zeros(shape, order="F") for name, shape in shapes.items()}
    totals = {name: np.zeros(shape, dtype=np.int64, order="F") for name, shape in shapes.items()}
    largest, ready = np.zeros(len(shapes)), False
    if bounds is None:
        leader = comm.allreduce(comm.rank if items else comm.size, op=MPI.MIN)
        if items:
            add(items[0], parts)
        bounds = _HEADROOM * comm.bcast(np.array([_largest(part) for part in parts.values()]), root=leader % comm.size)
        ready = bool(items)
    exponents = [quantum_exponent(bound, terms) for bound in np.where(np.isfinite(bounds), bounds, 1.0)]
    begin = position = saved.begin(len(items))

    def state() -> dict[str, np.ndarray]:
        return {"bounds": bounds, "largest": largest} | {f"total {name}": total for name, total in totals.items()}

    while position < saved.first + len(items):
        if position in saved.mine:
            position, arrays = saved.mine[position]
            largest = np.maximum(largest, arrays["largest"])
            for name, total in totals.items():
                total += arrays[f"total {name}"]
        else:
            if not ready:
                add(items[position - saved.first], parts)
            for i, (name, part) in enumerate(parts.items()):
                entry = add_rounded(totals[name].T, part.T, 2.0 ** exponents[i], name in triangles)
                largest[i] = max(largest[i], entry)
            position, ready = position + 1, False
            last = position == saved.first + len(items)
            if kept.due() or (last and kept.worth()):
                kept.put(begin, saved.progress(position), state())
                kept.save()
    sums = {name: FixedSum(totals[name], exponents[i]) for i, name in enumerate(shapes)}
    return sums, largest, bounds


def _largest(part: np.ndarray) -> float:
    """Largest absolute value, infinite where there is a NaN."""
    value = max(part.max(initial=0.0), -part.min(initial=0.0))
    return value if np.isfinite(value) else np.inf


def gather_blocks(comm: MPI.Comm, parts: list[np.ndarray], width: int) -> np.ndarray:
    """Rows of all blocks, (n, width), in global block order on every rank. Collective."""
    mine = np.concatenate(parts).astype(float) if parts else np.empty((0, width))
    rows = comm.allgather(len(mine))
    everything = np.empty((sum(rows), width))
    counts = [n * width for n in rows]
    comm.Allgatherv(np.ascontiguousarray(mine), (everything, counts))
    return everything


def from_root(comm: MPI.Comm, work: Callable[[], T]) -> T:
    """Result of `work()` done on rank 0, on every rank; an error of the package is raised on all. Collective."""
    error, result = comm.bcast(_tried(work) if comm.rank == 0 else None)
    if error is not None:
        raise error
    return result


def from_all(comm: MPI.Comm, work: Callable[[], T]) -> T:
    """Each rank's own result of `work()`; the lowest rank's error of the package is raised on all. Collective."""
    error, result = _tried(work)
    for met in comm.allgather(error):
        if met is not None:
            raise met
    return result


def shared_out(comm: MPI.Comm, items: Sequence[S], work: Callable[[S], T]) -> list[T]:
    """`work(item)` of all items, each done on one rank, on every rank. Collective."""
    mine = {i: work(items[i]) for i in range(comm.rank, len(items), comm.size)}
    return [comm.bcast(mine.get(i), root=i % comm.size) for i in range(len(items))]


def _tried(work: Callable[[], T]) -> tuple[KswgdError | SpdeError | None, T | None]:
    try:
        return None, work()
    except (KswgdError, SpdeError) as error:
        return error, None


def abort(comm: MPI.Comm, error: BaseException) -> None:
    """Say this rank's error in one line (with a traceback where it was not foreseen) and end the whole job.

    With status 1, or 2 where it is the configuration that cannot be run.
    """
    # an error that all ranks meet together is said once: the lowest rank speaks and ends the others first
    time.sleep(min(0.1 * comm.rank, 2.0))
    if not isinstance(error, (KswgdError, SpdeError)):
        traceback.print_exception(error)
    label = "" if isinstance(error, (KswgdError, SpdeError)) else f"{type(error).__name__}: "
    where = f" [rank {comm.rank}]" if comm.size > 1 else ""
    print(f"kswgd-hpc: error{where}: {label}{' '.join(str(error).split())}", file=sys.stderr, flush=True)
    comm.Abort(2 if isinstance(error, ConfigurationError) else 1)
