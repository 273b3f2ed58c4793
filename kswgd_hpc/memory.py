"""Memory that a rank needs, known before any work, and whether the machine has it."""

from __future__ import annotations

import os
from pathlib import Path

from mpi4py import MPI

from kswgd_hpc import metrics
from kswgd_hpc.config import Config
from kswgd_hpc.dictionary.fit import SPARSE
from kswgd_hpc.ensemble import PILOT_ROWS, WINDOW_ROWS
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.galerkin import PANEL, REPLICATED
from kswgd_hpc.sizes import Sizes, sizes

_PROGRAM = 290e6  # interpreter, libraries, compiled kernels and buffers of fixed size, measured
_BLOCK = 120  # bytes of a block of paths in a list
_NUMBER = 8


def per_rank(config: Config, size: Sizes, ranks: int) -> dict[str, float]:
    """Bytes that the rank with most work holds at its peak, by what they are for.

    The parts that grow with nothing the user chose are in `program`. Sampled and restarted states, which are bounded,
    are counted twice where they travel.
    """
    d, c, p = size.dimension, size.coordinates, size.functions
    mine = size.largest_share(ranks)
    block = -(-size.trajectories // size.blocks)
    window = min(size.pairs.records, size.pairs.lag + max(1, WINDOW_ROWS // block) + 1)
    sample = 2 * metrics.affordable(size.particles or 4096, d)
    found = {
        "program": _PROGRAM,
        "states": _NUMBER * (mine * d * (1 + (size.burn_in > 0)) + 3 * window * block * d),
        "pilot": _NUMBER * 3 * PILOT_ROWS * max(c, 1),
        "samples of states": _NUMBER * 3 * min(sample, size.trajectories * size.pairs.records) * d,
    }
    if config.ensemble.store:
        found["stored snapshots"] = _NUMBER * 2.0 * mine * size.pairs.records * d
    if config.koopman is not None:
        wide = (
            c
            + _values(config, c) / 2
            + (c if config.kswgd is not None or config.koopman.estimator == "generator" else 0)
        )
        if config.koopman.dictionary.kind in SPARSE:  # factors of the features, in half precision
            wide += c * (getattr(config.koopman.dictionary, "degree", 0) + 1)
        found["records"] = _NUMBER * float(mine) * size.records * wide
        found["matrices"] = _matrices(config, p, ranks)
    if config.kswgd is not None:
        share = -(-size.particles // ranks)
        found["particles"] = _NUMBER * (share * (5.0 * d + 6 * c + 2 * p) + 2.0 * size.particles * d)
    if size.paths:
        found["lists of paths"] = float(_BLOCK) * max(paths for paths, _ in size.paths) / 64
    return found


def _values(config: Config, coordinates: int) -> int:
    """Numbers of a pair that predictions take: observables, and what the generator makes of them and of sets."""
    rows = config.validation.feynman_kac
    stopped = sum(row.target is not None or row.domain is not None or row.sets is not None for row in rows)
    return sum(2 + 2 * (row.source is not None) + len(row.thetas or []) for row in rows) + stopped * (3 + coordinates)


def _matrices(config: Config, p: int, ranks: int) -> float:
    """Sums over pairs, their Gram matrix made white, and the eigenproblem."""
    rates = sum(len(row.thetas or []) + (row.killing != 0) for row in config.validation.feynman_kac)
    kept = 2 + (config.kswgd is not None) * 2 + rates
    if p <= REPLICATED:
        return _NUMBER * float(p) ** 2 * (3 * kept + 6)
    if config.koopman.dictionary.kind in SPARSE:
        return _NUMBER * 100.0 * p
    panel = min(float(p) ** 2, PANEL) * (2 * kept + 3)  # a part and a sum of each, and what they share
    return _NUMBER * (float(p) ** 2 * (kept + 3) / min(ranks, max(1, p // 1024)) + panel)


def of_machine() -> float:
    """Bytes that the processes of this job may use on this node: the machine's, its container's, the job's."""
    limits = [os.sysconf("SC_PAGE_SIZE") * float(os.sysconf("SC_PHYS_PAGES"))]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limits.append(float(Path("/sys/fs/cgroup", name).read_text()))
        except (OSError, ValueError):
            continue
    if os.environ.get("SLURM_MEM_PER_NODE", "").isdigit():
        limits.append(float(os.environ["SLURM_MEM_PER_NODE"]) * 2**20)
    return min(limit for limit in limits if limit > 0)


def ranks_on_node(comm: MPI.Comm) -> int:
    """Number of ranks on the fullest node. Collective."""
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    here = node.size
    node.Free()
    return comm.allreduce(here, op=MPI.MAX)


def check(config: Config, ranks: int, on_node: int, available: float) -> None:
    """Refuse what cannot fit into the memory of a node.

    Parameters
    ----------
    ranks, on_node : of the job, and of those the ones that share a node
    available : bytes of a node

    Raises
    ------
    ConfigurationError : one line, with what takes most and what to change
    """
    parts = per_rank(config, sizes(config), ranks)
    total = sum(parts.values())
    if total * on_node <= available:
        return
    largest = max(parts, key=parts.get)
    raise ConfigurationError(
        f"this run needs about {readable(total)} a rank, {readable(total * on_node)} for {on_node} on a node that has "
        f"{readable(available)}; most of it, {readable(parts[largest])}, are {largest}: {_REMEDIES[largest]}"
    )


_REMEDIES = {
    "program": "use fewer ranks on a node",
    "states": "use more nodes, or fewer ensemble.trajectories or domain.points",
    "pilot": "use fewer koopman.coordinates",
    "samples of states": "use fewer domain.points",
    "stored snapshots": "use ensemble.store: false, or more nodes",
    "records": "use more nodes, a shorter ensemble.duration, or a longer ensemble.lag_time",
    "matrices": "use a smaller koopman.dictionary, or more nodes",
    "particles": "use fewer kswgd.particles, or more nodes",
    "lists of paths": "use fewer trajectories in validation.feynman_kac",
}


def readable(number: float) -> str:
    """Bytes with three digits and a unit."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} PB"
