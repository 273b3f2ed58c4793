"""What the dictionary sees: scaled coordinates z = (F(x) - mean) / scale of the state x.

F is a `CoordinateMap`. The linear ones are here; see functions.py for functions of the state, delay.py for delays.
The mobility M of the state is (d,), (d, d), an operator that rows (n, d) are multiplied by (`ModeMobility` of
`spde.mobility`), or, where it depends on the state, a field with `apply` and `seen_by` (`MobilityField` there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kswgd_hpc.errors import ConfigurationError

Mobility = Any  # see above


class CoordinateMap(Protocol):
    """Raw coordinates F(x) of the state; len() is their number c.

    The generator acts on them through their Jacobian J and second derivatives, for which states (d, n) are given.
    """

    names: tuple[str, ...]
    linear: bool

    def __len__(self) -> int:
        """c."""

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """(n, c) coordinates of states (d, n)."""

    def velocity(self, drift: np.ndarray, states: np.ndarray, mobility: Mobility) -> np.ndarray:
        """(n, c) drift J b + M : hess F of the coordinates, of a drift b (d, n) of the state."""

    def mobility(self, mobility: Mobility, states: np.ndarray) -> np.ndarray:
        """J M J^T, (c, c) where it is constant, else (n, c, c)."""

    def lift(self, slopes: np.ndarray, mobility: Mobility, states: np.ndarray) -> np.ndarray:
        """(n, d) M J^T g of slopes g (n, c)."""


def is_field(mobility: Mobility) -> bool:
    """Whether a mobility depends on the state."""
    return hasattr(mobility, "seen_by")


def numbered(count: int) -> tuple[str, ...]:
    """Names c1, c2, ... of coordinates that have none of their own."""
    return tuple(f"c{i + 1}" for i in range(count))


class LinearMap:
    """J x: the state itself, or given combinations of its components.

    Parameters
    ----------
    matrix : (c, d) J, or None for the identity
    size : c
    names : of the coordinates; c1, c2, ... where they have none of their own
    """

    linear = True

    def __init__(self, matrix: np.ndarray | None, size: int, names: Sequence[str] | None = None):
        self.matrix = matrix
        self._size = size
        self._names = names

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return numbered(self._size) if self._names is None else tuple(self._names)

    def __len__(self) -> int:
        return self._size

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """(n, c) coordinates of states (d, n)."""
        return np.ascontiguousarray(states.T if self.matrix is None else (self.matrix @ states).T)

    def velocity(self, drift: np.ndarray, states: np.ndarray | None = None, mobility: Mobility = None) -> np.ndarray:
        """(n, c) J b."""
        return self(drift)

    def mobility(self, mobility: Mobility, states: np.ndarray | None = None) -> np.ndarray:
        """J M J^T, (c, c); (n, c, c) where M is a field."""
        if is_field(mobility):
            directions = mobility.seen_by(self.matrix, states)
            return np.einsum("knc,kne->nce", directions, directions)
        J = self.matrix
        if J is None:
            return np.diag(mobility) if mobility.ndim == 1 else np.eye(self._size) @ mobility
        return (J * mobility) @ J.T if mobility.ndim == 1 else J @ mobility @ J.T

    def lift(self, slopes: np.ndarray, mobility: Mobility, states: np.ndarray | None = None) -> np.ndarray:
        """(n, d) M J^T g of slopes g (n, c)."""
        return apply_mobility(mobility, slopes if self.matrix is None else slopes @ self.matrix, states)


def linear_part(observed: CoordinateMap) -> np.ndarray | None:
    """(c, d) matrix of the linear map at the bottom of a map, None where that is the identity."""
    while not isinstance(observed, LinearMap):
        observed = getattr(observed, "inner", None)
        if observed is None:
            return None
    return observed.matrix


def apply_mobility(mobility: Mobility, slopes: np.ndarray, states: np.ndarray | None) -> np.ndarray:
    """(n, d) M g of slopes g (n, d) at states (d, n)."""
    if is_field(mobility):
        return mobility.apply(states, slopes)
    return slopes * mobility if mobility.ndim == 1 else slopes @ mobility


@dataclass(frozen=True)
class Coordinates:
    """Coordinates of the state, centred and scaled.

    Parameters
    ----------
    map : F, to c raw coordinates
    mean : (c,) of F over the ensemble
    scale : (c,)
    """

    map: CoordinateMap
    mean: np.ndarray
    scale: np.ndarray

    @property
    def size(self) -> int:
        """c."""
        return len(self.mean)

    def rescale(self, raw: np.ndarray) -> np.ndarray:
        """(n, c) z of raw coordinates (n, c)."""
        return (raw - self.mean) / self.scale

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """(n, c) z of states (d, n)."""
        return self.rescale(self.map(states))

    def of_rows(self, states: np.ndarray) -> np.ndarray:
        """(n, c) z of states given as rows (n, d)."""
        return self(states.T)

    def constant_mobility(self, mobility: Mobility) -> bool:
        """Whether the mobility of z is the same at all states."""
        return self.map.linear and not is_field(mobility)

    def velocity(self, drift: np.ndarray, states: np.ndarray | None = None, mobility: Mobility = None) -> np.ndarray:
        """(n, c) drift of z of a drift (d, n) of the state; curved coordinates need the states (d, n) and M as well."""
        return self.map.velocity(drift, states, mobility) / self.scale

    def lift(self, gradients: np.ndarray, mobility: Mobility, states: np.ndarray | None = None) -> np.ndarray:
        """M times the gradient in state space, (n, d), of gradients (n, c) in z; states as for `velocity`."""
        return self.map.lift(gradients / self.scale, mobility, states)

    def mobility(self, mobility: Mobility, states: np.ndarray | None = None) -> np.ndarray:
        """Mobility of z, D^-1 J M J^T D^-1 with D the scales: (c, c), or (n, c, c) where it is not constant."""
        return self.map.mobility(mobility, states) / np.outer(self.scale, self.scale)


def project(observed: CoordinateMap | None, states: np.ndarray) -> np.ndarray:
    """(n, c) raw coordinates of states (d, n); None for the states themselves."""
    return np.ascontiguousarray(states.T) if observed is None else observed(states)


@dataclass(frozen=True)
class Pilot:
    """A small sample from which coordinates and dictionary are made, the same on every rank.

    Parameters
    ----------
    observed : map to the raw coordinates
    raw : (n, c) raw coordinates
    mobility : (c, c) of the raw coordinates, averaged over the sample where it depends on the state
    pairs : two (m, c) arrays, raw coordinates at both ends of pairs a lag apart; None where none were asked for
    """

    observed: CoordinateMap
    raw: np.ndarray
    mobility: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray] | None = None


class WithMobility:
    """A map to raw coordinates and, behind them, their mobility, row by row: what a pilot of curved ones asks for.

    Parameters
    ----------
    observed : map to c coordinates
    mobility : M of the state
    """

    def __init__(self, observed: CoordinateMap, mobility: Mobility):
        self._map = observed
        self._mobility = mobility

    def __len__(self) -> int:
        return len(self._map) * (len(self._map) + 1)

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """(n, c + c^2) of states (d, n)."""
        moving = self._map.mobility(self._mobility, states)
        return np.concatenate([self._map(states), moving.reshape(states.shape[1], -1)], axis=1)

    def pilot(self, rows: np.ndarray) -> Pilot:
        """The pilot of rows (n, c + c^2)."""
        c = len(self._map)
        return Pilot(self._map, rows[:, :c], rows[:, c:].mean(axis=0).reshape(c, c))


def whitened(pilot: Pilot) -> Coordinates:
    """Coordinates scaled one by one to unit deviation over the pilot: for polynomials.

    Raises
    ------
    ConfigurationError : when a coordinate never changes
    """
    deviation = pilot.raw.std(axis=0)
    flat = np.flatnonzero(deviation <= 1e-12 * np.maximum(np.abs(pilot.raw).max(axis=0), 1e-300))
    if len(flat):
        raise ConfigurationError(
            f"koopman.coordinates: coordinate {flat[0]} is constant over the ensemble; leave it out, or check the data"
        )
    return Coordinates(pilot.observed, pilot.raw.mean(axis=0), deviation)


def intrinsic(pilot: Pilot) -> Coordinates:
    """Coordinates scaled by the square root of their mobility, and all alike: for radial functions.

    Distances are then those of the diffusion itself. A fast direction has a small spread in this metric, so radial
    functions hardly vary along it, and sampling noise in the gradient of slow eigenfunctions, which transport
    multiplies by mobility over rate, stays small. The largest deviation is one. A coordinate without noise of its own
    has no such scale: it is given unit deviation.

    Raises
    ------
    ConfigurationError : when no coordinate changes
    """
    deviation, noise = pilot.raw.std(axis=0), np.diag(pilot.mobility)
    moved = noise > 1e-12 * noise.max()
    scale = np.sqrt(np.where(moved, noise, 1.0))
    largest = (deviation / scale)[moved].max(initial=0.0)
    if not largest > 0:
        raise ConfigurationError("koopman.coordinates: all coordinates are constant over the ensemble; check the data")
    still = np.where(deviation > 0, deviation, largest)
    return Coordinates(pilot.observed, pilot.raw.mean(axis=0), np.where(moved, scale * largest, still))
