"""Counter-based standard normals: a pure function of (seed, stream, trajectory, step, component).

There is no generator state: any rank can draw any number at any time, in any order, and a restart has
nothing to restore. Bits come from Philox4x32-10 (Salmon et al. 2011), four words for the components 4q .. 4q + 3
of one trajectory, and normals from the Box-Muller transform of two words each. Uniforms have 32 bits, so
|normal| <= 6.77: the tail beyond has probability 1.3e-11.

Logarithm, sine and cosine are polynomials with errors below 1e-12, so that a normal is off by less than a hundredth
of the step to the one of the next uniform. Every contraction is an explicit `fma`: a number has the same bits in
a vector lane and in a scalar remainder, whatever the width of the array that it is drawn in, and on any processor.
"""

from __future__ import annotations

import math

import numpy as np
from numba import uint64

from spde.compiling import njit
from spde.errors import SpdeError
from spde.functions import bits_of, fma, from_bits, inlined, polynomial, sqrt, wide_vectors

_MASK = np.uint64(0xFFFFFFFF)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_U32, _U20, _U6 = np.uint64(32), np.uint64(20), np.uint64(6)
_SIGN = np.uint64(1 << 63)
_HALF_CIRCLE = np.uint64(0x7FFFFFFF)
_MANTISSA = np.uint64((1 << 52) - 1)
_ONE = np.uint64(0x3FF0000000000000)  # bits of 1.0
_TWO52 = np.uint64(0x4330000000000000)  # bits of 2.0**52: an integer below it is added to the bits, not converted
_TWO54 = np.uint64(0x4350000000000000)  # bits of 2.0**54: the same in units of four
_TWO6 = np.uint64(0x4050000000000000)  # bits of 2.0**6, whose leading six bits of mantissa are
_EXPONENT = np.uint64(63 << 46)  # the place of the low six bits of an exponent, moved there

_TWO_LOG2 = 2.0 * math.log(2.0)
# minimax polynomials, lowest power first: error of each below 1e-12
_LOG = (  # -2 log(m) in m - 3/2, 1 <= m < 2; the constant also takes off the offset 64 + 33 of the exponent
    -0.8109302162166109 + 97 * _TWO_LOG2,
    -1.3333333333588766,
    0.4444444445710171,
    -0.19753086041422924,
    0.09876542265117294,
    -0.05267505879214074,
    0.029264102900665775,
    -0.01671915621443988,
    0.009750768492841946,
    -0.005809510446738753,
    0.0034978660347326244,
    -0.001955691072181507,
    0.001159769896055174,
    -0.0011526576246397857,
    0.0007539788692517659,
)
_COS = (  # cos(pi v) in v**2, |v| <= 1/2
    0.9999999999992518,
    -4.934802200250966,
    4.058712107589465,
    -1.3352623161487083,
    0.23532544342828937,
    -0.02577634074355501,
    0.0018400218543930694,
)
_SIN = (  # sin(pi v) / v in v**2, |v| <= 1/2
    3.1415926535887344,
    -5.167712779883683,
    2.5501640325209314,
    -0.5992643871175177,
    0.08214448088802967,
    -0.007362997639125871,
    0.0004462482780836693,
)


@njit(cache=True)
def _philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds of Philox4x32; four 32-bit words, each held in a uint64 lane with zeros above."""
    inlined()
    for _ in range(10):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0, c1, c2, c3 = (p1 >> _U32) ^ c1 ^ k0, p1 & _MASK, (p0 >> _U32) ^ c3 ^ k1, p0 & _MASK
        k0 = (k0 + _W0) & _MASK
        k1 = (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@njit(cache=True)
def _pair(first, second):
    """Box-Muller: two normals from two words.

    Radius sqrt(-2 log((first + 1/2) / 2**32)), angle 2 pi second / 2**32 - pi/2. The highest bit of `second` turns
    by pi, that is, it is the sign of the radius; the other bits make an angle of half a circle.
    """
    inlined()
    uniform = from_bits(first | _TWO54) - 18014398509481982.0  # 4 (first + 1/2)
    bits = bits_of(uniform)
    exponent = from_bits(((bits >> _U6) & _EXPONENT) | _TWO6)
    m = from_bits((bits & _MANTISSA) | _ONE)
    radius = sqrt(fma(exponent, -_TWO_LOG2, polynomial(m - 1.5, _LOG)))
    v = fma(from_bits((second & _HALF_CIRCLE) | _TWO52), 2.0**-31, -2097152.5)
    signed = from_bits(bits_of(radius) ^ ((second << _U32) & _SIGN))
    z = v * v
    return signed * polynomial(z, _COS), (signed * v) * polynomial(z, _SIN)


@njit(cache=True)
def _tag(stream, step):
    """The counter word that the stream shares with the high bits of the step: 2**20 streams, 2**44 steps."""
    inlined()
    return (((uint64(step) >> _U32) << _U20) | uint64(stream)) & _MASK


@njit(cache=True, nogil=True)
def fill_quad(out, k0, k1, stream, first, step, quad):
    """Components 4 quad .. 4 quad + 3 of trajectories first, first + 1, ... at one step, for kernels.

    Parameters
    ----------
    out : (4, B) C-contiguous float64 array, overwritten; 64 columns or so stay in the first-level cache
    k0, k1 : from `key_words`
    stream, first, step : integers as for `normals`, not checked
    quad : number of the four components, below 2**30

    No memory beside `out` is used: it holds the words before it holds the normals. Zeros above the 32 bits of
    each factor are visible to the compiler, which so takes the fast multiplication of 32-bit halves.
    """
    wide_vectors()
    k0, k1 = uint64(k0) & _MASK, uint64(k1) & _MASK
    component, low, tag = uint64(quad) & _MASK, uint64(step) & _MASK, _tag(stream, step)
    row0, row1, row2, row3 = out[0], out[1], out[2], out[3]
    for b in range(len(row0)):
        w0, w1, w2, w3 = _philox(component, low, (uint64(first) + uint64(b)) & _MASK, tag, k0, k1)
        row0[b], row1[b], row2[b], row3[b] = from_bits(w0), from_bits(w1), from_bits(w2), from_bits(w3)
    for b in range(len(row0)):
        row0[b], row1[b] = _pair(bits_of(row0[b]) & _MASK, bits_of(row1[b]) & _MASK)
    for b in range(len(row0)):
        row2[b], row3[b] = _pair(bits_of(row2[b]) & _MASK, bits_of(row3[b]) & _MASK)


@njit(cache=True, nogil=True)
def _fill_rest(out, k0, k1, stream, first, step, quad):
    """The same for the last one, two or three components."""
    wide_vectors()
    k0, k1 = uint64(k0) & _MASK, uint64(k1) & _MASK
    component, low, tag = uint64(quad) & _MASK, uint64(step) & _MASK, _tag(stream, step)
    rows, batch = out.shape
    for b in range(batch):
        w0, w1, w2, w3 = _philox(component, low, (uint64(first) + uint64(b)) & _MASK, tag, k0, k1)
        normal0, normal1 = _pair(w0, w1)
        normal2, _ = _pair(w2, w3)
        out[0, b] = normal0
        if rows > 1:
            out[1, b] = normal1
        if rows > 2:
            out[2, b] = normal2


@njit(cache=True, nogil=True)
def fill_normals(out, k0, k1, stream, first, step):
    """`normals` for kernels: fill `out`, (d, batch), arguments as for `fill_quad`."""
    quads = out.shape[0] // 4
    for quad in range(quads):
        fill_quad(out[4 * quad : 4 * quad + 4], k0, k1, stream, first, step, quad)
    if out.shape[0] > 4 * quads:
        _fill_rest(out[4 * quads :], k0, k1, stream, first, step, quads)


@njit(cache=True, nogil=True)
def _fill_uniform(out, k0, k1, stream, first, step):
    low, tag = uint64(step) & _MASK, _tag(stream, step)
    d, batch = out.shape
    for i in range(d):
        for b in range(batch):
            w0, _, _, _ = _philox(uint64(i), low, (uint64(first) + uint64(b)) & _MASK, tag, k0, k1)
            out[i, b] = (np.float64(w0) + 0.5) / 4294967296.0


def key_words(seed: int) -> tuple[np.uint64, np.uint64]:
    """The two words of the Philox key, for `fill_quad` and `fill_normals`; 0 <= seed < 2**64."""
    return np.uint64(seed & 0xFFFFFFFF), np.uint64((seed >> 32) & 0xFFFFFFFF)


def _check_address(batch: int, seed: int, stream: int, first: int, step: int) -> None:
    """Counters are finite: beyond their range two addresses would share their numbers."""
    for name, value, end in (
        ("seed", seed, 2**64),
        ("stream", stream, 2**20),
        ("last trajectory", first + max(batch - 1, 0), 2**32),
        ("step", step, 2**44),
    ):
        if not 0 <= value < end:
            raise SpdeError(f"{name} {value} has no random numbers: it has to be in 0 .. 2**{end.bit_length() - 1} - 1")


def normals(out: np.ndarray, seed: int, stream: int, first: int, step: int) -> np.ndarray:
    """Fill `out` with standard normals of trajectories first, first+1, ... at one step.

    Parameters
    ----------
    out : (d, batch) C-contiguous float64 array, overwritten
    seed : 0 <= seed < 2**64
    stream : what the numbers are for, 0 <= stream < 2**20
    first : global index of the first trajectory, below 2**32
    step : global index of the time step, below 2**44

    Returns
    -------
    out

    Raises
    ------
    SpdeError : for an address outside these ranges

    Source: Salmon et al. 2011 (Philox); Box and Muller 1958.
    """
    _check_address(out.shape[1], seed, stream, first, step)
    fill_normals(out, *key_words(seed), stream, first, step)
    return out


def uniforms(out: np.ndarray, seed: int, stream: int, first: int, step: int) -> np.ndarray:
    """Fill `out`, (d, batch), with uniforms in (0, 1); arguments as for `normals`."""
    _check_address(out.shape[1], seed, stream, first, step)
    _fill_uniform(out, *key_words(seed), stream, first, step)
    return out
