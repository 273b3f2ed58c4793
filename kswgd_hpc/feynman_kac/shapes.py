"""What killing makes of functions of a linear system: a Gaussian factor, which no polynomial of low degree is.

Under a quadratic killing rate, u = exp(w(x, t)) (a polynomial) with a quadratic w, as large at a start far out as the
killing along the way back. A span that holds exp(w) at some times, by itself and times polynomials of the slowest
modes, holds the predictions at times between them nearly; where u begins as the exponential of a quadratic function,
exp(w) is u itself. The generator acts on these functions as on all others, so that they are a choice of a span and no
result: `budget` says what they are worth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kswgd_hpc.errors import KswgdError
from kswgd_hpc.feynman_kac.case import Case, SmoothFormula
from kswgd_hpc.references import closed_form
from spde.errors import SpdeError
from spde.exact import feynman_kac, principal_eigenpair
from spde.riccati import KilledTransition, Quadratic

_MOST_MODES = 400
_DIRECTIONS = 4  # slow modes of whose polynomials the factors are multiples
_SHARES = (1.0, 0.5, 0.2)  # of the factor of the last time
_TIMES = 4  # of the exponentials of a quadratic function
_SMALL = 1e-3  # of a factor in one standard deviation: it is no other function than 1
_MOMENTS = 4  # that a factor has under the invariant law, or its means are not found from samples


class _Factor:
    """exp(w) of a quadratic w of the modes, by itself and times polynomials; of the last states asked for it is kept.

    Parameters
    ----------
    to_modes : function of states (d, n) and of their drift to modes (d, n)
    drift : of states; mobility : (d,) or (d, d) of modes
    exponent : w; directions : (k,) modes whose polynomials it is multiplied by; degree : of these, at most two
    """

    def __init__(self, to_modes: Callable, drift: Callable, mobility: np.ndarray, exponent: Quadratic, directions, degree):
        self._to_modes, self._drift, self._mobility = to_modes, drift, mobility
        self._exponent, self._directions = exponent, directions
        k = len(directions)
        self.products = [(i, j) for i in range(k) for j in range(i + 1)] if degree > 1 else []
        self.size = 1 + (k if degree > 0 else 0) + len(self.products)
        self._states, self._values, self._rates = np.empty(0), None, None

    def value(self, states: np.ndarray, column: int) -> np.ndarray:
        """(n,) one of the functions at states (d, n)."""
        self._at(states)
        return self._values[column]

    def generator(self, states: np.ndarray, column: int) -> np.ndarray:
        """(n,) the generator applied to it."""
        self._at(states)
        if self._rates is None:
            self._rates = self._moved()
        return self._rates[column]

    def _at(self, states: np.ndarray) -> None:
        if np.array_equal(states, self._states):
            return
        self._states, self._rates = states.copy(), None
        self._modes = self._to_modes(states)
        x = self._modes[self._directions]
        factor = np.exp(self._exponent(self._modes))
        self._values = np.stack([factor, *(factor * x), *(factor * x[i] * x[j] for i, j in self.products)])[: self.size]

    def _moved(self) -> np.ndarray:
        """(size, n): G (h g) = h (G g + 2 grad w . M grad g + g (G w + grad w . M grad w)), h = exp(w)."""
        modes, velocity, M = self._modes, self._to_modes(self._drift(self._states)), self._mobility
        d = len(modes)
        hessian = self._exponent.hessian(d, dense=False)
        slope = (_apply(hessian, modes).T + self._exponent.vector(d)).T
        pull = _apply(M, slope)
        trace = (M * hessian).sum() if M.ndim == hessian.ndim else (np.diag(np.atleast_2d(M)) if M.ndim == 2 else M) @ (
            np.diag(hessian) if hessian.ndim == 2 else hessian
        )
        own = (slope * (velocity + pull)).sum(axis=0) + trace
        chosen = self._directions
        x, v = modes[chosen], velocity[chosen] + 2 * pull[chosen]
        spread = (np.diag(M) if M.ndim == 1 else M)[np.ix_(chosen, chosen)]
        factor = self._values[0]
        products = [factor * (x[i] * v[j] + x[j] * v[i] + 2 * spread[i, j]) for i, j in self.products]
        return self._values * own + np.stack([0 * factor, *(factor * v), *products])[: self.size]


def _apply(matrix: np.ndarray, states: np.ndarray) -> np.ndarray:
    return matrix @ states if matrix.ndim == 2 else matrix[:, None] * states


def factors_of_killing(cases: list[Case], system, mobility) -> list[SmoothFormula]:
    """Those of all cases of a linear system whose killing rate is quadratic."""
    try:
        law = closed_form.linear_law(system)
    except KswgdError:
        return []
    d = system.dimension
    if d > _MOST_MODES:
        return []
    modes = closed_form._Modes(system)
    M = law.noise**2 / 2 if hasattr(law, "noise") and np.ndim(law.noise) == 1 else closed_form_diffusion(law) / 2
    rates = law.rates if hasattr(law, "rates") else np.diag(law.drift_matrix)
    directions = np.argsort(rates, kind="stable")[:_DIRECTIONS]
    found = []
    groups = {}
    for case in cases:
        if case.boundary is not None:
            continue
        try:
            killing = Quadratic() if case.killing is None else closed_form.quadratic(modes.function(case.killing), d, "")
            begins = closed_form.recognise(case.observable, case.formula, modes, system) if case.formula else None
        except KswgdError:
            continue
        exponent = begins.form if begins is not None and begins.kind == "exponential" else None
        degree = 2 if begins is None or begins.kind != "polynomial" or np.any(begins.form.hessian(d, False)) else int(np.any(begins.form.vector(d)))
        key = (case.rate, case.formula if exponent is not None else "")
        times = [t for t in case.times if np.isfinite(t)]
        if key in groups:
            old = groups[key]
            groups[key] = (killing, exponent, max(old[2], degree), old[3] + times)
        else:
            groups[key] = (killing, exponent, degree, times)
    for (rate, formula), (killing, exponent, degree, times) in groups.items():
        if exponent is None and not rate:
            continue
        times = sorted(set(times)) 
        if exponent is None:
            forms = _killed(law, killing, times)
        else:
            degree = 0
            forms = [_exponent(feynman_kac(law, killing, t), exponent, d) for t in _some(times, _TIMES)]
        for number, form in enumerate(forms):
            part = _Factor(modes.of_states, system.drift, M, form, directions, degree)
            for column in range(part.size):
                name = f"factor {number + 1} of {rate} {formula}, {column}"
                found.append(SmoothFormula(name, lambda s, p=part, c=column: p.value(s, c), lambda s, p=part, c=column: p.generator(s, c)))
    return found


def closed_form_diffusion(law):
    return law.diffusion


def _some(times, most):
    if len(times) <= most:
        return times
    return [times[i] for i in np.unique(np.linspace(0, len(times) - 1, most).round().astype(int))]


def _size(form, law, d):
    hessian = form.hessian(d, dense=False)
    variance = law.stationary_variance if hasattr(law, "stationary_variance") else np.diag(law.stationary_covariance)
    diagonal = np.diag(hessian) if hessian.ndim == 2 else hessian
    return np.abs(diagonal @ np.where(np.isfinite(variance), variance, 0))


def _killed(law, killing, times):
    d = len(law.rates) if hasattr(law, "rates") else len(law.drift_matrix)
    T = times[-1]
    whole = feynman_kac(law, killing, T).log_weight
    forms = [_without_constant(whole)]
    full = _size(whole, law, d)
    for share in _SHARES[1:]:
        low, high = 0.0, T
        for _ in range(30):
            middle = (low + high) / 2
            if _size(feynman_kac(law, killing, middle).log_weight, law, d) < share * full:
                low = middle
            else:
                high = middle
        forms.append(_without_constant(feynman_kac(law, killing, high).log_weight))
    return forms


def _without_constant(form):
    return Quadratic(0.0, form.linear, form.matrix)


def _exponent(law: KilledTransition, end: Quadratic, d: int) -> Quadratic:
    """Logarithm of E_x[exp(end) exp(-int c)], but for a constant."""
    zero = np.zeros((d, 1))
    units = np.eye(d)
    at0 = law.log_exponential(zero, end)[0]
    plus, minus = law.log_exponential(units, end), law.log_exponential(-units, end)
    linear, diagonal = (plus - minus) / 2, (plus + minus) / 2 - at0
    if law.covariance.ndim == 1 and end.is_diagonal:
        return Quadratic(0.0, linear, diagonal)
    matrix = np.diag(diagonal)
    for i in range(d - 1):
        pairs = units[:, i + 1 :] + units[:, [i]]
        mixed = law.log_exponential(pairs, end) - at0 - linear[i] - linear[i + 1 :] - diagonal[i] - diagonal[i + 1 :]
        matrix[i, i + 1 :] = matrix[i + 1 :, i] = mixed / 2
    return Quadratic(0.0, linear, matrix)
