"""A communicator that counts: every call at the MPI layer, and the bytes of its message."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

_BUFFERS = (
    "Allreduce",
    "Iallreduce",
    "Reduce",
    "Bcast",
    "Allgather",
    "Allgatherv",
    "Gatherv",
    "Reduce_scatter",
    "Exscan",
    "Scatterv",
    "Send",
    "Isend",
)
_OBJECTS = ("allreduce", "reduce", "bcast", "allgather", "gather", "exscan", "send")
_OTHERS = ("Barrier",)


class Traffic:
    """Messages of one rank: how often each operation was called, and with how many bytes.

    calls : (operation, bytes of one message) -> number of calls
    """

    def __init__(self):
        self.calls: Counter[tuple[str, int]] = Counter()

    def add(self, operation: str, size: int) -> None:
        """Count one message."""
        self.calls[operation, size] += 1

    def state(self) -> Counter[tuple[str, int]]:
        """What was counted so far."""
        return self.calls.copy()

    def since(self, before: Counter[tuple[str, int]]) -> list[list]:
        """[operation, bytes of one message, calls] since a state."""
        return sorted([operation, size, calls] for (operation, size), calls in (self.calls - before).items())


class Counted(MPI.Intracomm):
    """The same communicator, with a count of what is sent through it (and through the parts that it is split into).

    Messages that libraries send on their own (PETSc, SLEPc, HDF5) are not seen.
    """

    def __new__(cls, comm: MPI.Intracomm, traffic: Traffic | None = None):
        self = super().__new__(cls, comm)
        self.traffic = Traffic() if traffic is None else traffic
        return self

    def Split(self, color: int = 0, key: int = 0) -> MPI.Comm:
        """See MPI; the parts are counted too. Collective."""
        part = super().Split(color, key)
        return part if part == MPI.COMM_NULL else Counted(part, self.traffic)


def _counted(name: str, size: Callable[..., int]) -> Callable:
    method = getattr(MPI.Intracomm, name)

    def call(self, *arguments, **named):
        self.traffic.add(name, size(self, *arguments, *named.values()))
        return method(self, *arguments, **named)

    call.__name__, call.__doc__ = name, f"{name}, counted."
    return call


def _bytes_of_buffers(_comm, *arguments: Any) -> int:
    """Bytes of the largest buffer among the arguments: the message, or what all of them make up."""
    arrays = [part for a in arguments for part in (a if isinstance(a, tuple | list) else [a])]
    return max((array.nbytes for array in arrays if isinstance(array, np.ndarray)), default=0)


def _bytes_of_object(comm, *arguments: Any) -> int:
    """Bytes of a pickled object; None where another rank has it."""
    return len(pickle.dumps(arguments[0])) if arguments and arguments[0] is not None else 0


for _name in _BUFFERS:
    setattr(Counted, _name, _counted(_name, _bytes_of_buffers))
for _name in _OBJECTS:
    setattr(Counted, _name, _counted(_name, _bytes_of_object))
for _name in _OTHERS:
    setattr(Counted, _name, _counted(_name, lambda *_: 0))
