"""The coordinates in which rivals work: centred and scaled, so that a stiff field is not stiff for them either.

Fields: Laplacian coefficients, which methods that follow the score see over the deviation that the linear part of the
equation gives them (capped by the largest of the ensemble), so that a stiff mode is not stiff; methods that compare
states with data see all of them on one scale, in which distances are those of fields in L2. Vectors: components over
their deviations. Data: one scale for all components. Manifolds: as they are, with velocities made tangential and moves
retracted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spde.equations import SemilinearEquation
from spde.manifolds import ManifoldDiffusion


@dataclass(frozen=True)
class Frame:
    """x -> y = (transform(x) - mean) / scale, rows throughout.

    mean, scale : (d,)
    to_modes, from_modes : rows (n, d) -> (n, d), the identity where None
    weight : what a derivative by a component of the state is divided by, to be one by a coefficient
    project, retract : of a manifold: (y, velocity) -> tangential velocity, y -> nearest point
    """

    mean: np.ndarray
    scale: np.ndarray
    to_modes: Callable | None = None
    from_modes: Callable | None = None
    weight: float = 1.0
    project: Callable = lambda _y, velocity: velocity
    retract: Callable = lambda y: y
    curved: bool = False

    @property
    def dimension(self) -> int:
        return len(self.mean)

    def enter(self, states: np.ndarray) -> np.ndarray:
        """(n, d) coordinates of states (n, d)."""
        rows = states if self.to_modes is None else self.to_modes(states)
        return (rows - self.mean) / self.scale

    def leave(self, y: np.ndarray) -> np.ndarray:
        """(n, d) states of coordinates (n, d)."""
        rows = self.mean + self.scale * y
        return rows if self.from_modes is None else self.from_modes(rows)

    def pulled(self, slopes: np.ndarray) -> np.ndarray:
        """(n, d) derivatives by the coordinates, of derivatives (n, d) by the state."""
        rows = slopes if self.to_modes is None else self.to_modes(slopes) / self.weight
        return rows * self.scale


def frame_of(system, sample: np.ndarray, stiff: bool) -> Frame:
    """The frame of a system, None for recorded data.

    Parameters
    ----------
    sample : (n, d) states of the ensemble to scale by
    stiff : whether the method follows the score, which is stiff in the high modes of a field
    """
    if isinstance(system, SemilinearEquation):
        return _of_field(system, sample, stiff)
    d = sample.shape[1]
    if isinstance(system, ManifoldDiffusion):
        manifold = system.manifold
        return Frame(
            np.zeros(d),
            np.ones(d),
            project=lambda y, v: manifold.tangential(np.ascontiguousarray(y.T), np.ascontiguousarray(v.T)).T,
            retract=lambda y: np.ascontiguousarray(manifold.retract(np.ascontiguousarray(y.T)).T),
            curved=True,
        )
    variance = sample.var(axis=0)
    if system is None:
        variance = np.full(d, variance.mean())
    return Frame(sample.mean(axis=0), np.sqrt(np.maximum(variance, 1e-300)))


def _of_field(system: SemilinearEquation, sample: np.ndarray, stiff: bool) -> Frame:
    rows = lambda transform: lambda states: np.ascontiguousarray(transform(np.ascontiguousarray(states.T)).T)  # noqa: E731
    grid = system.domain.is_grid
    seen = rows(system.to_modes)(sample).var(axis=0)
    rates, noise = system.rates, system.scales**2 / 2
    variance = np.where(rates > 0, noise / np.where(rates > 0, rates, 1.0), np.inf)
    # multiplicative noise and modes without noise are known from the ensemble alone
    if system.is_multiplicative or (noise <= 0).any():
        variance = seen
    variance = np.minimum(variance, seen.max()) if stiff else np.full(len(seen), seen.max())
    return Frame(
        np.zeros(system.dimension),
        np.sqrt(np.maximum(variance, 1e-12 * variance.max())),
        rows(system.to_modes) if grid else None,
        rows(system.from_modes) if grid else None,
        system.domain.cell if grid else 1.0,
    )
