"""Law of the spatial mean of a field, and the bounds of rates that follow from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

Pointwise = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class MeanLaw:
    """Law of the spatial mean m, as the Fourier series of its density on an interval that holds it all.

    Attributes
    ----------
    low, period : the interval [low, low + period]
    characteristic : (J,) E exp(2 pi i j (m - low) / period), j = 0, 1, ...
    mobility : D = sigma^2 / (2 L) (times n / (n + 1) for Dirichlet) of m, state^2 / time
    """

    low: float
    period: float
    characteristic: np.ndarray
    mobility: float

    @cached_property
    def _frequencies(self) -> np.ndarray:
        return 2 * np.pi / self.period * np.arange(len(self.characteristic))

    def density(self, values: np.ndarray) -> np.ndarray:
        """Probability density at values (k,); 0 outside the interval. Absolute errors are about 1e-14 / period."""
        values = np.asarray(values, dtype=float)
        waves = np.exp(-1j * np.multiply.outer(values - self.low, self._frequencies[1:]))
        series = (1 + 2 * (waves @ self.characteristic[1:]).real) / self.period
        return np.where((values >= self.low) & (values <= self.low + self.period), series, 0.0)

    def distribution(self, values: np.ndarray) -> np.ndarray:
        """P(m <= values), term by term from the series."""
        offset = np.clip(np.asarray(values, dtype=float) - self.low, 0, self.period)
        rates = -1j * self._frequencies[1:]
        waves = np.expm1(np.multiply.outer(offset, rates)) / rates
        return (offset + 2 * (waves @ self.characteristic[1:]).real) / self.period

    def probability(self, low: float, high: float) -> float:
        """P(low < m < high); ends may be infinite."""
        return float(np.diff(self.distribution(np.array([low, high])))[0])

    @cached_property
    def _quadrature(self) -> tuple[np.ndarray, np.ndarray]:
        """Values of m and their probabilities, exact for smooth functions."""
        count = 8 * len(self.characteristic) + 64
        values = self.low + self.period * np.arange(count) / count
        probabilities = self.density(values) * self.period / count
        # far out there is only rounding, which high powers of m would amplify
        support = np.flatnonzero(probabilities > 1e-15 * probabilities.max())
        part = slice(support[0], support[-1] + 1)
        return values[part], probabilities[part]

    def expectation(self, function: Pointwise) -> float:
        """E g(m) for a smooth g."""
        values, probabilities = self._quadrature
        return float(function(values) @ probabilities)

    @property
    def mean(self) -> float:
        return self.expectation(lambda m: m)

    def central_moment(self, order: int) -> float:
        """E (m - E m)^order."""
        return self.expectation(lambda m: (m - self.mean) ** order)

    @property
    def variance(self) -> float:
        return self.central_moment(2)

    def cumulant(self, order: int) -> float:
        """kappa_1, kappa_2, ...: mean, variance, third central moment, E (m - E m)^4 - 3 variance^2, ..."""
        central = [1.0, 0.0] + [self.central_moment(k) for k in range(2, order + 1)]
        cumulants = [0.0, 0.0]
        for k in range(2, order + 1):
            known = sum(math.comb(k - 1, j - 1) * cumulants[j] * central[k - j] for j in range(2, k))
            cumulants.append(central[k] - known)
        return self.mean if order == 1 else cumulants[order]

    def rate_bounds(self, count: int = 1, elements: int = 400) -> np.ndarray:
        """Upper bounds of the `count` slowest positive rates of the dynamics, ascending.

        The rates are the minima of Dirichlet form over variance among functions of the field (method.md sections 1
        and 2); here they are sought among functions f(m) of the spatial mean alone, D E f'(m)^2 / Var f(m), piecewise
        linear and constant in the tails. They include clip(k (m - c), -1, 1) up to the width of an element. Bounds
        smaller than 1e-12 D / period^2 drown in rounding, and come out too high.
        """
        inner = np.interp([1e-7, 1 - 1e-7], self.distribution(self._quadrature[0]), self._quadrature[0])
        knots, length = np.linspace(*inner, elements + 1, retstep=True)
        nodes, weights = np.polynomial.legendre.leggauss(6)
        nodes, weights = (nodes + 1) / 2, weights * length / 2
        density = self.density(knots[:-1, None] + length * nodes)
        # f' costs: on a barrier of which only rounding is left it must not seem to cost less than it may
        cost = np.maximum(density, 1e-13 / self.period) @ weights
        held = np.maximum(density, 0) * weights
        outside = np.array([1, 0]) + np.array([-1, 1]) * self.distribution(inner)[::-1]
        mass = np.zeros((elements + 1, elements + 1))
        np.fill_diagonal(mass[1:, :-1], held @ (nodes * (1 - nodes)))
        mass += mass.T
        corners = np.r_[held @ (1 - nodes) ** 2, outside[0]] + np.r_[outside[1], held @ nodes**2]
        np.fill_diagonal(mass, corners)
        means = mass.sum(axis=1)
        # in terms of the increments of f the form is diagonal, and the variance may be singular
        steps = np.tri(elements + 1, elements, -1) / np.sqrt(cost)
        variance = steps.T @ (mass - np.outer(means, means) / means.sum()) @ steps
        largest = scipy.linalg.eigvalsh(variance, subset_by_index=[elements - count, elements - 1])
        return self.mobility / (length**2 * largest[::-1])
