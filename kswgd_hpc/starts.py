"""Where particles start, and the density ratio rho_0 of their law to the invariant one, where it is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from kswgd_hpc import systems
from kswgd_hpc.config import Config
from kswgd_hpc.parallel import gather_blocks
from kswgd_hpc.schema.system import DiffusionSystem
from kswgd_hpc.statistics import effective_sample_size
from spde.expressions import Expression

_FEWEST = 100.0


@dataclass(frozen=True)
class DensityRatio:
    """rho_0 as a function of states (d, n) -> (n,).

    source : in words
    """

    of: Callable[[np.ndarray], np.ndarray]
    source: str


def drawn_evenly(comm: MPI.Comm, states: list[np.ndarray], weights: list[np.ndarray], count: int) -> np.ndarray:
    """(count, d) of the states of all ranks, drawn evenly by their weights, in global order, on every rank. Collective.

    Distinct states as long as no weight is more than 1 / count of the whole.

    Parameters
    ----------
    states : (n, d) of each block of this rank; weights : (n,) of them
    """
    d = states[0].shape[1] if states else 0
    d = comm.allreduce(d, op=MPI.MAX)
    everything = gather_blocks(comm, [w[:, None] for w in weights], 1)[:, 0]
    cumulated = np.cumsum(everything)
    chosen = np.searchsorted(cumulated, (np.arange(count) + 0.5) / count * cumulated[-1])
    mine = np.concatenate(states) if states else np.empty((0, d))
    before = comm.exscan(len(mine)) or 0
    own = chosen[(chosen >= before) & (chosen < before + len(mine))] - before
    return gather_blocks(comm, [mine[own]], d)


def ratio_of_set(label: Callable[[np.ndarray], np.ndarray], pool: np.ndarray, weights: np.ndarray) -> DensityRatio:
    """rho_0 of the invariant law restricted to a set: one over the weight of the set, in it.

    Parameters
    ----------
    label : function of states (d, n) -> (n,) that is not zero in the set
    pool : (n, d) states of the invariant law; weights : (n,), summing to one
    """
    share = float(weights @ (label(pool.T) != 0))
    return DensityRatio(
        lambda states: (label(states) != 0) / share, f"the invariant law in a set of weight {share:.4g}"
    )


def ratio_of_density(config: Config, pool: np.ndarray, weights: np.ndarray) -> DensityRatio | None:
    """rho_0 of normals or uniforms, for Langevin dynamics: both densities are known up to one constant.

    It is found from E_pi[rho_0] = 1 on states of the invariant law. None where a density is not known, or where too few
    of the states tell the constant.
    """
    spec, start = config.system, config.kswgd.initial
    if not isinstance(spec, DiffusionSystem) or spec.potential is None or spec.manifold is not None:
        return None
    if spec.friction is not None or start.kind not in ("gaussian", "uniform"):
        return None
    d = len(spec.variables)
    potential = Expression(spec.potential, spec.variables)

    def column(value) -> np.ndarray:
        return np.broadcast_to(np.atleast_1d(np.asarray(value, dtype=float)), d)[:, None]

    if start.kind == "gaussian":
        mean, deviation = column(start.mean), column(start.deviation)
        if (deviation == 0).any():
            return None
        log_start = lambda x: -(((x - mean) / deviation) ** 2).sum(axis=0) / 2  # noqa: E731
    else:
        low, high = column(start.low), column(start.high)
        if (low == high).any():
            return None
        log_start = lambda x: np.where(((x >= low) & (x <= high)).all(axis=0), 0.0, -np.inf)  # noqa: E731

    def log_ratio(x: np.ndarray) -> np.ndarray:
        return log_start(x) + potential(dict(zip(spec.variables, x, strict=True))) / spec.temperature

    values = log_ratio(pool.T)
    largest = values.max()
    if not np.isfinite(largest) or effective_sample_size(weights * np.exp(values - largest)) < _FEWEST:
        return None
    shift = largest + np.log(weights @ np.exp(values - largest))
    return DensityRatio(lambda states: np.exp(log_ratio(states) - shift), "the density of the start and the potential")


def set_label(system, dimension: int, text: str | None, path: str) -> Callable[[np.ndarray], np.ndarray]:
    """Function of states (d, n) -> (n,) that is not zero where an expression is not; everywhere where there is none."""
    if text is None:
        return lambda states: np.ones(states.shape[1])
    if system is not None:
        return systems.observable(system, text, path)
    return systems.expression_of_components(dimension, text, path)
