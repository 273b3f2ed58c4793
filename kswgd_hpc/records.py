"""What the dictionary sees of the ensemble, and nothing else: coordinates of the records, kept while they are made.

A record is c numbers where the state has d, so that the sums over pairs can be formed after the simulation, as often
as they are needed: for the Galerkin matrices, and once more, along known eigenvectors, for the error bars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc.coordinates import Coordinates
from kswgd_hpc.dictionary import Dictionary, combinations
from kswgd_hpc.ensemble import Pairing, Window
from kswgd_hpc.parallel import Block, tiles

_ROWS = 1024
_NUMBERS = 2**21
# of functions of unit norm at the very most, measured a thousand times less: for error bars, which sum over many pairs
_ROUNDING = 1 / 8
WEIGHT = "weight"  # among the values of records: weights of their own


@dataclass(frozen=True)
class Records:
    """The records of one block of n trajectories.

    Parameters
    ----------
    z : (m, n, c) coordinates of the records that belong to a pair
    x, y : (s,) which of them are the two ends of a pair, one pair for each trajectory
    group : (s,) number of the group, over all ranks, that the pair counts for; ascending
    values : name -> (s, n) numbers that belong to the pairs: "f:name" of observables, "g:name" of the generator
        applied to them, "k:name" of the weights exp(-int c) of pairs; (s, n, c) "w:name", see `Collector`
    drift : (s, n, c) drift of the coordinates at x, where it was asked for
    mobility : (s, n, c, c) of the coordinates at x, where it depends on the state
    labels : (m, n) numbers of the sets that the records are in, where there are sets
    """

    z: np.ndarray
    x: np.ndarray
    y: np.ndarray
    group: np.ndarray
    values: dict[str, np.ndarray] = field(default_factory=dict)
    drift: np.ndarray | None = None
    mobility: np.ndarray | None = None
    labels: np.ndarray | None = None

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return len(self.x) * self.z.shape[1]

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> array of all of it, see `of`."""
        found = {name: array for name, array in vars(self).items() if name != "values" and array is not None}
        return found | {f"values {name}": array for name, array in self.values.items()}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Records:
        """What `arrays` has been given for."""
        values = {name.removeprefix("values "): a for name, a in arrays.items() if name.startswith("values ")}
        return cls(**{name: a for name, a in arrays.items() if not name.startswith("values ")}, values=values)

    def thinned(self, factor: int) -> Records:
        """Every factor-th pair in time alone."""
        kept = slice(None, None, factor)
        return replace(
            self,
            x=self.x[kept],
            y=self.y[kept],
            group=self.group[kept],
            values={name: array[kept] for name, array in self.values.items()},
            drift=None if self.drift is None else self.drift[kept],
            mobility=None if self.mobility is None else self.mobility[kept],
        )

    @property
    def nbytes(self) -> int:
        """Memory held."""
        arrays = [self.z, self.drift, self.mobility, self.labels, *self.values.values()]
        return sum(array.nbytes for array in arrays if array is not None)


@dataclass
class Collected:
    """What has been collected of a block so far, window by window; taken : last record; the others as in `Records`."""

    taken: int = -1
    index: list[np.ndarray] = field(default_factory=list)
    z: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    parts: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def joined(self) -> dict[str, Any]:
        """The windows put together."""
        return {
            "index": np.concatenate(self.index),
            "z": np.concatenate(self.z),
            "labels": np.concatenate(self.labels) if self.labels else None,
            "parts": {name: np.concatenate(arrays) for name, arrays in self.parts.items()},
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> array of all of it."""
        found = {"taken": np.array(self.taken)}
        if self.index:
            joined = self.joined()
            found |= {name: joined[name] for name in ("index", "z", "labels") if joined[name] is not None}
            found |= {f"part {name}": array for name, array in joined["parts"].items()}
        return found

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Collected:
        """What `arrays` has been given for."""
        lists = {name: [arrays[name]] for name in ("index", "z", "labels") if name in arrays}
        parts = {name.removeprefix("part "): [a] for name, a in arrays.items() if name.startswith("part ")}
        return cls(int(arrays["taken"]), **lists, parts=parts)


class Collector:
    """Turns the windows of a block into `Records`.

    Parameters
    ----------
    coordinates : what is kept of a state
    pairing : how records pair up
    segments : groups that a block is divided into, one stretch of time after the other
    drift : function of states (d, batch) -> (batch, c), where the drift of the coordinates is wanted
    mobility : function of states (d, batch) -> (batch, c, c), where the mobility of the coordinates depends on them
    observables : name -> function (d, batch) -> (batch,), evaluated at pair starts as "f:name"
    killing : names whose path integrals come with the windows; exp of minus the integral over a pair is "k:name"
    generated : name -> function (d, batch) -> (batch,), the generator applied to observables, there too as "g:name"
    label : function of states (d, batch) -> (batch,), number of the set that each is in, where there are sets
    slopes : name -> function (d, batch) -> (batch, c), the mobility between an observable and the coordinates, "w:name"
    """

    def __init__(
        self,
        coordinates: Coordinates,
        pairing: Pairing,
        segments: int = 1,
        drift: Callable | None = None,
        mobility: Callable | None = None,
        observables: Mapping[str, Callable] | None = None,
        killing: tuple[str, ...] = (),
        generated: Mapping[str, Callable] | None = None,
        label: Callable | None = None,
        slopes: Mapping[str, Callable] | None = None,
    ):
        self.coordinates = coordinates
        self.pairing = pairing
        self.segments = segments
        self._drift = drift
        self._mobility = mobility
        self._label = label
        self._at_start = {f"f:{name}": function for name, function in (observables or {}).items()}
        self._at_start |= {f"g:{name}": function for name, function in (generated or {}).items()}
        self._at_start |= {f"w:{name}": function for name, function in (slopes or {}).items()}
        self._killing = tuple(killing)
        self.values = (*self._at_start, *(f"k:{name}" for name in self._killing))

    def collect(self, block: Block, windows: Iterator[Window], so_far: Collected | None = None) -> Records:
        """The records of one block, added to what has been collected of it."""
        found = Collected() if so_far is None else so_far
        for window in windows:
            self._add(window, found)
        index, z, labels, joined = found.joined().values()
        starts = index[(index % self.pairing.stride == 0) & (index + self.pairing.lag <= found.taken)]
        return Records(
            z,
            np.searchsorted(index, starts),
            np.searchsorted(index, starts + self.pairing.lag),
            block.index * self.segments + starts * self.segments // max(self.pairing.starts * self.pairing.stride, 1),
            {name: array for name, array in joined.items() if ":" in name},
            joined.get("drift"),
            joined.get("mobility"),
            labels,
        )

    def _add(self, window: Window, found: Collected) -> None:
        records = np.arange(window.first, window.first + len(window.states))
        wanted = records[self._in_a_pair(records) & (records > found.taken)]
        found.taken = int(records[-1])
        found.index.append(wanted)
        found.z.append(_by_record(self.coordinates, window.states[wanted - window.first]))
        if self._label is not None:
            found.labels.append(_by_record(self._label, window.states[wanted - window.first]))
        for name, array in self._of_pairs(window, records).items():
            found.parts.setdefault(name, []).append(array)

    def _in_a_pair(self, records: np.ndarray) -> np.ndarray:
        stride, lag = self.pairing.stride, self.pairing.lag
        return (records % stride == 0) | ((records - lag) % stride == 0)

    def _of_pairs(self, window: Window, records: np.ndarray) -> dict[str, np.ndarray]:
        """What belongs to the pairs that start and end within a window, (s, n, ...) each."""
        lag = self.pairing.lag
        x = np.flatnonzero((records % self.pairing.stride == 0) & (records + lag <= records[-1]))
        states, found = window.states[x], {}
        if not len(x):
            return found
        for name, function in self._at_start.items():
            found[name] = _by_record(function, states)
        for name in self._killing:
            integral = window.integrals[name]
            found[f"k:{name}"] = np.exp(integral[x] - integral[x + lag])
        if self._drift is not None:
            found["drift"] = _by_record(self._drift, states)
        if self._mobility is not None:
            found["mobility"] = _by_record(self._mobility, states)
        return found


def _by_record(function: Callable, states: np.ndarray) -> np.ndarray:
    """function of states (d, batch) for all records (s, d, n) at once: (s, n, ...)."""
    values = function(states.transpose(1, 0, 2).reshape(states.shape[1], -1))
    return values.reshape(len(states), states.shape[2], *values.shape[1:])


@dataclass(frozen=True)
class Pairs:
    """A batch of pairs of one group, seen through the dictionary.

    records : (m, n, c) coordinates of the m records that the pairs take part in; first, second : (s,) which are their
        ends
    z : (s n, c) coordinates at x; drift : (s n, c) or None; mobility : (c, c), or (s n, c, c) where it depends on the
        state
    weight : (s n,) or None; values : name -> (s n,) or (s n, c), see `Records`
    """

    group: int
    dictionary: Dictionary
    records: np.ndarray
    first: np.ndarray
    second: np.ndarray
    z: np.ndarray
    mobility: np.ndarray | None
    drift: np.ndarray | None
    weight: np.ndarray | None
    values: dict[str, np.ndarray]

    @cached_property
    def features(self) -> np.ndarray:
        """(m, n, p) values of the dictionary at the records."""
        m, n, c = self.records.shape
        return self.dictionary.values(self.records.reshape(-1, c)).reshape(m, n, -1)

    @cached_property
    def x(self) -> np.ndarray:
        """(s n, p) features where the pairs start, a view where that can be."""
        return _rows(self.features, self.first)

    @cached_property
    def y(self) -> np.ndarray:
        """(s n, p) features where they end."""
        return _rows(self.features, self.second)

    def ends(self, coefficients: np.ndarray, offsets: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """(s n, k) values of the functions offsets + psi @ coefficients, real or complex, at x and at y.

        A record at which one pair ends and another starts is multiplied once, and the features are not made complex.
        Where nobody has asked for the features, the values are as good as error bars need, see `combinations`.
        """
        m, n, c = self.records.shape
        if "features" in self.__dict__:
            values = _by_parts(self.features.reshape(m * n, -1).__matmul__, coefficients)
        else:
            z, dictionary = self.records.reshape(m * n, c), self.dictionary
            values = _by_parts(lambda real: combinations(dictionary, z, real, _ROUNDING), coefficients)
        values = (values + offsets).reshape(m, n, -1)
        return _rows(values, self.first), _rows(values, self.second)

    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Sums of the features at x and at y, (p,) each, weighted where there are weights."""
        if self.weight is not None:
            return self.weight @ self.x, self.weight @ self.y
        records = self.features.sum(axis=1)
        return records[self.first].sum(axis=0), records[self.second].sum(axis=0)

    def weighed(self, weight: Callable[[np.ndarray], np.ndarray]) -> Pairs:
        """The pairs with weights (s n,) of their features (s n, p) at x, times those that they have of their own."""
        more = weight(self.x)
        found = replace(self, weight=more if self.weight is None else more * self.weight)
        found.__dict__["features"] = self.features  # which have been evaluated
        return found

    @property
    def count(self) -> float:
        """Number of pairs, or the sum of their weights."""
        return float(len(self.z) if self.weight is None else self.weight.sum())


def _by_parts(function: Callable[[np.ndarray], np.ndarray], coefficients: np.ndarray) -> np.ndarray:
    """A function that is linear in the columns of real coefficients (p, k), of real or complex ones."""
    if not np.iscomplexobj(coefficients):
        return function(coefficients)
    rotating = np.flatnonzero(coefficients.imag.any(axis=0))
    both = function(np.concatenate([coefficients.real, coefficients.imag[:, rotating]], axis=1))
    values = both[:, : coefficients.shape[1]].astype(complex)
    values[:, rotating] += 1j * both[:, coefficients.shape[1] :]
    return values


@dataclass(frozen=True)
class Sample:
    """The records of all blocks of this rank, and the dictionary through which they are looked at.

    Parameters
    ----------
    comm : communicator
    blocks : records of this rank's blocks, in order
    terms : number of blocks over all ranks; groups : number of groups over all ranks
    coordinates, dictionary : how a state is seen
    pairs : whether the far end of a pair is looked at
    values : names of the values of the records
    mobility : (c, c) of the coordinates, where it is constant
    weight : function of features (n, p) at pair starts -> (n,), for reweighted sums
    """

    comm: MPI.Comm
    blocks: list[Records]
    terms: int
    groups: int
    coordinates: Coordinates
    dictionary: Dictionary
    pairs: bool = True
    values: tuple[str, ...] = ()
    mobility: np.ndarray | None = None
    weight: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def nbytes(self) -> int:
        """Memory held by this rank's records."""
        return sum(block.nbytes for block in self.blocks)

    def batches(self, block: Records) -> Iterator[Pairs]:
        """The pairs of a block, in batches of fixed shapes: fixed bits, whatever else a rank holds."""
        if not block.pairs:
            return
        rows = int(np.clip(_NUMBERS // self.dictionary.size, _ROWS // 4, _ROWS))
        edges = np.flatnonzero(np.diff(block.group)) + 1
        for tile in tiles(block.z.shape[1], rows):
            for stretch in np.split(np.arange(len(block.x)), edges):
                for part in tiles(len(stretch), max(1, rows // tile.size)):
                    yield self._evaluate(block, slice(tile.start, tile.stop), stretch[part.start : part.stop])

    def _evaluate(self, block: Records, who: slice, pairs: np.ndarray) -> Pairs:
        x, y = block.x[pairs], block.y[pairs]
        needed = np.union1d(x, y) if self.pairs else x
        z = block.z[needed, who]
        first = np.searchsorted(needed, x)
        second = np.searchsorted(needed, y) if self.pairs else first

        def own(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else _rows(array[:, who], pairs)

        def numbers(array: np.ndarray) -> np.ndarray:
            return own(array) if array.ndim == 3 else own(array[:, :, None])[:, 0]

        found = Pairs(
            int(block.group[pairs[0]]),
            self.dictionary,
            z,
            first,
            second,
            _rows(z, first),
            self.mobility if block.mobility is None else own(block.mobility),
            own(block.drift),
            own(block.values[WEIGHT][:, :, None])[:, 0] if WEIGHT in block.values else None,
            {name: numbers(block.values[name]) for name in self.values},
        )
        return found if self.weight is None else found.weighed(self.weight)


def _rows(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    """(len(index) * n, ...) of an array (m, n, ...), a view where the index is consecutive."""
    if len(index) and np.array_equal(index, np.arange(index[0], index[0] + len(index))):
        taken = array[index[0] : index[0] + len(index)]
    else:
        taken = array[index]
    return taken.reshape(-1, *array.shape[2:])
