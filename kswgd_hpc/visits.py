"""What is kept of a flow on its way: states at chosen flow times, and how far particles are from the law they go to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

_GROWTH = 1.2  # between two steps at which the particles are looked at


@dataclass
class Visits:
    """States and distances of this rank's particles, taken as the flow passes; a save takes both along.

    times : flow times at which states are kept
    distance : of states (n, d) to the invariant law, collective; None where nobody judges
    taken : (time, states (n, d)) of the times that have passed
    seen : (steps, flow time, distance) at steps in geometric progression
    seconds : processor time that looking has taken on this rank, which is none of the method's
    """

    times: Sequence[float] = ()
    distance: Callable[[np.ndarray], float] | None = None
    taken: list[tuple[float, np.ndarray]] = field(default_factory=list)
    seen: list[tuple[int, float, float]] = field(default_factory=list)
    seconds: float = 0.0

    def pass_by(self, steps: int, elapsed: float, states: Callable[[], np.ndarray]) -> None:
        """Keep what is wanted of this step. Collective where somebody judges."""
        if elapsed in self.times:
            self.taken.append((elapsed, states()))
        if self.distance is not None and _looked_at(steps):
            began = time.process_time()
            self.seen.append((steps, elapsed, self.distance(states())))
            self.seconds += time.process_time() - began

    def of_rows(self, rows: slice) -> dict[str, np.ndarray]:
        """Kept states of some of this rank's particles, as a save takes them."""
        return {"snapshots": np.stack([states[rows] for _, states in self.taken])} if self.taken else {}

    def shared(self) -> dict[str, np.ndarray]:
        """What is the same on all ranks, as a save takes it."""
        return {"snapshot_times": np.array([t for t, _ in self.taken]), "seen": np.array(self.seen).reshape(-1, 3)}

    def put_back(self, shared: dict[str, np.ndarray], parts: list[dict[str, np.ndarray]]) -> None:
        """Take over what a save has kept, of this rank's blocks in order."""
        states = [part["snapshots"] for part in parts if "snapshots" in part]
        none = np.empty((len(shared["snapshot_times"]), 0, 0))
        together = np.concatenate(states, axis=1) if states else none
        self.taken = [(float(t), rows) for t, rows in zip(shared["snapshot_times"], together, strict=True)]
        self.seen = [(int(steps), float(t), float(distance)) for steps, t, distance in shared["seen"]]


def _looked_at(steps: int) -> bool:
    return steps < 2 or int(np.log(steps) / np.log(_GROWTH)) > int(np.log(steps - 1) / np.log(_GROWTH))
