"""Coordinates that are functions of the state: observables given as expressions, with their derivatives by SymPy.

Two kinds are composed. `FunctionMap` takes functions of the coordinates of another map, `Integrals` takes means and
sums over space of functions of a field; observables of a field are functions of such integrals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from kswgd_hpc.coordinates import CoordinateMap, LinearMap, Mobility, apply_mobility, is_field, numbered
from kswgd_hpc.errors import ConfigurationError
from spde.equations import SemilinearEquation
from spde.errors import SpdeError
from spde.expressions import Expression, no_reduction, symbols
from spde.mobility import ModeMobility

_NUMBERS = 2**22  # of a batch of gradients in the space of fields
_WHEN = "its derivatives are needed for estimator: dirichlet and for kswgd"


class FunctionMap:
    """Functions f(y) of the coordinates y of another map, by the chain rule where they are smooth.

    Parameters
    ----------
    texts : expressions in the names of `inner`
    inner : the map that they are functions of

    Raises
    ------
    ExpressionError : an expression that cannot be parsed, or has an unknown name
    """

    linear = False

    def __init__(self, texts: Sequence[str], inner: CoordinateMap):
        self.inner = inner
        self.names = numbered(len(texts))
        self.expressions = [Expression(text, inner.names, reductions=True) for text in texts]

    def __len__(self) -> int:
        return len(self.names)

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """(n, c) values at states (d, n). Raises ConfigurationError where one is not finite."""
        values = self.unchecked(states)
        for index in np.flatnonzero(~np.isfinite(values).all(axis=0)):
            text = self.expressions[index].text
            raise ConfigurationError(f"koopman: {text!r} is not finite on a state that the system reached")
        return values

    def unchecked(self, states: np.ndarray) -> np.ndarray:
        """The same where a value need not be finite."""
        return self._stacked(self._values(states), states.shape[1])

    def _values(self, states: np.ndarray) -> list[np.ndarray]:
        columns = dict(zip(self.inner.names, self.inner(states).T))
        return [expression(columns, no_reduction) for expression in self.expressions]

    @staticmethod
    def _stacked(values: list, count: int) -> np.ndarray:
        return np.stack([np.broadcast_to(np.asarray(value, dtype=float), (count,)) for value in values], axis=1)

    @cached_property
    def _formulas(self) -> list:
        """SymPy formulas of the functions in the names of the inner map."""
        return [expression.symbolic() for expression in self.expressions]

    @cached_property
    def _derivatives(self) -> tuple[Callable, Callable]:
        """Functions of the inner coordinates, one array each, to lists of all first and of all second derivatives.

        Raises
        ------
        ConfigurationError : a function that is not smooth, naming it
        """
        import sympy

        try:
            formulas, names = self._formulas, symbols(self.inner.names)
        except SpdeError as error:
            raise ConfigurationError(f"koopman: {error}; {_WHEN}") from error
        first, second = [], []
        for expression, formula in zip(self.expressions, formulas):
            slopes = [sympy.diff(formula, name) for name in names]
            curves = [sympy.diff(slope, name) for slope in slopes for name in names]
            if any(part.has(sympy.DiracDelta, sympy.Derivative, sympy.Subs, sympy.Heaviside) for part in curves):
                raise ConfigurationError(f"koopman: {expression.text!r} is not smooth; {_WHEN}")
            first, second = first + slopes, second + curves
        return tuple(sympy.lambdify(names, part, modules="numpy", cse=True) for part in (first, second))

    def require_derivatives(self) -> None:
        """Raise ConfigurationError where a function is not smooth."""
        _ = self._derivatives
        if isinstance(self.inner, FunctionMap):
            self.inner.require_derivatives()

    def _slopes(self, y: np.ndarray) -> np.ndarray:
        """(n, c, c0) Jacobian of f at inner coordinates (n, c0)."""
        return self._stacked(self._derivatives[0](*y.T), len(y)).reshape(len(y), len(self), -1)

    def velocity(self, drift: np.ndarray, states: np.ndarray, mobility: Mobility) -> np.ndarray:
        """(n, c) f' . (drift of y) + K : f'', K the mobility of y."""
        y = self.inner(states)
        moving = self._inner_mobility(mobility, states, len(y))
        curves = self._stacked(self._derivatives[1](*y.T), len(y)).reshape(len(y), len(self), *moving.shape[1:])
        speed = self.inner.velocity(drift, states, mobility)
        return (self._slopes(y) @ speed[:, :, None])[:, :, 0] + np.einsum("nab,ncab->nc", moving, curves)

    def mobility(self, mobility: Mobility, states: np.ndarray) -> np.ndarray:
        """(n, c, c) f' K f'^T, K the mobility of y."""
        slopes = self._slopes(self.inner(states))
        return slopes @ self._inner_mobility(mobility, states, len(slopes)) @ slopes.transpose(0, 2, 1)

    def _inner_mobility(self, mobility: Mobility, states: np.ndarray, count: int) -> np.ndarray:
        moving = self.inner.mobility(mobility, states)
        return np.broadcast_to(moving, (count, *moving.shape[-2:]))

    def lift(self, slopes: np.ndarray, mobility: Mobility, states: np.ndarray) -> np.ndarray:
        """(n, d) M J^T g of slopes g (n, c)."""
        inner = self._slopes(self.inner(states))
        return self.inner.lift((slopes[:, None, :] @ inner)[:, 0], mobility, states)


class FieldFunctionMap(FunctionMap):
    """Observables of fields, as in `mean(u)**2 + u(0.5)`: functions of integrals over space.

    max, min and comparisons are allowed too, where no derivatives are needed.

    Parameters
    ----------
    texts : expressions in the fields and in space, reduced over space
    system : the equation
    """

    def __init__(self, texts: Sequence[str], system: SemilinearEquation):
        self.names = numbered(len(texts))
        self.expressions = [Expression(text, system.variables, reductions=True) for text in texts]
        self._system = system
        still = np.zeros((system.dimension, 2))
        for expression in self.expressions:
            system.observe(expression, still)

    def _values(self, states: np.ndarray) -> list[np.ndarray]:
        return [self._system.observe(expression, states) for expression in self.expressions]

    @property
    def inner(self) -> Integrals:
        """The integrals that the observables are functions of."""
        return self._taken_apart[1]

    @property
    def _formulas(self) -> list:
        """SymPy formulas in the names of the integrals."""
        return self._taken_apart[0]

    @cached_property
    def _taken_apart(self) -> tuple[list, Integrals]:
        integrands: list[tuple[np.ndarray | None, Any]] = []
        places, fields = set(symbols(self._system.variables)), symbols(self._system.names)

        def reduction(name: str, argument, *numbers: float):
            allowed = argument in fields if name == "energy" else argument.free_symbols <= places
            if name in ("max", "min") or not allowed:
                raise SpdeError(
                    f"{name}() of {argument} has no derivative; mean, sum and mode of functions of the fields do, and "
                    "the energy and the value at a place of a field"
                )
            integrands.append((None if name == "energy" else self._system.weights(name, *numbers), argument))
            return symbols([f"integral{len(integrands)}"])[0]

        formulas = [expression.symbolic(reduction) for expression in self.expressions]
        return formulas, Integrals(self._system, integrands)


class Integrals:
    """Sums over the grid of w(x) g(u, x), as means over space are, and energies of fields u.

    The noises of different fields are independent: the generator takes second derivatives in one field at a time.

    Parameters
    ----------
    system : the equation
    integrands : (weights (points,), SymPy formula of g) each; None and a field for its energy
    """

    linear = False

    def __init__(self, system: SemilinearEquation, integrands: Sequence[tuple[np.ndarray | None, Any]]):
        import sympy

        self.names = tuple(f"integral{i + 1}" for i in range(len(integrands)))
        self._system = system
        if not integrands:
            raise SpdeError("observables that do not depend on the field")
        variables, domain = symbols(system.variables), system.domain
        fields = variables[: len(system.names)]
        self._energies = {i: fields.index(g) for i, (weights, g) in enumerate(integrands) if weights is None}
        formulas = [sympy.Integer(0) if i in self._energies else g for i, (_, g) in enumerate(integrands)]
        orders = [[[formula] for formula in formulas]]
        orders += [[[sympy.diff(g, u, order) for u in fields] for g in formulas] for order in (1, 2)]
        if any(part.has(sympy.DiracDelta, sympy.Derivative, sympy.Subs) for row in orders[2] for part in row):
            raise SpdeError("a function of the fields that is not smooth")
        self._functions = [sympy.lambdify(variables, part, modules="numpy", cse=True) for part in orders]
        self._places = [place[:, None] for place in domain.coordinates.values()]
        nothing = np.zeros(domain.grid_size)
        self._weights = np.array([nothing if weights is None else weights for weights, _ in integrands])
        points = len(system.names) * domain.grid_size
        self._batch = max(1, _NUMBERS // (len(integrands) * max(points, system.dimension)))
        self._kept: dict[str, tuple[Mobility, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """(n, c) values at states (d, n)."""
        return np.concatenate([self._densities(some, 0).sum(axis=1).T for _, some in self._batches(states)])

    def velocity(self, drift: np.ndarray, states: np.ndarray, mobility: Mobility) -> np.ndarray:
        """(n, c) sum of w (g' b + g'' M_ii) over the fields and the points of the grid; of energies u K b + tr(K M)."""
        parts, traces = [], self._traces(mobility)
        for part, some in self._batches(states):
            rate = self._densities(some, 1) * self._system.fields(np.ascontiguousarray(drift[:, part]))
            rate += self._densities(some, 2) * self._at_points(mobility, some)
            parts.append(rate.sum(axis=1).T + traces)
        return np.concatenate(parts)

    def mobility(self, mobility: Mobility, states: np.ndarray) -> np.ndarray:
        """(n, c, c) J M J^T."""
        parts = []
        for _, some in self._batches(states):
            gradients = self._gradients(some)
            moved = [apply_mobility(mobility, gradient.T, some).T for gradient in gradients]
            parts.append(np.einsum("adn,bdn->nab", gradients, np.array(moved)))
        return np.concatenate(parts)

    def lift(self, slopes: np.ndarray, mobility: Mobility, states: np.ndarray) -> np.ndarray:
        """(n, d) M J^T g of slopes g (n, c)."""
        parts = []
        for part, some in self._batches(states):
            pulled = np.einsum("adn,na->nd", self._gradients(some), slopes[part])
            parts.append(apply_mobility(mobility, pulled, some))
        return np.concatenate(parts)

    def _batches(self, states: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Columns of states, few enough that their gradients fit, at least once."""
        for start in range(0, max(states.shape[1], 1), self._batch):
            part = slice(start, start + self._batch)
            yield part, np.ascontiguousarray(states[:, part])

    def _densities(self, states: np.ndarray, order: int) -> np.ndarray:
        """(c, points, n) weighted g on the grid, or (c, fields * points, n) its derivatives in each field.

        Second derivatives are those at one point alone, none of energies: see `_traces`.
        """
        fields = np.split(self._system.fields(states), len(self._system.names))
        values = self._functions[order](*fields, *self._places)
        rows = [np.concatenate([np.broadcast_to(v, fields[0].shape) for v in row]) for row in values]
        found = np.tile(self._weights, len(rows[0]) // self._weights.shape[1])[:, :, None] * np.stack(rows)
        for i, f in self._energies.items() if order < 2 else ():
            pull = self._system.domain.stiffness(fields[f])
            if order == 0:
                found[i] = fields[f] * pull / 2
            else:
                found[i, f * len(pull) : (f + 1) * len(pull)] = pull
        return found

    def _gradients(self, states: np.ndarray) -> np.ndarray:
        """(c, d, n) gradients in the space of states: transposed synthesis of the weighted derivatives."""
        slopes, domain = self._densities(states, 1), self._system.domain
        if domain.is_grid:
            return slopes
        return np.stack([self._system.each(domain.analysis, slope) for slope in slopes]) / domain.cell

    def _at_points(self, mobility: Mobility, states: np.ndarray) -> np.ndarray:
        """(fields * points, 1 or n) diagonal of the mobility of the fields on the grid."""
        if hasattr(mobility, "at_points"):
            return mobility.at_points(states)
        if is_field(mobility):
            fields = [self._system.fields(np.ascontiguousarray(f.T)) for f in mobility.seen_by(None, states)]
            return sum(field**2 for field in fields)
        return self._once("at points", mobility, lambda constant: self._constant_at_points(constant)[:, None])

    def _traces(self, mobility: Mobility) -> np.ndarray:
        """(c,) tr(K M) of energies, 0 of all others."""
        if not self._energies:
            return np.zeros(len(self))
        if is_field(mobility):
            raise SpdeError("energy() has no second derivatives under noise that depends on the state")
        return self._once("traces", mobility, self._constant_traces)

    def _once(self, name: str, mobility: Mobility, make: Callable) -> np.ndarray:
        """What is made of a mobility, kept for the next time."""
        if name not in self._kept or self._kept[name][0] is not mobility:
            self._kept[name] = mobility, make(mobility)
        return self._kept[name][1]

    def _constant_traces(self, mobility: Mobility) -> np.ndarray:
        energies = self._energies
        return np.array([self._trace(mobility, energies[i]) if i in energies else 0.0 for i in range(len(self))])

    def _trace(self, mobility: Mobility, f: int) -> float:
        """Sum of eigenvalues of minus the Laplacian times the mobility of the modes of a field."""
        domain = self._system.domain
        rows = slice(f * domain.size, (f + 1) * domain.size)
        if isinstance(mobility, ModeMobility):
            return float(domain.eigenvalues @ mobility.variances[rows])
        if mobility.ndim == 1:
            own = mobility[rows]
            factors = domain.cell**2 * domain.pointwise_variance(domain.eigenvalues)
            return float((factors if domain.is_grid else domain.eigenvalues) @ own)
        own = np.ascontiguousarray(mobility[rows, rows])
        if domain.is_grid:
            own = domain.analysis(np.ascontiguousarray(domain.analysis(own).T))
        return float(domain.eigenvalues @ own.diagonal())

    def _constant_at_points(self, mobility: np.ndarray) -> np.ndarray:
        if self._system.domain.is_grid:
            return mobility if mobility.ndim == 1 else np.diag(mobility)
        if mobility.ndim == 1:
            return self._system.pointwise_variance(mobility)
        return (self._system.fields(np.linalg.cholesky(mobility)) ** 2).sum(axis=1)


def expression_map(texts: Sequence[str], system: Any, inner: CoordinateMap) -> FunctionMap:
    """Functions of the coordinates of `inner`; of the fields, where `inner` is the state of an equation itself."""
    of_state = isinstance(inner, LinearMap) and inner.matrix is None
    if of_state and isinstance(system, SemilinearEquation):
        return FieldFunctionMap(texts, system)
    return FunctionMap(texts, inner)
