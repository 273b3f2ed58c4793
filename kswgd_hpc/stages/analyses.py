"""Timescales against lag, transitions between sets, singular values."""

from __future__ import annotations

from typing import Any

import numpy as np

from kswgd_hpc import analysis
from kswgd_hpc.config import Config
from kswgd_hpc.heldout import vamp
from kswgd_hpc.kinetics import ChapmanKolmogorov
from kswgd_hpc.plan import (
    Plan,
    estimator_for,
    most_modes,
)
from kswgd_hpc.progress import Progress
from kswgd_hpc.spectrum import Space, Spectrum

_NOTICED = 0.02  # share of transitions that pass unseen between records, from which on it is said


def analyses(
    config: Config, plan: Plan, spectrum: Spectrum, space: Space, states: np.ndarray, progress: Progress
) -> dict[str, Any]:
    """Timescales against lag, and transitions between sets, where there are consecutive pairs. Collective."""
    pairing, wanted, found = plan.ensemble.pairing, config.koopman.lag_times, {}
    if config.koopman.vamp:
        with progress.stage("singular values", 1) as stage:
            count = most_modes(config, space.sums.size) - 1
            result = vamp(space.sums.sample, count, config.koopman.regularization)
            if result.held_out:
                score, error = result.held_out["vampe"]
                stage.note = (
                    f"VAMP-E score {result.own['vampe']:.4g}, on held-out trajectories {score:.4g} +- {error:.2g}"
                )
        found |= result.datasets()
    if not pairing.consecutive:
        return found
    with progress.stage("timescales", 1) as stage:
        reversible = config.koopman.estimator == "reversible"
        both = analysis.timescales(spectrum, space, pairing, reversible, None if wanted == "auto" else wanted)
        if both is not None:
            for name, result in zip(("implied_timescales", "chapman_kolmogorov"), both):
                found |= {f"koopman/{name}/{key}": value for key, value in vars(result).items()}
            stage.note = _furthest(both[1])
    if plan.label is None:
        return found
    with progress.stage("transitions", 1) as stage:
        committors = analysis.committors(space, estimator_for(config), pairing)
        psi = space.sums.sample.dictionary.values(space.sums.sample.coordinates.of_rows(states))
        found |= committors.datasets() | {"koopman/committor/sample": committors.committor(psi, plan.label(states.T))}
    for way in ("ab", "ba"):
        rate, error = getattr(committors.transitions, f"rate_{way}"), committors.transitions.errors[f"rate_{way}"]
        time, spread = (
            getattr(committors.transitions, f"passage_{way}"),
            committors.transitions.errors[f"passage_{way}"],
        )
        name = f"{way[0].upper()} -> {way[1].upper()}"
        progress.say(f"  {name}: rate {rate:.4g} +- {error:.2g}, mean first passage time {time:.4g} +- {spread:.2g}")
    if committors.counts is not None and committors.counts.unseen > _NOTICED:
        progress.say(
            f"  for sets watched at all times, not only every {committors.interval:.3g}, rates are about "
            f"{100 * committors.counts.unseen:.0f} % higher; a shorter ensemble.stride sees more"
        )
    return found


def _furthest(test: ChapmanKolmogorov) -> str:
    """The largest difference of the Chapman-Kolmogorov test in its standard errors."""
    known = np.isfinite(test.error) & (test.error > 0) & (test.lag_times > test.lag_times[0])[:, None]
    if not known.any():
        return ""
    far = (np.abs(test.estimated - test.predicted)[known] / test.error[known]).max()
    return f"Chapman-Kolmogorov: largest difference {far:.1f} standard errors"
