"""The spectra of large sparse dictionaries, in place of the stages `galerkin` and `spectrum`."""

from __future__ import annotations

from kswgd_hpc import galerkin
from kswgd_hpc.config import Config
from kswgd_hpc.estimators import ESTIMATORS, Estimator
from kswgd_hpc.heldout import Problem, resolved_modes
from kswgd_hpc.plan import Plan, estimator_for, matrices_for
from kswgd_hpc.progress import Progress
from kswgd_hpc.records import Sample
from kswgd_hpc.sparse_galerkin import sparse_space
from kswgd_hpc.sparse_spectrum import SUPPORTED, solve_sparse
from kswgd_hpc.spectrum import Space, Spectrum
from kswgd_hpc.stages.koopman import kept, lag_of
from kswgd_hpc.stationary import StationaryMeans, correct

_MOST_MODES = 24  # of which `auto` keeps those that hold


def is_sparse(config: Config, sample: Sample) -> bool:
    """Whether the spectrum is that of sparse matrices. Collective.

    So it is beyond `galerkin.REPLICATED` functions. Up to that dense matrices are faster and give the same bits on any
    number of ranks, but they fit the noise of functions with few visits: where there are any, sparse ones take over.
    """
    koopman, dictionary = config.koopman, sample.dictionary
    if not dictionary.sparse or dictionary.size > galerkin.REPLICATED:
        return dictionary.sparse
    if koopman.estimator not in SUPPORTED or koopman.reweight or koopman.vamp or koopman.sets is not None:
        return False
    return sparse_space(sample, koopman.estimator == "reversible").size < dictionary.size


def solved_sparse(config: Config, plan: Plan, sample: Sample, progress: Progress) -> tuple[Spectrum, Space]:
    """The spectrum with the modes that were asked for, or with those that hold on held-out trajectories. Collective."""
    estimator = estimator_for(config)
    with progress.stage("spectrum", 1) as stage:
        spectrum, space = _solve(config, plan, sample, estimator, matrices_for(config, plan))
        if config.koopman.modes == "auto":
            problem = Problem(
                estimator, lag_of(config), _MOST_MODES, config.koopman.regularization, _overlap(plan), None
            )
            few = space.sums.sample
            spectrum = spectrum.kept(min(len(spectrum.rates), resolved_modes(few, estimator.matrices, problem)))
        stage.note = f"{spectrum.dictionary.visited.size} functions visited; {kept(config, spectrum)}"
    return spectrum, space


def sparse_transport_spectrum(config: Config, plan: Plan, sample: Sample) -> tuple[Spectrum, StationaryMeans | None]:
    """See `stages.koopman.transport_spectrum`. Collective."""
    names = ("c0", "form", *(("flux",) if plan.system is not None else ()))
    spectrum, space = _solve(config, plan, sample, ESTIMATORS["dirichlet"], names)
    return spectrum, correct(space, spectrum) if "flux" in names else None


def _solve(config: Config, plan: Plan, sample: Sample, estimator: Estimator, names) -> tuple[Spectrum, Space]:
    koopman = config.koopman
    modes = _MOST_MODES if koopman.modes == "auto" else koopman.modes
    return solve_sparse(sample, estimator, lag_of(config), modes, names, _overlap(plan), koopman.petsc_options)


def _overlap(plan: Plan) -> float:
    pairs = plan.ensemble.pairing
    return pairs.stride / max(pairs.lag, 1)
