"""Eight doubles as one value: each lane is the scalar operation."""

from fractions import Fraction

import numpy as np
import pytest
from numba import njit

from spde.vectors import (
    LANES,
    aligned_empty,
    load,
    multiply_add,
    multiply_subtract,
    pointer,
    splat,
    store,
    subtract_product,
)


@njit
def every_operation(a, b, c, out):
    x, y, z = load(pointer(a, 0), 0), load(pointer(b, 0), 0), load(pointer(c, 3), 0)
    place = pointer(out, 0)
    store(place, 0, x + y)
    store(place, LANES, x - y)
    store(place, 2 * LANES, x * y)
    store(place, 3 * LANES, multiply_add(x, y, z))
    store(place, 4 * LANES, multiply_subtract(x, y, z))
    store(place, 5 * LANES, subtract_product(x, y, z))
    store(place, 6 * LANES, splat(a[2]))


def test_every_lane_is_the_scalar_operation():
    a, b, c = np.random.default_rng(1).normal(size=(3, LANES + 3))
    out = aligned_empty((7, LANES))
    every_operation(a, b, c, out)
    x, y, z = a[:LANES], b[:LANES], c[3:]
    np.testing.assert_array_equal(out[:3], [x + y, x - y, x * y])
    np.testing.assert_array_equal(out[6], np.full(LANES, a[2]))
    for row, (p, s) in zip(out[3:6], ((1, 1), (1, -1), (-1, 1))):
        exact = [p * Fraction(i) * Fraction(j) + s * Fraction(k) for i, j, k in zip(x, y, z)]
        # one rounding where multiply-adds are fused, two of a number up to |a b| where not
        np.testing.assert_allclose(row, [float(e) for e in exact], rtol=0, atol=2e-16 * np.abs(x * y).max())


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4)])
def test_aligned_arrays_start_on_a_cache_line(shape):
    array = aligned_empty(shape)
    assert array.shape == shape and array.dtype == np.float64 and array.flags.c_contiguous
    assert array.ctypes.data % 64 == 0
