"""Feynman-Kac expectations of linear diffusions with quadratic killing, in closed form (method.md section 4).

For dX = (-B X + f) dt + s dW and a quadratic c the killed law of X_t is a Gaussian with a weight,

    E_x[h(X_t) exp(-int_0^t c(X) ds)] = exp(w(x)) E[h(Y)],    Y ~ N(F x + n, S),    w quadratic,        (1)

so that one object, `KilledTransition`, answers for every h. With c(x) = k + g.x + x.C x / 2, Q = s s^T and
w(x) = r + p.x + x.P x / 2 the weight solves P' = -B^T P - P B + P Q P - C, P(0) = 0, which is linear in the
Hamiltonian variables P = Y X^-1, X' = B X - Q Y, Y' = -B^T Y - C X; then F = X^-1.

Source: Kac 1949; Bucy and Joseph 1968, chapter 5 (Riccati equations); Anderson 1978 (doubling).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.special

from spde.errors import SpdeError

_TAYLOR_TERMS = 20  # of exp(H) where |H| <= 1/2: the next one is below 1e-25
_GAUSS_NODES, _GAUSS_WEIGHTS = (0.5 * (a + b) for a, b in zip(np.polynomial.legendre.leggauss(10), (1.0, 0.0)))


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The function constant + linear.x + x.A x of a state x.

    Parameters
    ----------
    constant : number
    linear : (d,) array, or a number for all components
    matrix : A: (d, d) array, (d,) array for a diagonal matrix, or a number for a multiple of the unit matrix
    """

    constant: float = 0.0
    linear: np.ndarray | float = 0.0
    matrix: np.ndarray | float = 0.0

    def __post_init__(self):
        if np.ndim(self.linear) > 1 or np.ndim(self.matrix) > 2:
            raise SpdeError(
                f"a quadratic takes a linear part (d,) and a matrix (d,) or (d, d), found shapes "
                f"{np.shape(self.linear)} and {np.shape(self.matrix)}"
            )

    @property
    def is_diagonal(self) -> bool:
        """Whether no two components are coupled."""
        return np.ndim(self.matrix) < 2

    def vector(self, dimension: int) -> np.ndarray:
        """(d,) linear part."""
        return np.broadcast_to(np.asarray(self.linear, dtype=float), dimension)

    def hessian(self, dimension: int, dense: bool) -> np.ndarray:
        """2 A, made symmetric: (d,) where it is diagonal and `dense` is not asked for, else (d, d)."""
        if self.is_diagonal:
            diagonal = 2 * np.broadcast_to(np.asarray(self.matrix, dtype=float), dimension)
            return np.diag(diagonal) if dense else diagonal
        matrix = np.asarray(self.matrix, dtype=float)
        return matrix + matrix.T

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Values (...) at states (d, ...)."""
        states = np.asarray(states, dtype=float)
        dimension = len(states)
        curvature = _apply(self.hessian(dimension, dense=False), states) / 2
        slope = self.vector(dimension)
        return self.constant + np.einsum("i,i...->...", slope, states) + np.einsum("i...,i...->...", states, curvature)


@dataclass(frozen=True, eq=False)
class KilledTransition:
    """Law of X_t under the weight exp(-int_0^t c ds), from every start at once: equation (1).

    Matrices are (d,) where all components are independent, else (d, d). Starts are (d,) or (d, batch).

    Attributes
    ----------
    time : t
    log_weight : w, log E_x[exp(-int c)]
    propagator : F
    offset : (d,) n
    covariance : S
    """

    time: float
    log_weight: Quadratic
    propagator: np.ndarray
    offset: np.ndarray
    covariance: np.ndarray

    def mean(self, start: np.ndarray) -> np.ndarray:
        """F x + n, of the shape of the start."""
        return (_apply(self.propagator, start).T + self.offset).T

    def weight(self, start: np.ndarray) -> np.ndarray:
        """E_x[exp(-int c)]."""
        return np.exp(self.log_weight(start))

    def polynomial(self, start: np.ndarray, observable: Quadratic) -> np.ndarray:
        """E_x[h(X_t) exp(-int c)] for a constant, linear or quadratic h."""
        dense = self.covariance.ndim == 2
        hessian = observable.hessian(len(self.offset), dense)
        trace = np.sum(hessian * self.covariance) / 2
        return self.weight(start) * (observable(self.mean(start)) + trace)

    def log_exponential(self, start: np.ndarray, exponent: Quadratic) -> np.ndarray:
        """log E_x[exp(h(X_t)) exp(-int c)] for a linear or quadratic h.

        Raises
        ------
        SpdeError : when the expectation is infinite
        """
        dense = self.covariance.ndim == 2 or not exponent.is_diagonal
        dimension = len(self.offset)
        covariance = np.diag(self.covariance) if dense and self.covariance.ndim == 1 else self.covariance
        hessian, slope = exponent.hessian(dimension, dense), exponent.vector(dimension)
        try:
            tilted, log_determinant = _tilt(covariance, hessian)
        except np.linalg.LinAlgError:
            raise SpdeError(
                f"the expectation of this exponential is infinite at time {self.time:.6g}: "
                "its quadratic part grows faster than the Gaussian decays; take an earlier time or a smaller exponent"
            ) from None
        mean = self.mean(start)
        # Gaussian integral: h(m) + gradient.S' gradient / 2 with S' = (S^-1 - H)^-1 the tilted covariance
        gradient = (_apply(hessian, mean).T + slope).T
        gain = np.einsum("i...,i...->...", gradient, _apply(tilted, gradient)) / 2
        return self.log_weight(start) + exponent(mean) + gain - log_determinant / 2

    def exponential(self, start: np.ndarray, exponent: Quadratic) -> np.ndarray:
        """E_x[exp(h(X_t)) exp(-int c)] for a linear or quadratic h; errors of `log_exponential`."""
        return np.exp(self.log_exponential(start, exponent))

    def half_space(self, start: np.ndarray, normal: np.ndarray, level: float) -> np.ndarray:
        """E_x[1{normal.X_t > level} exp(-int c)], normal (d,); without killing a probability."""
        deviation = np.sqrt(normal @ _apply(self.covariance, np.asarray(normal, dtype=float)))
        distance = np.einsum("i,i...->...", normal, self.mean(start)) - level
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = distance / deviation
        certain = np.where(distance > 0, np.inf, -np.inf)  # no noise in this direction
        return self.weight(start) * scipy.special.ndtr(np.where(deviation > 0, scaled, certain))


@dataclass(frozen=True, eq=False)
class PrincipalEigenpair:
    """Smallest eigenvalue of L + c, and the logarithm of its positive eigenfunction up to a constant.

    Attributes
    ----------
    rate : the eigenvalue; E_x[exp(-int_0^t c)] decays as exp(-rate t)
    log_eigenfunction : p.x + x.P x / 2
    relaxation : B - Q P: (d,) or (d, d), drift matrix of the process conditioned to survive; the spectrum
        of L + c is `rate` plus the sums of its eigenvalues
    """

    rate: float
    log_eigenfunction: Quadratic
    relaxation: np.ndarray


def _apply(matrix: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Product of a matrix (d, d), or a diagonal one (d,), with states (d, ...)."""
    states = np.asarray(states, dtype=float)
    return matrix @ states if matrix.ndim == 2 else (matrix * states.T).T


def _tilt(covariance: np.ndarray, hessian: np.ndarray) -> tuple[np.ndarray, float]:
    """Covariance (S^-1 - H)^-1 of a Gaussian times exp(x.H x / 2), and log det(1 - S H); both diagonal or both dense.

    Raises LinAlgError where the product has no finite integral. The logarithm keeps its relative accuracy
    when it is small, and the covariance that S may be singular.
    """
    if covariance.ndim == 1:
        gain = covariance * hessian
        if (gain >= 1).any():
            raise np.linalg.LinAlgError
        return covariance / (1 - gain), np.log1p(-gain).sum()
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    gain, axes = np.linalg.eigh(root.T @ hessian @ root)
    if (gain >= 1).any():
        raise np.linalg.LinAlgError
    axes = root @ axes
    return (axes / (1 - gain)) @ axes.T, np.log1p(-gain).sum()


# independent components


def diagonal_transition(
    rates: np.ndarray, variances: np.ndarray, forcing: np.ndarray, killing: Quadratic, time: float
) -> KilledTransition:
    """Killed transition of dX_j = (-rate_j X_j + f_j) dt + s_j dW_j with a killing that couples no components.

    Parameters
    ----------
    rates : (d,), 1 / time; any sign
    variances : (d,) s_j^2, state^2 / time
    forcing : (d,) f
    killing : c, units 1 / time, diagonal
    time : t >= 0

    Raises
    ------
    SpdeError : when E[exp(-int c)] is infinite, naming the time from which on it is
    """
    C, g = killing.hessian(len(rates), dense=False), killing.vector(len(rates))
    squares = rates**2 + variances * C
    blow_up = _blow_up_time(squares, rates).min(initial=np.inf)
    if time >= blow_up:
        raise SpdeError(_infinite(blow_up, time))
    kappa, cosh, sinh = _hyperbolic(squares, time)
    _, _, half = _hyperbolic(squares, time / 2)
    bow = 2 * half**2  # (cosh - 1) / kappa^2
    # rate -+ kappa without cancellation; X and int X from them where their exponentials are far apart
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where((kappa > 0) & (rates > 0), -variances * C / (rates + kappa), rates - kappa)
        slow = np.where((kappa > 0) & (rates < 0), variances * C / (kappa - rates), rates + kappa)
        decay = np.exp(-kappa * time)
        apart = (slow - excess * decay**2) / (2 * kappa)
        X = np.where(kappa * time > 1, apart, cosh + rates * sinh)
        apart = (slow + excess * decay**2 - 2 * rates * decay) / (2 * kappa**2)
        integral = np.where(kappa * time > 1, apart, sinh + rates * bow)
    constant = (excess * time - np.log(X)) / 2
    P = -C * sinh / X
    p = -(C * forcing * bow + g * integral) / X
    n = (forcing * integral - variances * g * bow) / X
    F, S = decay / X, variances * sinh / X
    forced = (forcing != 0) | (g != 0)
    constant[forced] += _forced_constant(rates, variances, forcing, C, g, time, P, p, F, n, S)[forced]
    weight = Quadratic(constant.sum() - killing.constant * time, p, P / 2)
    return KilledTransition(time, weight, F, n, S)


def _infinite(blow_up: float, time: float) -> str:
    return (
        f"E[exp(-int c)] is infinite from time {blow_up:.6g} on ({time:.6g} was asked for): the killing rate is "
        "too negative for the noise; take an earlier time or a weaker killing"
    )


def _blow_up_time(squares: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """First positive zero of cosh(kappa t) + slope sinh(kappa t) / kappa, kappa^2 = squares; inf without one."""
    kappa = np.sqrt(np.abs(squares))
    with np.errstate(divide="ignore", invalid="ignore"):
        growing = np.where(slope < -kappa, np.arctanh(-kappa / slope) / kappa, np.inf)
        turning = np.arctan2(kappa, -slope) / kappa
        flat = np.where(slope < 0, -1 / slope, np.inf)
    return np.where(squares > 0, growing, np.where(squares < 0, turning, flat))


def _hyperbolic(squares: np.ndarray, time: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """kappa, or 0 where it is imaginary; cosh(kappa t) and sinh(kappa t) / kappa, times exp(-kappa t) if it is real."""
    kappa = np.sqrt(np.abs(squares))
    growing = squares > 0
    safe = np.where(kappa > 0, kappa, 1.0)
    phase = kappa * time
    cosh = np.where(growing, (1 + np.exp(-2 * phase)) / 2, np.cos(phase))
    sinh = np.where(growing, -np.expm1(-2 * phase) / (2 * safe), np.where(kappa > 0, np.sin(phase) / safe, time))
    return np.where(growing, kappa, 0.0), cosh, sinh


def _forced_constant(rates, variances, forcing, C, g, time, P, p, F, n, S) -> np.ndarray:
    """What forcing f and a linear killing g add to the constant of the weight, per component.

    int (f p + s^2 p^2 / 2) dt: short times by its power series, long ones by moving the origin to x* and
    multiplying with exp(a x), after which f = g = 0.
    """
    squares = rates**2 + variances * C
    argument = squares * time**2
    drive = C * forcing**2 + 2 * rates * forcing * g - variances * g**2
    # (sinh(x) - x) / x^3 as a function of x^2
    series = np.polynomial.polynomial.polyval(
        np.clip(argument, -1, 1), 1 / scipy.special.factorial(2 * np.arange(12) + 3)
    )
    phase = np.sqrt(np.maximum(-argument, 1))
    oscillating = (phase - np.sin(phase)) / phase**3
    with np.errstate(divide="ignore", invalid="ignore"):
        short = (p * n / F + drive * time**3 * np.where(argument < -1, oscillating, series)) / 2
        origin = (rates * forcing - variances * g) / squares
        tilt = -(rates * g + C * forcing) / squares
        level = g * origin + C * origin**2 / 2 - variances * tilt**2 / 2 + (rates * origin - forcing) * tilt
        long = -level * time - tilt * origin + P * origin**2 / 2 + tilt * F * origin + tilt**2 * S / 2
    return np.where(argument > 1, long, short)


# coupled components


def dense_transition(
    drift_matrix: np.ndarray, diffusion: np.ndarray, forcing: np.ndarray, killing: Quadratic, time: float
) -> KilledTransition:
    """Killed transition of dX = (-B X + f) dt + s dW.

    The first step is so short that the exponential of the Hamiltonian is a Taylor polynomial; the others
    double it by composing kernels, in which nothing grows and nothing cancels when c >= 0.

    Parameters
    ----------
    drift_matrix : (d, d) B, 1 / time
    diffusion : (d, d) Q = s s^T
    forcing : (d,) f
    killing : c, units 1 / time
    time : t >= 0

    Raises
    ------
    SpdeError : when E[exp(-int c)] is infinite, naming the time from which on it is
    """
    B, Q, C = _augmented(drift_matrix, diffusion, forcing, killing)
    try:
        P, F, S, log_weight = _double(B, Q, C, time)
    except np.linalg.LinAlgError:
        raise SpdeError(_infinite(_bisect_blow_up(B, Q, C, time), time)) from None
    weight = Quadratic(log_weight + P[-1, -1] / 2, P[:-1, -1].copy(), P[:-1, :-1] / 2)
    return KilledTransition(time, weight, F[:-1, :-1].copy(), F[:-1, -1].copy(), S[:-1, :-1].copy())


def _augmented(drift_matrix, diffusion, forcing, killing) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B, Q and the Hessian of c for the state (x, 1), in which forcing and linear killing are quadratic terms."""
    d = len(forcing)
    B, Q, C = np.zeros((3, d + 1, d + 1))
    B[:d, :d], B[:d, d] = drift_matrix, -np.asarray(forcing)
    Q[:d, :d] = diffusion
    C[:d, :d] = killing.hessian(d, dense=True)
    C[:d, d] = C[d, :d] = killing.vector(d)
    C[d, d] = 2 * killing.constant
    return B, Q, C


def _double(B, Q, C, time) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """P, F, S and the logarithm of the weight at x = 0 but for P. Raises LinAlgError past the blow-up."""
    H = np.block([[B, -Q], [-C, -B.T]])
    # the units of state and killing differ: balance before measuring
    balanced = scipy.linalg.matrix_balance(H, permute=False)[0]
    size = min(np.abs(H).sum(axis=0).max(), np.abs(balanced).sum(axis=0).max()) * time
    doublings = max(0, int(np.ceil(np.log2(2 * size)))) if size > 0 else 0
    P, F, S, log_weight = _short_step(H, Q, time / 2**doublings)
    for _ in range(doublings):
        tilted, log_determinant = _tilt(S, P)
        FP = F.T @ P
        # (1 - S P)^-1 = 1 + S' P with S' = (S^-1 - P)^-1
        passed = F + tilted @ FP.T
        P = _symmetric(P + FP @ passed)
        S = _symmetric(S + F @ tilted @ F.T)
        F = F @ passed
        log_weight = 2 * log_weight - log_determinant / 2
    return P, F, S, log_weight


def _short_step(H, Q, time) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The same over a time in which |H| t <= 1/2 in some norm."""
    d = len(Q)
    E = _taylor_exponential(H * time)
    F = np.linalg.inv(E[:d, :d])
    traces = []
    for node in _GAUSS_NODES:
        inner = _taylor_exponential(H * (time * node))
        traces.append(np.sum(Q * (inner[d:, :d] @ np.linalg.inv(inner[:d, :d])).T))
    log_weight = time / 2 * np.dot(_GAUSS_WEIGHTS, traces)
    return _symmetric(E[d:, :d] @ F), F, _symmetric(-F @ E[:d, d:]), float(log_weight)


def _taylor_exponential(matrix: np.ndarray) -> np.ndarray:
    unit = np.eye(len(matrix))
    total = unit
    for k in range(_TAYLOR_TERMS, 0, -1):
        total = unit + matrix @ total / k
    return total


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return (matrix + matrix.T) / 2


def _bisect_blow_up(B, Q, C, time) -> float:
    """First time at which the expectation is infinite, given that it is at `time`; seven digits."""
    low, high = 0.0, time
    while high - low > 1e-7 * high:
        middle = (low + high) / 2
        try:
            _double(B, Q, C, middle)
            low = middle
        except np.linalg.LinAlgError:
            high = middle
    return high


# long times


def diagonal_principal(
    rates: np.ndarray, variances: np.ndarray, forcing: np.ndarray, killing: Quadratic
) -> PrincipalEigenpair:
    """Principal eigenpair of L + c, arguments as of `diagonal_transition`.

    Raises
    ------
    SpdeError : when the spectrum of L + c is continuous or unbounded below, naming the component
    """
    C, g = killing.hessian(len(rates), dense=False), killing.vector(len(rates))
    squares = rates**2 + variances * C
    idle = (squares == 0) & (C == 0) & (g == 0) & (variances == 0) & (forcing == 0)  # a conserved component
    kappa = np.sqrt(np.where(idle, 1.0, np.maximum(squares, 0)))
    if (kappa <= 0).any():
        j = int(np.argmax(kappa <= 0))
        raise SpdeError(
            f"L + c has no principal eigenvalue: component {j} has rate {rates[j]:.6g}, noise variance "
            f"{variances[j]:.6g} and killing {C[j] / 2:.6g} x^2; rate^2 + 2 variance killing must be positive"
        )
    # P = (rate - kappa) / s^2 = -C / (rate + kappa), whichever does not cancel
    with np.errstate(divide="ignore", invalid="ignore"):
        P = np.where(rates > 0, -C / (rates + kappa), (rates - kappa) / variances)
    P = np.where(idle | ((variances == 0) & (C == 0)), 0.0, P)
    if not np.isfinite(P).all():
        raise SpdeError("L + c has no principal eigenvalue: a component without noise grows where it is killed")
    p = (P * forcing - g) / kappa
    rate = killing.constant - np.sum(forcing * p + variances * (P + p**2) / 2)
    return PrincipalEigenpair(float(rate), Quadratic(0.0, p, P / 2), np.where(idle, 0.0, kappa))


def dense_principal(
    drift_matrix: np.ndarray, diffusion: np.ndarray, forcing: np.ndarray, killing: Quadratic
) -> PrincipalEigenpair:
    """Principal eigenpair of L + c, arguments as of `dense_transition`, from the algebraic Riccati equation.

    Raises
    ------
    SpdeError : when the equation has no stabilising solution: the spectrum of L + c is continuous or unbounded below
    """
    d = len(forcing)
    C, g = killing.hessian(d, dense=True), killing.vector(d)
    values, vectors = np.linalg.eigh(diffusion)
    root = vectors * np.sqrt(np.maximum(values, 0))
    try:
        P = -scipy.linalg.solve_continuous_are(-drift_matrix, root, C, np.eye(d))
        relaxation = drift_matrix - diffusion @ P
        stable = np.linalg.eigvals(relaxation).real.min() > 0
    except (np.linalg.LinAlgError, ValueError):
        stable = False
    if not stable:
        raise SpdeError(
            "L + c has no principal eigenvalue: the algebraic Riccati equation has no stabilising solution; "
            "the killing rate is too negative for the drift, or a direction is neither damped nor killed"
        )
    p = np.linalg.solve(relaxation.T, P @ forcing - g)
    rate = killing.constant - forcing @ p - np.sum(diffusion * P) / 2 - p @ diffusion @ p / 2
    return PrincipalEigenpair(float(rate), Quadratic(0.0, p, P / 2), relaxation)
