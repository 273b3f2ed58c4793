"""Compiled kernel of the trigonometric transforms: grid values - real sequence - spectrum - coefficients.

Every transform of spde.transforms is a real sequence of 2M numbers, packed as M complex ones. An analysis puts signed
grid values in their places in the sequence, transforms it, and reads each coefficient from the frequencies k and M - k
of the packed spectrum; a synthesis does the transposed steps backwards. Permutations, signs, normalisation, the split
of the packed spectrum, half-sample phases, pruning and derivatives are all in the tables of a `Plan`, so one
compilation serves every kind and size.

Memory is counted in lines of eight doubles, eight trajectories: line 2j holds the real and line 2j + 1 the imaginary
part of number j. All steps are done for eight trajectories at a time, or more when their lines fit the first-level
cache together. No operation mixes trajectories: bits depend on neither their number nor their places.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from spde.vectors import LANES, load, multiply_add, multiply_subtract, pointer, splat, store, subtract_product

# complex numbers of eight trajectories that fit the first-level data cache (32 KiB)
_CACHED = 256

_COS_3, _SIN_3 = np.cos(2 * np.pi / 3), np.sin(2 * np.pi / 3)
_COS_5, _SIN_5 = np.cos(2 * np.pi / 5), np.sin(2 * np.pi / 5)
_COS_5_2, _SIN_5_2 = np.cos(4 * np.pi / 5), np.sin(4 * np.pi / 5)
_ROOT_HALF = np.sqrt(0.5)


class Plan(NamedTuple):
    """Tables of one transform, an argument of `apply`.

    analysis : whether from values to coefficients
    places : (points,) line of each grid value
    signs : (points,) 1 or -1
    empty : (any,) lines of the sequence that no grid value fills
    groups : (groups, 4) lines of the frequencies k and M - k, for each k
    modes : (groups, width) coefficients that involve these frequencies, -1 where there are fewer
    terms : (groups, width, 4) factors between coefficients and lines
    radices : (passes,) factors of M in the order of the passes
    twiddles : roots of unity in the order in which the passes read them, real and imaginary parts alternating
    sizes : M, number of points, number of modes, eights of trajectories at a time
    """

    analysis: bool
    places: np.ndarray
    signs: np.ndarray
    empty: np.ndarray
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


def eights(size: int) -> int:
    """How many eights of trajectories are carried through all steps together."""
    return max(1, min(8, _CACHED // size))


def workspace_size(size: int, radices: list[int], points: int) -> int:
    """Doubles that `apply` needs: lines, the sums of one odd butterfly, values and modes of a narrow batch."""
    return LANES * (eights(size) * (2 * size + 2) + 2 * max([1, *radices]) + 2 * points)


@njit(inline="always")
def _add_rotated(ar, ai, br, bi, wr, wi):
    """a + w b and a - w b in six operations: the difference is 2 a minus the sum."""
    sr = subtract_product(wi, bi, multiply_add(wr, br, ar))
    si = multiply_add(wi, br, multiply_add(wr, bi, ai))
    two = splat(2.0)
    return sr, si, multiply_subtract(two, ar, sr), multiply_subtract(two, ai, si)


@njit(inline="always")
def _add_rotated_back(ar, ai, br, bi, wr, wi):
    """a - i w b and a + i w b."""
    sr = multiply_add(wi, br, multiply_add(wr, bi, ar))
    si = subtract_product(wr, br, multiply_add(wi, bi, ai))
    two = splat(2.0)
    return sr, si, multiply_subtract(two, ar, sr), multiply_subtract(two, ai, si)


@njit(inline="always")
def _rotated(work, place, twiddles, t):
    """The complex number at `place` times twiddle t."""
    re, im = load(work, place), load(work, place + LANES)
    wr, wi = splat(twiddles[t]), splat(twiddles[t + 1])
    return multiply_subtract(re, wr, im * wi), multiply_add(re, wi, im * wr)


@njit(inline="always")
def _put(work, place, re, im):
    store(work, place, re)
    store(work, place + LANES, im)


@njit(inline="always")
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
    """Any odd radix by its definition, which costs `radix` multiply-adds a number; `sums` is a place for 2 radix lines."""
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
            for k in range(1, half + 1):
                er, ei, fr, fi = ar, ai, splat(0.0), splat(0.0)
                turn = 0
                for q in range(half):
                    turn += k
                    turn -= radix if turn >= radix else 0
                    cosine, minus_sine = splat(twiddles[t + 2 * turn]), splat(twiddles[t + 2 * turn + 1])
                    place = sums + 4 * LANES * q
                    er = multiply_add(cosine, load(work, place), er)
                    ei = multiply_add(cosine, load(work, place + LANES), ei)
                    fr = subtract_product(minus_sine, load(work, place + 2 * LANES), fr)
                    fi = subtract_product(minus_sine, load(work, place + 3 * LANES), fi)
                _put(work, p + k * step, er + fi, ei - fr)
                _put(work, p + (radix - k) * step, er - fi, ei + fr)


@njit(inline="always")
def _transform(work, plane, size, radices, passes, twiddles, sums):
    """Complex transform of the lines of one plane, in place; blocks that fit the cache run through all their passes."""
    cached, split = 1, 0
    while split < passes and cached * radices[split] <= _CACHED:
        cached *= radices[split]
        split += 1
    first, last, span, t_first = 0, split, cached, 0
    for _ in range(2):
        t = t_first
        for block in range(0, size, span):
            start, stop = plane + 2 * LANES * block, plane + 2 * LANES * (block + span)
            t, stride = t_first, 1 if first == 0 else cached
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
        first, last, span, t_first = split, passes, size, t


@njit(inline="always")
def _copy(source, source_start, source_stride, target, target_start, target_stride, rows, width):
    """Copy a narrow array between strides."""
    for i in range(rows):
        for b in range(width):
            target[target_start + i * target_stride + b] = source[source_start + i * source_stride + b]


@njit(inline="always")
def _scatter(source, origin, stride, lane, last, work, plane, count, points, places, signs):
    """Signed grid values to their lines, for `count` eights of trajectories."""
    for i in range(points):
        sign, row, place = splat(signs[i]), origin + i * stride, LANES * places[i]
        for g in range(count):
            store(work, g * plane + place, load(source, row + min(lane + LANES * g, last)) * sign)


@njit(inline="always")
def _gather(work, plane, target, origin, stride, lane, last, count, points, places, signs):
    """Lines to signed grid values."""
    for i in range(points):
        sign, row, place = splat(signs[i]), origin + i * stride, LANES * places[i]
        for g in range(count):
            store(target, row + min(lane + LANES * g, last), load(work, g * plane + place) * sign)


@njit(inline="always")
def _split(work, plane, target, origin, stride, lane, last, count, number, groups, modes, width, terms):
    """Coefficients from the lines of the frequencies k and M - k."""
    for i in range(number):
        a, b, c, d = groups[4 * i], groups[4 * i + 1], groups[4 * i + 2], groups[4 * i + 3]
        for g in range(count):
            offset, column = g * plane, min(lane + LANES * g, last)
            ar, ai = load(work, offset + LANES * a), load(work, offset + LANES * b)
            br, bi = load(work, offset + LANES * c), load(work, offset + LANES * d)
            for m in range(width * i, width * (i + 1)):
                if modes[m] >= 0:
                    y = multiply_add(splat(terms[4 * m + 1]), ai, splat(terms[4 * m]) * ar)
                    y = multiply_add(splat(terms[4 * m + 2]), br, y)
                    y = multiply_add(splat(terms[4 * m + 3]), bi, y)
                    store(target, origin + modes[m] * stride + column, y)


@njit(inline="always")
def _merge(source, origin, stride, lane, last, work, plane, count, number, groups, modes, width, terms):
    """Lines of the frequencies k and M - k from the coefficients: transpose of `_split`."""
    for i in range(number):
        a, b, c, d = groups[4 * i], groups[4 * i + 1], groups[4 * i + 2], groups[4 * i + 3]
        for g in range(count):
            offset, column = g * plane, min(lane + LANES * g, last)
            ar, ai, br, bi = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
            for m in range(width * i, width * (i + 1)):
                if modes[m] >= 0:
                    x = load(source, origin + modes[m] * stride + column)
                    ar = multiply_add(splat(terms[4 * m]), x, ar)
                    ai = multiply_add(splat(terms[4 * m + 1]), x, ai)
                    br = multiply_add(splat(terms[4 * m + 2]), x, br)
                    bi = multiply_add(splat(terms[4 * m + 3]), x, bi)
            store(work, offset + LANES * a, ar)
            store(work, offset + LANES * b, ai)
            store(work, offset + LANES * c, br)
            store(work, offset + LANES * d, bi)


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
    size, points, coefficients, together = plan.sizes
    source_rows, target_rows = (points, coefficients) if plan.analysis else (coefficients, points)
    outer, inner = source.shape[0], source.shape[2]
    if source.shape[1] != source_rows or target.shape != (outer, target_rows, inner):
        raise ValueError("source or target does not have the shape of the plan")
    plane = LANES * (2 * size + 2)
    sums = together * plane
    if workspace.size < sums + LANES * (source_rows + target_rows):
        raise ValueError("the workspace belongs to another transform")
    given, wanted, work = pointer(source), pointer(target), pointer(workspace)
    places, signs, empty = pointer(plan.places), pointer(plan.signs), pointer(plan.empty)
    groups, modes, terms = pointer(plan.groups), pointer(plan.modes), pointer(plan.terms)
    number, width = plan.modes.shape
    radices, passes, twiddles = pointer(plan.radices), len(plan.radices), pointer(plan.twiddles)
    left, left_stride, right, right_stride, last = given, inner, wanted, inner, inner - LANES
    narrow = inner < LANES
    narrow_right = workspace.size - target_rows * LANES
    narrow_left = narrow_right - source_rows * LANES
    if narrow:
        left, left_stride, right, right_stride, last = work, LANES, work, LANES, 0
        workspace[narrow_left:] = 0.0
    for o in range(outer):
        for lane in range(0, inner, LANES * together):
            # the last eight may overlap the eight before: the same numbers are written twice
            count = min(together, (inner - lane + LANES - 1) // LANES)
            left_start, right_start = o * source_rows * inner, o * target_rows * inner
            if narrow:
                left_start, right_start = narrow_left, narrow_right
                _copy(given, o * source_rows * inner, inner, work, left_start, LANES, source_rows, inner)
            if plan.analysis:
                for i in range(len(plan.empty)):
                    for g in range(count):
                        store(work, g * plane + LANES * empty[i], splat(0.0))
                _scatter(left, left_start, left_stride, lane, last, work, plane, count, points, places, signs)
            else:
                _merge(
                    left, left_start, left_stride, lane, last, work, plane, count, number, groups, modes, width, terms
                )
            for g in range(count):
                _transform(work, g * plane, size, radices, passes, twiddles, sums)
            if plan.analysis:
                _split(
                    work, plane, right, right_start, right_stride, lane, last, count, number, groups, modes, width, terms
                )
            else:
                _gather(work, plane, right, right_start, right_stride, lane, last, count, points, places, signs)
            if narrow:
                _copy(work, right_start, LANES, wanted, o * target_rows * inner, inner, target_rows, inner)


@njit(cache=True, nogil=True)
def add_boundary(amplitudes, boundary, target):
    """Add [f e_j], the boundary term of the weak derivative in the cosine basis.

    Parameters
    ----------
    amplitudes : (modes,) values of the basis at x = 0
    boundary : (outer, 2, inner) values of f at both ends
    target : (outer, modes, inner), added to
    """
    for o in range(target.shape[0]):
        for j in range(target.shape[1]):
            left = -amplitudes[j]
            right = left if j % 2 == 1 else -left
            for b in range(target.shape[2]):
                target[o, j, b] += right * boundary[o, 1, b] + left * boundary[o, 0, b]
