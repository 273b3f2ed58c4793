"""What a reference took, in a line: from its details, before they are written or after."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def account(details: Mapping[str, np.ndarray]) -> str:
    """How many paths or samples, and how many times as many plain Monte Carlo would take; empty where none were run.

    Parameters
    ----------
    details : of a `Reference`, or the datasets `reference_details` of the results
    """
    if "level_samples" in details:
        return _levels(details)
    if "control_variate_factor" in details:
        return _paths(details)
    return ""


def _levels(details: Mapping[str, np.ndarray]) -> str:
    steps, total, plain = details["level_time_step"], float(details["total_cost"]), float(details["plain_cost"])
    slope = f"; the cost grew as tolerance^{float(details['cost_slope']):.2f}" if "cost_slope" in details else ""
    return (
        f"{len(steps)} levels with time steps {steps[0]:g} to {steps[-1]:g}, "
        f"{' '.join(str(int(count)) for count in details['level_samples'])} samples, {total:.3g} random numbers; plain "
        f"paths with the finest step take {plain / total:.2g} times as many for the same error{slope}"
    )


def _paths(details: Mapping[str, np.ndarray]) -> str:
    paths = f"{int(details['paths'])} paths{' in antithetic pairs' if details['antithetic'] else ''}"
    if not details["control_variate_piece"]:
        return paths
    return (
        f"{paths}, the prediction as control variate; plain Monte Carlo takes "
        f"{_range(details['control_variate_factor'])} times as many for the same error, "
        f"{_range(details['control_variate_gain'])} times the work"
    )


def _range(values: np.ndarray) -> str:
    """The least and the greatest of some numbers, or the one that they are."""
    low, high = (f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in (np.min(values), np.max(values)))
    return low if low == high else f"{low} to {high}"
