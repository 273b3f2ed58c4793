"""Eigenpairs of matrices beyond the cache, whose Krylov products are rounded to single precision."""

from __future__ import annotations

import numpy as np

from kswgd_hpc import eigensolver

SIZE = 2100
LEADING = np.array([1.0, 0.97, 0.9699, 0.8, 0.7, 0.6])


def reflected(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric matrix with these eigenvalues, and its eigenvectors: H D H of a reflection H."""
    v = np.random.default_rng(5).normal(size=len(values))
    reflection = np.eye(len(values)) - 2 * np.outer(v, v) / (v @ v)
    return (reflection * values) @ reflection, reflection


def test_large_symmetric_matrices_are_solved_to_double_precision():
    assert SIZE**2 > eigensolver._IN_CACHE
    values = np.concatenate([LEADING, np.linspace(0.4, 0.0, SIZE - len(LEADING))])
    matrix, vectors = reflected(values)
    found = eigensolver.eigenpairs(matrix, len(LEADING), "largest")
    # single precision alone is wrong by 1e-8 in the values; in the span of its vectors double precision is not
    assert np.abs(found.values[: len(LEADING)] - LEADING).max() < 1e-13
    for k, value in enumerate(LEADING):
        gap = np.sort(np.abs(values - value))[1]
        angle = np.linalg.norm(vectors[:, k] - found.vectors[:, k] * (found.vectors[:, k] @ vectors[:, k]))
        assert angle < 1e-6 + 1e-8 / gap
        assert found.residuals[k] < 1e-6
        assert np.isclose(
            np.linalg.norm(matrix @ found.vectors[:, k] - value * found.vectors[:, k]), found.residuals[k]
        )
