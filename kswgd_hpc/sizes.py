"""How large the parts of a run are, from the configuration alone, before anything is built."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kswgd_hpc.config import Config
from kswgd_hpc.dictionary.fit import count
from kswgd_hpc.ensemble import PILOT_ROWS, Pairing, block_count, pairing
from kswgd_hpc.storage import open_recording
from spde.catalogue import CATALOGUE

DRAWING = 4  # ranks that share out the figures of the report


@dataclass(frozen=True)
class Sizes:
    """Numbers that memory, work and messages are made of.

    Parameters
    ----------
    dimension : d of a state
    coordinates : c that the dictionary sees; 0 without one
    functions : p of the dictionary; 0 without one
    trajectories, blocks : of the ensemble, over all ranks
    pairs : how records become pairs
    burn_in, steps : time steps of a trajectory, before its first record and after; 0 for data
    particles, relaxation : number, and time steps of their relaxation; 0 without transport
    paths : (paths, time steps of the longest) of each Feynman-Kac reference
    """

    dimension: int
    coordinates: int
    functions: int
    trajectories: int
    blocks: int
    pairs: Pairing
    burn_in: int
    steps: int
    particles: int
    relaxation: int
    paths: tuple[tuple[int, int], ...]

    @property
    def records(self) -> int:
        """Records of a trajectory that belong to a pair, or are states on their own."""
        pairs = self.pairs
        return min(pairs.records, pairs.starts * (1 if pairs.consecutive or not pairs.lag else 2) + pairs.lag)

    def largest_share(self, ranks: int) -> int:
        """Trajectories of the rank that has most."""
        return -(-self.blocks // ranks) * -(-self.trajectories // self.blocks)


def sizes(config: Config) -> Sizes:
    """The sizes of a run.

    Raises
    ------
    ConfigurationError : a dictionary that does not fit its coordinates
    DataError : data that cannot be read
    """
    ensemble, step = config.ensemble, config.ensemble.time_step
    if config.system.kind == "data":
        trajectories, times, dimension = _recorded(config)
        interval = config.system.sampling_interval or 1.0
        if config.koopman is None or not config.koopman.lagged or times == 1:
            pairs = Pairing(interval, 0, 1, times)
        else:
            pairs = pairing(interval, ensemble.lag_time, ensemble.stride, (times - 1) * interval)
        step = interval
    else:
        dimension, trajectories = _dimension(config.system), ensemble.trajectories
        pairs = pairing(step, ensemble.lag_time, ensemble.stride, ensemble.duration)
    coordinates = 0 if config.koopman is None else _coordinates(config.koopman.coordinates, dimension)
    simulated = config.system.kind != "data"
    functions = 0
    if config.koopman is not None:
        spec = config.koopman.dictionary
        functions = count(spec, coordinates)
        if hasattr(spec, "centres"):  # of which there are no more than states in the pilot sample
            functions = min(functions, max(PILOT_ROWS, trajectories), trajectories * pairs.records)
    return Sizes(
        dimension,
        coordinates,
        functions,
        trajectories,
        block_count(trajectories, max(pairs.starts, 1)),
        pairs,
        round(ensemble.burn_in / step) if simulated else 0,
        round(ensemble.duration / step) if simulated else 0,
        config.kswgd.particles if config.kswgd is not None else 0,
        round(_relaxation(config) / step),
        tuple(_paths(row, config) for row in config.validation.feynman_kac),
    )


def _paths(row, config: Config) -> tuple[int, int]:
    """Paths of a reference, about, and steps of each; those without an end time are taken as long as the ensemble's."""
    longest = max(row.times or [config.ensemble.duration])
    curves = len(row.thetas or row.initials or [None])
    return row.trajectories * curves, round(longest / config.ensemble.time_step)


def _recorded(config: Config) -> tuple[int, int, int]:
    shape = open_recording(config.system.path, config.system.dataset, "system.path").shape
    if len(shape) == 3:
        return shape
    return (shape[0], 1, math.prod(shape[1:]))


def _dimension(system) -> int:
    """Numbers of a state; a few more than there are where a boundary or the conservation of mass takes some."""
    if system.kind == "spde":
        points = system.domain.points
        points = points if isinstance(points, list) else [points] * system.domain.dimensions
        return math.prod(points) * (len(CATALOGUE[system.equation].fields) if system.equation != "custom" else 1)
    if system.manifold is not None:
        return 2 if system.manifold.kind == "circle" else 3
    return len(system.components)


def _coordinates(spec, dimension: int) -> int:
    if spec.kind == "identity":
        return dimension
    if spec.kind == "expressions":
        return len(spec.functions)
    return spec.count * (_coordinates(spec.of, dimension) if spec.kind == "delay" else 1)


def _relaxation(config: Config) -> float:
    """Time of the relaxation, a lag time where only the spectrum will tell it."""
    if config.kswgd is None:
        return 0.0
    wanted = config.kswgd.relaxation
    return wanted if wanted != "auto" else config.ensemble.lag_time or 1.0
