"""Counter-based standard normals: a pure function of (seed, stream, trajectory, step, component).

There is no generator state: any rank can draw any number at any time, in any order, and a restart has
nothing to restore. Bits come from Philox4x32-10 (Salmon et al. 2011), normals from the Box-Muller
transform, whose logarithm, sine and cosine are polynomials so that the loop over trajectories
vectorises. Uniforms have 32 bits, so |normal| <= 6.66: the tail beyond has probability 2.8e-11.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

_MASK = np.uint64(0xFFFFFFFF)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_U32, _U30, _U20 = np.uint64(32), np.uint64(30), np.uint64(20)
_FRACTION = np.uint64((1 << 30) - 1)


@njit(inline="always")
def _philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds of Philox4x32; four 32-bit words, each held in a uint64 lane."""
    for _ in range(10):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0, c1, c2, c3 = (p1 >> _U32) ^ c1 ^ k0, p1 & _MASK, (p0 >> _U32) ^ c3 ^ k1, p0 & _MASK
        k0 = (k0 + _W0) & _MASK
        k1 = (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@njit(inline="always")
def _radius(word):
    """sqrt(-2 log((word + 1/2) / 2**32)), the radius of Box-Muller, from the bits of the double."""
    bits = np.float64(np.float64(word) + 0.5).view(np.int64)
    exponent = np.float64((bits >> 52) - 1023 - 32)
    m = np.int64((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000).view(np.float64)
    # log(m), 1 <= m < 2, as 2 atanh(s) about sqrt(2): |s| <= 0.172, next term below 1e-17
    s = (m - 1.4142135623730951) / (m + 1.4142135623730951)
    z = s * s
    series = 1.0 / 17.0
    series = series * z + 1.0 / 15.0
    series = series * z + 1.0 / 13.0
    series = series * z + 1.0 / 11.0
    series = series * z + 1.0 / 9.0
    series = series * z + 1.0 / 7.0
    series = series * z + 1.0 / 5.0
    series = series * z + 1.0 / 3.0
    series = series * z + 1.0
    logarithm = exponent * 0.6931471805599453 + (0.34657359027997264 + 2.0 * s * series)
    return np.sqrt(max(-2.0 * logarithm, 0.0))


@njit(inline="always")
def _circle(word):
    """cos and sin of a uniform angle: two bits of quadrant, thirty of angle in +-pi/4 about its axis."""
    quadrant = word >> _U30
    angle = (np.float64(word & _FRACTION) + 0.5) * (1.5707963267948966 / 1073741824.0) - 0.7853981633974483
    z = angle * angle
    c = 4.779477332387385e-14
    c = c * z - 1.1470745597729725e-11
    c = c * z + 2.08767569878681e-09
    c = c * z - 2.755731922398589e-07
    c = c * z + 2.48015873015873e-05
    c = c * z - 0.001388888888888889
    c = c * z + 0.041666666666666664
    c = c * z - 0.5
    c = c * z + 1.0
    s = -7.647163731819816e-13
    s = s * z + 1.6059043836821613e-10
    s = s * z - 2.505210838544172e-08
    s = s * z + 2.7557319223985893e-06
    s = s * z - 0.0001984126984126984
    s = s * z + 0.008333333333333333
    s = s * z - 0.16666666666666666
    s = (s * z + 1.0) * angle
    odd = (quadrant & np.uint64(1)) == np.uint64(1)
    back = (quadrant & np.uint64(2)) == np.uint64(2)
    first = -s if odd else c
    second = c if odd else s
    return (-first if back else first), (-second if back else second)


@njit(cache=True, nogil=True)
def _fill(out, words, k0, k1, stream, first, step):
    d, batch = out.shape
    step_low = uint64(step) & _MASK
    # the stream shares its word with the high bits of the step: 2**20 streams, 2**44 steps
    tag = ((uint64(step) >> _U32) << _U20) | uint64(stream)
    for quad in range((d + 3) // 4):
        rows = min(4, d - 4 * quad)
        for b in range(batch):
            w0, w1, w2, w3 = _philox(uint64(quad), step_low, (uint64(first) + uint64(b)) & _MASK, tag, k0, k1)
            words[0, b] = w0
            words[1, b] = w1
            words[2, b] = w2
            words[3, b] = w3
        for half in range((rows + 1) // 2):
            top = 4 * quad + 2 * half
            if 2 * half + 1 < rows:
                for b in range(batch):
                    radius = _radius(words[2 * half, b])
                    cosine, sine = _circle(words[2 * half + 1, b])
                    out[top, b] = radius * cosine
                    out[top + 1, b] = radius * sine
            else:
                for b in range(batch):
                    radius = _radius(words[2 * half, b])
                    cosine, sine = _circle(words[2 * half + 1, b])
                    out[top, b] = radius * cosine


@njit(cache=True, nogil=True)
def _fill_uniform(out, k0, k1, stream, first, step):
    d, batch = out.shape
    step_low = uint64(step) & _MASK
    tag = ((uint64(step) >> _U32) << _U20) | uint64(stream)
    for i in range(d):
        for b in range(batch):
            w0, _, _, _ = _philox(uint64(i), step_low, (uint64(first) + uint64(b)) & _MASK, tag, k0, k1)
            out[i, b] = (np.float64(w0) + 0.5) / 4294967296.0


def _key(seed: int) -> tuple[np.uint64, np.uint64]:
    return np.uint64(seed & 0xFFFFFFFF), np.uint64((seed >> 32) & 0xFFFFFFFF)


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

    Source: Salmon et al. 2011 (Philox); Box and Muller 1958.
    """
    _fill(out, np.empty((4, out.shape[1]), np.uint64), *_key(seed), stream, first, step)
    return out


def uniforms(out: np.ndarray, seed: int, stream: int, first: int, step: int) -> np.ndarray:
    """Fill `out`, (d, batch), with uniforms in (0, 1); arguments as for `normals`."""
    _fill_uniform(out, *_key(seed), stream, first, step)
    return out
