"""Predictions of all rows together: one pass over the records for the operators, one for their errors."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from kswgd_hpc.ensemble import block_count
from kswgd_hpc.feynman_kac.budget import Budget, Influence, Sampled, coarse_error, sampled
from kswgd_hpc.feynman_kac.case import Case
from kswgd_hpc.feynman_kac.features import Features, Moments, moments
from kswgd_hpc.feynman_kac.levels import Levels
from kswgd_hpc.parallel import cut, local, sum_blocks
from kswgd_hpc.references import Expansion

_STARTS = 16384


@dataclass(frozen=True)
class Prediction:
    """u at a case's times, averaged over its initial law.

    values : (times,); budget : what they may be wrong by; rates : (r,) complex, of L + c, ascending
    control : u as a function of state and time, for references that can use one
    rejected : eigenvalues that were left out; cost : processor seconds of all ranks, once the operators are there
    """

    values: np.ndarray
    budget: Budget
    rates: np.ndarray
    control: Expansion
    rejected: int
    cost: float


@dataclass(frozen=True)
class Starts:
    """The initial law of a case, as the features see it.

    features : (P,) mean of z; spread : (times,) standard error of the mean of u(X_0, t)
    observable : mean of f; layer : (times,) mean of what the operator leaves over of u(., t) there
    """

    features: np.ndarray
    spread: np.ndarray
    observable: float
    layer: np.ndarray


@dataclass
class _Row:
    """What is known of a case on the way."""

    case: Case
    levels: Levels
    components: np.ndarray
    starts: Starts
    values: np.ndarray
    seconds: float = 0.0
    influence: Influence | None = None


def predict(
    cases: list[Case], features: Features, lag_time: float, regularization: float, seed: int
) -> dict[str, Prediction]:
    """Predictions of all cases by name. Collective.

    Parameters
    ----------
    features : in whose span they are made
    lag_time : of the pairs; not used where the operator is the generator
    regularization : see `propagator.orthonormal`
    seed : of the run
    """
    if not cases:
        return {}
    comm = features.sample.comm
    killings = list(dict.fromkeys(case.rate for case in cases if case.killing is not None))
    means = moments(features, list(dict.fromkeys(case.formula for case in cases)), killings)
    lag = 0.0 if features.by_generator else lag_time
    solved: dict[str, Levels] = {}
    rows = []
    for case in cases:
        began = time.process_time()
        if case.rate not in solved:
            levels = Levels.of(features, means, case.rate, lag, regularization) if comm.rank == 0 else None
            solved[case.rate] = comm.bcast(levels)
        rows.append(_row(case, features, means, solved[case.rate], seed))
        rows[-1].seconds = time.process_time() - began
    errors = sampled(features, [row.influence for row in rows], means.count)
    found = {}
    for row, error in zip(rows, errors, strict=True):
        began = time.process_time()
        budget, whole = _budget(row, means, error), row.levels.whole
        seconds = comm.allreduce(row.seconds + time.process_time() - began)
        found[row.case.name] = Prediction(
            row.values, budget, whole.rates, _control(row, features, means), whole.rejected, seconds
        )
    return found


def _row(case: Case, features: Features, means: Moments, levels: Levels, seed: int) -> _Row:
    times, propagator = np.array(case.times), levels.whole
    components = propagator.project(means.projected[case.formula])
    forward = propagator.forward(components, times)
    image = propagator.forward(components, times, derivative=True)
    starts = _starts(case, features, forward, image, seed)
    influence = Influence.of(case, levels, means, components, starts.features)
    return _Row(case, levels, components, starts, starts.features @ forward, influence=influence)


def _starts(case: Case, features: Features, forward: np.ndarray, image: np.ndarray, seed: int) -> Starts:
    """Averages over the initial law. Collective."""
    comm, count = features.sample.comm, max(case.trajectories, _STARTS) if case.scattered else 1
    blocks, times = cut(count, block_count(count)), len(case.times)
    parts = []
    for part in local(blocks, comm):
        states = case.sampler(seed, case.stream, part.start, part.stop)
        z = features.of_states(states)
        u = z @ forward
        layer = np.zeros(times)
        if features.by_generator:
            rate = 0.0 if case.killing is None else case.killing(states)[:, None]
            layer = (features.generator_at(states) @ forward - rate * u - z @ image).sum(axis=0)
        parts.append(
            np.concatenate([z.sum(axis=0), u.sum(axis=0), (u**2).sum(axis=0), layer, [case.observable(states).sum()]])
        )
    sums = sum_blocks(comm, parts, (features.size + 3 * times + 1,), len(blocks)) / count
    z, u, square, layer, observable = np.split(sums, features.size + times * np.arange(4))
    spread = np.sqrt(np.maximum(square - u**2, 0.0) / max(count - 1, 1)) if case.scattered else np.zeros(times)
    return Starts(z, spread, float(observable[0]), layer)


def _budget(row: _Row, means: Moments, found: Sampled) -> Budget:
    """The error of a row, by what makes it."""
    times, propagator, formula = np.array(row.case.times), row.levels.whole, row.case.formula

    def moved(coarse: list) -> np.ndarray:
        """(times,) the largest difference to coarser families."""
        by = [
            (row.starts.features @ mapping) @ other.forward(other.project(mapping.T @ means.projected[formula]), times)
            for mapping, other in coarse
        ]
        return np.max(np.abs(np.array(by) - row.values), axis=0) if by else np.full(len(times), np.nan)

    # what the span does not hold of f, and of the start, is forgotten at the rates that it does not resolve
    forgotten = np.exp(-times * propagator.typical_rate)
    kept = row.starts.features @ propagator.forward(row.components, np.zeros(1))[:, 0]
    rest = max(means.squares[formula] - float(row.components @ row.components), 0.0)
    rest = 0.0 if rest < 1e-12 * means.squares[formula] else rest
    projection = np.hypot(row.starts.observable - kept, np.sqrt(rest)) * forgotten
    layer = np.abs(row.starts.layer) / max(propagator.typical_rate, 1e-300)
    truncation = np.hypot(coarse_error(row.values, moved(row.levels.near), moved(row.levels.far), found.gain), layer)
    return Budget(np.zeros(len(times)), np.hypot(found.error, row.starts.spread), truncation, projection)


def _control(row: _Row, features: Features, means: Moments) -> Expansion:
    """u in the dictionary alone, as eigenpairs."""
    propagator, size, sample = row.levels.inner, 1 + features.inner, features.sample
    products = means.projected[row.case.formula]
    functions = propagator.basis @ propagator.right
    inside = functions[1:size]
    return Expansion(
        -propagator.exponents,
        propagator.left @ propagator.project(products[: len(propagator.basis)]),
        functions[0],
        inside if features.modes is None else features.modes @ inside,
        sample.coordinates,
        sample.dictionary,
    )
