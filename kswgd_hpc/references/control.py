"""The spectrum's own prediction as a function of state and time: what makes Monte Carlo cheaper."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kswgd_hpc.coordinates import Coordinates
from kswgd_hpc.dictionary import Dictionary


@dataclass(frozen=True)
class Expansion:
    """u(x, s) = Re sum_k amplitudes_k exp(-rates_k s) (offsets_k + psi(x) @ coefficients_k).

    The eigenpairs are those of the generator, or of L + c for a case with killing.

    Parameters
    ----------
    rates, amplitudes, offsets : (r,) complex or real
    coefficients : (p, r)
    """

    rates: np.ndarray
    amplitudes: np.ndarray
    offsets: np.ndarray
    coefficients: np.ndarray
    coordinates: Coordinates
    dictionary: Dictionary

    def combined(self, remaining: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Offsets (times,) and coefficients (p, times) of u as a function of the state, at times s that remain."""
        decayed = self.amplitudes * np.exp(-np.outer(remaining, self.rates))
        return (decayed @ self.offsets).real, np.ascontiguousarray((self.coefficients @ decayed.T).real)

    def __call__(self, states: np.ndarray, remaining: np.ndarray) -> np.ndarray:
        """(n, times) values at states (d, n)."""
        offsets, coefficients = self.combined(remaining)
        return offsets + self.dictionary.values(self.coordinates(states)) @ coefficients
