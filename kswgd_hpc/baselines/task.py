"""What every rival is given, and the account of what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from kswgd_hpc.baselines.frame import Frame
from kswgd_hpc.baselines.ring import Ring
from kswgd_hpc.parallel import by_block
from spde.density import Density
from spde.random import normals, uniforms
from spde.spectra import ExactSpectrum
from spde.stepping import Stepper

_GROWTH = 1.4  # between two steps at which the particles are looked at


@dataclass
class Task:
    """Particles to be moved to the invariant law, what may be used for it, and what has been used.

    ring : the particles of all ranks
    frame : coordinates y, in which `start` and everything but Langevin's dynamics are
    data : (m, d) states of the ensemble in these coordinates, the same on every rank; weights are drawn already
    modes : number of nonconstant modes for methods that have them
    steps : at most this many
    density, spectrum, stepper : of the system, None where it has none
    watch : called with (step, time, states (n, d)) now and then; what it costs is not charged to the method
    """

    ring: Ring
    frame: Frame
    data: np.ndarray
    modes: int
    steps: int
    seed: int
    stream: int
    density: Density | None = None
    spectrum: ExactSpectrum | None = None
    stepper: Stepper | None = None
    watch: Callable[[int, float, np.ndarray], None] = lambda _step, _time, _states: None
    gradient_calls: int = 0
    data_used: int = 0
    steps_taken: int = 0
    time: float = 0.0
    seconds: float = field(default=0.0, init=False)

    @contextmanager
    def charged(self, sign: int = 1) -> Iterator[None]:
        """Charge the processor time of this rank to the method, or take it off again."""
        began = time.process_time()
        yield
        self.seconds += sign * (time.process_time() - began)

    def show(self, step: int, elapsed: float, states: Callable[[], np.ndarray]) -> None:
        """Note how far the method is, and let the particles be looked at, at steps in geometric progression."""
        self.steps_taken, self.time = step, elapsed
        if step in (1, self.steps) or int(np.log(step) / np.log(_GROWTH)) > int(np.log(step - 1) / np.log(_GROWTH)):
            with self.charged(-1):
                self.watch(step, elapsed, states())

    def normals(self, step: int) -> np.ndarray:
        """(n, d) standard normals of a step for this rank's particles."""
        ring = self.ring
        out = np.empty((self.frame.dimension, ring.stop - ring.start))
        return normals(out, self.seed, self.stream, ring.start, step).T

    def uniforms(self, step: int) -> np.ndarray:
        """(n,) uniforms of a step for this rank's particles, apart from its normals."""
        ring = self.ring
        return uniforms(np.empty((1, ring.stop - ring.start)), self.seed, self.stream + 1, ring.start, step)[0]

    def states(self, y: np.ndarray) -> np.ndarray:
        """(n, d) states of this rank's particles at coordinates y."""
        return by_block(self.ring.blocks, self.frame.leave, y)

    def log_density(self, y: np.ndarray) -> np.ndarray:
        """(n,) log density of this rank's particles."""
        log = lambda rows: self.density.log(np.ascontiguousarray(self.frame.leave(rows).T))[:, None]  # noqa: E731
        return self.ring.each(log, y, 1)[:, 0]

    def score(self, y: np.ndarray) -> np.ndarray:
        """(n, d) gradient of the log density by the coordinates; counted."""
        self.gradient_calls += self.ring.particles

        def slope(rows: np.ndarray) -> np.ndarray:
            states = np.ascontiguousarray(self.frame.leave(rows).T)
            return self.frame.pulled(np.ascontiguousarray(self.density.score(states).T))

        return self.ring.each(slope, y, y.shape[1])
