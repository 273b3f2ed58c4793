"""What a reference is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Reference:
    """An independent value of u at a case's times, averaged over its initial law, and how wrong it may be.

    Parameters
    ----------
    values : (times,)
    errors : (times,) one standard error of a sampled value, a bound on the error of a deterministic one
    method : as people call it
    cost : processor seconds, all ranks
    details : further datasets, such as the table of levels of multilevel Monte Carlo
    """

    values: np.ndarray
    errors: np.ndarray
    method: str
    cost: float
    details: dict[str, np.ndarray] = field(default_factory=dict)
