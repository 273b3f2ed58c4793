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


@njit(cache=True, fastmath={"reassoc", "contract"})
def symmetric_product(matrix, right, product):
    """product = A right of a symmetric A (n, n) of which the lower triangle, by rows, is read, four rows at a time."""
    product[:] = 0.0
    whole = len(matrix) - len(matrix) % 4
    for i in range(0, whole, 4):
        a, b, c, d = matrix[i, :i], matrix[i + 1, :i], matrix[i + 2, :i], matrix[i + 3, :i]
        u, v, w, x = right[i], right[i + 1], right[i + 2], right[i + 3]
        first = second = third = fourth = 0.0
        for j in range(i):
            r = right[j]
            first += a[j] * r
            second += b[j] * r
            third += c[j] * r
            fourth += d[j] * r
            product[j] += a[j] * u + b[j] * v + c[j] * w + d[j] * x
        product[i] += first
        product[i + 1] += second
        product[i + 2] += third
        product[i + 3] += fourth
        _add_corner(matrix, right, product, i, i + 4)
    for i in range(whole, len(matrix)):
        for j in range(whole):
            product[i] += matrix[i, j] * right[j]
            product[j] += matrix[i, j] * right[i]
    _add_corner(matrix, right, product, whole, len(matrix))


@njit(cache=True)
def _add_corner(matrix, right, product, first, last):
    """product += A right of the rows and columns first..last alone."""
    for i in range(first, last):
        product[i] += matrix[i, i] * right[i]
        for j in range(first, i):
            product[i] += matrix[i, j] * right[j]
            product[j] += matrix[i, j] * right[i]
