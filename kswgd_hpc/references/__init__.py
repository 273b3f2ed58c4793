"""Independent references for what `feynman_kac` predicts, one method a file: method.md section 4.

None of them looks at the spectrum for its value: Monte Carlo may use it to be cheaper, never to be right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

from kswgd_hpc import streams, systems
from kswgd_hpc.checkpoint import UNSAVED, Keeping
from kswgd_hpc.errors import ConfigurationError, KswgdError
from kswgd_hpc.parallel import from_root
from kswgd_hpc.references import closed_form, monte_carlo, multilevel, on_grid, splitting, unending
from kswgd_hpc.references.account import account
from kswgd_hpc.references.charts import NotSolvable
from kswgd_hpc.references.closed_form import NotClosed
from kswgd_hpc.references.control import Expansion
from kswgd_hpc.references.result import Reference
from spde.stepping import Noise

if TYPE_CHECKING:
    from kswgd_hpc.config import Config
    from kswgd_hpc.feynman_kac import Case
    from kswgd_hpc.plan import Plan

METHODS = ("closed_form", "deterministic", "monte_carlo", "multilevel", "splitting")

__all__ = ["METHODS", "Expansion", "Reference", "account", "principal_eigenvalue", "reference"]


def reference(
    comm: MPI.Comm,
    case: Case,
    config: Config,
    plan: Plan,
    spectrum_control: Expansion | None,
    tolerance: float | None,
    tick: Callable[[int], None],
    keeping: Keeping = UNSAVED,
) -> Reference:
    """The reference that a case asks for; of `auto` the best that there is for it. Collective.

    That is a closed form, a deterministic solve in at most three dimensions, particles that branch where the weights
    exp(-int c) of paths degenerate, as a few paths tell, else Monte Carlo with what makes it cheaper.

    Parameters
    ----------
    case : what is wanted; `case.method` is a name of `METHODS`, or auto
    config, plan : of the run
    spectrum_control : the spectrum's prediction as a function of state and time, None where there is none
    tolerance : error wanted, in the units of u; None for what `case.trajectories` paths give
    tick : told once, when all is done
    keeping : where paths that have been run are saved

    Raises
    ------
    ConfigurationError : a method that the case cannot be solved by, saying why
    """
    began = time.process_time()

    def exactly() -> tuple:
        found = from_root(comm, lambda: closed_form.estimate(case, plan.system))
        return *found, "closed form", {}

    def on_a_grid() -> tuple:
        return *on_grid.estimate(comm, case, config, plan, tolerance)[:2], "deterministic", {}

    def sampled() -> tuple:
        if case.boundary is not None or case.steady:
            found = _unending(comm, case, config, plan, tolerance)
            return *found[:2], "Monte Carlo", found[2]
        if case.method == "auto" and monte_carlo.degenerate(comm, case, plan.ensemble.stepper, config.seed):
            return branching()
        found = monte_carlo.estimate(
            comm, case, plan.ensemble.stepper, config.seed, spectrum_control, tolerance, keeping
        )
        if case.method == "auto" and case.source is None and found[2]["weight_efficiency"].min() < splitting.FEW:
            return branching()
        return *found[:2], "Monte Carlo", found[2]

    def by_levels() -> tuple:
        found = multilevel.estimate(comm, case, config, plan.system, tolerance)
        return *found[:2], "multilevel Monte Carlo", found[2]

    def branching() -> tuple:
        found = splitting.estimate(comm, case, plan.ensemble.stepper, config.seed, tolerance)
        return *found[:2], "splitting", found[2]

    ways = dict(zip(METHODS, (exactly, on_a_grid, sampled, by_levels, branching), strict=True))
    values, errors, method, details = _first(case, ways, ("closed_form", "deterministic", "monte_carlo"))
    tick(1)
    return Reference(values, errors, method, comm.allreduce(time.process_time() - began), details)


def principal_eigenvalue(
    comm: MPI.Comm, case: Case, config: Config, plan: Plan, tolerance: float | None, tick: Callable[[int], None]
) -> Reference:
    """Smallest eigenvalue of L + c, c = `case.killing`: one value. Collective.

    In closed form, deterministic, or from the decay of a population of branching particles, whichever is first;
    parameters as of `reference`. Particles run to the last of the case's times.

    Raises
    ------
    ConfigurationError : a method that has no eigenvalues, or that the case cannot be solved by
    """
    began = time.process_time()

    def exactly() -> tuple:
        value = from_root(comm, lambda: closed_form.principal_eigenvalue(case.killing, plan.system))
        return np.array([value]), _rounding(np.array([value])), "closed form", {}

    def on_a_grid() -> tuple:
        values, errors, details = on_grid.principal_eigenvalue(comm, case, config, plan, tolerance)
        return values, errors, "deterministic", details

    def branching() -> tuple:
        found = splitting.principal_eigenvalue(comm, case, plan.ensemble.stepper, config.seed, tolerance)
        return *found[:2], "splitting", found[2]

    ways = {"closed_form": exactly, "deterministic": on_a_grid, "splitting": branching}
    values, errors, method, details = _first(case, ways, tuple(ways))
    tick(1)
    return Reference(values, errors, method, comm.allreduce(time.process_time() - began), details)


def _unending(comm: MPI.Comm, case: Case, config: Config, plan: Plan, tolerance: float | None) -> tuple:
    """Monte Carlo of stopped paths, or over all times. Collective."""
    stepper, spec = plan.ensemble.stepper, config.ensemble
    if case.boundary is not None:
        return unending.stopped(comm, case, stepper, config.seed, tolerance)
    start = systems.initial_states(plan.system, plan.system.dimension, spec.initial, "ensemble.initial")

    def stationary(seed: int, stream: int, first: int, stop: int):
        noise = Noise(seed, streams.reference(case.number, 6), first)
        return stepper.advance(start(seed, stream, first, stop), noise, 0, round(spec.burn_in / stepper.time_step))

    return unending.resolvent(comm, case, stepper, config.seed, tolerance, stationary, spec.burn_in + spec.duration)


def _first(case: Case, ways: dict[str, Callable[[], tuple]], order: tuple[str, ...]) -> tuple:
    """What the way that a case names finds, or of `auto` the first in the order that can be gone."""
    key = f"validation.feynman_kac.{case.name}.reference"
    if case.method != "auto":
        if case.method not in ways:
            raise ConfigurationError(f"{key}: {case.method!r} is not one of auto, {', '.join(ways)}")
        try:
            return ways[case.method]()
        except (NotClosed, NotSolvable) as error:
            raise ConfigurationError(f"{key}: {case.method} cannot be had: {error}") from error
    for name in order:
        try:
            return ways[name]()
        except (NotClosed, NotSolvable):
            continue
    raise KswgdError(f"{key}: no method")


def _rounding(values: np.ndarray) -> np.ndarray:
    return 1e-9 * np.abs(values).max() * np.ones(len(values))
