"""Compiled kernel of the trigonometric transforms: sparse rows, complex FFT, sparse rows.

Every transform of spde.transforms is one real sequence of 2M numbers, packed as M complex ones, and

    lines  = entry rows of the source      (at most four terms a row)
    lines  = FFT of length M, in place     (decimation in frequency; result in digit-reversed order)
    target = exit rows of the lines        (at most four terms a row)

where line 2j holds the real and line 2j + 1 the imaginary part of number j. Permutations, signs, normalisation, the
split of the packed spectrum, half-sample phases, pruning and derivatives are all in the tables of a `Plan`, so one
compilation serves every kind and size. Eight trajectories are carried through all three steps at a time: their lines
fit the first-level cache up to M = 256, beyond that the passes go depth first. No operation mixes trajectories: bits
depend on neither their number nor their places.
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


class Plan(NamedTuple):
    """Tables of one transform, arguments of `apply`.

    entry_rows, entry_terms : (2M, t) rows of the source and their factors, t in {1, 2, 4}
    radices : (passes,) factors of M in the order of the passes
    twiddles : all numbers e^(-2 pi i j k / block) that the passes need, real and imaginary parts alternating
    exit_rows, exit_terms : (rows of the target, t) lines and their factors, t in {1, 2, 4}
    source_rows : rows of the source
    """

    entry_rows: np.ndarray
    entry_terms: np.ndarray
    radices: np.ndarray
    twiddles: np.ndarray
    exit_rows: np.ndarray
    exit_terms: np.ndarray
    source_rows: int


def factorise(size: int) -> list[int]:
    """Radices of the passes: fours first and last (those are fused or free of twiddles), rare factors between."""
    radices = []
    for factor in (4, 2, 3, 5):
        while size % factor == 0:
            radices.append(factor)
            size //= factor
    factor = 7
    while size > 1:
        while size % factor == 0:
            radices.append(factor)
            size //= factor
        factor = factor + 2 if factor * factor <= size else size
    fours = radices.count(4)
    return [4] * (fours // 2) + radices[fours:] + [4] * (fours - fours // 2)


def positions(size: int, radices: list[int]) -> np.ndarray:
    """(size,) where each frequency stands after the passes."""
    frequency, position, block = np.arange(size), np.zeros(size, np.int64), size
    for radix in radices:
        block //= radix
        position += frequency % radix * block
        frequency //= radix
    return position


def twiddle_table(size: int, radices: list[int]) -> np.ndarray:
    """Twiddle factors in the order in which the passes read them; a pass of radix > 5 has its roots of unity first."""
    table, block = [np.empty(0, complex)], size
    for radix in radices:
        stride = block // radix
        if radix > 5:
            table.append(roots_of_unity(np.arange(radix), radix))
        if not (radix == 4 and stride == 1):
            table.append(roots_of_unity(np.outer(np.arange(stride), np.arange(1, radix)).ravel(), block))
        block = stride
    return np.concatenate(table).view(np.float64)


def roots_of_unity(numerators: np.ndarray, denominator: int) -> np.ndarray:
    """e^(-2 pi i numerators / denominator), each part correctly rounded to about one unit in the last place."""
    # angles beyond pi / 4 lose digits: count them from the nearest quarter turn
    quarter, rest = np.divmod(4 * (numerators % denominator) + denominator // 2, denominator)
    angle = 2 * np.pi * ((rest - denominator // 2) / (4 * denominator))
    return np.exp(-1j * angle) * np.array([1, -1j, -1, 1j])[quarter % 4]


def workspace_rows(size: int, radices: list[int], source_rows: int, target_rows: int) -> int:
    """Rows of eight doubles that `apply` needs: lines, one odd butterfly, source and target of a narrow batch."""
    return 2 * size + 2 * max([1, *radices]) + source_rows + target_rows


@njit(inline="always")
def _rotate(work, place, re, im, twiddles, t):
    """Store (re, im) times twiddle t as the complex number at `place`."""
    wr, wi = splat(twiddles[t]), splat(twiddles[t + 1])
    store(work, place, multiply_subtract(re, wr, im * wi))
    store(work, place + LANES, multiply_add(re, wi, im * wr))


@njit(inline="always")
def _four(ar, ai, br, bi, cr, ci, dr, di):
    """Transform of four numbers: real and imaginary parts of the frequencies 0, 1, 2, 3."""
    sr, si, er, ei = ar + cr, ai + ci, ar - cr, ai - ci
    tr, ti, fr, fi = br + dr, bi + di, br - dr, bi - di
    return sr + tr, si + ti, er + fi, ei - fr, sr - tr, si - ti, er - fi, ei + fr


@njit(inline="always")
def _pass_2(work, start, stop, block, twiddles, t):
    step = LANES * block
    for b in range(start, stop, block):
        for j in range(block // 2):
            p = 2 * LANES * (b + j)
            q = p + step
            ar, ai, br, bi = load(work, p), load(work, p + LANES), load(work, q), load(work, q + LANES)
            store(work, p, ar + br)
            store(work, p + LANES, ai + bi)
            _rotate(work, q, ar - br, ai - bi, twiddles, t + 2 * j)


@njit(inline="always")
def _pass_3(work, start, stop, block, twiddles, t):
    step = 2 * LANES * (block // 3)
    cosine, sine = splat(_COS_3), splat(_SIN_3)
    for b in range(start, stop, block):
        for j in range(block // 3):
            p = 2 * LANES * (b + j)
            q = p + step
            r = q + step
            ar, ai, br, bi = load(work, p), load(work, p + LANES), load(work, q), load(work, q + LANES)
            cr, ci = load(work, r), load(work, r + LANES)
            sr, si, dr, di = br + cr, bi + ci, (br - cr) * sine, (bi - ci) * sine
            er, ei = multiply_add(sr, cosine, ar), multiply_add(si, cosine, ai)
            store(work, p, ar + sr)
            store(work, p + LANES, ai + si)
            _rotate(work, q, er + di, ei - dr, twiddles, t + 4 * j)
            _rotate(work, r, er - di, ei + dr, twiddles, t + 4 * j + 2)


@njit(inline="always")
def _pass_4(work, start, stop, block, twiddles, t):
    step = 2 * LANES * (block // 4)
    for b in range(start, stop, block):
        for j in range(block // 4):
            p = 2 * LANES * (b + j)
            q = p + step
            r = q + step
            s = r + step
            ar, ai, br, bi = load(work, p), load(work, p + LANES), load(work, q), load(work, q + LANES)
            cr, ci, dr, di = load(work, r), load(work, r + LANES), load(work, s), load(work, s + LANES)
            ar, ai, br, bi, cr, ci, dr, di = _four(ar, ai, br, bi, cr, ci, dr, di)
            store(work, p, ar)
            store(work, p + LANES, ai)
            _rotate(work, q, br, bi, twiddles, t + 6 * j)
            _rotate(work, r, cr, ci, twiddles, t + 6 * j + 2)
            _rotate(work, s, dr, di, twiddles, t + 6 * j + 4)


@njit(inline="always")
def _last_pass_4(work, start, stop):
    for b in range(start, stop, 4):
        p = 2 * LANES * b
        ar, ai = load(work, p), load(work, p + LANES)
        br, bi = load(work, p + 2 * LANES), load(work, p + 3 * LANES)
        cr, ci = load(work, p + 4 * LANES), load(work, p + 5 * LANES)
        dr, di = load(work, p + 6 * LANES), load(work, p + 7 * LANES)
        ar, ai, br, bi, cr, ci, dr, di = _four(ar, ai, br, bi, cr, ci, dr, di)
        store(work, p, ar)
        store(work, p + LANES, ai)
        store(work, p + 2 * LANES, br)
        store(work, p + 3 * LANES, bi)
        store(work, p + 4 * LANES, cr)
        store(work, p + 5 * LANES, ci)
        store(work, p + 6 * LANES, dr)
        store(work, p + 7 * LANES, di)


@njit(inline="always")
def _pass_5(work, start, stop, block, twiddles, t):
    step = 2 * LANES * (block // 5)
    c1, s1, c2, s2 = splat(_COS_5), splat(_SIN_5), splat(_COS_5_2), splat(_SIN_5_2)
    for b in range(start, stop, block):
        for j in range(block // 5):
            p0 = 2 * LANES * (b + j)
            p1 = p0 + step
            p2 = p1 + step
            p3 = p2 + step
            p4 = p3 + step
            ar, ai = load(work, p0), load(work, p0 + LANES)
            br, bi, er, ei = load(work, p1), load(work, p1 + LANES), load(work, p4), load(work, p4 + LANES)
            cr, ci, dr, di = load(work, p2), load(work, p2 + LANES), load(work, p3), load(work, p3 + LANES)
            br, bi, er, ei = br + er, bi + ei, br - er, bi - ei
            cr, ci, dr, di = cr + dr, ci + di, cr - dr, ci - di
            ur, ui = multiply_add(cr, c2, multiply_add(br, c1, ar)), multiply_add(ci, c2, multiply_add(bi, c1, ai))
            vr, vi = multiply_add(cr, c1, multiply_add(br, c2, ar)), multiply_add(ci, c1, multiply_add(bi, c2, ai))
            xr, xi = multiply_add(er, s1, dr * s2), multiply_add(ei, s1, di * s2)
            yr, yi = multiply_subtract(er, s2, dr * s1), multiply_subtract(ei, s2, di * s1)
            store(work, p0, ar + br + cr)
            store(work, p0 + LANES, ai + bi + ci)
            _rotate(work, p1, ur + xi, ui - xr, twiddles, t + 8 * j)
            _rotate(work, p2, vr + yi, vi - yr, twiddles, t + 8 * j + 2)
            _rotate(work, p3, vr - yi, vi + yr, twiddles, t + 8 * j + 4)
            _rotate(work, p4, ur - xi, ui + xr, twiddles, t + 8 * j + 6)


@njit(inline="always")
def _pass_odd(work, start, stop, block, radix, twiddles, t, scratch):
    """Any odd radix, by the sums: each number costs `radix` multiply-adds. `scratch` is where sums are kept."""
    step = 2 * LANES * (block // radix)
    half = radix // 2
    factors = t + 2 * radix
    for b in range(start, stop, block):
        for j in range(block // radix):
            origin = 2 * LANES * (b + j)
            ar, ai = load(work, origin), load(work, origin + LANES)
            zr, zi = ar, ai
            for q in range(1, half + 1):
                left, right = origin + q * step, origin + (radix - q) * step
                br, bi = load(work, left), load(work, left + LANES)
                cr, ci = load(work, right), load(work, right + LANES)
                place = scratch + 4 * LANES * (q - 1)
                store(work, place, br + cr)
                store(work, place + LANES, bi + ci)
                store(work, place + 2 * LANES, br - cr)
                store(work, place + 3 * LANES, bi - ci)
                zr, zi = zr + (br + cr), zi + (bi + ci)
            store(work, origin, zr)
            store(work, origin + LANES, zi)
            for k in range(1, half + 1):
                er, ei, fr, fi = ar, ai, splat(0.0), splat(0.0)
                turn = 0
                for q in range(half):
                    turn += k
                    turn -= radix if turn >= radix else 0
                    cosine, minus_sine = splat(twiddles[t + 2 * turn]), splat(twiddles[t + 2 * turn + 1])
                    place = scratch + 4 * LANES * q
                    er = multiply_add(load(work, place), cosine, er)
                    ei = multiply_add(load(work, place + LANES), cosine, ei)
                    fr = subtract_product(load(work, place + 2 * LANES), minus_sine, fr)
                    fi = subtract_product(load(work, place + 3 * LANES), minus_sine, fi)
                w = factors + 2 * ((radix - 1) * j + k - 1)
                _rotate(work, origin + k * step, er + fi, ei - fr, twiddles, w)
                w = factors + 2 * ((radix - 1) * j + radix - k - 1)
                _rotate(work, origin + (radix - k) * step, er - fi, ei + fr, twiddles, w)


@njit(inline="always")
def _fourier(work, size, radices, passes, twiddles, scratch):
    """Complex transform of the lines in place: depth first as soon as a block fits the cache."""
    split, cached = 0, size
    while cached > _CACHED:
        cached //= radices[split]
        split += 1
    first, last, span, t_first = 0, split, size, 0
    for _ in range(2):
        t = t_first
        for start in range(0, size, span):
            t, block = t_first, span
            for i in range(first, last):
                radix = radices[i]
                stride = block // radix
                if radix == 4 and stride == 1:
                    _last_pass_4(work, start, start + span)
                elif radix == 4:
                    _pass_4(work, start, start + span, block, twiddles, t)
                    t += 6 * stride
                elif radix == 2:
                    _pass_2(work, start, start + span, block, twiddles, t)
                    t += 2 * stride
                elif radix == 3:
                    _pass_3(work, start, start + span, block, twiddles, t)
                    t += 4 * stride
                elif radix == 5:
                    _pass_5(work, start, start + span, block, twiddles, t)
                    t += 8 * stride
                else:
                    _pass_odd(work, start, start + span, block, radix, twiddles, t, scratch)
                    t += 2 * radix + 2 * (radix - 1) * stride
                block = stride
        first, last, span, t_first = split, passes, cached, t


@njit(inline="always")
def _combine(rows, terms, count, width, source, source_start, source_stride, target, target_start, target_stride):
    """Rows of the target as sums of one, two or four rows of the source, eight trajectories wide."""
    for i in range(count):
        y = load(source, source_start + rows[width * i] * source_stride) * splat(terms[width * i])
        if width > 1:
            y = multiply_add(
                load(source, source_start + rows[width * i + 1] * source_stride), splat(terms[width * i + 1]), y
            )
        if width > 2:
            z = load(source, source_start + rows[width * i + 2] * source_stride) * splat(terms[width * i + 2])
            y = y + multiply_add(
                load(source, source_start + rows[width * i + 3] * source_stride), splat(terms[width * i + 3]), z
            )
        store(target, target_start + i * target_stride, y)


@njit
def _copy(source, source_start, source_stride, target, target_start, target_stride, rows, width):
    """Copy a narrow array between strides."""
    for i in range(rows):
        for b in range(width):
            target[target_start + i * target_stride + b] = source[source_start + i * source_stride + b]


@njit(cache=True, nogil=True)
def apply(plan, source, target, workspace):
    """Transform along the second axis: target = (exit rows) FFT (entry rows) source.

    Parameters
    ----------
    plan : Plan
    source : (outer, source rows, inner) C-contiguous float64 array
    target : (outer, target rows, inner) C-contiguous float64 array, overwritten; no overlap with the source
    workspace : one-dimensional float64 array, see Transform.workspace; of one thread only
    """
    outer, source_rows, inner = source.shape
    target_rows = target.shape[1]
    if target.shape != (outer, len(plan.exit_rows), inner) or source_rows != plan.source_rows:
        raise ValueError("source or target does not have the shape of the plan")
    lines, entry_width = plan.entry_rows.shape
    exit_width = plan.exit_rows.shape[1]
    entry_rows, entry_terms = pointer(plan.entry_rows), pointer(plan.entry_terms)
    exit_rows, exit_terms = pointer(plan.exit_rows), pointer(plan.exit_terms)
    radices, passes, twiddles = pointer(plan.radices), len(plan.radices), pointer(plan.twiddles)
    given, wanted, work = pointer(source), pointer(target), pointer(workspace)
    left, left_stride, right, right_stride = given, inner, wanted, inner
    narrow = inner < LANES
    if narrow:
        left, left_stride, right, right_stride = work, LANES, work, LANES
        workspace[:] = 0.0
    for o in range(outer):
        for b in range(0, inner, LANES):
            # the last eight may overlap the eight before: the same numbers are written twice
            lane = min(b, inner - LANES)
            left_start, right_start = o * source_rows * inner + lane, o * target_rows * inner + lane
            if narrow:
                right_start = workspace.size - target_rows * LANES
                left_start = right_start - source_rows * LANES
                _copy(given, o * source_rows * inner, inner, work, left_start, LANES, source_rows, inner)
            _combine(entry_rows, entry_terms, lines, entry_width, left, left_start, left_stride, work, 0, LANES)
            _fourier(work, lines // 2, radices, passes, twiddles, lines * LANES)
            _combine(exit_rows, exit_terms, target_rows, exit_width, work, 0, LANES, right, right_start, right_stride)
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
