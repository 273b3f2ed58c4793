"""How often the truth lies inside the two-sigma error budget of Feynman-Kac predictions, and how large the budget is.

    python -m benchmarks.validation [--seeds 50] [name ...]

Each case is a small configuration, run with many seeds in this process, without files and without a sampled reference:
the truth is a closed form (stochastic heat) or the spectrum of a chain on fine grids (wells). The percentages are
over seeds, rows and times; of each row the budget is printed too, as two sigma, relative to its value and, since some
values are nearly zero, to the largest value of the row.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import threadpoolctl
from mpi4py import MPI

from kswgd_hpc import feynman_kac
from kswgd_hpc.config import parse
from kswgd_hpc.pipeline import sample_of
from kswgd_hpc.plan import build, collector_for, pilot_sample
from spde.exact import LinearLaw
from spde.exact import feynman_kac as closed_form
from spde.riccati import Quadratic

Function = Callable[[np.ndarray], np.ndarray]

HEAT = """
seed: SEED
system:
  kind: spde
  equation: heat
  parameters: {nu: 1.0}
  domain: {length: 1.0, points: 64, boundary: dirichlet}
  discretization: spectral
  noise: {amplitude: 1.0}
ensemble: {trajectories: 64, initial: {kind: constant, value: 0.0}, time_step: 0.01, burn_in: 0.5, duration: 5,
           lag_time: 0.02}
koopman: {coordinates: {kind: modes, count: 3}, dictionary: {kind: polynomial, degree: 4}, modes: 6}
validation:
  feynman_kac:
    - {name: linear, observable: mean(u), initial: START, times: TIMES}
    - {name: quadratic, observable: mean(u**2), initial: START, times: TIMES}
    - {name: exponential, observable: exp(mean(u)), initial: START, times: TIMES}
    - {name: linear_killed, observable: mean(u), killing: 4*mean(u**2), initial: START, times: TIMES}
    - {name: quadratic_killed, observable: mean(u**2), killing: 4*mean(u**2), initial: START, times: TIMES}
    - {name: exponential_killed, observable: exp(mean(u)), killing: 4*mean(u**2), initial: START, times: TIMES}
""".replace("START", "{kind: expression, value: sin(pi*x)}").replace("TIMES", "[0.02, 0.05, 0.1, 0.2]")
DOUBLE = """
seed: SEED
system: {kind: diffusion, variables: [x], potential: (x**2 - 1)**2, temperature: 0.5}
ensemble: {trajectories: 64, initial: {kind: uniform, low: -1.5, high: 1.5}, time_step: 0.01, burn_in: 4,
           duration: 20, lag_time: 0.2}
koopman: {dictionary: {kind: gaussian, size: 40}, modes: 6}
validation:
  feynman_kac:
    - {name: free, observable: x, initial: {kind: constant, value: 1.0}, times: TIMES}
    - {name: occupied, observable: x > 0, initial: {kind: constant, value: 1.0}, times: TIMES}
    - {name: quadratic, observable: 1, killing: x**2, initial: {kind: constant, value: 1.0}, times: TIMES}
    - {name: indicator, observable: x**2, killing: x > 0, initial: {kind: constant, value: -1.0}, times: TIMES}
""".replace("TIMES", "[0.2, 0.5, 1, 2, 5]")
FOUR = """
seed: SEED
system: {kind: diffusion, variables: [x, y], potential: (x**2 - 1)**2 + (y**2 - 1)**2, temperature: 0.7}
ensemble: {trajectories: 64, initial: {kind: uniform, low: -1.5, high: 1.5}, time_step: 0.01, burn_in: 4,
           duration: 40, lag_time: 0.2}
koopman: {dictionary: {kind: gaussian, size: 150}, modes: 8}
validation:
  feynman_kac:
    - {name: free, observable: x*y, initial: START, times: TIMES}
    - {name: occupied, observable: (x > 0)*(y > 0), initial: START, times: TIMES}
    - {name: quadratic, observable: 1, killing: x**2, initial: START, times: TIMES}
    - {name: indicator, observable: y**2, killing: x > 0, initial: START, times: TIMES}
""".replace("START", "{kind: constant, value: [1.0, -1.0]}").replace("TIMES", "[0.2, 0.5, 1, 2, 4]")


@dataclass(frozen=True)
class Case:
    """A configuration, and what gives the truth (times,) of each of its rows."""

    text: str
    truths: Callable[[], dict[str, np.ndarray]]


def heat_truths() -> dict[str, np.ndarray]:
    """Closed forms in the 64 modes of the configuration."""
    k, times = np.arange(1, 65), np.array([0.02, 0.05, 0.1, 0.2])
    law = LinearLaw((np.pi * k) ** 2, 1.0)
    start = np.where(k == 1, np.sqrt(0.5), 0.0)
    # the mean over space is linear in the modes: that of each
    plan = build(parse(HEAT.replace("SEED", "0")))
    mean = np.array([plan.cases[0].observable(unit[:, None])[0] for unit in np.eye(64)])
    linear, square, nothing = Quadratic(0.0, mean, 0.0), Quadratic(0.0, 0.0, 1.0), Quadratic()
    found: dict[str, list] = {}
    for suffix, killing in (("", nothing), ("_killed", Quadratic(0.0, 0.0, 4.0))):
        for time in times:
            kernel = closed_form(law, killing, time)
            values = {
                "linear": kernel.polynomial(start, linear),
                "quadratic": kernel.polynomial(start, square),
                "exponential": kernel.exponential(start, linear),
            }
            for name, value in values.items():
                found.setdefault(name + suffix, []).append(float(value))
    return {name: np.array(values) for name, values in found.items()}


def _chain(temperature: float, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points, generator (diagonal, and above it once symmetric) and root of the invariant law of a chain on n points.

    It is reversible with respect to V = (x^2 - 1)^2, with an error of the spacing squared. With n a multiple of 26 all
    of 0, 1 and -1 are half-way between two points.
    """
    h = 5.2 / n
    x = -2.6 + (np.arange(n) + 0.5) * h
    V, between = (x**2 - 1) ** 2, ((x[1:] + x[:-1]) ** 2 / 4 - 1) ** 2
    up = temperature / h**2 * np.exp((V[:-1] - between) / temperature)
    down = temperature / h**2 * np.exp((V[1:] - between) / temperature)
    return x, -np.append(up, 0.0) - np.append(0.0, down), np.sqrt(up * down), np.exp(-V / (2 * temperature))


def _solved(temperature: float, rate: Function, f: Function, start: float, times: list[float]) -> np.ndarray:
    """u(start, t), exact in time, extrapolated from two grids."""
    found = []
    for n in (520, 1040):
        x, diagonal, above, root = _chain(temperature, n)
        values, vectors = scipy.linalg.eigh_tridiagonal(diagonal - rate(x), above)
        ends = np.argsort(np.abs(x - start))[:2]
        amplitude = (vectors.T @ (root * f(x))) * (vectors[ends] / root[ends, None]).mean(axis=0)
        found.append(np.exp(np.outer(times, values)) @ amplitude)
    return found[1] + (found[1] - found[0]) / 3


def double_truths() -> dict[str, np.ndarray]:
    """On fine grids."""
    rows = {
        "free": (zero, lambda x: x, 1.0),
        "occupied": (zero, positive, 1.0),
        "quadratic": (np.square, one, 1.0),
        "indicator": (positive, np.square, -1.0),
    }
    return {name: _solved(0.5, *row, [0.2, 0.5, 1, 2, 5]) for name, row in rows.items()}


def four_truths() -> dict[str, np.ndarray]:
    """Every row is a product of what one variable does: the potential is separable."""

    def u(rate: Function, f: Function, start: float) -> np.ndarray:
        return _solved(0.7, rate, f, start, [0.2, 0.5, 1, 2, 4])

    return {
        "free": u(zero, lambda x: x, 1.0) * u(zero, lambda x: x, -1.0),
        "occupied": u(zero, positive, 1.0) * u(zero, positive, -1.0),
        "quadratic": u(np.square, one, 1.0),
        "indicator": u(positive, one, 1.0) * u(zero, np.square, -1.0),
    }


def zero(x: np.ndarray) -> np.ndarray:
    """No killing."""
    return 0.0 * x


def one(x: np.ndarray) -> np.ndarray:
    """The constant."""
    return 1.0 + 0.0 * x


def positive(x: np.ndarray) -> np.ndarray:
    """Indicator of the right."""
    return 1.0 * (x > 0)


CASES = {
    "stochastic heat, 64 modes": Case(HEAT, heat_truths),
    "double well": Case(DOUBLE, double_truths),
    "four wells": Case(FOUR, four_truths),
}


def predictions(text: str) -> dict[str, feynman_kac.Prediction]:
    """Of the rows of a configuration, in this process alone."""
    config, comm = parse(text), MPI.COMM_SELF
    plan = build(config)
    pilot = pilot_sample(comm, config, plan, lambda _units: None)
    collector, dictionary = collector_for(config, plan, pilot)
    records = [collector.collect(block, plan.ensemble.windows(block)) for block in plan.ensemble.blocks]
    sample = sample_of(comm, config, plan, collector, dictionary, records)
    sample = replace(sample, pairs=not plan.by_generator)
    sample = feynman_kac.settled(sample, getattr(config.koopman.dictionary, "bandwidth", None) == "auto")
    drift = plan.system.drift if plan.by_generator else None
    features = feynman_kac.Features(sample, None, plan.smooth, drift, plan.mobility)
    lag = config.ensemble.lag_time
    return feynman_kac.predict(plan.cases, features, lag, config.koopman.regularization, config.seed)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="coverage of the error budgets of Feynman-Kac predictions")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("names", nargs="*", help="cases whose name contains one of these")
    wanted = parser.parse_args()
    with threadpoolctl.threadpool_limits(1):
        for name, case in CASES.items():
            if wanted.names and not any(part in name for part in wanted.names):
                continue
            truths = case.truths()
            scores: dict[str, list] = {row: [] for row in truths}
            sizes: dict[str, list] = {row: [] for row in truths}
            for seed in range(wanted.seeds):
                for row, found in predictions(case.text.replace("SEED", str(seed))).items():
                    scores[row].append(np.abs(found.values - truths[row]) / found.budget.total)
                    sizes[row].append(2 * found.budget.total / np.abs(truths[row]))
            inside = np.concatenate([np.ravel(values) for values in scores.values()]) < 2
            print(f"{name}: truth inside in {100 * inside.mean():.1f} %", flush=True)
            for row in truths:
                share, median = 100 * np.mean(np.array(scores[row]) < 2), np.median(scores[row])
                size = 100 * np.array(sizes[row])
                scaled = size * np.abs(truths[row]) / np.abs(truths[row]).max()
                print(
                    f"  {row:<20} {share:5.1f} %   median distance {median:.2f} sigma   "
                    f"budget {np.median(size):.3g} % of the value, at most {size.max():.3g} %, above 3 % in "
                    f"{100 * np.mean(size > 3):.3g} %; at most {scaled.max():.3g} % of the row's largest",
                    flush=True,
                )


if __name__ == "__main__":
    main()
