"""Predictions of all rows together: one pass over the records for the operators, one for their errors."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from kswgd_hpc.ensemble import block_count
from kswgd_hpc.feynman_kac.budget import Budget, Influence, coarse_error, sampling_errors
from kswgd_hpc.feynman_kac.case import Case
from kswgd_hpc.feynman_kac.features import Features, Moments, moments
from kswgd_hpc.feynman_kac.propagator import Propagator
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
    errors = sampling_errors(features, [row.influence for row in rows], means.count)
    found = {}
    for row, sampling in zip(rows, errors, strict=True):
        began = time.process_time()
        budget, whole = _budget(row, means, sampling), row.levels.whole
        seconds = comm.allreduce(row.seconds + time.process_time() - began)
        found[row.case.name] = Prediction(
            row.values, budget, whole.rates, _control(row, features, means), whole.rejected, seconds
        )
    return found


@dataclass(frozen=True)
class Levels:
    """The operator of one killing rate on the features and on parts of their span.

    whole : on all; coarse : map (P, P') and operator of each coarser family; inner : on the dictionary alone
    """

    whole: Propagator
    coarse: list[tuple[np.ndarray, Propagator]]
    inner: Propagator

    @classmethod
    def of(cls, features: Features, means: Moments, rate: str, lag: float, regularization: float) -> Levels:
        """Solve them, in this process alone."""
        moved, least = operator(means, rate, lag), means.least.get(rate, 0.0)

        def on(mapping: np.ndarray) -> Propagator:
            parts = (mapping.T @ part @ mapping for part in (means.gram, moved))
            return Propagator.of(*parts, lag, regularization, least)

        whole = Propagator.of(means.gram, moved, lag, regularization, least)
        inner = on(np.eye(features.size, 1 + features.inner)) if features.extras else whole
        return cls(whole, [(mapping, on(mapping)) for mapping in features.coarsenings], inner)


def operator(means: Moments, rate: str, lag: float) -> np.ndarray:
    """(P, P) means of z times the generator less the killing, or the operator of a lag, applied to z."""
    if not rate:
        return means.moved
    return means.killed[rate] if lag else means.moved - means.killed[rate]


def _row(case: Case, features: Features, means: Moments, levels: Levels, seed: int) -> _Row:
    times, propagator = np.array(case.times), levels.whole
    components = propagator.project(means.projected[case.formula])
    forward = propagator.forward(components, times)
    image = propagator.forward(components, times, derivative=True)
    starts = _starts(case, features, forward, image, seed)
    influence = Influence.of(case, propagator, components, starts.features)
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


def _budget(row: _Row, means: Moments, sampling: np.ndarray) -> Budget:
    """The error of a row, by what makes it."""
    times, propagator, formula = np.array(row.case.times), row.levels.whole, row.case.formula
    coarse = []
    for mapping, other in row.levels.coarse:
        components = other.project(mapping.T @ means.projected[formula])
        coarse.append((row.starts.features @ mapping) @ other.forward(components, times))
    # what the span does not hold of f, and of the start, is forgotten at the rates that it does not resolve
    forgotten = np.exp(-times * propagator.typical_rate)
    kept = row.starts.features @ propagator.forward(row.components, np.zeros(1))[:, 0]
    rest = max(means.squares[formula] - float(row.components @ row.components), 0.0)
    rest = 0.0 if rest < 1e-12 * means.squares[formula] else rest
    projection = np.hypot(row.starts.observable - kept, np.sqrt(rest)) * forgotten
    layer = np.abs(row.starts.layer) / max(propagator.typical_rate, 1e-300)
    truncation = np.hypot(coarse_error(row.values, coarse), layer)
    return Budget(np.zeros(len(times)), np.hypot(sampling, row.starts.spread), truncation, projection)


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
