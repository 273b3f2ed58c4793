"""Time stepping against the cost of random numbers: python -m benchmarks.ensemble [--compile].

One process, one core, float64. Each figure is the best of a few repeats, in nanoseconds per point and step, and as a
ratio to one number of numpy.random.Generator(Philox).standard_normal in the same process at the same time: the two are
measured in turn. In a spectral method a point is a mode; its nonlinear terms are evaluated on the finer, dealiased
grid. With --compile: seconds until a first step, with an empty cache of compiled kernels and with a full one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import threadpoolctl

from spde.catalogue import named_equation
from spde.diffusions import langevin
from spde.domain import Domain
from spde.equations import Field, SemilinearEquation
from spde.noise import Covariance
from spde.random import normals
from spde.stepping import Noise

_REPEATS = 15
_COMPILED = """
import sys, time
import numpy as np
from spde.catalogue import named_equation
from spde.domain import Domain
from spde.stepping import Noise
import sympy
began = time.perf_counter()
equation = named_equation("allen_cahn", Domain.box(2.5, 64), 0.5)
equation.stepper(0.01, sys.argv[1]).advance(np.zeros((64, 8)), Noise(1, 0, 0), 0, 1)
print(time.perf_counter() - began)
"""


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call: what others do on the machine does not count."""
    began = time.process_time()
    work()
    return time.process_time() - began


def compare(work: Callable[[], object], updates: int) -> tuple[float, float]:
    """Nanoseconds per update, and its ratio to one NumPy Philox normal measured in turn with it."""
    generator = np.random.Generator(np.random.Philox(1))
    work()
    mine, floor = np.inf, np.inf
    for _ in range(_REPEATS):
        mine = min(mine, seconds(work) / updates)
        floor = min(floor, seconds(lambda: generator.standard_normal(65536)) / 65536)
    return mine * 1e9, mine / floor


def stepping(equation: SemilinearEquation, scheme: str, trajectories: int, time_step: float) -> tuple:
    """Work of a few steps of a batch, in pieces of cache size, and its number of updates."""
    stepper, lanes = equation.stepper(time_step, scheme), min(equation.lanes, trajectories)
    start = equation.from_fields(np.full((len(equation.names) * equation.domain.grid_size, lanes), 0.5))
    steps = max(4, 3_000_000 // (equation.dimension * trajectories))

    def work():
        for first in range(0, trajectories, lanes):
            stepper.advance(start, Noise(1, 0, first), 0, steps)

    return work, steps * equation.dimension * trajectories


def cases() -> Iterator[tuple[str, Callable[[], object], int]]:
    """Name, work, and the number of (point, step) updates in it."""
    block = np.empty((256, 64))
    yield "normals from counters, 256 x 64", lambda: normals(block, 1, 0, 0, 0), block.size
    line = Domain.box(2.5, 256)
    custom = SemilinearEquation(line, [Field(diffusivity="nu", reaction="a*u - b*u**3", amplitude=0.5)], None,
                                {"nu": 1.0, "a": 1.1, "b": 0.9})  # fmt: skip
    for name, equation in (("Allen-Cahn", named_equation("allen_cahn", line, 0.5)), ("a custom cubic", custom)):
        for scheme, step in (("euler_maruyama", 4e-5), ("semi_implicit", 1e-3)):
            yield f"{name}, finite differences, n = 256, {scheme}", *stepping(equation, scheme, 256, step)
    yield (
        "sine-Gordon, finite differences, n = 256, semi_implicit",
        *stepping(named_equation("sine_gordon", line, 0.5), "semi_implicit", 256, 1e-3),
    )
    for scheme in ("exponential_euler", "exponential_heun"):
        equation = named_equation("allen_cahn", line, 0.5)
        yield f"Allen-Cahn, finite differences, n = 256, {scheme}", *stepping(equation, scheme, 256, 1e-3)
    for boundary in ("neumann", "periodic", "dirichlet"):
        equation = named_equation("allen_cahn", Domain.box(2.5, 256, boundary, "spectral"), 0.5)
        for scheme in ("exponential_euler", "lie_splitting", "strang_splitting", "exponential_heun"):
            yield f"Allen-Cahn, spectral, {boundary}, n = 256, {scheme}", *stepping(equation, scheme, 256, 1e-3)
    for kind in ("finite_difference", "spectral"):
        square = Domain.box([2.5, 2.5], 128, "neumann", kind)
        equation = named_equation("allen_cahn", square, 0.5, {}, Covariance("matern", 0.1))
        for scheme in ("exponential_euler", "strang_splitting"):
            yield f"Allen-Cahn, {kind}, 128 x 128, {scheme}", *stepping(equation, scheme, 32, 1e-3)
    small = named_equation("allen_cahn", Domain.box(2.5, 32), 0.5)
    yield "Allen-Cahn, finite differences, n = 32, exponential_heun", *stepping(small, "exponential_heun", 64, 5e-3)
    wells = langevin(["x", "y"], "(x**2-1)**2 + (y**2-1)**2", 1.0).stepper(0.005)
    yield (
        "four wells, 64 trajectories, heun",
        lambda: wells.advance(np.zeros((2, 64)), Noise(1, 0, 0), 0, 2000),
        256_000,
    )


def compile_times() -> None:
    """Print seconds to a first step in a new process, with an empty cache and with a full one."""
    with tempfile.TemporaryDirectory() as cache:
        places = {"KSWGD_CACHE": cache, "NUMBA_CACHE_DIR": cache}
        for scheme in ("semi_implicit", "exponential_heun", "strang_splitting"):
            command = [sys.executable, "-c", _COMPILED, scheme]
            found = [subprocess.check_output(command, env={**os.environ, **places}, text=True) for _ in range(2)]
            print(f"{scheme:<30} first {float(found[0]):6.2f} s, from the cache {float(found[1]):6.2f} s")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ensemble", description=__doc__.splitlines()[0])
    parser.add_argument("--compile", action="store_true", help="seconds until a first step instead")
    if parser.parse_args().compile:
        compile_times()
        return
    with threadpoolctl.threadpool_limits(1):
        for name, work, updates in cases():
            nanoseconds, ratio = compare(work, updates)
            print(f"{name:<72} {nanoseconds:7.2f} ns {ratio:7.3f}", flush=True)


if __name__ == "__main__":
    main()
