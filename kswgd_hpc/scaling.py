"""Time of each stage on any number of ranks: fixed parts, shared parts, and messages on a stated network.

A stage takes `fixed + per_unit * units(ranks)` seconds, where units are what its rank with most work has to do: steps
of trajectories, pairs, particles. Both numbers come from the processor time of two small runs of the same
configuration. Messages are counted at the MPI layer and charged by the usual model of a collective over a tree: a
latency for each of log2(ranks) rounds, and its bytes over the bandwidth, twice where they are reduced and spread.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from kswgd_hpc import log, metrics
from kswgd_hpc.config import Config
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.parallel import cut, local
from kswgd_hpc.sizes import DRAWING, Sizes, sizes
from kswgd_hpc.traffic import Counted
from spde.stepping import Noise

_SMALL, _LARGER = 1, 4  # factors of work of the two runs
_STEPPING = 0.5  # seconds of the smaller one's ensemble
_PRODUCTS = 4e9  # multiplications of its Galerkin sums
_PARTICLES, _TRANSPORT_STEPS = 512, 100
_PATHS, _MOST_PATHS, _WALKING = 64, 128, 0.5  # of a reference, and seconds of them in the smaller one


@dataclass(frozen=True)
class Network:
    """latency : seconds of a message; bandwidth : bytes a second"""

    latency: float = 2e-6
    bandwidth: float = 10e9

    def seconds(self, operation: str, size: int, ranks: int) -> float:
        """Of one collective operation with a message (for a gather: a result) of some bytes."""
        rounds = math.ceil(math.log2(ranks)) if ranks > 1 else 0
        if not rounds:
            return 0.0
        if operation.lower() in ("send", "isend"):
            return self.latency + size / self.bandwidth
        both_ways = operation.lower() in ("allreduce", "iallreduce", "reduce_scatter")
        gathered = operation.lower().startswith("allgather") and operation.islower()
        size = size * ranks if gathered else size
        return (1 + both_ways) * (rounds * self.latency + size / self.bandwidth)


@dataclass(frozen=True)
class StageModel:
    """A stage: seconds without and with each unit of work, and its messages [operation, bytes, calls].

    steps : of a transport that came to its end in them, None where it did not, or there are none
    """

    name: str
    fixed: float
    per_unit: float
    traffic: list[list]
    steps: int | None = None

    def seconds(self, config: Config, size: Sizes, ranks: int) -> float:
        """Work of the rank that has most."""
        return self.fixed + self.per_unit * units(self.name, config, size, ranks)

    def messages(self, network: Network, ranks: int) -> float:
        """Seconds of its messages."""
        return sum(calls * network.seconds(operation, size, ranks) for operation, size, calls in self.traffic)


def _largest(total: int, blocks: int, ranks: int) -> int:
    """Items of the rank that has most."""
    parts = cut(total, blocks)
    if ranks > len(parts):
        return parts[-1].size
    return max(sum(b.size for b in local(parts, _Rank(rank, ranks))) for rank in {0, ranks // 2, ranks - 1})


@dataclass(frozen=True)
class _Rank:
    rank: int
    size: int


def units(stage: str, config: Config, size: Sizes, ranks: int) -> float:
    """What the rank with most work has to do in a stage: 0 for a stage that every rank, or one alone, does whole."""
    trajectories = _largest(size.trajectories, size.blocks, ranks)
    if stage == "burn-in and pilot":
        return trajectories * max(size.burn_in, 1)
    if stage == "ensemble":
        return trajectories * size.steps
    if stage in ("transport", "relaxation", "metrics"):
        return _particle_units(stage, config, size, ranks)
    if stage.startswith("reference "):
        index = [f"reference {row.name}" for row in config.validation.feynman_kac].index(stage)
        paths, steps = size.paths[index]
        return _largest(paths, -(-paths // 64), ranks) * steps
    if stage == "certificates":
        return 1 / min(ranks, size.blocks)
    if stage == "report":
        return 1 / min(ranks, DRAWING)
    if stage == "results":
        return 0.0
    return trajectories * size.pairs.starts  # of pairs: Galerkin sums, error bars, timescales


def _particle_units(stage: str, config: Config, size: Sizes, ranks: int) -> float:
    if stage == "metrics":
        points = 3 * metrics.affordable(size.particles, size.dimension)
        return points**2 / min(ranks, -(-points // 64))
    share = _largest(size.particles, min(256, -(-size.particles // 128)), ranks)
    return share * (config.kswgd.steps if stage == "transport" else size.relaxation)


def calibrate(config: Config, text: str) -> list[StageModel]:
    """Models of the stages from two small runs of the same configuration, in this process alone.

    Raises
    ------
    ConfigurationError : recorded data, of which there is no smaller run
    KswgdError : a small run failed
    """
    if config.system.kind == "data":
        raise ConfigurationError("recorded data have no smaller run to calibrate with; time a run of your own")
    rate = _seconds_a_step(config)
    small, larger = (_smaller(config, sizes(config), rate, factor) for factor in (_SMALL, _LARGER))
    measured = [(part, sizes(part), _run(part, text)) for part in (small, small, larger)][1:]
    return [_fit(name, measured) for name in measured[-1][2]]


def _fit(name: str, measured: list[tuple[Config, Sizes, dict[str, dict]]]) -> StageModel:
    (a, size_a, small), (b, size_b, larger) = measured
    entry = larger[name]
    u, v = units(name, a, size_a, 1), units(name, b, size_b, 1)
    done, asked = entry["steps"], b.kswgd.steps if b.kswgd is not None else 0
    if name == "transport":  # which may stop early, or take steps back
        u, v = (n / asked * max(part[name]["steps"], 1) for n, part in ((u, small), (v, larger)))
    s, t = (part.get(name, entry)["processor"] for part in (small, larger))
    if v == 0:
        return StageModel(name, t, 0.0, entry["traffic"])
    slope = max(t - s, 0.0) / (v - u) if v > 1.5 * u else t / v
    slope = min(slope, t / v)
    traffic = entry["traffic"]
    if name == "transport":
        traffic = [[op, size, calls if op.islower() else round(calls / max(done, 1))] for op, size, calls in traffic]
    ended = name == "transport" and done < asked and b.kswgd.stop == "floor"
    return StageModel(name, t - slope * v, slope, traffic, done if ended else None)


def _seconds_a_step(config: Config) -> float:
    """Of one trajectory and one time step."""
    from kswgd_hpc import systems

    system = systems.build(config)
    stepper = system.stepper(config.ensemble.time_step, config.ensemble.scheme)
    states = system.from_fields(system.fields(np.zeros((system.dimension, 64))))
    stepper.advance(states, Noise(0, 0, 0), 0, 1)
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < 0.2:
        states = stepper.advance(states, Noise(0, 0, 0), steps, 10)
        steps += 10
    return (time.perf_counter() - began) / steps / 64


def _smaller(config: Config, size: Sizes, rate: float, factor: int) -> Config:
    """The same configuration with less of everything that can be had less of, and `factor` times that."""
    ensemble, pairs = config.ensemble, size.pairs
    every = round(pairs.interval / ensemble.time_step)
    spacing = getattr(getattr(config.koopman, "coordinates", None), "spacing", 0.0)
    history = spacing * (config.koopman.coordinates.count - 1) if spacing else 0.0
    past = pairs.lag + round(history / pairs.interval)
    trajectories = min(size.trajectories, 1024)
    while trajectories > 128 and trajectories * (past + 4 * pairs.stride) * every * rate > _STEPPING:
        trajectories //= 2
    by_time = _STEPPING / (trajectories * every * pairs.stride * rate)
    by_sums = _PRODUCTS / (trajectories * max(size.functions, 1) ** 2)
    starts = min(pairs.starts, factor * max(2, int(min(by_time, by_sums))))
    duration = min((past + (starts - 1) * pairs.stride) * pairs.interval, ensemble.duration)
    burn_in = min(size.burn_in, starts * every) * ensemble.time_step
    changed = {
        "ensemble": ensemble.model_copy(
            update={
                "trajectories": trajectories,
                "duration": duration,
                "burn_in": burn_in,
                "stride": pairs.stride * pairs.interval if pairs.lag else pairs.interval,
                "store": False,
            }
        )
    }
    if config.koopman is not None:
        changed["koopman"] = config.koopman.model_copy(update={"lag_times": "auto"})
    if config.kswgd is not None:
        few = {
            "particles": min(size.particles, factor * _PARTICLES),
            "steps": min(config.kswgd.steps, _TRANSPORT_STEPS),
            "relaxation": min(size.relaxation, factor * 10) * ensemble.time_step,
        }
        changed["kswgd"] = config.kswgd.model_copy(update=few)
    rows = []
    for row, (_, steps) in zip(config.validation.feynman_kac, size.paths, strict=True):
        paths = min(_MOST_PATHS, max(_PATHS, int(_WALKING / (max(steps, 1) * rate))))
        few = {"trajectories": min(row.trajectories, factor * paths), "times": _few(row.times, rate, ensemble)}
        rows.append(row.model_copy(update=few))
    changed["validation"] = config.validation.model_copy(update={"feynman_kac": rows})
    return config.model_copy(update=changed)


def _few(times: list[float] | None, rate: float, ensemble) -> list[float] | None:
    """The times, or the first of them where simulating them all takes more than a second."""
    if times is None:
        return None
    longest = 1.0 / (_PATHS * rate) * ensemble.time_step
    return [t for t in times if t <= longest] or times[: 1 + (times[0] == 0)]


def _run(config: Config, text: str) -> dict[str, dict]:
    """Stages of a run in this process, see `stages`."""
    from kswgd_hpc import pipeline
    from kswgd_hpc.plan import build

    with tempfile.TemporaryDirectory() as name, open(Path(name) / "said", "w") as said, redirect_stderr(said):
        directory = Path(name) / "out"
        directory.mkdir()
        output = config.output.model_copy(update={"directory": str(directory), "checkpoint": None})
        config = config.model_copy(update={"output": output})
        pipeline.run(Counted(MPI.COMM_SELF), config, text, build(config))
        return stages(event for event, _ in log.read_events(directory / log.EVENTS))


def stages(events: Iterable[dict[str, Any]]) -> dict[str, dict]:
    """Stage -> the event of its end, with its seconds, steps and messages, of the last run in a log."""
    found: dict[str, dict] = {}
    for event in events:
        if event["event"] == "start":
            found = {}
        if event["event"] == "stage end":
            found[event["stage"]] = {"traffic": [], **event}
    return found


@dataclass(frozen=True)
class Prediction:
    """Of one stage on one number of ranks: seconds of work and of messages, messages and their bytes on each rank."""

    stage: str
    work: float
    messages: float
    calls: int
    sent: int


def predict(models: list[StageModel], config: Config, ranks: int, network: Network = Network()) -> list[Prediction]:
    """Each stage of a run on some ranks."""
    size = sizes(config)
    found = []
    for model in models:
        here = config if model.steps is None else _in_steps(config, model.steps)
        model = _as_long(model, here, size)
        found.append(
            Prediction(
                model.name,
                model.seconds(here, size, ranks),
                model.messages(network, ranks),
                sum(calls for *_, calls in model.traffic),
                sum(bytes_ * calls for _, bytes_, calls in model.traffic),
            )
        )
    return found


def _in_steps(config: Config, steps: int) -> Config:
    """A configuration whose transport takes so many steps."""
    return config.model_copy(update={"kswgd": config.kswgd.model_copy(update={"steps": steps})})


def _as_long(model: StageModel, config: Config, size: Sizes) -> StageModel:
    """A model with the messages of the whole run: transport sends at each step, the judges send all particles."""
    if model.name == "transport":
        calls = [[op, b, n if op.islower() else n * config.kswgd.steps] for op, b, n in model.traffic]
        return replace(model, traffic=calls)
    if model.name == "metrics":
        whole = 8 * size.particles * size.dimension
        return replace(model, traffic=[[op, whole if op == "Allgatherv" else b, n] for op, b, n in model.traffic])
    return model


def total(predictions: list[Prediction]) -> float:
    """Seconds of a run."""
    return sum(p.work + p.messages for p in predictions)


def efficiency(models: list[StageModel], config: Config, ranks: int, network: Network = Network()) -> float:
    """T(1) / (ranks T(ranks))."""
    one, many = (total(predict(models, config, n, network)) for n in (1, ranks))
    return one / (ranks * many)
