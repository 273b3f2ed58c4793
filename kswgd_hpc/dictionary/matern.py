"""Matern functions, normalised: rougher than Gaussians, with tails exp(-r), so that Gram matrices condition better."""

from __future__ import annotations

import numpy as np

from kswgd_hpc.backend import array_module
from kswgd_hpc.dictionary.radial import RadialDictionary

_TINY = 1e-150


class MaternDictionary(RadialDictionary):
    """f(r) = (1 + sqrt(3) r) exp(-sqrt(3) r), or (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r); see RadialDictionary.

    Parameters
    ----------
    centres, bandwidth : as for RadialDictionary
    order : "3/2" or "5/2"; functions of a process with one or two derivatives

    Source: Rasmussen and Williams 2006, section 4.2.
    """

    kind = "matern"

    def __init__(self, centres: np.ndarray, bandwidth: float, order: str = "5/2"):
        super().__init__(centres, bandwidth)
        self.order = order
        self._root = {"3/2": np.sqrt(3.0), "5/2": np.sqrt(5.0)}[order]

    def _scaled(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u = sqrt(2 nu) r, and the polynomial in front of exp(-u)."""
        u = array_module(s).sqrt(s) * self._root
        return u, (1 + u if self.order == "3/2" else 1 + u + u**2 / 3)

    def exponent(self, s: np.ndarray) -> np.ndarray:
        """q(s) = u - log(1 + u ...)."""
        u, front = self._scaled(s)
        return u - array_module(s).log(front)

    def slope(self, s: np.ndarray) -> np.ndarray:
        """q'(s)."""
        u, front = self._scaled(s)
        return 1.5 / front if self.order == "3/2" else (5 / 6) * (1 + u) / front

    def curvature(self, s: np.ndarray) -> np.ndarray:
        """q''(s); of 3/2 it grows as 1/r at the centre, where it multiplies r^2."""
        u, front = self._scaled(s)
        if self.order == "3/2":
            return -2.25 / (u.clip(_TINY, None) * front**2)
        return -(25 / 36) * (2 + u) / front**2

    def parameters(self) -> dict[str, np.ndarray]:
        """What `MaternDictionary` is made from."""
        return {**super().parameters(), "order": self.order}
