"""Predictions of all rows together: one pass over the records for the operators, one for their errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from kswgd_hpc.ensemble import block_count
from kswgd_hpc.feynman_kac.budget import Budget, Influence, coarse_error, sampled
from kswgd_hpc.feynman_kac.case import Case
from kswgd_hpc.feynman_kac.features import Features, Moments, moments
from kswgd_hpc.feynman_kac.levels import Levels
from kswgd_hpc.feynman_kac.propagator import Propagator
from kswgd_hpc.parallel import cut, local, sum_blocks
from kswgd_hpc.references import Expansion

_STARTS = 16384
# no prediction is said to be better than this: errors so small have causes that are not counted, such as means over
# space by a sum over the grid
_LEAST = 1e-4


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


@dataclass(frozen=True)
class _Row:
    """What is known of a case before the second pass over the records.

    values : (times,); spread : (times,) standard error of the average over the initial law
    near, far : (times,) distances to what coarser families of functions give, see `budget.coarse_error`
    layer, projection : (times,) errors of the start and of f; influence : of the pairs; seconds : of this processor
    """

    levels: Levels
    values: np.ndarray
    spread: np.ndarray
    near: np.ndarray
    far: np.ndarray
    layer: np.ndarray
    projection: np.ndarray
    influence: Influence
    seconds: float


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
        levels = solved[case.rate]
        if case.kind == "principal_eigenvalue":
            row = _principal(case, levels)
        else:
            row = _expectation(case, features, means, levels, seed)
        rows.append(replace(row, seconds=time.process_time() - began))
    found = {}
    for case, row, errors in zip(cases, rows, sampled(features, [row.influence for row in rows], means.count)):
        truncation = np.hypot(coarse_error(row.values, row.near, row.far, errors.gain), row.layer)
        truncation = np.hypot(truncation, _LEAST * np.abs(row.values))
        budget = Budget(np.zeros(len(row.values)), np.hypot(errors.error, row.spread), truncation, row.projection)
        whole, seconds = row.levels.whole, comm.allreduce(row.seconds)
        control = _control(case, row.levels, features, means)
        found[case.name] = Prediction(row.values, budget, whole.rates, control, whole.rejected, seconds)
    return found


def _expectation(case: Case, features: Features, means: Moments, levels: Levels, seed: int) -> _Row:
    """u at the case's times. Collective."""
    times, whole, products = np.array(case.times), levels.whole, means.projected[case.formula]
    components = whole.project(products)
    forward = whole.forward(components, times)
    starts = _starts(case, features, forward, whole.forward(components, times, derivative=True), seed)
    values = starts.features @ forward

    def by(mapping: np.ndarray, other: Propagator) -> np.ndarray:
        return (starts.features @ mapping) @ other.forward(other.project(mapping.T @ products), times)

    # what the span does not hold of f, and of the start, is forgotten at the rates that it does not resolve
    kept = starts.features @ whole.forward(components, np.zeros(1))[:, 0]
    rest = max(means.squares[case.formula] - float(components @ components), 0.0)
    rest = 0.0 if rest < 1e-12 * means.squares[case.formula] else rest
    projection = np.hypot(starts.observable - kept, np.sqrt(rest)) * np.exp(-times * whole.typical_rate)
    return _Row(
        levels,
        values,
        starts.spread,
        _distance(values, levels.near, by),
        _distance(values, levels.far, by),
        np.abs(starts.layer) / max(whole.typical_rate, 1e-300),
        projection,
        Influence.of(case, levels, means, components, starts.features),
        0.0,
    )


def _principal(case: Case, levels: Levels) -> _Row:
    """The smallest eigenvalue of L + c."""
    values, nothing = levels.whole.principal, np.zeros(1)

    def by(_mapping: np.ndarray, other: Propagator) -> np.ndarray:
        return other.principal

    near, far = (_distance(values, coarse, by) for coarse in (levels.near, levels.far))
    return _Row(levels, values, nothing, near, far, nothing, nothing, Influence.of_principal(case, levels), 0.0)


def _distance(values: np.ndarray, coarse: list, by: Callable[[np.ndarray, Propagator], np.ndarray]) -> np.ndarray:
    """(times,) largest distance to what coarser families give, NaN where there are none."""
    if not coarse:
        return np.full(len(values), np.nan)
    return np.max([np.abs(by(mapping, other) - values) for mapping, other in coarse], axis=0)


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


def _control(case: Case, levels: Levels, features: Features, means: Moments) -> Expansion:
    """u in the dictionary alone, as eigenpairs."""
    propagator, size, sample = levels.inner, 1 + features.inner, features.sample
    products = means.projected[case.formula]
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
