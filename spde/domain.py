"""Intervals: boundary conditions, grids, Laplacian eigenbasis and the transforms between them.

Every discretisation here is diagonal in an orthonormal basis e_j of Laplacian eigenfunctions, so a field
is a set of coefficients c_j = <u, e_j> whichever way it is stored:

* finite differences: n grid points, n modes, eigenvalues of the three-point Laplacian;
* spectral Galerkin: n modes with the exact eigenvalues; products are formed on a grid of 2n points (2n + 2 where
  periodic), which integrates cubic nonlinearities exactly (dealiasing).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import scipy.fft

Boundary = Literal["periodic", "neumann", "dirichlet"]
Discretization = Literal["finite_difference", "spectral"]

# below this many grid points a matrix product beats the fast transform
_DENSE_POINTS = 128


@dataclass(frozen=True)
class Interval:
    """The interval [0, length] with `points` degrees of freedom.

    Parameters
    ----------
    length : in units of x
    points : number of grid points (finite differences) or modes (spectral)
    boundary : periodic (grid i dx), neumann (cell centred), dirichlet (interior points, zero outside)
    discretization : finite_difference or spectral
    """

    length: float
    points: int
    boundary: Boundary = "neumann"
    discretization: Discretization = "finite_difference"

    @cached_property
    def grid_points(self) -> int:
        """Number of points at which nonlinear terms are evaluated."""
        if self.discretization == "finite_difference":
            return self.points
        # four factors of the highest periodic wavenumber, n / 2, must not reach that of the grid
        return 2 * self.points + (2 if self.boundary == "periodic" else 0)

    @cached_property
    def spacing(self) -> float:
        """Distance between grid points."""
        cells = self.grid_points + (1 if self.boundary == "dirichlet" else 0)
        return self.length / cells

    @cached_property
    def grid(self) -> np.ndarray:
        """(grid_points,) coordinates of the grid."""
        offset = {"periodic": 0.0, "neumann": 0.5, "dirichlet": 1.0}[self.boundary]
        return (np.arange(self.grid_points) + offset) * self.spacing

    @cached_property
    def wavenumbers(self) -> np.ndarray:
        """(points,) wavenumbers of the modes, ascending; periodic ones come as cosine, sine pairs."""
        index = np.arange(self.points)
        if self.boundary == "periodic":
            return 2 * np.pi / self.length * ((index + 1) // 2)
        return np.pi / self.length * (index + (1 if self.boundary == "dirichlet" else 0))

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """(points,) eigenvalues of minus the Laplacian, units 1/length**2, ascending."""
        if self.discretization == "spectral":
            return self.wavenumbers**2
        return (2 / self.spacing * np.sin(self.wavenumbers * self.spacing / 2)) ** 2

    @cached_property
    def basis(self) -> np.ndarray:
        """(grid_points, points) values of the eigenfunctions, orthonormal: spacing * E.T @ E = 1."""
        phase = np.outer(self.grid, self.wavenumbers)
        if self.boundary == "neumann":
            basis = np.cos(phase)
        elif self.boundary == "dirichlet":
            basis = np.sin(phase)
        else:
            sine = np.arange(self.points) % 2 == 0
            sine[0] = False
            basis = np.where(sine, np.sin(phase), np.cos(phase))
        return basis * self._amplitudes

    @cached_property
    def _amplitudes(self) -> np.ndarray:
        """(points,) factor that makes each cosine or sine orthonormal."""
        amplitudes = np.full(self.points, np.sqrt(2 / self.length))
        if self.boundary != "dirichlet":
            amplitudes[0] = np.sqrt(1 / self.length)
        if self.boundary == "periodic" and self.points % 2 == 0 and self.grid_points == self.points:
            amplitudes[-1] = np.sqrt(1 / self.length)  # the cosine that alternates from point to point
        return amplitudes

    @cached_property
    def synthesis(self) -> Callable[[np.ndarray], np.ndarray]:
        """Function from coefficients (points, batch) to grid values (grid_points, batch)."""
        if self.grid_points <= _DENSE_POINTS:
            basis = np.ascontiguousarray(self.basis)
            return lambda modes: basis @ modes
        return self._fast_synthesis

    @cached_property
    def analysis(self) -> Callable[[np.ndarray], np.ndarray]:
        """Function from grid values (grid_points, batch) to coefficients (points, batch)."""
        if self.grid_points <= _DENSE_POINTS:
            projection = np.ascontiguousarray(self.basis.T * self.spacing)
            return lambda values: projection @ values
        return self._fast_analysis

    def _fast_synthesis(self, modes: np.ndarray) -> np.ndarray:
        m, scaled = self.grid_points, modes * self._amplitudes[:, None]
        if self.boundary == "periodic":
            spectrum = np.zeros((m // 2 + 1, modes.shape[1]), dtype=complex)
            spectrum[0] = scaled[0] * m
            cosines, sines = scaled[1::2], scaled[2::2]
            spectrum.real[1 : 1 + len(cosines)] = cosines * (m / 2)
            spectrum.imag[1 : 1 + len(sines)] = -sines * (m / 2)
            if len(cosines) == m // 2 and m % 2 == 0:
                spectrum[m // 2] *= 2
            return scipy.fft.irfft(spectrum, m, axis=0)
        padded = np.zeros((m, modes.shape[1]))
        padded[: self.points] = scaled
        if self.boundary == "dirichlet":
            return scipy.fft.dst(padded, 1, axis=0, overwrite_x=True) / 2
        padded[0] *= 2
        return scipy.fft.dct(padded, 3, axis=0, overwrite_x=True) / 2

    def _fast_analysis(self, values: np.ndarray) -> np.ndarray:
        scale = (self._amplitudes * self.spacing)[:, None]
        if self.boundary == "periodic":
            spectrum = scipy.fft.rfft(values, axis=0)
            modes = np.empty((self.points, values.shape[1]))
            modes[0] = spectrum.real[0]
            cosines, sines = modes[1::2], modes[2::2]
            cosines[:] = spectrum.real[1 : 1 + len(cosines)]
            sines[:] = -spectrum.imag[1 : 1 + len(sines)]
            return modes * scale
        kind = scipy.fft.dst(values, 1, axis=0) if self.boundary == "dirichlet" else scipy.fft.dct(values, 2, axis=0)
        return kind[: self.points] * (scale / 2)
