"""Closed-form laws of whatever is linear: rates, covariances, transition laws, Feynman-Kac values (method.md 1, 4).

`LinearLaw` holds independent modes, as a linear SPDE has them in the eigenbasis of its Laplacian, and costs O(d).
`OrnsteinUhlenbeck` holds a full drift matrix, reversible or not, and costs O(d^3).
Both answer the same questions; `feynman_kac` and `principal_eigenpair` take either.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

from spde.errors import SpdeError
from spde.riccati import (
    KilledTransition,
    PrincipalEigenpair,
    Quadratic,
    dense_principal,
    dense_transition,
    diagonal_principal,
    diagonal_transition,
)

__all__ = [
    "KilledTransition",
    "LinearLaw",
    "OrnsteinUhlenbeck",
    "PrincipalEigenpair",
    "Quadratic",
    "feynman_kac",
    "principal_eigenpair",
    "sums_of_rates",
]


def sums_of_rates(rates: np.ndarray, count: int) -> np.ndarray:
    """The `count` smallest sums n_1 r_1 + ... + n_d r_d with n_j = 0, 1, 2, ..., each as often as it occurs.

    These are the rates of the generator of an Ornstein-Uhlenbeck process with mode rates r. Only as many sums as
    are asked for are formed, by a heap: O(d log d + count log count).

    Parameters
    ----------
    rates : (d,) real or complex, real parts positive
    count : how many

    Returns
    -------
    (count,) array with ascending real parts, the first 0; complex where rates are; shorter only for d = 0

    Raises
    ------
    SpdeError : when a real part is not positive: infinitely many sums are then equally small

    Source: Metafune, Pallara and Priola 2002 (spectrum of Ornstein-Uhlenbeck operators).
    """
    rates = np.asarray(rates)
    if rates.size and rates.real.min() <= 0:
        raise SpdeError(
            f"the generator has a discrete spectrum only when all rates are positive; the smallest is "
            f"{rates.real.min():.6g}: add damping, or leave that mode out"
        )
    ordered = rates[np.argsort(rates.real, kind="stable")]
    sums = np.zeros(count if rates.size else min(count, 1), dtype=ordered.dtype)
    # an entry is a sum whose largest mode is j; `rest` is the sum without one copy of that mode
    heap = [(ordered[0].real, 0, 0 * ordered[0])] if rates.size else []
    for k in range(1, len(sums)):
        _, j, rest = heapq.heappop(heap)
        sums[k] = rest + ordered[j]
        heapq.heappush(heap, ((sums[k] + ordered[j]).real, j, sums[k]))
        if j + 1 < len(ordered):
            heapq.heappush(heap, ((rest + ordered[j + 1]).real, j + 1, rest))
    return sums


@dataclass(frozen=True, eq=False)
class LinearLaw:
    """Independent modes dc_j = (-rate_j c_j + f_j) dt + s_j dW_j, some of them rotating in pairs.

    A pair (a, b) with frequency w adds -w c_b to dc_a / dt and +w c_a to dc_b / dt, as advection at speed v does to
    the cosine and the sine of wavenumber k on a periodic axis, w = v k.

    A mode of rate 0 with noise (the mean of an undamped Neumann or periodic field) is a Brownian motion: its stationary
    variance is inf, and there are no generator rates. A mode of rate 0 without noise is conserved; its stationary law
    is taken to sit at 0.

    Parameters
    ----------
    rates : (d,), 1 / time
    noise : (d,) amplitudes s_j, state / sqrt(time); a number serves all modes
    forcing : (d,) f_j, state / time, default 0
    pairs : (k, 2) indices of the modes that rotate, default none
    frequencies : (k,) w of each pair, radian / time

    Raises
    ------
    SpdeError : on shapes that do not fit, and on pairs whose rates or noise differ (`OrnsteinUhlenbeck` takes those)
    """

    rates: np.ndarray
    noise: np.ndarray | float
    forcing: np.ndarray | None = None
    pairs: np.ndarray | None = None
    frequencies: np.ndarray | None = None

    def __post_init__(self):
        d = len(self.rates)
        arrays = {
            "rates": np.asarray(self.rates, dtype=float),
            "noise": np.full(d, self.noise) if np.ndim(self.noise) == 0 else np.asarray(self.noise, dtype=float),
            "forcing": np.zeros(d) if self.forcing is None else np.asarray(self.forcing, dtype=float),
            "pairs": np.zeros((0, 2), int) if self.pairs is None else np.asarray(self.pairs, dtype=int),
            "frequencies": np.zeros(0) if self.frequencies is None else np.asarray(self.frequencies, dtype=float),
        }
        for name, array in arrays.items():
            object.__setattr__(self, name, array)
        k = len(self.frequencies)
        for name, shape in (("noise", (d,)), ("forcing", (d,)), ("pairs", (k, 2))):
            if arrays[name].shape != shape:
                raise SpdeError(f"{name} of a linear law has shape {arrays[name].shape}, expected {shape}")
        if len(np.unique(self.pairs)) < 2 * k or (k and not 0 <= self.pairs.min() <= self.pairs.max() < d):
            raise SpdeError(f"pairs of a linear law are disjoint pairs of modes 0 to {d - 1}, found {self.pairs}")
        a, b = self.pairs.T
        if (self.rates[a] != self.rates[b]).any() or (np.abs(self.noise[a]) != np.abs(self.noise[b])).any():
            raise SpdeError("both modes of a rotating pair need the same rate and noise; use OrnsteinUhlenbeck")

    @property
    def dimension(self) -> int:
        return len(self.rates)

    @cached_property
    def complex_rates(self) -> np.ndarray:
        """(d,) eigenvalues of the drift: rate_j, and rate +- i w for a pair; real where nothing rotates."""
        if not self.frequencies.any():
            return self.rates
        values = self.rates.astype(complex)
        a, b = self.pairs.T
        values[a] += 1j * self.frequencies
        values[b] -= 1j * self.frequencies
        return values

    def generator_rates(self, count: int) -> np.ndarray:
        """The `count` slowest rates of the generator: `sums_of_rates` over the modes that have noise."""
        return sums_of_rates(self.complex_rates[self.noise != 0], count)

    @cached_property
    def drift_matrix(self) -> np.ndarray:
        """(d, d) matrix B of dc = (-B c + f) dt + s dW."""
        matrix = np.diag(self.rates)
        a, b = self.pairs.T
        matrix[a, b], matrix[b, a] = self.frequencies, -self.frequencies
        return matrix

    # stationary law

    @cached_property
    def stationary_mean(self) -> np.ndarray:
        """(d,) mean of each mode; +-inf for one of rate 0 that is forced, nan where the rate is negative."""
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(self.forcing == 0, 0.0, self.forcing / self.rates)
        a, b = self.pairs[self.frequencies != 0].T
        frequencies = self.frequencies[self.frequencies != 0]
        z = (self.forcing[a] + 1j * self.forcing[b]) / (self.rates[a] - 1j * frequencies)
        mean[a], mean[b] = z.real, z.imag
        mean[self.rates < 0] = np.nan
        return mean

    @cached_property
    def stationary_variance(self) -> np.ndarray:
        """(d,) s^2 / (2 rate), the structure factor; inf where a mode has noise and no positive rate.

        Different modes are uncorrelated.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = self.noise**2 / (2 * np.maximum(self.rates, 0))
        return np.where(self.noise == 0, 0.0, variance)

    @cached_property
    def energy(self) -> float:
        """Stationary mean of sum_j rate_j c_j^2 / 2 - f_j c_j, which the drift descends where nothing rotates.

        It is sum_j s_j^2 / 4 - f_j^2 / (2 rate_j), inf where the law is not stationary.
        """
        mean, noisy = self.stationary_mean, self.noise != 0
        if (self.rates[noisy] <= 0).any():
            return np.inf
        return float(np.sum(self.noise**2) / 4 + np.sum(self.rates * mean**2 / 2 - self.forcing * mean))

    def covariance(self, left: np.ndarray, right: np.ndarray | None = None) -> np.ndarray:
        """Stationary covariance of the field between points.

        Parameters
        ----------
        left, right : (n, d) and (m, d) values of the modes' basis functions at the points; right defaults to left

        Returns
        -------
        (n, m) array; +-inf between points that both see a mode of infinite variance
        """
        return self.correlation([0.0], left, right)[0]

    def correlation(self, times: np.ndarray, left: np.ndarray, right: np.ndarray | None = None) -> np.ndarray:
        """Stationary space-time covariance C(x, y, t) = Cov[u(x, s + t), u(y, s)].

        Parameters
        ----------
        times : (T,), of any sign
        left, right : (n, d) and (m, d) values of the basis functions at x and at y; right defaults to left

        Returns
        -------
        (T, n, m) array, +-inf where a mode of infinite variance enters
        """
        left = np.atleast_2d(left)
        right = left if right is None else np.atleast_2d(right)
        finite = np.isfinite(self.stationary_variance)
        weighted = (left * np.where(finite, self.stationary_variance, 0.0)).T
        # left . R(t) = (R(-t) left^T)^T for the rotation R
        values = np.stack(
            [(self._rotate(weighted, -t) * np.exp(-self.rates * abs(t))[:, None]).T @ right.T for t in times]
        )
        for j in np.flatnonzero(~finite):
            with np.errstate(invalid="ignore"):
                product = np.outer(left[:, j], right[:, j])
                values += np.where(product == 0, 0.0, np.inf * product)
        return values

    def autocorrelation(self, times: np.ndarray) -> np.ndarray:
        """(T, d) stationary autocorrelation of each mode, exp(-rate |t|) cos(w t)."""
        times = np.asarray(times, dtype=float)[:, None]
        frequency = np.zeros(self.dimension)
        frequency[self.pairs] = self.frequencies[:, None]
        return np.exp(-self.rates * np.abs(times)) * np.cos(frequency * times)

    # transitions

    def _rotate(self, states: np.ndarray, time: float) -> np.ndarray:
        """States (d, ...) turned by the rotation of each pair over a time."""
        if not len(self.pairs):
            return states
        out, (a, b) = np.array(states, dtype=float), self.pairs.T
        angle = (self.frequencies * time).reshape(-1, *(1,) * (out.ndim - 1))
        out[a] = np.cos(angle) * states[a] - np.sin(angle) * states[b]
        out[b] = np.sin(angle) * states[a] + np.cos(angle) * states[b]
        return out

    def transition(self, time: float, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean, of the shape of the start (d,) or (d, batch), and variance (d,) of the modes at a time >= 0.

        Given the start the modes are independent Gaussians.
        """
        start = np.asarray(start, dtype=float)
        decayed = self._rotate((np.exp(-self.rates * time) * start.T).T, time)
        return (decayed.T + self._response(time)).T, self.noise**2 * time * _relative_growth(2 * self.rates * time).real

    def _response(self, time: float) -> np.ndarray:
        """(d,) what the forcing has added to the mean by a time."""
        response = self.forcing * time * _relative_growth(self.rates * time).real
        a, b = self.pairs.T
        rate = self.rates[a] - 1j * self.frequencies
        z = (self.forcing[a] + 1j * self.forcing[b]) * time * _relative_growth(rate * time)
        response[a], response[b] = z.real, z.imag
        return response

    def advance(self, states: np.ndarray, time: float, normals: np.ndarray) -> np.ndarray:
        """Exact draws (d, batch) a time after states (d, batch), from standard normals of that shape."""
        mean, variance = self.transition(time, states)
        return mean + np.sqrt(variance)[:, None] * normals

    def sample(self, normals: np.ndarray) -> np.ndarray:
        """Exact stationary draws (d, batch) from standard normals of that shape.

        Raises
        ------
        SpdeError : when a mode has no stationary law, naming it
        """
        unbounded = ~np.isfinite(self.stationary_variance + self.stationary_mean)
        if unbounded.any():
            j = int(np.argmax(unbounded))
            raise SpdeError(f"mode {j} has rate {self.rates[j]:.6g} and no stationary law to sample: add damping")
        return self.stationary_mean[:, None] + np.sqrt(self.stationary_variance)[:, None] * normals


def _relative_growth(x: np.ndarray) -> np.ndarray:
    """(1 - exp(-x)) / x, complex, 1 at 0."""
    x = np.asarray(x, dtype=complex)
    safe = np.where(x == 0, 1.0, x)
    return np.where(x == 0, 1.0, -np.expm1(-safe) / safe)


@dataclass(frozen=True, eq=False)
class OrnsteinUhlenbeck:
    """dX = (-B X + f) dt + s dW with any drift matrix B, non-normal and non-reversible included.

    Parameters
    ----------
    drift_matrix : (d, d) B, 1 / time
    noise : (d, m) matrix s, state / sqrt(time); a number is a multiple of the unit matrix, (d,) a diagonal
    forcing : (d,) f, default 0

    Raises
    ------
    SpdeError : on shapes that do not fit
    """

    drift_matrix: np.ndarray
    noise: np.ndarray | float
    forcing: np.ndarray | None = None

    def __post_init__(self):
        B = np.atleast_2d(np.asarray(self.drift_matrix, dtype=float))
        noise = np.asarray(self.noise, dtype=float)
        d = len(B)
        if noise.ndim < 2:
            noise = np.diag(np.broadcast_to(noise, d))
        forcing = np.zeros(d) if self.forcing is None else np.asarray(self.forcing, dtype=float)
        if B.shape != (d, d) or noise.shape[0] != d or forcing.shape != (d,):
            raise SpdeError(
                f"drift matrix, noise and forcing have shapes {B.shape}, {noise.shape}, {forcing.shape}; "
                "expected (d, d), (d, m), (d,)"
            )
        for name, array in (("drift_matrix", B), ("noise", noise), ("forcing", forcing)):
            object.__setattr__(self, name, array)

    @property
    def dimension(self) -> int:
        return len(self.drift_matrix)

    @cached_property
    def diffusion(self) -> np.ndarray:
        """(d, d) s s^T = 2 M."""
        return self.noise @ self.noise.T

    @cached_property
    def complex_rates(self) -> np.ndarray:
        """(d,) eigenvalues of B with ascending real parts; real where they all are."""
        values = np.linalg.eigvals(self.drift_matrix)
        return values[np.argsort(values.real, kind="stable")]

    def generator_rates(self, count: int) -> np.ndarray:
        """The `count` slowest rates of the generator: `sums_of_rates` over the eigenvalues of B."""
        return sums_of_rates(self.complex_rates, count)

    def _require_stable(self) -> None:
        smallest = self.complex_rates[0].real
        if smallest <= 0:
            raise SpdeError(
                f"no stationary law: the drift matrix has an eigenvalue with real part {smallest:.6g}, "
                "expected all positive"
            )

    @cached_property
    def stationary_mean(self) -> np.ndarray:
        """(d,) B^-1 f. Raises SpdeError without a stationary law."""
        self._require_stable()
        return np.linalg.solve(self.drift_matrix, self.forcing)

    @cached_property
    def stationary_covariance(self) -> np.ndarray:
        """(d, d) solution of B S + S B^T = s s^T. Raises SpdeError without a stationary law."""
        self._require_stable()
        covariance = scipy.linalg.solve_continuous_lyapunov(self.drift_matrix, self.diffusion)
        return (covariance + covariance.T) / 2

    @cached_property
    def is_reversible(self) -> bool:
        """Whether the stationary process is time reversible: B s s^T symmetric."""
        self._require_stable()
        flux = self.drift_matrix @ self.diffusion
        return bool(np.abs(flux - flux.T).max() <= 1e-12 * np.abs(flux).max())

    @cached_property
    def symmetrised(self) -> OrnsteinUhlenbeck:
        """The reversible process with the same stationary law and noise, B = s s^T S^-1 / 2.

        Its generator is the symmetrised one, (L + L*) / 2, whose spectrum the `dirichlet` estimator finds and
        KSWGD uses (method.md sections 2 and 3).
        """
        drift = np.linalg.solve(self.stationary_covariance, self.diffusion).T / 2
        return OrnsteinUhlenbeck(drift, self.noise, drift @ self.stationary_mean)

    def correlation(self, time: float) -> np.ndarray:
        """(d, d) stationary Cov[X_{s+t}, X_s], time of any sign."""
        decayed = scipy.linalg.expm(-self.drift_matrix * abs(time)) @ self.stationary_covariance
        return decayed if time >= 0 else decayed.T

    def transition(self, time: float) -> KilledTransition:
        """Law of X_t, time >= 0, from every start: its `mean(start)` and `covariance`."""
        return feynman_kac(self, Quadratic(), time)

    def advance(self, states: np.ndarray, time: float, normals: np.ndarray) -> np.ndarray:
        """Exact draws (d, batch) a time after states (d, batch), from standard normals of that shape."""
        law = self.transition(time)
        return law.mean(states) + _root(law.covariance) @ normals

    def sample(self, normals: np.ndarray) -> np.ndarray:
        """Exact stationary draws (d, batch) from standard normals of that shape."""
        return self.stationary_mean[:, None] + _root(self.stationary_covariance) @ normals


def _root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root of a covariance, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def feynman_kac(law: LinearLaw | OrnsteinUhlenbeck, killing: Quadratic, time: float) -> KilledTransition:
    """Closed form of E_x[h(X_t) exp(-int_0^t c(X) ds)], all x and h at once (method.md section 4).

    Modes that do not rotate and a killing that does not couple them cost O(d); anything else O(d^3) a doubling of time.

    Parameters
    ----------
    law : the linear diffusion
    killing : c, 1 / time, at most quadratic and possibly negative
    time : t >= 0

    Returns
    -------
    KilledTransition : call its `polynomial`, `exponential` or `half_space` with a start and h

    Raises
    ------
    SpdeError : when the expectation is infinite, naming the time from which on it is
    """
    if not (np.isfinite(time) and time >= 0):
        raise SpdeError(f"a transition needs a finite time >= 0, found {time}")
    if isinstance(law, LinearLaw) and killing.is_diagonal and not law.frequencies.any():
        return diagonal_transition(law.rates, law.noise**2, law.forcing, killing, time)
    return dense_transition(law.drift_matrix, _diffusion(law), law.forcing, killing, time)


def principal_eigenpair(law: LinearLaw | OrnsteinUhlenbeck, killing: Quadratic) -> PrincipalEigenpair:
    """Smallest eigenvalue of L + c and its eigenfunction, for an at most quadratic killing c.

    With c = -theta g minus the eigenvalue is the scaled cumulant generating function of int g.

    Raises
    ------
    SpdeError : when L + c has no such eigenvalue: its spectrum is continuous or unbounded below
    """
    if isinstance(law, LinearLaw) and killing.is_diagonal and not law.frequencies.any():
        return diagonal_principal(law.rates, law.noise**2, law.forcing, killing)
    return dense_principal(law.drift_matrix, _diffusion(law), law.forcing, killing)


def _diffusion(law: LinearLaw | OrnsteinUhlenbeck) -> np.ndarray:
    return np.diag(law.noise**2) if isinstance(law, LinearLaw) else law.diffusion
