"""How pairs move predictions, to first order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import sums

from kswgd_hpc import feynman_kac
from kswgd_hpc.feynman_kac import budget, influence
from kswgd_hpc.statistics import standard_error

WELL = """
system: {kind: diffusion, variables: [x], potential: (x**2 - 1)**2, temperature: 0.5}
ensemble: {trajectories: 64, initial: {kind: uniform, low: -1.5, high: 1.5}, time_step: 0.01, burn_in: 4,
           duration: 10, lag_time: 0.2}
koopman: {dictionary: {kind: gaussian, size: 12}, modes: 4}
validation:
  feynman_kac:
    - {name: jump, observable: x > 0.2, initial: START, times: [0.1, 0.5, 2]}
    - {name: first, kind: hitting_probability, target: x < 0, initial: START, times: [0.1, 0.5, 2]}
    - {name: waiting, kind: hitting_time, target: x < 0, initial: START}
    - {name: eigenvalue, kind: principal_eigenvalue, killing: x**2}
""".replace("START", "{kind: constant, value: 1.0}")
FIELD = """
system:
  kind: spde
  equation: allen_cahn
  domain: {length: 2.5, points: 16, boundary: neumann}
  noise: {amplitude: 0.7}
ensemble: {trajectories: 64, initial: {kind: gaussian}, time_step: 0.01, burn_in: 10, duration: 20, lag_time: 0.5}
koopman: {coordinates: {kind: modes, count: 3}, dictionary: {kind: gaussian, size: 100}, modes: 4}
validation:
  feynman_kac:
    - {name: crossing, kind: hitting_probability, target: mean(u) < 0, initial: {kind: constant, value: 1.0},
       times: [2, 10, 40]}
"""


def _predictions(config, plan, sample) -> dict:
    features = feynman_kac.Features(sample, None, plan.smooth, plan.system.drift, plan.mobility)
    return feynman_kac.predict(plan.cases, features, config.ensemble.lag_time, 1e-9, config.seed)


def test_sampling_errors_are_those_of_predictions_without_each_block(monkeypatch):
    monkeypatch.setattr(budget, "_MOST_LEVERAGE", 0.0)  # of a jackknife to first order
    config, plan, totals = sums(WELL)
    whole = replace(totals.sample, pairs=False)
    found, count = _predictions(config, plan, whole), len(whole.blocks)
    others = [
        _predictions(config, plan, replace(whole, blocks=whole.blocks[:i] + whole.blocks[i + 1 :]))
        for i in range(count)
    ]
    for name, prediction in found.items():
        without = np.array([other[name].values for other in others])
        expected = standard_error((prediction.values - without) * (count - 1) / count)
        assert prediction.budget.sampling == pytest.approx(expected, rel=0.15), name


def test_the_error_of_a_first_passage_does_not_come_from_its_jump_at_the_start(monkeypatch):
    # with 16 nodes it was up to ten times as large as with many
    monkeypatch.setattr(budget, "_MOST_LEVERAGE", 0.0)
    config, plan, totals = sums(FIELD)
    sample = replace(totals.sample, pairs=False)
    found = _predictions(config, plan, sample)["crossing"].budget.sampling
    monkeypatch.setattr(influence, "_NODES", 200)
    assert found == pytest.approx(_predictions(config, plan, sample)["crossing"].budget.sampling, rel=0.1)
