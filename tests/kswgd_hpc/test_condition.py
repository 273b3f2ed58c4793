"""Particles given what was observed, against tilted Gaussians that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI
from support import run_command

from kswgd_hpc import pipeline
from kswgd_hpc.config import parse
from kswgd_hpc.errors import ConfigurationError, DataError
from kswgd_hpc.plan import build, prepare
from kswgd_hpc.storage import read_results

TEXT = """
seed: 3
system: {kind: diffusion, variables: [x], potential: x**2/2, temperature: 1.0}
ensemble: {trajectories: 256, initial: {kind: gaussian}, time_step: 0.01, burn_in: 3, duration: 10, stride: 0.2}
koopman: {estimator: dirichlet, dictionary: {kind: gaussian, size: 30}, modes: 12, time_step_error: false}
kswgd:
  particles: 1000
  initial: {kind: gaussian, mean: 0.0, deviation: 0.5}
  condition: CONDITION
output: {directory: OUT}
"""


def run(directory: Path, condition: str, comm=MPI.COMM_SELF, **changes: str) -> dict:
    text = TEXT.replace("CONDITION", condition).replace("OUT", str(directory))
    for old, new in changes.values():
        text = text.replace(old, new)
    config = parse(text)
    pipeline.run(comm, config, text, prepare(comm, config), page=False)
    return read_results(directory / "results.h5")[0]


def test_an_observed_value_gives_the_gaussian_posterior(tmp_path):
    """Prior N(0, 1), likelihood N(1; x, 1/2): posterior N(2/3, 1/3)."""
    found = run(tmp_path, "{log_likelihood: -(x - 1)**2}")
    x, n = found["kswgd/particles"][:, 0], float(found["kswgd/condition/effective_sample_size"])
    # 256 trajectories that forget themselves within a time of one
    error = np.sqrt((1 / 3) / (256 * 5))
    assert abs(x.mean() - 2 / 3) < 3 * error
    assert x.var() == pytest.approx(1 / 3, abs=3 * np.sqrt(2 / (256 * 5)) / 3)
    # E[w]^2 / E[w^2] of w = exp(-(x - 1)^2) under N(0, 1)
    first, second = np.exp(-1 / 3) / np.sqrt(3), np.exp(-2 / 5) / np.sqrt(5)
    assert n == pytest.approx(256 * 51 * first**2 / second, rel=0.1)


def test_survivors_of_a_killing_rate_have_the_law_of_its_ground_state(tmp_path):
    """c = 2 x^2: u(x, T) tends to exp(-x^2 / 2), so the survivors' starts to N(0, 1/2), and survival is Riccati's."""
    found = run(tmp_path, "{killing: 2*x**2, time: 3.0}")
    x = found["kswgd/particles"][:, 0]
    assert x.var() == pytest.approx(0.5, abs=3 * 0.5 * np.sqrt(2 / (256 * 5)))
    assert abs(x.mean()) < 3 * np.sqrt(0.5 / (256 * 5))
    # u = exp(-a x^2 - b): a' = 2 - 2 a - 4 a^2, b' = 2 a
    a = b = 0.0
    for _ in range(30000):
        a, b = a + 1e-4 * (2 - 2 * a - 4 * a * a), b + 1e-4 * 2 * a
    assert float(found["kswgd/condition/survival"]) == pytest.approx(np.exp(-b) / np.sqrt(1 + 2 * a), rel=0.1)


def test_samples_are_conditioned_by_their_components(tmp_path):
    """Two independent normals of data, of which one component is observed: the other keeps its law."""
    rng = np.random.default_rng(5)
    np.save(tmp_path / "data.npy", rng.standard_normal((4000, 2)))
    changes = {
        "system": (
            "{kind: diffusion, variables: [x], potential: x**2/2, temperature: 1.0}",
            f"{{kind: data, path: {tmp_path / 'data.npy'}}}",
        ),
        "ensemble": (TEXT[TEXT.index("ensemble") : TEXT.index("koopman")], ""),
        "rest": (", time_step_error: false", ""),
        "size": ("size: 30", "size: 80"),
    }
    x = run(tmp_path / "out", "{log_likelihood: -(x1 - 1)**2}", **changes)["kswgd/particles"]
    assert x[:, 0].mean() == pytest.approx(2 / 3, abs=0.06)
    assert x[:, 0].var() == pytest.approx(1 / 3, rel=0.15)
    assert x[:, 1].mean() == pytest.approx(0.0, abs=0.08)


@pytest.mark.parametrize(
    ("condition", "change", "message"),
    [
        ("{killing: x**2}", ("", ""), "go together"),
        ("{}", ("", ""), "needs 'log_likelihood'"),
        ("{log_likelihood: q**2}", ("", ""), "kswgd.condition.log_likelihood"),
        ("{log_likelihood: x}", ("  particles: 1000", "  particles: 1000\n  relaxation: 0.1"), "do not stay"),
        ("{log_likelihood: x}", ("  particles: 1000", "  particles: 1000\n  baselines: [langevin]"), "knows nothing"),
        (
            "{killing: x**2, time: 1.0}",
            (
                "variables: [x], potential: x**2/2, temperature: 1.0",
                "variables: [x, y], drift: [-x - 2*y, 2*x - y], diffusion: 1.0",
            ),
            "detailed balance",
        ),
    ],
)
def test_a_condition_that_cannot_be_met_is_named(condition, change, message):
    text = TEXT.replace("CONDITION", condition).replace(*change) if change[0] else TEXT.replace("CONDITION", condition)
    with pytest.raises(ConfigurationError, match=message):
        build(parse(text))


def test_a_condition_that_no_trajectory_agrees_with_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"kswgd\.condition leaves .* states"):
        run(tmp_path, "{log_likelihood: -1000*(x - 6)**2}")


def test_conditioned_particles_have_the_same_bits_on_any_number_of_ranks(tmp_path):
    text = TEXT.replace("CONDITION", "{log_likelihood: -(x - 1)**2, killing: x**2, time: 0.5}").replace("OUT", "out")
    found = []
    for ranks in (1, 2):
        process = run_command(text, tmp_path / str(ranks), ranks)
        assert process.returncode == 0, process.stderr
        found.append(read_results(tmp_path / str(ranks) / "out" / "results.h5")[0])
    one, two = found
    assert [name for name in one if np.asarray(one[name]).tobytes() != np.asarray(two[name]).tobytes()] == []
