"""Mobility of noise that is diagonal in Laplacian modes while states are values on the grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ModeMobility:
    """M = E diag(variances) E^T for states on the grid, never formed: E are the modes, orthonormal in space.

    Parameters
    ----------
    variances : (d,) half the squared noise amplitudes of the modes
    system : whose `to_modes` and `from_modes` are applied
    """

    variances: np.ndarray
    system: object

    ndim = 2

    def __rmatmul__(self, rows: np.ndarray) -> np.ndarray:
        """(n, d) rows times M: gradients to velocities."""
        # <g, M g'> is a plain sum over points, the modes are orthonormal with weight `cell`
        modes = self.system.to_modes(np.ascontiguousarray(rows.T)) * self.variances[:, None]
        return np.ascontiguousarray(self.system.from_modes(modes).T) / self.system.domain.cell

    __array_ufunc__ = None  # NumPy leaves rows @ mobility to __rmatmul__
