"""What killing makes of functions of a linear system: a Gaussian factor, which no polynomial of low degree is.

Under a quadratic killing rate u = exp(w(x, t)) (a polynomial), with a quadratic w that at a start far out is as large
as what is killed on the way back. A span that holds exp(w) of a few times, by itself and times polynomials of the
slowest modes, nearly holds u at all times between them; where u begins as the exponential of a quadratic function, it
is exp(w) itself. These are a choice of functions and no result: the generator acts on them as on all others, and the
budget says what they are worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from kswgd_hpc.errors import KswgdError
from kswgd_hpc.feynman_kac.case import Case, SmoothFormula
from kswgd_hpc.references.closed_form import linear_law, quadratic, recognise
from spde.equations import SemilinearEquation
from spde.errors import SpdeError
from spde.exact import LinearLaw, OrnsteinUhlenbeck, feynman_kac, principal_eigenpair
from spde.riccati import Quadratic

_MOST_MODES, _MOST_COUPLED = 512, 128
_DIRECTIONS = 4  # slow modes of whose polynomials a factor takes multiples
_SHARES = (1.0, 0.5, 0.2, 0.75)  # of the way of an exponent
_RANKS = (0, 2, 1, 2)  # of the factors at these, see `SmoothFormula`
_SETTLED = 0.99  # of the exponent after infinite time
_DOUBLINGS, _BISECTIONS = 60, 8
_POWER = 4  # of a factor, that has a mean: or samples do not measure its square


@dataclass(frozen=True)
class Linear:
    """A linear system in its modes.

    to_modes, to_states : functions of (d, n) arrays; drift : of states
    law : of the modes; mobility, variance : (d,), or (d, d) where modes are coupled
    """

    to_modes: Callable[[np.ndarray], np.ndarray]
    to_states: Callable[[np.ndarray], np.ndarray]
    drift: Callable[[np.ndarray], np.ndarray]
    law: LinearLaw | OrnsteinUhlenbeck
    mobility: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, system) -> Linear:
        """Raises KswgdError where the system is not linear, SpdeError where it is too large or has no invariant law."""
        law, field = linear_law(system), isinstance(system, SemilinearEquation)
        if system.dimension > (_MOST_MODES if isinstance(law, LinearLaw) else _MOST_COUPLED):
            raise SpdeError(f"{system.dimension} modes are too many")
        if isinstance(law, LinearLaw):
            mobility, variance = law.noise**2 / 2, law.stationary_variance
        else:
            mobility, variance = law.diffusion / 2, law.stationary_covariance
        to_modes, to_states = (system.to_modes, system.from_modes) if field else (np.asarray, np.asarray)
        return cls(to_modes, to_states, system.drift, law, mobility, variance)

    def function(self, function: Callable) -> Callable:
        """A function of states as one of modes."""
        return lambda modes: np.asarray(function(self.to_states(np.ascontiguousarray(modes))), dtype=float)

    def slowest(self, count: int) -> np.ndarray:
        """(k, d) unit vectors of the slowest modes that noise drives."""
        rates = self.law.rates if isinstance(self.law, LinearLaw) else np.diag(self.law.drift_matrix)
        order = np.argsort(np.where(_diagonal(self.mobility) > 0, rates, np.inf), kind="stable")
        return np.eye(len(rates))[order[:count]]

    def integrable(self, exponent: Quadratic) -> bool:
        """Whether powers of exp(exponent) have a mean under the invariant law."""
        hessian = _POWER * exponent.hessian(len(self.mobility), dense=self.variance.ndim == 2)
        if hessian.ndim == 1 and self.variance.ndim == 1:
            return bool((np.where(hessian > 0, hessian * self.variance, 0.0) < 1).all())
        variance = np.diag(self.variance) if self.variance.ndim == 1 else self.variance
        if not np.isfinite(variance).all():
            return False
        return bool(np.linalg.eigvals(variance @ hessian).real.max() < 1)


@dataclass(frozen=True)
class Factor:
    """exp(w) by itself, and times the monomials of some functions.

    Parameters
    ----------
    linear : the system
    exponent : w, of modes
    directions : (k, d) linear functions; squared : how many of them are also multiplied with each other
    """

    linear: Linear
    exponent: Quadratic
    directions: np.ndarray
    squared: int

    @property
    def size(self) -> int:
        """Number of functions."""
        return 1 + len(self.directions) + self.squared * (self.squared + 1) // 2

    def value(self, states: np.ndarray) -> np.ndarray:
        """(n, size) at states (d, n)."""
        modes = self.linear.to_modes(states)
        return (np.exp(self.exponent(modes)) * self._monomials(self.directions @ modes)).T

    def _monomials(self, x: np.ndarray) -> np.ndarray:
        i, j = np.tril_indices(self.squared)
        return np.concatenate([np.ones((1, x.shape[1])), x, x[i] * x[j]])

    def generator(self, states: np.ndarray) -> np.ndarray:
        """(n, size) G (h g) = h (G g + 2 grad w . M grad g + g (G w + grad w . M grad w)), h = exp(w)."""
        modes, velocity = self.linear.to_modes(states), self.linear.to_modes(self.linear.drift(states))
        M, E = self.linear.mobility, self.directions
        hessian = self.exponent.hessian(len(modes), dense=M.ndim == 2)
        slope = _times(hessian, modes) + self.exponent.vector(len(modes))[:, None]
        pull = _times(M, slope)
        bend = (M * hessian).sum() if hessian.ndim == M.ndim else M @ np.diag(hessian)
        own = (slope * (velocity + pull)).sum(axis=0) + bend
        x, v = E @ modes, E @ (velocity + 2 * pull)
        i, j = np.tril_indices(self.squared)
        spread = (E @ _times(M, E.T))[i, j][:, None]
        rates = np.concatenate([np.zeros((1, len(own))), v, x[i] * v[j] + x[j] * v[i] + 2 * spread])
        return (np.exp(self.exponent(modes)) * (rates + own * self._monomials(x))).T


def _times(matrix: np.ndarray, states: np.ndarray) -> np.ndarray:
    return matrix @ states if matrix.ndim == 2 else matrix[:, None] * states


def _diagonal(matrix: np.ndarray) -> np.ndarray:
    return np.diag(matrix) if matrix.ndim == 2 else matrix


@dataclass
class _Wanted:
    """What cases of one killing rate ask for: times, the degree of what they begin as, and its linear parts."""

    killing: Quadratic
    times: set[float]
    degree: int
    slopes: dict[str, np.ndarray]


def factors_of_killing(cases: list[Case], system) -> list[SmoothFormula]:
    """Factors of all cases of a linear system whose killing rate is quadratic; none of any other.

    Parameters
    ----------
    system : from `spde`
    """
    killed, exponentials, found = {}, {}, []
    try:
        linear = Linear.of(system)
    except (KswgdError, SpdeError):
        return []
    for case in cases:
        if case.boundary is None:
            _ask(case, linear, system, killed, exponentials)
    for rate, wanted in killed.items():
        directions = linear.slowest(_DIRECTIONS) if wanted.degree else np.zeros((0, system.dimension))
        squared = len(directions) if wanted.degree > 1 else 0
        directions = np.concatenate([directions, *(slope[None] for slope in wanted.slopes.values())])
        for exponent, rank in zip(_exponents(linear, wanted), _RANKS, strict=False):
            factor = Factor(linear, exponent, directions, squared)
            found.append(_formula(f"factor {len(found)} of {rate}", factor, rank))
    for (formula, rate), (killing, form, times) in exponentials.items():

        def at(time: float, killing=killing, form=form) -> Quadratic:
            return _exponential(linear, killing, form, time)

        exponents = _on_the_way(linear, at, max(times), form, _SHARES)
        for exponent, rank in zip(exponents, _RANKS, strict=False):
            factor = Factor(linear, exponent, np.zeros((0, system.dimension)), 0)
            found.append(_formula(f"factor {len(found)} of {formula} killed by {rate}", factor, rank))
    return found


def _formula(name: str, factor: Factor, rank: int) -> SmoothFormula:
    return SmoothFormula(name, factor.value, factor.generator, factor.size, rank)


def _ask(case: Case, linear: Linear, system, killed: dict, exponentials: dict) -> None:
    """Add what a case asks for; nothing where its killing rate is not quadratic."""
    d, killing = system.dimension, Quadratic()
    try:
        if case.killing is not None:
            killing = quadratic(linear.function(case.killing), d, "killing")
    except KswgdError:
        return
    if d > _MOST_COUPLED and not killing.is_diagonal:
        return
    wanted = killed.setdefault(case.rate, _Wanted(killing, set(), 0, {})) if case.rate else None
    times = {time for time in case.times if np.isfinite(time)}
    if wanted is not None:
        wanted.times |= times
    for function, text in ((case.observable, case.formula), (case.source, case.driven)):
        if function is None:
            continue
        try:
            begins = recognise(function, text, linear, system)
        except KswgdError:
            begins = None
        if begins is not None and begins.kind == "exponential" and times:
            more = exponentials.setdefault((text, case.rate), (killing, begins.form, set()))
            more[2].update(times)
        elif wanted is not None:
            _add_polynomial(wanted, text, begins, d)


def _add_polynomial(wanted: _Wanted, text: str, begins, d: int) -> None:
    """What a polynomial asks for, or a function that is taken to be like one of degree two."""
    if begins is None or begins.kind != "polynomial" or begins.form.hessian(d, dense=False).any():
        wanted.degree = 2
    elif begins.form.vector(d).any():
        wanted.degree = max(wanted.degree, 1)
        wanted.slopes[text] = np.array(begins.form.vector(d))


def _exponents(linear: Linear, wanted: _Wanted) -> Iterator[Quadratic]:
    """Exponents w of a killing rate."""
    try:
        if wanted.times:
            end = max(wanted.times)
        else:
            limit = principal_eigenpair(linear.law, wanted.killing).log_eigenfunction
            end = _settled(linear, wanted.killing, _size(linear, limit))
    except SpdeError:
        return iter(())  # what is infinite has no shape
    shares = _SHARES if wanted.times or wanted.degree else _SHARES[:1]  # of an eigenvalue the eigenfunction
    return _on_the_way(linear, lambda time: _weight(linear, wanted.killing, time), end, Quadratic(), shares)


def _on_the_way(
    linear: Linear, exponent: Callable[[float], Quadratic], end: float, start: Quadratic, shares: tuple[float, ...]
) -> Iterator[Quadratic]:
    """What an exponent is at the end, and where it has gone some shares of its way from the start."""
    try:
        last = exponent(end)
        whole = _size(linear, last, start)
        for share in shares if whole > 0 else ():
            low, high = 0.0, end
            for _ in range(_BISECTIONS if share < 1 else 0):
                middle = (low + high) / 2
                less = _size(linear, exponent(middle), start) < share * whole
                low, high = (middle, high) if less else (low, middle)
            found = exponent(high)
            if linear.integrable(found):
                yield found
    except SpdeError:
        return


def _weight(linear: Linear, killing: Quadratic, time: float) -> Quadratic:
    form = feynman_kac(linear.law, killing, time).log_weight
    return Quadratic(0.0, form.linear, form.matrix)


def _settled(linear: Linear, killing: Quadratic, size: float) -> float:
    """A time after which w has nearly its limit."""
    time = 1 / max(np.abs(linear.law.drift_matrix).max(), 1e-300)
    for _ in range(_DOUBLINGS):
        if _size(linear, _weight(linear, killing, time)) > _SETTLED * size:
            break
        time *= 2
    return time


def _size(linear: Linear, exponent: Quadratic, start: Quadratic = Quadratic()) -> float:  # noqa: B008
    """How far an exponent is from another, in units of the noise."""
    mobility, d = _diagonal(linear.mobility), len(linear.mobility)
    bend = _diagonal(exponent.hessian(d, dense=False)) - _diagonal(start.hessian(d, dense=False))
    return float(np.abs(bend) @ mobility + np.sqrt((exponent.vector(d) - start.vector(d)) ** 2 @ mobility))


def _exponential(linear: Linear, killing: Quadratic, form: Quadratic, time: float) -> Quadratic:
    """Logarithm of E_x[exp(form) exp(-int c)] but for a constant. Raises SpdeError where it is infinite."""
    d, law = len(linear.mobility), feynman_kac(linear.law, killing, time)
    start = law.log_exponential(np.zeros(d), form)
    found = quadratic(lambda modes: law.log_exponential(modes, form) - start, d, "logarithm")
    return Quadratic(0.0, found.linear, found.matrix)
