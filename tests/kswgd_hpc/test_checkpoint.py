"""Saved, interrupted, damaged, resumed: the same bits, or a clear word."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI
from support import SMALL, ranks_of, results, run_command, start

from kswgd_hpc import bundles, pipeline
from kswgd_hpc.bundles import Damaged, Key
from kswgd_hpc.checkpoint import Checkpoint, Schedule
from kswgd_hpc.config import parse
from kswgd_hpc.errors import Interrupted, ResumeError
from kswgd_hpc.extension import obstacle
from kswgd_hpc.plan import build, prepare
from kswgd_hpc.resume import open_checkpoint
from kswgd_hpc.schema.output import seconds
from kswgd_hpc.stopping import Stop
from kswgd_hpc.storage import read_results
from kswgd_hpc.transport_saves import Saves

SAVING = SMALL.replace("{directory: out}", "{directory: out, checkpoint: {every: 0.05s}}")
ARRAYS = {"x": np.arange(1000.0), "of a name/with a slash": np.ones((2, 0)), "scalar": np.array(3)}


def store(directory: Path, keep: int = 2, found=None, edition: int = 0) -> Checkpoint:
    """A checkpoint that saves when it is told to."""
    schedule = Schedule(1e9, 1e9, keep, True)
    return Checkpoint(MPI.COMM_SELF, directory / "checkpoint", {}, schedule, Stop(directory), found, edition)


def resumed(directory: Path, text: str = SAVING) -> tuple[Checkpoint, list[str]]:
    """The checkpoint that --resume finds, and what it says."""
    config, said = parse(text.replace("directory: out", f"directory: {directory}")), []
    plan = build(config)
    check = lambda saved: obstacle(saved, config, plan)  # noqa: E731
    return open_checkpoint(MPI.COMM_SELF, config, Stop(directory), True, said.append, check), said


def test_items_come_back_as_they_were_put(tmp_path):
    path = tmp_path / "a.bundle"
    key = Key("ensemble", 12, 4000)
    bundles.write(path, {"format": 1}, {key: ARRAYS})
    assert bundles.contents(path).about == {"format": 1}
    assert set(bundles.contents(path).items) == {key}
    found = bundles.read(path, key)
    assert {name: (a.shape, a.tobytes()) for name, a in found.items()} == {
        name: (a.shape, a.tobytes()) for name, a in ARRAYS.items()
    }
    assert [p.name for p in tmp_path.iterdir()] == ["a.bundle"]


def test_no_flipped_bit_and_no_truncation_passes_unnoticed(tmp_path):
    path, key = tmp_path / "a.bundle", Key("s", 0, 1)
    bundles.write(path, {}, {key: {"x": np.arange(40.0)}})
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    harmless = 0
    for _ in range(400):
        position, bit = int(rng.integers(len(whole))), int(rng.integers(8))
        altered = bytearray(whole)
        altered[position] ^= 1 << bit
        path.write_bytes(altered)
        try:
            assert bundles.read(path, key)["x"].tobytes() == np.arange(40.0).tobytes()
            harmless += 1  # a date, or a flag that nothing depends on
        except Damaged:
            pass
    assert harmless < 200
    for length in rng.integers(0, len(whole), 40):
        path.write_bytes(whole[:length])
        with pytest.raises(Damaged):
            bundles.contents(path)


def test_a_damaged_save_falls_back_to_the_one_before(tmp_path, capsys):
    first = store(tmp_path)
    for progress in (1, 2):
        first.put(Key("s", 0, progress), {"x": np.full(10, float(progress))})
        first.put(Key("t", progress, 0), {"x": np.zeros(progress)})
        first.write()
    files = sorted((tmp_path / "checkpoint").iterdir())
    found = {("s", 0): [(2, files[-1]), (1, files[0])]}
    assert store(tmp_path, found=found).get(("s", 0)).progress == 2
    data = bytearray(files[-1].read_bytes())
    data[data.index(np.full(10, 2.0).tobytes()) + 5] ^= 4
    files[-1].write_bytes(data)
    saved = store(tmp_path, found=found).get(("s", 0))
    assert saved.progress == 1
    assert (saved.arrays["x"] == 1.0).all()
    assert "damaged" in capsys.readouterr().err


def test_bundles_stay_few_and_the_newest_of_each_item_survives(tmp_path):
    checkpoint = store(tmp_path)
    for step in range(200):
        checkpoint.put(Key("live", 0, step), {"x": np.full(100, float(step))})
        checkpoint.put(Key("done", step, 0), {"x": np.full(100, float(step))})
        checkpoint.write()
    files = list((tmp_path / "checkpoint").iterdir())
    assert len(files) <= 16
    newest: dict[tuple, int] = {}
    for path in files:
        for key in bundles.contents(path).items:
            newest[key.stage, key.index] = max(newest.get((key.stage, key.index), -1), key.progress)
            assert (bundles.read(path, key)["x"] == (key.progress if key.stage == "live" else key.index)).all()
    assert newest == {("live", 0): 199} | {("done", step): 0 for step in range(200)}
    # each item is written a few times, not once for every save
    assert checkpoint.cost.bytes < 20 * sum(path.stat().st_size for path in files)


def test_a_full_disk_stops_no_run_and_is_said_once(tmp_path, capsys):
    (tmp_path / "checkpoint").write_text("no directory can be made here")
    checkpoint = store(tmp_path)
    for step in range(3):
        checkpoint.put(Key("s", 0, step), ARRAYS)
        checkpoint.write()
    assert capsys.readouterr().err.count("cannot write") == 1
    (tmp_path / "checkpoint").unlink()
    checkpoint.write()
    assert store(tmp_path).failure == checkpoint.failure == ""
    assert len(list((tmp_path / "checkpoint").iterdir())) == 1


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("10min", 600), ("1h30min", 5400), ("0.5 s", 0.5)])
def test_lengths_of_time(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["ten", "10", "", "5 minutes", "0s", "-1s"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(ValueError, match="is not a length of time"):
        seconds(text)


def run_here(text: str, directory: Path, resume: bool = False) -> dict:
    """Results of a run in this process."""
    config = parse(text.replace("directory: out", f"directory: {directory}"))
    pipeline.run(MPI.COMM_SELF, config, text, prepare(MPI.COMM_SELF, config), resume)
    return read_results(directory / "results.h5")[0]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict, Path]:
    """Results of the small configuration, saved all the time; and the directory of its output."""
    directory = tmp_path_factory.mktemp("undisturbed")
    return run_here(SAVING, directory), directory


def assert_same_bits(found: dict, reference: dict) -> None:
    assert set(found) == set(reference)
    assert [
        name for name in reference if np.asarray(found[name]).tobytes() != np.asarray(reference[name]).tobytes()
    ] == []


def test_a_killed_run_resumed_on_other_numbers_of_ranks_ends_in_the_same_bits(undisturbed, tmp_path):
    process = start(tmp_path, SAVING, 3)
    time.sleep(0.3)
    os.kill(ranks_of(process)[-1], signal.SIGKILL)
    assert process.wait(60) != 0
    assert not list(tmp_path.rglob("results.h5"))
    process = start(tmp_path, SAVING, 1, "--resume")
    time.sleep(0.2)
    process.kill()
    process.wait(60)
    process = run_command(SAVING, tmp_path, 2, options=("--resume",))
    assert process.returncode == 0, process.stderr
    assert "resumed from" in process.stderr
    assert_same_bits(results(tmp_path), undisturbed[0])


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_signal_saves_and_ends_with_a_status_of_its_own(ranks, tmp_path):
    text = SMALL.replace("duration: 20", "duration: 200")  # checkpoints are not asked for
    process = start(tmp_path, text, ranks)
    # one rank gets it; the others have to follow
    os.kill(process.pid if ranks == 1 else ranks_of(process)[-1], signal.SIGTERM)
    assert process.wait(60) == 75
    said = (tmp_path / "said").read_text()
    assert "stopped by SIGTERM: all is saved; go on with --resume" in said
    assert list((tmp_path / "out" / "checkpoint").iterdir())
    assert not (tmp_path / "out" / "stop").exists()


def test_a_stop_file_is_obeyed_and_removed(tmp_path):
    process = start(tmp_path, SMALL.replace("duration: 20", "duration: 400"), 1)
    (tmp_path / "out" / "stop").touch()
    assert process.wait(60) == 75
    assert "stopped by the file" in (tmp_path / "said").read_text()
    assert not (tmp_path / "out" / "stop").exists()


def test_without_a_checkpoint_a_run_starts_from_the_beginning_and_says_so(tmp_path):
    checkpoint, said = resumed(tmp_path)
    assert checkpoint.get(("pilot", 0)) is None
    assert any("starting from the beginning" in line for line in said)


def test_a_changed_configuration_is_refused_by_its_keys(undisturbed):
    directory = undisturbed[1]
    changed = SAVING.replace("seed: 3", "seed: 4").replace("amplitude: 0.5", "amplitude: 0.6")
    with pytest.raises(ResumeError, match=r"changed: seed \(3 -> 4\), system.noise.amplitude \(0.5 -> 0.6\)"):
        resumed(directory, changed)
    with pytest.raises(ResumeError, match=r"less than the 20"):
        resumed(directory, SAVING.replace("duration: 20", "duration: 10"))
    _, said = resumed(directory, SAVING.replace("seed: 3", "seed: 3\ntitle: other words"))
    assert not any("changed" in line for line in said)


def stopped_and_resumed(text: str, directory, monkeypatch, step: int) -> dict:
    """Datasets of a run whose transport is asked to stop before one of its steps, and which is resumed from there."""
    steps = []

    def wanted(saves: Saves) -> bool:
        steps.append(1)
        saves.kept.checkpoint.stop.reason = "a test" if len(steps) == step else ""
        return len(steps) == step

    monkeypatch.setattr(Saves, "wanted", wanted)
    with pytest.raises(Interrupted, match="stopped by a test"):
        run_here(text, directory)
    before = len(steps)
    found = run_here(text, directory, resume=True)
    assert before + len(steps[before:]) < step + len(found["kswgd/history/step_size"])
    return found


def test_a_transport_goes_on_from_the_step_at_which_it_was_stopped(undisturbed, tmp_path, monkeypatch):
    assert_same_bits(stopped_and_resumed(SAVING, tmp_path / "out", monkeypatch, 12), undisturbed[0])


def test_snapshots_and_looks_of_a_resumed_transport_are_those_of_an_undisturbed_one(tmp_path, monkeypatch):
    text = SAVING.replace("  particles: 1000", "  particles: 1000\n  snapshots: [0.5, 1.0]\n  judge: {sample: 64}")
    assert text != SAVING
    whole = run_here(text, tmp_path / "whole")
    found = stopped_and_resumed(text, tmp_path / "out", monkeypatch, 14)
    assert_same_bits(found, whole)
    assert len(found["kswgd/snapshots/times"]) == 2


def test_an_extended_run_has_the_bits_of_one_from_the_beginning(undisturbed, tmp_path):
    """Longer, with more particles and another dictionary."""
    text = SAVING
    for old, new in {
        "duration: 20": "duration: 50",
        "particles: 1000": "particles: 1500",
        "size: 60": "size: 70",
    }.items():
        text = text.replace(old, new)
    fresh = run_here(text, tmp_path / "fresh")
    shutil.copytree(undisturbed[1], tmp_path / "extended")
    extended = run_here(text, tmp_path / "extended", resume=True)
    assert_same_bits(extended, fresh)
    # the burn-in was not done again
    saved = [
        key for path in (tmp_path / "extended" / "checkpoint").glob("0001-*") for key in bundles.contents(path).items
    ]
    assert saved
    assert not any(key.stage.startswith("pilot") for key in saved)
