"""Sums over all pairs of particles: tiles travel around a ring of ranks, and no N x N object is ever held.

Every rank meets the tiles of all particles in the order of their index, whoever owns them, so that a sum over them has
the same bits on any number of ranks. A tile goes from its owner to the right, from rank to rank, until it has been
everywhere: each rank sends and receives N (1 - 1 / ranks) rows per sweep and holds two tiles of others at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from kswgd_hpc.parallel import Block, local, span, tiles
from kswgd_hpc.transport import particle_blocks

TILE = 256
_AHEAD = 2  # sends that may be under way


@dataclass(frozen=True)
class Tile:
    """A range of particles and the rank that owns them."""

    start: int
    stop: int
    owner: int

    @property
    def size(self) -> int:
        return self.stop - self.start


class Ring:
    """All particles in tiles of at most 256, shared out over ranks as the particles are.

    Parameters
    ----------
    comm : communicator
    particles : N, over all ranks
    """

    def __init__(self, comm: MPI.Comm, particles: int):
        self.comm = comm
        self.particles = particles
        blocks = particle_blocks(particles)
        self.blocks = local(blocks, comm)
        self.start, self.stop = span(self.blocks)
        self.tiles = [
            Tile(block.start + part.start, block.start + part.stop, _owner(block, len(blocks), comm.size))
            for block in blocks
            for part in tiles(block.size, TILE)
        ]

    @property
    def mine(self) -> list[slice]:
        """Rows, among those of this rank, of each of its tiles."""
        return [
            slice(tile.start - self.start, tile.stop - self.start)
            for tile in self.tiles
            if tile.owner == self.comm.rank
        ]

    def sweep(self, rows: np.ndarray) -> Iterator[tuple[Tile, np.ndarray]]:
        """Every tile with its rows, in the order of their index, on every rank. Collective, to its end.

        Parameters
        ----------
        rows : (n, w) what this rank's particles show to the others
        """
        comm, right, left = self.comm, (self.comm.rank + 1) % self.comm.size, (self.comm.rank - 1) % self.comm.size
        under_way: list[tuple[MPI.Request, np.ndarray]] = []
        for tile in self.tiles:
            if tile.owner == comm.rank:
                part = np.ascontiguousarray(rows[tile.start - self.start : tile.stop - self.start], dtype=float)
            else:
                part = np.empty((tile.size, rows.shape[1]))
                comm.Recv(part, source=left, tag=11)
            if right not in (comm.rank, tile.owner):
                # before it is worked on: the others need not wait
                under_way.append((comm.Isend(part, dest=right, tag=11), part))
            if len(under_way) > _AHEAD:
                under_way.pop(0)[0].Wait()
            yield tile, part
        for request, _part in under_way:
            request.Wait()

    def sum_pairs(self, targets: np.ndarray, sources: np.ndarray, interaction: Callable, width: int) -> np.ndarray:
        """(n, width) sum over all particles j of interaction(targets_i, sources_j). Collective.

        Parameters
        ----------
        targets : (n, c) of this rank's particles
        sources : (n, w) what these show to the others
        interaction : (a, c) targets and (b, w) sources -> (a, width) sums over the b sources
        """
        total = np.zeros((len(targets), width))
        for _tile, part in self.sweep(sources):
            for rows in self.mine:
                total[rows] += interaction(targets[rows], part)
        return total

    def each(self, function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, width: int) -> np.ndarray:
        """(n, width) function of each tile of this rank: fixed shapes, hence fixed bits."""
        out = np.empty((len(rows), width))
        for part in self.mine:
            out[part] = function(rows[part])
        return out


def _owner(block: Block, blocks: int, ranks: int) -> int:
    """The rank whose share `parallel.local` puts a block in."""
    return (ranks * (block.index + 1) - 1) // blocks
