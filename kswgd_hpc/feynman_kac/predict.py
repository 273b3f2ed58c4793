"""Predictions of all rows together: one pass over the records for the operators, one for their errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.feynman_kac.budget import Budget, coarse_error, sampled
from kswgd_hpc.feynman_kac.case import Case
from kswgd_hpc.feynman_kac.features import Features, Moments, moments
from kswgd_hpc.feynman_kac.influence import Influence, drive_of
from kswgd_hpc.feynman_kac.levels import Fine, Levels
from kswgd_hpc.feynman_kac.propagator import Drive, Propagator
from kswgd_hpc.machine import return_memory
from kswgd_hpc.parallel import cut, local, shared_out, sum_blocks
from kswgd_hpc.references import Expansion

_STARTS = 16384
_TOGETHER = 512  # of them looked at
# no prediction is said to be better than this: errors so small have causes that are not counted, such as means over
# space by a sum over the grid
_LEAST = 1e-4
_FEW = 10  # pairs that carry what a start has become are few
_GRID = 60
_SLOWED = 2.0  # how much faster sets are reached, by the share of the noise of what they compare that is hidden


@dataclass(frozen=True)
class Prediction:
    """u at a case's times, averaged over its initial law.

    values : (times,); budget : what they may be wrong by; rates : (r,) complex, of L + c, ascending
    control : u as a function of state and time, for references that can use one; None where it has no use
    rejected : eigenvalues that were left out; start : u at time 0 and its standard error, averages of f over the law
    cost : processor seconds of all ranks for the values, once the operators are there; budget_cost : for their errors
    """

    values: np.ndarray
    budget: Budget
    rates: np.ndarray
    control: Expansion | None
    rejected: int
    cost: float
    budget_cost: float
    start: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Starts:
    """The initial law of a case, as the features see it.

    features : (P,) mean of z; spread : (times,) standard error of the mean of u(X_0, t)
    layer : (times,) mean of what the operator leaves over of u(., t) there
    observable, source : means of f and g; offset : mean of what has the boundary values of u
    free : share of the starts that are not stopped at once; first : u at time 0 and its standard error
    """

    features: np.ndarray
    spread: np.ndarray
    layer: np.ndarray
    observable: float
    source: float
    offset: float
    free: float
    first: tuple[float, float]


@dataclass(frozen=True)
class _Row:
    """What is known of a case before the second pass over the records.

    values : (times,); spread : (times,) standard error of the average over the initial law
    near, far : (times,) distances to what coarser families of functions give, see `budget.coarse_error`
    layer, projection : (times,) errors of the start and of f
    step : (times,) error of the time step; seconds : of this processor, for the values and for their errors
    features, drive : (P,) of the starts, and of f and g; None for a principal eigenvalue
    start : see `Prediction`
    """

    levels: Levels
    values: np.ndarray
    spread: np.ndarray
    near: np.ndarray
    far: np.ndarray
    layer: np.ndarray
    projection: np.ndarray
    step: np.ndarray
    seconds: np.ndarray
    features: np.ndarray | None = None
    drive: Drive | None = None
    start: tuple[float, float] = (0.0, 0.0)


def predict(
    cases: list[Case],
    features: Features,
    lag_time: float,
    regularization: float,
    seed: int,
    step_error: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, Prediction]:
    """Predictions of all cases by name. Collective.

    Parameters
    ----------
    features : in whose span they are made
    lag_time : of the pairs; not used where the operator is the generator
    regularization : see `propagator.orthonormal`
    seed : of the run
    step_error : function of rates (q,) to the errors (q,) that the time step leaves in them, for the operator of a lag

    Raises
    ------
    ConfigurationError : a resolvent that does not exist
    """
    found: dict[str, Prediction] = {}
    for text in dict.fromkeys("" if case.boundary is None else case.boundary.text for case in cases):
        group = [case for case in cases if ("" if case.boundary is None else case.boundary.text) == text]
        boundary = group[0].boundary
        seen = features if boundary is None else replace(features, boundary=boundary, extras=())
        found |= _predicted(group, seen, lag_time, regularization, seed, step_error)
    return found


def _predicted(cases, features: Features, lag_time, regularization, seed, step_error) -> dict[str, Prediction]:
    """Predictions of cases that are stopped by the same set, or by none. Collective."""
    comm = features.sample.comm
    killings = list(dict.fromkeys(case.rate for case in cases if case.killing is not None))
    formulas = [text for case in cases for text in (case.formula, case.driven) if text]
    means = moments(features, list(dict.fromkeys(formulas)), killings)
    lag = 0.0 if features.by_generator else lag_time
    fine = Fine.of(features, means, killings, regularization)
    return_memory()  # of the batches that the means were made of
    solved, seconds = _solved(cases, features, means, lag, regularization, fine)
    rows = []
    for case in cases:
        levels = solved[case.rate]
        if case.kind == "principal_eigenvalue":
            row = _principal(case, levels, means)
        else:
            row = _expectation(case, features, means, levels, seed)
        if lag and step_error is not None:
            row = replace(row, step=_step(case, row, step_error))
        rows.append(replace(row, seconds=row.seconds + seconds / len(cases)))
    influences, spent = _influences(comm, cases, rows, means)
    found, began = {}, time.process_time()
    errors_of = sampled(features, influences, rows[0].levels.whole.basis, means.count)
    spent += (time.process_time() - began) / len(cases)
    for case, row, errors, more in zip(cases, rows, errors_of, spent, strict=True):
        truncation = np.hypot(coarse_error(row.values, row.near, row.far, errors.gain), row.layer)
        truncation = np.hypot(truncation, _LEAST * np.abs(row.values))
        budget = Budget(row.step, np.hypot(errors.error, row.spread), truncation, row.projection)
        whole, seconds = row.levels.whole, comm.allreduce(row.seconds + np.array([0.0, more]))
        control = _control(case, row.levels, features, means)
        parts = (row.values, budget, whole.rates, control, whole.rejected, *map(float, seconds), row.start)
        found[case.name] = Prediction(*parts)
    return found


def _solved(
    cases, features: Features, means: Moments, lag: float, regularization: float, fine: Fine | None
) -> tuple[dict[str, Levels], np.ndarray]:
    """Killing rate -> levels, which the ranks share out; seconds (2,) of this one, see `Levels`. Collective."""
    comm, rates = features.sample.comm, list(dict.fromkeys(case.rate for case in cases))
    found = shared_out(comm, rates, lambda rate: Levels.of(features, means, rate, lag, regularization, fine))
    seconds = np.sum([levels.seconds for levels in found[comm.rank :: comm.size]] or [(0.0, 0.0)], axis=0)
    return dict(zip(rates, found, strict=True)), seconds


def _influences(comm, cases, rows: list[_Row], means: Moments) -> tuple[list[Influence], np.ndarray]:
    """Of all cases, which the ranks share out; seconds (cases,) of this one. Collective."""
    spent = np.zeros(len(cases))

    def of(i: int) -> Influence:
        case, row, began = cases[i], rows[i], time.process_time()
        if row.drive is None:
            found = Influence.of_principal(case, row.levels, means)
        else:
            found = Influence.of(case, row.levels, means, row.drive, row.features)
        spent[i] = time.process_time() - began
        return found

    return shared_out(comm, range(len(cases)), of), spent


def _expectation(case: Case, features: Features, means: Moments, levels: Levels, seed: int) -> _Row:
    """u at the case's times. Collective."""
    began = time.process_time()
    times, whole = np.array(case.times), levels.whole
    if case.steady and not whole.conserved and whole.principal[0] <= 0:
        raise ConfigurationError(
            f"validation.feynman_kac.{case.name}: L + c has the eigenvalue {whole.principal[0]:.3g}, so that the "
            f"integral over all times of kind: {case.kind} does not exist; a larger killing rate makes it exist"
        )
    drive = drive_of(case, means, whole)
    forward = whole.forward(drive, times)
    starts = _starts(case, features, forward, whole.forward(drive, times, image=True), whole.basis @ drive.source, seed)
    values = starts.features @ forward + starts.offset
    made = time.process_time()

    def by(mapping: np.ndarray, other: Propagator) -> np.ndarray:
        less = drive_of(case, means, other, mapping)
        return (starts.features @ mapping) @ other.forward(less, times) + starts.offset

    # what the span does not hold of f, g and of the start is forgotten at the rates that it does not resolve
    forgotten = np.exp(-np.where(np.isfinite(times), times, 1e300) * whole.typical_rate)
    kept = starts.features @ (whole.basis @ drive.start)
    projection = (
        np.hypot(starts.observable - kept, starts.free * _left_over(means, case.formula, drive.start)) * forgotten
    )
    if case.driven:
        kept = starts.features @ (whole.basis @ drive.source)
        rest = np.hypot(starts.source - kept, starts.free * _left_over(means, case.driven, drive.source))
        projection = np.hypot(projection, rest * (1 - forgotten) / max(whole.typical_rate, 1e-300))
    if hidden := case.hidden(features.sample.coordinates.map, features.mobility, seed):
        slowed = _SLOWED * hidden * np.abs(whole.exponents)
        projection = np.hypot(projection, whole.shifted(starts.features, drive, times, slowed))
    row = _Row(
        levels,
        values,
        starts.spread,
        _distance(values, levels.near, by),
        _distance(values, levels.far, by),
        np.abs(starts.layer) * np.maximum(1 / max(whole.typical_rate, 1e-300), _unseen(whole, means, starts, times)),
        projection,
        np.zeros(len(values)),
        np.zeros(2),
        starts.features,
        drive,
        starts.first,
    )
    return replace(row, seconds=np.array([made - began, time.process_time() - made]))


def _unseen(whole: Propagator, means: Moments, starts: Starts, times: np.ndarray) -> np.ndarray:
    """(times,) for how long paths from the start are where there are no pairs, and what is left over is not seen.

    A density l of norm |l| is carried by 1 / |l|^2 of all pairs. Paths that come from far out need a while until there
    are some.
    """
    finite = np.isfinite(times)
    last = max(np.max(times[finite], initial=0.0), 1 / max(whole.typical_rate, 1e-300))
    grid = np.concatenate([[0.0], np.geomspace(1e-5, 1.0, _GRID)]) * last
    density = whole.backward(starts.features, grid)
    few = np.einsum("pt,pq,qt->t", density, means.gram, density) > means.count / _FEW
    alone = np.minimum.accumulate(few)  # until the first time that they are not
    return np.minimum(grid[alone].max(initial=0.0), np.where(finite, times, np.inf))


def _left_over(means: Moments, text: str, components: np.ndarray) -> float:
    """Norm of what the span does not hold of a function with components (q,) in it."""
    square = means.squares[text]
    rest = max(square - float(components @ components), 0.0)
    return 0.0 if rest < 1e-12 * square else np.sqrt(rest)


def _step(case: Case, row: _Row, step_error: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(times,) error that the time step of the pairs leaves in a prediction by the operator of a lag."""
    whole = row.levels.whole
    if row.drive is None:
        return step_error(-whole.exponents[[whole.slowest]])
    return whole.shifted(row.features, row.drive, np.array(case.times), step_error(-whole.exponents))


def _principal(case: Case, levels: Levels, means: Moments) -> _Row:
    """The smallest eigenvalue of L + c."""
    values, nothing = levels.whole.principal, np.zeros(1)

    def by(_mapping: np.ndarray, other: Propagator) -> np.ndarray:
        return other.principal

    near, far = (_distance(values, coarse, by) for coarse in (levels.near, levels.far))
    return _Row(levels, values, nothing, near, far, nothing, nothing, nothing, np.zeros(2))


def _distance(values: np.ndarray, coarse: list, by: Callable[[np.ndarray, Propagator], np.ndarray]) -> np.ndarray:
    """(times,) largest distance to what coarser families give, NaN where there are none."""
    if not coarse:
        return np.full(len(values), np.nan)
    return np.max([np.abs(by(mapping, other) - values) for mapping, other in coarse], axis=0)


def _starts(
    case: Case, features: Features, forward: np.ndarray, image: np.ndarray, source: np.ndarray, seed: int
) -> Starts:
    """Averages over the initial law, of u with coefficients (P, times) of it, its image and its source. Collective."""
    comm, count = features.sample.comm, max(case.trajectories, _STARTS) if case.scattered else 1
    blocks, times = cut(count, -(-count // _TOGETHER)), len(case.times)
    parts = []
    for part in local(blocks, comm):
        states = case.sampler(seed, case.stream, part.start, part.stop)
        z, moved = features.of_states(states)
        offset, free = np.zeros(part.size), np.ones(part.size)
        if case.boundary is not None:
            offset, free = case.boundary.lifted(states), 1.0 - case.boundary.inside(states)
        driven = free * (0.0 if case.source is None else case.source(states))
        first = free * case.observable(states)
        u = np.column_stack([first, z @ forward]) + offset[:, None]
        layer = np.zeros(times)
        if moved is not None:
            rate = 0.0 if case.killing is None else case.killing(states)[:, None]
            over = moved @ forward - rate * (z @ forward) - z @ image
            layer = (over + (driven - z @ source)[:, None]).sum(axis=0)
        numbers = [part.sum() for part in (first, driven, offset, free)]
        parts.append(np.concatenate([z.sum(axis=0), u.sum(axis=0), (u**2).sum(axis=0), layer, numbers]))
    sums = sum_blocks(comm, parts, (features.size + 3 * times + 6,), len(blocks)) / count
    z, u, square, layer, numbers = np.split(sums, features.size + np.cumsum([0, times + 1, times + 1, times]))
    spread = np.sqrt(np.maximum(square - u**2, 0.0) / max(count - 1, 1)) if case.scattered else np.zeros(times + 1)
    return Starts(z, spread[1:], layer, *map(float, numbers), (float(u[0]), float(spread[0])))


def _control(case: Case, levels: Levels, features: Features, means: Moments) -> Expansion | None:
    """u in the dictionary alone, as eigenpairs; None where paths are stopped or have no end."""
    if case.boundary is not None or case.steady:
        return None
    propagator, size, sample = levels.inner, 1 + features.inner, features.sample
    inside, P = propagator.basis @ propagator.right, len(propagator.basis)
    source = means.projected.get(case.driven)
    drive = propagator.drive(means.projected[case.formula][:P], None if source is None else source[:P])
    functions = inside[1:size]
    return Expansion(
        -propagator.exponents,
        propagator.left @ drive.start,
        inside[0],
        functions if features.modes is None else features.modes @ functions,
        sample.coordinates,
        sample.dictionary,
        propagator.left @ drive.source if case.driven else None,
    )
