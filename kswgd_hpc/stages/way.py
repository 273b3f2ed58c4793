"""What results say of the particles' way: distances, snapshots, decay against theory."""

from __future__ import annotations

from typing import Any

import numpy as np

from kswgd_hpc import backend, decay, metrics
from kswgd_hpc.config import Config
from kswgd_hpc.parallel import by_block, gather_blocks
from kswgd_hpc.progress import Progress
from kswgd_hpc.spectrum import Spectrum
from kswgd_hpc.stages.particles import Particles, Pool
from kswgd_hpc.storage import Rows
from kswgd_hpc.transport import History, State, floor, particle_blocks
from kswgd_hpc.visits import Visits

_OF_STEPS = ("time", "mode_means", "step_size", "displacement", "error")
HISTORY = ("steps", "time", "energy_distance")  # of a method on its way


def compared_with_ensemble(
    comm, config: Config, pool: np.ndarray, weights, particles: dict[str, np.ndarray]
) -> tuple[dict, str]:
    """Energy distance of the particles to the invariant law at each stage, and the iid floor. Collective.

    The law is that of the whole pool (n, d) with the weights (n,): a part of it may be of a part of the trajectories,
    whose share of rare transitions is another. States drawn by the weights alone tell the floor.
    """
    even = weights is None or np.ptp(weights) == 0
    drawn = pool if even else metrics.drawn(pool, weights)
    count = min(metrics.affordable(config.kswgd.particles, pool.shape[1]), len(drawn) // 2)
    if count < 2:
        return {}, "too few ensemble states to judge"
    mass = None if weights is None else weights / weights.sum()
    values = {}
    for name, rows in particles.items():
        sample = gather_blocks(comm, [metrics.local_subsample(comm, rows, count)], pool.shape[1])
        values[f"kswgd/metrics/energy_distance_{name}"] = metrics.energy_distance(comm, sample, pool, mass)
    # what independent states of one law are apart, in proportion to 1/n + 1/m for samples of n and m
    scale = (1 + count / len(drawn)) / 2
    mean, spread = (scale * value for value in metrics.iid_floor(comm, drawn, count, config.seed))
    values["kswgd/metrics/energy_distance_floor"] = mean
    values["kswgd/metrics/energy_distance_floor_deviation"] = spread
    ratio = values["kswgd/metrics/energy_distance_particles"] / mean
    return values, f"energy distance to the invariant law {ratio:.2f} times the iid floor"


def path_datasets(visits: Visits, first: Particles, config: Config, progress: Progress) -> dict[str, Any]:
    """Snapshots that were asked for, and how far the particles were from the invariant law on their way."""
    found = _snapshot_datasets(visits, first, progress) if config.kswgd.snapshots is not None else {}
    if visits.distance is not None:
        columns = (np.array(column) for column in zip(*visits.seen, strict=True))
        found |= {f"kswgd/comparison/history/{name}": column for name, column in zip(HISTORY, columns, strict=True)}
    return found


def _snapshot_datasets(snapshots: Visits, first: Particles, progress: Progress) -> dict[str, Any]:
    if len(snapshots.taken) < len(snapshots.times):
        progress.say(
            f"kswgd.snapshots: {len(snapshots.taken)} of {len(snapshots.times)} times were reached; raise kswgd.steps"
        )
    found: dict[str, Any] = {"kswgd/snapshots/times": np.array([time for time, _ in snapshots.taken])}
    shape = (len(first.states), len(snapshots.taken), first.states.shape[1])
    together = np.empty(shape)
    for index, (_time, states) in enumerate(snapshots.taken):
        together[:, index] = states
    found["kswgd/snapshots/particles"] = Rows(together.transpose(1, 0, 2), first.start, first.total, axis=1)
    return found


def flow_datasets(
    comm, first: Particles, spectrum: Spectrum, state: State, history: History, pool: Pool, progress: Progress
) -> dict[str, Any]:
    """The steps of the flow, and its decay by theory, by the modes and by the particles. Collective.

    Parameters
    ----------
    first : particles that it began with; spectrum : that moved them; state, history : of `transport.transport`
    """
    modes = history.mode_means.shape[1]
    found = {f"kswgd/history/{name}": getattr(history, name) for name in _OF_STEPS}
    found |= {
        "kswgd/density_ratio": Rows(np.exp(backend.to_host(state.log_ratio)), first.start, first.total),
        "kswgd/converged": history.converged,
        "kswgd/floor": floor(modes),
    }
    floors = decay.sampling_floor(modes, first.total)
    found |= _decay_datasets(history, floors)
    rate = decay.decay_rate(history, floors[1])
    if rate is not None:
        found["kswgd/decay/rate"] = rate.rate
        found["kswgd/decay/rate_band"] = np.array([rate.low, rate.high])
        found["kswgd/decay/window"] = np.array(rate.window)
        progress.say(
            f"resolved KL decays at the rate {rate.rate:.3f} (95 %: {rate.low:.3f} to {rate.high:.3f}) "
            f"until flow time {rate.window[1]:.3g}"
        )
    return found | (_exact_datasets(comm, first, spectrum, history, pool) if first.density is not None else {})


def _decay_datasets(history: History, floors: tuple[float, float]) -> dict[str, Any]:
    """chi^2 and KL along the flow, and at its end beside what independent draws have."""
    kl, chi2 = history.overall(history.kl), (history.mode_means**2).sum(axis=1)
    return {
        "kswgd/history/chi2": chi2,
        "kswgd/history/kl": kl,
        "kswgd/history/kl_carried": history.overall(history.kl_carried),
        "kswgd/decay/chi2_floor": floors[0],
        "kswgd/decay/kl_floor": floors[1],
        "kswgd/decay/chi2_measured": chi2[-1],
        "kswgd/decay/kl_measured": kl[-1],
    }


def _exact_datasets(comm, first: Particles, spectrum: Spectrum, history: History, pool: Pool) -> dict[str, Any]:
    """The exact law of decay of a start whose density is known, and what the modes do not see of it. Collective."""
    ratio = by_block(first.blocks, lambda x: first.density.of(x.T), first.states)
    resolved = spectrum.eigenfunctions(pool.states.T)[:, 1:].real @ history.mode_means[0]
    blocks = len(particle_blocks(first.total))
    return {
        "kswgd/history/kl_exact": decay.exact_kl(comm, history.time, ratio, first.blocks, blocks),
        "kswgd/decay/truncation_error": decay.truncation_error(first.density.of(pool.states.T), resolved, pool.weights),
        "kswgd/decay/start": first.density.source,
    }
