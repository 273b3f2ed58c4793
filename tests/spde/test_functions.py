"""The branch-free elementary functions: accuracy, special values, vectorisation."""

import math
import re
from functools import cache

import mpmath
import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from spde.expressions import RESERVED
from spde.functions import FUNCTIONS, fma, power, rsqrt, wide_vectors

EXACT = {
    "abs": mpmath.fabs,
    **{name: getattr(mpmath, name) for name in FUNCTIONS if name != "abs"},
}
# largest error in units in the last place
BOUND = {
    "sin": 2.0,
    "cos": 2.0,
    "tan": 3.0,
    "sinh": 2.5,
    "cosh": 2.0,
    "tanh": 2.5,
    "exp": 1.25,
    "log": 1.0,
    "sqrt": 0.5,
    "abs": 0.0,
    "sign": 0.0,
}
# numpy's own values, nan for nan
SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 5e-324, -5e-324, 1e-300, -1e-300, 2.5e-308, 1e-10]


@cache
def over_array(name):
    """The function in a loop, as a kernel has it."""
    function = FUNCTIONS[name]

    @njit(error_model="numpy")
    def loop(values, out):
        for i in range(len(values)):
            out[i] = function(values[i])

    return loop


def evaluate(name, values):
    values = np.asarray(values, dtype=float)
    out = np.empty_like(values)
    over_array(name)(values, out)
    return out


def arguments(name):
    random = np.random.default_rng(4)
    near_zero = 10.0 ** random.uniform(-300, 0, 200) * random.choice([-1, 1], 200)
    if name in ("sin", "cos", "tan"):
        quarters = np.arange(-200, 200) * (math.pi / 2)
        far = [random.uniform(-size, size, 400) for size in (4.0, 1e4, 1e9, 2.0**48)]
        return np.concatenate([near_zero, quarters, np.nextafter(quarters, 7.0), *far])
    if name in ("log", "sqrt"):
        about_one = 1 + random.uniform(-1, 1, 400) * 10.0 ** random.uniform(-16, 0, 400)
        return np.concatenate([2.0 ** random.uniform(-1074, 1024, 800), random.uniform(0.5, 2, 400), about_one])
    ends = np.concatenate([random.uniform(*ends, 200) for ends in ((-746, -700), (709, 711), (19, 23))])
    return np.concatenate([near_zero, ends, random.uniform(-1, 1, 400), random.uniform(-700, 700, 400)])


def test_every_function_of_expressions_is_there():
    assert set(FUNCTIONS) - {"sign"} == {name for name in RESERVED if name in EXACT}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_is_a_few_units_in_the_last_place(name):
    largest, values = float(np.finfo(float).max), arguments(name)
    for x, found in zip(values, evaluate(name, values)):
        with mpmath.workprec(200):
            exact = EXACT[name](mpmath.mpf(float(x)))
            rounded = float(exact)
            if abs(rounded) > largest:
                assert found == rounded, x
            else:
                assert abs(mpmath.mpf(float(found)) - exact) <= BOUND[name] * mpmath.mpf(math.ulp(rounded)), x


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_are_those_of_numpy(name):
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(np.array(SPECIAL))
    found = evaluate(name, SPECIAL)
    np.testing.assert_array_max_ulp(found[~np.isnan(expected)], expected[~np.isnan(expected)], 3)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    zero = expected == 0
    np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(expected[zero]))


def test_the_ends_of_the_ranges():
    assert evaluate("exp", [709.79, 1e300, -745.2, -1e300]).tolist() == [math.inf, math.inf, 0.0, 0.0]
    assert evaluate("sinh", [710.48, -710.48, 1e300]).tolist() == [math.inf, -math.inf, math.inf]
    assert evaluate("cosh", [710.48, -710.48, 1e300]).tolist() == [math.inf, math.inf, math.inf]
    assert evaluate("tanh", [19.1, -19.1, 1e300]).tolist() == [1.0, -1.0, 1.0]
    assert evaluate("log", [-1.0, -math.inf]).tolist() == pytest.approx([math.nan, math.nan], nan_ok=True)
    # the multiple of pi that is taken off is no longer certain: no number rather than a wrong one
    for name in ("sin", "cos", "tan"):
        assert np.isnan(evaluate(name, [2.0**48, -(2.0**60), 1e300])).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_do_not_depend_on_the_place_in_the_array(name):
    values = np.random.default_rng(5).uniform(0.01, 30, 67)
    whole = evaluate(name, values)
    for width in (1, 2, 3, 7, 9, 33):
        np.testing.assert_array_equal(evaluate(name, values[-width:]), whole[-width:])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_loop_over_an_array_vectorises_without_the_c_library(name):
    evaluate(name, [1.0])
    (code,) = over_array(name).inspect_llvm().values()
    assert re.search(r"<\d+ x double>", code)
    called = set(re.findall(r"call [^@\n]*@\"?([\w.]+)", code))
    assert not called & {"sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "log", "sqrt", "fabs", "fma", "pow"}


@pytest.mark.parametrize("exponent", [-64, -3, -2, -1, 0, 1, 2, 3, 5, 6, 7, 10, 31, 64])
def test_power_is_the_integer_power(exponent):
    kernel = njit(lambda x: power(x, exponent))
    for x in (0.7, -1.3, 1.01):
        assert kernel(x) == pytest.approx(x**exponent, rel=abs(exponent) * 2e-16 + 1e-300)
    assert kernel(math.nan) == 1.0 if exponent == 0 else math.isnan(kernel(math.nan))


def test_power_refuses_what_it_cannot_unroll():
    with pytest.raises(TypingError, match="literal"):
        njit(lambda x, n: power(x, n))(1.0, 2)
    with pytest.raises(TypingError, match="at most 64"):
        njit(lambda x: power(x, 65))(1.0)


def test_fma_rounds_once():
    kernel = njit(lambda a, b, c: fma(a, b, c))
    x = 1 + 2.0**-30
    assert kernel(x, x, -(1 + 2.0**-29)) == 2.0**-60


def test_wide_vectors_is_said_of_the_one_function():
    @njit
    def kernel(values, out):
        wide_vectors()
        for i in range(len(values)):
            out[i] = 2.0 * values[i]

    out = np.empty(3)
    kernel(np.arange(3.0), out)
    assert out.tolist() == [0.0, 2.0, 4.0]
    (code,) = kernel.inspect_llvm().values()
    assert '"prefer-vector-width"="512"' in code


def test_reciprocal_square_root_is_good_to_two_units_in_the_last_place():
    x = np.exp(np.random.default_rng(3).uniform(-600, 600, 20_000))
    exact = 1 / np.sqrt(x.astype(np.longdouble))
    errors = np.abs((np.array([rsqrt(value) for value in x]) - exact) / np.spacing(exact.astype(float)))
    assert errors.max() < 3
