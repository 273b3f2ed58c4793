"""Safe expressions: parsed, checked against a whitelist, never evaluated as Python.

A text such as ``u - u**3`` or ``mean(u)**2 > 0.5`` becomes a tree of the few node kinds below. The tree
is then walked: over NumPy arrays (`Expression.__call__`), or into a SymPy expression (`symbolic`), from
which derivatives and compiled kernels are made. No part of the text reaches `eval`.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from spde.errors import ExpressionError

_MAX_LENGTH = 2000
_MAX_DEPTH = 100
_MAX_EXPONENT = 64  # also of nested powers together: what is accepted can be expanded

_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARE = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ELEMENTWISE = {
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "abs": np.abs,
}
REDUCTIONS = ("mean", "max", "min", "sum", "mode", "energy")
_CONSTANTS = {"pi": math.pi, "e": math.e}
RESERVED = (*_ELEMENTWISE, *REDUCTIONS, *_CONSTANTS)


class Expression:
    """A checked expression in named variables.

    Parameters
    ----------
    text : the expression
    variables : names that it may use
    reductions : whether comparisons and numbers made of a field are allowed, as in observables: mean, max, min, sum
        and energy of it, its k-th mode `mode(u, k)`, its value at a place `u(0.5)`

    Raises
    ------
    ExpressionError : with the offending part, and what is allowed
    """

    def __init__(self, text: str | float, variables: Sequence[str], reductions: bool = False):
        self.text = str(text)
        self.variables = tuple(variables)
        self._reductions = reductions
        if len(self.text) > _MAX_LENGTH:
            raise ExpressionError(f"expression longer than {_MAX_LENGTH} characters")
        try:
            self._tree = ast.parse(self.text.strip(), mode="eval").body
            self._check(self._tree)
            self._finite(self._tree)
        except (SyntaxError, ValueError) as error:
            raise ExpressionError(f"cannot parse expression {self.text!r}") from error
        except OverflowError as error:
            raise ExpressionError("a number in the expression is too large") from error
        except (RecursionError, MemoryError) as error:
            raise ExpressionError("expression is nested too deeply") from error

    def _refuse(self, what: str) -> ExpressionError:
        return ExpressionError(f"{what} in expression {self.text!r}")

    def _check(self, node: ast.AST, depth: int = 0) -> None:
        if depth > _MAX_DEPTH:
            raise ExpressionError("expression is nested too deeply")
        match node:
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                self._check(left, depth + 1)
                self._check(right, depth + 1)
                if _degree(node) > _MAX_EXPONENT:
                    raise self._refuse(f"an exponent beyond {_MAX_EXPONENT}")
            case ast.BinOp(op=ast.BitXor()):
                raise self._refuse("'^' is not a power, write '**',")
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                self._check(operand, depth + 1)
            case ast.Constant(value=bool()):
                raise self._refuse(f"'{node.value}' is not a number")
            case ast.Constant(value=int() | float()):
                if not math.isfinite(float(node.value)):
                    raise self._refuse("a number that is not finite")
            case ast.Name(id=name):
                if name not in self.variables and name not in _CONSTANTS:
                    allowed = ", ".join((*self.variables, *_CONSTANTS))
                    raise self._refuse(f"unknown name {name!r} (known: {allowed})")
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                self._check_call(name, args, depth)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
                if not self._reductions:
                    raise self._refuse("a comparison is not allowed")
                self._check(left, depth + 1)
                self._check(right, depth + 1)
            case _:
                raise self._refuse(f"{type(node).__name__} is not allowed")

    def _check_call(self, name: str, args: list[ast.expr], depth: int) -> None:
        known = (*_ELEMENTWISE, *(REDUCTIONS if self._reductions else ()))
        at = self._reductions and name in self.variables
        if name not in known and not at:
            raise self._refuse(f"unknown function {name!r} (known: {', '.join(known)})")
        if at and not args:
            raise self._refuse(f"{name}() without a place")
        if not at and len(args) != (2 if name == "mode" else 1):
            wanted = "a field and the number of a mode" if name == "mode" else "one argument"
            raise self._refuse(f"{name} takes {wanted}, {len(args)} arguments given")
        for argument in args:
            self._check(argument, depth + 1)
        numbers = [_fold(number) for number in (args if at else args[1:])]
        if None in numbers:
            raise self._refuse(f"{name}(...) takes a place in numbers" if at else f"the number of {name} is none")
        if name == "mode" and not (numbers[0] >= 1 and numbers[0].is_integer()):
            raise self._refuse("modes are numbered 1, 2, ...; another number")

    def _reduction(self, name: str, args: list[ast.expr]) -> tuple[str, ast.expr, list[float]]:
        """Name, field and numbers of a reduction; a field at a place is called `at`."""
        if name in self.variables:
            return "at", ast.Name(id=name), [_fold(number) for number in args]
        return name, args[0], [_fold(number) for number in args[1:]]

    def _finite(self, node: ast.AST) -> float | None:
        """Value of a part without variables, None of any other. Refuses what is never finite."""
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                a, b = self._finite(left), self._finite(right)
                if isinstance(op, ast.Div) and b == 0:
                    raise self._refuse("a division by zero")
                return None if a is None or b is None else _fold(ast.BinOp(ast.Constant(a), op, ast.Constant(b)))
            case ast.UnaryOp(operand=operand):
                self._finite(operand)
            case ast.Compare(left=left, comparators=[right]):
                self._finite(left), self._finite(right)
                return None
            case ast.Call(func=ast.Name(id=name), args=args):
                inner = self._finite(args[0])
                if inner is None or name not in _ELEMENTWISE:
                    return None
                with np.errstate(all="ignore"):
                    value = float(_ELEMENTWISE[name](inner))
                if not math.isfinite(value):
                    raise self._refuse(f"{name} of {inner:g}, which is not a finite number,")
                return value
        return _fold(node)

    @cached_property
    def names(self) -> frozenset[str]:
        """The variables that the expression uses."""
        found = {node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)}
        return frozenset(found & set(self.variables))

    def __call__(self, values: Mapping[str, np.ndarray], reduce: Callable | None = None) -> np.ndarray:
        """Evaluate over arrays.

        Parameters
        ----------
        values : an array for each variable, broadcastable against each other
        reduce : reduce(name, array, *numbers) carries out mean, max, min, sum and energy over space, and `mode` and
            `at`, with the number of a mode and the coordinates of a place

        Returns
        -------
        array of the broadcast shape; comparisons give 0.0 and 1.0
        """
        with np.errstate(all="ignore"):
            return np.asarray(self._walk(self._tree, values, reduce), dtype=float)

    def _walk(self, node, values, reduce):
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](self._walk(left, values, reduce), self._walk(right, values, reduce))
            case ast.UnaryOp(op=op, operand=operand):
                value = self._walk(operand, values, reduce)
                return -value if isinstance(op, ast.USub) else value
            case ast.Constant(value=value):
                return np.float64(value)
            case ast.Name(id=name):
                return values[name] if name in values else np.float64(_CONSTANTS[name])
            case ast.Call(func=ast.Name(id=name), args=[argument]) if name in _ELEMENTWISE:
                return _ELEMENTWISE[name](self._walk(argument, values, reduce))
            case ast.Call(func=ast.Name(id=name), args=args):
                name, argument, numbers = self._reduction(name, args)
                return reduce(name, self._walk(argument, values, reduce), *numbers)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                outcome = _COMPARE[type(op)](self._walk(left, values, reduce), self._walk(right, values, reduce))
                return np.asarray(outcome, dtype=float)

    def symbolic(self, reduction: Callable | None = None):
        """The expression as SymPy, for derivatives and kernels.

        Parameters
        ----------
        reduction : called with the name of a reduction, its SymPy argument and its numbers, gives the SymPy symbol
            that stands for it; without it reductions are refused

        Raises
        ------
        ExpressionError : on comparisons, and on reductions that are not replaced
        """
        import sympy  # half a second to import: only runs that need a derivative pay

        symbols = {name: sympy.Symbol(name, real=True) for name in self.variables}

        def build(node):
            constant = _fold(node)
            if constant is not None:
                exact = constant.is_integer() and abs(constant) < 2**53
                return sympy.Integer(int(constant)) if exact else sympy.Float(constant, 17)
            match node:
                case ast.BinOp(left=left, op=op, right=right):
                    return _BINARY[type(op)](build(left), build(right))
                case ast.UnaryOp(op=op, operand=operand):
                    return -build(operand) if isinstance(op, ast.USub) else build(operand)
                case ast.Name(id=name):
                    return symbols[name]
                case ast.Call(func=ast.Name(id=name), args=[argument]) if name in _ELEMENTWISE:
                    return getattr(sympy, {"abs": "Abs"}.get(name, name))(build(argument))
                case ast.Call(func=ast.Name(id=name), args=args) if reduction is not None:
                    name, argument, numbers = self._reduction(name, args)
                    return reduction(name, build(argument), *numbers)
            raise self._refuse("only a smooth pointwise formula is allowed here; found a reduction or comparison")

        formula = build(self._tree)
        if formula.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I):
            raise self._refuse("a part that is not a finite real number")
        return formula


def no_reduction(name: str, _array: np.ndarray, *_numbers: float) -> np.ndarray:
    """What refuses to reduce, where variables are numbers and no fields."""
    what = "a variable at a place" if name == "at" else f"{name}()"
    raise ExpressionError(f"{what} is a number made of a field over space; these variables are numbers already")


def _degree(node: ast.AST) -> float:
    """Bound of the polynomial degree in all variables, absolute value of any constant exponent."""
    match node:
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            exponent = _fold(right)
            base = _degree(left)
            return base if exponent is None else max(base, 1.0) * max(abs(exponent), 1.0)
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div(), right=right):
            return _degree(left) + _degree(right)
        case ast.BinOp(left=left, right=right):
            return max(_degree(left), _degree(right))
        case ast.UnaryOp(operand=operand):
            return _degree(operand)
        case ast.Constant():
            return 0.0
    return 1.0


def _fold(node: ast.AST) -> float | None:
    """Value of a constant subtree in double precision, None where a variable enters."""
    match node:
        case ast.Constant(value=value):
            return float(value)
        case ast.Name(id=name):
            return _CONSTANTS.get(name)
        case ast.UnaryOp(op=op, operand=operand):
            value = _fold(operand)
            return None if value is None else (-value if isinstance(op, ast.USub) else value)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _fold(left), _fold(right)
            if a is None or b is None:
                return None
            try:
                value = _BINARY[type(op)](a, b)
            except (OverflowError, ZeroDivisionError) as error:
                raise ExpressionError("a constant in the expression is not finite") from error
            if isinstance(value, complex) or not math.isfinite(value):
                raise ExpressionError("a constant in the expression is not a finite real number")
            return value
    return None


def symbols(names: Sequence[str]) -> list:
    """SymPy symbols as `Expression.symbolic` makes them."""
    import sympy

    return [sympy.Symbol(name, real=True) for name in names]


def compile_pointwise(formulas: Sequence, names: Sequence[str]) -> Callable:
    """Compile SymPy formulas into one Numba function of scalars.

    Parameters
    ----------
    formulas : SymPy expressions in the symbols of `names`
    names : the order of the arguments

    Returns
    -------
    compiled function (scalars...) -> tuple of len(formulas) floats
    """
    import sympy

    from spde.compiling import njit

    # the source that SymPy prints comes from its own tree, not from the user's text
    exact = [sympy.sympify(formula).evalf(17) if formula.is_number else formula for formula in formulas]
    plain = sympy.lambdify(symbols(names), tuple(exact), modules="math", cse=True)
    return njit(plain, error_model="numpy")
