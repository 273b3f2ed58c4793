"""The contents of results.h5 as the sections want them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kswgd_hpc import storage, systems
from kswgd_hpc.config import Config, parse
from kswgd_hpc.coordinates import CoordinateMap, Coordinates
from kswgd_hpc.dictionary import Dictionary, VisitedDictionary, restore
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.metrics import drawn, subsample
from kswgd_hpc.plan import coordinate_map
from kswgd_hpc.report import canvas
from kswgd_hpc.schema.system import DiffusionSystem, SpdeSystem
from kswgd_hpc.spectrum import Spectrum
from spde.domain import Interval
from spde.equations import SemilinearEquation

_MOST_STATES = 4096
_MOST_NUMBERS = 2**22
_BATCH_NUMBERS = 2**20


@dataclass(frozen=True)
class Law:
    """Particles at one stage, or the ensemble they are judged by.

    name : as in the names of metrics; label, colour : in figures; states : (n, d)
    """

    name: str
    label: str
    colour: str
    states: np.ndarray


@dataclass(frozen=True)
class Run:
    """Datasets and attributes of a results file, and its configuration, None where that cannot be read."""

    data: Mapping[str, Any]
    attributes: Mapping[str, Any]
    config: Config | None

    @property
    def title(self) -> str:
        """Title of the run."""
        return str(self.attributes.get("title", "Results"))

    @cached_property
    def system(self) -> SemilinearEquation | None:
        """The equation of a field, None for states that are no fields."""
        spec = self.config.system if self.config is not None else None
        return systems.build(self.config) if isinstance(spec, SpdeSystem) else None

    @cached_property
    def interval(self) -> Interval | None:
        """The domain of one field on an interval, None for everything else."""
        one = self.system is not None and len(self.system.names) == 1 and self.system.domain.dimensions == 1
        return self.system.domain.axes[0] if one else None

    @cached_property
    def sample(self) -> np.ndarray:
        """(n, d) states of the ensemble, few enough to work on."""
        return thinned(self.data["ensemble/sample"])

    @property
    def dimension(self) -> int:
        """Number of components of a state."""
        return len(self.data["ensemble/mean"])

    def component(self, index: int) -> str:
        """Name of a component of the state, and how long ago where the states are delays."""
        delay, place = divmod(index, self.dimension // self._delays)
        spec = self.config.system if self.config is not None else None
        name = spec.components[place] if isinstance(spec, DiffusionSystem) else f"component {place + 1}"
        return f"{name}, {delay * self.config.koopman.coordinates.spacing:g} earlier" if delay else name

    @property
    def _delays(self) -> int:
        """Number of states of the system, one after the other, that a state of the ensemble holds."""
        coordinates = self.config.koopman.coordinates if self.config is not None and self.config.koopman else None
        return coordinates.count if coordinates is not None and coordinates.kind == "delay" else 1

    def fields(self, states: np.ndarray) -> np.ndarray:
        """(n, fields * grid points) values on the grid of states (n, d); the latest of delays."""
        latest = states[:, : self.dimension // self._delays]
        return self.system.fields(np.ascontiguousarray(latest.T)).T

    def spatial_means(self, states: np.ndarray) -> dict[str, np.ndarray]:
        """Name of each field -> (n,) its integral over the domain divided by the volume, for states (n, d)."""
        domain, names = self.system.domain, self.system.names
        parts = np.split(self.fields(states), len(names), axis=1)
        return {name: part.sum(axis=1) * (domain.cell / domain.volume) for name, part in zip(names, parts)}

    @cached_property
    def _invariant(self) -> np.ndarray:
        """(n, d) ensemble states, drawn evenly by their weights under the invariant law where it has them."""
        states = self.data["ensemble/sample"]
        if "ensemble/sample_weights" not in self.data:
            return states
        return drawn(states, self.data["ensemble/sample_weights"])

    @cached_property
    def laws(self) -> list[Law]:
        """Particles at each stage of the transport, if there was one, then the ensemble."""
        ensemble = Law("ensemble", "ensemble", canvas.GREY, thinned(self._invariant))
        if "kswgd/particles" not in self.data:
            return [ensemble]
        first, moved, last = (self.data[f"kswgd/{stage}"] for stage in ("initial", "transported", "particles"))
        laws = [Law("initial", "initial", canvas.ORANGE, thinned(first))]
        laws.append(Law("transported", "transported", canvas.BLUE, thinned(moved)))
        if not np.array_equal(moved, last):
            laws.append(Law("particles", "after relaxation", canvas.GREEN, thinned(last)))
        return [*laws, ensemble]

    @property
    def rates(self) -> np.ndarray:
        """(r,) complex rates, the constant mode's first."""
        return self.data["koopman/rates"]

    def eigenfunctions(self, states: np.ndarray, count: int) -> np.ndarray:
        """(n, count) values of the first eigenfunctions, the constant one included, at states (n, d)."""
        spectrum = self._spectrum(count)
        batch = max(1, _BATCH_NUMBERS // max(spectrum.dictionary.size, states.shape[1]))
        parts = [spectrum.eigenfunctions(states[i : i + batch].T) for i in range(0, len(states), batch)]
        return np.concatenate(parts)

    def _spectrum(self, count: int) -> Spectrum:
        stored = {
            name.removeprefix("koopman/"): value for name, value in self.data.items() if name.startswith("koopman/")
        }
        dictionary, coefficients = self._dictionary(), stored["coefficients"][:, :count]
        if isinstance(dictionary, VisitedDictionary):
            dictionary, coefficients = dictionary.combined(coefficients)
        return Spectrum(
            eigenvalues=stored["eigenvalues"][:count],
            rates=stored["rates"][:count],
            rates_error=stored["rates_error"][:count],
            dictionary_error=stored["rates_dictionary_error"][:count],
            residuals=stored["residuals"][:count],
            coefficients=coefficients,
            offsets=stored["offsets"][:count],
            left=coefficients[:, :0],
            left_offsets=stored["offsets"][:0],
            rejected=int(stored["rejected"]),
            floor=float(stored["noise_floor"]),
            coordinates=Coordinates(self._coordinate_map(), stored["coordinate_mean"], stored["coordinate_scale"]),
            dictionary=dictionary,
        )

    def _coordinate_map(self) -> CoordinateMap:
        """The map to raw coordinates, as the run built it."""
        matrix = self.data.get("koopman/coordinate_matrix")
        return coordinate_map(self.config, systems.build(self.config), self.dimension // self._delays, matrix)

    def _dictionary(self) -> Dictionary:
        inside = "koopman/dictionary/"
        parameters = {name.removeprefix(inside): value for name, value in self.data.items() if name.startswith(inside)}
        return restore(self.config.koopman.dictionary.kind, parameters)

    @property
    def has_eigenfunctions(self) -> bool:
        """Whether a mode besides the constant one was kept, and what is needed to evaluate it."""
        if "koopman/rates" not in self.data or len(self.rates) < 2:
            return False
        return self.config is not None


def load(path: Path) -> Run:
    """Read a results file; a configuration of another version of the schema is passed over."""
    data, attributes = storage.read_results(path, skip=("ensemble/snapshots",))
    try:
        config = parse(str(attributes.get("config", "")))
    except ConfigurationError:
        config = None
    return Run(data, attributes, config)


def thinned(states: np.ndarray) -> np.ndarray:
    """Evenly spaced rows of (n, d), few enough to work on: statistics in figures need no more."""
    return subsample(states, min(_MOST_STATES, max(64, _MOST_NUMBERS // states.shape[1])))
