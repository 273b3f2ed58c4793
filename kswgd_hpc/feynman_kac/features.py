"""The functions in whose span predictions are made: the constant, the dictionary, and the smooth observables asked for.

An observable that is itself one of them starts without any error, whatever coordinates the dictionary sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from mpi4py import MPI

from kswgd_hpc.dictionary.centres import join_to_first_half
from kswgd_hpc.feynman_kac.boundary import Boundary
from kswgd_hpc.feynman_kac.case import SmoothFormula
from kswgd_hpc.galerkin import REPLICATED
from kswgd_hpc.parallel import sum_items
from kswgd_hpc.records import Pairs, Records, Sample


@dataclass(frozen=True)
class Features:
    """P functions z = (1, psi or some of its span, extras) of the state, and what the operator makes of them.

    Parameters
    ----------
    sample : the records, with the values of all formulas
    modes : (p, r) combinations of the dictionary that stand for it where it is too large, None for itself
    extras : smooth observables; there are none where the operator is that of a lag
    drift, mobility : of the state; drift None where the operator is that of a lag
    boundary : set that stops paths, None where there is none; the functions are then d (1, psi), d its level function,
        and zero inside, see `boundary`
    """

    sample: Sample
    modes: np.ndarray | None
    extras: tuple[SmoothFormula, ...]
    drift: Callable | None
    mobility: object
    boundary: Boundary | None = None

    @property
    def by_generator(self) -> bool:
        """Whether the operator is the generator; else that of a lag."""
        return self.drift is not None

    @property
    def inner(self) -> int:
        """Number of functions that come from the dictionary."""
        return self.sample.dictionary.size if self.modes is None else self.modes.shape[1]

    @property
    def size(self) -> int:
        """P."""
        return 1 + self.inner + sum(extra.size for extra in self.extras)

    def of_pairs(self, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        """z at x and, (n, P) each, the generator applied to z there, or z at y."""
        if self.boundary is not None:
            level, rate, slope = (pairs.values[f"{what}:{self.boundary.text}"] for what in "fgw")
            return self._outside(level, rate, slope, pairs.z, pairs.drift, pairs.mobility, pairs.x)
        n, names = len(pairs.z), [extra.text for extra in self.extras]
        z = self._joined(np.ones(n), pairs.x, [pairs.values[f"f:{text}"] for text in names])
        if not self.by_generator:
            return z, self._joined(np.ones(n), pairs.y, [])
        rates = self.sample.dictionary.generator(pairs.z, pairs.drift, pairs.mobility, pairs.x)
        return z, self._joined(np.zeros(n), rates, [pairs.values[f"g:{text}"] for text in names])

    def formula(self, pairs: Pairs, text: str) -> np.ndarray:
        """(n,) values of an observable at x, zero where paths are stopped."""
        values = pairs.values[f"f:{text}"]
        return values if self.boundary is None else values * (pairs.values[f"f:{self.boundary.text}"] > 0)

    def of_states(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """z at states (d, n) and, (n, P) each, the generator applied to it there; None where that is not known."""
        coordinates, mobility = self.sample.coordinates, self.sample.mobility
        z = coordinates(states)
        psi = self.sample.dictionary.values(z)
        values = [extra.value(states) for extra in self.extras]
        if not self.by_generator:
            return self._joined(np.ones(len(psi)), psi, values), None
        velocity = coordinates.velocity(self.drift(states), states, self.mobility)
        if mobility is None:
            mobility = coordinates.mobility(self.mobility, states)
        if self.boundary is not None:
            level, rate = self.boundary.level(states), self.boundary.level_rate(states)
            slope = self.boundary.slope_in(coordinates, self.mobility)(states)
            return self._outside(level, rate, slope, z, velocity, mobility, psi)
        rates = self.sample.dictionary.generator(z, velocity, mobility, psi)
        extras = [extra.generator(states) for extra in self.extras]
        return self._joined(np.ones(len(psi)), psi, values), self._joined(np.zeros(len(psi)), rates, extras)

    def _outside(self, level, rate, slope, z, drift, mobility, psi) -> tuple[np.ndarray, np.ndarray]:
        """Functions d psi and G (d psi) = d (G psi + 2 grad d . M grad psi / d) + psi G d, (n, P) each."""
        pull = drift + 2 * slope / np.where(level > 0, level, 1.0)[:, None]
        rates = self.sample.dictionary.generator(z, pull, mobility, psi) * level[:, None] + psi * rate[:, None]
        return self._joined(level, psi * level[:, None], []), self._joined(rate, rates, [])

    def _joined(self, constant: np.ndarray, psi: np.ndarray, extras: list[np.ndarray]) -> np.ndarray:
        inner = psi if self.modes is None else psi @ self.modes
        columns = (column.reshape(len(psi), -1) for column in extras)
        return np.concatenate([constant[:, None], inner, *columns], axis=1)

    @cached_property
    def coarsenings(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Maps (P, P') to coarser families within the span: some near to the whole, and some farther by as much.

        Half and a quarter of the dictionary; of polynomials one or two degrees less, and two more. An odd function does
        not notice that an even degree is missing: of two degrees one is always noticed.
        """
        if getattr(self.sample.dictionary, "kind", "") == "polynomial" and self.modes is None:
            return self._by_degree(self.sample.dictionary.factors.sum(axis=1))
        if self.modes is not None:
            halves = [np.eye(self.inner, max(1, self.inner // k)) for k in (2, 4)]
        else:
            first = self.sample.dictionary.coarsening().toarray()
            halves = [first] if first.shape[1] < 4 else [first, first @ self._second(first.shape[1])]
        return [self._with_others(halves[0], 2)], [self._with_others(half, 1) for half in halves[1:]]

    def _by_degree(self, degrees: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        largest, size = int(degrees.max()), len(degrees)
        near = 2 if largest > 2 else 1
        sizes = [int((degrees <= d).sum()) for d in range(1, largest)][::-1]
        maps = [self._with_others(np.eye(size, kept), 2 if i < near else 1) for i, kept in enumerate(sizes)]
        maps.append(np.eye(self.size, 1))  # the constant alone is the coarsest
        return maps[:near], maps[near : near + 2]

    def _second(self, size: int) -> np.ndarray:
        """(p', p' / 2) map of the functions of a coarsened dictionary to half as many."""
        centres = getattr(self.sample.dictionary, "centres", None)
        if centres is None:
            return np.eye(size, size // 2)
        return np.eye(size // 2)[join_to_first_half(centres[:size])]

    def _with_others(self, inner: np.ndarray, rank: int) -> np.ndarray:
        """The map of a coarsened dictionary, with the constant and the extras of a lower rank."""
        kept = np.repeat([extra.rank < rank for extra in self.extras], [extra.size for extra in self.extras])
        others = np.eye(len(kept))[:, kept.astype(bool)]
        return scipy.linalg.block_diag(np.ones((1, 1)), inner, others)


def reduced(size: int, coefficients: np.ndarray) -> np.ndarray | None:
    """Combinations that stand for a dictionary that is too large for one rank's matrices: the eigenfunctions found.

    Parameters
    ----------
    size : p; coefficients : (p, r) of the eigenfunctions, the constant first
    """
    if size <= REPLICATED:
        return None
    both = np.concatenate([coefficients.real, coefficients.imag], axis=1)[:, 1:]
    return both[:, np.abs(both).max(axis=0) > 0]


@dataclass(frozen=True)
class Moments:
    """Means over the pairs of all ranks.

    gram : (P, P) of z z^T
    moved : (P, P) of z (G z)^T, or of z z(y)^T
    killed : text -> (P, P) of c z z^T, or of omega z z(y)^T with omega = exp(-int c) of the pair
    projected : text -> (P,) of f z; squares : text -> mean of f^2, of observables and sources
    least : text -> the least value of a killing rate
    count : number of pairs
    """

    gram: np.ndarray
    moved: np.ndarray
    killed: dict[str, np.ndarray]
    projected: dict[str, np.ndarray]
    squares: dict[str, float]
    least: dict[str, float]
    count: float


def moments(features: Features, observables: list[str], killings: list[str]) -> Moments:
    """The sums that all predictions are made of, in one pass. Collective."""
    sample, P = features.sample, features.size
    shapes = {"gram": (P, P), "moved": (P, P), "count": (1, 1)}
    shapes |= {f"k:{text}": (P, P) for text in killings} | {f"f:{text}": (P, 1) for text in observables}
    shapes |= {f"s:{text}": (1, 1) for text in observables}

    def add(block: Records, parts: dict[str, np.ndarray]) -> None:
        for pairs in sample.batches(block):
            z, moved = features.of_pairs(pairs)
            parts["gram"] += z.T @ z
            parts["moved"] += z.T @ moved
            parts["count"] += len(z)
            for text in killings:
                if features.by_generator:
                    parts[f"k:{text}"] += (z * pairs.values[f"f:{text}"][:, None]).T @ z
                else:
                    parts[f"k:{text}"] += (z * pairs.values[f"k:{text}"][:, None]).T @ moved
            for text in observables:
                values = features.formula(pairs, text)
                parts[f"f:{text}"][:, 0] += values @ z
                parts[f"s:{text}"] += values @ values

    sums = sum_items(sample.comm, sample.blocks, add, shapes, sample.terms)
    found = {name: part.reduced(sample.comm) for name, part in sums.items()}
    count = float(found.pop("count")[0, 0])
    found = {name: value / count for name, value in found.items()}
    return Moments(
        found["gram"],
        found["moved"],
        {text: found[f"k:{text}"] for text in killings},
        {text: found[f"f:{text}"][:, 0] for text in observables},
        {text: float(found[f"s:{text}"][0, 0]) for text in observables},
        {text: _least(sample, f"f:{text}") for text in killings},
        count,
    )


def _least(sample: Sample, name: str) -> float:
    """The least of some values over all ranks. Collective."""
    mine = min((float(block.values[name].min()) for block in sample.blocks if block.values[name].size), default=np.inf)
    return sample.comm.allreduce(mine, op=MPI.MIN)
