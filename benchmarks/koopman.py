"""Koopman spectra against the machine and against peers: [mpiexec -n 2] python -m benchmarks.koopman [table ...].

One process, one core, float64. Each figure is the best of a few repeats in seconds of this process's own CPU time,
which others on the machine disturb least, beside the floor that it is a ratio to, measured in the same process: dgemm
for assembly, scipy.linalg.eigh for eigenpairs, and for whole estimates EDMD in plain NumPy, chunk by chunk, and
deeptime where it is importable. Memory is the rise of the process's peak resident set. The table `ranks` is in wall
clock time.
"""

from __future__ import annotations

import argparse
import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.linalg
import threadpoolctl
from mpi4py import MPI

from kswgd_hpc.coordinates import Coordinates, LinearMap
from kswgd_hpc.dictionary import GaussianDictionary
from kswgd_hpc.dictionary.centres import nearest_neighbour
from kswgd_hpc.ensemble import block_count
from kswgd_hpc.estimators import ESTIMATORS
from kswgd_hpc.galerkin import assemble
from kswgd_hpc.parallel import cut, local
from kswgd_hpc.records import Records, Sample
from kswgd_hpc.spectrum import Space, leading_pairs, solve

TRAJECTORIES, TIMES, LAG, PAIRS = 500, 101, 0.2, 32
MANY = 0.25 * (1 + np.arange(64) / 4)  # rates of 64 coordinates
FEW = np.array([0.1, 1.0, 2.0, 3.0])  # of four: what modes of an SPDE look like


def best(work: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of this process, the best of a few repeats."""
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def peak_megabytes(work: Callable[[], object]) -> float:
    """Rise of the peak resident set of this process during the work; NaN where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident("VmRSS")
        work()
        return (_resident("VmHWM") - before) / 1e6
    except OSError:
        return float("nan")


def _resident(name: str) -> float:
    return 1024.0 * int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def trajectories(rates: np.ndarray) -> np.ndarray:
    """(times, trajectories, d) of independent Ornstein-Uhlenbeck processes of variance one with these rates."""
    generator = np.random.default_rng(1)
    states = np.empty((TIMES, TRAJECTORIES, len(rates)))
    states[0] = generator.normal(size=states[0].shape)
    decay = np.exp(-rates * LAG)
    for previous, now in itertools.pairwise(states):
        now[:] = decay * previous + np.sqrt(1 - decay**2) * generator.normal(size=now.shape)
    return states


def dictionary_of(states: np.ndarray, size: int) -> GaussianDictionary:
    """Gaussians around states of the data."""
    points = states.reshape(-1, states.shape[2])
    centres = points[np.random.default_rng(2).choice(len(points), size, replace=False)]
    return GaussianDictionary(centres, 0.72 * nearest_neighbour(centres))


def sample_of(states: np.ndarray, dictionary, comm: MPI.Comm = MPI.COMM_SELF) -> Sample:
    """The trajectories as this package keeps them."""
    blocks = cut(states.shape[1], block_count(states.shape[1], len(states) - 1))
    starts = np.arange(len(states) - 1)
    mine = [
        Records(states[:, b.start : b.stop].copy(), starts, starts + 1, np.full(len(starts), b.index))
        for b in local(blocks, comm)
    ]
    d = states.shape[2]
    plain = Coordinates(LinearMap(None, d), np.zeros(d), np.ones(d))
    return Sample(comm, mine, len(blocks), len(blocks), plain, dictionary)


def chunked_edmd(x: np.ndarray, y: np.ndarray, features: Callable, chunk: int = 1000) -> np.ndarray:
    """Leading eigenvalues by EDMD in plain NumPy, as one would write it with bounded memory."""
    c0 = c1 = 0.0
    for start in range(0, len(x), chunk):
        a, b = features(x[start : start + chunk]), features(y[start : start + chunk])
        c0, c1 = c0 + a.T @ a, c1 + a.T @ b
    values, vectors = np.linalg.eigh(c0)
    keep = values > 1e-9 * values[-1]
    whitened = vectors[:, keep] / np.sqrt(values[keep])
    mu = np.linalg.eigvals(whitened.T @ c1 @ whitened)
    return mu[np.argsort(-np.abs(mu))][: PAIRS + 1]


def plain_features(dictionary: GaussianDictionary) -> Callable[[np.ndarray], np.ndarray]:
    """Gaussians as they are usually written: squared distances, exponential."""
    centres, h = dictionary.centres, dictionary.bandwidth

    def features(z: np.ndarray) -> np.ndarray:
        squares = (z**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * z @ centres.T
        return np.exp(-squares / (2 * h**2))

    return features


def table_assembly() -> None:
    """C0 and C1 in Gaussians: flops of the products pair by pair, of which those along trajectories take fewer."""
    states = trajectories(MANY)
    square = np.random.default_rng(0).normal(size=(2000, 2000))
    dgemm = 2 * 2000**3 / best(lambda: square @ square, 7) / 1e9
    print(f"dgemm, 2000 x 2000                                    {dgemm:8.1f} Gflop/s   1.00")
    for size in (1000, 4000):
        sample = sample_of(states, dictionary_of(states, size))
        pairs = sum(block.pairs for block in sample.blocks)
        for name, products in (("reversible", 2), ("edmd", 3)):
            seconds = best(lambda n=name, s=sample: assemble(s, ESTIMATORS[n].matrices), 3 if size == 1000 else 1)
            rate = products * pairs * size**2 / seconds / 1e9
            title = f"assembly, {name:<10}, d = 64, p = {size}, {pairs} pairs"
            print(f"{title} {rate:9.1f} Gflop/s {rate / dgemm:6.2f}")


def table_peers() -> None:
    """Whole estimates, error bars and dictionary errors included, against plain EDMD on the same pairs."""
    states = trajectories(MANY)
    dictionary = dictionary_of(states, 1000)
    x, y = states[:-1].reshape(-1, len(MANY)), states[1:].reshape(-1, len(MANY))
    features = plain_features(dictionary)
    works = {"chunked NumPy EDMD": lambda: chunked_edmd(x, y, features)}
    works |= _deeptime(x, y, features)

    def ours(name: str) -> Callable[[], object]:
        def work():
            sums = assemble(sample_of(states, dictionary), ESTIMATORS[name].matrices)
            return solve(sums, ESTIMATORS[name], LAG, PAIRS + 1, 1e-9)[0]

        return work

    works |= {f"{name}, with errors": ours(name) for name in ("reversible", "edmd")}
    floor = None
    for name, work in works.items():
        memory = peak_megabytes(work)
        seconds = best(work, 2)
        # the last of the others: deeptime where it is there
        floor = floor if "with errors" in name and floor else seconds
        print(f"{name:<52} {seconds:8.2f} s {seconds / floor:12.2f} {memory:8.0f} MB")
    spectrum = ours("reversible")()
    print("rates, exact      ", np.round(MANY[:6], 4))
    print("rates, reversible ", np.round(spectrum.rates.real[1:7], 4), "+-", np.round(spectrum.rates_error[1:7], 4))


def _deeptime(x: np.ndarray, y: np.ndarray, features: Callable) -> dict[str, Callable]:
    try:
        from deeptime.basis import Observable
        from deeptime.decomposition import EDMD
    except ImportError:
        return {}

    class Gaussians(Observable):
        def _evaluate(self, z):
            return features(z)

        def _get_feature_names(self, _names):
            return []

    return {"deeptime EDMD": lambda: EDMD(Gaussians(), n_eigs=PAIRS).fit((x, y)).fetch_model().eigenvalues}


def table_eigen() -> None:
    """Leading pairs of a dense problem against all pairs by LAPACK, for the same matrices."""
    states, size = trajectories(FEW), 4000
    sums = assemble(sample_of(states, dictionary_of(states, size)), ESTIMATORS["reversible"].matrices)
    left, gram = ESTIMATORS["reversible"].left(sums).dense(), sums.gram().dense()
    gram[np.diag_indices(size)] += 1e-9 * np.trace(gram) / size
    found = {}

    def peer():
        found["scipy.linalg.eigh"] = scipy.linalg.eigh(left, gram, eigvals_only=False)[0][::-1][:PAIRS]

    def ours():
        found["this package"] = leading_pairs(Space(sums, 1e-9), ESTIMATORS["reversible"], PAIRS)[0]

    floor = best(peer, 1)
    for name, seconds in (("scipy.linalg.eigh", floor), ("this package", best(ours, 2))):
        print(f"{PAIRS} pairs, dense p = {size}, {name:<25} {seconds:8.2f} s {seconds / floor:12.2f}")
    difference = np.abs(found["this package"] - found["scipy.linalg.eigh"]).max()
    print(f"largest difference of the eigenvalues {difference:.1e}")


def table_ranks() -> None:
    """Wall clock of whole estimates on all ranks against one of them alone, the others asleep. Collective."""
    comm = MPI.COMM_WORLD
    states = trajectories(MANY)
    dictionary = dictionary_of(states, 1000)
    for name in ("reversible", "edmd"):
        estimator = ESTIMATORS[name]

        def work(on: MPI.Comm, estimator=estimator) -> None:
            sums = assemble(sample_of(states, dictionary, on), estimator.matrices)
            solve(sums, estimator, LAG, PAIRS + 1, 1e-9)

        alone = [_wall(comm, lambda: work(MPI.COMM_SELF), comm.rank == 0) for _ in range(3)]
        together = [_wall(comm, lambda: work(comm)) for _ in range(3)]
        if comm.rank == 0:
            one, all_of_them = min(alone), min(together)
            gain = f"{one / all_of_them:.2f} times faster"
            print(f"{name:<12} one rank {one:6.2f} s, {comm.size} ranks {all_of_them:6.2f} s, {gain}", flush=True)


def _wall(comm: MPI.Comm, work: Callable[[], object], mine: bool = True) -> float:
    """Seconds until all ranks are done; those that have no work sleep. Collective."""
    comm.Barrier()
    began = time.perf_counter()
    if mine:
        work()
    done = comm.Ibarrier()
    while not done.Test():
        time.sleep(0.001)
    return time.perf_counter() - began


TABLES = {"assembly": table_assembly, "peers": table_peers, "eigen": table_eigen, "ranks": table_ranks}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.koopman", description=__doc__.splitlines()[0])
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="table",
        help=f"{', '.join(TABLES)}: the last one under mpiexec, the others on one rank; all that apply if not said",
    )
    wanted, several = parser.parse_args().tables, MPI.COMM_WORLD.size > 1
    unknown = [name for name in wanted if name not in TABLES]
    if unknown:
        parser.error(f"no table {', '.join(unknown)}: there are {', '.join(TABLES)}")
    if several and set(wanted) - {"ranks"}:
        parser.error("on several ranks there is one table: ranks")
    with threadpoolctl.threadpool_limits(1):
        for name in wanted or (["ranks"] if several else [name for name in TABLES if name != "ranks"]):
            TABLES[name]()


if __name__ == "__main__":
    main()
