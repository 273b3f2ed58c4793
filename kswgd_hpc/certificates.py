"""What an eigenpair is worth: the error of the time step, and the true residual.

Both restart the dynamics from recorded states. Time step: paths with the run's step and with half of it, driven by the
same Brownian motion, differ by little, so that the small change of an eigenvalue is seen through the noise. To first
order mu moves by <l, (K_h - K_h/2) phi>, l the left eigenfunction, whatever law the states have. An estimator without a
lag owes to the time step the law of its states alone: the mean of f over it moves by the mean of (K_h - K_h/2) g, with
g = sum_n K^n f.
Residual: with two independent successors y, y' of x, (phi(y) - mu phi(x)) conj(phi(y') - mu phi(x)) has the mean
|K phi - mu phi|^2, without the variance of the process. Source: Colbrook, Li, Raut and Townsend 2024, "Beyond
expectations: residual dynamic mode decomposition and variance for stochastic dynamical systems".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kswgd_hpc.statistics import standard_error

# a function whose residual is beyond this fraction of |mu| is no approximate eigenfunction
_SPURIOUS = 0.5


@dataclass(frozen=True)
class Restarts:
    """Eigenfunctions at recorded states and at their successors a time `horizon` later, of one independent group.

    right : (n, k) right eigenfunctions at x
    first, second : (n, k) the same at independent successors; second None where not asked for
    change : (n, k) by which the values move from half the time step to the whole one, on one Brownian path
    weight : (n,)
    """

    right: np.ndarray
    first: np.ndarray
    second: np.ndarray | None
    change: np.ndarray
    weight: np.ndarray

    def sums(self, eigenvalues: np.ndarray) -> np.ndarray:
        """(4, k) complex: weight, norm of the right eigenfunctions, change of the values, squared residual."""
        w = self.weight[:, None]
        square = np.zeros(self.right.shape[1])
        if self.second is not None:
            start = eigenvalues * self.right
            square = (w * ((self.first - start) * (self.second - start).conj()).real).sum(axis=0)
        norm = (w * np.abs(self.right) ** 2).sum(axis=0)
        change = (w * self.change).sum(axis=0)
        return np.array([np.full(len(norm), self.weight.sum()), norm, change, square], dtype=complex)


@dataclass(frozen=True)
class TimeStepError:
    """rate(h) - rate(h / 2): difference (k,) complex, and the standard error (k,) of it."""

    difference: np.ndarray
    error: np.ndarray

    @property
    def bound(self) -> np.ndarray:
        """(k,) the size of the difference that the sample does not rule out: root of its square plus its error's."""
        return np.hypot(np.abs(self.difference), self.error)


def time_step_error(sums: np.ndarray, slope: np.ndarray) -> TimeStepError:
    """Change of the rates with the time step.

    Parameters
    ----------
    sums : (groups, 4, k) of all groups, see `Restarts.sums`
    slope : (k,) derivative of the rates with respect to the values
    """
    weight, change = sums[:, 0], sums[:, 2]
    mean = change.sum(axis=0) / weight.sum(axis=0)
    error = standard_error((change - weight * mean) / weight.sum(axis=0))
    return TimeStepError(mean * slope, error * np.abs(slope))


@dataclass(frozen=True)
class TrueResiduals:
    """|K phi - mu phi| / |phi|: values (k,), their standard errors (k,), and which are spurious (k,)."""

    values: np.ndarray
    errors: np.ndarray
    spurious: np.ndarray


def true_residuals(sums: np.ndarray, eigenvalues: np.ndarray) -> TrueResiduals:
    """Residuals of the eigenpairs from the sums of all groups, (groups, 4, k).

    A pair is spurious where its squared residual is beyond (|mu| / 2)^2 by two standard errors: of a function of the
    span with nothing of an eigenfunction in it, K phi is nearly orthogonal to phi, and the residual at least |mu|.
    """
    norm, square = sums[:, 1].real, sums[:, 3].real
    mean = square.sum(axis=0) / norm.sum(axis=0)
    error = standard_error((square - norm * mean) / norm.sum(axis=0))
    values = np.sqrt(np.maximum(mean, 0.0))
    # the upper end of the interval of the square, also where that reaches below zero
    errors = np.sqrt(np.maximum(mean, 0.0) + error) - values
    spurious = mean - 2 * np.nan_to_num(error) > (_SPURIOUS * np.abs(eigenvalues)) ** 2
    return TrueResiduals(values, errors, spurious)
