"""Cost of a transport step against its matrix products alone: python -m benchmarks.transport [--million].

One core, processor time. The floor is timed between the steps of the same process: the product that gives the exponents
of all Gaussians at all particles, that which gives gradients, and the sum of features projected on the modes.
`--million` is a million particles in 32 dimensions with 500 Gaussians; under mpiexec its time and memory are those of
the slowest rank.
"""

from __future__ import annotations

import argparse
import resource
import time
from types import SimpleNamespace

import numpy as np
import threadpoolctl
from mpi4py import MPI

from kswgd_hpc import transport
from kswgd_hpc.dictionary import GaussianDictionary
from kswgd_hpc.parallel import local

_ROUNDS = 9


def problem(comm: MPI.Comm, particles: int, d: int, size: int, modes: int):
    """A flow with random smooth functions, and its particles."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(size, d))
    spectrum = SimpleNamespace(
        rates=np.arange(modes + 1.0),
        coefficients=rng.normal(size=(size, modes + 1)) / np.sqrt(size),
        offsets=np.zeros(modes + 1),
        dictionary=GaussianDictionary(centres, np.sqrt(d / 2)),
    )
    blocks = local(transport.particle_blocks(particles), comm)
    z = [np.random.default_rng(block.index).normal(size=(block.size, d)) for block in blocks]
    return transport.Flow(comm, spectrum, np.eye(d), blocks, particles), np.concatenate(z)


def seconds_of_steps(flow, z, steps: int, clock) -> float:
    """Time of a step, of a run with more less one with fewer of them."""
    seconds = []
    for count in (1, 1 + steps):
        start = clock()
        transport.transport(flow, z, transport.Steps(count, 1e-3, end=1e9, at_floor=False))
        seconds.append(clock() - start)
    return (seconds[1] - seconds[0]) / steps


def seconds_of_products(flow, z, size: int, modes: int) -> float:
    """Time of the matrix products of a step alone, tile by tile."""
    n, c = z.shape
    rng = np.random.default_rng(2)
    exponents, slopes, projection = (
        rng.normal(size=shape) for shape in ((c + 2, size), (size, 2 * c + 2), (size, modes))
    )
    points, features = rng.normal(size=(n, c + 2)), rng.random((n, size))
    start = time.process_time()
    for tile in flow.tiles:
        points[tile.rows] @ exponents
    for tile in flow.tiles:
        features[tile.rows] @ slopes
        features[tile.rows].sum(axis=0) @ projection
    return time.process_time() - start


def step(particles: int = 2048, d: int = 128, size: int = 2048, modes: int = 64) -> None:
    """Ratio of a step to its products, the median of pairs timed one after the other."""
    flow, z = problem(MPI.COMM_SELF, particles, d, size, modes)
    pairs = [
        (seconds_of_steps(flow, z, 2, time.process_time), seconds_of_products(flow, z, size, modes))
        for _ in range(_ROUNDS)
    ]
    flow.close()
    ours, floor = np.median(pairs, axis=0)
    ratio = np.median([a / b for a, b in pairs])
    print(f"N = {particles}, d = {d}, p = {size}, r = {modes}: step {ours:.4f} s, products alone {floor:.4f} s")
    print(f"ratio {ratio:.2f} (asked: 1.4)")


def million(comm: MPI.Comm, particles: int = 1_000_000, d: int = 32, size: int = 500, modes: int = 30) -> None:
    """Time and memory of a step of many particles."""
    flow, z = problem(comm, particles, d, size, modes)
    comm.Barrier()
    seconds = comm.allreduce(seconds_of_steps(flow, z, 2, time.perf_counter), op=MPI.MAX)
    flow.close()
    peak = comm.allreduce(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    if comm.rank == 0:
        print(f"{particles} particles, d = {d}, p = {size}, {comm.size} ranks: {seconds:.2f} s a step, {peak:.2f} GB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--particles", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with threadpoolctl.threadpool_limits(1):
        if arguments.million:
            million(MPI.COMM_WORLD, arguments.particles)
        else:
            step()
