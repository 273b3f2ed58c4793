"""Compiled loops over matrices."""

from __future__ import annotations

import numpy as np
from numba import njit

_TILE = 64


@njit(cache=True)
def add_rounded(total, part, factor, triangle):
    """total += rint(part * factor) as integers, part = 0; the largest |part|, infinite where there is a NaN.

    total, part : (n, m); triangle : entry (i, j) is looked at only for j <= i
    """
    largest = 0.0
    for i in range(part.shape[0]):
        for j in range(min(i + 1, part.shape[1]) if triangle else part.shape[1]):
            value = part[i, j]
            size = abs(value)
            if not size <= largest:
                largest = size if size <= np.inf else np.inf
            total[i, j] += np.int64(np.rint(value * factor))
            part[i, j] = 0.0
    return largest


@njit(cache=True)
def mirror(matrix):
    """Copy the lower triangle of a square matrix, by rows, to the upper one."""
    n = len(matrix)
    for a in range(0, n, _TILE):
        for b in range(0, a + _TILE, _TILE):
            for i in range(a, min(a + _TILE, n)):
                for j in range(b, min(b + _TILE, i)):
                    matrix[j, i] = matrix[i, j]
