"""What the deterministic reference needs of a run: the box, its walls, and where paths start."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc import streams, systems
from kswgd_hpc.references.charts import Chart, NotSolvable, chart
from kswgd_hpc.references.deterministic import Problem, principal_eigenvalue_of, solve, start_nodes
from spde.diffusions import UnderdampedLangevin
from spde.manifolds import ManifoldDiffusion
from spde.stepping import Noise

if TYPE_CHECKING:
    from kswgd_hpc.config import Config
    from kswgd_hpc.feynman_kac import Case
    from kswgd_hpc.plan import Plan

_PATHS = 256
_LOOKS = 24
_STEPS = 20_000


def check(system: Any) -> None:
    """That a system can be solved on a grid, as far as that is known before any path. Raises NotSolvable."""
    if system.dimension > 3:
        raise NotSolvable(f"{system.dimension} dimensions; a grid is for at most 3")
    chart(system, None, 1.0, np.zeros((system.dimension, 1)))


def estimate(comm: MPI.Comm, case: Case, config: Config, plan: Plan, tolerance: float | None) -> tuple:
    """(times,) values, bounds on their errors, details. Collective. Raises NotSolvable."""
    check(plan.system)
    curved = isinstance(plan.system, ManifoldDiffusion)
    sampler = lambda *where: case.sampler(config.seed, streams.FEYNMAN_KAC + 2 * case.number, *where[2:])  # noqa: E731
    starts = start_nodes(case.start, sampler, plan.system.dimension, curved, case.trajectories)
    box = _box(case, config, plan, starts.nodes)
    source = case.source if case.boundary is None else None
    problem = Problem(box, case.observable, case.killing, starts, case.times, source, case.boundary)
    return solve(comm, problem, tolerance)


def principal_eigenvalue(comm: MPI.Comm, case: Case, config: Config, plan: Plan, tolerance: float | None) -> tuple:
    """(1,) smallest eigenvalue of L + c, a bound on its error, details. Collective. Raises NotSolvable."""
    check(plan.system)
    nodes = case.sampler(config.seed, streams.reference(case.number, 1), 0, 1)
    return principal_eigenvalue_of(comm, _box(case, config, plan, nodes), case.killing, tolerance)


def _box(case: Case, config: Config, plan: Plan, nodes: np.ndarray) -> Chart:
    system, potential = plan.system, None
    if isinstance(system, ManifoldDiffusion):
        return chart(system, None, 1.0, nodes)
    spec = config.system
    if spec.kind == "diffusion" and spec.potential is not None and not isinstance(system, UnderdampedLangevin):
        potential = systems.observable(system, str(spec.potential), "system.potential")
        return chart(system, potential, spec.temperature, nodes)
    seen = _visited(case, config, plan)
    return chart(system, None, 1.0, np.concatenate([nodes, seen], axis=1))


def _visited(case: Case, config: Config, plan: Plan) -> np.ndarray:
    """(d, n) states on paths from the case's starts and from those of the ensemble."""
    system, stepper, seen = plan.system, plan.ensemble.stepper, []
    ensemble_time = config.ensemble.burn_in + min(config.ensemble.duration, 10 * case.times[-1])
    longest = ensemble_time if case.steady else max(case.times[-1], ensemble_time)
    steps = min(round(longest / stepper.time_step), _STEPS)
    ensemble: Callable = systems.initial_states(system, system.dimension, config.ensemble.initial, "ensemble.initial")
    for first, sampler in ((0, case.sampler), (_PATHS, ensemble)):
        states = sampler(config.seed, streams.reference(case.number, 1), first, first + _PATHS)
        noise, step = Noise(config.seed, streams.reference(case.number, 0), first), 0
        for look in range(1, _LOOKS + 1):
            target = steps * look // _LOOKS
            states = stepper.advance(states, noise, step, target - step)
            step = target
            seen.append(states)
    return np.concatenate(seen, axis=1)
