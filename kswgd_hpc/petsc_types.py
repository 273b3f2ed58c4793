"""Types of PETSc's matrices by the device: the one place that decides."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

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
