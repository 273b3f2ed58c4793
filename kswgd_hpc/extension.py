"""What a run can be made of an older one: longer, or with more particles, in the bits of a run from the beginning."""

from __future__ import annotations

from typing import Any

from kswgd_hpc.config import Config
from kswgd_hpc.plan import Plan, build, weighed_by
from kswgd_hpc.recorder import Recorder
from kswgd_hpc.stages.koopman import restart_count

JUDGED = 4096  # states kept to judge by where there are no particles


def recorder_for(config: Config, plan: Plan, lasting: bool) -> Recorder:
    """What a run keeps of its trajectories; more of them where it may be extended."""
    particles = config.kswgd.particles if config.kswgd is not None else JUDGED
    restarts, weighed = restart_count(config, plan), weighed_by(config) is not None
    return Recorder.for_run(plan.ensemble, particles, config.ensemble.store, restarts, weighed, lasting, plan.start)


def obstacle(saved: dict[str, Any], config: Config, plan: Plan) -> str:
    """Why a run cannot go on from the ensemble of a saved configuration that differs in what may differ; empty where
    it can."""
    if plan.system is None:
        return ""  # data are read again
    old = Config.model_validate(saved)
    if _starts(old) != _starts(config):
        return "the states that kswgd.initial: ensemble starts from are kept as they go by; start from the beginning"
    if (old.ensemble.duration, _particles(old)) == (config.ensemble.duration, _particles(config)):
        return ""
    if config.ensemble.duration < old.ensemble.duration:
        return f"ensemble.duration is less than the {old.ensemble.duration:g} that has been simulated"
    lasting = old.output.checkpoint is not None
    before, after = build(old), plan
    pairs, longer = before.ensemble.pairing, after.ensemble.pairing
    if (pairs.interval, pairs.lag, pairs.stride) != (longer.interval, longer.lag, longer.stride):
        return "another ensemble.duration records states at other times; give ensemble.stride"
    if before.ensemble.blocks != after.ensemble.blocks:
        return "another ensemble.duration divides the trajectories into other blocks; start from the beginning"
    if getattr(before.ensemble, "pilot_times", None) != getattr(after.ensemble, "pilot_times", None):
        return "without ensemble.burn_in the dictionary depends on ensemble.duration; start from the beginning"
    dictionary = config.koopman.dictionary if config.koopman is not None else None
    delayed = config.koopman is not None and config.koopman.coordinates.kind == "delay"
    if pairs.records != longer.records and (delayed or getattr(dictionary, "bandwidth", "") == "cross_validated"):
        return "delay coordinates and a cross-validated bandwidth depend on ensemble.duration; start from the beginning"
    kept, wanted = recorder_for(old, before, lasting), recorder_for(config, after, True)
    if not wanted.sampled.extends(kept.kept, pairs.records):
        return "states for more particles are kept where output.checkpoint is given; start from the beginning"
    if wanted.restarted is not None and not wanted.restarted.extends(kept.restarted, pairs.records):
        return "states to restart from were not kept for this ensemble.duration; start from the beginning"
    return ""


def _starts(config: Config) -> tuple | None:
    """What the states that particles start from depend on, where those are states of the ensemble."""
    if config.kswgd is None or config.kswgd.initial.kind != "ensemble":
        return None
    return config.kswgd.initial, config.kswgd.particles, config.ensemble.duration


def _from_ensemble(config: Config):
    """What decides on the states that particles start from, where these are states of the ensemble."""
    spec = config.kswgd
    return (spec.particles, spec.initial) if spec is not None and spec.initial.kind == "ensemble" else None


def _particles(config: Config) -> int | None:
    return None if config.kswgd is None else config.kswgd.particles
