from __future__ import annotations

import itertools

import numpy as np
import pytest
from mpi4py import MPI

from kswgd_hpc.errors import KswgdError
from kswgd_hpc.parallel import by_block, cut, from_all, from_root, gather_blocks, local, shared_out, sum_blocks

COMM = MPI.COMM_WORLD


def part(index: int) -> np.ndarray:
    """A block's contribution: numbers of very different size, so that floating-point order would show."""
    rng = np.random.default_rng(index)
    return rng.normal(size=(5, 3)) * 10.0 ** rng.integers(-8, 8, size=(5, 3))


def test_blocks_cover_everything_once():
    for total, blocks in ((10, 3), (7, 16), (1, 1), (4096, 32)):
        edges = [(b.start, b.stop) for b in cut(total, blocks)]
        assert edges[0][0] == 0
        assert edges[-1][1] == total
        assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
        assert max(b - a for a, b in edges) - min(b - a for a, b in edges) <= 1


def test_sums_do_not_depend_on_the_order_of_blocks():
    parts = [part(i) for i in range(40)]
    forward = sum_blocks(MPI.COMM_SELF, parts, (5, 3), 40)
    backward = sum_blocks(MPI.COMM_SELF, parts[::-1], (5, 3), 40)
    assert forward.tobytes() == backward.tobytes()
    assert sum(parts).tobytes() != sum(parts[::-1]).tobytes()  # which plain addition would not give
    np.testing.assert_allclose(forward, np.sum(parts, axis=0), rtol=1e-12, atol=1e-8)


def test_a_sum_that_is_not_finite_is_refused():
    with pytest.raises(KswgdError, match="not finite"):
        sum_blocks(MPI.COMM_SELF, [np.array([1.0, np.nan])], (2,), 1)
    with pytest.raises(KswgdError, match="not finite"):
        sum_blocks(MPI.COMM_SELF, [np.ones(2), np.array([1.0, np.nan])], (2,), 2)


def test_functions_of_blocks_see_fixed_shapes():
    shapes = []
    rows = np.arange(10.0)[:, None]
    assert (by_block(cut(10, 3), lambda block: shapes.append(len(block)) or 2 * block, rows) == 2 * rows).all()
    assert shapes == [3, 3, 4]


@pytest.mark.mpi(min_size=2)
def test_sums_have_the_same_bits_on_every_rank_count():
    blocks = cut(40, 40)
    total = sum_blocks(COMM, [part(b.index) for b in local(blocks, COMM)], (5, 3), 40)
    alone = sum_blocks(MPI.COMM_SELF, [part(i) for i in range(40)], (5, 3), 40)
    assert total.tobytes() == alone.tobytes()


@pytest.mark.mpi(min_size=2)
def test_ranks_without_blocks_take_part():
    blocks = cut(1, 1)
    assert sum_blocks(COMM, [np.ones(2) for _ in local(blocks, COMM)], (2,), 1).tolist() == [1.0, 1.0]
    rows = gather_blocks(COMM, [np.full((3, 2), 7.0) for _ in local(blocks, COMM)], 2)
    assert rows.shape == (3, 2)


@pytest.mark.mpi(min_size=2)
def test_blocks_are_gathered_in_global_order():
    mine = [np.full((b.size, 2), float(b.index)) for b in local(cut(11, 5), COMM)]
    gathered = gather_blocks(COMM, mine, 2)
    assert gathered[:, 0].tolist() == [b.index for b in cut(11, 5) for _ in range(b.size)]


@pytest.mark.mpi(min_size=2)
def test_an_error_on_the_root_is_raised_on_all():
    def fail():
        raise KswgdError("no such file")

    with pytest.raises(KswgdError, match="no such file"):
        from_root(COMM, fail)


@pytest.mark.mpi(min_size=2)
def test_an_error_on_the_last_rank_is_raised_on_all_and_the_lowest_speaks():
    def fail(first: int):
        if COMM.rank >= first:
            raise KswgdError(f"met on rank {COMM.rank}")
        return COMM.rank

    assert from_all(COMM, lambda: fail(COMM.size)) == COMM.rank
    for first in (COMM.size - 1, 0):
        with pytest.raises(KswgdError, match=f"met on rank {first}$"):
            from_all(COMM, lambda first=first: fail(first))


@pytest.mark.mpi(min_size=2)
def test_work_that_is_shared_out_is_done_once_and_known_everywhere_in_order():
    assert shared_out(COMM, "abcde", lambda item: (item, COMM.rank)) == [
        (item, i % COMM.size) for i, item in enumerate("abcde")
    ]
    assert shared_out(COMM, [], str) == []
