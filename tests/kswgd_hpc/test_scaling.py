"""The model of a run's time on many ranks, and the commands that use it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support import ROOT, SMALL

from kswgd_hpc import scaling
from kswgd_hpc.commands import bench, plan
from kswgd_hpc.config import load, parse
from kswgd_hpc.sizes import sizes

TINY = SMALL.replace("duration: 20", "duration: 5").replace("particles: 1000", "particles: 600")


@pytest.fixture(scope="module")
def models():
    """The stages of a tiny run, calibrated."""
    return scaling.calibrate(parse(TINY), TINY)


def test_the_largest_share_of_blocks_is_what_a_stage_waits_for():
    config = parse(SMALL.replace("trajectories: 100\n", "trajectories: 4096\n"))
    size = sizes(config)
    assert size.blocks == 64
    whole = scaling.units("ensemble", config, size, 1)
    assert whole == 4096 * 2000
    assert scaling.units("ensemble", config, size, 64) == whole / 64
    assert scaling.units("ensemble", config, size, 48) == whole / 32  # some ranks have two blocks
    assert scaling.units("ensemble", config, size, 1000) == whole / 64
    assert [scaling.units("report", config, size, ranks) for ranks in (1, 2, 64)] == [1, 1 / 2, 1 / 4]
    assert scaling.units("results", config, size, 64) == 0


def test_messages_cost_latencies_by_rounds_and_bytes_by_bandwidth():
    network = scaling.Network(latency=1e-6, bandwidth=1e9)
    assert network.seconds("Allreduce", 10**6, 1) == 0
    assert network.seconds("Allreduce", 10**6, 256) == pytest.approx(2 * (8e-6 + 1e-3))
    assert network.seconds("Allgatherv", 10**6, 200) == pytest.approx(8e-6 + 1e-3)
    assert network.seconds("allgather", 10, 4) == pytest.approx(2e-6 + 40e-9)


def test_efficiency_is_that_of_amdahl_where_messages_cost_nothing():
    config = parse(SMALL.replace("trajectories: 100\n", "trajectories: 65536\n"))
    work = scaling.units("ensemble", config, sizes(config), 1)
    models = [scaling.StageModel("ensemble", 0.0, 99 / work, []), scaling.StageModel("report", 1.0, 0.0, [])]
    assert scaling.efficiency(models, config, 64) == pytest.approx(100 / (64 * (1 + 99 / 64)))


def test_a_calibrated_model_knows_every_stage_and_shares_out_what_is_shared(models):
    config = parse(TINY)
    names = {"ensemble", "galerkin", "spectrum", "transport", "metrics", "reference quench", "results", "report"}
    assert names <= {model.name for model in models}
    one, many = ({p.stage: p for p in scaling.predict(models, config, n)} for n in (1, 16))
    # sixteen blocks of six or seven trajectories
    assert many["ensemble"].work < 0.3 * one["ensemble"].work
    assert many["report"].work == pytest.approx(one["report"].work / 4)
    assert many["results"].work == one["results"].work
    # as many steps as the small runs took to the floor, each with one Allreduce
    (moved,) = [model.steps for model in models if model.name == "transport"]
    assert 10 < moved < 100
    assert moved <= many["transport"].calls < moved + 10
    assert many["transport"].messages > 0


def test_a_plan_says_what_is_needed_and_refuses_what_does_not_fit(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(TINY)
    assert plan.main([str(path), "-n", "8", "--no-time"]) == 0
    said = capsys.readouterr().out
    assert "8 ranks" in said
    assert "memory, at most" in said
    assert "floating point operations" in said
    assert plan.main([str(path), "-n", "8", "--memory-per-node", "1", "--no-time"]) == 2
    assert "kswgd-hpc: error: this run needs about" in capsys.readouterr().err
    path.write_text(TINY.replace("lag_time", "lag_tme"))
    assert plan.main([str(path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_plan_of_recorded_data_says_why_it_has_no_times(tmp_path, capsys):
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(400, 2)))
    (tmp_path / "config.yaml").write_text(
        f"system: {{kind: data, path: {tmp_path}/data.npy}}\n"
        "koopman: {estimator: dirichlet, dictionary: {kind: gaussian, size: 20}}\n"
    )
    assert plan.main([str(tmp_path / "config.yaml"), "-n", "2"]) == 0
    said = capsys.readouterr().out
    assert "no times: recorded data" in said
    assert "20 functions" in said


def test_the_large_example_fits_256_ranks_on_four_nodes():
    config, _ = load(ROOT / "examples" / "large.yaml")
    size = sizes(config)
    assert size.blocks % 256 == 0  # no rank waits for another's last block
    assert size.particles % 256 == 0


def test_scaling_of_ranks_is_measured_tabulated_and_drawn(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scaling, "calibrate", lambda *_: models)
    path = tmp_path / "config.yaml"
    path.write_text(TINY)
    assert bench.main([str(path), "--ranks", "1,2", "--strong-only", "--output", str(tmp_path / "bench")]) == 0
    said = capsys.readouterr().out
    assert "strong scaling" in said
    assert "all, by the model" in said
    found = json.loads((tmp_path / "bench" / "bench.json").read_text())
    assert set(found["measured"]["strong"]["2"]) == set(found["measured"]["strong"]["1"])
    assert (tmp_path / "bench" / "bench.png").stat().st_size > 10_000


def test_weak_scaling_gives_each_rank_the_same_work():
    values = bench.scaled(SMALL, 4)
    assert values["ensemble"]["trajectories"] == 400
    assert values["kswgd"]["particles"] == 4000
    assert values["validation"]["feynman_kac"][0]["trajectories"] == 800


def test_what_bench_cannot_do_is_one_line_before_any_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench.subprocess, "run", lambda *_, **__: pytest.fail("started"))
    (tmp_path / "good.yaml").write_text(TINY)
    (tmp_path / "bad.yaml").write_text(TINY.replace("mean(u),", "mean(w),"))
    for arguments, said in (
        (["none.yaml"], "No such file"),
        (["bad.yaml"], "unknown name 'w'"),
        (["good.yaml", "--output", str(tmp_path / "good.yaml")], "--output: cannot write"),
        (["good.yaml", "--ranks", "1,100000"], "this run needs about"),
    ):
        assert bench.main([str(tmp_path / arguments[0]), *arguments[1:]]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and said in error


def test_a_command_that_starts_no_ranks_is_named(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(TINY)
    arguments = [str(tmp_path / "config.yaml"), "--mpiexec", "no-such-mpiexec", "--output", str(tmp_path)]
    assert bench.main(arguments) == 2
    assert "--mpiexec: no-such-mpiexec: No such file" in capsys.readouterr().err


def test_numbers_of_ranks_that_are_none_are_refused(capsys):
    for ranks in ("0", "two"):
        with pytest.raises(SystemExit):
            bench.main(["--ranks", ranks])
    capsys.readouterr()
