"""Committors, mean first passage times and transition rates between two sets, from stopped trajectories.

Outside its targets a committor or passage time u obeys u(x) = E_x[u(X_s) + reward until s], with s the lag or the first
record in a target, whichever comes first; in a target u is given. Galerkin's method with the dictionary cut off at the
targets turns this into linear equations whose entries are sums over pairs: no dynamics between the records is assumed,
and no derivative of the sets. "In a set" means: in it at a record; a visit between two records is not seen.
Sources: Thiede, Giannakis, Dinner and Weare 2019 (Galerkin approximation of dynamical quantities); Strahan et al. 2021
(stopping); Vanden-Eijnden 2006 and Metzner, Schuette and Vanden-Eijnden 2009 (reactive flux of a chain).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kswgd_hpc.errors import SpectrumError
from kswgd_hpc.statistics import standard_error
from kswgd_hpc.trajectories import Influence, Piece, Trajectories
from kswgd_hpc.vamp import whitening

OUTSIDE, A, B = 0, 1, 2
_CUT = 1e-8
_PAIRS_A_DIRECTION = 10


@dataclass(frozen=True)
class Question:
    """A stopped problem: `values` of u in its target sets, reward 1 per time outside, or none; time reversed or not."""

    values: Mapping[int, float]
    reward: float
    backward: bool


FORWARD = Question({A: 0.0, B: 1.0}, 0.0, False)
BACKWARD = Question({A: 1.0, B: 0.0}, 0.0, True)
TIME_TO_A = Question({A: 0.0}, 1.0, False)
TIME_TO_B = Question({B: 0.0}, 1.0, False)


@dataclass(frozen=True)
class Solution:
    """u(x) = the question's value in its targets, values(x) @ coefficients outside.

    coefficients : (m,); response : (m, m) change of them, with the opposite sign, per mean residual
    """

    question: Question
    coefficients: np.ndarray
    response: np.ndarray

    def __call__(self, values: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """u, of the shape of labels, from values (..., m)."""
        given, inside = _boundary(self.question, labels)
        return np.where(inside, given, values @ self.coefficients)


@dataclass(frozen=True)
class Transitions:
    """What happens between A and B at equilibrium; each with its standard error in `errors`, under the same name.

    rate_ab : transitions from A to B per unit of time that A was the last of the two visited; rate_ba
    flux : transitions from A to B per unit of time
    last_in_a : fraction of time that A was the last of the two visited
    passage_ab : mean time to reach B from the invariant law within A; passage_ba
    committor, backward : probability to reach B before A, and to have come from A and not from B
    """

    rate_ab: float
    rate_ba: float
    flux: float
    last_in_a: float
    passage_ab: float
    passage_ba: float
    errors: dict[str, float]
    committor: Solution
    backward: Solution | None


def _boundary(question: Question, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value of u in the targets (zero elsewhere), and where the targets are."""
    given, inside = np.zeros(labels.shape), np.zeros(labels.shape, dtype=bool)
    for label, value in question.values.items():
        here = labels == label
        given[here] = value
        inside |= here
    return given, inside


def stopped_ends(inside: np.ndarray, starts: np.ndarray, lag: int) -> np.ndarray:
    """(starts, batch) record index at which each pair ends: a lag on, or at the first record inside, if earlier.

    Parameters
    ----------
    inside : (records, batch) whether a record is in a target
    starts : record indices, each at least a lag before the last record
    """
    ends = np.broadcast_to((starts + lag)[:, None], (len(starts), inside.shape[1]))
    for ahead in range(lag - 1, -1, -1):
        ends = np.where(inside[starts + ahead], (starts + ahead)[:, None], ends)
    return ends


@dataclass(frozen=True)
class _Pairs:
    """Stopped pairs that start outside the targets.

    x, y : (n, m) values, zero in targets; given : (n,) u where y is in a target; reward : (n,) on the way
    weight : (n,)
    begin : indices (record, trajectory) of the earlier record of each pair, which has the weight
    """

    x: np.ndarray
    y: np.ndarray
    given: np.ndarray
    reward: np.ndarray
    weight: np.ndarray
    begin: tuple[np.ndarray, np.ndarray]

    def residual(self, coefficients: np.ndarray) -> np.ndarray:
        """(n,) u(y) + reward - u(x) for u of these coefficients."""
        return self.given + self.reward + (self.y - self.x) @ coefficients


@dataclass(frozen=True)
class Setting:
    """What is asked of which trajectories.

    trajectories : of m functions, the constant one first
    lag : records of a pair
    symmetric : whether the process is reversible, so that trajectories read backwards are as good
    """

    trajectories: Trajectories
    lag: int
    symmetric: bool

    def pairs(self, question: Question, piece: Piece) -> _Pairs:
        """The stopped pairs of a piece."""
        values, labels, starts = piece.values, piece.labels, piece.starts
        weight, begins = piece.weights(starts), starts
        if question.backward:
            # a pair read backwards starts at its end, and keeps the weight of its beginning
            values, labels = values[::-1], labels[::-1]
            starts = len(values) - 1 - (starts + self.lag)
        given, inside = _boundary(question, labels)
        ends = stopped_ends(inside, starts, self.lag)
        batch = np.broadcast_to(np.arange(labels.shape[1]), ends.shape)
        outside = ~inside[starts]
        first, last, column = (np.broadcast_to(i, ends.shape)[outside] for i in (starts[:, None], ends, batch))
        return _Pairs(
            values[first, column],
            values[last, column] * ~inside[last, column][:, None],
            given[last, column],
            question.reward * self.trajectories.interval * (last - first),
            weight[outside],
            (np.broadcast_to(begins[:, None], ends.shape)[outside], column),
        )

    def directions(self, question: Question) -> list[Question]:
        """The question, and for a reversible process the same with time reversed."""
        reverse = Question(question.values, question.reward, not question.backward)
        return [question, reverse] if self.symmetric else [question]


def solve(setting: Setting, questions: Mapping[str, Question]) -> dict[str, Solution]:
    """Committors and passage times by name, in one pass over the trajectories. Collective.

    Raises
    ------
    SpectrumError : when no trajectory was outside the targets
    """
    m = setting.trajectories.size

    def add(piece: Piece, parts: dict[str, np.ndarray]) -> None:
        for name, question in questions.items():
            sums = parts[name]
            for direction in setting.directions(question):
                pairs = setting.pairs(direction, piece)
                weighted = pairs.x * pairs.weight[:, None]
                sums[:m] += weighted.T @ pairs.x
                sums[m:-2] += weighted.T @ pairs.y
                sums[-2] += weighted.T @ (pairs.given + pairs.reward)
                sums[-1] += len(pairs.weight)

    found = setting.trajectories.total(setting.lag, add, {name: (2 * m + 2, m) for name in questions})
    return {name: _solved(question, found[name], m) for name, question in questions.items()}


def _solved(question: Question, sums: np.ndarray, m: int) -> Solution:
    gram, product, right, count = sums[:m], sums[m:-2], sums[-2], sums[-1, 0]
    if not gram[0, 0] > 0:
        raise SpectrumError("koopman.sets: every state is in a set; there is nothing between them to compute")
    # a direction needs some pairs to be told from noise
    basis = whitening(gram, _CUT)[:, : max(1, int(count / _PAIRS_A_DIRECTION))]
    response = basis @ np.linalg.pinv(basis.T @ (product - gram) @ basis) @ basis.T
    return Solution(question, -response @ right, response)


# means over records from which all else is made
_STATISTICS = ("flux", "last_in_a", "time_ab", "time_ba", "in_a", "in_b")


def transitions(setting: Setting) -> Transitions:
    """Committors, passage times and rates between A and B with standard errors. Collective."""
    questions = {"u": FORWARD, "ab": TIME_TO_B, "ba": TIME_TO_A}
    solutions = solve(setting, questions if setting.symmetric else questions | {"v": BACKWARD})
    means, slopes, weight = _means(setting, solutions)
    deviations = _deviations(setting, solutions, means, slopes, weight)
    flux, last, time_ab, time_ba, in_a, in_b = means
    values = {
        "rate_ab": flux / last,
        "rate_ba": flux / (1 - last),
        "flux": flux,
        "last_in_a": last,
        "passage_ab": time_ab / in_a,
        "passage_ba": time_ba / in_b,
    }
    d = dict(zip(_STATISTICS, deviations.T))
    errors = {
        "rate_ab": (d["flux"] - values["rate_ab"] * d["last_in_a"]) / last,
        "rate_ba": (d["flux"] + values["rate_ba"] * d["last_in_a"]) / (1 - last),
        "flux": d["flux"],
        "last_in_a": d["last_in_a"],
        "passage_ab": (d["time_ab"] - values["passage_ab"] * d["in_a"]) / in_a,
        "passage_ba": (d["time_ba"] - values["passage_ba"] * d["in_b"]) / in_b,
    }
    return Transitions(
        **{name: float(value) for name, value in values.items()},
        errors={name: float(standard_error(rows[:, None])[0]) for name, rows in errors.items()},
        committor=solutions["u"],
        backward=solutions.get("v"),
    )


@dataclass(frozen=True)
class _Records:
    """What the statistics are made of at the steps of a piece: (n, 6) of them, and how they move with coefficients.

    slopes : name of a solution -> statistic -> (n, m) derivative, for the statistics that depend on it
    """

    statistics: np.ndarray
    slopes: dict[tuple[str, str], np.ndarray]
    weight: np.ndarray


def _records(setting: Setting, solutions: Mapping[str, Solution], piece: Piece) -> _Records:
    """The statistics at the steps of a piece."""
    m, now, then = piece.values.shape[2], piece.steps, piece.steps + 1
    values, labels = piece.values[now].reshape(-1, m), piece.labels[now].ravel()
    next_values, next_labels = piece.values[then].reshape(-1, m), piece.labels[then].ravel()
    forward, delta = solutions["u"], setting.trajectories.interval
    u, u_next = forward(values, labels), forward(next_values, next_labels)
    between, between_next = (labels == OUTSIDE)[:, None], (next_labels == OUTSIDE)[:, None]
    x, y = values * between, next_values * between_next
    slopes = {}
    if setting.symmetric:
        # the chain's Dirichlet form of the committor
        v, flux = 1 - u, (u_next - u) ** 2 / (2 * delta)
        slopes["u", "flux"] = ((u_next - u) / delta)[:, None] * (y - x)
        slopes["u", "last_in_a"] = -x
    else:
        v = solutions["v"](values, labels)
        flux = v * u_next * (u_next - u) / delta
        slopes["u", "flux"] = ((2 * u_next - u) * v / delta)[:, None] * y - (u_next * v / delta)[:, None] * x
        slopes["v", "flux"] = (u_next * (u_next - u) / delta)[:, None] * x
        slopes["v", "last_in_a"] = x
    in_a, in_b = (labels == A).astype(float), (labels == B).astype(float)
    slopes["ab", "time_ab"] = values * in_a[:, None]
    slopes["ba", "time_ba"] = values * in_b[:, None]
    times = in_a * solutions["ab"](values, labels), in_b * solutions["ba"](values, labels)
    return _Records(np.stack([flux, v, *times, in_a, in_b], axis=1), slopes, piece.weights(now).ravel())


def _means(setting: Setting, solutions) -> tuple[np.ndarray, dict[tuple[str, str], np.ndarray], float]:
    """Statistics, their derivatives with respect to the coefficients of each solution, and the weight of all steps."""
    keys = _slope_keys(setting)

    def add(piece: Piece, parts: dict[str, np.ndarray]) -> None:
        records = _records(setting, solutions, piece)
        parts["statistics"][0] += records.weight @ records.statistics
        parts["weight"] += records.weight.sum()
        for row, key in zip(parts["slopes"], keys):
            row += records.weight @ records.slopes[key]

    shapes = {"statistics": (1, len(_STATISTICS)), "weight": (1, 1), "slopes": (len(keys), setting.trajectories.size)}
    total = setting.trajectories.total(setting.lag, add, shapes)
    weight = float(total["weight"][0, 0])
    return total["statistics"][0] / weight, dict(zip(keys, total["slopes"] / weight)), weight


def _slope_keys(setting: Setting) -> list[tuple[str, str]]:
    keys = [("u", "flux"), ("ab", "time_ab"), ("ba", "time_ba")]
    return keys + ([("u", "last_in_a")] if setting.symmetric else [("v", "flux"), ("v", "last_in_a")])


def _deviations(setting: Setting, solutions, means, slopes, weight: float) -> np.ndarray:
    """(groups, 6) share of each group in the errors of the statistics. Collective."""
    responses = {name: np.zeros((setting.trajectories.size, len(_STATISTICS))) for name in solutions}
    for (name, statistic), slope in slopes.items():
        responses[name][:, _STATISTICS.index(statistic)] = solutions[name].response.T @ slope

    def influences(piece: Piece) -> Iterator[Influence]:
        return _influences(setting, solutions, responses, means, weight, piece)

    return setting.trajectories.deviations(setting.lag, influences, len(_STATISTICS))


def _influences(setting: Setting, solutions, responses, means, weight: float, piece: Piece) -> Iterator[Influence]:
    """Influence on all six of the steps, and of the stopped pairs."""
    records = _records(setting, solutions, piece)
    yield Influence((piece.steps,), records.weight, (records.statistics - means) / weight)
    for name, solution in solutions.items():
        for direction in setting.directions(solution.question):
            pairs = setting.pairs(direction, piece)
            residual = pairs.residual(solution.coefficients)[:, None]
            yield Influence(pairs.begin, pairs.weight, -(pairs.x @ responses[name]) * residual)


@dataclass(frozen=True)
class Counts:
    """Transitions seen in long trajectories: events a -> b and b -> a, and times that a, b was the last visited.

    All (groups,) arrays; times in records.
    rarely : transitions of both kinds that are seen at every second record alone; None where that was not counted
    """

    events_ab: np.ndarray
    events_ba: np.ndarray
    time_a: np.ndarray
    time_b: np.ndarray
    rarely: np.ndarray | None = None

    @property
    def unseen(self) -> float:
        """Share by which rates of sets that are watched at all times are higher, NaN where too little was seen.

        Visits too short for the records cost rates the square root of the distance between records: what is lost when
        that is doubled tells what is lost at all. Source: Broadie, Glasserman and Kou 1997, for barriers.
        """
        if self.rarely is None or not self.rarely.sum() > 0:
            return np.nan
        lost = (self.events_ab.sum() + self.events_ba.sum()) / self.rarely.sum() - 1
        return float(max(lost, 0.0) / (np.sqrt(2) - 1))

    def rates(self, interval: float) -> dict[str, tuple[float, float]]:
        """Rate and standard error by name, NaN where a set was never left behind."""
        found = {}
        for name, events, time in (("ab", self.events_ab, self.time_a), ("ba", self.events_ba, self.time_b)):
            total = float(time.sum()) * interval
            rate = float(events.sum()) / total if total > 0 else np.nan
            deviations = (events - rate * interval * time) / total if total > 0 else np.full(len(time), np.nan)
            found[name] = (rate, float(standard_error(deviations[:, None])[0]))
        return found


def count_transitions(labels: np.ndarray) -> np.ndarray:
    """(4,) events a -> b, b -> a, and records at which a, b was the last set visited, of trajectories (records, batch).

    A trajectory counts from its first visit on; the record at which the other set is entered counts for that set.
    """
    last = labels[0].astype(np.int8)
    counts = np.zeros(4)
    for row in labels[1:]:
        counts[2:] += (last == A).sum(), (last == B).sum()
        counts[:2] += ((last == A) & (row == B)).sum(), ((last == B) & (row == A)).sum()
        last = np.where(row == OUTSIDE, last, row)
    return counts
