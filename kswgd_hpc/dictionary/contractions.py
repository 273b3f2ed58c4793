"""Contractions with a mobility K that dictionaries share: K is (c, c), or (n, c, c) where it depends on the state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from kswgd_hpc.backend import array_module, to_host


def entries(mobility: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Coordinates a, b and K_ab, a number or (n, 1), wherever K_ab is not zero at every point."""
    c = mobility.shape[-1]
    present = to_host((mobility != 0).reshape(-1, c, c).any(axis=0))
    for a, b in np.argwhere(present):
        yield int(a), int(b), mobility[a, b] if mobility.ndim == 2 else mobility[:, a, b, None]


def form(slopes: Sequence[np.ndarray], mobility: np.ndarray, columns: slice = slice(None)) -> np.ndarray:
    """(p, p) sum over points of grad psi_i . K grad psi_j, or some columns of it.

    Parameters
    ----------
    slopes : one (n, p) array for each coordinate
    """
    right: dict[int, np.ndarray] = {}
    for a, b, k in entries(mobility):
        part = k * slopes[b][:, columns]
        right[a] = right[a] + part if a in right else part
    total = array_module(slopes[0]).zeros((slopes[0].shape[1], slopes[0][:, columns].shape[1]))
    for a, mixed in right.items():
        total += slopes[a].T @ mixed
    return total


def quadratic(mobility: np.ndarray, points: np.ndarray) -> np.ndarray:
    """z_i . K z_i for points z_i (p, c): (p,), or (n, p) where K depends on the state."""
    if mobility.ndim == 2:
        return ((points @ mobility) * points).sum(axis=1)
    c = points.shape[1]
    return mobility.reshape(-1, c * c) @ (points[:, :, None] * points[:, None, :]).reshape(-1, c * c).T


def times(vectors: np.ndarray, mobility: np.ndarray) -> np.ndarray:
    """K v, (n, c), of vectors (n, c)."""
    return vectors @ mobility if mobility.ndim == 2 else (vectors[:, None, :] @ mobility)[:, 0, :]


def trace(mobility: np.ndarray) -> np.ndarray:
    """tr K, a number or (n, 1)."""
    total = array_module(mobility).trace(mobility, axis1=-2, axis2=-1)
    return total if mobility.ndim == 2 else total[:, None]
