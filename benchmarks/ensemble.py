"""Time stepping against the cost of random numbers: python -m benchmarks.ensemble.

One process, one core, float64. Each figure is the best of a few repeats, in nanoseconds per point and step, and as a
ratio to one number of numpy.random.Generator(Philox).standard_normal on the same machine at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import threadpoolctl

from spde.diffusions import langevin
from spde.domain import Interval
from spde.equations import named_equation
from spde.random import normals
from spde.stepping import Noise

_REPEATS = 5


def best(work: Callable[[], object], updates: int) -> float:
    """Nanoseconds per update, the best of a few repeats after one that compiles."""
    work()
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds) / updates * 1e9


def cases() -> dict[str, tuple[Callable[[], object], int]]:
    """Name -> work and the number of (point, step) updates in it."""
    noise, found = Noise(1, 0, 0), {}
    block = np.empty((256, 256))
    found["normals from counters, 256 x 256"] = (lambda: normals(block, 1, 0, 0, 0), block.size)
    for points, batch, kind in ((32, 32, "finite_difference"), (256, 256, "finite_difference"), (256, 256, "spectral")):
        equation = named_equation("allen_cahn", Interval(2.5, points, "neumann", kind), 0.5, {})
        start = equation.from_fields(np.ones((equation.interval.grid_points, batch)))
        for scheme in ("exponential_euler", "exponential_heun"):
            stepper = equation.stepper(0.005, scheme)
            steps = 400_000 // (points * batch) + 20
            name = f"Allen-Cahn, {kind}, n = {points}, {batch} trajectories, {scheme}"
            found[name] = (lambda s=stepper, x=start, n=steps: s.advance(x, noise, 0, n), steps * points * batch)
    wells = langevin(["x", "y"], "(x**2-1)**2 + (y**2-1)**2", 1.0).stepper(0.005)
    found["four wells, 64 trajectories, heun"] = (lambda: wells.advance(np.zeros((2, 64)), noise, 0, 2000), 2000 * 128)
    return found


def main() -> None:
    """Print the table."""
    generator = np.random.Generator(np.random.Philox(1))
    with threadpoolctl.threadpool_limits(1):
        floor = best(lambda: generator.standard_normal(65536), 65536)
        print(f"{'NumPy Philox normal':<75} {floor:7.2f} ns    1.00")
        for name, (work, updates) in cases().items():
            cost = best(work, updates)
            print(f"{name:<75} {cost:7.2f} ns {cost / floor:7.2f}")


if __name__ == "__main__":
    main()
