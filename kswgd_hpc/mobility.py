"""Dirichlet form and generator where the mobility depends on the state; see `spde.mobility`.

A dictionary knows its generator for one mobility matrix at all points. Everything here is made of that: the slope along
a direction is the generator of a drift, and M(x) : hess psi is a sum over pairs of coordinates, with M_ij(x) in front.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kswgd_hpc.coordinates import Coordinates
from kswgd_hpc.dictionary import Dictionary
from spde.mobility import MobilityField


@dataclass(frozen=True)
class LocalMobility:
    """Mobility of scaled coordinates z at given states: K(x) = sum_a f_a f_a^T."""

    coordinates: Coordinates
    field: MobilityField

    def directions(self, states: np.ndarray) -> np.ndarray:
        """(k, n, c) f_a in z at states (d, n)."""
        return self.field.seen_by(self.coordinates.matrix, states) / self.coordinates.scale


def mobility_of(coordinates: Coordinates, mobility: np.ndarray | MobilityField) -> np.ndarray | LocalMobility:
    """Mobility of z: (c, c) where that of the state, (d,) or (d, d), is constant."""
    if isinstance(mobility, MobilityField):
        return LocalMobility(coordinates, mobility)
    return coordinates.mobility(mobility)


def average_mobility(matrix: np.ndarray | None, mobility: np.ndarray | MobilityField, pilot: np.ndarray) -> np.ndarray:
    """(c, c) mobility of the raw coordinates J x, averaged over a pilot (n, c) of them where it depends on the state.

    Of a state only the part that the coordinates see is then known: it is J^+ J x.
    """
    if not isinstance(mobility, MobilityField):
        c = pilot.shape[1]
        return Coordinates(matrix, np.zeros(c), np.ones(c)).mobility(mobility)
    states = pilot.T if matrix is None else np.linalg.pinv(matrix) @ pilot.T
    return mobility.average(matrix, np.ascontiguousarray(states))


def dirichlet_form(dictionary: Dictionary, z: np.ndarray, directions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(p, p) sum over n points of grad psi . K(x) grad psi^T: one symmetric product for each direction.

    Parameters
    ----------
    z : (n, c); directions : (k, n, c); values : (n, p) of the functions at z
    """
    still = np.zeros((z.shape[1],) * 2)
    form = np.zeros((dictionary.size,) * 2)
    for direction in directions:
        slopes = dictionary.generator(z, direction, still, values)
        form += slopes.T @ slopes
    return form


def generator(
    dictionary: Dictionary, z: np.ndarray, drift: np.ndarray, directions: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """(n, p) values of drift . grad psi + K(x) : hess psi.

    Parameters
    ----------
    z, drift : (n, c); directions : (k, n, c); values : (n, p) of the functions at z
    """
    c = z.shape[1]
    still = np.zeros_like(z)
    rates = dictionary.generator(z, drift, np.zeros((c, c)), values)
    for i in range(c):
        for j in range(i, c):
            entry = (directions[:, :, i] * directions[:, :, j]).sum(axis=0)
            if entry.any():
                pair = np.zeros((c, c))
                pair[i, j] = pair[j, i] = 1.0
                rates = rates + entry[:, None] * dictionary.generator(z, still, pair, values)
    return rates
