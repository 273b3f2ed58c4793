"""Array library by device: NumPy on the host, CuPy on a GPU, the same code for both."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from kswgd_hpc.errors import ConfigurationError


def array_module(*arrays) -> ModuleType:
    """NumPy, or CuPy where any of the arrays lives on a GPU."""
    for array in arrays:
        if type(array).__module__.startswith("cupy"):
            import cupy

            return cupy
    return np


def to_host(array) -> np.ndarray:
    """NumPy array with the same values."""
    return array.get() if hasattr(array, "get") else np.asarray(array)


def select(device: str) -> ModuleType:
    """Array module for compute.device: auto takes a GPU where CuPy sees one.

    Raises
    ------
    ConfigurationError : when cuda is asked for and cannot be had
    """
    if device == "cpu":
        return np
    reason = "CuPy is not installed"
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount() > 0:
            return cupy
        reason = "no GPU is visible"
    except ImportError:
        pass
    except Exception as error:  # CuPy has its own exceptions, and cannot be imported to name them
        reason = f"CuPy found no usable GPU ({error})"
    if device == "cuda":
        raise ConfigurationError(f"compute.device: cuda cannot be used: {reason}")
    return np
