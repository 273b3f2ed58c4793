"""Koopman Spectral Wasserstein Gradient Descent: method.md section 3, equation (3).

With m_k the mean of phi_k over all particles, F = 1/2 sum_k m_k^2 / lambda_k decreases along (3) for any number
of particles, since dF/dt = -mean |grad kappa|_M^2. That makes F the judge of a step: one that raises it is taken
back. A step needs psi at the particles once, and one Allreduce of r + 1 numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from kswgd_hpc.backend import array_module, to_host
from kswgd_hpc.errors import TransportError
from kswgd_hpc.parallel import Block, cut, quantum_exponent, to_fixed
from kswgd_hpc.spectrum import Spectrum

_BLOCK = 128
_MAX_BLOCKS = 256
_LARGEST_STEP = 0.5
_SMALLEST_STEP = 1e-6


@dataclass(frozen=True)
class History:
    """Per accepted step: flow time, means of the resolved modes (constant left out), step, largest displacement.

    time : (n + 1,), mode_means : (n + 1, r - 1), step_size : (n,), displacement : (n,) in scaled coordinates
    """

    time: np.ndarray
    mode_means: np.ndarray
    step_size: np.ndarray
    displacement: np.ndarray
    converged: bool


def particle_blocks(particles: int) -> list[Block]:
    """Blocks of about 128 particles, at most 256 of them, cut the same way on any number of ranks."""
    return cut(particles, min(_MAX_BLOCKS, -(-particles // _BLOCK)))


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
    """

    def __init__(self, comm: MPI.Comm, spectrum: Spectrum, mobility, blocks: list[Block], particles: int, xp=np):
        self.comm = comm
        self.particles = particles
        self.rates = spectrum.rates.real[1:]
        self._modes = xp.asarray(spectrum.coefficients.real[:, 1:])
        self._offsets = spectrum.offsets.real[1:]
        self._mobility = xp.asarray(mobility)
        self._dictionary = spectrum.dictionary
        start = blocks[0].start if blocks else 0
        self._slices = [slice(block.start - start, block.stop - start) for block in blocks]
        self._terms = len(particle_blocks(particles))
        self._exponent: int | None = None
        self._operator = MPI.Op.Create(_sum_and_maximum, commute=True)

    def close(self) -> None:
        """Free the reduction operator."""
        self._operator.Free()

    def means(self, values: list, displacement: float) -> tuple[np.ndarray, float]:
        """m_k over all particles, and the largest displacement over all ranks. Collective: one Allreduce.

        The mean is a sum of integers, so it has the same bits on any number of ranks; the displacement travels in
        the same message as the bits of a non-negative double, which order as integers.
        """
        sums = [to_host(psi.sum(axis=0) @ self._modes) / self.particles for psi in values]
        if self._exponent is None:
            self._exponent = self._fix_scale(sums)
        message = np.zeros(len(self.rates) + 1, dtype=np.int64)
        for part in sums:
            if not np.abs(part).max(initial=0.0) * 2.0**self._exponent < 2.0**62 / self._terms:
                raise TransportError(
                    "a particle left the region where the features are bounded; use a gaussian dictionary, "
                    "or a smaller kswgd.step_size"
                )
            message[:-1] += to_fixed(part, self._exponent)
        message[-1:] = np.array([displacement]).view(np.int64)
        self.comm.Allreduce(MPI.IN_PLACE, message, op=self._operator)
        return np.ldexp(message[:-1].astype(float), -self._exponent) + self._offsets, float(message[-1:].view(float)[0])

    def _fix_scale(self, sums: list[np.ndarray]) -> int:
        """Fixed-point scale for the whole flow: what bounded features can reach, or far above the start. Collective."""
        bound = self._dictionary.bound * float(abs(self._modes).sum(axis=0).max())
        if not np.isfinite(bound):
            start = max((float(np.abs(part).max()) for part in sums), default=0.0)
            bound = 2.0**12 * max(self.comm.allreduce(start, op=MPI.MAX) * self._terms, 1.0)
        # a block holds at most 1 / blocks of all particles, up to rounding in the cut
        return quantum_exponent(2 * bound / self._terms, self._terms)

    def values(self, z) -> list:
        """Features of each block: fixed shapes, hence fixed bits."""
        return [self._dictionary.values(z[part]) for part in self._slices]

    def gradient(self, z, values: list, means: np.ndarray):
        """(n, c) gradient of kappa = sum_k (m_k / lambda_k) phi_k in z."""
        weights = self._modes @ array_module(self._modes).asarray(means / self.rates)
        return self._join(
            [self._dictionary.gradient(z[part], weights, psi) for part, psi in zip(self._slices, values, strict=True)],
            z,
        )

    def excess(self, means: np.ndarray) -> float:
        """N sum m_k^2, about the number of modes for independent draws of the invariant law."""
        return self.particles * float(means @ means)

    def displacement(self, impulse):
        """(n, c) move of z for an integral of grad kappa over time: -K impulse."""
        return self._join([-(impulse[part] @ self._mobility) for part in self._slices], impulse)

    def arrive(self, z, move):
        """Where the particles at z are after a move."""
        return z + move

    def largest(self, z, move) -> float:
        """Longest of the moves of this rank's particles, in scaled coordinates."""
        return _largest(move)

    def _join(self, parts: list, like):
        """Rows of all blocks of this rank; matrix products are taken block by block, for the sake of fixed bits."""
        return array_module(like).concatenate(parts) if parts else like[:0]


class LocalFlow(Flow):
    """The same flow where the mobility of the coordinates depends on the state: it moves states, rows x (n, d).

    M(x) stands in the velocity, not in front of an integral of gradients: `gradient` gives M grad kappa in state space.
    After each move states return to where the system can be, such as a manifold.

    Parameters
    ----------
    mobility : M of the states; the others as for Flow
    """

    def __init__(self, comm: MPI.Comm, spectrum: Spectrum, mobility, blocks: list[Block], particles: int):
        super().__init__(comm, spectrum, 0.0, blocks, particles)
        self._coordinates = spectrum.coordinates
        self._state_mobility = mobility
        self._retract = getattr(mobility, "retract", None)

    def values(self, x) -> list:
        """Features of each block."""
        return [self._dictionary.values(self._coordinates.of_rows(x[part])) for part in self._slices]

    def gradient(self, x, values: list, means: np.ndarray):
        """(n, d) M(x) grad kappa."""
        weights = self._modes @ (means / self.rates)
        parts = []
        for part, psi in zip(self._slices, values, strict=True):
            slope = self._dictionary.gradient(self._coordinates.of_rows(x[part]), weights, psi)
            parts.append(self._coordinates.lift(slope, self._state_mobility, np.ascontiguousarray(x[part].T)))
        return self._join(parts, x)

    def displacement(self, impulse):
        """(n, d) move of x for an integral of M grad kappa over time."""
        return -impulse

    def arrive(self, x, move):
        """Where the particles at x are after a move: on the manifold, if there is one."""
        end = x + move
        return end if self._retract is None else np.ascontiguousarray(self._retract(np.ascontiguousarray(end.T)).T)

    def largest(self, x, move) -> float:
        """Longest of the moves of this rank's particles, in scaled coordinates."""
        still = np.zeros(x.shape[1])
        moves = [
            self._coordinates.velocity(np.ascontiguousarray(move[part].T), np.ascontiguousarray(x[part].T), still)
            for part in self._slices
        ]
        return max((_largest(move) for move in moves), default=0.0)


def _sum_and_maximum(incoming, outgoing, _datatype) -> None:
    """MPI reduction: all entries are added, except the last, of which the larger is kept."""
    a, b = np.frombuffer(incoming, dtype=np.int64), np.frombuffer(outgoing, dtype=np.int64)
    last = max(a[-1], b[-1])
    b += a
    b[-1] = last


def floor(modes: int) -> float:
    """N sum m_k^2 below which r modes are statistically those of independent draws: r + 2 sqrt(2 r)."""
    return modes + 2 * np.sqrt(2 * modes)


def transport(
    flow: Flow,
    z,
    steps: int,
    step_size: float | None,
    displacement_limit: float = 0.25,
    progress: Callable[[int, float], None] = lambda step, excess: None,
):
    """Move particles by (3) until their resolved modes are those of independent draws. Collective.

    N sum m_k^2 of r modes is r + sqrt(2 r) N(0, 1) for independent draws: the flow has converged below the `floor`, and
    goes on to the mean r, since stopping at the floor would leave particles that are always on the far side of it.

    Steps are Adams-Bashforth of second order (one velocity a step), Euler for the first. An automatic step grows
    while F decreases and nothing moves farther than the limit, and is halved and retaken otherwise.

    Parameters
    ----------
    flow : velocity field
    z : (n, c) scaled coordinates of this rank's particles; their states (n, d) for a LocalFlow
    steps : at most this many accepted steps
    step_size : fixed h in flow time, or None for an automatic one
    displacement_limit : largest move in one step, in standard deviations of the ensemble
    progress : called with the number of steps and N sum m^2 over its floor

    Returns
    -------
    z : where the particles end
    impulse : (n, c) integral of grad kappa over flow time, so that x = x_0 - M J^T D^-1 impulse; not for a LocalFlow
    history : History

    Raises
    ------
    TransportError : no step decreases F, or a fixed step diverges
    """
    automatic = step_size is None
    values = flow.values(z)
    means, _ = flow.means(values, 0.0)
    gradient = flow.gradient(z, values, means)
    # the first step is limited by the velocity at the start: the only extra reduction there is
    speed = flow.comm.allreduce(flow.largest(z, flow.displacement(gradient)), op=MPI.MAX)
    h = min(0.05, displacement_limit / max(speed, 1e-300)) if automatic else step_size
    impulse, previous, previous_h = z * 0, None, 0.0
    time, record = 0.0, [(0.0, means, 0.0, 0.0)]
    target = floor(len(flow.rates))
    energy = _energy(means, flow.rates)
    while len(record) <= steps and flow.excess(means) > len(flow.rates):
        effective = gradient if previous is None else gradient + (gradient - previous) * (h / (2 * previous_h))
        move = flow.displacement(effective) * h
        trial = flow.arrive(z, move)
        values = flow.values(trial)
        new_means, moved = flow.means(values, flow.largest(z, move))
        new_energy = _energy(new_means, flow.rates)
        if not np.isfinite(new_energy + moved):
            raise TransportError("the transport diverged; use step_size: auto or a smaller one")
        if automatic and (new_energy > energy or moved > 2 * displacement_limit):
            h /= 2
            if h < _SMALLEST_STEP and flow.excess(means) <= target:
                break
            if h < _SMALLEST_STEP:
                raise TransportError(
                    "no step decreases the distance to the invariant law: fewer koopman.modes may help"
                )
            continue
        z, impulse, time = trial, impulse + effective * h, time + h
        previous, previous_h, means, energy = gradient, h, new_means, new_energy
        record.append((time, means, h, moved))
        progress(len(record) - 1, flow.excess(means) / target)
        gradient = flow.gradient(z, values, means)
        if automatic:
            h = min(_LARGEST_STEP, 1.25 * h, h * displacement_limit / max(moved, 1e-300))
    return z, impulse, _history(record, flow.excess(means) <= target)


def _energy(means: np.ndarray, rates: np.ndarray) -> float:
    return 0.5 * float((means**2 / rates).sum())


def _largest(displacement) -> float:
    """Largest Euclidean norm among the rows, zero for none."""
    return float(((displacement**2).sum(axis=1) ** 0.5).max()) if len(displacement) else 0.0


def _history(record: list[tuple], converged: bool) -> History:
    time, means, step, moved = (np.array(column) for column in zip(*record, strict=True))
    return History(time, means, step[1:], moved[1:], converged)
