"""Kernel density estimates of samples, and Langevin dynamics in them: what samples alone have for a dynamics.

    dz = K grad log p(z) dt + sqrt(2 K) dW,    p = mean_i N(z_i, h^2),

in the coordinates that the dictionary sees, K their mobility. It draws particles that start anywhere to where samples
are, within a time of a few h^2, but hardly from one group of samples to another: that is left to the transport.
"""

from __future__ import annotations

import numpy as np

from kswgd_hpc.coordinates import Coordinates
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.metrics import subsample
from spde.stepping import Noise

_MOST = 4096  # samples
_JUDGED = 1024  # samples that a bandwidth is chosen by
_STEP = 0.1  # of the time in which a well of one kernel relaxes
_NARROWED = 0.5  # of the variance that a kernel by likelihood adds: particles are to look like samples


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, m) squared Euclidean distances between rows (n, c) and (m, c); rounding is kept off the negative side."""
    distances = -2 * (a @ b.T)
    distances += (a**2).sum(axis=1)[:, None]
    distances += (b**2).sum(axis=1)
    return np.maximum(distances, 0.0, out=distances)


def weights(rows: np.ndarray, data: np.ndarray, width: float) -> np.ndarray:
    """(a, m) shares of the data in the density at rows (a, d); they sum to one, however far away the data are."""
    exponent = squared_distances(rows, data) * (-0.5 / width**2)
    exponent -= exponent.max(axis=1)[:, None]
    kernel = np.exp(exponent, out=exponent)
    return kernel / kernel.sum(axis=1)[:, None]


def bandwidth(data: np.ndarray, d: int) -> float:
    """h of the largest leave-one-out likelihood in d dimensions, those of the manifold, among powers of 1.15."""
    points = subsample(data, _JUDGED)
    squares = squared_distances(points, points)
    np.fill_diagonal(squares, np.inf)
    nearest = squares.min(axis=1)
    start = np.sqrt(max(np.median(nearest), 1e-12))
    best, chosen = -np.inf, start
    for width in start * 1.15 ** np.arange(-10, 40):
        exponent = (squares - nearest[:, None]) * (-0.5 / width**2)
        log = np.log(np.exp(exponent).sum(axis=1)) - 0.5 * nearest / width**2 - d * np.log(width)
        if log.mean() > best:
            best, chosen = log.mean(), width
    # fewer points were looked at than there are
    return float(chosen * (len(points) / len(data)) ** (1 / (d + 4)))


class KernelDynamics:
    """Langevin dynamics in a kernel density estimate, by Euler-Maruyama steps.

    Parameters
    ----------
    coordinates : linear ones; what they do not see of a state stays as it is
    mobility : M of the state, constant
    data : (n, d) states of the law
    time : that it will be run for, in a whole number of steps
    width : h in scaled coordinates; by leave-one-out likelihood, narrowed, where there is none

    Raises
    ------
    ConfigurationError : coordinates that are not linear
    """

    def __init__(
        self, coordinates: Coordinates, mobility: np.ndarray, data: np.ndarray, time: float, width: float | None = None
    ):
        if not coordinates.constant_mobility(mobility):
            raise ConfigurationError(
                "kswgd: 'spread' and 'relaxation' among samples need koopman.coordinates: identity or pod"
            )
        self._coordinates, self._mobility = coordinates, mobility
        self._data = coordinates.of_rows(subsample(data, _MOST))
        self.width = width or float(np.sqrt(_NARROWED)) * bandwidth(self._data, coordinates.size)
        moving = coordinates.mobility(mobility)
        self._root = np.linalg.inv(np.linalg.cholesky(moving))
        self.steps = int(np.ceil(time / (_STEP * self.width**2 / np.diag(moving).max()) - 1e-9))
        self.time_step = time / max(self.steps, 1)

    def advance(self, states: np.ndarray, noise: Noise, first: int, count: int) -> np.ndarray:
        """States (d, n) after `count` steps from step `first` on."""
        rows, h = states.T, self.time_step
        for step in range(first, first + count):
            z = self._coordinates.of_rows(rows)
            pull = (weights(z, self._data, self.width) @ self._data - z) / self.width**2
            draws = noise.normals(np.empty((z.shape[1], z.shape[0])), step).T
            rows = rows + self._coordinates.lift(h * pull + np.sqrt(2 * h) * draws @ self._root, self._mobility)
        return np.ascontiguousarray(rows.T)
