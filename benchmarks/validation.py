"""How often the truth lies inside the two-sigma error budget of Feynman-Kac predictions, and how large the budget is.

    python -m benchmarks.validation [--seeds 50] [name ...]

Each case is a small configuration, run with many seeds in this process, without files and without a sampled reference:
the truth is a closed form (stochastic heat) or a finite-difference solve on a fine grid (wells). The percentages are
over seeds, rows and times; of each row the largest budget relative to its value is printed too, as two sigma.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla
import threadpoolctl
from mpi4py import MPI

from kswgd_hpc import feynman_kac
from kswgd_hpc.config import parse
from kswgd_hpc.pipeline import sample_of
from kswgd_hpc.plan import build, collector_for, pilot_sample
from spde.exact import LinearLaw
from spde.exact import feynman_kac as closed_form
from spde.riccati import Quadratic

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
    """A configuration, and its rows' truths: function of nothing -> name -> (times,)."""

    text: str
    truths: Callable[[], dict[str, np.ndarray]]


def heat_truths() -> dict[str, np.ndarray]:
    """Closed forms in 2000 sine modes, the tail of which is beyond the 64 of the configuration: so many are taken."""
    k, times = np.arange(1, 65), np.array([0.02, 0.05, 0.1, 0.2])
    law = LinearLaw((np.pi * k) ** 2, 1.0)
    start = np.where(k == 1, np.sqrt(0.5), 0.0)
    # mean over the grid of points of the spectral discretisation: integral of sqrt(2) sin(k pi x)
    config = build(parse(HEAT.replace("SEED", "0")))
    mean = np.array([config.cases[0].observable(unit[:, None])[0] for unit in np.eye(64)])
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


def _chain(temperature: float, n: int) -> tuple[np.ndarray, sp.csr_matrix]:
    """Points and generator of a reversible chain on a fine grid for V = (x^2 - 1)^2: an error of the grid squared."""
    x = np.linspace(-2.6, 2.6, n)
    h, V = x[1] - x[0], (x**2 - 1) ** 2
    between = ((x[1:] + x[:-1]) ** 2 / 4 - 1) ** 2
    up = temperature / h**2 * np.exp((V[:-1] - between) / temperature)
    down = temperature / h**2 * np.exp((V[1:] - between) / temperature)
    G = sp.diags([up, down], [1, -1], shape=(n, n)).tocsr()
    return x, G - sp.diags(np.asarray(G.sum(axis=1)).ravel())


def _solved(G: sp.spmatrix, rate: np.ndarray, f: np.ndarray, at: int, times: list[float]) -> np.ndarray:
    """u(x, t) at a point of the grid by the trapezoidal rule, after four implicit half-steps that smooth f."""
    A, u, found, now = (G - sp.diags(rate)).tocsc(), f.astype(float), [], 0.0
    for time in times:
        steps = 200
        h = (time - now) / steps
        half = sla.splu((sp.eye(len(f)) - h / 2 * A).tocsc())
        for step in range(steps):
            u = half.solve(half.solve(u)) if now == 0 and step < 2 else half.solve(u + h / 2 * (A @ u))
        now = time
        found.append(u[at])
    return np.array(found)


def double_truths() -> dict[str, np.ndarray]:
    """On 1561 points; every jump of an observable lies between two of them."""
    x, G = _chain(0.5, 1560)
    times, right, left = [0.2, 0.5, 1, 2, 5], np.abs(x - 1), np.abs(x + 1)
    rows = {
        "free": (0 * x, x, right),
        "occupied": (0 * x, x > 0, right),
        "quadratic": (x**2, 1 + 0 * x, right),
        "indicator": (1.0 * (x > 0), x**2, left),
    }
    return {name: _between(x, G, rate, f, distance, times) for name, (rate, f, distance) in rows.items()}


def _between(x, G, rate, f, distance, times) -> np.ndarray:
    """Linear between the two points of the grid around a start."""
    a, b = np.argsort(distance)[:2]
    share = distance[a] / (distance[a] + distance[b])
    both = [_solved(G, rate, f, i, times) for i in (a, b)]
    return (1 - share) * both[0] + share * both[1]


def four_truths() -> dict[str, np.ndarray]:
    """Every row is a product, or a sum, of what one variable does: the potential is separable."""
    x, G = _chain(0.7, 1560)
    times, right, left = [0.2, 0.5, 1, 2, 4], np.abs(x - 1), np.abs(x + 1)
    free, one = 0 * x, 1 + 0 * x

    def u(rate, f, distance):
        return _between(x, G, rate, f, distance, times)

    return {
        "free": u(free, x, right) * u(free, x, left),
        "occupied": u(free, x > 0, right) * u(free, x > 0, left),
        "quadratic": u(x**2, one, right),
        "indicator": u(1.0 * (x > 0), one, right) * u(free, x**2, left),
    }


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
                print(
                    f"  {row:<20} {share:5.1f} %   median distance {median:.2f} sigma   "
                    f"budget {np.median(size):.3g} % of the value, at most {size.max():.3g} %",
                    flush=True,
                )


if __name__ == "__main__":
    main()
