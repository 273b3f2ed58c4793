"""From a `dictionary` section of the configuration and a pilot sample to the dictionary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kswgd_hpc import streams
from kswgd_hpc.coordinates import Coordinates, Pilot
from kswgd_hpc.dictionary import Dictionary
from kswgd_hpc.dictionary.bandwidth import PairScore, StateScore, cross_validated
from kswgd_hpc.dictionary.centres import farthest_points, kmeans, nearest_neighbour
from kswgd_hpc.dictionary.fourier import FourierDictionary
from kswgd_hpc.dictionary.gaussian import GaussianDictionary
from kswgd_hpc.dictionary.indicator import BoxDictionary, VoronoiDictionary
from kswgd_hpc.dictionary.linear import LinearDictionary
from kswgd_hpc.dictionary.matern import MaternDictionary
from kswgd_hpc.dictionary.polynomial import PolynomialDictionary
from kswgd_hpc.dictionary.random_fourier import RandomFourierDictionary
from kswgd_hpc.dictionary.rational_quadratic import RationalQuadraticDictionary
from kswgd_hpc.dictionary.splines import SplineDictionary
from kswgd_hpc.dictionary.wendland import WendlandDictionary
from kswgd_hpc.errors import ConfigurationError

_LARGEST_DENSE = 100_000
_LARGEST_SPARSE = 2**26  # a table of all functions tells which are visited
SPARSE = ("splines", "indicator", "wendland")  # functions that are zero almost everywhere

# bandwidth: auto, in median distances from a centre to its nearest neighbour: smooth, and still well conditioned
_WIDTHS = {"gaussian": 1.2, "matern": 1.5, "rational_quadratic": 1.0, "wendland": 4.0}


@dataclass(frozen=True)
class _Sample:
    """The pilot in scaled coordinates.

    z : (n, c); origin : (c,) z where all raw coordinates are zero; scale : (c,) raw units of z
    score : judge of bandwidths
    """

    z: np.ndarray
    origin: np.ndarray
    scale: np.ndarray
    score: PairScore | StateScore
    seed: int


def fit(spec: Any, coordinates: Coordinates, pilot: Pilot, modes: int, reversible: bool, seed: int) -> Dictionary:
    """The dictionary that a section of the configuration describes.

    Parameters
    ----------
    spec : the section
    coordinates : how the pilot is scaled
    pilot : the same on every rank, so the dictionary is too
    modes : number of eigenpairs that will be asked for
    reversible : whether pairs have no direction of time
    seed : of the run
    """
    z, origin = coordinates.rescale(pilot.raw), coordinates.rescale(np.zeros(coordinates.size))
    score = _score(coordinates, pilot, modes, reversible)
    return _fit(spec, _Sample(z, origin, coordinates.scale, score, seed))


def _score(coordinates: Coordinates, pilot: Pilot, modes: int, reversible: bool) -> PairScore | StateScore:
    if pilot.pairs is not None:
        x, y = map(coordinates.rescale, pilot.pairs)
        return PairScore(x, y, modes, reversible)
    mobility = pilot.mobility / np.outer(coordinates.scale, coordinates.scale)
    noise = np.diag(mobility)
    # where some coordinates have no noise of their own all that is known is that functions should be smooth
    degenerate = noise.min() <= 1e-12 * noise.max()
    return StateScore(coordinates.rescale(pilot.raw), np.eye(len(noise)) if degenerate else mobility, modes)


def _fit(spec: Any, pilot: _Sample) -> Dictionary:
    c = pilot.z.shape[1]
    if spec.kind in _WIDTHS:
        return _radial(spec, pilot)
    if spec.kind == "polynomial":
        return PolynomialDictionary(c, spec.degree)
    if spec.kind == "fourier":
        low, high, periodic = _box(spec, pilot, spec.margin)
        return FourierDictionary(low, high, periodic, spec.degree, spec.truncation == "total")
    if spec.kind == "random_fourier":
        return _random_fourier(spec, pilot)
    if spec.kind == "splines":
        low, high, periodic = _box(spec, pilot)
        return SplineDictionary(low, high, _per_coordinate(spec.cells, c), periodic, spec.degree)
    if spec.kind == "indicator" and spec.cells is None:
        return VoronoiDictionary(_centres(spec, pilot))
    if spec.kind == "indicator":
        low, high, periodic = _box(spec, pilot)
        return BoxDictionary(low, high, _per_coordinate(spec.cells, c), periodic)
    return LinearDictionary(c)


def count(spec: Any, coordinates: int) -> int:
    """Number of functions of a section of the configuration, before anything is known of the data.

    Raises
    ------
    ConfigurationError : numbers that do not fit the coordinates, or too many functions
    """
    size = _count(spec, coordinates)
    largest = _LARGEST_SPARSE if spec.kind in SPARSE else _LARGEST_DENSE
    if size > largest:
        raise ConfigurationError(f"koopman.dictionary: {size} functions; at most {largest} are sensible")
    return size


def has_constant(spec: Any) -> bool:
    """Whether the constant is in the span, so that one function fewer can vary."""
    return spec.kind in (*_WIDTHS, "splines", "indicator")


def _count(spec: Any, coordinates: int) -> int:
    if spec.kind == "polynomial":
        return PolynomialDictionary.count(coordinates, spec.degree)
    if spec.kind == "expressions":
        return len(spec.functions)
    if spec.kind == "fourier":
        return FourierDictionary.count(_periodic(spec, coordinates), spec.degree, spec.truncation == "total")
    if getattr(spec, "cells", None) is None:
        return spec.size
    degree = spec.degree if spec.kind == "splines" else 0
    cells, periodic = _per_coordinate(spec.cells, coordinates, "cells"), _periodic(spec, coordinates)
    for number in cells:
        if number % 2 or number < 2 * degree:
            raise ConfigurationError(
                f"koopman.dictionary.cells: {number}, expected an even number of at least {max(2, 2 * degree)}: "
                "half as many tell the dictionary's error"
            )
    counts = SplineDictionary.count(cells, periodic, degree) if spec.kind == "splines" else cells
    return int(np.prod(counts.astype(object)))


def _per_coordinate(value: Any, coordinates: int, key: str = "") -> np.ndarray:
    """(c,) values of a key that is given once or once for each coordinate."""
    values = value if isinstance(value, list) else [value] * coordinates
    if len(values) != coordinates:
        raise ConfigurationError(
            f"koopman.dictionary.{key}: {len(values)} entries for {coordinates} coordinates; give one for all, or each"
        )
    return np.array(values)


def _periodic(spec: Any, coordinates: int) -> np.ndarray:
    """(c,) whether a coordinate is periodic."""
    return np.array([period is not None for period in _per_coordinate(spec.period, coordinates, "period")])


def _box(spec: Any, pilot: _Sample, margin: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Range of each coordinate, from the sample or, where it is periodic, from its period; and which are."""
    c = pilot.z.shape[1]
    periodic = _periodic(spec, c)
    period = np.array([p if p is not None else 0.0 for p in _per_coordinate(spec.period, c)], dtype=float)
    low, high = pilot.z.min(axis=0), pilot.z.max(axis=0)
    wider = margin * (high - low)
    low = np.where(periodic, pilot.origin, low - wider)
    high = np.where(periodic, pilot.origin + period / pilot.scale, high + wider)
    flat = np.flatnonzero(~(high > low))
    if len(flat):
        raise ConfigurationError(
            f"koopman.coordinates: coordinate {flat[0]} is constant over the ensemble; leave it out, or check the data"
        )
    return low, high, periodic


def _centres(spec: Any, pilot: _Sample) -> np.ndarray:
    size = min(spec.size, len(pilot.z))
    if spec.centres == "kmeans":
        return kmeans(pilot.z, size, pilot.seed, streams.DICTIONARY)
    return pilot.z[farthest_points(pilot.z, size)]


def _radial(spec: Any, pilot: _Sample) -> Dictionary:
    centres = _centres(spec, pilot)
    make: Callable[[float], Dictionary] = {
        "gaussian": lambda h: GaussianDictionary(centres, h),
        "matern": lambda h: MaternDictionary(centres, h, spec.smoothness),
        "rational_quadratic": lambda h: RationalQuadraticDictionary(centres, h, spec.exponent),
        "wendland": lambda h: WendlandDictionary(centres, h, spec.smoothness),
    }[spec.kind]
    return make(_bandwidth(spec, pilot, make, lambda: _WIDTHS[spec.kind] * nearest_neighbour(centres)))


def _random_fourier(spec: Any, pilot: _Sample) -> Dictionary:
    def make(bandwidth: float) -> Dictionary:
        c = pilot.z.shape[1]
        return RandomFourierDictionary.drawn(c, spec.size, bandwidth, pilot.seed, streams.DICTIONARY)

    return make(_bandwidth(spec, pilot, make, lambda: _half_width(pilot.z)))


def _bandwidth(spec: Any, pilot: _Sample, make: Callable, automatic: Callable[[], float]) -> float:
    if spec.bandwidth == "auto":
        return automatic()
    if spec.bandwidth == "cross_validated":
        return cross_validated(make, automatic(), pilot.score)
    return spec.bandwidth


def _half_width(z: np.ndarray) -> float:
    """Half the root mean square distance between two states: the width of random features.

    A function of the size of the whole sample would be nearly linear on it; features of half its size bend on it.
    """
    return float(np.sqrt(z.var(axis=0).sum() / 2))
