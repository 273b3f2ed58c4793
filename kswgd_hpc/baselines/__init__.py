"""Rivals of the transport, one a file: each moves the same particles from the same start to the same law.

A rival is a module with `move(task, y) -> y` and NEEDS, what of a system it cannot do without: `dynamics` to step,
the `density` of the invariant law, the exact `spectrum` of the generator, `data` (states of the ensemble, which every
run has), `flat` (a state space that is no manifold). Particles are in blocks on all ranks, pairs of them in tiles that
go round (`ring`), and every rival gives the same bits on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from kswgd_hpc.baselines import dmps, kde_langevin, langevin, lawgd, mala, mmd_flow, pcn, svgd
from spde.density import invariant_density
from spde.errors import SpdeError
from spde.manifolds import ManifoldDiffusion
from spde.spectra import exact_spectrum

RIVALS: dict[str, ModuleType] = {
    "langevin": langevin,
    "mala": mala,
    "pcn": pcn,
    "svgd": svgd,
    "lawgd": lawgd,
    "dmps": dmps,
    "mmd_flow": mmd_flow,
    "kde_langevin": kde_langevin,
}


def lacking(name: str, system) -> str | None:
    """Why a rival cannot be had for a system (None for recorded data), or None where it can."""
    for need in RIVALS[name].NEEDS:
        reason = _LACKS[need](system)
        if reason is not None:
            return reason
    return None


def _without_dynamics(system) -> str | None:
    return "it needs dynamics, which recorded data do not have" if system is None else None


def _without_density(system) -> str | None:
    return _known(invariant_density, system, "density of the invariant law")


def _without_spectrum(system) -> str | None:
    return _known(lambda system: exact_spectrum(system, 1), system, "exact spectrum of the generator")


def _known(find: Callable, system, what: str) -> str | None:
    if system is None:
        return f"it needs the {what}, which is not known for recorded data"
    try:
        find(system)
    except SpdeError as error:
        return f"it needs the {what}: {error}"
    return None


def _curved(system) -> str | None:
    return "its proposals leave the manifold" if isinstance(system, ManifoldDiffusion) else None


_LACKS: dict[str, Callable] = {
    "dynamics": _without_dynamics,
    "density": _without_density,
    "spectrum": _without_spectrum,
    "data": lambda _system: None,
    "flat": _curved,
}
