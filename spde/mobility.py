"""Mobilities that are no array: of noise that depends on the state, and of noise that is diagonal in Laplacian modes.

One that depends on the state is M(x) = sum over directions of f_a(x) f_a(x)^T. The factors f_a = s_a / sqrt(2), s_a the
columns of the noise matrix, are kept instead of the matrices M(x): the Dirichlet form of p functions at n states is
then k products of (n, p) arrays, and no (n, d, d) array is held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


class MobilityField:
    """M(x) from its directions.

    Parameters
    ----------
    directions : function of states (d, n) -> (k, n, d) array of f_1 ... f_k, units state / sqrt(time)
    """

    def __init__(self, directions: Callable[[np.ndarray], np.ndarray]):
        self.directions = directions

    def apply(self, states: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """(n, d) M(x) slope at states (d, n), of slopes (n, d)."""
        directions = self.directions(states)
        return np.einsum("knd,kn->nd", directions, np.einsum("knd,nd->kn", directions, slopes))

    def seen_by(self, matrix: np.ndarray | None, states: np.ndarray) -> np.ndarray:
        """(k, n, c) directions of the coordinates J x at states (d, n), J (c, d) or None; at most c of them for a J."""
        directions = self.directions(states)
        if matrix is None:
            return directions
        directions = directions @ matrix.T
        if len(directions) <= len(matrix):
            return directions
        return _roots(np.einsum("knc,kne->nce", directions, directions))

    def average(self, matrix: np.ndarray | None, states: np.ndarray) -> np.ndarray:
        """(c, c) mobility of the coordinates J x, averaged over states (d, n)."""
        directions = self.seen_by(matrix, states)
        return np.einsum("knc,kne->ce", directions, directions) / states.shape[1]

    def retract(self, states: np.ndarray) -> np.ndarray:
        """The nearest states (d, n) that the system can be in: all of R^d here."""
        return states


class DiagonalField(MobilityField):
    """M(x) diagonal: each component has a noise of its own.

    Parameters
    ----------
    diagonal : function of states (d, n) -> (n, d) array of M_11 ... M_dd, units state**2 / time
    """

    def __init__(self, diagonal: Callable[[np.ndarray], np.ndarray]):
        super().__init__(self._axes)
        self.diagonal = diagonal

    def _axes(self, states: np.ndarray) -> np.ndarray:
        return np.eye(len(states))[:, None, :] * np.sqrt(self.diagonal(states))

    def apply(self, states: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """(n, d) M(x) slope at states (d, n), of slopes (n, d)."""
        return self.diagonal(states) * slopes

    def seen_by(self, matrix: np.ndarray | None, states: np.ndarray) -> np.ndarray:
        """(k, n, c) directions of the coordinates J x at states (d, n): d noises, but no (d, n, d) array for few c."""
        if matrix is None:
            return self.directions(states)
        products = (matrix[:, None, :] * matrix[None, :, :]).reshape(-1, matrix.shape[1])
        return _roots((self.diagonal(states) @ products.T).reshape(-1, len(matrix), len(matrix)))


def _roots(matrices: np.ndarray) -> np.ndarray:
    """(c, n, c) directions f_a with sum f_a f_a^T the given positive semi-definite (n, c, c) matrices."""
    values, vectors = np.linalg.eigh(matrices)
    return (vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]).transpose(2, 0, 1)


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
    __array_ufunc__ = None  # NumPy leaves rows @ mobility to __rmatmul__

    def __rmatmul__(self, rows: np.ndarray) -> np.ndarray:
        """(n, d) rows times M: gradients to velocities."""
        if not len(rows):  # nothing is looked at
            return rows
        # <g, M g'> is a plain sum over points, the modes are orthonormal with weight `cell`
        modes = self.system.to_modes(np.ascontiguousarray(rows.T)) * self.variances[:, None]
        return np.ascontiguousarray(self.system.from_modes(modes).T) / self.system.domain.cell

    def at_points(self, _states: np.ndarray) -> np.ndarray:
        """(points, 1) diagonal of M."""
        return self.system.pointwise_variance(self.variances)[:, None]


class MultipliedField(MobilityField):
    """M(x) = B(x) B(x)^T / 2 of noise that is multiplied on the grid, B(x) xi = g(u) W with W = sum_j q_j xi_j e_j.

    Parameters
    ----------
    equation : with multiplicative noise; its `amplitudes` give g(u) on the grid
    """

    def __init__(self, equation):
        super().__init__(lambda states: self.seen_by(None, states))
        self._equation = equation

    def _spread(self, amplitudes: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """(d, n) B(x)^T of slopes (d, n)."""
        equation = self._equation
        modes = equation.each(equation.domain.analysis, amplitudes * equation.fields(slopes))
        # a plain sum over points for states on the grid, integrals otherwise
        return equation.scales[:, None] * modes / (equation.domain.cell if equation.domain.is_grid else 1.0)

    def apply(self, states: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """(n, d) M(x) slope at states (d, n), of slopes (n, d)."""
        equation, amplitudes = self._equation, self._equation.amplitudes(states)
        spread = self._spread(amplitudes, np.ascontiguousarray(slopes.T)) * equation.scales[:, None]
        values = amplitudes * equation.each(equation.domain.synthesis, spread)
        return np.ascontiguousarray(equation.from_fields(values).T) / 2

    def at_points(self, states: np.ndarray) -> np.ndarray:
        """(fields * grid_size, n) diagonal of the mobility of the fields on the grid, at states (d, n)."""
        equation, domain, amplitudes = self._equation, self._equation.domain, self._equation.amplitudes(states)
        if domain.is_grid:
            return amplitudes**2 * equation.pointwise_variance(equation.scales**2 / 2)[:, None]
        total = np.zeros(amplitudes.shape)
        for mode, scales in enumerate(equation.scales.reshape(len(equation.names), -1).T):
            # the product is projected on the modes
            noise = amplitudes * np.kron(scales[:, None], domain.modes([mode]))
            total += equation.fields(equation.from_fields(noise)) ** 2
        return total / 2

    def seen_by(self, matrix: np.ndarray | None, states: np.ndarray) -> np.ndarray:
        """(k, n, c) directions of the coordinates J x at states (d, n)."""
        amplitudes = self._equation.amplitudes(states)
        rows = np.eye(len(states)) if matrix is None else matrix
        spread = [self._spread(amplitudes, np.repeat(row[:, None], states.shape[1], axis=1)) for row in rows]
        return _roots(np.einsum("cjn,ejn->nce", spread, spread) / 2)
