"""The rate function of a time average: I(a) = sup_theta (theta a - Lambda(theta)), Lambda on a grid of theta.

Lambda(theta), minus the principal eigenvalue of L - theta g, is convex and smooth: a cubic spline through the grid is
maximised. Prediction and reference go the same way, each from eigenvalues of its own.
Source: Touchette 2009, "The large deviation approach to statistical mechanics".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.feynman_kac.budget import CAUSES, Budget
from kswgd_hpc.feynman_kac.case import Case
from kswgd_hpc.feynman_kac.predict import Prediction
from kswgd_hpc.references import Reference

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline

_HALVED = 8.0  # by how much half the spacing makes the spline better, at least: its order is 4
_NEARBY = 0.25  # of the spacing: how far the true maximiser may be from that of the spline


@dataclass(frozen=True)
class Row:
    """A curve of an entry: prediction and reference.

    axis : name and numbers of what it runs over, None where it is one number
    """

    values: np.ndarray
    budget: Budget
    reference: Reference
    axis: tuple[str, np.ndarray] | None
    rates: np.ndarray = field(default_factory=lambda: np.zeros(0))
    rejected: int = 0

    @classmethod
    def of(cls, case: Case, prediction: Prediction, reference: Reference) -> Row:
        """Of a case."""
        axis = None if case.steady else ("times", np.array(case.times)[-len(prediction.values) :])
        row = cls(prediction.values, prediction.budget, reference, axis, prediction.rates, prediction.rejected)
        return row._with_start(*prediction.start) if case.begins else row

    def _with_start(self, value: float, error: float) -> Row:
        """With u at time 0 before all others, an average over starts that prediction and reference share."""
        budget = {
            cause: np.append(error if cause == "sampling" else 0.0, getattr(self.budget, cause)) for cause in CAUSES
        }
        reference = replace(
            self.reference,
            values=np.append(value, self.reference.values),
            errors=np.append(error, self.reference.errors),
        )
        values, times = np.append(value, self.values), np.append(0.0, self.axis[1])
        return replace(self, values=values, budget=Budget(**budget), reference=reference, axis=("times", times))


@dataclass(frozen=True)
class Transform:
    """Legendre transform of a function that is known at some theta.

    values : (n,) I at the numbers asked for; weights : (n, thetas) minus its derivatives by the values of the function
    interpolation : (n,) error of the spline
    """

    values: np.ndarray
    weights: np.ndarray
    interpolation: np.ndarray


def transformed(thetas: np.ndarray, function: np.ndarray, at: np.ndarray) -> Transform:
    """The Legendre transform of a function with values (thetas,) at numbers (n,)."""
    spline = _spline(thetas, function)
    places = np.array([_maximiser(spline, thetas, a) for a in at])
    weights = _spline(thetas, np.eye(len(thetas)))(places)
    return Transform(places * at - spline(places), weights, _interpolation(thetas, function, places))


def slopes(thetas: np.ndarray, function: np.ndarray) -> np.ndarray:
    """(thetas,) derivative of the spline through a function: the time averages that each theta makes typical."""
    return _spline(thetas, function)(thetas, 1)


def rate_function(entry: Any, rows: list[Row]) -> Row:
    """The rate function of an entry from its principal eigenvalues, one row for each theta."""
    thetas, at = np.array(entry.thetas), np.array(entry.values)
    found = transformed(thetas, -np.concatenate([row.values for row in rows]), at)
    other = transformed(thetas, -np.concatenate([row.reference.values for row in rows]), at)
    parts = {
        cause: np.abs(found.weights) @ np.concatenate([getattr(row.budget, cause) for row in rows]) for cause in CAUSES
    }
    parts["projection"] = np.hypot(parts["projection"], found.interpolation)
    errors = np.abs(other.weights) @ np.concatenate([row.reference.errors for row in rows])
    first = rows[0].reference
    reference = Reference(
        other.values,
        np.hypot(errors, other.interpolation),
        first.method,
        sum(row.reference.cost for row in rows),
        {},
    )
    return Row(found.values, Budget(**parts), reference, ("values", at), rejected=max(row.rejected for row in rows))


def cumulants(entry: Any, rows: list[Row]) -> Row:
    """The scaled cumulant generating function of an entry from its principal eigenvalues, one row for each theta."""

    def joined(of: Callable[[Row], np.ndarray]) -> np.ndarray:
        return np.concatenate([of(row) for row in rows])

    budget = Budget(**{cause: joined(lambda row, cause=cause: getattr(row.budget, cause)) for cause in CAUSES})
    reference = Reference(
        -joined(lambda row: row.reference.values),
        joined(lambda row: row.reference.errors),
        rows[0].reference.method,
        sum(row.reference.cost for row in rows),
    )
    axis, rejected = ("thetas", np.array(entry.thetas)), max(row.rejected for row in rows)
    return Row(-joined(lambda row: row.values), budget, reference, axis, rejected=rejected)


def generating_function(entry: Any, rows: list[Row]) -> dict[str, np.ndarray]:
    """The scaled cumulant generating function at the thetas of an entry, by prediction and reference."""
    function = -np.concatenate([row.values for row in rows])
    return {
        "thetas": np.array(entry.thetas),
        "generating_function": function,
        "generating_function_error": np.concatenate([row.budget.total for row in rows]),
        "generating_function_reference": -np.concatenate([row.reference.values for row in rows]),
        "generating_function_reference_error": np.concatenate([row.reference.errors for row in rows]),
        "slopes": slopes(np.array(entry.thetas), function),
    }


def check_covered(entry: Any, function: np.ndarray) -> None:
    """That the numbers at which the rate function is wanted are slopes of its generating function (thetas,).

    Raises
    ------
    ConfigurationError : naming the first that is not
    """
    covered = slopes(np.array(entry.thetas), function)
    low, high = covered[0], covered[-1]
    for value in entry.values:
        if not low <= value <= high:
            raise ConfigurationError(
                f"validation.feynman_kac.{entry.name}.values: {value:g} is beyond the time averages from {low:.4g} to "
                f"{high:.4g} that the thetas reach; give {'smaller' if value < low else 'larger'} thetas"
            )


def _spline(thetas: np.ndarray, function: np.ndarray) -> CubicSpline:
    from scipy.interpolate import CubicSpline  # and scipy.optimize with it: a quarter of a second for every rank

    return CubicSpline(thetas, function)


def _interpolation(thetas: np.ndarray, function: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(n,) error of the spline near places (n,), which is that of I: where the maximum is, it does not depend on it.

    A value that is left out, and so a spacing twice as large, tells the error in the intervals beside it. Within one
    the error is a quartic that vanishes at both ends.
    """
    middle = np.arange(1, len(thetas) - 1)
    missed = [abs(_spline(np.delete(thetas, j), np.delete(function, j))(thetas[j]) - function[j]) for j in middle]
    at_nodes = np.array([missed[0], *missed, missed[-1]])
    largest = np.maximum(at_nodes[:-1], at_nodes[1:]) / _HALVED

    def interval(points: np.ndarray) -> np.ndarray:
        return np.clip(np.searchsorted(thetas, points) - 1, 0, len(thetas) - 2)

    near = np.diff(thetas)[interval(places)] * np.linspace(-_NEARBY, _NEARBY, 9)[:, None]
    points = np.clip(places + near, thetas[0], thetas[-1])
    index = interval(points)
    share = (points - thetas[index]) / np.diff(thetas)[index]
    return (largest[index] * 16 * share**2 * (1 - share) ** 2).max(axis=0)


def _maximiser(spline: CubicSpline, thetas: np.ndarray, slope: float) -> float:
    """Where theta times the slope is most above the spline, between the first theta and the last."""
    roots = spline.derivative().solve(slope, extrapolate=False)
    places = np.array([thetas[0], thetas[-1], *roots[np.isfinite(roots)]])
    return float(places[np.argmax(places * slope - spline(places))])
