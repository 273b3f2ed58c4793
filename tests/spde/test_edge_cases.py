"""Formulas and numbers at the edge of what is accepted: refused by name, or right."""

from __future__ import annotations

import numpy as np
import pytest
from fields import custom, named
from scipy.integrate import trapezoid

from spde.diffusions import Diffusion, langevin
from spde.domain import Interval
from spde.equations import SemilinearEquation
from spde.errors import ExpressionError
from spde.expressions import Expression
from spde.stepping import Noise, PathIntegral


def equation(reaction: str) -> SemilinearEquation:
    return custom(Interval(1.0, 4), 1.0, reaction, 1.0)


def test_path_integral_of_a_bare_variable_is_the_trapezoidal_rule():
    system = Diffusion(("x",), ["-x"], np.eye(1))
    rate, states = Expression("x", ("x",), reductions=True), np.zeros((1, 3))
    path, seen = PathIntegral(lambda s: system.observe(rate, s), states, 0.5), [states[0]]

    def watch(now):
        path.watch(now)
        seen.extend(now[:, 0].copy())

    system.stepper(0.5).advance(states, Noise(1, 2, 0), 0, 6, watch)
    np.testing.assert_allclose(path.value, trapezoid(seen, dx=0.5, axis=0))


@pytest.mark.parametrize("n", [4, 7, 8])
def test_periodic_spectral_cubic_is_dealiased_for_even_and_odd_n(n):
    small, large = (named("allen_cahn", Interval(2.0, m, "periodic", "spectral"), 1.0, {}) for m in (n, 8 * n))
    modes = np.random.default_rng(0).normal(size=(n, 1))
    padded = np.zeros((8 * n, 1))
    padded[:n] = modes
    np.testing.assert_allclose(small.force(modes), large.force(padded)[:n], atol=1e-11)


@pytest.mark.parametrize("text", ["1" * 400, "u + 1" + "0" * 320, "0x" + "f" * 300])
def test_integers_beyond_double_precision_are_refused(text):
    with pytest.raises(ExpressionError):
        Expression(text, ("u",))


@pytest.mark.parametrize("terms", [90, 990])
def test_a_text_that_is_accepted_can_be_evaluated(terms):
    text = "+".join(["u"] * terms)
    if terms > 100:
        with pytest.raises(ExpressionError, match="nested too deeply"):
            Expression(text, ("u",))
    else:
        assert Expression(text, ("u",))({"u": np.ones(2)}).tolist() == [terms, terms]
        assert str(Expression(text, ("u",)).symbolic()) == f"{terms}*u"


@pytest.mark.parametrize("text", ["(((u+1)**64)**64)**64", "(u**9)**9", "u**65", "(u+1)**60*(u-1)**60"])
def test_nested_powers_are_bounded_together(text):
    with pytest.raises(ExpressionError, match="exponent beyond"):
        Expression(text, ("u",))


@pytest.mark.parametrize("text", ["u + log(0)", "u + sqrt(-1)", "u + 1/(u - u)", "u/(1 - 1)", "u + log(-pi)"])
def test_formulas_that_are_not_finite_or_real_are_refused(text):
    with pytest.raises(ExpressionError):
        equation(text)
    with pytest.raises(ExpressionError):
        langevin(("u",), text, 1.0)


@pytest.mark.parametrize("text", ["sqrt(u - 1)", "(u - 1)**1.5"])
def test_formulas_that_are_real_only_in_part_are_evaluated_there(text):
    values = equation(text).drift(np.full((4, 1), 2.0))
    np.testing.assert_allclose(values, 1.0)


@pytest.mark.parametrize("text", ["sin(1e14*u)", "1e19*x*u", "u*x + 20000000000000000000*x"])
def test_large_constants_compile(text):
    assert np.isfinite(equation(text).drift(np.full((4, 1), 2.0))).all()


def test_a_linear_reaction_in_decimal_terms_is_linear():
    assert equation("-0.1*u - 0.2*u").is_linear
