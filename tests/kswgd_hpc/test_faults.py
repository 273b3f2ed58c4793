"""Faults, each of them caused: what is said, and what is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc
from support import SMALL, mpi_environment, ranks_of, results, run_command, start

from kswgd_hpc import eigensolver
from kswgd_hpc.config import parse
from kswgd_hpc.errors import MachineError, SpectrumError
from kswgd_hpc.machine import check_libraries, check_ranks, mpi_libraries, oversubscription
from kswgd_hpc.plan import build
from kswgd_hpc.watchdog import Watchdog
from spde.errors import BlowUpError

ENSEMBLE = SMALL[: SMALL.index("koopman:")] + "output: {directory: out}\n"
# du = u^3 dt + noise: most trajectories stay for a while, all leave in the end
UNSTABLE = """
seed: 5
system: {kind: diffusion, variables: [x], drift: [x**3 - 2*x], diffusion: 0.7}
ensemble:
  trajectories: 200
  initial: {kind: gaussian, deviation: 0.3}
  scheme: euler_maruyama
  time_step: 0.01
  burn_in: 1
  duration: 4
  lag_time: 0.5
  on_blow_up: stop
output: {directory: out}
"""
REPLACING = UNSTABLE.replace("on_blow_up: stop", "on_blow_up: replace")


def first_to_leave() -> tuple[int, int]:
    """Trajectory and step of the first blow-up, by stepping each block a step at a time."""
    ensemble = build(parse(UNSTABLE)).ensemble
    for block in ensemble.blocks:
        for piece in ensemble._pieces(block):
            states = ensemble._initial(piece)
            for step in range(100):  # the burn-in
                with np.errstate(over="ignore", invalid="ignore"):
                    array = ensemble.stepper.march(
                        ensemble.stepper.enter(states), ensemble._noise(piece), step, 1, np.empty((0, 0, 0))
                    )
                states = ensemble.stepper.leave(array)
                if not np.isfinite(states).all():
                    return piece.start + int(np.flatnonzero(~np.isfinite(states).all(axis=0))[0]), step + 1
    raise AssertionError("no trajectory left")


def test_a_blow_up_names_the_trajectory_and_the_step(tmp_path):
    trajectory, step = first_to_leave()
    process = run_command(UNSTABLE, tmp_path)
    assert process.returncode == 1
    assert f"trajectory {trajectory} is no longer finite after step {step}, at time {step / 100:g}" in process.stderr


def test_trajectories_that_blow_up_are_replaced_the_same_way_on_any_number_of_ranks(tmp_path):
    found = []
    for ranks in (1, 3):
        process = run_command(REPLACING, tmp_path / str(ranks), ranks)
        assert process.returncode == 0, process.stderr
        found.append(results(tmp_path / str(ranks)))
        count = len(found[-1]["ensemble/replaced"])
        assert f"ensemble.on_blow_up: replaced {count} of 200" in process.stderr
    assert count > 3
    assert first_to_leave()[0] in found[0]["ensemble/replaced"]
    for name, value in found[0].items():
        assert np.asarray(value).tobytes() == np.asarray(found[1][name]).tobytes(), name
    assert np.isfinite(found[0]["ensemble/sample"]).all()


def test_a_trajectory_is_not_replaced_for_ever():
    ensemble = build(parse(REPLACING)).ensemble
    for _ in range(24):
        ensemble.replace(BlowUpError("left", 7, 1))
    with pytest.raises(BlowUpError):
        ensemble.replace(BlowUpError("left", 7, 1))


def test_a_hanging_rank_ends_the_job_with_a_stack_of_each(tmp_path):
    text = ENSEMBLE.replace("duration: 20", "duration: 60") + "compute: {watchdog: 3s}\n"
    process = start(tmp_path, text, 2)
    # one rank stands still; the other comes to the end of the stage and waits for it
    stopped = ranks_of(process)[-1]
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert process.wait(60) == 70
    finally:
        if process.poll() is None:
            os.kill(stopped, signal.SIGKILL)
    said = (tmp_path / "said").read_text()
    assert "no progress for 3 s (compute.watchdog)" in said
    assert "checkpoint.py" in said and "in agree" in said


def test_a_rank_that_waits_for_a_slow_one_is_not_taken_for_dead(tmp_path, monkeypatch):
    given_up = []
    monkeypatch.setattr(Watchdog, "_give_up", lambda self: given_up.append(self))
    waiting, working = (Watchdog(MPI.COMM_SELF, tmp_path, 0.5) for _ in range(2))
    with waiting, working:
        for _ in range(15):
            time.sleep(0.1)
            working.beat()
        assert given_up == []
        limit = time.monotonic() + 30
        while len(set(given_up)) < 2 and time.monotonic() < limit:
            time.sleep(0.05)
    assert {waiting, working} == set(given_up)
    assert not (tmp_path / ".progress").exists()


def limited(directory: Path, text: str, size: int) -> subprocess.CompletedProcess:
    """The public command, in whose files no more than `size` bytes fit: what a full disk is like."""
    (directory / "config.yaml").write_text(text)
    # MPI has files of its own, before the limit
    code = (
        "import resource, sys; from mpi4py import MPI; from kswgd_hpc.run import main; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); sys.exit(main())"
    )
    words = [sys.executable, "-c", code, "config.yaml"]
    return subprocess.run(words, cwd=directory, env=mpi_environment(), capture_output=True, text=True, check=False)


def test_results_that_do_not_fit_are_one_line_and_leave_the_old_ones(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.h5").write_text("precious")
    process = limited(tmp_path, ENSEMBLE.replace("{directory: out}", "{directory: out, checkpoint: {}}"), 40_000)
    assert process.returncode == 1
    lines = [line for line in process.stderr.splitlines() if line.startswith("kswgd-hpc: error")]
    assert len(lines) == 1 and "output.directory: cannot write results.h5" in lines[0]
    assert "Traceback" not in process.stderr
    assert "checkpoint: cannot write" in process.stderr  # said, and the run went on
    assert (tmp_path / "out" / "results.h5").read_text() == "precious"
    assert not list((tmp_path / "out").glob(".*.partial"))


def test_two_mpi_libraries_are_refused_by_name(tmp_path):
    (loaded,) = mpi_libraries()
    other = tmp_path / "libmpi.so.12"
    shutil.copy(loaded, other)
    (tmp_path / "config.yaml").write_text(SMALL)
    code = (
        f"import ctypes, sys; from mpi4py import MPI; ctypes.CDLL({str(other)!r}); "
        "from kswgd_hpc.run import main; sys.exit(main())"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, "config.yaml"],
        cwd=tmp_path,
        env=mpi_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2, process.stderr
    assert f"two MPI libraries are loaded, {loaded} and {other}" in process.stderr.replace(
        f"{other} and {loaded}", f"{loaded} and {other}"
    )


def test_the_map_of_a_process_tells_mpi_libraries_from_their_companions(tmp_path):
    line = "7f00-7f01 r-xp 00000000 08:01 42                         "
    names = ["/a/lib/libmpi.so.40.30.4", "/b/lib/libmpich.so.12", "/a/lib/libmpi_cxx.so.40", "/a/lib/libopen-pal.so.40"]
    (tmp_path / "maps").write_text("".join(f"{line}{name}\n" for name in names))
    assert mpi_libraries(tmp_path / "maps") == ["/a/lib/libmpi.so.40.30.4", "/b/lib/libmpich.so.12"]
    with pytest.raises(MachineError, match=r"/a/lib/libmpi.so.40.30.4 and /b/lib/libmpich.so.12"):
        check_libraries(tmp_path / "maps")


def test_ranks_that_do_not_know_of_each_other_are_refused(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "4")
    with pytest.raises(MachineError, match="4 ranks were started, and each believes to be alone"):
        check_ranks(MPI.COMM_SELF)


def test_a_complex_petsc_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(eigensolver, "PETSc", type("Complex", (), {"ScalarType": np.complex128}))
    with pytest.raises(SpectrumError, match="complex scalars"):
        eigensolver.check_real()
    assert not np.issubdtype(PETSc.ScalarType, np.complexfloating)


def test_threads_on_top_of_ranks_are_warned_of(monkeypatch):
    cores = len(os.sched_getaffinity(0))
    pools = [{"num_threads": cores + 1}]
    monkeypatch.setattr("kswgd_hpc.machine.threadpoolctl.threadpool_info", lambda: pools)
    assert "set OMP_NUM_THREADS=1" in oversubscription(MPI.COMM_SELF)
    pools[0] = {"num_threads": 1}
    assert oversubscription(MPI.COMM_SELF) == ""
