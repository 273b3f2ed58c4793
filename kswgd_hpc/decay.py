"""What the theory says of the decay, and what is measured: method.md section 3, equation (2').

Along a particle's path the density ratio rho of the particles' law to the invariant one obeys the logistic equation,
so that KL(t) = -E log(1 - exp(-t) + exp(-t) / rho_0) from the start alone, whatever the dynamics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from scipy.special import stdtrit

from kswgd_hpc.parallel import Block, sum_blocks
from kswgd_hpc.transport import History

_FEWEST_TIMES = 4
_ABOVE_FLOOR = 10.0  # sampling noise is then a tenth of what is fitted
_NUMBERS = 2**20


@dataclass(frozen=True)
class DecayRate:
    """Rate r of KL(t) ~ exp(-r t) before the floor, with a band that holds 95 % of such estimates.

    window : (2,) flow times that it was fitted between
    """

    rate: float
    low: float
    high: float
    window: tuple[float, float]


def exact_kl(comm: MPI.Comm, times: np.ndarray, ratio: np.ndarray, blocks: list[Block], total: int) -> np.ndarray:
    """(t,) curve (2') of particles whose law has the density ratios `ratio` (n,) at the start. Collective.

    Parameters
    ----------
    blocks : this rank's; total : number of blocks over all ranks
    """
    start, decay = blocks[0].start if blocks else 0, np.exp(-times)
    parts, particles = [], np.array([0.0])
    for block in blocks:
        inverse = 1 / ratio[block.start - start : block.stop - start]
        if np.ptp(inverse) == 0:
            inverse, weight = inverse[:1], len(inverse)
        else:
            weight = 1
        sums = [-np.log1p(np.outer(decay[part], inverse - 1)).sum(axis=1) for part in _pieces(len(times), len(inverse))]
        parts.append(weight * np.concatenate(sums))
        particles += block.size
    comm.Allreduce(MPI.IN_PLACE, particles, op=MPI.SUM)
    return sum_blocks(comm, parts, times.shape, total) / particles[0]


def _pieces(count: int, width: int) -> list[slice]:
    size = max(1, _NUMBERS // max(width, 1))
    return [slice(first, first + size) for first in range(0, count, size)]


def sampling_floor(modes: int, particles: float) -> tuple[float, float]:
    """Resolved chi^2 and KL that N independent draws of the invariant law have in r modes: r / N and r / (2 N)."""
    return modes / particles, modes / (2 * particles)


def decay_rate(history: History, floor: float) -> DecayRate | None:
    """Rate of decay of the resolved KL from the start to where sampling noise begins.

    The slope of log KL is fitted to all particles, and to each group of them left out in turn: the spread of those is
    its error, by Student's law.

    Parameters
    ----------
    floor : KL that independent draws have

    Returns
    -------
    None where there are too few steps above the floor
    """
    time, kl = history.time, history.overall(history.kl)
    above = kl > _ABOVE_FLOOR * floor
    count = len(kl) if above.all() else int(np.argmin(above))
    if count < _FEWEST_TIMES:
        return None
    # each time stands for the stretch around it: steps are not even
    weight = np.gradient(time[:count])
    groups = np.flatnonzero(history.group_sizes > 0)
    rate, rates = _slope(time[:count], kl[:count], weight), []
    for group in groups:
        rest = history.group_sizes * (np.arange(len(history.group_sizes)) != group)
        if rest.sum() > 0:
            left = np.nansum(history.kl[:count] * rest, axis=1) / rest.sum()
            if (left > 0).all():
                rates.append(_slope(time[:count], left, weight))
    error = np.nan
    if len(rates) > 1:
        n = len(rates)
        error = np.sqrt((n - 1) / n * np.sum((np.array(rates) - np.mean(rates)) ** 2)) * stdtrit(n - 1, 0.975)
    return DecayRate(rate, rate - error, rate + error, (float(time[0]), float(time[count - 1])))


def _slope(time: np.ndarray, kl: np.ndarray, weight: np.ndarray) -> float:
    centred = time - np.average(time, weights=weight)
    return -float((weight * centred * np.log(kl)).sum() / (weight * centred**2).sum())


def truncation_error(ratio: np.ndarray, resolved: np.ndarray, weights: np.ndarray) -> float:
    """eta_r = ||(I - P_r)(rho_0 - 1)||, what r modes do not transport, on states of the invariant law.

    Parameters
    ----------
    ratio : (n,) rho_0 at the states; resolved : (n,) sum_k m_k phi_k there; weights : (n,), summing to one
    """
    return float(np.sqrt(weights @ (ratio - 1 - resolved) ** 2))
