"""From pairs under any law to the invariant one: method.md section 2, "Non-stationary data".

For weights w(x) = psi(x)^T q the law w rho is invariant when E_rho[w(x) f(y)] = E_rho[w(x) f(x)] for all f in the span:
q is the left eigenvector of K for mu = 1. Where the drift is known, E_rho[w G f] = 0 says the same without the noise of
the transitions, and knows the balance of metastable sets between which no transition has to be waited for.
Source: Wu, Nueske, Paul, Klus, Koltai and Noe 2017, "Variational Koopman models".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Weights:
    """Density of the invariant law with respect to the law of the sample, w = max(1 + chi @ slope, 0).

    chi are q functions of mean zero and unit covariance under the law of the sample. `response` turns the mean of
    w (chi(y) - chi(x)), or of w G chi, over a part of the sample into what that part adds to the slope's error.

    slope : (q,), response : (q, q)
    """

    slope: np.ndarray
    response: np.ndarray

    def __call__(self, chi: np.ndarray) -> np.ndarray:
        """(n,) weights, not normalised, of functions (n, q)."""
        return np.maximum(1 + chi @ self.slope, 0.0)

    def active(self, chi: np.ndarray) -> np.ndarray:
        """(n, q) derivative of the weights with respect to the slope: chi, where the weight is not clipped."""
        return chi * (1 + chi @ self.slope > 0)[:, None]

    def influence(self, sensitivity: np.ndarray) -> np.ndarray:
        """(q, k) map from the increments chi(y) - chi(x), or G chi, times w, to the influence on k estimates.

        Parameters
        ----------
        sensitivity : (q, k) mean over the sample of `active` times the influence of a pair at fixed weights
        """
        return self.response @ sensitivity


def invariant_weights(drift: np.ndarray, matrix: np.ndarray) -> Weights:
    """Weights under which the mean increment of every function vanishes.

    Parameters
    ----------
    drift : (q,) mean of chi(y) - chi(x), or of G chi, under the law of the sample
    matrix : (q, q) mean of chi(x) (chi(y) - chi(x))^T, or of chi (G chi)^T
    """
    # drift + matrix^T slope = 0; a change of the left-hand side by r changes the slope by -matrix^-T r
    inverse = np.linalg.pinv(matrix)
    return Weights(-drift @ inverse, -inverse)
