"""The mobility of recorded trajectories, from their increments."""

from __future__ import annotations

import numpy as np
import pytest

from kswgd_hpc.config import parse
from kswgd_hpc.errors import ConfigurationError, DataError
from kswgd_hpc.plan import build

CONFIGURATION = """
system: {kind: data, path: PATH, sampling_interval: INTERVAL, mobility: auto}
ensemble: {lag_time: 0.4}
koopman: {estimator: reversible, dictionary: {kind: gaussian, size: 20}}
kswgd: {particles: 100, initial: {kind: gaussian}}
output: {directory: out}
"""


def recorded(directory, interval: float, shape=(400, 200)) -> str:
    """Configuration of two independent linear processes dX = -k X dt + sqrt(2 M) dW, k = 1, 2 and M = 0.5, 2."""
    rng, k, mobility = np.random.default_rng(4), np.array([1.0, 2.0]), np.array([0.5, 2.0])
    decay, x = np.exp(-k * interval), rng.normal(size=(shape[0], 2)) * np.sqrt(mobility / k)
    path = []
    for _ in range(shape[1]):
        path.append(x)
        x = decay * x + np.sqrt(mobility / k * (1 - decay**2)) * rng.normal(size=x.shape)
    np.save(directory / "path.npy", np.stack(path, axis=1))
    return CONFIGURATION.replace("PATH", str(directory / "path.npy")).replace("INTERVAL", str(interval))


def test_increments_tell_the_mobility(tmp_path):
    found = build(parse(recorded(tmp_path, 0.05))).mobility
    # mean squares of 80,000 increments: 1 %; without the correction 2.5 and 5 % less
    np.testing.assert_allclose(found, [0.5, 2.0], rtol=0.02)


def test_records_too_far_apart_are_refused(tmp_path):
    with pytest.raises(DataError, match="too far from each other"):
        build(parse(recorded(tmp_path, 0.4)))


def test_samples_have_no_increments(tmp_path):
    np.save(tmp_path / "path.npy", np.random.default_rng(0).normal(size=(50, 2)))
    text = CONFIGURATION.replace("PATH", str(tmp_path / "path.npy")).replace("INTERVAL", "0.1")
    with pytest.raises(DataError, match="trajectories"):
        build(parse(text.replace("reversible", "dirichlet").replace("ensemble: {lag_time: 0.4}", "")))


def test_another_word_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        parse(recorded(tmp_path, 0.05, (2, 3)).replace("mobility: auto", "mobility: automatic"))
    assert "system.mobility" in str(caught.value) and "\n" not in str(caught.value)
