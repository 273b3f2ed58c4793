"""results.h5 and the user's files: parallel HDF5 where h5py has it, the same layout without.

The only module, with the restart files, that touches h5py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from mpi4py import MPI

from kswgd_hpc.errors import DataError
from kswgd_hpc.parallel import from_root

RESULTS = "results.h5"


@dataclass(frozen=True)
class Rows:
    """This rank's rows of a dataset that is shared out over ranks.

    Parameters
    ----------
    local : (n, ...) array, rows start..start + n of the dataset
    start : first row
    total : rows of the whole dataset
    axis : along which the rows lie, 0 or 1
    """

    local: np.ndarray
    start: int
    total: int
    axis: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole dataset."""
        shape = self.local.shape
        return (*shape[: self.axis], self.total, *shape[self.axis + 1 :])

    def put(self, dataset: h5py.Dataset) -> None:
        """Write this rank's rows."""
        count = self.local.shape[self.axis]
        if count and self.local.size:
            dataset[(slice(None),) * self.axis + (slice(self.start, self.start + count),)] = self.local


def version() -> str:
    """Version of h5py."""
    return h5py.__version__


def parallel_hdf5(comm: MPI.Comm) -> bool:
    """Whether all ranks write one file together."""
    return comm.size > 1 and h5py.get_config().mpi


def write_results(comm: MPI.Comm, directory: Path, datasets: Mapping[str, Any], attributes: Mapping[str, Any]) -> Path:
    """Write results.h5 and put it in place in one move. Collective.

    Parameters
    ----------
    directory : exists
    datasets : path in the file -> array (the same on every rank), string, or Rows
    attributes : of the file; a name with the path of a group in front belongs to that group

    Returns
    -------
    path of the file; an existing one is replaced only once the new one is complete
    """
    target = directory / RESULTS
    partial = directory / f".{RESULTS}.partial"
    try:
        (_write_parallel if parallel_hdf5(comm) else _write_serial)(comm, partial, datasets, attributes)
        from_root(comm, lambda: _into_place(partial, target))
    except BaseException as error:
        if comm.rank == 0:
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError | RuntimeError):  # HDF5 says that a disk is full in either
            raise DataError(
                f"output.directory: cannot write {RESULTS} to {directory}: {error}; make room there and --resume"
            ) from error
        raise
    return target


def _write_parallel(comm: MPI.Comm, path: Path, datasets, attributes) -> None:
    with h5py.File(path, "w", driver="mpio", comm=comm) as file:
        _set(file, attributes)
        for name, value in datasets.items():
            if isinstance(value, Rows):
                value.put(_create(file, name, value))
            else:
                array = _plain(value)
                dataset = file.create_dataset(name, shape=array.shape, dtype=array.dtype)
                if comm.rank == 0:
                    dataset[...] = array


def _write_serial(comm: MPI.Comm, path: Path, datasets, attributes) -> None:
    """Rank 0 writes; the others hand over their rows one after the other, so that it holds one share at a time."""
    file = h5py.File(path, "w") if comm.rank == 0 else None
    if file is not None:
        _set(file, attributes)
    for name, value in datasets.items():
        if not isinstance(value, Rows):
            if file is not None:
                file.create_dataset(name, data=_plain(value))
        elif file is None:
            comm.send(value, dest=0, tag=7)
        else:
            dataset = _create(file, name, value)
            value.put(dataset)
            for source in range(1, comm.size):
                comm.recv(source=source, tag=7).put(dataset)
    if file is not None:
        file.close()


def _set(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    for path, value in attributes.items():
        group, _, name = path.rpartition("/")
        file.require_group(group or "/").attrs[name] = value


def _create(file: h5py.File, name: str, value: Rows) -> h5py.Dataset:
    return file.create_dataset(name, shape=value.shape, dtype=value.local.dtype)


def _plain(value: Any) -> np.ndarray:
    return np.asarray(value.encode() if isinstance(value, str) else value)


def _into_place(partial: Path, target: Path) -> None:
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, target)


def read_results(path: Path, skip: tuple[str, ...] = ()) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All datasets of a results file by path, but for those to skip, strings decoded; and its attributes, those
    of a group with its path in front."""
    found: dict[str, np.ndarray] = {}
    attributes: dict[str, Any] = {}

    def visit(name: str, item) -> None:
        if isinstance(item, h5py.Dataset) and name not in skip:
            value = item[()]
            found[name] = value.decode() if isinstance(value, bytes) else value
        attributes.update({f"{name}/{key}": value for key, value in item.attrs.items()})

    with h5py.File(path, "r") as file:
        file.visititems(visit)
        attributes |= dict(file.attrs)
    return found, attributes


def attribute(path: Path, name: str) -> Any:
    """An attribute of a results file, None where there is no such file or attribute."""
    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get(name)
    except OSError:
        return None


def prepare_directory(comm: MPI.Comm, directory: Path, key: str = "output.directory") -> None:
    """Make the output directory, which a key names, and check that it can be written. Collective."""

    def make() -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            probe = directory / ".writable"
            probe.write_bytes(b"")
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{key}: cannot write to {directory}: {error.strerror or error}") from error

    from_root(comm, make)


@dataclass(frozen=True)
class Recording:
    """The user's array, opened but not read.

    shape : of the array; read : function of slices along the first axes -> float array
    """

    shape: tuple[int, ...]
    read: Callable[..., np.ndarray]


def open_recording(path: str, dataset: str | None, key: str) -> Recording:
    """Open an NPY or HDF5 array of numbers; slices are read when asked for and must be finite.

    Raises
    ------
    DataError : missing file or dataset, not numbers, entries that are not finite (named)
    """
    array = _open_array(path, dataset, key)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{key}: {path} holds {array.dtype}, expected real numbers")
    if 0 in array.shape:
        raise DataError(f"{key}: {path} is empty, shape {array.shape}")

    def read(*ranges: tuple[int, int]) -> np.ndarray:
        part = np.asarray(array[tuple(slice(a, b) for a, b in ranges)], dtype=float)
        if not np.isfinite(part).all():
            index = np.argwhere(~np.isfinite(part))[0]
            index[: len(ranges)] += [a for a, _ in ranges]
            raise DataError(f"{key}: {path} has an entry that is not finite at index {tuple(int(i) for i in index)}")
        return part

    return Recording(tuple(array.shape), read)


def _open_array(path: str, dataset: str | None, key: str):
    if not Path(path).is_file():
        raise DataError(f"{key}: no such file: {path}")
    if path.endswith(".npy"):
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError) as error:
            raise DataError(f"{key}: {path} is not an NPY array of numbers") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{key}: {path} is neither NPY nor HDF5") from error
    if dataset is None or not isinstance(file.get(dataset), h5py.Dataset):
        names = [name for name in file if isinstance(file[name], h5py.Dataset)]
        problem = "give 'dataset'" if dataset is None else f"no dataset {dataset!r}"
        raise DataError(f"{key}: {path}: {problem}; it has {', '.join(names) or 'none at its top level'}")
    return file[dataset]


def read_states(path: str, dataset: str | None, dimension: int, key: str) -> np.ndarray:
    """(n, d) initial states from a file of (d,) or (n, d)."""
    recording = open_recording(path, dataset, key)
    if len(recording.shape) not in (1, 2) or recording.shape[-1] != dimension:
        raise DataError(f"{key}: {path} has shape {recording.shape}, expected ({dimension},) or (n, {dimension})")
    return np.atleast_2d(recording.read())


def write_file(path: Path, datasets: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Write one process's HDF5 file, and put it in place in one move."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with h5py.File(partial, "w") as file:
            file.attrs.update(attributes)
            for name, value in datasets.items():
                file.create_dataset(name, data=_plain(value))
        _into_place(partial, path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
