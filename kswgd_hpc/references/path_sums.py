"""What is summed along simulated paths: int c, and int g exp(-int c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spde.stepping import PathIntegral

if TYPE_CHECKING:
    from kswgd_hpc.feynman_kac import Case


class PathSums:
    """The integrals of a case along a batch of paths by the trapezoidal rule; give `watch` to `Stepper.advance`.

    `summed` (batch,) is int g exp(-int c) so far; `watch` is None where there is nothing to sum.

    Parameters
    ----------
    case : with killing c and source g, either of them None
    states : (d, batch) where the paths start; time_step : of the paths
    """

    def __init__(self, case: Case, states: np.ndarray, time_step: float):
        self._source, self._half = case.source, time_step / 2
        self._killing = None if case.killing is None else PathIntegral(case.killing, states, time_step)
        self.summed = np.zeros(states.shape[1])
        self._last = None if case.source is None else np.array(case.source(states))
        self.watch = None if case.killing is None and case.source is None else self._watch

    @property
    def weight(self) -> np.ndarray | float:
        """exp(-int c) so far."""
        return 1.0 if self._killing is None else np.exp(-self._killing.value)

    def _watch(self, states: np.ndarray) -> None:
        """Add consecutive steps (n, d, batch)."""
        if self._source is None:
            self._killing.watch(states)
            return
        n, d, batch = states.shape
        flat = np.ascontiguousarray(states.transpose(1, 0, 2)).reshape(d, n * batch)
        source = np.array(self._source(flat)).reshape(n, batch)
        for step in range(n):
            if self._killing is not None:
                self._killing.watch(states[step : step + 1])
            now = source[step] * self.weight
            self.summed += self._half * (self._last + now)
            self._last = now
