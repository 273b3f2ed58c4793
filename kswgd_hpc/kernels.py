"""Compiled loops over matrices."""

from __future__ import annotations

import numpy as np

from spde.compiling import njit

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
    """product = A right of a symmetric A (n, n) of which the lower triangle, by rows, is read, eight rows at a time."""
    product[:] = 0.0
    whole = len(matrix) - len(matrix) % 8
    for i in range(0, whole, 8):
        _add_eight(matrix, right, product, i)
        _add_corner(matrix, right, product, i, i + 8)
    for i in range(whole, len(matrix)):
        for j in range(whole):
            product[i] += matrix[i, j] * right[j]
            product[j] += matrix[i, j] * right[i]
    _add_corner(matrix, right, product, whole, len(matrix))


@njit(cache=True, fastmath={"reassoc", "contract"})
def _add_eight(matrix, right, product, i):
    """product += A right of rows i..i+8 and what they are mirrored to, in one pass over them."""
    a, b, c, d = matrix[i, :i], matrix[i + 1, :i], matrix[i + 2, :i], matrix[i + 3, :i]
    e, f, g, h = matrix[i + 4, :i], matrix[i + 5, :i], matrix[i + 6, :i], matrix[i + 7, :i]
    p, q, r, s = right[i], right[i + 1], right[i + 2], right[i + 3]
    t, u, v, w = right[i + 4], right[i + 5], right[i + 6], right[i + 7]
    first = second = third = fourth = fifth = sixth = seventh = eighth = 0.0
    for j in range(i):
        x = right[j]
        first += a[j] * x
        second += b[j] * x
        third += c[j] * x
        fourth += d[j] * x
        fifth += e[j] * x
        sixth += f[j] * x
        seventh += g[j] * x
        eighth += h[j] * x
        product[j] += ((a[j] * p + b[j] * q) + (c[j] * r + d[j] * s)) + ((e[j] * t + f[j] * u) + (g[j] * v + h[j] * w))
    product[i] += first
    product[i + 1] += second
    product[i + 2] += third
    product[i + 3] += fourth
    product[i + 4] += fifth
    product[i + 5] += sixth
    product[i + 6] += seventh
    product[i + 7] += eighth


@njit(cache=True)
def _add_corner(matrix, right, product, first, last):
    """product += A right of the rows and columns first..last alone."""
    for i in range(first, last):
        product[i] += matrix[i, i] * right[i]
        for j in range(first, i):
            product[i] += matrix[i, j] * right[j]
            product[j] += matrix[i, j] * right[i]
