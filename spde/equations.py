"""Semilinear stochastic PDEs on an interval: du = (nu u_xx + r(u, x)) dt + sigma dW, W space-time white."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from spde.domain import Interval
from spde.errors import SpdeError
from spde.expressions import Expression, symbols
from spde.kernels import horner, pointwise_kernel
from spde.schemes import SCHEMES
from spde.stepping import Stepper

# reactions of the named equations and their further parameters with defaults
CATALOGUE: dict[str, tuple[str, dict[str, float]]] = {
    "heat": ("-damping*u", {"damping": 0.0}),
    "allen_cahn": ("u - u**3", {}),
}


class SemilinearEquation:
    """A semilinear equation on an interval, as a diffusion in R^d.

    The state is the field on the grid (finite differences) or its Laplacian coefficients (spectral).

    Parameters
    ----------
    interval : domain and discretisation
    diffusivity : nu >= 0, length**2 / time
    reaction : r, an expression in u, x and the named parameters
    amplitude : sigma, white noise
    parameters : values of the names in `reaction`
    """

    variables = ("u", "x")

    def __init__(
        self,
        interval: Interval,
        diffusivity: float,
        reaction: str,
        amplitude: float,
        parameters: Mapping[str, float] | None = None,
    ):
        self.interval = interval
        self.diffusivity = diffusivity
        self.amplitude = amplitude
        parameters = dict(parameters or {})
        expression = Expression(reaction, (*self.variables, *parameters))
        formula = expression.symbolic()
        self.formula = formula.subs(dict(zip(symbols(parameters), parameters.values(), strict=True)))

    @property
    def dimension(self) -> int:
        return self.interval.points

    @cached_property
    def mobility(self) -> np.ndarray:
        """(d,) diagonal of M = s s^T / 2: sigma^2 / (2 dx) on a grid, sigma^2 / 2 for coefficients."""
        finite_difference = self.interval.discretization == "finite_difference"
        volume = self.interval.spacing if finite_difference else 1.0
        return np.full(self.dimension, self.amplitude**2 / (2 * volume))

    @cached_property
    def _split(self) -> tuple[float, object]:
        """Linear damping that is stepped exactly, and the reaction that is left."""
        import sympy

        u, _ = symbols(self.variables)
        slope = sympy.diff(self.formula, u).subs(u, 0)
        damped = slope.is_number and slope.is_real and slope.is_finite and slope < 0
        damping = -float(slope) if damped else 0.0
        rest = sympy.expand(self.formula + damping * u)
        if damped and rest.is_polynomial(u):
            linear = rest.coeff(u, 1)
            if linear.is_number and abs(float(linear)) < 1e-12 * damping:
                rest = rest - linear * u  # what rounding left of the part that is split off
        return damping, rest

    @cached_property
    def rates(self) -> np.ndarray:
        """(d,) decay rates of the linear part, per mode."""
        return self.diffusivity * self.interval.eigenvalues + self._split[0]

    @cached_property
    def is_linear(self) -> bool:
        """Whether the reaction is entirely absorbed in the rates."""
        return self._split[1] == 0

    @cached_property
    def _reaction(self) -> Callable[[np.ndarray, np.ndarray], None]:
        """Kernel (values, out) of the remaining reaction on the grid."""
        import sympy

        u, _ = symbols(self.variables)
        rest = self._split[1]
        if rest.is_polynomial(u) and rest.free_symbols <= {u}:
            coefficients = np.array([float(a) for a in sympy.Poly(rest, u).all_coeffs()])
            return lambda values, out: horner(values, coefficients, out)
        kernel, grid = pointwise_kernel(rest, self.variables), self.interval.grid
        return lambda values, out: kernel(values, grid, out)

    def force(self, modes: np.ndarray) -> np.ndarray:
        """Reaction in mode space, (d, batch) to (d, batch)."""
        values = self.interval.synthesis(modes)
        self._reaction(values, values)
        return self.interval.analysis(values)

    def drift(self, states: np.ndarray) -> np.ndarray:
        """b(x) of dX = b dt + s dW, (d, batch) to (d, batch)."""
        modes = self.to_modes(states)
        rate = -self.rates[:, None] * modes
        return self.from_modes(rate if self.is_linear else rate + self.force(modes))

    def stepper(self, time_step: float, scheme: str = "auto") -> Stepper:
        """Time stepper; `auto` is exponential_heun, exact for linear equations."""
        name = "exponential_heun" if scheme == "auto" else scheme
        if name not in SCHEMES:
            raise SpdeError(f"scheme {name!r} is not one of {', '.join(SCHEMES)}")
        coefficients = SCHEMES[name](self.rates, self.amplitude, time_step)
        force = None if self.is_linear else self.force
        return Stepper(coefficients, force, time_step, self.to_modes, self.from_modes)

    def to_modes(self, states: np.ndarray) -> np.ndarray:
        """Laplacian coefficients (d, batch) of states."""
        return states if self.interval.discretization == "spectral" else self.interval.analysis(states)

    def from_modes(self, modes: np.ndarray) -> np.ndarray:
        """States of Laplacian coefficients (d, batch)."""
        return modes if self.interval.discretization == "spectral" else self.interval.synthesis(modes)

    def fields(self, states: np.ndarray) -> np.ndarray:
        """Values on the grid, (grid_points, batch)."""
        return self.interval.synthesis(states) if self.interval.discretization == "spectral" else states

    def from_fields(self, values: np.ndarray) -> np.ndarray:
        """States of values on the grid (grid_points, batch)."""
        return self.interval.analysis(values) if self.interval.discretization == "spectral" else values

    def mode_map(self, count: int) -> np.ndarray:
        """(count, d) matrix from states to the first `count` Laplacian coefficients."""
        if self.interval.discretization == "spectral":
            return np.eye(count, self.dimension)
        return np.ascontiguousarray(self.interval.basis[:, :count].T * self.interval.spacing)

    def observe(self, expression: Expression, states: np.ndarray) -> np.ndarray:
        """Values (batch,) of an observable in u and x that is reduced over space by mean, max, min or sum.

        mean(f) is the integral of f over the interval, divided by its length.
        """
        values = self.fields(states)
        outcome = expression({"u": values, "x": self.interval.grid[:, None]}, self._reduce)
        if outcome.ndim > 1 and outcome.shape[0] > 1:
            raise SpdeError(f"observable {expression.text!r} is a field: reduce it with mean, max, min or sum")
        return np.broadcast_to(outcome.reshape(outcome.shape[-1:]), (states.shape[1],))

    def _reduce(self, name: str, array: np.ndarray) -> np.ndarray:
        if array.ndim < 2 or array.shape[0] == 1:
            raise SpdeError(f"{name}() is taken of something that does not depend on space")
        if name == "mean":
            return array.sum(axis=0, keepdims=True) * (self.interval.spacing / self.interval.length)
        return getattr(np, name)(array, axis=0, keepdims=True)


def named_equation(
    name: str, interval: Interval, amplitude: float, parameters: Mapping[str, float]
) -> SemilinearEquation:
    """An equation of the catalogue; `parameters` may set nu (default 1) and the equation's own."""
    reaction, defaults = CATALOGUE[name]
    values = {**defaults, **parameters}
    diffusivity = values.pop("nu", 1.0)
    unknown = set(values) - set(defaults)
    if unknown:
        known = ", ".join(["nu", *defaults])
        raise SpdeError(f"{name} has no parameter {sorted(unknown)[0]!r} (known: {known})")
    return SemilinearEquation(interval, diffusivity, reaction, amplitude, values)
