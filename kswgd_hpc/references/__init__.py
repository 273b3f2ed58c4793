"""Independent references for u(x, t) = E_x[f(X_t) exp(-int_0^t c)], one method a file: method.md section 4.

None of them looks at the spectrum for its value: Monte Carlo may use it to be cheaper, never to be right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpi4py import MPI

from kswgd_hpc.checkpoint import UNSAVED, Keeping
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.references import monte_carlo
from kswgd_hpc.references.control import Expansion
from kswgd_hpc.references.result import Reference

if TYPE_CHECKING:
    from kswgd_hpc.config import Config
    from kswgd_hpc.feynman_kac import Case
    from kswgd_hpc.plan import Plan

METHODS = ("monte_carlo",)

__all__ = ["METHODS", "Expansion", "Reference", "reference"]


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

    Parameters
    ----------
    case : what is wanted; `case.method` is a name of `METHODS`, or auto
    config, plan : of the run
    spectrum_control : the spectrum's prediction as a function of state and time, None where there is none
    tolerance : standard error wanted, in the units of u; None for what `case.trajectories` paths give
    tick : told once, when all is done
    keeping : where paths that have been run are saved

    Raises
    ------
    ConfigurationError : a method that the case cannot be solved by, saying why
    """
    if case.method not in ("auto", *METHODS):
        raise ConfigurationError(
            f"validation.feynman_kac.{case.name}.reference: {case.method!r} is not one of auto, {', '.join(METHODS)}"
        )
    began = time.process_time()
    values, errors, details = monte_carlo.estimate(
        comm, case, plan.ensemble.stepper, config.seed, spectrum_control, tolerance, keeping
    )
    tick(1)
    return Reference(values, errors, "Monte Carlo", comm.allreduce(time.process_time() - began), details)
