"""Compiled kernels from formulas, kept on disk.

Formulas are SymPy expressions (made from checked expressions, so the source below never contains the user's text).
Their source is written to the cache directory under the hash of its content and compiled by Numba from there, so that a
second run, or another rank of the node, loads machine code, see `spde.compiling`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType

from spde import compiling

_HEADER = """from math import atan
from numba import float64, int64, void
from spde.compiling import cfunc, njit
from spde.functions import FUNCTIONS, rsqrt, sign, wide_vectors
SIGNATURE = void(float64[:, :, ::1], float64[:, ::1], float64[::1], int64[:, :, ::1], float64[:, :, ::1])
abs_, sqrt, exp, log = FUNCTIONS["abs"], FUNCTIONS["sqrt"], FUNCTIONS["exp"], FUNCTIONS["log"]
sin, cos, tan = FUNCTIONS["sin"], FUNCTIONS["cos"], FUNCTIONS["tan"]
sinh, cosh, tanh = FUNCTIONS["sinh"], FUNCTIONS["cosh"], FUNCTIONS["tanh"]
"""


def arithmetic(formulas: Sequence, indent: int, targets: Sequence[str], prefix: str = "_t") -> str:
    """Source lines that assign each formula to its target, common parts first; polynomials in Horner's form."""
    import sympy

    parts, reduced = sympy.cse([_cheap(sympy.sympify(f)) for f in formulas], sympy.numbered_symbols(prefix))
    lines = [f"{symbol} = {_print(value)}" for symbol, value in parts]
    lines += [f"{target} = {_print(value)}" for target, value in zip(targets, reduced, strict=True)]
    return "\n".join(" " * indent + line for line in lines)


def _cheap(formula):
    """Horner's form of a polynomial in its first symbol, anything else as it is."""
    import sympy

    names = sorted(formula.free_symbols, key=str)
    fields = [name for name in names if str(name) in ("u", "v")] or names
    if not fields or not formula.is_polynomial(*fields):
        return formula
    return sympy.horner(sympy.expand(formula), *fields)


@cache
def _printer():
    from sympy.printing.pycode import PythonCodePrinter

    class Printer(PythonCodePrinter):
        """Names of spde.functions, powers as products."""

        def _print_Pow(self, expr, rational=False, sqrt="sqrt"):
            base, exponent = expr.as_base_exp()
            if exponent == 0.5:
                return f"sqrt({self._print(base)})"
            if exponent == -0.5:
                return f"(1.0/sqrt({self._print(base)}))"
            if exponent.is_integer and exponent.is_number:
                n = abs(int(exponent))
                product = _power(f"({self._print(base)})", n)
                return product if exponent > 0 else f"(1.0/{product})"
            return f"exp(({self._print(exponent)})*log({self._print(base)}))"

        def _print_Abs(self, expr):
            return f"abs_({self._print(expr.args[0])})"

        def _print_sign(self, expr):
            return f"sign({self._print(expr.args[0])})"

        def _print_Rational(self, expr):
            return f"({expr.p}.0/{expr.q}.0)"

        def _print_Integer(self, expr):
            return f"{expr.p}.0" if expr.p >= 0 else f"({expr.p}.0)"

        def _print_NumberSymbol(self, expr):
            return repr(float(expr))

    return Printer({"fully_qualified_modules": False, "user_functions": {"rsqrt": "rsqrt"}})


def _power(base: str, exponent: int) -> str:
    """Product of squarings; `base` is a name or a bracket."""
    if exponent == 1:
        return base
    return f"({'*'.join([base] * exponent)})" if exponent <= 3 else f"({base}**{exponent})"


def _print(formula) -> str:
    return _printer().doprint(formula)


def pointwise(
    name: str,
    outputs: Sequence,
    inputs: Sequence[str],
    coordinates: Sequence[str],
    parameters: Sequence[str],
    shifted: Sequence[tuple[str, int, int, int]] = (),
    body: Sequence[str] = (),
) -> str:
    """Source of a C function (values, grid, p, neighbours, out) of formulas at every point of every trajectory.

    Parameters
    ----------
    outputs : SymPy formulas
    inputs : names of the arrays that change with the trajectory, (len(inputs), at least points, batch)
    coordinates : names of the rows of grid, (c, points)
    parameters : names of the entries of p
    shifted : (name, input, axis, side) of the value of an input at neighbours[side, axis]
    body : lines that assign out0[b], out1[b], ... in the place of the formulas
    """
    lines = ["@cfunc(SIGNATURE, cache=True, error_model='numpy')", f"def {name}(values, grid, p, neighbours, out):"]
    lines += ["    wide_vectors()"]
    lines += [f"    {symbol} = p[{k}]" for k, symbol in enumerate(parameters)]
    lines += ["    for i in range(out.shape[1]):"]
    lines += [f"        {symbol} = grid[{k}, i]" for k, symbol in enumerate(coordinates)]
    lines += [f"        in{k} = values[{k}, i]" for k in range(len(inputs))]
    lines += [
        f"        at{symbol} = values[{source}, neighbours[{side}, {axis}, i]]"
        for symbol, source, axis, side in shifted
    ]
    lines += [f"        out{k} = out[{k}, i]" for k in range(len(outputs))]
    lines += ["        for b in range(out.shape[2]):"]
    lines += [f"            {symbol} = in{k}[b]" for k, symbol in enumerate(inputs)]
    lines += [f"            {symbol} = at{symbol}[b]" for symbol, _, _, _ in shifted]
    work = [" " * 12 + line for line in body] or [arithmetic(outputs, 12, [f"out{k}[b]" for k in range(len(outputs))])]
    return "\n".join([*lines, *work]) + "\n"


def scalar(name: str, formula, arguments: Sequence[str], parameters: Sequence[str]) -> str:
    """Source of a function (*arguments, p) of one formula."""
    lines = [f"def {name}({', '.join(arguments)}, p):"]
    lines += [f"    {symbol} = p[{k}]" for k, symbol in enumerate(parameters)]
    return "\n".join([*lines, arithmetic([formula], 4, ["_value"]), "    return _value"]) + "\n"


def specialise(template: ModuleType, functions: Mapping[str, str], **constants) -> ModuleType:
    """A copy of a module of kernels with other sources in the place of some functions, other values of some constants.

    Parameters
    ----------
    template : module whose functions of these names are placeholders
    functions : name -> source; the placeholder's decorator stays
    """
    tree = ast.parse(inspect.getsource(template))
    for index, node in enumerate(tree.body):
        if isinstance(node, ast.FunctionDef) and node.name in functions:
            body = ast.parse(functions[node.name]).body[0]
            body.decorator_list = node.decorator_list
            tree.body[index] = body
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in constants:
            node.value = ast.Constant(constants[node.targets[0].id])
    return load(ast.unparse(ast.Module(body=tree.body, type_ignores=[])) + "\n")


@cache
def load(source: str) -> ModuleType:
    """Module of a source text, imported from the cache directory so that Numba finds its machine code there."""
    name = "kernels_" + hashlib.sha256((_HEADER + source + compiling.sources()).encode()).hexdigest()[:24]
    path = compiling.directory() / f"{name}.py"
    if not path.exists():
        # many ranks may come here at once: each writes a file of its own and renames it into place
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_HEADER + source)
        os.utime(temporary, (0, 0))  # Numba compiles anew where the time has changed: the same, whoever was last
        os.replace(temporary, path)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where Numba looks for it when it loads machine code
    spec.loader.exec_module(module)
    return module
