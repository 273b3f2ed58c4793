from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from mpi4py import MPI
from support import ROOT, mpi_environment

from kswgd_hpc import metrics
from kswgd_hpc.comparison import Row, _to_target
from kswgd_hpc.config import parse
from kswgd_hpc.errors import ConfigurationError, KswgdError
from kswgd_hpc.plan import build, pilot_sample
from kswgd_hpc.schema.study import Study
from kswgd_hpc.storage import read_results
from kswgd_hpc.studies import StudyRun, _expanded, load, plan

STUDY = """
title: Two wells
base:
  system: {kind: diffusion, variables: [x], potential: (x**2 - 1)**2, temperature: 1.0}
  ensemble: {trajectories: 64, initial: {kind: uniform, low: -1.5, high: 1.5}, time_step: 0.02, burn_in: 2,
    duration: 4, stride: 0.2}
  koopman: {estimator: dirichlet, dictionary: {kind: gaussian, size: 30}, modes: 12, time_step_error: false}
  kswgd:
    particles: 128
    initial: {kind: gaussian, mean: 1.0, deviation: 0.2}
    baseline_steps: {langevin: 150, mmd_flow: 10}
    judge: {sample: 128, occupation: [x > 0, x < 0]}
vary: {system.temperature: [1.0, 0.5]}
methods: [kswgd, langevin, mmd_flow]
seeds: 2
output: {directory: out}
"""


def run_study(text: str, directory: Path, *options: str) -> subprocess.CompletedProcess:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "study.yaml").write_text(text)
    command = [sys.executable, "-m", "kswgd_hpc", "study", "study.yaml", *options]
    environment = mpi_environment() | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def table(directory: Path) -> list[dict[str, str]]:
    with open(directory / "out" / "table.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    directory = tmp_path_factory.mktemp("study")
    process = run_study(STUDY, directory)
    assert process.returncode == 0, process.stderr
    return directory


def test_a_study_writes_a_row_for_each_case_and_method(done):
    rows = table(done)
    assert [(row["case"], row["method"]) for row in rows] == [
        (f"temperature {t}", method) for t in ("1.0", "0.5") for method in ("kswgd", "langevin", "mmd_flow")
    ]
    for row in rows:
        assert row["seeds"] == "2"
        assert float(row["energy_distance_times_floor"]) * float(row["energy_distance_floor"]) == pytest.approx(
            float(row["energy_distance"]), rel=1e-4
        )
    assert float(rows[0]["energy_distance_times_floor"]) < 3
    assert rows[1]["gradient_calls"] == str(128 * 150)
    assert (done / "out" / "report.html").stat().st_size > 20_000


def test_the_table_holds_what_the_runs_found(done):
    files = sorted((done / "out" / "temperature_1.0").glob("seed-*/results.h5"))
    data = [read_results(path)[0] for path in files]
    (row,) = (r for r in table(done) if r["case"] == "temperature 1.0" and r["method"] == "langevin")
    values = [d["kswgd/baselines/langevin/metrics/energy_distance"] for d in data]
    assert float(row["energy_distance"]) == pytest.approx(np.mean(values), rel=1e-5)
    assert float(row["energy_distance_error"]) == pytest.approx(np.std(values, ddof=1) / np.sqrt(2), rel=1e-5)
    assert data[0]["kswgd/initial"].tobytes() != data[1]["kswgd/initial"].tobytes()


def test_results_of_the_same_configuration_are_taken_again(done):
    before = (done / "out" / "table.csv").read_text()
    process = run_study(STUDY, done, "--reuse")
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("taken from") == 4
    assert (done / "out" / "table.csv").read_text() == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: 2", "seed: 2", "seed: unknown key; did you mean 'seeds'?"),
        ("[1.0, 0.5]", "[1.0, -1]", "case temperature -1: system.temperature"),
        ("system.temperature", "system.temprature", "unknown key; did you mean 'temperature'?"),
        ("langevin, mmd_flow]", "langevin, mmdflow]", "mmdflow"),
        ("system.temperature", "seed", "vary.seed: a study decides on this key"),
        ("system.temperature: [1.0, 0.5]", "kswgd: [1, 2]", "vary.kswgd: expected a section"),
        ("kswgd, langevin", "langevin", "'methods' needs kswgd"),
        ("x > 0, x < 0", "q > 0", "kswgd.judge.occupation.0"),
        ("(x**2 - 1)**2, temperature: 1.0}", "x**4, temperature: 1.0, friction: 1.0}", "noise in every direction"),
        ("potential: (x**2 - 1)**2, temperature: 1.0", "drift: [x - x**3], diffusion: 1.0", "'temperature'"),
    ],
)
def test_a_study_that_cannot_be_run_is_one_line(old, new, message, tmp_path, monkeypatch):
    assert old in STUDY
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY.replace(old, new))
    with pytest.raises(KswgdError, match=re.escape(message)) as caught:
        plan(MPI.COMM_SELF, "study.yaml")
    assert "\n" not in str(caught.value)


def test_a_rival_that_cannot_be_had_is_refused_by_name_with_status_2(tmp_path):
    text = STUDY.replace("potential: (x**2 - 1)**2, temperature: 1.0", "drift: [x - x**3], diffusion: 1.0")
    text = text.replace("kswgd, langevin", "kswgd, svgd, langevin").replace(
        "vary: {system.temperature: [1.0, 0.5]}", ""
    )
    process = run_study(text, tmp_path)
    assert process.returncode == 2
    assert "kswgd.baselines: svgd cannot be had here: it needs the density" in process.stderr
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_of_the_examples_expands_to_valid_configurations(path):
    study, base = load(str(path))
    runs, references = _expanded(study, base, path.name)
    assert len(runs) == study.cases * 5
    assert len(references) == (study.cases if study.reference else 0)


def test_lists_of_different_length_do_not_vary_together():
    values = yaml.safe_load(STUDY) | {"vary": {"a": [1, 2], "b": [1]}}
    with pytest.raises(ValueError, match="one length"):
        Study.model_validate(values)


def test_baseline_steps_name_baselines_only():
    config = yaml.safe_load(STUDY)["base"]
    with pytest.raises(ConfigurationError, match="'baseline_steps' names 'langevin'"):
        parse(yaml.safe_dump(config))


def test_the_dynamics_is_extrapolated_by_twice_its_slowest_rate():
    base = yaml.safe_load(STUDY)["base"]
    del base["kswgd"]["baseline_steps"]
    config = parse(yaml.safe_dump(base))
    run = StudyRun(0, "a", 1, config, "")
    row = Row("a", "langevin", histories=[np.array([[100.0, 2.0, 2 * np.e]])])
    steps, time, how = _to_target(row, run, {"koopman/rates": np.array([0, 0.1, 3.0], dtype=complex)})
    assert (time, how) == (pytest.approx(2.0 + 1 / 0.2), "extrapolated")
    assert steps == pytest.approx(100 + 5 / 0.02)


def test_sliced_and_plain_wasserstein_distances_of_a_shift_are_its_length():
    x = np.random.default_rng(0).normal(size=(500, 3))
    shift = np.array([3.0, 0.0, 0.0])
    # the mean square of one component of a unit vector in three dimensions is 1/3
    assert metrics.sliced_wasserstein(MPI.COMM_SELF, x + shift, x) == pytest.approx(3 / np.sqrt(3), rel=0.1)
    assert metrics.wasserstein(x[:, 0] + 2, x[:, 0]) == pytest.approx(2)


def test_wasserstein_distances_to_a_larger_sample_match_each_state_with_several_of_its():
    x, offsets = np.random.default_rng(0).normal(size=(200, 2)), np.array([-1e-9, 0.0, 1e-9])
    thrice = (x[:, None] + 2 + offsets[:, None]).reshape(-1, 2)
    assert metrics.wasserstein(x[:, 0], thrice[:, 0]) == pytest.approx(2)
    assert metrics.sliced_wasserstein(MPI.COMM_SELF, x, thrice) == pytest.approx(
        metrics.sliced_wasserstein(MPI.COMM_SELF, x, x + 2)
    )


def test_discrepancies_are_their_definitions():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(150, 2)), rng.normal(size=(100, 2)) + 0.5
    kernel = lambda x, y: np.exp(-((x[:, None] - y[None]) ** 2).sum(-1) / (2 * 0.7**2)).mean()  # noqa: E731
    energy, mmd = metrics.discrepancies(MPI.COMM_SELF, a, b, 0.7)
    assert mmd**2 == pytest.approx(kernel(a, a) + kernel(b, b) - 2 * kernel(a, b), rel=1e-9)
    assert energy == pytest.approx(metrics.energy_distance(MPI.COMM_SELF, a, b), rel=1e-9)


def test_an_ensemble_of_coloured_noise_can_be_run_alone(tmp_path, monkeypatch):
    """The reference of a study has no koopman section, and then no coordinate to take the mobility of."""
    text = """
    system: {kind: spde, equation: burgers, parameters: {nu: 0.1},
      domain: {length: 1.0, points: 8, boundary: dirichlet},
      noise: {amplitude: 0.5, covariance: power_law, correlation_length: 0.2, exponent: 1.0}}
    ensemble: {trajectories: 8, initial: {kind: constant, value: 0.0}, time_step: 0.01, burn_in: 0.1, duration: 0.2}
    """
    monkeypatch.chdir(tmp_path)
    config = parse(text)
    found = build(config)
    assert len(pilot_sample(MPI.COMM_SELF, config, found, lambda _units: None).raw) > 0
