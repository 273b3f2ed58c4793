"""Closed form: linear equations and linear diffusions, whose functionals are Gaussian integrals (`spde.riccati`).

Observable, killing rate and drift are recognised by their values: a function is called quadratic when a quadratic found
from some states gives its values at other states of very different size, to rounding. All else is refused.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kswgd_hpc import systems
from kswgd_hpc.errors import ConfigurationError, KswgdError
from kswgd_hpc.references.quadrature import to_infinity, up_to
from spde.diffusions import Diffusion
from spde.equations import SemilinearEquation
from spde.errors import SpdeError
from spde.exact import LinearLaw, OrnsteinUhlenbeck, feynman_kac, principal_eigenpair
from spde.riccati import KilledTransition, Quadratic

_DENSE = 400  # components of a matrix that is found entry by entry
_EXACT = 1e-9
_ROUNDING = 1e-9
_SIZES = (0.3, 3.0, 40.0, 1000.0)
_COLUMNS = 256


class NotClosed(KswgdError):
    """There is no closed form, and why."""


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian law of the modes: mean (d,), covariance (d,) or (d, d)."""

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Functional:
    """scale h(x) of the kind polynomial, scale exp(h(x)) of exponential, 1{h(x) > 0} with a linear h of half_space."""

    kind: str
    form: Quadratic
    scale: float = 1.0

    def expectation(self, law: KilledTransition, start: np.ndarray) -> float:
        """E_x[this at X_t, times exp(-int c)]."""
        if self.kind == "polynomial":
            return float(self.scale * law.polynomial(start, self.form))
        if self.kind == "exponential":
            return float(self.scale * law.exponential(start, self.form))
        normal = self.form.vector(len(start))
        return float(self.scale * law.half_space(start, normal, -self.form.constant))


def estimate(case, system: Any) -> tuple[np.ndarray, np.ndarray]:
    """(times,) values, and bounds on their errors.

    Parameters
    ----------
    case : what is wanted
    system : the equation or diffusion

    Raises
    ------
    NotClosed : the system is not linear, or a function or the initial law is not one that there is a formula for
    """
    if case.boundary is not None:
        raise NotClosed("there is no closed form for paths that are stopped")
    law, modes = linear_law(system), _Modes(system)
    killing = Quadratic() if case.killing is None else quadratic(modes.function(case.killing), law.dimension, "killing")
    initial = _initial(case.start, system, modes)

    def at(functional: Functional, time: float) -> float:
        return _value(feynman_kac(law, killing, time), functional, initial)

    try:
        values, errors = np.zeros(len(case.times)), np.zeros(len(case.times))
        if not case.steady:
            ends = recognise(case.observable, case.formula, modes, system)
            values = np.array([at(ends, time) for time in case.times])
        if case.source is not None:
            source = recognise(case.source, case.driven, modes, system)
            if case.steady:
                summed = _resolvent(lambda time: at(source, time), law, case.killing is None)
            else:
                summed = up_to(lambda time: at(source, time), case.times)
            values, errors = values + summed[0], summed[1]
        return values, errors + _ROUNDING * np.abs(values).max()
    except SpdeError as error:
        raise NotClosed(f"validation.feynman_kac.{case.name}: {error}") from error


def _resolvent(value: Callable[[float], float], law: LinearLaw | OrnsteinUhlenbeck, centred: bool) -> tuple:
    """Integral of a value over all times, and a bound on its error; less its limit where nothing is killed."""
    rates = law.rates if isinstance(law, LinearLaw) else np.linalg.eigvals(law.drift_matrix).real
    slow = rates.min()
    if centred and slow <= 0:
        raise NotClosed(
            "without killing there is a resolvent where there is an invariant law, and this system has none"
        )
    limit = value(40 / slow) if centred else 0.0
    decay = np.abs(rates[np.abs(rates) > 1e-12 * np.abs(rates).max(initial=0.0)])
    found = to_infinity(lambda time: value(time) - limit, 1 / decay.min() if len(decay) else 1.0)
    if found is None:
        raise NotClosed("the integral over all times does not converge")
    return found


def principal_eigenvalue(killing: Callable | None, system: Any) -> float:
    """Smallest eigenvalue of L + c. Raises NotClosed."""
    law, modes = linear_law(system), _Modes(system)
    form = Quadratic() if killing is None else quadratic(modes.function(killing), law.dimension, "killing")
    try:
        return principal_eigenpair(law, form).rate
    except SpdeError as error:
        raise NotClosed(str(error)) from error


def _value(law: KilledTransition, functional: Functional, initial: Gaussian) -> float:
    if not initial.covariance.any():
        return functional.expectation(law, initial.mean)
    return functional.expectation(_started(law, initial), np.zeros(len(initial.mean)))


def _started(law: KilledTransition, initial: Gaussian) -> KilledTransition:
    """The killed law of X_t from a Gaussian start: exp(w) tilts the start, and is again a Gaussian with a weight.

    Taken as a transition that forgets where it starts.
    """
    weight, d = law.log_weight, len(initial.mean)
    start = KilledTransition(0.0, Quadratic(), np.zeros(d), initial.mean, initial.covariance)
    log_mean = float(start.log_exponential(np.zeros(d), weight))
    dense = not (initial.covariance.ndim == 1 and law.covariance.ndim == 1 and weight.is_diagonal)
    hessian, slope = weight.hessian(d, dense), weight.vector(d)
    S = np.diag(initial.covariance) if dense and initial.covariance.ndim == 1 else initial.covariance
    if not dense:
        tilted = S / (1 - S * hessian)
        mean = initial.mean + tilted * (hessian * initial.mean + slope)
        mean, covariance = law.propagator * mean + law.offset, law.covariance + law.propagator**2 * tilted
        return KilledTransition(law.time, Quadratic(log_mean), np.zeros(d), mean, covariance)
    F = law.propagator if law.propagator.ndim == 2 else np.diag(law.propagator)
    own = law.covariance if law.covariance.ndim == 2 else np.diag(law.covariance)
    tilted = np.linalg.solve(np.eye(d) - S @ hessian, S)
    tilted = (tilted + tilted.T) / 2
    mean = F @ (initial.mean + tilted @ (hessian @ initial.mean + slope)) + law.offset
    return KilledTransition(law.time, Quadratic(log_mean), np.zeros((d, d)), mean, own + F @ tilted @ F.T)


class _Modes:
    """The coordinates in which a law is held: Laplacian modes of an equation, the variables of a diffusion."""

    def __init__(self, system: Any):
        self._system = system
        self._grid = isinstance(system, SemilinearEquation)

    def to_states(self, modes: np.ndarray) -> np.ndarray:
        """States (d, n)."""
        return self._system.from_modes(np.ascontiguousarray(modes)) if self._grid else modes

    def of_states(self, states: np.ndarray) -> np.ndarray:
        """Modes (d, n) of states."""
        return self._system.to_modes(np.ascontiguousarray(states)) if self._grid else states

    def function(self, function: Callable) -> Callable:
        """A function of states as one of modes."""
        return lambda modes: np.asarray(function(self.to_states(modes)), dtype=float)


def linear_law(system: Any) -> LinearLaw | OrnsteinUhlenbeck:
    """The law of a linear system in its modes. Raises NotClosed for any other."""
    if isinstance(system, Diffusion):
        if system.linear is None:
            raise NotClosed("the drift is not linear, or the noise not constant")
        matrix, constant = system.linear
        covariance = system.noise @ system.noise.T
        if all(np.array_equal(part, np.diag(np.diag(part))) for part in (matrix, covariance)):
            return LinearLaw(-np.diag(matrix), np.sqrt(np.diag(covariance)), constant)
        return OrnsteinUhlenbeck(-matrix, system.noise, constant)
    if not isinstance(system, SemilinearEquation) or system.is_multiplicative:
        raise NotClosed("the system is not a linear equation with additive noise")
    if system.force is None:
        return LinearLaw(system.rates, system.scales)
    return _probed_law(system)


def _probed_law(system: SemilinearEquation) -> LinearLaw | OrnsteinUhlenbeck:
    """The law of an equation whose force is affine, as advection, a coupling of fields or a source is."""
    d = system.dimension
    force = lambda modes: np.array(system.force(np.ascontiguousarray(modes)))  # noqa: E731
    rng = np.random.default_rng(7)
    constant = force(np.zeros((d, 1)))[:, 0]
    trial = rng.standard_normal((d, 4)) * np.array(_SIZES)
    diagonal = np.zeros(d)
    if d <= _DENSE:
        matrix = force(np.eye(d)) - constant[:, None]
        expected = matrix @ trial + constant[:, None]
    else:
        diagonal = (force(trial[:, :1])[:, 0] - constant) / trial[:, 0]
        expected = diagonal[:, None] * trial + constant[:, None]
    found = force(trial)
    if not np.allclose(found, expected, rtol=0, atol=_EXACT * max(np.abs(found).max(), 1e-300)):
        raise NotClosed("the drift is not linear" if d <= _DENSE else "the drift is not linear and diagonal in modes")
    if d <= _DENSE:
        diagonal = np.diag(matrix).copy()
        if np.abs(matrix - np.diag(diagonal)).max() > _EXACT * max(np.abs(matrix).max(), 1e-300):
            return OrnsteinUhlenbeck(np.diag(system.rates) - matrix, system.scales, constant)
    return LinearLaw(system.rates - diagonal, system.scales, constant)


def quadratic(function: Callable, d: int, what: str) -> Quadratic:
    """A function of modes (d, n) -> (n,) as a quadratic. Raises NotClosed when it is none."""
    rng = np.random.default_rng(3)
    constant = float(function(np.zeros((d, 1)))[0])
    plus, minus = (np.concatenate([function(s * part) for part in _units(d)]) for s in (1.0, -1.0))
    linear, diagonal = (plus - minus) / 2, (plus + minus) / 2 - constant
    trial = [rng.standard_normal((d, 3)) * size for size in _SIZES]
    form = _cleaned(constant, linear, diagonal)
    if _agrees(function, form, trial):
        return form
    if d > _DENSE:
        raise NotClosed(f"{what} is not a quadratic function that couples no modes")
    matrix = np.diag(diagonal)
    for i in range(d - 1):
        pairs = np.zeros((d, d - 1 - i))
        pairs[i], pairs[np.arange(i + 1, d), np.arange(d - 1 - i)] = 1.0, 1.0
        mixed = function(pairs) - constant - linear[i] - linear[i + 1 :] - diagonal[i] - diagonal[i + 1 :]
        matrix[i, i + 1 :] = matrix[i + 1 :, i] = mixed / 2
    form = _cleaned(constant, linear, matrix)
    if not _agrees(function, form, trial):
        raise NotClosed(f"{what} is not quadratic")
    return form


def _cleaned(constant: float, linear: np.ndarray, matrix: np.ndarray) -> Quadratic:
    """The quadratic without what is rounding in its coefficients."""
    noise = 1e-13 * max(abs(constant), np.abs(linear).max(initial=0.0), np.abs(matrix).max(initial=0.0))
    linear, matrix = (np.where(np.abs(part) > noise, part, 0.0) for part in (linear, matrix))
    return Quadratic(constant, linear, matrix)


def _units(d: int):
    """The unit vectors, (d, n) some at a time."""
    for start in range(0, d, _COLUMNS):
        count = min(_COLUMNS, d - start)
        part = np.zeros((d, count))
        part[start + np.arange(count), np.arange(count)] = 1.0
        yield part


def _agrees(function: Callable, form: Quadratic, trial: list[np.ndarray]) -> bool:
    """Whether the form gives the function's values at trial states of several sizes."""
    for states in trial:
        with np.errstate(over="ignore", invalid="ignore"):
            found, expected = function(states), form(states)
        # what the value is a sum of
        size = np.abs(form.vector(len(states))) @ np.abs(states) + abs(form.constant) + np.abs(found)
        if not (np.abs(found - expected) <= _EXACT * size).all():
            return False
    return True


def recognise(observable: Callable, text: str | float, modes: _Modes, system: Any) -> Functional:
    """The observable as a polynomial of degree two, the exponential of one, or the indicator of a half space.

    Raises
    ------
    NotClosed : when it is none of them
    """
    d = system.dimension
    halves = _compared(text)
    if halves is not None:
        difference = systems.observable(system, halves, "observable")
        form = quadratic(modes.function(difference), d, "the set's boundary")
        if np.any(form.hessian(d, dense=False)):
            raise NotClosed("the boundary of the set is not a plane")
        return Functional("half_space", form)
    function = modes.function(observable)
    try:
        return Functional("polynomial", quadratic(function, d, "observable"))
    except (NotClosed, ConfigurationError):
        pass
    exponent = _logarithm(text)
    if exponent is None:
        raise NotClosed("observable is neither quadratic, nor exp of a quadratic, nor the indicator of a half space")
    inner, scale = exponent
    form = quadratic(modes.function(systems.observable(system, inner, "observable")), d, "the exponent")
    return Functional("exponential", form, scale)


def _compared(text: str | float) -> str | None:
    """a - (b) of the text a > b, or b - (a) of a < b; None for anything else."""
    tree = ast.parse(str(text).strip(), mode="eval").body
    if not (isinstance(tree, ast.Compare) and len(tree.ops) == 1):
        return None
    left, right = ast.unparse(tree.left), ast.unparse(tree.comparators[0])
    greater = isinstance(tree.ops[0], ast.Gt | ast.GtE)
    return f"({left}) - ({right})" if greater else f"({right}) - ({left})"


def _logarithm(text: str | float) -> tuple[str, float] | None:
    """The exponent and the factor of a text exp(a), b * exp(a), exp(a) * b, exp(a) / b, -exp(a); b a number."""
    tree = ast.parse(str(text).strip(), mode="eval").body
    match tree:
        case ast.Call(func=ast.Name(id="exp"), args=[argument]):
            return ast.unparse(argument), 1.0
        case ast.UnaryOp(op=ast.USub(), operand=inner) if found := _logarithm(ast.unparse(inner)):
            return found[0], -found[1]
        case (
            ast.BinOp(left=ast.Constant(value=number), op=ast.Mult(), right=inner)
            | ast.BinOp(left=inner, op=ast.Mult(), right=ast.Constant(value=number))
        ) if found := _logarithm(ast.unparse(inner)):
            return found[0], found[1] * number
        case ast.BinOp(left=inner, op=ast.Div(), right=ast.Constant(value=number)) if found := _logarithm(
            ast.unparse(inner)
        ):
            return found[0], found[1] / number
    return None


def _initial(spec, system: Any, modes: _Modes) -> Gaussian:
    """The initial law in modes. Raises NotClosed where it is neither one state nor a Gaussian."""
    d = system.dimension
    sampler = systems.initial_states(system, d, spec, "initial")
    if spec.kind in ("constant", "expression"):
        return Gaussian(modes.of_states(sampler(0, 0, 0, 1))[:, 0], np.zeros(d))
    if spec.kind == "file":
        states = sampler(0, 0, 0, 2)
        if (states[:, 0] == states[:, 1]).all():
            return Gaussian(modes.of_states(states[:, :1])[:, 0], np.zeros(d))
    if spec.kind != "gaussian":
        raise NotClosed(f"the initial law is {spec.kind}, which is not Gaussian")
    still = spec.model_copy(update={"deviation": 0.0})
    mean = modes.of_states(systems.initial_states(system, d, still, "initial")(0, 0, 0, 1))[:, 0]
    deviation = np.atleast_1d(np.asarray(spec.deviation, dtype=float))
    if not isinstance(system, SemilinearEquation):
        return Gaussian(mean, np.broadcast_to(deviation, d) ** 2)
    if len(deviation) not in (1, len(system.names)):
        raise NotClosed("the initial deviation is not the same all over space")
    # white noise on the grid: the modes are orthonormal there
    each = np.broadcast_to(deviation, len(system.names)) ** 2 * system.domain.cell
    return Gaussian(mean, np.repeat(each, d // len(system.names)))
