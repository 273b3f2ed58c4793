"""Gaussian factors of linear systems that are killed, among the functions in whose span predictions are made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import sums

from kswgd_hpc import feynman_kac
from kswgd_hpc.config import parse
from kswgd_hpc.plan import build
from spde.exact import LinearLaw
from spde.exact import feynman_kac as closed_form
from spde.riccati import Quadratic

FIELD = """
system:
  kind: spde
  equation: advection_diffusion
  parameters: {nu: 0.3, damping: 1.0, advection: ADVECTION}
  domain: {length: 2.0, points: 12, boundary: periodic}
  noise: {amplitude: 0.5}
ensemble: {trajectories: 4, initial: {kind: gaussian}, time_step: 0.01, duration: 1, lag_time: 0.1}
koopman: {estimator: edmd, coordinates: {kind: modes, count: 2}, dictionary: {kind: polynomial, degree: 2}, modes: 3}
validation:
  feynman_kac:
    - {name: square, observable: mean(u**2), killing: 3*mean(u**2), initial: {kind: constant, value: 1.0}, times: [1]}
    - {name: exponential, observable: exp(mean(u)), initial: {kind: constant, value: 1.0}, times: [1]}
    - {name: eigenvalue, kind: principal_eigenvalue, killing: -0.2*mean(u)**2}
"""
COUPLED = """
system: {kind: diffusion, variables: [x, y], drift: [-x + 0.5*y, -0.5*x - 2*y], diffusion: [[1.0, 0.3], [0, 0.7]]}
ensemble: {trajectories: 4, initial: {kind: gaussian}, time_step: 0.01, duration: 1, lag_time: 0.1}
koopman: {estimator: edmd, dictionary: {kind: polynomial, degree: 2}, modes: 3}
validation:
  feynman_kac:
    - {name: row, observable: x, killing: x**2 + x*y + y**2, initial: {kind: constant, value: 1.0}, times: [1]}
    - {name: resolvent, kind: resolvent, source: x*y, killing: 0.5 + x**2, initial: {kind: constant, value: 1.0}}
"""


@pytest.mark.parametrize("text", [FIELD.replace("ADVECTION", "0.0"), FIELD.replace("ADVECTION", "0.7"), COUPLED])
def test_the_generator_acts_on_factors_as_differences_of_their_values_say(text):
    plan = build(parse(text))
    system, factors = plan.system, [f for f in plan.smooth if f.text.startswith("factor")]
    assert len(factors) > 4
    d = system.dimension
    states = 0.5 * np.random.default_rng(0).normal(size=(d, 3))
    drift, h = system.drift(states), 1e-3
    M = plan.mobility if np.ndim(plan.mobility) == 2 else np.diag(np.broadcast_to(plan.mobility, d))
    axes, vectors = np.linalg.eigh(M)
    for factor in factors:
        value = factor.value(states)
        assert value.shape == (3, factor.size)
        found = (factor.value(states + h * drift) - factor.value(states - h * drift)) / (2 * h)
        for size, unit in zip(axes, h * vectors.T):
            ends = factor.value(states + unit[:, None]) + factor.value(states - unit[:, None])
            found += size * (ends - 2 * value) / h**2
        assert factor.generator(states) == pytest.approx(found, rel=1e-4, abs=1e-4), factor.text


HEAT = """
system:
  kind: spde
  equation: heat
  parameters: {nu: 0.2, damping: 1.0}
  domain: {length: 1.0, points: 64, boundary: neumann}
  discretization: spectral
  noise: {amplitude: 1.0}
ensemble: {trajectories: 64, initial: {kind: constant, value: 0}, time_step: 0.02, burn_in: 4, duration: 20,
           lag_time: 0.1}
koopman: {coordinates: {kind: modes, count: 3}, dictionary: {kind: polynomial, degree: 2}}
validation:
  feynman_kac:
    - {name: linear, observable: mean(u), killing: mean(u**2), initial: START, times: TIMES}
    - {name: square, observable: mean(u**2), killing: mean(u**2), initial: START, times: TIMES}
    - {name: exponential, observable: exp(mean(u)), killing: mean(u**2), initial: START, times: TIMES}
""".replace("START", "{kind: constant, value: 2.0}").replace("TIMES", "[0.1, 0.3, 1, 2]")


def test_killing_on_the_way_from_far_out_is_predicted_by_polynomials_of_degree_two():
    # three deviations out; without the factors budgets were up to 72 % of the values
    config, plan, totals = sums(HEAT)
    sample = replace(totals.sample, pairs=False)
    features = feynman_kac.Features(sample, None, plan.smooth, plan.system.drift, plan.mobility)
    found = feynman_kac.predict(plan.cases, features, config.ensemble.lag_time, 1e-9, config.seed)
    law = LinearLaw(1.0 + 0.2 * (np.pi * np.arange(64)) ** 2, 1.0)
    start = np.where(np.arange(64) == 0, 2.0, 0.0)
    mean, square = Quadratic(0.0, np.eye(64)[0], 0.0), Quadratic(0.0, 0.0, 1.0)
    kernels = [closed_form(law, square, time) for time in (0.1, 0.3, 1, 2)]
    truths = {
        "linear": [kernel.polynomial(start, mean) for kernel in kernels],
        "square": [kernel.polynomial(start, square) for kernel in kernels],
        "exponential": [kernel.exponential(start, mean) for kernel in kernels],
    }
    for name, truth in truths.items():
        budget = found[name].budget.total
        assert (np.abs(found[name].values - truth) < 2 * budget).all()
        assert (budget < 0.005 * np.abs(truth)).all()
