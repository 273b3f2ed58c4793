"""What the dictionary sees: scaled linear coordinates z = (J x - mean) / scale of the state x."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kswgd_hpc.errors import ConfigurationError


@dataclass(frozen=True)
class Coordinates:
    """Linear coordinates of the state, centred and scaled.

    Parameters
    ----------
    matrix : (c, d) J, or None for the identity
    mean : (c,) of J x over the ensemble
    scale : (c,)
    """

    matrix: np.ndarray | None
    mean: np.ndarray
    scale: np.ndarray

    def rescale(self, raw: np.ndarray) -> np.ndarray:
        """(n, c) z of raw coordinates (n, c)."""
        return (raw - self.mean) / self.scale

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """(n, c) z of states (d, n)."""
        return self.rescale(project(self.matrix, states))

    def of_rows(self, states: np.ndarray) -> np.ndarray:
        """(n, c) z of states given as rows (n, d)."""
        return self(states.T)

    def velocity(self, drift: np.ndarray) -> np.ndarray:
        """(n, c) drift of z of a drift (d, n) of the state."""
        return project(self.matrix, drift) / self.scale

    def slope(self, gradients: np.ndarray) -> np.ndarray:
        """(n, d) gradient in state space of gradients (n, c) in z."""
        slope = gradients / self.scale
        return slope if self.matrix is None else slope @ self.matrix

    def lift(self, gradients: np.ndarray, mobility: np.ndarray) -> np.ndarray:
        """M times the gradient in state space, (n, d), of gradients (n, c) in z; mobility (d,) or (d, d)."""
        slope = self.slope(gradients)
        return slope * mobility if mobility.ndim == 1 else slope @ mobility

    def mobility(self, mobility: np.ndarray) -> np.ndarray:
        """(c, c) mobility of z: D^-1 J M J^T D^-1 with D the scales."""
        J = self.matrix
        if J is None:
            moved = np.diag(mobility) if mobility.ndim == 1 else mobility
        else:
            moved = (J * mobility) @ J.T if mobility.ndim == 1 else J @ mobility @ J.T
        return moved / np.outer(self.scale, self.scale)


def project(matrix: np.ndarray | None, states: np.ndarray) -> np.ndarray:
    """(n, c) raw coordinates of states (d, n)."""
    return np.ascontiguousarray(states.T if matrix is None else (matrix @ states).T)


def whitened(matrix: np.ndarray | None, raw: np.ndarray) -> Coordinates:
    """Coordinates scaled one by one to unit deviation over the pilot (n, c): for polynomials.

    Raises
    ------
    ConfigurationError : when a coordinate never changes
    """
    deviation = raw.std(axis=0)
    flat = np.flatnonzero(deviation <= 1e-12 * np.maximum(np.abs(raw).max(axis=0), 1e-300))
    if len(flat):
        raise ConfigurationError(
            f"koopman.coordinates: coordinate {flat[0]} is constant over the ensemble; leave it out, or check the data"
        )
    return Coordinates(matrix, raw.mean(axis=0), deviation)


def intrinsic(matrix: np.ndarray | None, raw: np.ndarray, mobility: np.ndarray) -> Coordinates:
    """Coordinates scaled by the square root of their mobility, and all alike: for radial functions.

    Distances are then those of the diffusion itself. A fast direction has a small spread in this metric, so radial
    functions hardly vary along it, and sampling noise in the gradient of slow eigenfunctions, which transport
    multiplies by mobility over rate, stays small. The largest deviation is one.

    Parameters
    ----------
    matrix : (c, d) or None
    raw : (n, c) pilot coordinates
    mobility : (c, c) of the raw coordinates

    Raises
    ------
    ConfigurationError : when no coordinate changes
    """
    scale = np.sqrt(np.diag(mobility))
    largest = (raw.std(axis=0) / scale).max()
    if not largest > 0:
        raise ConfigurationError("koopman.coordinates: all coordinates are constant over the ensemble; check the data")
    return Coordinates(matrix, raw.mean(axis=0), scale * largest)
