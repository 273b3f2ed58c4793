"""The normals of one step of a compiled loop, merged from several where two step lengths share a Brownian path."""

import numpy as np
from numba import njit

from spde.random import fill_quad


@njit(nogil=True)
def draw(normal, address, step, quad):
    """Fill normal (4, batch) with the normals of components 4 quad ... 4 quad + 3 at a step.

    Parameters
    ----------
    address : key words, stream, first trajectory; m: the step takes the normals of 2**m consecutive shorter steps,
        added up and divided by sqrt(2**m); a table (steps, components, batch) of numbers to take instead, or empty
    """
    k0, k1, stream, first, merged, table = address
    # loops written out: array expressions would compile several times as long
    if len(table):
        for row in range(min(4, table.shape[1] - 4 * quad)):
            for b in range(normal.shape[1]):
                normal[row, b] = table[step, 4 * quad + row, b]
        return
    if merged == 0:
        fill_quad(normal, k0, k1, stream, first, step, quad)
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
            normal[row, b] = total[row, b] * parts**-0.5
