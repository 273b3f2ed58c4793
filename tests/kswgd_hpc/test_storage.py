from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from kswgd_hpc import storage
from kswgd_hpc.errors import DataError
from kswgd_hpc.storage import Rows, open_recording, read_results, read_states, write_results

COMM = MPI.COMM_WORLD


def write(comm, directory):
    mine = np.full((comm.rank + 1, 3), float(comm.rank))
    start = sum(range(1, comm.rank + 1))
    total = sum(range(1, comm.size + 1))
    datasets = {
        "a/complex": np.array([1 + 2j, 3.0]),
        "a/rows": Rows(mine, start, total),
        "a/text": "Monte Carlo",
        "b": 2.5,
    }
    return write_results(comm, directory, datasets, {"title": "t", "ranks": comm.size})


def check(path, size):
    found, attributes = read_results(path)
    assert found["a/complex"].tolist() == [1 + 2j, 3.0]
    assert found["a/rows"][:, 0].tolist() == [float(r) for r in range(size) for _ in range(r + 1)]
    assert found["a/text"] == "Monte Carlo"
    assert found["b"] == 2.5
    assert attributes["title"] == "t"


def test_results_come_back_as_they_were_written(tmp_path):
    check(write(MPI.COMM_SELF, tmp_path), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["results.h5"]


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("parallel", [True, False])
def test_ranks_write_one_file_with_and_without_parallel_hdf5(tmp_path, monkeypatch, parallel):
    directory = COMM.bcast(tmp_path)
    if not parallel:
        monkeypatch.setattr(storage, "parallel_hdf5", lambda comm: False)
    path = write(COMM, directory)
    COMM.Barrier()
    check(path, COMM.size)
    COMM.Barrier()


def test_a_failed_write_leaves_no_partial_file(tmp_path):
    with pytest.raises(TypeError):
        write_results(MPI.COMM_SELF, tmp_path, {"bad": object()}, {})
    assert list(tmp_path.iterdir()) == []


def test_recordings_are_read_in_slices(tmp_path):
    import h5py

    array = np.arange(24.0).reshape(4, 3, 2)
    np.save(tmp_path / "a.npy", array)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = array
    for path, dataset in (("a.npy", None), ("a.h5", "x")):
        recording = open_recording(str(tmp_path / path), dataset, "system.path")
        assert recording.shape == (4, 3, 2)
        assert (recording.read((1, 3), (0, 2)) == array[1:3, 0:2]).all()
    with pytest.raises(DataError, match="it has x"):
        open_recording(str(tmp_path / "a.h5"), "y", "system.path")


def test_initial_states_must_fit_the_system(tmp_path):
    np.save(tmp_path / "s.npy", np.zeros((5, 3)))
    assert read_states(str(tmp_path / "s.npy"), None, 3, "k").shape == (5, 3)
    with pytest.raises(DataError, match="expected"):
        read_states(str(tmp_path / "s.npy"), None, 4, "k")
