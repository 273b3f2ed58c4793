"""The log of a run, and the command that reads it."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from mpi4py import MPI
from support import SMALL, run_command

from kswgd_hpc import log
from kswgd_hpc.commands import watch
from kswgd_hpc.progress import Progress


def state_of(directory) -> watch.State:
    return watch.advance(watch.State(), directory / log.EVENTS, 0)[0]


def test_a_finished_run_is_shown_with_stages_rates_and_residuals(tmp_path, capsys):
    process = run_command(SMALL, tmp_path)
    assert process.returncode == 0, process.stderr
    assert watch.main(["--once", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "1 rank on" in shown
    for part in ("ensemble", "transport", "rate 1: 0.", "residual", "done in"):
        assert part in shown
    assert (tmp_path / "out" / log.TEXT).read_text().splitlines() == process.stderr.splitlines()


def test_a_follower_without_a_terminal_prints_the_lines_and_ends_with_the_run(tmp_path, capsys):
    progress = Progress(MPI.COMM_SELF, tmp_path, silent=True)
    progress.say("a line")
    progress.record("end", seconds={"ensemble": 1.0})
    assert watch.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == ["a line", "done in 1.0 s"]


def test_the_stage_that_is_worked_on_is_shown_with_its_rate(tmp_path):
    progress = Progress(MPI.COMM_SELF, tmp_path, silent=True)
    with progress.stage("transport", 40) as stage:
        stage._recorded -= 100  # a long time ago
        stage(10, excess=3.5)
        lines = watch.lines(state_of(tmp_path), 0.0)
    (line,) = [line for line in lines if "transport" in line]
    assert "[#####...............] 10/40" in line
    assert "excess 3.5" in line


def test_an_error_in_a_stage_is_the_state_of_the_run(tmp_path):
    progress = Progress(MPI.COMM_SELF, tmp_path, silent=True)
    with pytest.raises(ValueError, match="no such thing"), progress.stage("spectrum", 1):
        raise ValueError("no such thing")
    assert state_of(tmp_path).status(0.0) == "ended in stage spectrum: ValueError: no such thing"
    assert watch.main(["--once", str(tmp_path)]) == 1


def test_a_process_that_is_gone_and_one_that_is_silent_are_told_apart(tmp_path):
    Progress(MPI.COMM_SELF, tmp_path, silent=True)
    state = state_of(tmp_path)
    assert state.status(state.last + 1) == "running"
    assert "no sign of life for 500 s" in state.status(state.last + 500)
    state.started["pid"] = 2**30
    assert "killed" in state.status(state.last + 1)


def test_a_resumed_run_goes_on_in_the_same_log(tmp_path):
    for _ in range(2):
        with Progress(MPI.COMM_SELF, tmp_path, silent=True).stage("ensemble", 1):
            pass
    state = state_of(tmp_path)
    assert state.attempts == 2
    assert list(state.stages) == ["ensemble"]


def test_events_are_json_whatever_the_numbers_and_torn_lines_are_left_out(tmp_path):
    written = log.Log(tmp_path)
    written.event("rates", rates=np.array([0, 1 + 2j, np.nan]), deep={"a": (np.float64(np.inf), np.int64(3))})
    with open(tmp_path / log.EVENTS, "a") as file:
        file.write('{"torn\n{"event": "half')
    ((event, _),) = log.read_events(tmp_path / log.EVENTS)
    assert event["rates"] == [0, [1, 2], None]
    assert event["deep"] == {"a": [None, 3]}
    json.dumps(event, allow_nan=False)


def test_a_log_that_cannot_be_written_does_not_end_a_run(tmp_path):
    written = log.Log(tmp_path / "gone")
    written.event("start")
    written.line("said")
    assert not os.path.exists(tmp_path / "gone")


def test_a_directory_without_a_log_is_one_line_and_status_two(tmp_path, capsys):
    assert watch.main([str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_is_no_log_of_a_run_is_one_line_and_status_two(tmp_path, capsys):
    (tmp_path / "log.jsonl").write_bytes(b'\xff\xfe\n[1]\n{"event": "stage end"}\n')
    assert watch.main([str(tmp_path), "--once"]) == 2
    assert capsys.readouterr().err == f"kswgd-hpc: error: {tmp_path}/log.jsonl: this is not the log of a run\n"


def test_the_runs_below_a_directory_that_has_none_are_named(tmp_path, capsys):
    (tmp_path / "sweep" / "1").mkdir(parents=True)
    (tmp_path / "sweep" / "1" / log.EVENTS).touch()
    assert watch.main(["--once", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "sweep" / "1") in said
    assert len(said.splitlines()) == 1
