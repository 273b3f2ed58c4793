"""python -m kswgd_hpc doctor: whether this machine is fit for runs, line by line, with what to do where it is not.

Under mpiexec it also measures the ranks that it is started on:  mpiexec -n 4 python -m kswgd_hpc doctor
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

_MESSAGE = 2**22  # bytes of the message that measures bandwidth
_SLOW = 1e8  # bytes a second
_NEEDED = {
    "numpy": "1.24",
    "scipy": "1.10",
    "numba": "0.57",
    "h5py": "3.7",
    "pydantic": "2",
    "mpi4py": "3.1",
    "petsc4py": "3.18",
    "slepc4py": "3.18",
}


@dataclass(frozen=True)
class Finding:
    """A line of the diagnosis. verdict : ok, note (works, but look at it) or bad; remedy : what to do unless ok."""

    verdict: str
    what: str
    found: str
    remedy: str = ""


def main(argv: list[str]) -> int:
    """Print the diagnosis. Collective. Returns 1 where something is bad, 0 otherwise."""
    parser = argparse.ArgumentParser(prog="kswgd-hpc doctor", description=__doc__)
    parser.add_argument("--directory", default=".", help="on the file system that runs will write to (.)")
    options = parser.parse_args(argv)
    findings = _libraries()
    if any(finding.verdict == "bad" for finding in findings):
        first = os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0")) == "0"
        return _print(findings) if first else 1  # nothing that follows could be imported
    import petsc4py

    petsc4py.init([sys.argv[0]])
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    for check in (_scalars, _mpi, _hdf5, _gpu, _memory, _threads, _ranks):
        findings += check(comm)
    findings += _file_system(comm, Path(options.directory))
    status = _print(findings) if comm.rank == 0 else 0
    return comm.bcast(status)


def _print(findings: list[Finding]) -> int:
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        print(f"{finding.verdict:<5} {finding.what:<{width}}  {finding.found}")
        if finding.remedy:
            print(f"      {'':<{width}}  -> {finding.remedy}")
    bad = sum(finding.verdict == "bad" for finding in findings)
    notes = sum(finding.verdict == "note" for finding in findings)
    print(f"\n{'not fit' if bad else 'fit'} for runs: {bad} bad, {notes} to look at, {len(findings) - bad - notes} ok")
    return int(bad > 0)


def version_number(text: str) -> tuple[int, ...]:
    """Leading numbers of a version, for comparison."""
    numbers = []
    for part in text.split("."):
        digits = re.match(r"\d*", part).group()
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _libraries() -> list[Finding]:
    found = [Finding("ok", "Python", f"{platform.python_version()}, {sys.executable}")]
    for name, needed in _NEEDED.items():
        try:
            version = import_module(name).__version__
        except ImportError as error:
            found.append(Finding("bad", name, f"cannot be imported: {error}", "run 'make setup', or see README.md"))
            continue
        old = version_number(version) < version_number(needed)
        remedy = f"needs {needed} or later" if old else ""
        found.append(Finding("bad" if old else "ok", name, version, remedy))
    return found


def _scalars(_comm) -> list[Finding]:
    from petsc4py import PETSc

    real = not issubclass(PETSc.ScalarType, complex) and PETSc.ScalarType(0).dtype.kind == "f"
    version = ".".join(map(str, PETSc.Sys.getVersion()))
    found = f"{version}, {PETSc.ScalarType.__name__}, {PETSc.IntType.__name__}, CUDA: {_petsc_has('cuda')}"
    return [Finding("ok" if real else "bad", "PETSc", found, "" if real else "use a PETSc with real scalars")]


def _petsc_has(package: str) -> str:
    from petsc4py import PETSc

    has = getattr(PETSc.Sys, "hasExternalPackage", None)
    return "unknown" if has is None else "yes" if has(package) else "no"


def mpi_libraries() -> set[str]:
    """Files of the MPI libraries that this process has loaded; empty where the system does not tell."""
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return set()
    names = {line.split()[-1] for line in mapped.splitlines() if "/" in line}
    return {os.path.realpath(n) for n in names if os.path.basename(n).startswith(("libmpi.so", "libmpich.so"))}


def _mpi(comm) -> list[Finding]:
    import petsc4py.PETSc  # noqa: F401  # both have loaded theirs now
    from mpi4py import MPI

    library = MPI.Get_library_version().split(",")[0].strip("\x00\n ")
    level = ("single", "funneled", "serialized", "multiple")[MPI.Query_thread()]
    found = [Finding("ok", "MPI", f"{library}, {comm.size} rank{'s' * (comm.size > 1)}, threads: {level}")]
    loaded = mpi_libraries()
    if len(loaded) > 1:
        remedy = "rebuild one of them with the mpicc of the other: pip install --no-binary :all: mpi4py"
        return [
            *found,
            Finding("bad", "mpi4py and petsc4py", f"use different MPIs: {', '.join(sorted(loaded))}", remedy),
        ]
    found.append(Finding("ok", "mpi4py and petsc4py", f"one MPI: {', '.join(loaded) or 'not told by this system'}"))
    started = next((n for n in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS") if n in os.environ), None)
    if started and comm.size == 1 and int(os.environ[started]) > 1:
        remedy = "start with the mpiexec of the MPI above, or see 'srun or mpiexec' in jobs/README.md"
        found.append(
            Finding("bad", "launcher", f"started {os.environ[started]} ranks that do not know each other", remedy)
        )
    return found


def _hdf5(comm) -> list[Finding]:
    import h5py

    if h5py.get_config().mpi:
        return [Finding("ok", "HDF5", f"{h5py.version.hdf5_version}, parallel")]
    if comm.size == 1:  # where there are both, as on Debian, one rank gets the serial one
        return [Finding("ok", "HDF5", f"{h5py.version.hdf5_version}, serial on one rank")]
    remedy = "results pass through rank 0, which matters for large snapshots: see 'Parallel HDF5' in jobs/README.md"
    return [Finding("note", "HDF5", f"{h5py.version.hdf5_version}, serial", remedy)]


def _gpu(_comm) -> list[Finding]:
    try:
        import cupy
    except ImportError:
        present = Path("/dev/nvidia0").exists()
        remedy = "pip install cupy-cuda12x, to move particles on it" if present else ""
        return [Finding("note" if present else "ok", "GPU", "one is there, CuPy is not" if present else "none", remedy)]
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        names = [cupy.cuda.runtime.getDeviceProperties(i)["name"].decode() for i in range(count)]
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return [Finding("note", "GPU", f"CuPy {cupy.__version__} finds none: {error}", "use compute.device: cpu")]
    return [Finding("ok", "GPU", f"CuPy {cupy.__version__}: {', '.join(names)}")]


def _memory(comm) -> list[Finding]:
    from kswgd_hpc import memory

    here = memory.of_machine() / memory.ranks_on_node(comm)
    tight = here < 6e8
    remedy = "a small run takes about 0.4 GB a rank: start fewer ranks on a node" if tight else ""
    return [Finding("note" if tight else "ok", "memory", f"{memory.readable(here)} for each rank of a node", remedy)]


def _threads(comm) -> list[Finding]:
    import threadpoolctl

    from kswgd_hpc import memory

    cores, ranks = len(os.sched_getaffinity(0)), memory.ranks_on_node(comm)
    pools = {pool["internal_api"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    threads = max(pools.values(), default=1)
    text = (
        f"{cores} cores, {ranks} rank{'s' * (ranks > 1)} on a node, {threads} BLAS thread{'s' * (threads > 1)} a rank"
    )
    total = os.cpu_count() or cores
    if ranks > total:
        return [Finding("note", "cores", text, "more ranks than cores: right, but no faster")]
    if threads > 1 and ranks > 1:
        remedy = (
            "export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1: start-up is slower with threads that a run never uses"
        )
        return [Finding("note", "cores", text, remedy)]
    if ranks > 1 and cores == 1 and not _own_cores(comm):
        return [
            Finding(
                "bad", "cores", text + ", and ranks share a core", "mpiexec --bind-to none, or srun --cpu-bind=cores"
            )
        ]
    return [Finding("ok", "cores", text)]


def _own_cores(comm) -> bool:
    """Whether ranks that are pinned to one core each have different ones. Collective."""
    bound = comm.allgather((os.uname().nodename, tuple(sorted(os.sched_getaffinity(0)))))
    return len(set(bound)) == len(bound)


def _ranks(comm) -> list[Finding]:
    """Time of a message and of many bytes between the first and the last rank, and of one Allreduce. Collective."""
    import numpy as np

    if comm.size == 1:
        return [Finding("ok", "network", "one rank: start under mpiexec to measure messages")]
    ping = _exchange(comm, np.zeros(1), 200)
    long = _exchange(comm, np.zeros(_MESSAGE // 8), 10)
    small, out = np.zeros(32), np.zeros(32)
    comm.Barrier()
    began = time.perf_counter()
    for _ in range(100):
        comm.Allreduce(small, out)
    reduced = (time.perf_counter() - began) / 100
    rate = _MESSAGE / max(long - ping, 1e-9)
    nodes = len(set(comm.allgather(os.uname().nodename)))
    text = (
        f"{1e6 * ping:.3g} us, {rate / 1e9:.3g} GB/s, Allreduce of 32 numbers {1e6 * reduced:.3g} us, {nodes} node(s)"
    )
    slow = ping > 1e-3 or rate < _SLOW
    remedy = (
        "slow for MPI: more ranks than cores, or a network that this MPI does not know (jobs/README.md)" if slow else ""
    )
    return [Finding("note" if slow else "ok", "network", text, remedy)]


def _exchange(comm, message, times: int) -> float:
    """Seconds one way between the first and the last rank."""
    last = comm.size - 1
    comm.Barrier()
    began = time.perf_counter()
    for _ in range(times):
        if comm.rank == 0:
            comm.Send(message, dest=last)
            comm.Recv(message, source=last)
        elif comm.rank == last:
            comm.Recv(message, source=0)
            comm.Send(message, dest=0)
    return comm.bcast((time.perf_counter() - began) / times / 2)


def _file_system(comm, directory: Path) -> list[Finding]:
    """What results and checkpoints need of a file system, tried on rank 0. Collective.

    A directory that is not there yet is one that a run would make: it is tried in the nearest one that is.
    """
    found: list[Finding] = []
    if comm.rank == 0:
        directory = next((each for each in (directory, *directory.absolute().parents) if each.exists()), directory)
        for what, remedy, attempt in _FILE_CHECKS:
            place = directory / f".kswgd-doctor-{os.getpid()}"
            began = time.perf_counter()
            try:
                text = attempt(place)
            except OSError as error:
                found.append(Finding("bad", what, f"{directory}: {error.strerror or error}", remedy))
                break
            finally:
                for path in directory.glob(f"{place.name}*"):
                    path.unlink()
            seconds = time.perf_counter() - began
            slow = seconds > 2.0
            note = "slow: give output.directory on a faster file system" if slow else ""
            found.append(Finding("note" if slow else "ok", what, f"{text} in {1e3 * seconds:.3g} ms", note))
    return comm.bcast(found)


def _write(place: Path) -> str:
    place.write_bytes(b"\0" * 2**23)
    return "8 MB"


def _sync(place: Path) -> str:
    with open(place, "wb") as file:
        file.write(b"\0" * 2**20)
        file.flush()
        os.fsync(file.fileno())
    return "1 MB and fsync"


def _rename(place: Path) -> str:
    new = place.with_name(place.name + ".new")
    place.write_bytes(b"old")
    new.write_bytes(b"new")
    os.replace(new, place)
    if place.read_bytes() != b"new":
        raise OSError("a file that was replaced is still the old one")
    return "one file put in the place of another"


def _lock(place: Path) -> str:
    with open(place, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)
    return "locked"


_ELSEWHERE = "give --directory, and output.directory of your configuration, where you may write"
_FILE_CHECKS: tuple[tuple[str, str, Callable[[Path], str]], ...] = (
    ("writing files", _ELSEWHERE, _write),
    ("syncing files", "checkpoints would not survive a crash here: use another file system", _sync),
    ("replacing files", "results could be torn here: use another file system", _rename),
    ("locking files", "export HDF5_USE_FILE_LOCKING=FALSE, or use another file system", _lock),
)
