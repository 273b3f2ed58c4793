"""Floating point operations of a run's large stages."""

from __future__ import annotations

from kswgd_hpc.config import Config
from kswgd_hpc.sizes import Sizes

_STEP = 60  # a normal number, two linear updates and the nonlinearity of one component, with Heun's second stage
_FUNCTION = 20  # an exponential


def flops(config: Config, size: Sizes) -> dict[str, float]:
    """Stage -> floating point operations over all ranks; counted by hand, right to a factor of two."""
    d, c, p = map(float, (size.dimension, size.coordinates, size.functions))
    found = {"ensemble": _STEP * d * size.trajectories * (size.burn_in + size.steps)}
    if config.koopman is not None:
        pairs = float(size.trajectories) * size.pairs.starts
        symmetric = config.koopman.estimator in ("reversible", "dirichlet")
        moved = config.kswgd is not None
        products = (2 * p**2 if symmetric else 4 * p**2) + (p**2 * (c + 2) if moved else 0)
        found["galerkin"] = pairs * (products + 2 * p * (3 * c + _FUNCTION))
        found["spectrum"] = (25.0 if symmetric else 60.0) * p**3 * (1 + moved)
    if config.kswgd is not None:
        found["transport"] = float(size.particles) * config.kswgd.steps * p * (6 * c + _FUNCTION)
    if size.paths:
        found["validation"] = _STEP * d * sum(float(paths) * steps for paths, steps in size.paths)
    return found
