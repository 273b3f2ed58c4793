"""How often the truth lies within two printed standard errors: python -m benchmarks.coverage [--seeds 100] [name ...].

Each case is a small configuration whose rates are known, run with many seeds in this process, without files. Nominally
95 % of the rates lie within two of their sampling errors; the percentages themselves are known to about 2 % for a
hundred seeds. Degenerate rates come out in ascending order, which pushes them apart: their mean is compared.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
import threadpoolctl
from mpi4py import MPI

from kswgd_hpc.analysis import committors
from kswgd_hpc.config import parse
from kswgd_hpc.galerkin import assemble
from kswgd_hpc.pipeline import sample_of
from kswgd_hpc.plan import build, collector_for, estimator_for, matrices_for, pilot_sample, weighed_by
from kswgd_hpc.reweighting import invariant_density
from kswgd_hpc.spectrum import solve

WELLS = """
seed: SEED
system: {kind: diffusion, variables: [x, y], potential: (x**2 - 1)**2 + (y**2 - 1)**2, temperature: 1.0}
ensemble: {trajectories: 128, initial: {kind: uniform, low: -1.5, high: 1.5}, time_step: 0.005, burn_in: 3,
           duration: 40, lag_time: 0.1}
koopman: {estimator: reversible, dictionary: {kind: gaussian, size: 80}, modes: 8}
"""
SWARM = """
seed: SEED
system: {kind: diffusion, variables: [x, y], potential: (x**2 - 1)**2 + (y**2 - 1)**2, temperature: 1.0}
ensemble: {trajectories: 4096, initial: {kind: uniform, low: -1.6, high: 1.6}, time_step: 0.005, duration: 1,
           lag_time: 0.1}
koopman: {estimator: reversible, reweight: pairs, dictionary: {kind: gaussian, size: 80}, modes: 8}
"""
OU = """
seed: SEED
system: {kind: diffusion, variables: [x], potential: x**2/2, temperature: 1.0}
ensemble: {trajectories: 64, initial: {kind: gaussian}, time_step: 0.05, burn_in: 3, duration: 100, lag_time: 0.5}
koopman: {estimator: edmd, dictionary: {kind: polynomial, degree: 3}, modes: 4}
"""
SPIRAL = """
seed: SEED
system: {kind: diffusion, variables: [x, y], drift: [-x - 2*y, 2*x - y], diffusion: 1.4142135623730951}
ensemble: {trajectories: 64, initial: {kind: gaussian}, time_step: 0.01, burn_in: 3, duration: 60, lag_time: 0.2}
koopman: {estimator: edmd, dictionary: {kind: polynomial, degree: 2}, modes: 6}
"""
HEAT = """
seed: SEED
system:
  kind: spde
  equation: heat
  parameters: {nu: 1.0, damping: 1.5}
  domain: {length: 6.283185307179586, points: 16, boundary: neumann}
  discretization: spectral
  noise: {amplitude: 1.0}
ensemble: {trajectories: 128, initial: {kind: constant, value: 0.0}, time_step: 0.05, burn_in: 4, duration: 100,
           lag_time: 0.15}
koopman:
  estimator: reversible
  coordinates: {kind: modes, count: 3}
  dictionary: {kind: polynomial, degree: 3}
  modes: 6
"""
DOUBLE = """
seed: SEED
system: {kind: diffusion, variables: [x], potential: (x**2 - 1)**2, temperature: 0.5}
ensemble: {trajectories: 128, initial: {kind: uniform, low: -1.5, high: 1.5}, time_step: 0.01, burn_in: 10,
           duration: 40, lag_time: 0.4, stride: 0.1}
koopman: {estimator: reversible, dictionary: {kind: gaussian, size: 30}, modes: 4, sets: {A: x < -0.8, B: x > 0.8}}
"""


@dataclass(frozen=True)
class Case:
    """A configuration and what is known of it: rates in order, or transitions by name."""

    text: str
    known: tuple
    transitions: bool = False


_WELLS = (0.749, 0.749, 1.497, 6.00, 6.00)
CASES = {
    "four wells, reversible": Case(WELLS, _WELLS),
    "four wells, dirichlet": Case(WELLS.replace("reversible", "dirichlet"), _WELLS),
    "four wells, a swarm weighed by its pairs": Case(SWARM, _WELLS),
    "four wells, a swarm weighed by the generator": Case(SWARM.replace("pairs", "generator"), _WELLS),
    "Ornstein-Uhlenbeck, edmd": Case(OU, (1.0, 2.0, 3.0)),
    "rotating Ornstein-Uhlenbeck, edmd": Case(SPIRAL, (1 - 2j, 1 + 2j, 2, 2 - 4j, 2 + 4j)),
    "stochastic heat, reversible": Case(HEAT, (1.5, 1.75, 2.5, 3.0, 3.25)),
    "double well, transitions between sets": Case(
        DOUBLE, (("rate_ab", 0.097818), ("rate_ba", 0.097818), ("passage_ab", 10.2638), ("passage_ba", 10.2638)), True
    ),
}


def deviations(case: Case, seed: int) -> np.ndarray:
    """(k,) distances from the known values in printed standard errors."""
    config = parse(case.text.replace("SEED", str(seed)))
    plan, comm = build(config), MPI.COMM_SELF
    pilot = pilot_sample(comm, config, plan, lambda _units: None)
    collector, dictionary = collector_for(config, plan, pilot)
    records = [collector.collect(block, plan.ensemble.windows(block)) for block in plan.ensemble.blocks]
    sample = sample_of(comm, config, plan, collector, dictionary, records)
    if source := weighed_by(config):
        sample = replace(sample, weight=invariant_density(sample, source, config.koopman.regularization))
    sums, estimator = assemble(sample, matrices_for(config, plan)), estimator_for(config)
    found, space = solve(sums, estimator, config.ensemble.lag_time, config.koopman.modes, config.koopman.regularization)
    if case.transitions:
        moved = committors(space, estimator, plan.ensemble.pairing).transitions
        return np.array([(getattr(moved, name) - value) / moved.errors[name] for name, value in case.known])
    return _of_rates(found.rates[1:], found.rates_error[1:], np.array(case.known))


def _of_rates(rates: np.ndarray, errors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Distances in standard errors; degenerate rates by their mean, with the mean of their errors."""
    scores = []
    for value in np.unique(known):
        if np.iscomplexobj(known):
            mine = [int(np.argmin(np.abs(rates - value)))]
        else:
            mine = [k for k, other in enumerate(known) if other == value and k < len(rates)]
        # errors of a degenerate pair are independent of each other, or nearly so
        error = np.sqrt((errors[mine] ** 2).sum()) / max(len(mine), 1)
        scores.append(np.abs((rates[mine] - value).mean()) / error if mine else np.inf)
    return np.array(scores)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="coverage of the printed sampling errors")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("names", nargs="*", help="cases whose name contains one of these")
    wanted = parser.parse_args()
    with threadpoolctl.threadpool_limits(1):
        for name, case in CASES.items():
            if wanted.names and not any(part in name for part in wanted.names):
                continue
            scores = np.abs([deviations(case, seed) for seed in range(wanted.seeds)])
            each = " ".join(f"{100 * share:4.0f}" for share in (scores < 2).mean(axis=0))
            print(f"{name:<48} {100 * (scores < 2).mean():5.1f} %   by value: {each}", flush=True)


if __name__ == "__main__":
    main()
