"""Sets that stop paths: exit, hitting and committor problems.

Outside of its set a stopped expectation solves a boundary value problem. It is solved in the span of d(x) psi(x), with
d a level function that is positive outside of the set and zero on its boundary, so that every function of the span has
the boundary value zero, and the generator acts on it: G (d psi) = d G psi + psi G d + 2 grad d . M grad psi. No lag is
in it, and no visit between two records is missed.

d is made of the comparisons of the set's expression: a > b has d = b - a; for and, or, not Rvachev's functions
d1 + d2 +- sqrt(d1^2 + d2^2) and -d, which are smooth but at corners (Rvachev 1982; Shapiro 2007,
"Semi-analytic geometry with R-functions").
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kswgd_hpc import systems
from kswgd_hpc.coordinates import CoordinateMap, Coordinates, LinearMap
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.functions import FunctionMap, expression_map
from spde.equations import SemilinearEquation


@dataclass(frozen=True)
class Boundary:
    """A set that stops paths, and what a stopped path is worth.

    text : what it is known by; the same text, the same set
    inside : function of states (d, n) -> (n,) bool: whether paths are stopped there
    given : function of states -> (n,): what a path is worth that is stopped there; reward : what it is worth for each
        unit of time before
    level, level_rate : d and G d as functions of states -> (n,), zero inside
    lifted, lifted_rate : a function with the boundary values of `given`, inside too, and the generator applied to it,
        zero inside
    slope : function of states -> (n, d) M grad d; spread : -> (n,) grad d . M grad d
    """

    text: str
    inside: Callable
    given: Callable
    reward: float
    level: Callable
    level_rate: Callable
    lifted: Callable
    lifted_rate: Callable
    slope: Callable
    spread: Callable

    def slope_in(self, coordinates: Coordinates, mobility: Any) -> Callable:
        """Function of states (d, n) -> (n, c): the mobility between d and each coordinate."""

        def seen(states: np.ndarray) -> np.ndarray:
            moved = np.ascontiguousarray(self.slope(states).T)
            found = coordinates.velocity(moved, states, mobility)
            return found if coordinates.map.linear else found - coordinates.velocity(0 * moved, states, mobility)

        return seen

    def hidden(self, coordinates: CoordinateMap, mobility: Any, states: np.ndarray) -> float:
        """Share of the noise of d, grad d . M grad d, that coordinates do not see, mean over states (d, n) outside."""
        states = np.ascontiguousarray(states[:, self.level(states) > 0])
        if not states.shape[1] or (isinstance(coordinates, LinearMap) and coordinates.matrix is None):
            return 0.0
        moved = np.ascontiguousarray(self.slope(states).T)
        seen = coordinates.velocity(moved, states, mobility)
        if not coordinates.linear:
            seen = seen - coordinates.velocity(0 * moved, states, mobility)
        own = np.linalg.pinv(coordinates.mobility(mobility, states), hermitian=True)
        share = (seen[:, None, :] @ own @ seen[:, :, None])[:, 0, 0] / np.maximum(self.spread(states), 1e-300)
        return float(np.clip(1 - share, 0.0, 1.0).mean())


def outside(text: str) -> str:
    """Expression that is positive outside of a set, zero on its boundary and negative inside.

    Raises
    ------
    ValueError : a text that is not made of comparisons
    """
    try:
        return _outside(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError as error:
        raise ValueError(f"cannot parse expression {text!r}") from error


def _outside(node: ast.expr) -> str:
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            larger, smaller = (left, right) if isinstance(op, ast.Gt | ast.GtE) else (right, left)
            return f"({_squared(smaller, larger)}) - ({_squared(larger, smaller)})"
        case ast.BinOp(left=left, op=ast.Mult() | ast.Add() as op, right=right):
            one, other = _outside(left), _outside(right)
            sign = "+" if isinstance(op, ast.Mult) else "-"
            return f"({one}) + ({other}) {sign} sqrt(({one})**2 + ({other})**2)"
        case ast.BinOp(left=ast.Constant(value=1), op=ast.Sub(), right=right):
            return f"-({_outside(right)})"
    raise ValueError(
        f"{ast.unparse(node)!r} is not a set: write comparisons, with * for and, + for or, 1 - (...) for not"
    )


def _squared(node: ast.expr, other: ast.expr) -> str:
    """The text of one side of a comparison; both are squared where one is |a| and the other a positive number."""
    sides = (node, other)
    absolute = [isinstance(s, ast.Call) and isinstance(s.func, ast.Name) and s.func.id == "abs" for s in sides]
    number = [isinstance(s, ast.Constant) and isinstance(s.value, int | float) and s.value > 0 for s in sides]
    if not ((absolute[0] and number[1]) or (absolute[1] and number[0])):
        return ast.unparse(node)
    return f"({ast.unparse(node.args[0] if absolute[0] else node)})**2"


def stopped_by(system: Any, mobility: Any, entry: Any, path: str) -> Boundary:
    """The boundary of an entry of the configuration that has a target, a domain or two sets.

    Raises
    ------
    ConfigurationError : a set whose boundary is not smooth, or noise that does not push paths through it
    """
    if not system.elliptic:
        raise ConfigurationError(
            f"{path}: a set that stops paths needs noise in every direction, and that of this system is degenerate"
        )
    if entry.sets is not None:
        return _between(system, mobility, entry.sets, f"{path}.sets")
    key = "target" if entry.target is not None else "domain"
    text, sign = (entry.target, "") if key == "target" else (entry.domain, "-")
    path = f"{path}.{key}"
    member = systems.observable(system, text, path)
    level = _Level(f"{sign}({_text(text, path)})", system, mobility, path)
    worth = 1.0 if entry.kind.endswith("probability") else 0.0

    def whole(states: np.ndarray) -> np.ndarray:
        return np.full(states.shape[1], worth)

    return Boundary(
        f"{key}: {text}",
        lambda states: (member(states) != 0) == (key == "target"),
        whole,
        float(entry.kind.endswith("time")),
        level.value,
        level.rate,
        whole,
        lambda states: np.zeros(states.shape[1]),
        level.slope,
        level.spread,
    )


def _text(text: str, path: str) -> str:
    try:
        return outside(text)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _between(system: Any, mobility: Any, sets: Any, path: str) -> Boundary:
    """The union of A, where paths are worth 0, and B, where they are worth 1."""
    label = systems.membership(system, system.dimension, sets, path)
    a, b = _text(sets.A, f"{path}.A"), _text(sets.B, f"{path}.B")
    both = _Level(f"({a}) + ({b}) - sqrt(({a})**2 + ({b})**2)", system, mobility, path)
    ratio = _Level(f"({a}) / (({a}) + ({b}))", system, mobility, path)

    def lifted(states: np.ndarray) -> np.ndarray:
        labels = label(states)
        return np.where(labels == 0, np.nan_to_num(ratio.raw(states)), labels == 2)

    return Boundary(
        f"sets: {sets.A} | {sets.B}",
        lambda states: label(states) != 0,
        lambda states: (label(states) == 2).astype(float),
        0.0,
        both.value,
        both.rate,
        lifted,
        lambda states: np.where(label(states) == 0, np.nan_to_num(ratio.raw_rate(states)), 0.0),
        both.slope,
        both.spread,
    )


class _Level:
    """A function of the state by its expression, and what the generator and the mobility make of it.

    `value`, `rate` and `slope` are zero where it is not positive: there paths are stopped.
    """

    def __init__(self, text: str, system: Any, mobility: Any, path: str):
        names = None if isinstance(system, SemilinearEquation) else system.variables
        self._system, self._mobility = system, mobility
        with systems.key(path):
            self._map: FunctionMap = expression_map([text], system, LinearMap(None, system.dimension, names))
        try:
            self._map.require_derivatives()
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{path}: the boundary of the set is not smooth, so that the generator cannot be restricted to what is "
                "outside; compare smooth functions, such as x**2 > 1 or mean(u) > 0"
            ) from error

    def raw(self, states: np.ndarray) -> np.ndarray:
        """(n,) values, also where they have no meaning."""
        with np.errstate(all="ignore"):
            return self._map.unchecked(states)[:, 0]

    def raw_rate(self, states: np.ndarray) -> np.ndarray:
        """(n,) of the generator."""
        with np.errstate(all="ignore"):
            return self._map.velocity(self._system.drift(states), states, self._mobility)[:, 0]

    def value(self, states: np.ndarray) -> np.ndarray:
        """(n,) the function, zero where it is not positive."""
        return np.maximum(self.raw(states), 0.0)

    def rate(self, states: np.ndarray) -> np.ndarray:
        """(n,) of the generator."""
        return np.where(self.raw(states) > 0, self.raw_rate(states), 0.0)

    def slope(self, states: np.ndarray) -> np.ndarray:
        """(n, d) M times the gradient."""
        with np.errstate(all="ignore"):
            lifted = self._map.lift(np.ones((states.shape[1], 1)), self._mobility, states)
        return np.where((self.raw(states) > 0)[:, None], lifted, 0.0)

    def spread(self, states: np.ndarray) -> np.ndarray:
        """(n,) gradient times M times gradient."""
        with np.errstate(all="ignore"):
            found = self._map.mobility(self._mobility, states)
        return np.broadcast_to(found, (states.shape[1], 1, 1))[:, 0, 0]
