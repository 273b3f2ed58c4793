"""A control variate for Monte Carlo from the spectrum's own prediction.

Let v(x, s) be the prediction of u(x, s), of any quality, a source included. Along a path, cut at steps 0 = k_0 < k_1 <
... before time t,

    M = sum_j exp(-int_0^{t_j} c) [v(X_j + n_j, t - t_{j+1}) - v(X_j - n_j, t - t_{j+1})] / 2                      (1)

with n_j the noise that the path receives between t_j and t_{j+1}, which is symmetric given the past: every term has
mean zero, and f(X_t) exp(-int c) - M has the mean of f(X_t) exp(-int c) exactly, time step and all. As pieces get
short, M tends to the Ito integral of exp(-int c) grad v . s dW, which for v = u is all of the variance. Differences in
place of derivatives ask nothing of the dictionary but its values. Where paths start from draws of a law, v(X_0, t) less
its mean is a term as well; that mean is taken over many more draws than there are paths.

Source: Newton 1994, "Variance reduction for simulated diffusions"; Milstein and Tretyakov 2009.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np

from kswgd_hpc.coordinates import Coordinates
from kswgd_hpc.dictionary import Dictionary
from spde.compiling import njit
from spde.driving import draw
from spde.stepping import Noise, Stepper

_COLUMNS = 256
_NEGLIGIBLE = 1e-5  # of the largest amplitude: what is left out costs variance, no bias


@dataclass(frozen=True)
class Expansion:
    """v(x, s) = Re sum_k (amplitudes_k exp(-rates_k s) + sources_k int_0^s exp(-rates_k r) dr) phi_k(x).

    With phi_k = offsets_k + psi(x) @ coefficients_k. The eigenpairs are those of the generator, or of L + c for a case
    with killing.

    Parameters
    ----------
    rates, amplitudes, offsets : (r,) complex or real
    coefficients : (p, r)
    sources : (r,), None where nothing drives v
    """

    rates: np.ndarray
    amplitudes: np.ndarray
    offsets: np.ndarray
    coefficients: np.ndarray
    coordinates: Coordinates
    dictionary: Dictionary
    sources: np.ndarray | None = None

    def combined(self, remaining: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Offsets (times,) and coefficients (p, times) of v as a function of the state, at times s that remain."""
        decayed = self.amplitudes * np.exp(-np.outer(remaining, self.rates))
        if self.sources is not None:
            x = -np.outer(remaining, self.rates)
            small = np.abs(x) < 1e-9
            grown = np.where(small, 1.0, np.expm1(x) / np.where(small, 1.0, x))
            decayed = decayed + self.sources * remaining[:, None] * grown
        kept = np.abs(decayed).max(axis=0) > _NEGLIGIBLE * np.abs(decayed).max()
        weights = self.coefficients[:, kept] @ decayed[:, kept].T
        return (decayed @ self.offsets).real, np.ascontiguousarray(weights.real)

    def __call__(self, states: np.ndarray, remaining: np.ndarray) -> np.ndarray:
        """(n, times) values at states (d, n)."""
        offsets, weights = self.combined(remaining)
        return offsets + self.dictionary.values(self.coordinates(states)) @ weights


class Control:
    """Equation (1) along batches of paths.

    Parameters
    ----------
    expansion : v
    stepper : of the paths
    times : (times,) at which u is wanted
    """

    def __init__(self, expansion: Expansion, stepper: Stepper, times: np.ndarray):
        self._expansion, self._stepper, self._times = expansion, stepper, times
        self._mean = np.zeros(len(times))
        linear = expansion.coordinates.map.linear and stepper.additive
        self._map = _noise_map(expansion.coordinates, stepper) if linear else None
        used = np.arange(stepper.rows) if self._map is None else np.flatnonzero((self._map != 0).any(axis=0))
        self._quads = np.unique(used // 4)
        if self._map is not None:
            padded = np.pad(self._map, ((0, 0), (0, -self._map.shape[1] % 4)))
            self._map = padded.reshape(len(padded), -1, 4)[:, self._quads].reshape(len(padded), -1)

    def at_start(self, states: np.ndarray) -> np.ndarray:
        """(times, batch) v(x, t) at states (d, batch) less its mean over the start law, as far as that is known."""
        return (self._expansion(states, self._times) - self._mean).T

    def centred(self, shift: np.ndarray) -> Control:
        """The same with what is left (times,) of the mean of `at_start` taken off."""
        other = copy(self)
        other._mean = self._mean + shift
        return other

    def cost(self, times: int) -> float:
        """Elementary operations of a piece of one path, about."""
        p, c = self._expansion.coefficients.shape[0], self._expansion.coordinates.size
        return 2 * p * (2 * c + 20) + 2 * p * times

    @property
    def cost_per_step(self) -> float:
        """Elementary operations of drawing a step's noise once more."""
        return 60.0 * len(self._quads) * self._stepper.draws

    def piece(self, states: np.ndarray, noise: Noise, step: int, steps: int, remaining: np.ndarray) -> np.ndarray:
        """(times, batch) terms of (1) for the piece that starts from states (d, batch), without the exponential.

        Parameters
        ----------
        step, steps : first step of the piece, number of steps
        remaining : (times,) from the end of the piece on
        """
        draws = self._stepper.draws
        total = np.zeros((4 * len(self._quads), states.shape[1]))
        _add_normals(total, self._quads, noise.address, draws * step, draws * (step + steps))
        there, back = self._both_ways(states, total)
        values = self._expansion.dictionary.values
        weights = self._expansion.combined(remaining)[1]
        return ((values(there) - values(back)) @ (weights / 2)).T

    def _both_ways(self, states: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, c) coordinates of the states plus and minus what the summed numbers add."""
        coordinates = self._expansion.coordinates
        if self._map is not None:
            here, moved = coordinates(states), (self._map @ total).T
            return here + moved, here - moved
        moved = self._stepper.kick(states, total[: self._stepper.rows])
        return coordinates(states + moved), coordinates(states - moved)


def _noise_map(coordinates: Coordinates, stepper: Stepper) -> np.ndarray:
    """(c, rows) from the random numbers of a step to what they add to the coordinates."""
    rows, columns = stepper.rows, []
    d = len(coordinates.map) if coordinates.map.matrix is None else coordinates.map.matrix.shape[1]
    state = np.zeros((d, 1))
    for start in range(0, rows, _COLUMNS):
        count = min(_COLUMNS, rows - start)
        unit = np.zeros((rows, count))
        unit[start + np.arange(count), np.arange(count)] = 1.0
        moved = stepper.kick(np.repeat(state, count, axis=1), unit)
        columns.append(coordinates.velocity(moved).T)
    whole = np.concatenate(columns, axis=1)
    return np.where(np.abs(whole) > 1e-13 * np.abs(whole).max(), whole, 0.0)


@njit(cache=True, nogil=True)
def _add_normals(total, quads, address, first, last):
    """Add to total (4 quads, batch) the normals of some quads of components of all draws first ... last - 1."""
    part = np.empty((4, total.shape[1]))
    for index in range(first, last):
        for position in range(len(quads)):
            draw(part, address, index, quads[position])
            for row in range(4):
                for b in range(total.shape[1]):
                    total[4 * position + row, b] += part[row, b]
