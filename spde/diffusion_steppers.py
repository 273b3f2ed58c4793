"""Time stepping of diffusions in few dimensions, state-dependent noise included: one compiled kernel a step.

A kernel (states (d, batch), normals (rows, batch), h) overwrites the states; each trajectory is computed by itself, in
scalars, so that its numbers do not depend on the batch it is in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from spde.compiling import njit
from spde.expressions import compile_pointwise
from spde.stepping import Noise, Stepper


class KernelStepper(Stepper):
    """Advances batches of states by a function that does one step in place.

    Parameters
    ----------
    step : function (states (d, batch), normals (rows, batch)), overwrites states
    rows : normals that a step of one trajectory takes
    time_step, scheme, reason : see `Stepper`
    kick : function (states, normals) of what `Stepper.kick` is
    """

    additive = False
    remedy = Stepper.remedy + ", or it left the region where drift and noise are defined"

    def __init__(
        self,
        step: Callable[[np.ndarray, np.ndarray], None],
        rows: int,
        time_step: float,
        scheme: str,
        reason: str,
        kick: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ):
        super().__init__(time_step, scheme, reason)
        self._step = step
        self._rows = rows
        self._kick = kick

    @property
    def rows(self) -> int:
        """Normals that a step of one trajectory takes."""
        return self._rows

    def kick(self, states: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """(d, batch) what normals (rows, batch) add to states."""
        return self._kick(states, numbers)

    def march(self, array: np.ndarray, noise: Noise, step: int, steps: int, trace: np.ndarray) -> np.ndarray:
        """States after some steps, in place."""
        numbers = np.empty((self._rows, array.shape[1]))
        for index in range(step, step + steps):
            self._step(array, noise.normals(numbers, index))
            if len(trace):
                trace[index - step] = array
        return array


def vector_function(formulas: Sequence, names: Sequence[str]) -> Callable:
    """Compiled (x, out): out[i] = formulas[i](x) for one state x (d,); formulas are SymPy expressions."""
    function = compile_pointwise(formulas, names)
    # Numba has no call with a runtime number of arguments: spell them out, indices only
    lines = [
        "def evaluate(x, out):",
        f"    value = function({', '.join(f'x[{i}]' for i in range(len(names)))})",
        *(f"    out[{i}] = value[{i}]" for i in range(len(formulas))),
    ]
    namespace: dict = {"function": function}
    exec("\n".join(lines), namespace)
    return njit(namespace["evaluate"], error_model="numpy")


def euler_maruyama(drift: Callable, noise: Callable, d: int, k: int) -> Callable:
    """Kernel of x' = x + h b(x) + s(x) W, W = sqrt(h) N: strong order 1/2, weak order 1.

    Parameters
    ----------
    drift, noise : compiled functions (x, out), out (d,) and (d k,), see `vector_function`
    d, k : components, noises

    Source: Kloeden and Platen 1992, equation (10.2.4).
    """

    @njit(nogil=True, error_model="numpy")
    def step(states, normals, h):
        root = math.sqrt(h)
        x, b, s = np.empty(d), np.empty(d), np.empty(d * k)
        for t in range(states.shape[1]):
            x[:] = states[:, t]
            drift(x, b)
            noise(x, s)
            for i in range(d):
                change = h * b[i]
                for a in range(k):
                    change += s[i * k + a] * root * normals[a, t]
                states[i, t] = x[i] + change

    return step


def milstein(drift: Callable, noise: Callable, derivatives: Callable, d: int, k: int) -> Callable:
    """Kernel of Milstein's scheme for commutative noise: strong order 1, weak order 1.

    x' = x + h b + sum_a s_a W_a + 1/2 sum_ab (s_a . grad) s_b (W_a W_b - h [a = b]).

    Parameters
    ----------
    derivatives : compiled function (x, out), out (d k k,) of (s_a . grad) s_ib in the order i, a, b, symmetric in a, b

    Source: Kloeden and Platen 1992, equation (10.3.16).
    """

    @njit(nogil=True, error_model="numpy")
    def step(states, normals, h):
        root = math.sqrt(h)
        x, b, s, slope = np.empty(d), np.empty(d), np.empty(d * k), np.empty(d * k * k)
        for t in range(states.shape[1]):
            x[:] = states[:, t]
            drift(x, b)
            noise(x, s)
            derivatives(x, slope)
            for i in range(d):
                change = h * b[i]
                for a in range(k):
                    change += s[i * k + a] * root * normals[a, t]
                    for c in range(k):
                        second = h * normals[a, t] * normals[c, t] - (h if a == c else 0.0)
                        change += 0.5 * slope[(i * k + a) * k + c] * second
                states[i, t] = x[i] + change

    return step


def platen(drift: Callable, noise: Callable, d: int, k: int, commutative: bool) -> Callable:
    """Kernel of Platen's explicit scheme without derivatives: weak order 2, strong order 1 where noise commutes.

    Where it does not (strong order 1/2), the antisymmetric part of the double integrals is replaced by two-point
    variables +-h, the signs of k (k - 1) / 2 further normals.

    Parameters
    ----------
    drift, noise, d, k : see `euler_maruyama`
    commutative : whether (s_a . grad) s_b is symmetric in a, b

    Source: Kloeden and Platen 1992, equation (15.1.3).
    """
    cross = k > 1

    @njit(nogil=True, error_model="numpy")
    def step(states, normals, h):
        root = math.sqrt(h)
        x, y, b, ahead = np.empty(d), np.empty(d), np.empty(d), np.empty(d)
        s, plus, minus = np.empty(d * k), np.empty(d * k), np.empty(d * k)
        w, change = np.empty(k), np.empty(d)
        for t in range(states.shape[1]):
            x[:] = states[:, t]
            drift(x, b)
            noise(x, s)
            for a in range(k):
                w[a] = root * normals[a, t]
            for i in range(d):
                y[i] = x[i] + h * b[i]
                for a in range(k):
                    y[i] += s[i * k + a] * w[a]
            drift(y, ahead)
            for i in range(d):
                change[i] = 0.5 * h * (b[i] + ahead[i])
            for a in range(k):
                for i in range(d):
                    y[i] = x[i] + h * b[i] + root * s[i * k + a]
                noise(y, plus)
                for i in range(d):
                    y[i] = x[i] + h * b[i] - root * s[i * k + a]
                noise(y, minus)
                for i in range(d):
                    j = i * k + a
                    change[i] += 0.25 * (plus[j] + minus[j] + 2 * s[j]) * w[a]
                    change[i] += 0.25 * (plus[j] - minus[j]) * (w[a] * w[a] - h) / root
                if not cross:
                    continue
                for i in range(d):
                    y[i] = x[i] + root * s[i * k + a]
                noise(y, plus)
                for i in range(d):
                    y[i] = x[i] - root * s[i * k + a]
                noise(y, minus)
                for c in range(k):
                    if c == a:
                        continue
                    area = 0.0
                    if not commutative:
                        low, high = min(a, c), max(a, c)
                        pair = k + low * k - low * (low + 1) // 2 + high - low - 1
                        area = h if (normals[pair, t] > 0.0) == (a < c) else -h
                    for i in range(d):
                        j = i * k + c
                        change[i] += 0.25 * (plus[j] + minus[j] - 2 * s[j]) * w[c]
                        change[i] += 0.25 * (plus[j] - minus[j]) * (w[a] * w[c] + area) / root
            for i in range(d):
                states[i, t] = x[i] + change[i]

    return step


@njit(cache=True, nogil=True)
def affine(states, normals, transition, shift, root):
    """states = transition @ states + shift + root @ normals, in place: the exact step of a linear diffusion."""
    d, batch = states.shape
    new = np.empty((d, batch))
    for i in range(d):
        for t in range(batch):
            new[i, t] = shift[i]
        for j in range(d):
            for t in range(batch):
                new[i, t] += transition[i, j] * states[j, t]
        for j in range(root.shape[1]):
            for t in range(batch):
                new[i, t] += root[i, j] * normals[j, t]
    states[:] = new


def transition_law(matrix: np.ndarray, constant: np.ndarray, noise: np.ndarray, time: float) -> tuple:
    """Law of X_time for dX = (A X + c) dt + s dW: X = Phi x + shift + root N(0, 1).

    The covariance is built up by doubling, Q(2t) = Q(t) + Phi(t) Q(t) Phi(t)^T, from a time short enough for Van Loan's
    matrix exponential, in which exp(-A t) appears.

    Parameters
    ----------
    matrix : (d, d) A; constant : (d,) c; noise : (d, k) s; time : h

    Returns
    -------
    Phi (d, d), shift (d,), root (d, d) symmetric

    Source: Van Loan 1978.
    """
    from scipy.linalg import expm

    d = len(matrix)
    doublings = max(0, math.ceil(math.log2(max(np.linalg.norm(matrix, 2) * time, 1e-300))))
    short = time / 2**doublings
    block = np.block([[-matrix, noise @ noise.T], [np.zeros((d, d)), matrix.T]])
    exponential = expm(block * short)
    phi = exponential[d:, d:].T
    covariance = phi @ exponential[:d, d:]
    for _ in range(doublings):
        covariance = covariance + phi @ covariance @ phi.T
        phi = phi @ phi
    mean = expm(np.block([[matrix, constant[:, None]], [np.zeros((1, d + 1))]]) * time)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return mean[:d, :d].copy(), mean[:d, d].copy(), (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def baoab(slope: Callable, m: int) -> Callable:
    """Kernel of the splitting BAOAB for dq = p / m dt, dp = -grad V dt - gamma p dt + sqrt(2 gamma m T) dW.

    Half a kick by the force, half a drift of the positions, an exact Ornstein-Uhlenbeck step of the momenta, and back.
    Weak order 2, strong order 1; the law of the positions is exact for a quadratic potential, and in the limit of large
    friction its error is of order 4.

    Parameters
    ----------
    slope : compiled function (x, out) of the state x = (q, p), out (m,) is grad V(q)
    m : number of positions

    Returns
    -------
    kernel (states, normals, h / 2, h / (2 masses) (m,), exp(-gamma h), deviations (m,) of the momenta's step)

    Source: Leimkuhler and Matthews 2013.
    """

    @njit(nogil=True, error_model="numpy")
    def step(states, normals, half, drift, damping, kick):
        x, g = np.empty(2 * m), np.empty(m)
        for t in range(states.shape[1]):
            x[:] = states[:, t]
            slope(x, g)
            for i in range(m):
                p = x[m + i] - half * g[i]
                q = x[i] + drift[i] * p
                p = damping * p + kick[i] * normals[i, t]
                x[i] = q + drift[i] * p
                x[m + i] = p
            slope(x, g)
            for i in range(m):
                states[i, t] = x[i]
                states[m + i, t] = x[m + i] - half * g[i]

    return step
