"""Standard errors from independent groups of trajectories, and the influence of each pair on what is estimated.

What is estimated is a smooth function of means over pairs. To first order it moves with the sample as the sum over
pairs of an influence: s - s_true = (1/W) sum_m w_m IF_m. Pairs of one trajectory depend on each other, groups of
trajectories do not: the spread of the group sums is the standard error.
"""

from __future__ import annotations

import numpy as np
from scipy.special import fdtri, ndtr

_TWO_ERRORS = 2 * ndtr(2.0) - 1
_SKEW = (2 * 2.0**2 + 1) / (6 * 2)  # (2 z^2 + 1) / 6 in units of z, at z = 2


def standard_error(deviations: np.ndarray) -> np.ndarray:
    """Standard error of a sum of independent deviations, one row a group, such that two of them cover 95.4 %.

    That is the content of two standard deviations of a normal law, and three things change it:

    * Few groups know their own spread badly: Student's law, of which Fisher's is the square.
    * A complex number is within two errors where its distance is: of a round law in the plane less than two root mean
      squares are needed. Its squared distance is taken as a chi squared of between one and two degrees of freedom.
    * Where the law is skew, the estimate and its spread fall together when the rare large deviations have not happened.
      To first order the interval is two errors times 1 +- 3/4 times the skewness (Hall 1992, "On the removal of
      skewness by transformation"); the longer side is taken, of the skewness beyond what so many normal numbers show
      by chance.

    Parameters
    ----------
    deviations : (groups, ...) array, real or complex, whose sum over groups is zero up to sampling

    Returns
    -------
    array of the trailing shape; NaN for fewer than two groups
    """
    groups = len(deviations)
    if groups < 2:
        return np.full(deviations.shape[1:], np.nan)
    square = (np.abs(deviations) ** 2).sum(axis=0)
    safe = np.where(square > 0, square, 1.0)
    directed = np.abs((deviations**2).sum(axis=0)) / safe  # 1 on a line, 0 for a round law
    degrees = np.clip(2 / (1 + directed**2), 1.0, 2.0)
    variance = groups / (groups - 1) * square
    radius = np.sqrt(variance * fdtri(degrees, degrees * (groups - 1), _TWO_ERRORS))
    skewness = np.abs((np.abs(deviations) ** 2 * deviations).sum(axis=0)) / safe**1.5
    beyond_chance = np.sqrt(np.maximum(skewness**2 - 6 / groups**2, 0.0))
    return radius / 2 * (1 + _SKEW * beyond_chance)


def effective_sample_size(weights: np.ndarray) -> float:
    """Kish's (sum w)^2 / sum w^2 of non-negative weights."""
    square = float((weights**2).sum())
    return float(weights.sum()) ** 2 / square if square > 0 else 0.0
