"""Types of PETSc's matrices by the device, the one place that decides; and options that nothing used.

The types reach the matrices through the options database, as PETSc means it: dense matrices read
-kswgd_dense_mat_type, sparse ones -kswgd_aij_mat_type, which may be given on the command line as well.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass

from mpi4py import MPI
from petsc4py import PETSc

from kswgd_hpc.errors import ConfigurationError


@dataclass(frozen=True)
class Types:
    """Names of PETSc types; vectors made by a matrix are of the type that fits it."""

    dense: str
    aij: str


HOST = Types("dense", "aij")
CUDA = Types("densecuda", "aijcusparse")


def types_for(device: str, built: bool, gpus: int) -> Types:
    """Types for compute.device.

    Parameters
    ----------
    device : auto, cpu or cuda
    built : whether PETSc was built with CUDA; gpus : number of GPUs that this process sees

    Raises
    ------
    ConfigurationError : when cuda is asked for and cannot be had
    """
    if device == "cpu":
        return HOST
    if built and gpus:
        return CUDA
    if device == "cuda":
        reason = "no GPU is visible" if built else "this PETSc was built without CUDA"
        raise ConfigurationError(f"compute.device: cuda cannot be used: {reason}")
    return HOST


def select(device: str) -> Types:
    """Types for compute.device with this PETSc on this machine; see `types_for`."""
    return types_for(device, PETSc.Sys.hasExternalPackage("cuda"), visible_gpus())


def apply(types: Types) -> None:
    """Make them the types of the matrices to come, unless the command line names others."""
    database = PETSc.Options()
    for name, kind, default in (("dense", types.dense, HOST.dense), ("aij", types.aij, HOST.aij)):
        if kind != default and not database.hasName(f"kswgd_{name}_mat_type"):
            database[f"kswgd_{name}_mat_type"] = kind


def typed(matrix: PETSc.Mat, name: str) -> None:
    """Give a matrix that has its sizes its type, `dense` or `aij`, or what the database has in its place."""
    matrix.setType(name)
    matrix.setOptionsPrefix(f"kswgd_{name}_")
    matrix.setFromOptions()


def communicator(comm: MPI.Comm) -> MPI.Comm:
    """A communicator as petsc4py takes it, which wants no class derived from mpi4py's (see `traffic.Counted`)."""
    return comm if type(comm) is MPI.Intracomm else MPI.Intracomm(comm)


def unused_options(names: Iterable[str]) -> list[str]:
    """Those of some PETSc options, named without the dash, that no solver or matrix has asked for; not collective."""
    options = PETSc.Options()
    if hasattr(options, "used"):
        return [name for name in names if not options.used(name)]
    # petsc4py of Debian 12 has no interface to it, but the library it is linked to has
    used, library = ctypes.c_int(0), ctypes.CDLL(PETSc.__file__)
    library.PetscOptionsUsed.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int)]
    found = []
    for name in names:
        if library.PetscOptionsUsed(None, name.encode(), ctypes.byref(used)) or not used.value:
            found.append(name)
    return found


def given_options(arguments: Iterable[str]) -> list[str]:
    """Names, without the dash, of the options among arguments of the command line."""
    return [text.lstrip("-") for text in arguments if text.startswith("-") and not text.lstrip("-")[:1].isdigit()]


def visible_gpus() -> int:
    """Number of NVIDIA GPUs that the driver shows this process."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value
