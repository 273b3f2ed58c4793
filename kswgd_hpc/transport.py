"""Koopman Spectral Wasserstein Gradient Descent: method.md section 3, equation (3).

With m_k the mean of phi_k over all particles, F = 1/2 sum_k m_k^2 / lambda_k decreases along (3) for any number
of particles, since dF/dt = -mean |grad kappa|_M^2. That makes F the judge of a step: one that raises it is taken
back. A step needs psi at the particles once, and one Allreduce of r + O(1) numbers.

Along a particle's path d log rho/dt = -(rho - 1), and rho - 1 = sum_k m_k phi_k as far as the modes resolve it: each
particle carries the ratio of its law's density to the invariant one, at the cost of one more column in a product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kswgd_hpc.backend import array_module, to_host
from kswgd_hpc.errors import TransportError
from kswgd_hpc.flow import Field, Flow, LocalFlow, Tally, Tile, particle_blocks
from kswgd_hpc.transport_saves import Saves

__all__ = ["Flow", "History", "LocalFlow", "State", "Steps", "floor", "modes_to_move", "particle_blocks", "transport"]

_FIRST_STEP = 0.02
_RISE = 0.01  # of F that is put up with: where few particles are on their way between sets it hardly falls
_BENT = 0.25  # of the longest move: the part of a move that comes from the change of velocity
_LARGEST_STEP = 0.5
_SMALLEST_STEP = 1e-6
_GROWTH = 1.25
_MOST_GROWTH = 4.0  # of a step over the one before, in the extrapolation of velocities
_EXCITED = 10.0  # N m_k^2 that modes reach on the way, whatever they are at the start
_SLOWEST, _SETTLED = 0.1, 0.5  # of what independent draws have: the first mode, each further one
_AT_REST = 1e-8  # of the expectation for independent draws: nothing resolved is left to move


@dataclass(frozen=True)
class Steps:
    """How far and in what steps the flow goes.

    most : accepted steps
    size : fixed h in flow time, or None for an automatic one
    displacement : largest move of a particle in an automatic step, in standard deviations of the ensemble; particles
        that would move farther take steps of their own
    tolerance : error of an automatic step, root mean square over particles, in the same unit
    times : flow times that steps land on, ascending
    end : flow time to go to, or None for the last of `times`
    at_floor : whether to stop where the resolved modes are those of independent draws, once `times` are past
    relaxation : time that a reversible dynamics runs for afterwards: modes are judged as it will leave them
    """

    most: int = 400
    size: float | None = None
    displacement: float = 0.25
    tolerance: float = 0.01
    times: Sequence[float] = ()
    end: float | None = None
    at_floor: bool = True
    relaxation: float = 0.0

    def left(self, rates: np.ndarray, means: np.ndarray) -> np.ndarray:
        """(r,) means that relaxation leaves of the means of modes with these rates."""
        return means * np.exp(-rates * self.relaxation)

    @property
    def landings(self) -> list[float]:
        """All flow times that a step has to land on."""
        return sorted({*self.times, *([] if self.end is None else [self.end])})


@dataclass(frozen=True)
class History:
    """Per accepted step, the start included where a quantity has a value there.

    time : (n + 1,), mode_means : (n + 1, r - 1) of the resolved modes, the constant left out
    step_size : (n,), displacement : (n,) largest in scaled coordinates, error : (n,) estimate, root mean square
    kl : (n + 1, GROUPS) mean logarithm of the resolved density ratio 1 + sum m_k phi_k over each group of particles,
        kl_carried : of the ratio that each particle carries; nan for a group without particles
    group_sizes : (GROUPS,)
    """

    time: np.ndarray
    mode_means: np.ndarray
    step_size: np.ndarray
    displacement: np.ndarray
    error: np.ndarray
    kl: np.ndarray
    kl_carried: np.ndarray
    group_sizes: np.ndarray
    converged: bool

    def overall(self, logarithms: np.ndarray) -> np.ndarray:
        """(n + 1,) means over all particles of `kl` or `kl_carried`."""
        return np.nansum(logarithms * self.group_sizes, axis=1) / self.group_sizes.sum()


@dataclass
class State:
    """All that the loop carries from step to step: what a restart needs, with nothing that could be recomputed.

    Arrays belong to this rank's particles; the rest is the same on every rank.

    z : (n, c) scaled coordinates, or states (n, d) for a LocalFlow
    impulse : (n, c) integral of grad kappa over flow time, so that x = x_0 - M J^T D^-1 impulse
    gradient, previous : (n, c) what is integrated, here and a step ago
    excess : (n,) rho - 1 by the modes; log_ratio : (n,) logarithm of the ratio that each particle carries
    time, h, previous_h : flow time, next and last step
    error : sum of squared errors of the last step by block, not reduced yet
    record : rows of the history
    """

    z: Any
    impulse: Any
    gradient: Any
    previous: Any
    excess: Any
    log_ratio: Any
    means: np.ndarray
    time: float = 0.0
    h: float = _FIRST_STEP
    previous_h: float = 0.0
    error: np.ndarray | None = None
    record: list[tuple] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Accepted steps."""
        return len(self.record) - 1


def floor(modes: int) -> float:
    """N sum m_k^2 below which r modes are statistically those of independent draws: r + 2 sqrt(2 r)."""
    return modes + 2 * np.sqrt(2 * modes)


def transport(
    flow: Flow,
    z,
    steps: Steps,
    ratio=None,
    visit: Callable[[State], None] = lambda state: None,
    progress: Callable[[int, float], None] = lambda step, excess: None,
    saves: Saves | None = None,
):
    """Move particles by (3) until their resolved modes are those of independent draws. Collective.

    N sum m_k^2 of r modes is r + sqrt(2 r) N(0, 1) for independent draws: the flow has converged below the `floor`, and
    goes on to half the mean r, since stopping at the floor would leave particles that are always on the far side of it;
    and likewise for the first k modes, for every k. Where the dynamics relaxes the particles
    afterwards, what that will leave of the means is what counts: no mode is waited for that decays by itself.

    Steps are Adams-Bashforth of second order (one velocity a step), Euler for the first. The difference to the
    trapezoidal rule, known once the next velocity is, tells the error of a step. An automatic step grows as far as that
    allows, and is halved and retaken where F rises. The few particles that would move farther than the limit, or whose
    velocity changes much, are moved in steps of their own through the field of the step's middle, see `Flow.glide`.

    Parameters
    ----------
    flow : velocity field
    z : (n, c) scaled coordinates of this rank's particles; their states (n, d) for a LocalFlow
    steps : how far, in what steps
    ratio : (n,) density ratio at the start; None for that which the modes resolve
    visit : called with the state at the start and after each accepted step
    progress : called with the number of steps and N sum m^2 over its floor
    saves : where to go on from, and to save; None for nowhere

    Returns
    -------
    state : where the particles end; its impulse means nothing for a LocalFlow
    history : History

    Raises
    ------
    TransportError : no step decreases F, or a fixed step diverges
    """
    state = State(z, z * 0, z * 0, z * 0, z[:, 0] * 0, z[:, 0] * 0, np.empty(0))
    if saves is None or not saves.restored(flow, state):
        state = _started(flow, z, steps, ratio)
        visit(state)
    trial = state.z * 0
    while state.steps < steps.most and _goes_on(flow, state, steps):
        h = _landed(state.h, state.time, steps.landings)
        tried = _attempt(flow, state, trial, h, steps)
        moved = tried.moved if tried.complete else np.inf
        wish = saves is not None and saves.wanted()
        tally = flow.tally(tried.sums, _logarithms(flow, state), state.error, moved, wish)
        _complete(state, tally)
        if _worse(flow, state, tally, steps):
            state.h = h / 2
            if _at_rest(flow, state, steps):
                _rest(state, steps.landings, visit)
                break
            continue
        trial = _accept(flow, state, trial, tried, tally, h, steps)
        if steps.size is None:
            state.h = _next_step(state, h, steps)
        visit(state)
        progress(state.steps, _above_floor(flow, state, steps))
        if tally.wishes:
            saves.save(flow, state)
    else:
        if saves is not None:
            saves.put(flow, state)
    _complete(state, flow.tally(_nothing(flow), _logarithms(flow, state), state.error))
    return state, _history(flow, state, _above_floor(flow, state, steps) <= 1)


def modes_to_move(flow: Flow, z, relaxation: float) -> int:
    """Number of leading modes that need transport, the constant one included: the others are at the level of
    independent draws after a time of relaxation by a reversible dynamics. At least one. Collective.

    Off the states that it was learned from a fast mode is an extrapolation: a few particles that come there on their
    way between two sets would set the length of all steps.
    """
    sums = _nothing(flow)
    for tile in flow.tiles:
        flow.survey(z[tile.rows], tile, sums)
    means = flow.tally(sums).means
    needed = np.maximum(flow.effective * means**2, _EXCITED) * np.exp(-2 * flow.rates * relaxation) > 1
    return 2 + int(np.flatnonzero(needed).max(initial=0))


def _goes_on(flow: Flow, state: State, steps: Steps) -> bool:
    """Whether there is more to do: times to reach, or modes above what independent draws have."""
    if steps.end is not None and state.time >= steps.end:
        return False
    if any(time > state.time for time in steps.times):
        return True
    return not steps.at_floor or not _settled(flow, steps.left(flow.rates, state.means))


def _above_floor(flow: Flow, state: State, steps: Steps) -> float:
    """N sum m_k^2 of what relaxation leaves of the means, over its floor."""
    return flow.excess(steps.left(flow.rates, state.means)) / floor(len(flow.rates))


def _worse(flow: Flow, state: State, tally: Tally, steps: Steps) -> bool:
    """Whether a step tried has to be taken back; TransportError where it diverged."""
    before, after = _energy(state.means, flow.rates), _energy(tally.means, flow.rates)
    complete = bool(np.isfinite(tally.displacement))
    if not np.isfinite(after) or (steps.size and not complete):
        raise TransportError("the transport diverged; use step_size: auto or a smaller one")
    return steps.size is None and (after > (1 + _RISE) * before or not complete)


def _at_rest(flow: Flow, state: State, steps: Steps) -> bool:
    """Whether nothing is left to move, after a step that was taken back; TransportError where there is, but no step
    moves it."""
    excess, shortest = _above_floor(flow, state, steps), state.h < _SMALLEST_STEP
    if shortest and excess > 1:
        raise TransportError("no step decreases the distance to the invariant law: fewer koopman.modes may help")
    return shortest or excess <= _AT_REST


def _settled(flow: Flow, means: np.ndarray) -> bool:
    """Whether the first k modes have about half of what independent draws have on average, for every k; the slowest
    by itself a tenth, since distances between laws weigh it most and a flow always comes from the same side."""
    return bool((flow.effective * np.cumsum(means**2) <= _SLOWEST + _SETTLED * np.arange(len(means))).all())


def _landed(h: float, time: float, landings: list[float]) -> float:
    """The step, shortened where it would pass a time to land on; of what is just longer than a step, half."""
    left = next((landing - time for landing in landings if landing > time), np.inf)
    if h >= left * (1 - 1e-9):
        return left
    return left / 2 if 2 * h > left else h


def _next_step(state: State, h: float, steps: Steps) -> float:
    """The next automatic step: grown, as far as the error of the step before the last allows."""
    kept = max(h, min(state.h, _MOST_GROWTH * h))  # a step shortened to land on a time says nothing
    size, error = (state.record[-2][2], state.record[-2][4]) if state.steps > 1 else (_LARGEST_STEP, 0.0)
    by_error = 0.9 * (steps.tolerance / max(error, 1e-300)) ** (1 / 3) * size
    return min(_LARGEST_STEP, max(_GROWTH * h, kept), by_error)


def _started(flow: Flow, z, steps: Steps, ratio) -> State:
    """The state at the start. Collective."""
    xp = array_module(z)
    sums, values = _nothing(flow), []
    for tile in flow.tiles:
        values.append(flow.survey(z[tile.rows], tile, sums))
    means = flow.tally(sums).means
    gradient, excess, potential = xp.empty_like(z), xp.empty(len(z)), flow.field(means)
    for tile, psi in zip(flow.tiles, values, strict=True):
        gradient[tile.rows], excess[tile.rows] = flow.slopes(z[tile.rows], psi, potential)
    start = _resolved(excess, flow.effective) if ratio is None else xp.log(xp.asarray(ratio))
    state = State(z * 1.0, z * 0, gradient, z * 0, excess, start, means)
    state.h = _FIRST_STEP if steps.size is None else steps.size
    state.record.append((0.0, means, 0.0, 0.0, 0.0, None))
    return state


def _nothing(flow: Flow) -> list:
    """Sums of no features, for each block of this rank."""
    blocks = flow.tiles[-1].block + 1 if flow.tiles else 0
    return [None] * blocks


def _effective(state: State, rows: slice, h: float):
    """Velocity of the step, Adams-Bashforth of second order for steps of any ratio; Euler for the first."""
    if state.previous_h == 0.0:
        return state.gradient[rows]
    back = h / (2 * state.previous_h)
    return state.gradient[rows] * (1 + back) - state.previous[rows] * back


@dataclass(frozen=True)
class _Fast:
    """Particles of a tile that moved in steps of their own: which, and integrals over the step, see `Flow.glide`."""

    index: Any
    push: Any
    growth: Any


@dataclass(frozen=True)
class _Trial:
    """What a step brings: by block the sums of features, by tile the features kept and fast particles; longest move.

    complete : whether all particles could be moved
    """

    sums: list
    values: list
    fast: list[_Fast | None]
    moved: float
    complete: bool


def _attempt(flow: Flow, state: State, trial, h: float, steps: Steps) -> _Trial:
    """Put the particles after a step into `trial`."""
    sums, moved, values, fast = _nothing(flow), 0.0, [], []
    middle, complete = flow.field(_middle_means(state, h)), True
    for tile in flow.tiles:
        z = state.z[tile.rows]
        effective = _effective(state, tile.rows, h)
        move = flow.displacement(effective) * h
        trial[tile.rows] = flow.arrive(z, move)
        fast.append(None)
        if steps.size is None:
            fast[-1] = _overtaking(flow, state, tile, trial, (effective, move), middle, h, steps)
            complete = complete and fast[-1] is not False
        moved = max(moved, flow.largest(z, move) if not fast[-1] else _rest_of(flow, z, move, fast[-1]))
        values.append(flow.survey(trial[tile.rows], tile, sums))
    return _Trial(sums, values, fast, moved, complete)


def _middle_means(state: State, h: float) -> np.ndarray:
    """The means in the middle of the step to come, to second order."""
    if state.steps == 0 or state.previous_h == 0.0:
        return state.means
    return state.means + (state.means - state.record[-2][1]) * (h / (2 * state.previous_h))


def _overtaking(flow: Flow, state: State, tile: Tile, trial, step: tuple, middle: Field, h: float, steps: Steps):
    """Move those particles of a tile for which the step is too long in steps of their own; None for none, False where
    that fails."""
    rows = tile.rows
    effective, move = step
    z, xp = state.z[rows], array_module(move)
    far = flow.lengths(z, move) > steps.displacement
    bent = flow.lengths(z, flow.displacement(effective - state.gradient[rows])) * h > _BENT * steps.displacement
    index = xp.flatnonzero(far | bent)
    if len(index) == 0:
        return None
    glided = flow.glide(z[index], middle, h, steps.tolerance)
    if glided is None:
        return False
    end, push, growth = glided
    trial[rows.start + index] = end
    return _Fast(index, push, growth)


def _rest_of(flow: Flow, z, move, fast: _Fast) -> float:
    """Longest move of the particles of a tile that are not fast."""
    slow = array_module(move).ones(len(move), dtype=bool)
    slow[fast.index] = False
    return flow.largest(z[slow], move[slow])


def _accept(flow: Flow, state: State, trial, tried: _Trial, tally: Tally, h: float, steps: Steps):
    """Take a step: velocities and ratios where it ends, in one pass; returns the array for the next trial."""
    squares, potential = np.zeros(len(_nothing(flow))), flow.field(tally.means)
    for tile, psi, fast in zip(flow.tiles, tried.values, tried.fast, strict=True):
        rows = tile.rows
        slope, excess = flow.slopes(trial[rows], psi, potential)
        push, growth = _effective(state, rows, h) * h, (state.excess[rows] + excess) * (h / 2)
        # 5/6 of the distance to the trapezoidal rule: the error of Adams-Bashforth, 5/12 h^3 y''', from -1/12 of that
        error = flow.lengths(trial[rows], flow.displacement(push - (slope + state.gradient[rows]) * (h / 2)) * (5 / 6))
        # where a particle comes to a place that it leaves in steps of its own, the velocity there says nothing
        error[flow.lengths(trial[rows], flow.displacement(slope)) * h > steps.displacement] = 0.0
        if fast is not None:
            push[fast.index], growth[fast.index], error[fast.index] = fast.push, fast.growth, 0.0
        state.impulse[rows] += push
        state.log_ratio[rows] -= growth
        state.excess[rows] = excess
        squares[tile.block] += float((error**2).sum()) / flow.particles
        state.previous[rows] = slope
    state.gradient, state.previous = state.previous, state.gradient
    state.z, trial = trial, state.z
    end = state.time + h
    nearest = min(steps.landings, key=lambda landing: abs(landing - end), default=end)
    state.time = nearest if abs(nearest - end) <= 1e-9 * max(end, h) else end
    state.previous_h, state.means, state.error = h, tally.means, squares
    state.record.append((state.time, tally.means, h, tally.displacement, 0.0, None))
    return trial


def _rest(state: State, landings: list[float], visit: Callable[[State], None]) -> None:
    """Let the remaining times pass where nothing resolved is left to move."""
    for landing in landings:
        if landing > state.time:
            h, state.time = landing - state.time, landing
            state.error = None
            state.record.append((landing, state.means, h, 0.0, 0.0, state.record[-1][5]))
            visit(state)


def _resolved(excess, particles: float):
    """Logarithm of the density ratio by the modes; N particles tell no ratio below 1 / N."""
    xp = array_module(excess)
    return xp.log(xp.maximum(1 + excess, 1 / particles))


def _logarithms(flow: Flow, state: State) -> np.ndarray:
    """(2, blocks) sums over blocks of the logarithms of the resolved and the carried ratio."""
    found = np.zeros((2, len(_nothing(flow))))
    for tile in flow.tiles:
        found[:, tile.block] += _of_tile(flow, state, tile)
    return found


def _of_tile(flow: Flow, state: State, tile: Tile) -> np.ndarray:
    resolved = _resolved(state.excess[tile.rows], flow.effective)
    carried = state.log_ratio[tile.rows]
    return to_host(array_module(resolved).stack([resolved.sum(), carried.sum()]))


def _complete(state: State, tally: Tally) -> None:
    """Fill in the last row of the record what was reduced with the next step."""
    row = state.record[-1]
    state.record[-1] = (*row[:4], float(np.sqrt(tally.square)), tally.logarithms)


def _energy(means: np.ndarray, rates: np.ndarray) -> float:
    return 0.5 * float((means**2 / rates).sum())


def _history(flow: Flow, state: State, converged: bool) -> History:
    time, means, step, moved, error, logarithms = (np.array(column) for column in zip(*state.record, strict=True))
    sizes = flow.group_sizes
    with np.errstate(invalid="ignore"):
        kl = logarithms / np.where(sizes > 0, sizes, np.nan)
    return History(time, means, step[1:], moved[1:], error[1:], kl[:, 0], kl[:, 1], sizes, converged)
