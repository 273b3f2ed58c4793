"""Rational quadratic functions, normalised: a mixture of Gaussians of many widths, with tails of a power of r."""

from __future__ import annotations

import numpy as np

from kswgd_hpc.backend import array_module
from kswgd_hpc.dictionary.radial import RadialDictionary


class RationalQuadraticDictionary(RadialDictionary):
    """f(r) = (1 + r^2 / (2 alpha))^(-alpha); see RadialDictionary. Far away, normalised, they tend to 1 / p each.

    Parameters
    ----------
    centres, bandwidth : as for RadialDictionary
    exponent : alpha; large alpha is a Gaussian. Below half the number of coordinates the far functions outweigh the
        near ones, and the dictionary resolves little.

    Source: Rasmussen and Williams 2006, section 4.2.
    """

    kind = "rational_quadratic"

    def __init__(self, centres: np.ndarray, bandwidth: float, alpha: float = 4.0):
        super().__init__(centres, bandwidth)
        self.alpha = alpha

    def exponent(self, s: np.ndarray) -> np.ndarray:
        """q(s) = alpha log(1 + s / (2 alpha))."""
        return self.alpha * array_module(s).log1p(s / (2 * self.alpha))

    def slope(self, s: np.ndarray) -> np.ndarray:
        """q'(s)."""
        return 0.5 / (1 + s / (2 * self.alpha))

    def curvature(self, s: np.ndarray) -> np.ndarray:
        """q''(s)."""
        return -0.25 / self.alpha / (1 + s / (2 * self.alpha)) ** 2

    def parameters(self) -> dict[str, np.ndarray]:
        """What `RationalQuadraticDictionary` is made from."""
        return {**super().parameters(), "alpha": np.array(self.alpha)}
