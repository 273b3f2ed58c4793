"""Fused finite-difference steps: Euler-Maruyama on any grid, semi-implicit Euler-Maruyama on an interval."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from spde import fused
from spde.codegen import scalar, specialise
from spde.formulas import abstract
from spde.schemes import euler_maruyama
from spde.stepping import Noise, Stepper

_ARGUMENTS = ("x", "y", "z")


def is_local(equation, scheme: str) -> bool:
    """Whether all terms of an equation act from point to neighbouring point, so that its steps can be fused."""
    law, domain = equation.laws[0], equation.domain
    local = domain.is_grid and len(equation.laws) == 1 and not law.grid_functions
    local = local and law.hyperdiffusivity == 0 and law.potential == 0 and all(f == 0 for f in law.flux)
    local = local and equation.covariance.kind == "white" and not equation.covariance.conserved
    if scheme == "semi_implicit":
        axis = domain.axes[0]
        return local and domain.dimensions == 1 and axis.points >= (3 if axis.boundary == "periodic" else 1)
    return local and scheme == "euler_maruyama"


class GridStepper(Stepper):
    """Steps on the grid itself, one pass over the points a step.

    Parameters
    ----------
    equation : for which `is_local`
    """

    def __init__(self, equation, time_step: float, scheme: str, reason: str = ""):
        super().__init__(time_step, scheme, reason)
        law, self.domain = equation.laws[0], equation.domain
        self.equation, self.additive = equation, not law.is_multiplicative
        formulas, names, self._parameters = abstract([law.reaction, law.amplitude])
        sources = {
            name: scalar(name, formula, (law.name, *_ARGUMENTS), names)
            for name, formula in zip(("reaction", "amplitude"), formulas)
        }
        self._kernels = specialise(fused, sources, MULTIPLICATIVE=law.is_multiplicative)
        self._grid = np.zeros((3, self.domain.size))
        self._grid[: self.domain.dimensions] = list(self.domain.coordinates.values())
        amplitude = 1.0 if law.is_multiplicative else law.amplitude
        self._scale = amplitude * np.sqrt(time_step / self.domain.cell)
        self._weights = np.array([time_step * law.diffusivity / axis.spacing**2 for axis in self.domain.axes])
        self._damping = time_step * law.damping
        if scheme == "semi_implicit":
            self._pivot, self._wrap = self._factorise()
        else:
            euler_maruyama.coefficients(equation.rates, equation.scales, time_step)  # stability

    def _factorise(self) -> tuple[np.ndarray, np.ndarray]:
        """Reciprocal pivots of 1 + h damping - h nu Laplacian, and the rank-one correction that closes a period."""
        axis, w = self.domain.axes[0], self._weights[0]
        diagonal = np.full(axis.points, 1.0 + self._damping + 2 * w)
        if axis.boundary == "neumann":
            diagonal[[0, -1]] -= w
            if axis.points == 1:
                diagonal[0] = 1.0 + self._damping
        corner = diagonal[0]
        if axis.boundary == "periodic":
            # A = T + a b^T, a = (-corner, 0, ..., -w), b = (1, 0, ..., w / corner): Sherman and Morrison 1950
            diagonal[0] += corner
            diagonal[-1] += w**2 / corner
        pivot = np.empty(axis.points)
        pivot[0] = 1 / diagonal[0]
        for i in range(1, axis.points):
            pivot[i] = 1 / (diagonal[i] - w**2 * pivot[i - 1])
        if axis.boundary != "periodic":
            return pivot, np.empty(0)
        bands = np.array([np.full(axis.points, -w), diagonal, np.full(axis.points, -w)])
        right = np.zeros(axis.points)
        right[0], right[-1] = -corner, -w
        z = scipy.linalg.solve_banded((1, 1), bands, right)
        ratio = w / corner
        return pivot, np.append(z / (1 + z[0] + ratio * z[-1]), ratio)

    def enter(self, states: np.ndarray) -> np.ndarray:
        """(points + 1, batch), with a row of zeros behind; twice for Euler-Maruyama."""
        copies = 1 if self.scheme == "semi_implicit" else 2
        array = np.zeros((copies, len(states) + 1, states.shape[1]))
        array[0, :-1] = states
        return array

    def leave(self, array: np.ndarray) -> np.ndarray:
        """The state."""
        return array[0, :-1]

    @property
    def rows(self) -> int:
        """One random number a point."""
        return self.domain.size

    def kick(self, states: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """(d, batch) noise of a step."""
        return self._scale * numbers if self.additive else self._scale * self.equation.amplitudes(states) * numbers

    def march(self, array: np.ndarray, noise: Noise, step: int, steps: int, trace: np.ndarray) -> np.ndarray:
        """The array after some steps; the state is its first part."""
        normal = np.empty((4, array.shape[2]))
        tail = (self._grid, self._parameters, self.time_step, self._scale, noise.address, step, steps, normal, trace)
        if self.scheme == "semi_implicit":
            self._kernels.semi_implicit(array[0], self._pivot, self._weights[0], self._wrap, *tail)
            return array
        left, right = self.domain.neighbours
        self._kernels.explicit(array, left, right, self._weights, self._damping, *tail)
        return array if steps % 2 == 0 else array[::-1].copy()
