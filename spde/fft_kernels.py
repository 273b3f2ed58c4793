"""Compiled kernel of the trigonometric transforms: grid values - real sequence - spectrum - coefficients.

Every transform of spde.transforms is a real sequence of 2M numbers, packed as M complex ones. An analysis puts signed
grid values in their places in the sequence, transforms it, and reads each coefficient from the frequencies k and M - k
of the packed spectrum; a synthesis does the transposed steps backwards. Permutations, signs, normalisation, the split
of the packed spectrum, half-sample phases, pruning and derivatives are all in the tables of a `Plan`, so one
compilation serves every kind and size.

Memory is counted in lines of eight doubles, eight trajectories: line 2j holds the real and line 2j + 1 the imaginary
part of number j. All steps are done for eight trajectories at a time, or sixteen when their lines fit the first-level
cache together. No operation mixes trajectories: bits depend on neither their number nor their places.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spde.compiling import njit
from spde.vectors import LANES, load, multiply_add, multiply_subtract, pointer, splat, store, subtract_product

# complex numbers of eight trajectories that fit the first-level data cache (32 KiB)
_CACHED = 256

_COS_3, _SIN_3 = np.cos(2 * np.pi / 3), np.sin(2 * np.pi / 3)
_COS_5, _SIN_5 = np.cos(2 * np.pi / 5), np.sin(2 * np.pi / 5)
_COS_5_2, _SIN_5_2 = np.cos(4 * np.pi / 5), np.sin(4 * np.pi / 5)
_ROOT_HALF = np.sqrt(0.5)


class Plan(NamedTuple):
    """Tables of one transform, an argument of `apply`. Offsets of lines are counted in doubles.

    analysis : whether from values to coefficients
    order : analysis: (2M,) grid value that each line holds before the passes, -1 for zero;
        synthesis: (points,) offset of the line that holds each grid value after the passes
    signs : 1 or -1 for each entry of `order`
    groups : (groups, 4) offsets of the lines of the frequencies k and M - k, for each k
    modes : (groups, width) coefficients that involve these frequencies, an even number; where there are fewer, -1 in
        an analysis, any with factors zero in a synthesis
    terms : (groups, width, 4) factors between coefficients and lines
    radices : (passes,) factors of M in the order of the passes
    twiddles : roots of unity in the order in which the passes read them, real and imaginary parts alternating
    sizes : M, number of points, number of modes, doubles of the workspace
    """

    analysis: bool
    order: np.ndarray
    signs: np.ndarray
    groups: np.ndarray
    modes: np.ndarray
    terms: np.ndarray
    radices: np.ndarray
    twiddles: np.ndarray
    sizes: tuple[int, int, int, int]


def roots_of_unity(numerators: np.ndarray, denominator: int) -> np.ndarray:
    """e^(-2 pi i numerators / denominator), each part to about one unit in the last place."""
    # angles beyond pi / 4 lose digits: count them from the nearest quarter turn
    quarter, rest = np.divmod(4 * (numerators % denominator) + denominator // 2, denominator)
    angle = 2 * np.pi * ((rest - denominator // 2) / (4 * denominator))
    return np.exp(-1j * angle) * np.array([1, -1j, -1, 1j])[quarter % 4]


def factorise(size: int) -> list[int]:
    """Radices of the passes. The first is 4 or 8 where possible, those need no multiplications."""
    twos = (size & -size).bit_length() - 1
    radices = [2] * twos if twos < 2 else [8 if twos % 2 else 4]
    fours = (twos - 2) // 2 if twos > 1 else 0
    size >>= twos
    factor = 3
    while size > 1:
        while size % factor == 0:
            radices.append(factor)
            size //= factor
        factor = factor + 2 if (factor + 2) ** 2 <= size else max(size, factor + 2)
    return radices + [4] * fours


def positions(size: int, radices: list[int]) -> np.ndarray:
    """(size,) where each number of the sequence has to stand before the passes."""
    index, position, block = np.arange(size), np.zeros(size, np.int64), size
    for radix in reversed(radices):
        block //= radix
        position += index % radix * block
        index //= radix
    return position


def twiddle_table(radices: list[int]) -> np.ndarray:
    """Roots of unity in the order in which the passes read them."""
    table, stride = [np.empty(0, complex)], 1
    for radix in radices:
        block = radix * stride
        if radix > 5 and radix != 8:
            table.append(roots_of_unity(np.arange(radix), radix))
        if stride > 1 or radix not in (4, 8):
            powers = np.array([1, 2]) if radix == 4 else np.arange(1, radix)
            table.append(roots_of_unity(np.outer(np.arange(stride), powers).ravel(), block))
        stride = block
    return np.concatenate(table).view(np.float64)


def workspace_size(size: int, radices: list[int], points: int, modes: int) -> int:
    """Doubles that `apply` needs: lines of eight or sixteen trajectories, sums of an odd pass, a narrow batch."""
    return LANES * (_together(size) * (2 * size + 2) + 2 * max([1, *radices]) + points + modes)


@njit
def _together(size):
    """How many eights of trajectories go through all steps together."""
    return 2 if 2 * size <= _CACHED else 1


# A pass joins, in each block between the offsets `start` and `stop`, `radix` transforms of `stride` numbers into one:
# decimation in time, the numbers having been put in digit-reversed order before. Its twiddles begin at t.


@njit
def _add_rotated(ar, ai, br, bi, wr, wi):
    """a + w b and a - w b in six operations: the difference is 2 a minus the sum."""
    sr = subtract_product(wi, bi, multiply_add(wr, br, ar))
    si = multiply_add(wi, br, multiply_add(wr, bi, ai))
    two = splat(2.0)
    return sr, si, multiply_subtract(two, ar, sr), multiply_subtract(two, ai, si)


@njit
def _add_rotated_back(ar, ai, br, bi, wr, wi):
    """a - i w b and a + i w b."""
    sr = multiply_add(wi, br, multiply_add(wr, bi, ar))
    si = subtract_product(wr, br, multiply_add(wi, bi, ai))
    two = splat(2.0)
    return sr, si, multiply_subtract(two, ar, sr), multiply_subtract(two, ai, si)


@njit
def _rotated(work, place, twiddles, t):
    """The complex number at `place` times twiddle t."""
    re, im = load(work, place), load(work, place + LANES)
    wr, wi = splat(twiddles[t]), splat(twiddles[t + 1])
    return multiply_subtract(re, wr, im * wi), multiply_add(re, wi, im * wr)


@njit
def _put(work, place, re, im):
    store(work, place, re)
    store(work, place + LANES, im)


@njit
def _four(ar, ai, br, bi, cr, ci, dr, di):
    """Transform of four numbers: real and imaginary parts of the frequencies 0, 1, 2, 3."""
    sr, si, er, ei = ar + cr, ai + ci, ar - cr, ai - ci
    tr, ti, fr, fi = br + dr, bi + di, br - dr, bi - di
    return sr + tr, si + ti, er + fi, ei - fr, sr - tr, si - ti, er - fi, ei + fr


@njit(inline="always")
def _first_pass_4(work, start, stop):
    for p in range(start, stop, 8 * LANES):
        ar, ai = load(work, p), load(work, p + LANES)
        br, bi = load(work, p + 2 * LANES), load(work, p + 3 * LANES)
        cr, ci = load(work, p + 4 * LANES), load(work, p + 5 * LANES)
        dr, di = load(work, p + 6 * LANES), load(work, p + 7 * LANES)
        ar, ai, br, bi, cr, ci, dr, di = _four(ar, ai, br, bi, cr, ci, dr, di)
        _put(work, p, ar, ai)
        _put(work, p + 2 * LANES, br, bi)
        _put(work, p + 4 * LANES, cr, ci)
        _put(work, p + 6 * LANES, dr, di)


@njit(inline="always")
def _first_pass_8(work, start, stop):
    root = splat(_ROOT_HALF)
    for p in range(start, stop, 16 * LANES):
        ar, ai = load(work, p), load(work, p + LANES)
        br, bi = load(work, p + 4 * LANES), load(work, p + 5 * LANES)
        cr, ci = load(work, p + 8 * LANES), load(work, p + 9 * LANES)
        dr, di = load(work, p + 12 * LANES), load(work, p + 13 * LANES)
        ar, ai, br, bi, cr, ci, dr, di = _four(ar, ai, br, bi, cr, ci, dr, di)
        er, ei = load(work, p + 2 * LANES), load(work, p + 3 * LANES)
        fr, fi = load(work, p + 6 * LANES), load(work, p + 7 * LANES)
        gr, gi = load(work, p + 10 * LANES), load(work, p + 11 * LANES)
        hr, hi = load(work, p + 14 * LANES), load(work, p + 15 * LANES)
        er, ei, fr, fi, gr, gi, hr, hi = _four(er, ei, fr, fi, gr, gi, hr, hi)
        # the eighth turns of f and h up to the factor sqrt(1/2)
        fr, fi, hr, hi = fr + fi, fi - fr, hi - hr, hr + hi
        _put(work, p, ar + er, ai + ei)
        _put(work, p + 2 * LANES, multiply_add(root, fr, br), multiply_add(root, fi, bi))
        _put(work, p + 4 * LANES, cr + gi, ci - gr)
        _put(work, p + 6 * LANES, multiply_add(root, hr, dr), subtract_product(root, hi, di))
        _put(work, p + 8 * LANES, ar - er, ai - ei)
        _put(work, p + 10 * LANES, subtract_product(root, fr, br), subtract_product(root, fi, bi))
        _put(work, p + 12 * LANES, cr - gi, ci + gr)
        _put(work, p + 14 * LANES, subtract_product(root, hr, dr), multiply_add(root, hi, di))


@njit(inline="always")
def _pass_2(work, start, stop, stride, twiddles, t):
    step = 2 * LANES * stride
    for block in range(start, stop, 2 * step):
        for j in range(stride):
            p = block + 2 * LANES * j
            ar, ai = load(work, p), load(work, p + LANES)
            br, bi = load(work, p + step), load(work, p + step + LANES)
            wr, wi = splat(twiddles[t + 2 * j]), splat(twiddles[t + 2 * j + 1])
            ar, ai, br, bi = _add_rotated(ar, ai, br, bi, wr, wi)
            _put(work, p, ar, ai)
            _put(work, p + step, br, bi)


@njit(inline="always")
def _pass_3(work, start, stop, stride, twiddles, t):
    step = 2 * LANES * stride
    cosine, sine = splat(_COS_3), splat(_SIN_3)
    for block in range(start, stop, 3 * step):
        for j in range(stride):
            p = block + 2 * LANES * j
            ar, ai = load(work, p), load(work, p + LANES)
            br, bi = _rotated(work, p + step, twiddles, t + 4 * j)
            cr, ci = _rotated(work, p + 2 * step, twiddles, t + 4 * j + 2)
            sr, si, dr, di = br + cr, bi + ci, br - cr, bi - ci
            er, ei = multiply_add(cosine, sr, ar), multiply_add(cosine, si, ai)
            _put(work, p, ar + sr, ai + si)
            _put(work, p + step, multiply_add(sine, di, er), subtract_product(sine, dr, ei))
            _put(work, p + 2 * step, subtract_product(sine, di, er), multiply_add(sine, dr, ei))


@njit(inline="always")
def _pass_4(work, start, stop, stride, twiddles, t):
    step = 2 * LANES * stride
    for block in range(start, stop, 4 * step):
        for j in range(stride):
            p = block + 2 * LANES * j
            q = p + step
            r = q + step
            s = r + step
            vr, vi = splat(twiddles[t + 4 * j]), splat(twiddles[t + 4 * j + 1])
            wr, wi = splat(twiddles[t + 4 * j + 2]), splat(twiddles[t + 4 * j + 3])
            ar, ai, br, bi = load(work, p), load(work, p + LANES), load(work, q), load(work, q + LANES)
            cr, ci, dr, di = load(work, r), load(work, r + LANES), load(work, s), load(work, s + LANES)
            ar, ai, cr, ci = _add_rotated(ar, ai, cr, ci, wr, wi)
            br, bi, dr, di = _add_rotated(br, bi, dr, di, wr, wi)
            ar, ai, br, bi = _add_rotated(ar, ai, br, bi, vr, vi)
            cr, ci, dr, di = _add_rotated_back(cr, ci, dr, di, vr, vi)
            _put(work, p, ar, ai)
            _put(work, q, cr, ci)
            _put(work, r, br, bi)
            _put(work, s, dr, di)


@njit(inline="always")
def _pass_5(work, start, stop, stride, twiddles, t):
    step = 2 * LANES * stride
    c1, s1, c2, s2 = splat(_COS_5), splat(_SIN_5), splat(_COS_5_2), splat(_SIN_5_2)
    for block in range(start, stop, 5 * step):
        for j in range(stride):
            p = block + 2 * LANES * j
            ar, ai = load(work, p), load(work, p + LANES)
            br, bi = _rotated(work, p + step, twiddles, t + 8 * j)
            cr, ci = _rotated(work, p + 2 * step, twiddles, t + 8 * j + 2)
            dr, di = _rotated(work, p + 3 * step, twiddles, t + 8 * j + 4)
            er, ei = _rotated(work, p + 4 * step, twiddles, t + 8 * j + 6)
            br, bi, er, ei = br + er, bi + ei, br - er, bi - ei
            cr, ci, dr, di = cr + dr, ci + di, cr - dr, ci - di
            ur, ui = multiply_add(c2, cr, multiply_add(c1, br, ar)), multiply_add(c2, ci, multiply_add(c1, bi, ai))
            vr, vi = multiply_add(c1, cr, multiply_add(c2, br, ar)), multiply_add(c1, ci, multiply_add(c2, bi, ai))
            xr, xi = multiply_add(s1, er, s2 * dr), multiply_add(s1, ei, s2 * di)
            yr, yi = multiply_subtract(s2, er, s1 * dr), multiply_subtract(s2, ei, s1 * di)
            _put(work, p, ar + br + cr, ai + bi + ci)
            _put(work, p + step, ur + xi, ui - xr)
            _put(work, p + 2 * step, vr + yi, vi - yr)
            _put(work, p + 3 * step, vr - yi, vi + yr)
            _put(work, p + 4 * step, ur - xi, ui + xr)


@njit(inline="always")
def _pass_odd(work, start, stop, stride, radix, twiddles, t, sums):
    """Any odd radix by its definition, `radix` multiply-adds a number; `sums` is a place for 2 radix lines."""
    step = 2 * LANES * stride
    half = radix // 2
    factors = t + 2 * radix
    for block in range(start, stop, radix * step):
        for j in range(stride):
            p = block + 2 * LANES * j
            ar, ai = load(work, p), load(work, p + LANES)
            zr, zi = ar, ai
            for q in range(1, half + 1):
                w = factors + 2 * ((radix - 1) * j + q - 1)
                br, bi = _rotated(work, p + q * step, twiddles, w)
                w = factors + 2 * ((radix - 1) * j + radix - q - 1)
                cr, ci = _rotated(work, p + (radix - q) * step, twiddles, w)
                place = sums + 4 * LANES * (q - 1)
                _put(work, place, br + cr, bi + ci)
                _put(work, place + 2 * LANES, br - cr, bi - ci)
                zr, zi = zr + (br + cr), zi + (bi + ci)
            _put(work, p, zr, zi)
            # two frequencies at a time, so that enough sums are under way; the last one may come twice
            for k in range(1, half + 1, 2):
                l = min(k + 1, half)
                ur, ui, vr, vi = ar, ai, ar, ai
                xr, xi, yr, yi = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
                m, n = 0, 0
                for q in range(half):
                    m, n = m + k, n + l
                    m -= radix if m >= radix else 0
                    n -= radix if n >= radix else 0
                    place = sums + 4 * LANES * q
                    sr, si = load(work, place), load(work, place + LANES)
                    dr, di = load(work, place + 2 * LANES), load(work, place + 3 * LANES)
                    cosine, minus_sine = splat(twiddles[t + 2 * m]), splat(twiddles[t + 2 * m + 1])
                    ur, ui = multiply_add(cosine, sr, ur), multiply_add(cosine, si, ui)
                    xr, xi = subtract_product(minus_sine, dr, xr), subtract_product(minus_sine, di, xi)
                    cosine, minus_sine = splat(twiddles[t + 2 * n]), splat(twiddles[t + 2 * n + 1])
                    vr, vi = multiply_add(cosine, sr, vr), multiply_add(cosine, si, vi)
                    yr, yi = subtract_product(minus_sine, dr, yr), subtract_product(minus_sine, di, yi)
                _put(work, p + k * step, ur + xi, ui - xr)
                _put(work, p + (radix - k) * step, ur - xi, ui + xr)
                _put(work, p + l * step, vr + yi, vi - yr)
                _put(work, p + (radix - l) * step, vr - yi, vi + yr)


@njit
def _transform(work, plane, size, radices, passes, twiddles, sums):
    """Complex transform of the lines from `plane` on, in place.

    Blocks that fit the cache run through all their passes, one block after the other, before the larger ones.
    """
    cached, within = 1, 0
    while within < passes and cached * radices[within] <= _CACHED:
        cached *= radices[within]
        within += 1
    first, first_stride, first_t = 0, 1, 0
    while first < passes:
        last, span = (within, cached) if first < within else (passes, size)
        stride, t = first_stride, first_t
        for block in range(0, size, span):
            start, stop = plane + 2 * LANES * block, plane + 2 * LANES * (block + span)
            stride, t = first_stride, first_t
            for i in range(first, last):
                radix = radices[i]
                if radix == 4 and stride == 1:
                    _first_pass_4(work, start, stop)
                elif radix == 4:
                    _pass_4(work, start, stop, stride, twiddles, t)
                    t += 4 * stride
                elif radix == 8:
                    _first_pass_8(work, start, stop)
                elif radix == 2:
                    _pass_2(work, start, stop, stride, twiddles, t)
                    t += 2 * stride
                elif radix == 3:
                    _pass_3(work, start, stop, stride, twiddles, t)
                    t += 4 * stride
                elif radix == 5:
                    _pass_5(work, start, stop, stride, twiddles, t)
                    t += 8 * stride
                else:
                    _pass_odd(work, start, stop, stride, radix, twiddles, t, sums)
                    t += 2 * radix + 2 * (radix - 1) * stride
                stride *= radix
        first, first_stride, first_t = last, stride, t


@njit(inline="always")
def _enter(plan, source, lane, stride, work, plane, count):
    """Grid values or coefficients of `count` eights of trajectories to their lines."""
    if plan.analysis:
        order, signs = pointer(plan.order, 0), pointer(plan.signs, 0)
        for i in range(len(plan.order)):
            if order[i] >= 0:
                sign, row = splat(signs[i]), lane + order[i] * stride
                for g in range(count):
                    store(work, g * plane + i * LANES, load(source, row + g * LANES) * sign)
            else:
                for g in range(count):
                    store(work, g * plane + i * LANES, splat(0.0))
        return
    groups, modes, terms = pointer(plan.groups, 0), pointer(plan.modes, 0), pointer(plan.terms, 0)
    number, width = plan.modes.shape
    for i in range(number):
        a, b, c, d = groups[4 * i], groups[4 * i + 1], groups[4 * i + 2], groups[4 * i + 3]
        for g in range(count):
            left, right = lane + g * LANES, g * plane
            ar, ai, br, bi = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
            for m in range(width * i, width * (i + 1), 2):
                x, y = load(source, left + modes[m] * stride), load(source, left + modes[m + 1] * stride)
                t = 4 * m
                ar = multiply_add(splat(terms[t]), x, multiply_add(splat(terms[t + 4]), y, ar))
                ai = multiply_add(splat(terms[t + 1]), x, multiply_add(splat(terms[t + 5]), y, ai))
                br = multiply_add(splat(terms[t + 2]), x, multiply_add(splat(terms[t + 6]), y, br))
                bi = multiply_add(splat(terms[t + 3]), x, multiply_add(splat(terms[t + 7]), y, bi))
            store(work, right + a, ar)
            store(work, right + b, ai)
            store(work, right + c, br)
            store(work, right + d, bi)


@njit
def _dot(terms, t, ar, ai, br, bi):
    """Sum of terms t ... t + 3 times four vectors."""
    y = multiply_add(splat(terms[t + 1]), ai, splat(terms[t]) * ar)
    return y + multiply_add(splat(terms[t + 3]), bi, splat(terms[t + 2]) * br)


@njit(inline="always")
def _leave(plan, work, plane, target, lane, stride, count):
    """Lines of `count` eights of trajectories to coefficients or grid values: the transpose of `_enter`."""
    if not plan.analysis:
        order, signs = pointer(plan.order, 0), pointer(plan.signs, 0)
        for i in range(len(plan.order)):
            sign, line = splat(signs[i]), order[i]
            for g in range(count):
                store(target, lane + i * stride + g * LANES, load(work, g * plane + line) * sign)
        return
    groups, modes, terms = pointer(plan.groups, 0), pointer(plan.modes, 0), pointer(plan.terms, 0)
    number, width = plan.modes.shape
    for i in range(number):
        a, b, c, d = groups[4 * i], groups[4 * i + 1], groups[4 * i + 2], groups[4 * i + 3]
        for g in range(count):
            left, right = g * plane, lane + g * LANES
            ar, ai, br, bi = load(work, left + a), load(work, left + b), load(work, left + c), load(work, left + d)
            for m in range(width * i, width * (i + 1), 2):
                if modes[m] >= 0:
                    store(target, right + modes[m] * stride, _dot(terms, 4 * m, ar, ai, br, bi))
                if modes[m + 1] >= 0:
                    store(target, right + modes[m + 1] * stride, _dot(terms, 4 * m + 4, ar, ai, br, bi))


@njit
def _copy(source, source_stride, target, target_stride, rows, width):
    """Copy rows of `width` numbers between strides."""
    for i in range(rows):
        for b in range(width):
            target[i * target_stride + b] = source[i * source_stride + b]


@njit(cache=True, nogil=True)
def apply(plan, source, target, workspace):
    """Transform along the second axis.

    Parameters
    ----------
    plan : Plan
    source : (outer, points, inner) C-contiguous float64 array, or (outer, modes, inner) for a synthesis
    target : (outer, modes, inner), or (outer, points, inner) for a synthesis; overwritten, no overlap with the source
    workspace : one-dimensional float64 array, see Transform.workspace; of one thread only
    """
    size, points, coefficients, memory = plan.sizes
    source_rows, target_rows = (points, coefficients) if plan.analysis else (coefficients, points)
    outer, inner = source.shape[0], source.shape[2]
    if source.shape[1] != source_rows or target.shape != (outer, target_rows, inner):
        raise ValueError("source or target does not have the shape of the plan")
    if workspace.size < memory:
        raise ValueError("the workspace belongs to another transform")
    work, radices, twiddles = pointer(workspace, 0), pointer(plan.radices, 0), pointer(plan.twiddles, 0)
    together, plane = _together(size), LANES * (2 * size + 2)
    # fewer than eight trajectories go through rows of eight at the end of the workspace
    narrow, stride = inner < LANES, max(inner, LANES)
    wide_right = pointer(workspace, memory - LANES * target_rows)
    wide_left = pointer(workspace, memory - LANES * (target_rows + source_rows))
    if narrow:
        workspace[memory - LANES * (target_rows + source_rows) :] = 0.0
    for o in range(outer):
        left, right = pointer(source, o * source_rows * inner), pointer(target, o * target_rows * inner)
        if narrow:
            _copy(left, inner, wide_left, LANES, source_rows, inner)
            left, right = wide_left, wide_right
        lane = 0
        while lane < stride:
            # the last eight may overlap the eight before: the same numbers are written twice
            lane = min(lane, stride - LANES)
            count = min(together, (stride - lane) // LANES)
            # constants, so that the loops over `count` vanish
            if count == 2:
                _enter(plan, left, lane, stride, work, plane, 2)
            else:
                _enter(plan, left, lane, stride, work, plane, 1)
            for g in range(count):
                _transform(work, g * plane, size, radices, len(plan.radices), twiddles, together * plane)
            if count == 2:
                _leave(plan, work, plane, right, lane, stride, 2)
            else:
                _leave(plan, work, plane, right, lane, stride, 1)
            lane += LANES * count
        if narrow:
            _copy(wide_right, LANES, pointer(target, o * target_rows * inner), inner, target_rows, inner)


@njit(cache=True, nogil=True)
def add_boundary(ends, boundary, target):
    """Add what the values at both ends contribute to the weak derivative.

    Parameters
    ----------
    ends : (2, modes) factors of f(0) and f(L), see Transform.ends
    boundary : (outer, 2, inner) values of f at x = 0 and x = L
    target : (outer, modes, inner), added to
    """
    for o in range(target.shape[0]):
        for j in range(target.shape[1]):
            for b in range(target.shape[2]):
                target[o, j, b] += ends[0, j] * boundary[o, 0, b] + ends[1, j] * boundary[o, 1, b]
