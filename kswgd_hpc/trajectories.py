"""Functions along the recorded trajectories, in the order of time: what timescales and transitions are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from kswgd_hpc.galerkin import pair_sums
from kswgd_hpc.parallel import sum_items, tiles
from kswgd_hpc.records import Pairs, Records, Sample

_NUMBERS = 2**22
_ROWS = 2048
_MOST_GROUPS = 64


@dataclass(frozen=True)
class Functions:
    """k real functions offsets + psi @ coefficients; offsets (k,), coefficients (p, k)."""

    offsets: np.ndarray
    coefficients: np.ndarray

    def __call__(self, psi: np.ndarray) -> np.ndarray:
        """(n, k) values from features (n, p)."""
        return self.offsets + psi @ self.coefficients


@dataclass(frozen=True)
class Piece:
    """Consecutive records of some trajectories.

    values : (records, batch, k) functions
    labels : (records, batch) numbers of the sets that the records are in
    starts : record indices at which pairs of this piece start; steps : those from which one record on is looked at
    group : number of the independent group that starts and steps count for
    weight : (records, batch) to the invariant law, None where the records have it
    features : (records, batch, p) where there are weights
    """

    values: np.ndarray
    labels: np.ndarray
    starts: np.ndarray
    steps: np.ndarray
    group: int
    weight: np.ndarray | None = None
    features: np.ndarray | None = None

    def weights(self, *records: np.ndarray) -> np.ndarray:
        """Weights of records, by an index into (records, batch)."""
        return np.ones(self.labels.shape)[records] if self.weight is None else self.weight[records]


class Influence(NamedTuple):
    """How pairs of a piece move some of the estimates.

    begin : index of the records that the pairs start from; weights : (n,) of those
    values : (n, k) influence of each pair; columns : which of the estimates they are
    """

    begin: tuple[np.ndarray, ...]
    weights: np.ndarray
    values: np.ndarray
    columns: slice | np.ndarray = slice(None)


@dataclass(frozen=True)
class Trajectories:
    """The records of all ranks as functions along trajectories; any number of passes over them.

    comm : communicator; terms : number of blocks over all ranks; groups : number of independent groups
    blocks : of this rank; pieces : function of a block and a lag in records -> its `Piece`s
    size : number k of functions; interval : time between records
    features : number p of features that pieces with weights carry
    of_weights : of pieces with weights, the share (groups, k) of the weights' own error in the errors of k estimates,
        from the sums over pairs with a weight of (psi, 1) times the influence of the pair, (p + 1, k)
    """

    comm: MPI.Comm
    blocks: list
    terms: int
    groups: int
    pieces: Callable[[Any, int], Iterable[Piece]]
    size: int
    interval: float
    features: int = 0
    of_weights: Callable[[np.ndarray], np.ndarray] | None = None

    def total(
        self, lag: int, add: Callable[[Piece, dict], None], shapes: dict[str, tuple[int, int]]
    ) -> dict[str, np.ndarray]:
        """Sums over all pieces of all ranks, the same bits on any of them. Collective.

        Parameters
        ----------
        lag : of the pairs in the pieces, in records
        add : function (piece, parts) that adds to arrays of the given shapes
        """

        def add_block(block, parts: dict[str, np.ndarray]) -> None:
            for piece in self.pieces(block, lag):
                add(piece, parts)

        sums = sum_items(self.comm, self.blocks, add_block, shapes, self.terms)
        return {name: part.reduced(self.comm) for name, part in sums.items()}

    def deviations(self, lag: int, influences: Callable[[Piece], Iterator[Influence]], width: int) -> np.ndarray:
        """(groups, width) share of each group in the errors of estimates, by the influence of its pairs. Collective."""

        def add(piece: Piece, parts: dict[str, np.ndarray]) -> None:
            for begin, weights, values, columns in influences(piece):
                parts["groups"][piece.group, columns] += weights @ values
                if self.of_weights is not None:
                    # the derivative of a clipped weight is zero
                    active = values * (weights > 0)[:, None]
                    parts["weights"][:-1, columns] += piece.features[begin].reshape(len(active), -1).T @ active
                    parts["weights"][-1, columns] += active.sum(axis=0)

        shapes = {"groups": (self.groups, width)}
        if self.of_weights is None:
            return self.total(lag, add, shapes)["groups"]
        total = self.total(lag, add, shapes | {"weights": (self.features + 1, width)})
        return total["groups"] + self.of_weights(total["weights"])


def trajectories(sample: Sample, functions: Functions, interval: float) -> Trajectories:
    """Functions along the trajectories of a sample, whose records have to be consecutive."""
    groups, density = group_count(sample), sample.weight

    def of_weights(sums: np.ndarray) -> np.ndarray:
        share = density.share(sums[:-1], sums[-1])

        def of_group(pairs: Pairs) -> np.ndarray:
            found = np.zeros((groups, share.shape[1]))
            found[_joined(sample, pairs.group)] = pairs.weight @ (density.increments(pairs) @ share)
            return found

        return pair_sums(density.sees(sample), of_group, (groups, share.shape[1]))

    return Trajectories(
        sample.comm,
        sample.blocks,
        sample.terms,
        groups,
        lambda block, lag: pieces(sample, block, functions, lag),
        functions.coefficients.shape[1],
        interval,
        sample.dictionary.size,
        None if density is None else of_weights,
    )


def group_count(sample: Sample) -> int:
    """Number of groups that analyses tell apart: neighbours are joined where there are many."""
    return min(sample.groups, _MOST_GROUPS)


def _joined(sample: Sample, group):
    """Numbers of groups after neighbours are joined."""
    return group * group_count(sample) // sample.groups


def group_records(sample: Sample, block: Records) -> Iterator[tuple[int, np.ndarray]]:
    """Of each group of a block: its number, and the indices of its records, consecutive."""
    # records after the last start of a pair count for the last group
    group = _joined(sample, block.group[np.minimum(np.arange(len(block.z)), len(block.group) - 1)])
    for number in np.unique(group):
        yield int(number), np.flatnonzero(group == number)


def pieces(sample: Sample, block: Records, functions: Functions, lag: int) -> Iterator[Piece]:
    """All records of a block, some trajectories at a time: in fixed shapes, whatever else a rank holds.

    Parameters
    ----------
    sample : its records are consecutive, see `Pairing.consecutive`
    functions : what is evaluated
    lag : of the pairs, in records
    """
    records, trajectories, _ = block.z.shape
    if records <= lag:
        return
    width = functions.coefficients.shape[1] + (0 if sample.weight is None else sample.dictionary.size)
    labels = np.zeros((records, trajectories), dtype=np.int8) if block.labels is None else block.labels
    for tile in tiles(trajectories, max(1, _NUMBERS // (records * width))):
        who = slice(tile.start, tile.stop)
        values, weight, features = _evaluated(sample, block.z[:, who], functions)
        for number, mine in group_records(sample, block):
            starts, steps = mine[mine + lag < records], mine[mine + 1 < records]
            if weight is not None:
                steps = starts  # weights are those of the law of the starts
            yield Piece(values, labels[:, who], starts, steps, number, weight, features)


def _evaluated(sample: Sample, z: np.ndarray, functions: Functions) -> tuple:
    """Values (m, n, k), and where there are weights those (m, n) and the features (m, n, p), at z (m, n, c)."""
    shape, rows = z.shape[:2], z.reshape(-1, z.shape[2])
    values, weights, features = [], [], []
    for part in tiles(len(rows), int(np.clip(_NUMBERS // sample.dictionary.size, 16, _ROWS))):
        psi = sample.dictionary.values(rows[part.start : part.stop])
        values.append(functions(psi))
        if sample.weight is not None:
            weights.append(sample.weight(psi))
            features.append(psi)
    values = np.concatenate(values).reshape(*shape, -1)
    if sample.weight is None:
        return values, None, None
    return values, np.concatenate(weights).reshape(shape), np.concatenate(features).reshape(*shape, -1)
