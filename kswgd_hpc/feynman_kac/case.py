"""Entries of the configuration, made executable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kswgd_hpc import streams
from kswgd_hpc.coordinates import LinearMap
from kswgd_hpc.errors import KswgdError
from kswgd_hpc.functions import expression_map
from spde.equations import SemilinearEquation
from spde.errors import SpdeError


@dataclass(frozen=True)
class Case:
    """What is predicted, at which times and from where.

    observable, killing : functions of states (d, batch) -> (batch,); killing None where there is none
    sampler : initial states, see `systems.initial_states`
    trajectories : number of them
    method : of the reference, see `references.METHODS`, or auto
    tolerance : standard error wanted of the reference, None for what its trajectories give
    formula, rate : texts of observable and killing; rate empty where there is none
    scattered : whether initial states differ from each other
    kind : expectation, or principal_eigenvalue of L + c, which is one number for all times
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

    @property
    def stream(self) -> int:
        """Stream of the random numbers of its initial states; the next is that of paths from there."""
        return streams.FEYNMAN_KAC + 2 * self.index


def formulas_of(cases: list[Case]) -> dict[str, Callable]:
    """Text -> function (d, batch) -> (batch,) of all observables and killing rates."""
    found = {case.formula: case.observable for case in cases}
    return found | {case.rate: case.killing for case in cases if case.killing is not None}


@dataclass(frozen=True)
class SmoothFormula:
    """An observable on which the generator can act.

    value, generator : functions of states (d, n) -> (n,)
    """

    text: str
    value: Callable[[np.ndarray], np.ndarray]
    generator: Callable[[np.ndarray], np.ndarray]


def smooth_formulas(cases: list[Case], system, mobility) -> list[SmoothFormula]:
    """Those of all observables and killing rates that have derivatives and are no constants.

    Parameters
    ----------
    system : from `spde`; mobility : of the state, see `coordinates`
    """
    found, points = [], _probes(system)
    for text, value in formulas_of(cases).items():
        generator = _generator(text, system, mobility)
        try:
            if generator is None or np.ptp(value(points)) == 0:
                continue
            generator(points)
        except (KswgdError, SpdeError):
            continue  # not defined everywhere, as the logarithm: the system may still never go where it is not
        found.append(SmoothFormula(text, value, generator))
    return found


def _probes(system) -> np.ndarray:
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
