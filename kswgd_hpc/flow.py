"""The velocity field of KSWGD, method.md section 3, equation (3), and its one collective reduction.

Particles are worked on in tiles of fixed shape: the same bits on any number of ranks, and no array of all particles
and all functions, except where it is small.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc.backend import array_module, to_host
from kswgd_hpc.errors import TransportError
from kswgd_hpc.parallel import Block, cut, quantum_exponent, tiles, to_fixed
from kswgd_hpc.spectrum import Spectrum

GROUPS = 8  # independent groups of particles, by whose spread errors are told
_BLOCK = 128
_MAX_BLOCKS = 256
_TILE = 128
_KEPT_BYTES = 2**28
_LARGEST_LOGARITHM = 2.0**7
_MOST_PARTS = 400  # of a step, for the particles that move too fast for it
_FARTHEST = 0.25


def particle_blocks(particles: int) -> list[Block]:
    """Blocks of about 128 particles, at most 256 of them, cut the same way on any number of ranks."""
    return cut(particles, min(_MAX_BLOCKS, -(-particles // _BLOCK)))


@dataclass(frozen=True)
class Tile:
    """Rows of this rank's particles that are worked on at once, and the position of their block on this rank."""

    rows: slice
    block: int


@dataclass(frozen=True)
class Tally:
    """What one reduction brings.

    means : (r - 1,) m_k over all particles
    logarithms : (2, GROUPS) sums over each group of the logarithms that were handed in
    square : sum of the squares that were handed in; displacement : largest of those
    wishes : number of ranks that want to save
    """

    means: np.ndarray
    logarithms: np.ndarray
    square: float
    displacement: float
    wishes: int


@dataclass(frozen=True)
class Field:
    """Two combinations of the functions: kappa, (p,), and rho - 1 = offset + psi @ ratio, (p,).

    matrix : both in the form that the dictionary takes values and gradients of with one product, if it has one
    """

    kappa: Any
    ratio: Any
    offset: float
    matrix: Any


class Flow:
    """The velocity field (3) and its one collective reduction, for the particles of this rank.

    Works in scaled coordinates z, where (3) reads dz/dt = -K grad_z kappa with K the mobility of z; the same code
    runs on NumPy and CuPy arrays.

    Parameters
    ----------
    comm : communicator
    spectrum : real eigenpairs
    mobility : (c, c) mobility K of the coordinates
    blocks : this rank's blocks
    particles : N, over all ranks
    xp : array module
    weights : (n,) of this rank's particles, summing to one over all ranks; equal ones where there are none
    effective : effective number of particles, N for equal weights
    """

    def __init__(
        self,
        comm: MPI.Comm,
        spectrum: Spectrum,
        mobility,
        blocks: list[Block],
        particles: int,
        xp=np,
        weights: np.ndarray | None = None,
        effective: float | None = None,
    ):
        self.comm = comm
        self.particles = particles
        self.effective = float(particles) if effective is None else effective
        self.rates = spectrum.rates.real[1:]
        self._modes = xp.asarray(np.ascontiguousarray(spectrum.coefficients.real[:, 1:]))
        self._offsets = spectrum.offsets.real[1:]
        self._mobility = xp.asarray(mobility)
        self._dictionary = spectrum.dictionary
        self._weights = None if weights is None else xp.asarray(weights)
        self._terms = len(particle_blocks(particles))
        self._groups = np.array([block.index % GROUPS for block in blocks], dtype=int)
        start = blocks[0].start if blocks else 0
        self.tiles = [
            Tile(slice(block.start - start + part.start, block.start - start + part.stop), position)
            for position, block in enumerate(blocks)
            for part in tiles(block.size, _TILE)
        ]
        rows = blocks[-1].stop - start if blocks else 0
        self._keeps = rows * self._dictionary.size * 8 <= _KEPT_BYTES
        self.exponent: int | None = None  # of the fixed-point scale, the same for the whole flow
        self._operator = MPI.Op.Create(_sum_and_maximum, commute=True)

    def close(self) -> None:
        """Free the reduction operator."""
        self._operator.Free()

    @property
    def group_sizes(self) -> np.ndarray:
        """(GROUPS,) number of particles of each group over all ranks, zero where there are too few blocks."""
        sizes = np.zeros(GROUPS)
        for block in particle_blocks(self.particles):
            sizes[block.index % GROUPS] += block.size
        return sizes

    def survey(self, z, tile: Tile, sums: list):
        """Features of a tile's particles at z (n, c) where they are kept, else None; adds their sum to its block's."""
        psi = self._dictionary.values(self.seen(z))
        weights = None if self._weights is None else self._weights[tile.rows]
        total = psi.sum(axis=0) / self.particles if weights is None else weights @ psi
        sums[tile.block] = total if sums[tile.block] is None else sums[tile.block] + total
        return psi if self._keeps else None

    def tally(self, sums: list, logarithms=None, square=None, displacement: float = 0.0, wish: bool = False) -> Tally:
        """Means over all particles. Collective: one Allreduce of r + 2 GROUPS + 3 numbers.

        Means are sums of integers, so they have the same bits on any number of ranks; the displacement travels in
        the same message as the bits of a non-negative double, which order as integers.

        Parameters
        ----------
        sums : (p,) sum of the features of each block of this rank
        logarithms : (2, blocks) sums over each block, none for zeros
        square : (blocks,) sums of squares; displacement : largest on this rank
        wish : whether this rank wants to save
        """
        parts = [to_host(part @ self._modes) for part in sums if part is not None]
        if self.exponent is None:
            self.exponent = self._fix_scale(parts)
        r = len(self.rates)
        message = np.zeros(r + 2 * GROUPS + 3, dtype=np.int64)
        for part in parts:
            if not np.abs(part).max(initial=0.0) * 2.0**self.exponent < 2.0**62 / self._terms:
                raise TransportError(
                    "a particle left the region where the features are bounded; use a gaussian dictionary, "
                    "or a smaller kswgd.step_size"
                )
            message[:r] += to_fixed(part, self.exponent)
        exponent = quantum_exponent(_LARGEST_LOGARITHM * self.particles, 1)
        if logarithms is not None:
            for row, values in enumerate(logarithms):
                fixed = to_fixed(values, exponent)
                np.add.at(message[r + row * GROUPS : r + (row + 1) * GROUPS], self._groups, fixed)
        if square is not None:
            message[-2] = to_fixed(np.minimum(square, 2.0), quantum_exponent(4.0 * self._terms, 1)).sum()
        message[-3] = wish
        message[-1:] = np.array([displacement]).view(np.int64)
        self.comm.Allreduce(MPI.IN_PLACE, message, op=self._operator)
        return Tally(
            np.ldexp(message[:r].astype(float), -self.exponent) + self._offsets,
            np.ldexp(message[r:-3].astype(float), -exponent).reshape(2, GROUPS),
            float(np.ldexp(float(message[-2]), -quantum_exponent(4.0 * self._terms, 1))),
            float(message[-1:].view(float)[0]),
            int(message[-3]),
        )

    def _fix_scale(self, sums: Iterable[np.ndarray]) -> int:
        """Fixed-point scale for the whole flow: what bounded features can reach, or far above the start. Collective."""
        bound = self._dictionary.bound * float(abs(self._modes).sum(axis=0).max())
        share = 1 / self._terms
        if self._weights is not None:
            share = 1.0
        if not np.isfinite(bound):
            start = max((float(np.abs(part).max()) for part in sums), default=0.0)
            bound = 2.0**12 * max(self.comm.allreduce(start, op=MPI.MAX) * self._terms, 1.0)
        # a block holds at most 1 / blocks of all particles, up to rounding in the cut
        return quantum_exponent(2 * bound * share, self._terms)

    def field(self, means: np.ndarray) -> Field:
        """kappa = sum_k (m_k / lambda_k) phi_k and rho - 1 = sum_k m_k phi_k of given means."""
        xp = array_module(self._modes)
        kappa, ratio = self._modes @ xp.asarray(means / self.rates), self._modes @ xp.asarray(means)
        combined = getattr(self._dictionary, "slope_matrix", None)
        matrix = None if combined is None else combined(kappa, ratio)
        return Field(kappa, ratio, float(self._offsets @ means), matrix)

    def slopes(self, z, psi, field: Field):
        """What is integrated over time to move a tile's particles, (n, c), and rho - 1 there, (n,).

        The gradient of kappa in z.
        """
        seen = self.seen(z)
        psi = self._dictionary.values(seen) if psi is None else psi
        if field.matrix is None:
            slope, ratio = self._dictionary.gradient(seen, field.kappa, psi), psi @ field.ratio
        else:
            slope, ratio = self._dictionary.slopes(psi, field.matrix)
        return self.pushed(slope, z), ratio + field.offset

    def glide(self, z, field: Field, h: float, tolerance: float):
        """Particles through a fixed field for a time h, each in steps of its own; not collective.

        Between two wells the velocity is the flux over a density that is nearly zero: a few particles at a time cross
        there, within an instant of the flow time of all others. The midpoint rule, its distance to Euler's the error.

        Parameters
        ----------
        z : (n, c); field : of the means that are held; tolerance : distance, in scaled coordinates, that a step may err

        Returns
        -------
        where they end, the integrals over h of what moves them (n, c) and of rho - 1 (n,); None where
        that takes too many steps
        """
        xp = array_module(z)
        z, push, growth = z * 1.0, z * 0.0, xp.zeros(len(z))
        active, left, step = xp.arange(len(z)), xp.full(len(z), h), xp.full(len(z), h)
        for _ in range(_MOST_PARTS):
            at = z[active]
            slope, _excess = self.slopes(at, None, field)
            part = xp.minimum(step[active], left[active])
            # no farther than what the error of a step can be told from
            speed = self.lengths(at, self.displacement(slope))
            part = xp.minimum(part, _FARTHEST / xp.maximum(speed, 1e-300))
            middle, excess = self.slopes(self.arrive(at, self.displacement(slope) * (part / 2)[:, None]), None, field)
            error = self.lengths(at, self.displacement(middle - slope)) * part
            good = error <= tolerance
            scale = 0.9 * xp.sqrt(tolerance / xp.maximum(error, 1e-300))
            step[active] = part * xp.clip(scale, 0.1, 4.0)
            taken, part = active[good], part[good]
            z[taken] = self.arrive(at[good], self.displacement(middle[good]) * part[:, None])
            push[taken] += middle[good] * part[:, None]
            growth[taken] += excess[good] * part
            left[taken] -= part
            active = active[left[active] > 1e-12 * h]
            if len(active) == 0:
                return z, push, growth
        return None

    def excess(self, means: np.ndarray) -> float:
        """N sum m_k^2, about the number of modes for independent draws of the invariant law."""
        return self.effective * float(means @ means)

    def seen(self, z):
        """Scaled coordinates of what is moved."""
        return z

    def pushed(self, slope, z):
        """What is integrated, of a gradient in scaled coordinates at z."""
        return slope

    def displacement(self, impulse):
        """(n, c) move of z for an integral of grad kappa over time: -K impulse."""
        return -(impulse @ self._mobility)

    def arrive(self, z, move):
        """Where the particles at z are after a move."""
        return z + move

    def lengths(self, z, move):
        """(n,) lengths of particles' moves, in scaled coordinates."""
        return (move**2).sum(axis=1) ** 0.5

    def largest(self, z, move) -> float:
        """Longest of some particles' moves, in scaled coordinates, zero for none."""
        return float(self.lengths(z, move).max()) if len(move) else 0.0


class LocalFlow(Flow):
    """The same flow where the mobility of the coordinates depends on the state: it moves states, rows x (n, d).

    M(x) stands in the velocity, not in front of an integral of gradients: what is integrated is M grad kappa in state
    space. After each move states return to where the system can be, such as a manifold.

    Parameters
    ----------
    mobility : M of the states; the others as for Flow
    """

    def __init__(self, comm: MPI.Comm, spectrum: Spectrum, mobility, blocks: list[Block], particles: int, **options):
        super().__init__(comm, spectrum, 0.0, blocks, particles, **options)
        self._coordinates = spectrum.coordinates
        self._state_mobility = mobility
        self._retract = getattr(mobility, "retract", None)

    def seen(self, z):
        """Scaled coordinates of states (n, d)."""
        return self._coordinates.of_rows(z)

    def pushed(self, slope, z):
        """(n, d) M(x) grad kappa."""
        return self._coordinates.lift(slope, self._state_mobility, np.ascontiguousarray(z.T))

    def displacement(self, impulse):
        """(n, d) move of x for an integral of M grad kappa over time."""
        return -impulse

    def arrive(self, z, move):
        """Where the particles at x are after a move: on the manifold, if there is one."""
        end = z + move
        return end if self._retract is None else np.ascontiguousarray(self._retract(np.ascontiguousarray(end.T)).T)

    def lengths(self, z, move):
        """(n,) lengths of particles' moves, in scaled coordinates."""
        states, still = np.ascontiguousarray(z.T), np.zeros(z.shape[1])
        return super().lengths(z, self._coordinates.velocity(np.ascontiguousarray(move.T), states, still))


def _sum_and_maximum(incoming, outgoing, _datatype) -> None:
    """MPI reduction: all entries are added, except the last, of which the larger is kept."""
    a, b = np.frombuffer(incoming, dtype=np.int64), np.frombuffer(outgoing, dtype=np.int64)
    last = max(a[-1], b[-1])
    b += a
    b[-1] = last
