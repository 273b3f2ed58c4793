"""Distances between samples, with the iid floor beside them."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from kswgd_hpc.parallel import local, sum_blocks, tiles
from kswgd_hpc.statistics import effective_sample_size

_TILE = 64
_MAX_NUMBERS = 2**24
_FLOOR_DRAWS = 32
_MEDIAN = 1024
_DIRECTIONS = 128


def subsample(points: np.ndarray, count: int) -> np.ndarray:
    """`count` rows of (n, d), evenly spaced; all where there are fewer."""
    if len(points) <= count:
        return points
    return points[np.arange(count) * len(points) // count]


def local_subsample(comm: MPI.Comm, points: np.ndarray, count: int) -> np.ndarray:
    """This rank's share of `subsample` of the rows of all ranks, (n, d) here, contiguous. Collective."""
    total = comm.allreduce(len(points))
    if total <= count:
        return points
    before = comm.exscan(len(points)) or 0
    chosen = np.arange(count) * total // count - before
    return points[chosen[(chosen >= 0) & (chosen < len(points))]]


def drawn(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Points drawn evenly by their weights (n,), as many as the effective sample size: a sample without weights."""
    cumulated = np.cumsum(weights)
    count = max(1, int(effective_sample_size(weights)))
    levels = (np.arange(count) + 0.5) / count * cumulated[-1]
    return points[np.searchsorted(cumulated, levels)]


def affordable(particles: int, dimension: int) -> int:
    """Largest number of points of a sample that every rank can hold for a distance matrix."""
    return max(64, min(particles, 4096, _MAX_NUMBERS // dimension))


def quadratic_forms(comm: MPI.Comm, points: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """s^T D s for each column s of `signs`, D the Euclidean distances between all points. Collective.

    Tiles of rows are shared between ranks; no N x N matrix is held. The same bits on any number of ranks.

    Parameters
    ----------
    points : (n, d), the same on every rank
    signs : (n, k)

    Returns
    -------
    (k,) array
    """
    points = points - points.mean(axis=0)
    blocks = tiles(len(points), _TILE)
    half = len(blocks) // 2
    # D is symmetric: each tile of rows meets itself and the next half of all tiles, around the end
    around = np.concatenate([points, points])
    doubled = np.concatenate([signs, signs])
    squares = (around**2).sum(axis=1)
    parts = []
    for tile in local(blocks, comm):
        rows = slice(tile.start, tile.stop)
        last = blocks[(tile.index + half) % len(blocks)]
        turn = len(points) if tile.index + half >= len(blocks) else 0
        columns = slice(tile.start, last.stop + turn)
        distance = points[rows] @ around[columns].T
        distance *= -2
        distance += squares[columns]
        distance += squares[rows, None]
        np.sqrt(np.maximum(distance, 0, out=distance), out=distance)
        # the diagonal is zero, but comes out of the cancellation as rounding noise
        np.fill_diagonal(distance, 0.0)
        met = 2 * doubled[columns]
        met[: tile.size] /= 2
        if half and len(blocks) % 2 == 0:
            met[-last.size :] /= 2  # of two opposite tiles each meets the other
        parts.append((signs[rows] * (distance @ met)).sum(axis=0))
    return sum_blocks(comm, parts, (signs.shape[1],), len(blocks))


def energy_distance(
    comm: MPI.Comm, sample: np.ndarray, reference: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Energy distance 2 E|X-Y| - E|X-X'| - E|Y-Y'| between two samples (n, d), (m, d). Collective.

    The V-statistic, never negative; compare it with `iid_floor` at the same sizes. `weights` (m,) of the reference
    sum to one; none is equal weights. Source: Szekely and Rizzo 2013.
    """
    weights = np.full(len(reference), 1 / len(reference)) if weights is None else weights
    signs = np.concatenate([np.full(len(sample), 1 / len(sample)), -weights])
    return float(-quadratic_forms(comm, np.concatenate([sample, reference]), signs[:, None])[0])


def iid_floor(comm: MPI.Comm, pool: np.ndarray, count: int, seed: int) -> tuple[float, float]:
    """Mean and standard deviation of the energy distance between two independent samples of `count`. Collective.

    Parameters
    ----------
    pool : (n, d) states of the invariant law, at least two; two disjoint random samples are drawn from it, 32 times
    count : size of each sample, at most half the pool
    """
    count = min(count, len(pool) // 2)
    generator = np.random.Generator(np.random.Philox(seed))
    signs = np.zeros((len(pool), _FLOOR_DRAWS))
    for column in signs.T:
        order = generator.permutation(len(pool))
        column[order[:count]] = 1 / count
        column[order[count : 2 * count]] = -1 / count
    forms = -quadratic_forms(comm, pool, signs)
    return float(forms.mean()), float(forms.std(ddof=1))


def median_distance(points: np.ndarray) -> float:
    """Median distance between points (n, d), of at most 1024 of them: the bandwidth of a kernel."""
    some = subsample(points, _MEDIAN)
    squares = (some**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * (some @ some.T), 0.0)[np.triu_indices(len(some), 1)]
    return float(np.sqrt(max(np.median(distances), 1e-300))) if distances.size else 1.0


def pair_means(comm: MPI.Comm, a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Means over all pairs of |a - b| and of exp(-|a - b|^2 / (2 width^2)). Collective.

    Tiles of rows of a (n, d), the same on every rank as b (m, d), are shared out; the same bits on any rank count.
    """
    blocks, parts = tiles(len(a), _TILE), []
    squares = (b**2).sum(axis=1)
    for tile in local(blocks, comm):
        rows = a[tile.start : tile.stop]
        square = (rows**2).sum(axis=1)[:, None] + squares - 2 * (rows @ b.T)
        np.maximum(square, 0.0, out=square)
        if a is b:  # zero, but for the cancellation
            square[np.arange(tile.size), np.arange(tile.start, tile.stop)] = 0.0
        parts.append(np.array([np.sqrt(square).sum(), np.exp(square * (-0.5 / width**2)).sum()]))
    return sum_blocks(comm, parts, (2,), len(blocks)) / (len(a) * len(b))


def discrepancies(
    comm: MPI.Comm, sample: np.ndarray, reference: np.ndarray, width: float, own: np.ndarray | None = None
) -> tuple[float, float]:
    """Energy distance, and maximum mean discrepancy with a Gaussian kernel, of samples (n, d), (m, d). Collective.

    V-statistics, never negative; the discrepancy is the root of its square. `own` is `pair_means` of the reference with
    itself, where that is known. Sources: Szekely and Rizzo 2013; Gretton et al. 2012.
    """
    own = pair_means(comm, reference, reference, width) if own is None else own
    excess = 2 * pair_means(comm, sample, reference, width) - pair_means(comm, sample, sample, width) - own
    return max(float(excess[0]), 0.0), float(np.sqrt(max(-excess[1], 0.0)))


def sliced_wasserstein(comm: MPI.Comm, sample: np.ndarray, reference: np.ndarray) -> float:
    """Sliced 2-Wasserstein distance of samples (n, d), (k n, d), over 128 fixed directions. Collective.

    Source: Rabin, Peyre, Delon and Bernot 2012.
    """
    directions = np.random.Generator(np.random.Philox(0)).standard_normal((sample.shape[1], _DIRECTIONS))
    directions /= np.sqrt((directions**2).sum(axis=0))
    blocks, parts = tiles(_DIRECTIONS, 16), []
    for tile in local(blocks, comm):
        some = directions[:, tile.start : tile.stop]
        there = np.sort(reference @ some, axis=0)
        apart = _as_many(np.sort(sample @ some, axis=0), there) - there
        parts.append(np.array([(apart**2).mean(axis=0).sum()]))
    return float(np.sqrt(sum_blocks(comm, parts, (1,), len(blocks))[0] / _DIRECTIONS))


def wasserstein(sample: np.ndarray, reference: np.ndarray) -> float:
    """1-Wasserstein distance of samples (n,), (k n,) on the line."""
    there = np.sort(reference)
    return float(np.abs(_as_many(np.sort(sample), there) - there).mean())


def _as_many(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Ordered values, each as often as makes them as many as the others: the quantiles of a sample at those of both."""
    return np.repeat(values, len(others) // len(values), axis=0)
