"""The diagnosis of a machine."""

from __future__ import annotations

import pytest
from mpi4py import MPI

from kswgd_hpc.commands import doctor


def test_this_machine_is_fit(tmp_path, capsys):
    assert doctor.main(["--directory", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for part in ("PETSc", "float64", "one MPI", "HDF5", "cores", "replacing files", "fit for runs: 0 bad"):
        assert part in said
    assert not list(tmp_path.iterdir())


def test_a_directory_that_a_run_would_make_is_tried_in_the_nearest_one(tmp_path, capsys):
    assert doctor.main(["--directory", str(tmp_path / "results" / "mine")]) == 0
    assert "fit for runs: 0 bad" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_written_is_bad_with_a_remedy(capsys):
    assert doctor.main(["--directory", "/proc/nothing"]) == 1
    said = capsys.readouterr().out
    assert "bad   writing files" in said
    assert "-> give --directory" in said
    assert "not fit for runs: 1 bad" in said


def test_two_mpi_libraries_in_one_process_are_bad(monkeypatch):
    monkeypatch.setattr(doctor, "mpi_libraries", lambda: {"/a/libmpi.so.40", "/b/libmpi.so.12"})
    _, finding = doctor._mpi(MPI.COMM_SELF)
    assert finding.verdict == "bad"
    assert "/a/libmpi.so.40, /b/libmpi.so.12" in finding.found


def test_ranks_that_do_not_know_each_other_are_bad(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    assert "started 4 ranks that do not know each other" in doctor._mpi(MPI.COMM_SELF)[-1].found


def test_a_library_that_is_absent_or_too_old_is_bad(monkeypatch):
    monkeypatch.setattr(doctor, "_NEEDED", {"numpy": "99", "no_such_library": "1"})
    old, absent = doctor._libraries()[1:]
    assert (old.verdict, old.remedy) == ("bad", "needs 99 or later")
    assert absent.verdict == "bad"


@pytest.mark.parametrize(
    ("text", "number"), [("1.26.4", (1, 26, 4)), ("3.18.5rc1", (3, 18, 5)), ("2", (2,)), ("x", ())]
)
def test_versions_compare_as_numbers(text, number):
    assert doctor.version_number(text) == number


@pytest.mark.mpi
def test_messages_between_ranks_are_measured():
    (finding,) = doctor._ranks(MPI.COMM_WORLD)
    assert finding.what == "network"
    assert "GB/s" in finding.found
