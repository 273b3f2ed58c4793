"""Q-Wiener processes whose covariance is diagonal in the Laplacian's eigenbasis: W = sum_j q_j e_j(x) W_j(t).

The q_j are functions of the wavenumber alone, taken without discretisation error, so that a mode has the same noise on
every grid. A stationary kernel C(x - y) enters by its spectral density S(k) = integral C(r) exp(-i k r) dr,
q_j^2 = S(k_j): on a periodic domain the covariance is C, summed over periods; at Neumann and Dirichlet ends C and its
mirror images with positive and negative sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import gammaln

from spde.errors import SpdeError

Kind = Literal["white", "power_law", "exponential", "gaussian", "matern"]


@dataclass(frozen=True)
class Covariance:
    """Spatial covariance of the noise, of unit amplitude.

    Parameters
    ----------
    kind : white (C = delta), power_law (q^2 = (1 + (length k)^2)^-exponent), exponential (C = exp(-r / length)),
        gaussian (C = exp(-r^2 / (2 length^2))), matern (smoothness nu; 1/2 is exponential, infinity gaussian)
    length : correlation length
    exponent : of power_law
    smoothness : of matern
    conserved : noise is the divergence of a field of this covariance: q^2 is multiplied by the Laplacian's eigenvalue
    """

    kind: Kind = "white"
    length: float = 1.0
    exponent: float = 2.0
    smoothness: float = 1.5
    conserved: bool = False

    def __post_init__(self):
        if self.length <= 0 or self.exponent <= 0 or self.smoothness <= 0:
            raise SpdeError("length, exponent and smoothness of a covariance are positive")

    def spectrum(self, squared_wavenumbers: np.ndarray, dimensions: int) -> np.ndarray:
        """q_j^2, units length**dimensions for kernels and 1 for white and power_law.

        Parameters
        ----------
        squared_wavenumbers : (size,) k_j^2
        dimensions : of space
        """
        if self.kind == "white":
            return np.ones_like(squared_wavenumbers)
        scaled = squared_wavenumbers * self.length**2
        if self.kind == "power_law":
            return (1 + scaled) ** -self.exponent
        if self.kind == "gaussian":
            return (2 * np.pi * self.length**2) ** (dimensions / 2) * np.exp(-scaled / 2)
        # Rasmussen and Williams 2006, equation (4.15)
        nu = 0.5 if self.kind == "exponential" else self.smoothness
        half = dimensions / 2
        factor = np.exp(gammaln(nu + half) - gammaln(nu)) * (2 * np.pi * self.length**2 / nu) ** half
        return factor * (1 + scaled / (2 * nu)) ** -(nu + half)

    def decay(self, dimensions: int) -> float:
        """r where q_j^2 falls as k_j^(-2 r), infinite for gaussian; a function of space if 2 r > dimensions."""
        order = {
            "white": 0.0,
            "power_law": self.exponent,
            "exponential": 0.5 + dimensions / 2,
            "gaussian": np.inf,
            "matern": self.smoothness + dimensions / 2,
        }[self.kind]
        return order - (1.0 if self.conserved else 0.0)
