"""Sums along paths of pairs are the sums pair by pair."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI

from kswgd_hpc import galerkin
from kswgd_hpc.chains import paths
from kswgd_hpc.coordinates import Coordinates, LinearMap
from kswgd_hpc.dictionary import GaussianDictionary
from kswgd_hpc.records import WEIGHT, Records, Sample


def sample(lag: int, stride: int, times: int, weighted: bool) -> Sample:
    generator = np.random.default_rng(3)
    starts = np.arange(0, times - lag, stride)
    needed = np.union1d(starts, starts + lag)
    blocks = []
    for index in range(2):
        z = generator.normal(size=(len(needed), 5, 2))
        values = {WEIGHT: generator.random((len(starts), 5))} if weighted else {}
        ends = np.searchsorted(needed, starts), np.searchsorted(needed, starts + lag)
        blocks.append(Records(z, *ends, np.full(len(starts), index), values))
    dictionary = GaussianDictionary(generator.normal(size=(12, 2)), 1.0)
    plain = Coordinates(LinearMap(None, 2), np.zeros(2), np.ones(2))
    return Sample(MPI.COMM_SELF, blocks, 2, 2, plain, dictionary)


def means(found: Sample) -> dict[str, np.ndarray]:
    """C0, C1 and L0 pair by pair."""
    total, count = {"c0": 0.0, "c1": 0.0, "l0": 0.0}, 0.0
    for block in found.blocks:
        for pairs in found.batches(block):
            weight = np.ones(len(pairs.z)) if pairs.weight is None else pairs.weight
            for name, left, right in (("c0", pairs.x, pairs.x), ("c1", pairs.x, pairs.y), ("l0", pairs.y, pairs.y)):
                total[name] = total[name] + (left * weight[:, None]).T @ right
            count += weight.sum()
    return {name: matrix / count for name, matrix in total.items()}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("lag, stride, times", [(1, 1, 30), (3, 1, 50), (4, 2, 40), (5, 5, 31), (3, 5, 31), (1, 1, 3)])
@pytest.mark.parametrize("replicated, panel", [(2048, 2**24), (4, 2**24), (4, 40)])
def test_products_shared_along_paths_give_the_sums_over_pairs(
    monkeypatch, lag, stride, times, weighted, replicated, panel
):
    monkeypatch.setattr(galerkin, "REPLICATED", replicated)
    monkeypatch.setattr(galerkin, "PANEL", panel)
    found = sample(lag, stride, times, weighted)
    true = means(found)
    plain, both = galerkin.assemble(found, ("c0", "c1")), galerkin.assemble(found, ("ends", "cross"))
    for name in ("c0", "c1"):
        np.testing.assert_allclose(plain.matrices[name], true[name], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(both.matrices["c0"], (true["c0"] + true["l0"]) / 2, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(both.matrices["c1"], (true["c1"] + true["c1"].T) / 2, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("step", [1, 3])
def test_every_pair_is_in_one_path(step):
    first = np.arange(17)
    rows = [row for path in paths(first, first + step, 4) for row in path]
    found = [(int(a), int(b)) for row in rows for a, b in itertools.pairwise(row)]
    assert sorted(found) == [(i, i + step) for i in range(17)]


def test_error_bars_hardly_notice_single_precision():
    found = sample(1, 1, 30, False)
    coefficients = np.random.default_rng(4).normal(size=(12, 3)) * [1.0, 1j, 100.0]
    pairs = next(found.batches(found.blocks[0]))
    fast = pairs.ends(coefficients, 0.5)
    slow = replace(pairs)
    assert slow.features.shape[2] == 12
    for ours, true in zip(fast, slow.ends(coefficients, 0.5), strict=True):
        difference = np.abs(ours - true).max(axis=0)
        assert (difference < 1e-6 * np.abs(coefficients).max(axis=0)).all()
        assert difference.any()  # it was single precision
