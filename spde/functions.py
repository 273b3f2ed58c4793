"""Elementary functions for compiled kernels: branch-free, so that a loop over an array vectorises.

LLVM cannot vectorise a loop that calls the C library. These functions are straight-line arithmetic instead:
argument reduction by fused multiply-add, a minimax polynomial, and selections for the special values. They are
inlined into the kernel that calls them and return the same bits in a vector lane as in a scalar remainder, on any
processor, because every contraction is written as `fma`.

Largest errors found, in units in the last place: sin and cos 1.8, tan 2.9 (all for |x| < 2**48, nan beyond); exp 1.1;
log 0.9; sinh 2.3; cosh 1.5; tanh 2.2; sqrt and abs are exact. Zeros keep their sign, nan and infinities propagate as
in C, overflow gives inf, and underflow subnormal numbers and 0.

Source: Cody and Waite 1980 (argument reduction), Freely Distributable LIBM (logarithm), Remez polynomials.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import types, uint64
from numba.core.errors import RequireLiteralValue, TypingError
from numba.extending import intrinsic

from spde.compiling import njit

# adding 1.5 * 2**52 rounds to the nearest integer, which then stands in the low bits of the double
_ROUND = 6755399441055744.0
_TWO52 = 4503599627370496.0
_REDUCIBLE = 281474976710656.0  # 2**48: beyond, the multiple of pi is no longer known to a fraction
_LARGEST_POWER = 64
_RSQRT_GUESS = np.uint64(0x5FE6EB50C7B537A9)

# in parts that are all positive, so that -0.0 less zero times them stays -0.0
_PI = (3.141592653589793, 1.224646799147353e-16, 2.165713347843828e-32)
_HALF_PI = (1.5707963267948966, 6.123233995736765e-17, 1.082856673921914e-32)
_LN2 = (0.6931471805599453, 2.3190468138462996e-17)

# minimax polynomials, lowest power first
_SIN_WIDE = (  # (sin(r) / r - 1) / r**2 in r**2, |r| <= pi/2
    -0.16666666666666666,
    0.008333333333333219,
    -0.00019841269841217482,
    2.7557319212457893e-06,
    -2.5052106986714886e-08,
    1.605894513808075e-10,
    -7.643126292846623e-13,
    2.7225338744365764e-15,
)
_SIN = (  # the same, |r| <= pi/4
    -0.16666666666666638,
    0.008333333333323775,
    -0.00019841269830704622,
    2.755731395921818e-06,
    -2.505079507983726e-08,
    1.5898725046107612e-10,
)
_COS = (  # (cos(r) - 1 + r**2 / 2) / r**4 in r**2, |r| <= pi/4
    0.041666666666666616,
    -0.0013888888888876133,
    2.4801587290576087e-05,
    -2.7557314634339796e-07,
    2.0875758059628045e-09,
    -1.1361303049880415e-11,
)
_EXP = (  # (exp(r) - 1 - r) / r**2 in r, |r| <= log(2) / 2
    0.5000000000000012,
    0.166666666666667,
    0.04166666666651542,
    0.008333333333307186,
    0.0013888888947015988,
    0.00019841269917417404,
    2.480148994217131e-05,
    2.755721627304302e-06,
    2.76312803434162e-07,
    2.51178695731022e-08,
)
_LOG = (  # (2 atanh(s) / s - 2) / s**2 in s**2, |s| <= 0.1716
    0.6666666666666698,
    0.399999999996139,
    0.2857142870330203,
    0.22222202207665975,
    0.18183390147451958,
    0.1531821057966122,
    0.14756738115969087,
)


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c rounded once; the same bits with or without hardware for it."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@intrinsic
def polynomial(typingctx, x, coefficients):
    """c[0] + c[1] x + ..., c a tuple of doubles: even and odd powers as two chains of fma, half as long as Horner's."""

    def generate(context, builder, signature, arguments):
        x, packed = arguments
        c = [builder.extract_value(packed, i) for i in range(len(coefficients))]
        square = builder.fmul(x, x)

        def horner(terms):
            value = terms[-1]
            for term in reversed(terms[:-1]):
                value = builder.fma(value, square, term)
            return value

        return builder.fma(horner(c[1::2]), x, horner(c[0::2]))

    return types.float64(types.float64, types.UniTuple(types.float64, len(coefficients))), generate


@intrinsic
def bits_of(typingctx, x):
    """The bits of a double as uint64."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.uint64(types.float64), generate


@intrinsic
def from_bits(typingctx, bits):
    """The double with these bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.uint64), generate


@intrinsic
def _root(typingctx, x):
    """The instruction; `math.sqrt` is the C library's function, which also sets errno."""

    def generate(context, builder, signature, arguments):
        function = builder.module.declare_intrinsic("llvm.sqrt", [ir.DoubleType()])
        return builder.call(function, arguments)

    return types.float64(types.float64), generate


@intrinsic
def inlined(typingctx):
    """First statement of a function that LLVM has to inline into its callers, however long it is."""

    def generate(context, builder, signature, arguments):
        builder.function.attributes.add("alwaysinline")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def called(typingctx):
    """First statement of a function that LLVM must not copy into its callers: long ones would compile once for each."""

    def generate(context, builder, signature, arguments):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def wide_vectors(typingctx):
    """First statement of a kernel in which LLVM may use 512-bit vectors where the processor has them.

    By default LLVM stops at 256 bits on processors that lowered their clock for 512 (2017 to 2020). Kernels that
    are bound by arithmetic gain even there. It is a property of this one function (clang's
    -mprefer-vector-width=512), not of the process, and is lost on inlining into a function without it.
    """

    def generate(context, builder, signature, arguments):
        # llvmlite's own `add` knows attributes without a value only
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic(prefer_literal=True)
def power(typingctx, x, exponent):
    """x**exponent by repeated squaring, the exponent an integer literal in -64..64."""
    if not isinstance(exponent, types.IntegerLiteral):
        raise RequireLiteralValue("power takes an integer literal as exponent")
    n = exponent.literal_value
    if abs(n) > _LARGEST_POWER:
        raise TypingError(f"power takes an exponent of at most {_LARGEST_POWER}, found {n}")

    def generate(context, builder, signature, arguments):
        one = ir.Constant(ir.DoubleType(), 1.0)
        value, square, rest = None, arguments[0], abs(n)
        while rest:
            if rest & 1:
                value = square if value is None else builder.fmul(value, square)
            rest >>= 1
            square = builder.fmul(square, square) if rest else square
        value = one if value is None else value
        return builder.fdiv(one, value) if n < 0 else value

    return types.float64(types.float64, exponent), generate


@njit(cache=True, error_model="numpy")
def _two_to(n):
    """2**n for an integer-valued double, -1022 <= n <= 1023."""
    inlined()
    return from_bits(bits_of(n + (_TWO52 + 1023.0)) << uint64(52))


@njit(cache=True, error_model="numpy")
def _flipped(x, odd):
    """x with its sign turned when the lowest bit of `odd` is set."""
    inlined()
    return from_bits(bits_of(x) ^ (odd << uint64(63)))


@njit(cache=True, error_model="numpy")
def _less(x, n, part):
    """x - n * (part[0] + part[1] + part[2]): the first product cancels exactly, the others round once."""
    inlined()
    return fma(-n, part[2], fma(-n, part[1], fma(-n, part[0], x)))


@njit(cache=True, error_model="numpy")
def _sine(r, coefficients):
    """Sine of a reduced argument; the sum would lose the sign of -0.0."""
    inlined()
    z = r * r
    return math.copysign(fma(r * z, polynomial(z, coefficients), r), r)


@njit(cache=True, error_model="numpy")
def sin(x):
    """Sine, |x| < 2**48."""
    inlined()
    turned = fma(x, 1.0 / math.pi, _ROUND)
    r = _less(x, turned - _ROUND, _PI)
    value = _flipped(_sine(r, _SIN_WIDE), bits_of(turned))
    return value if abs(x) < _REDUCIBLE else math.nan


@njit(cache=True, error_model="numpy")
def cos(x):
    """Cosine, |x| < 2**48: the sine about the nearest zero, an odd multiple of pi/2."""
    inlined()
    turned = fma(x, 1.0 / math.pi, -0.5) + _ROUND
    r = _less(x, (turned - _ROUND) + 0.5, _PI)
    value = _flipped(_sine(r, _SIN_WIDE), ~bits_of(turned))
    return value if abs(x) < _REDUCIBLE else math.nan


@njit(cache=True, error_model="numpy")
def tan(x):
    """Tangent, |x| < 2**48."""
    inlined()
    turned = fma(x, 2.0 / math.pi, _ROUND)
    r = _less(x, turned - _ROUND, _HALF_PI)
    z = r * r
    sine = _sine(r, _SIN)
    cosine = fma(z * z, polynomial(z, _COS), fma(-0.5, z, 1.0))
    odd = (bits_of(turned) & uint64(1)) == uint64(1)
    value = (-cosine if odd else sine) / (sine if odd else cosine)
    return value if abs(x) < _REDUCIBLE else math.nan


@njit(cache=True, error_model="numpy")
def _reduced(x):
    """n and exp(r) - 1 with x = n log(2) + r."""
    inlined()
    n = fma(x, 1.0 / _LN2[0], _ROUND) - _ROUND
    r = fma(-n, _LN2[1], fma(-n, _LN2[0], x))
    return n, fma(r * r, polynomial(r, _EXP), r)


@njit(cache=True, error_model="numpy")
def exp(x):
    """Exponential; 0 below -745.1, inf above 709.8."""
    inlined()
    # comparisons that are false for nan let it through
    clamped = -746.0 if x < -746.0 else (710.0 if x > 710.0 else x)
    n, rest = _reduced(clamped)
    # in two factors: 2**n itself overflows, or is subnormal, while exp(x) is finite
    half = fma(n, 0.5, _ROUND) - _ROUND
    return (1.0 + rest) * _two_to(half) * _two_to(n - half)


@njit(cache=True, error_model="numpy")
def _expm1_quarter(x):
    """(exp(x) - 1) / 4, 0 <= x <= 710.5: accurate also near 0."""
    inlined()
    n, rest = _reduced(x)
    scale = _two_to(n - 2.0)
    return fma(scale, rest, scale - 0.25)


@njit(cache=True, error_model="numpy")
def sinh(x):
    """Hyperbolic sine, (E + E / (E + 1)) / 2 with E = exp(|x|) - 1."""
    inlined()
    size = abs(x)
    quarter = _expm1_quarter(710.5 if size > 710.5 else size)
    bounded = 1e300 if quarter > 1e300 else quarter
    return math.copysign(2.0 * (quarter + bounded / fma(4.0, bounded, 1.0)), x)


@njit(cache=True, error_model="numpy")
def cosh(x):
    """Hyperbolic cosine."""
    inlined()
    size = abs(x)
    n, rest = _reduced(710.5 if size > 710.5 else size)
    quarter = (1.0 + rest) * _two_to(n - 2.0)
    return 2.0 * (quarter + 0.0625 / quarter)


@njit(cache=True, error_model="numpy")
def tanh(x):
    """Hyperbolic tangent, E / (E + 2) with E = exp(2 |x|) - 1."""
    inlined()
    size = abs(x)
    quarter = _expm1_quarter(40.0 if size > 20.0 else 2.0 * size)
    return math.copysign(quarter / (quarter + 0.5), x)


@njit(cache=True, error_model="numpy")
def log(x):
    """Natural logarithm; -inf at 0, nan below."""
    inlined()
    subnormal = x < 2.2250738585072014e-308
    bits = bits_of(x * 18014398509481984.0 if subnormal else x)
    # x = 2**n (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)): the bits of sqrt(1/2) are where n steps
    offset = bits - uint64(0x3FE6A09E667F3BCD)
    biased = offset + uint64(1024 << 52)
    n = from_bits((biased >> uint64(52)) | uint64(0x4330000000000000)) - (_TWO52 + (1078.0 if subnormal else 1024.0))
    f = from_bits(bits - (offset & uint64(0xFFF0000000000000))) - 1.0
    s = f / (2.0 + f)
    z = s * s
    half = 0.5 * f * f
    tail = fma(s, fma(z, polynomial(z, _LOG), half), n * _LN2[1])
    value = fma(n, _LN2[0], f - (half - tail))
    value = value if x > 0.0 else (-math.inf if x == 0.0 else math.nan)
    return value if x < math.inf else x


@njit(cache=True, error_model="numpy")
def sqrt(x):
    """Square root; nan below 0."""
    inlined()
    return _root(x)


@njit(cache=True, error_model="numpy")
def rsqrt(x):
    """1 / sqrt(x) of a positive normal number, to two units in the last place: multiplications alone.

    Newton's method from the guess that half the exponent gives (Lomont 2003); root and division take several times as
    long in vectors.
    """
    inlined()
    y = from_bits(_RSQRT_GUESS - (bits_of(x) >> uint64(1)))
    half = 0.5 * x
    for _ in range(4):
        y = y * fma(-half * y, y, 1.5)
    return y


@njit(cache=True, error_model="numpy")
def absolute(x):
    """Absolute value."""
    inlined()
    return abs(x)


@njit(cache=True, error_model="numpy")
def sign(x):
    """-1, 0 or 1: what the derivative of `abs` is written with."""
    inlined()
    return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else x + 0.0)


FUNCTIONS: dict[str, Callable] = {
    "sin": sin,
    "cos": cos,
    "tan": tan,
    "sinh": sinh,
    "cosh": cosh,
    "tanh": tanh,
    "exp": exp,
    "log": log,
    "sqrt": sqrt,
    "abs": absolute,
    "sign": sign,
}
"""Names as expressions write them, and `sign` for derivatives -> functions of one double for compiled kernels."""
