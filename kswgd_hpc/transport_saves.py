"""A transport that is interrupted: its state by blocks of particles, and by one more item what all ranks share.

All items of a save are of the same step. Ranks agree on when to save by an entry of the message that they exchange in
each step anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from kswgd_hpc.backend import array_module, to_host
from kswgd_hpc.checkpoint import Shelf
from kswgd_hpc.parallel import Block, span
from kswgd_hpc.visits import Visits

if TYPE_CHECKING:
    from kswgd_hpc.flow import Flow
    from kswgd_hpc.transport import State

_SHARED = -1
_BY_PARTICLE = ("z", "impulse", "gradient", "previous", "excess", "log_ratio")


@dataclass(frozen=True)
class Saves:
    """Where a transport saves.

    kept : the shelf of the stage; blocks : of this rank's particles; visits : what is kept of the way so far
    """

    kept: Shelf
    blocks: list[Block]
    visits: Visits = field(default_factory=Visits)

    def wanted(self) -> bool:
        """Whether this rank wants to save after the next step."""
        return self.kept.due()

    def save(self, flow: Flow, state: State) -> None:
        """Write the state after a step. Collective: all ranks want to; raises Interrupted if any has to stop."""
        self.put(flow, state)
        self.kept.agree()

    def put(self, flow: Flow, state: State) -> None:
        """Take the state along in the next save."""
        first, _ = span(self.blocks)
        for position, block in enumerate(self.blocks):
            rows = slice(block.start - first, block.stop - first)
            arrays = {name: np.array(to_host(getattr(state, name)[rows])) for name in _BY_PARTICLE}
            if state.error is not None:
                arrays["error"] = np.array(state.error[position])
            arrays |= self.visits.of_rows(rows)
            self.kept.put(block.index, state.steps, arrays)
        if flow.comm.rank == 0:
            self.kept.put(_SHARED, state.steps, _shared(flow, state) | self.visits.shared())

    def restored(self, flow: Flow, state: State) -> bool:
        """Put the last state that all ranks can read into `state`; whether there was one. Collective."""
        saved = self.kept.saved()
        for steps in saved.get(_SHARED, []):
            found = [self.kept.get(index, steps) for index in (_SHARED, *(block.index for block in self.blocks))]
            if flow.comm.allreduce(all(item is not None for item in found), op=MPI.LAND):
                shared, *parts = (item.arrays for item in found)
                self._put_back(flow, state, shared, parts)
                self.visits.put_back(shared, parts)
                return True
        return False

    def _put_back(self, flow: Flow, state: State, shared: dict[str, np.ndarray], parts: list[dict]) -> None:
        xp = array_module(state.z)
        for name in _BY_PARTICLE if parts else ():
            setattr(state, name, xp.asarray(np.concatenate([part[name] for part in parts])))
        state.error = np.array([float(part["error"]) for part in parts]) if "error" in shared else None
        state.means = shared["mode_means"][-1]
        state.time, state.h, state.previous_h = (float(value) for value in shared["times"])
        flow.exponent = int(shared["exponent"])
        logarithms = [*shared["logarithms"], None]
        columns = (shared[name] for name in ("time", "mode_means", "step", "moved", "errors"))
        state.record = [
            (float(time), means, float(step), float(moved), float(error), logarithms[i])
            for i, (time, means, step, moved, error) in enumerate(zip(*columns, strict=True))
        ]


def _shared(flow: Flow, state: State) -> dict[str, np.ndarray]:
    """What is the same on all ranks. The last row of the record is completed by the next step."""
    time, means, step, moved, errors, logarithms = zip(*state.record, strict=True)
    return {
        "time": np.array(time),
        "mode_means": np.array(means),
        "step": np.array(step),
        "moved": np.array(moved),
        "errors": np.array(errors),
        "logarithms": np.array(logarithms[:-1]),
        "times": np.array([state.time, state.h, state.previous_h]),
        "exponent": np.array(flow.exponent),
        **({} if state.error is None else {"error": np.array(1)}),
    }
