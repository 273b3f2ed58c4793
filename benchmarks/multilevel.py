"""Cost of multilevel Monte Carlo against its tolerance: python -m benchmarks.multilevel [--halvings 4] [--case well].

Prints, for each tolerance, steps and samples of the levels, processor seconds, and what plain paths with the finest
step would cost for the same error; then the slope of the cost in the tolerance, which is -2 where the method is best.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from mpi4py import MPI

from kswgd_hpc.config import parse
from kswgd_hpc.plan import build
from kswgd_hpc.references import reference

WELL = """
seed: 1
system: {kind: diffusion, variables: [x], potential: (x**2 - 1)**2, temperature: 0.4}
ensemble: {trajectories: 16, initial: {kind: constant, value: [1.0]}, time_step: 0.01, duration: 1, lag_time: 0.5,
           scheme: euler_maruyama}
koopman: {estimator: reversible, dictionary: {kind: gaussian, size: 20}, modes: 4}
validation:
  feynman_kac:
    - {name: killed, observable: x, killing: x**2, initial: {kind: constant, value: [1.0]}, times: [1, 2]}
"""
ALLEN_CAHN = """
seed: 1
system: {kind: spde, equation: allen_cahn, domain: {length: 2.5, points: 64, boundary: neumann},
         discretization: finite_difference, noise: {amplitude: 0.5}}
ensemble: {trajectories: 16, initial: {kind: gaussian}, time_step: 0.005, duration: 1, lag_time: 0.5,
           scheme: exponential_euler}
koopman: {estimator: reversible, coordinates: {kind: modes, count: 3}, dictionary: {kind: gaussian, size: 20}, modes: 4}
validation:
  feynman_kac:
    - {name: quench, observable: mean(u**2), initial: {kind: constant, value: 0.2}, times: [1, 2]}
"""
CASES = {"well": (WELL, 0.02), "allen_cahn": (ALLEN_CAHN, 0.02)}


def study(text: str, first: float, halvings: int, say=print) -> tuple[float, float]:
    """Slope of the logarithm of the cost in that of the tolerance, and plain cost over multilevel cost at the last."""
    config = parse(text)
    plan = build(config)
    case = replace(plan.cases[0], method="multilevel")
    rows = []
    for halving in range(halvings + 1):
        tolerance = first / 2**halving
        began = time.process_time()
        found = reference(MPI.COMM_WORLD, case, config, plan, None, tolerance, lambda _units: None)
        table = found.details
        rows.append((tolerance, float(table["total_cost"]), float(table["plain_cost"])))
        say(
            f"tolerance {tolerance:.5f}: error {found.errors.max():.5f}, steps {table['level_time_step'][0]:g} to "
            f"{table['level_time_step'][-1]:g}, samples {' '.join(map(str, table['level_samples']))}, "
            f"{time.process_time() - began:.2f} s, cost {rows[-1][1]:.3g}, plain {rows[-1][2] / rows[-1][1]:.2f} times"
        )
    logs = np.log(np.array(rows))
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0]), rows[-1][2] / rows[-1][1]


def main() -> None:
    """The cases named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--halvings", type=int, default=4)
    parser.add_argument("--case", choices=list(CASES), action="append")
    options = parser.parse_args()
    for name in options.case or CASES:
        slope, gain = study(*CASES[name], options.halvings)
        print(f"{name}: slope {slope:.2f}, plain Monte Carlo {gain:.2f} times as expensive at the finest tolerance")


if __name__ == "__main__":
    main()
