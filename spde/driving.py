"""What all compiled loops share: the normals of a step, a trace of the steps, and calls without delay."""

from collections.abc import Callable

import numpy as np
from numba import typeof

from spde.compiling import njit
from spde.random import fill_quad


@njit(nogil=True)
def draw(normal, address, step, quad):
    """Fill normal (4, batch) with the normals of components 4 quad ... 4 quad + 3 at a step.

    Parameters
    ----------
    address : key words, stream, first trajectory; m: the step takes the normals of 2**m consecutive shorter steps,
        added up and divided by sqrt(2**m), and -1 - m: the same with the opposite sign; a table
        (steps, components, batch) of numbers to take instead, or empty
    """
    k0, k1, stream, first, merged, table = address
    # loops written out: array expressions would compile several times as long
    if len(table):
        for row in range(min(4, table.shape[1] - 4 * quad)):
            for b in range(normal.shape[1]):
                normal[row, b] = table[step, 4 * quad + row, b]
        return
    sign = 1.0
    if merged < 0:
        sign, merged = -1.0, -1 - merged
    if merged == 0:
        fill_quad(normal, k0, k1, stream, first, step, quad)
        if sign < 0.0:
            for row in range(4):
                for b in range(normal.shape[1]):
                    normal[row, b] = -normal[row, b]
        return
    parts = 1 << merged
    part, total = np.empty_like(normal), np.zeros_like(normal)
    for index in range(step * parts, (step + 1) * parts):
        fill_quad(part, k0, k1, stream, first, index, quad)
        for row in range(4):
            for b in range(normal.shape[1]):
                total[row, b] += part[row, b]
    for row in range(4):
        for b in range(normal.shape[1]):
            normal[row, b] = total[row, b] * (sign * parts**-0.5)


@njit(nogil=True)
def keep(array, trace, index):
    """trace[index] = array, where there is a trace."""
    if len(trace):
        for i in range(array.shape[0]):
            for b in range(array.shape[1]):
                trace[index, i, b] = array[i, b]


class Direct:
    """A compiled function that is called with arguments of always the same types.

    Numba looks at the types of all arguments in every call, which takes a millisecond for the loops' nested tuples.

    Parameters
    ----------
    function : compiled by Numba
    """

    def __init__(self, function):
        self._function = function
        self._entry: Callable | None = None

    def __call__(self, *arguments) -> None:
        """Call the function; the first call fixes the types."""
        if self._entry is None:
            types = tuple(typeof(argument) for argument in arguments)
            self._function.compile(types)
            self._entry = self._function.overloads[types].entry_point
        self._entry(*arguments)
