"""What must be right with the machine before a job begins: one MPI library, its own launcher, one thread a core."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import threadpoolctl
from mpi4py import MPI

from kswgd_hpc.errors import MachineError

_LIBRARY = re.compile(r"lib(mpi|mpich|mpi_cray|mpi_intel|mpi_gnu\w*|pmpi)\.so[\d.]*$")
_MAPS = Path("/proc/self/maps")
# what launchers tell their ranks of the number of them
_LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def check_libraries(maps: Path = _MAPS) -> None:
    """That one MPI library has been loaded, whoever asked for one. Raises MachineError, naming them."""
    loaded = mpi_libraries(maps)
    if len(loaded) > 1:
        raise MachineError(
            f"two MPI libraries are loaded, {' and '.join(loaded)}: mpi4py, petsc4py, slepc4py and h5py have to be "
            "built with one and the same; set up again with its mpicc on the path (make distclean setup)"
        )


def start_petsc(options: Sequence[str] = ()) -> None:
    """Start PETSc with these options alone, if one MPI library is loaded. Raises MachineError."""
    import petsc4py
    import petsc4py.lib

    petsc4py.lib.ImportPETSc()  # loaded, but not started: with two MPI libraries that may crash
    check_libraries()
    petsc4py.init([sys.argv[0], *options])


def check_ranks(comm: MPI.Comm) -> None:
    """That mpi4py, petsc4py and the launcher mean the same ranks. Raises MachineError."""
    from petsc4py import PETSc

    if PETSc.COMM_WORLD.getSize() != comm.size:
        raise MachineError(
            f"petsc4py sees {PETSc.COMM_WORLD.getSize()} ranks and mpi4py {comm.size}: they are built with different "
            f"MPI libraries ({', '.join(mpi_libraries()) or 'unknown'})"
        )
    for name in _LAUNCHERS:
        told = os.environ.get(name, "1")
        if comm.size == 1 and told.isdigit() and int(told) > 1:
            library = MPI.Get_library_version().split(",")[0].strip("\x00\n ")
            raise MachineError(
                f"{told} ranks were started, and each believes to be alone: the mpiexec used is not that of "
                f"{library}, which mpi4py is built with; use its own, or srun --mpi=pmix (see jobs/README.md)"
            )


def mpi_libraries(maps: Path = _MAPS) -> list[str]:
    """Paths of the MPI libraries that this process has loaded, where the system can tell."""
    try:
        text = maps.read_text()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5].strip() for line in text.splitlines() if line.count(" ") >= 5 and "/" in line}
    return sorted({os.path.realpath(path) for path in paths if _LIBRARY.search(path)})


def oversubscription(comm: MPI.Comm) -> str:
    """A warning where ranks start more threads than they have cores, empty where they do not. Collective."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    threads = max((pool["num_threads"] for pool in threadpoolctl.threadpool_info()), default=1)
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    everyone = node.allgather((threads, cores))
    node.Free()
    available = len(set().union(*(cores for _, cores in everyone)))
    found = ""
    # ranks beyond the number of cores are the user's choice; threads on top of them are an oversight
    if threads > 1 and sum(threads for threads, _ in everyone) > available:
        found = (
            f"{len(everyone)} ranks with {threads} threads each on a node with {available} cores: set "
            "OMP_NUM_THREADS=1 (also OPENBLAS_NUM_THREADS, MKL_NUM_THREADS), as scripts/environment.sh does; "
            "this run limits its BLAS to one thread a rank"
        )
    return comm.bcast(found)


def return_memory() -> None:
    """Give memory that is free in this process back to the system; only glibc holds on to it, and can be asked."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
