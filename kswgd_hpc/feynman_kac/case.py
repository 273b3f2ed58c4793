"""Entries of the configuration, made executable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kswgd_hpc import streams
from kswgd_hpc.coordinates import CoordinateMap, LinearMap, Mobility
from kswgd_hpc.errors import ConfigurationError, KswgdError
from kswgd_hpc.feynman_kac.boundary import Boundary
from kswgd_hpc.functions import expression_map
from spde.equations import SemilinearEquation
from spde.errors import SpdeError

_LOOKED_AT = 4  # starts
_MOST_HIDDEN = 0.25  # of the noise of what a set compares


@dataclass(frozen=True)
class Case:
    """What is predicted, at which times and from where: one curve of an entry of the configuration.

    index : of the entry; number : of the curve, over all entries
    observable, killing, source : functions of states (d, batch) -> (batch,); None where there is none
    sampler : initial states, see `systems.initial_states`
    times : after 0; infinity alone for kinds without a time axis
    trajectories : number of initial states
    method : of the reference, see `references.METHODS`, or auto
    tolerance : standard error wanted of the reference, None for what its trajectories give
    formula, rate, driven : texts of observable, killing and source; empty where there is none
    scattered : whether initial states differ from each other
    kind : see `schema.validation.FeynmanKac`
    start : section of the initial law
    boundary : the set that stops paths, None where there is none
        of u less `boundary.lifted`, observable and source are then those that it begins as and is driven by
    begins : whether u at time 0 is asked for as well, which needs no prediction
    """

    index: int
    name: str
    observable: Callable
    killing: Callable | None
    sampler: Callable
    times: tuple[float, ...]
    trajectories: int
    method: str = "auto"
    tolerance: float | None = None
    formula: str = ""
    rate: str = ""
    scattered: bool = True
    kind: str = "expectation"
    number: int = 0
    start: Any = None
    source: Callable | None = None
    driven: str = ""
    boundary: Boundary | None = None
    begins: bool = False

    @property
    def stream(self) -> int:
        """Stream of the random numbers of its initial states; the next is that of paths from there."""
        return streams.FEYNMAN_KAC + 2 * self.number

    @property
    def steady(self) -> bool:
        """Whether there is no end time."""
        return math.isinf(self.times[-1])

    def hidden(self, observed: CoordinateMap, mobility: Mobility, seed: int) -> float:
        """Share of the noise of what its set compares that coordinates do not see, at some of its starts.

        Raises
        ------
        ConfigurationError : so much that errors are no longer told by what is seen
        """
        if self.boundary is None:
            return 0.0
        share = self.boundary.hidden(observed, mobility, self.sampler(seed, self.stream, 0, _LOOKED_AT))
        if share > _MOST_HIDDEN:
            raise ConfigurationError(
                f"validation.feynman_kac.{self.name}: {share:.0%} of the noise of what its set compares is hidden from "
                f"koopman.coordinates, {_MOST_HIDDEN:.0%} may be; let them see more, or compare what they see"
            )
        return share


def formulas_of(cases: list[Case]) -> dict[str, Callable]:
    """Text -> function (d, batch) -> (batch,) of all observables, killing rates, sources and level functions."""
    found = {case.formula: case.observable for case in cases}
    found |= {case.rate: case.killing for case in cases if case.killing is not None}
    found |= {case.driven: case.source for case in cases if case.source is not None}
    return found | {case.boundary.text: case.boundary.level for case in cases if case.boundary is not None}


@dataclass(frozen=True)
class SmoothFormula:
    """Observables on which the generator can act: one, or some that go together.

    value, generator : functions of states (d, n) -> (n,), or (n, size) of some
    rank : 0 of what coarser families of functions keep, 1 where the farther ones are without it, 2 where all are
    """

    text: str
    value: Callable[[np.ndarray], np.ndarray]
    generator: Callable[[np.ndarray], np.ndarray]
    size: int = 1
    rank: int = 0


def smooth_formulas(cases: list[Case], system, mobility) -> list[SmoothFormula]:
    """Those of all observables, killing rates and sources that have derivatives and are no constants.

    What belongs to a set that stops paths is not among them: functions of that span vanish on its boundary.

    Parameters
    ----------
    system : from `spde`; mobility : of the state, see `coordinates`
    """
    found, points = [], probes(system)
    for text, value in formulas_of([case for case in cases if case.boundary is None]).items():
        generator = _generator(text, system, mobility)
        try:
            if generator is None or np.ptp(value(points)) == 0:
                continue
            generator(points)
        except (KswgdError, SpdeError):
            continue  # not defined everywhere, as the logarithm: the system may still never go where it is not
        found.append(SmoothFormula(text, value, generator))
    return found


def probes(system) -> np.ndarray:
    """A few states at which a formula that is no constant differs."""
    shape = system.fields(np.zeros((system.dimension, 1))).shape[0]
    grid = np.linspace(0.3, 1.1, shape)[:, None]
    return system.from_fields(grid * np.array([1.0, 0.37, 1.9]) + np.array([0.0, 0.21, 0.4]))


def _generator(text: str, system, mobility) -> Callable[[np.ndarray], np.ndarray] | None:
    """The generator applied to an observable, None where that has no derivatives."""
    names = None if isinstance(system, SemilinearEquation) else system.variables
    try:
        observed = expression_map([text], system, LinearMap(None, system.dimension, names))
        observed.require_derivatives()
    except (KswgdError, SpdeError):
        return None
    return lambda states: observed.velocity(system.drift(states), states, mobility)[:, 0]
