"""Time stepping keeps the invariant law: started from exact fields, averages stay at the transfer matrix's values."""

from functools import cache

import numpy as np
import pytest
from fields import named

from spde.domain import Interval
from spde.random import uniforms
from spde.stepping import Noise
from spde.transfer_matrix import invariant_law

FIELDS = 6000


@cache
def exact(boundary):
    """Law of the metastable Allen-Cahn interval, and fields drawn from it (n, FIELDS)."""
    law = invariant_law("(u**2-1)**2/4", 2.5, 24, boundary, 1.0, 0.5)
    return law, law.sample(uniforms(np.empty((law.uniforms_per_sample, FIELDS)), 7, 0, 0, 0))


def judged(boundary, scheme, time_step, time=5.0):
    """Deviation of <u^2> and of the variances of the first coefficients from the exact law, and standard errors."""
    law, start = exact(boundary)
    equation = named("allen_cahn", Interval(2.5, 24, boundary), 0.5)
    stepper, steps = equation.stepper(time_step, scheme), round(time / time_step)
    end = np.concatenate(
        [stepper.advance(start[:, i : i + 60], Noise(3, 1, i), 0, steps) for i in range(0, FIELDS, 60)], axis=1
    )
    samples = np.vstack([(end**2).mean(axis=0), equation.to_modes(end)[1:4] ** 2])
    expected = np.concatenate([[law.moment(2).mean()], law.mode_variances[1:4]])
    return samples.mean(axis=1) - expected, samples.std(axis=1) / np.sqrt(FIELDS), expected


@pytest.mark.parametrize("boundary", ["neumann", "dirichlet", "periodic"])
def test_second_order_schemes_keep_the_law_within_three_standard_errors(boundary):
    deviation, error, _ = judged(boundary, "exponential_heun", 0.04)
    assert (np.abs(deviation) < 3 * error).all()


def test_strang_splitting_keeps_the_law_within_three_standard_errors():
    deviation, error, _ = judged("neumann", "strang_splitting", 0.04)
    assert (np.abs(deviation) < 3 * error).all()


def test_first_order_schemes_have_their_stated_bias():
    """Semi-implicit steps damp mode k by 1 / (1 + a h / 2); Lie's splitting takes 1.5 h off the mean square."""
    deviation, error, expected = judged("neumann", "semi_implicit", 0.04)
    rates = named("allen_cahn", Interval(2.5, 24), 0.5).rates[1:4] + 2.0  # about the wells
    damped = expected[1:] / (1 + rates * 0.04 / 2) - expected[1:]
    assert (np.abs(deviation[1:] - damped) < 3 * error[1:] + 0.25 * np.abs(damped)).all()
    assert (np.abs(deviation[1:]) > 3 * error[1:]).all()
    deviation, error, _ = judged("neumann", "lie_splitting", 0.04)
    assert abs(deviation[0] + 1.5 * 0.04) < 3 * error[0] + 0.01
