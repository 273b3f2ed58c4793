"""Judged by trajectories that they were not fitted to: how many modes the data resolve, and VAMP scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kswgd_hpc.errors import SpectrumError
from kswgd_hpc.estimators import Estimator, weighted_sum
from kswgd_hpc.galerkin import Sums, assemble, group_sums
from kswgd_hpc.records import Pairs, Sample
from kswgd_hpc.spectrum import Spectrum, fit
from kswgd_hpc.statistics import standard_error
from kswgd_hpc.vamp import Covariances, SingularFunctions, scores, singular_functions

_FOLDS = 5
_AGREEMENT = 0.1
_NORMS = (0.5, 2.0)
_SHARED = 0.75


@dataclass(frozen=True)
class Problem:
    """What is solved: the arguments of `spectrum.solve`, with as many modes as may be kept at most."""

    estimator: Estimator
    lag_time: float
    modes: int
    regularization: float
    overlap: float
    options: dict | None


def fold(sample: Sample, number: int, folds: int, held: bool) -> Sample:
    """The blocks of one part of a sample, or all others; neighbouring blocks are in different parts."""
    per_block = max(1, sample.groups // sample.terms)
    part = [block for block in sample.blocks if len(block.group) and _part(block, per_block, folds, number) is held]
    return replace(sample, blocks=part)


def _part(block, per_block: int, folds: int, number: int) -> bool:
    return int(block.group[0]) // per_block % folds == number


def resolved_modes(spectrum: Spectrum, sums: Sums, names: tuple[str, ...], problem: Problem) -> int:
    """Number of modes, the constant one included, that hold on held-out trajectories. Collective.

    The problem is solved on either half of the trajectories. A mode of a half holds when it stands above the noise, and
    when on the other half its function has between half and twice its norm, and a rate that agrees within 10 % and
    three standard errors with what is to be expected: mu - c / mu where fitting the noise has raised mu to mu + c / mu,
    see `spectrum._less_optimistic`. A mode of the whole sample holds when both halves have it: when three quarters of
    its variance lie in the span of the modes that hold there. So a spurious mode of a half alone, as a few visits to an
    outlying function make, costs none of those behind it. Modes are kept up to the first that does not hold; of a
    complex pair both or none.

    Parameters
    ----------
    spectrum : of the whole sample; sums : that it is of
    names : of the matrices of the problem; problem : what is solved
    """
    sample = replace(sums.sample, values=())
    if sample.terms < 4:
        return len(spectrum.rates)
    coefficients = spectrum.coefficients[:, 1:]
    holds = np.ones(coefficients.shape[1], dtype=bool)
    for half in (0, 1):
        found = _holding(fold(sample, half, 2, False), fold(sample, half, 2, True), names, problem)
        holds &= _shared(sums, coefficients, found) >= _SHARED
    holds = _whole_pairs(holds, spectrum.rates[1:])
    return 1 + int(np.argmin(np.append(holds, False)))


def _shared(sums: Sums, functions: np.ndarray, span: np.ndarray) -> np.ndarray:
    """(k,) fraction of the variance of functions (p, k) that lies in the span of others, (p, g). Collective."""
    if not span.shape[1]:
        return np.zeros(functions.shape[1])
    parts = np.concatenate([span.real, span.imag, functions.real, functions.imag], axis=1)

    def products() -> np.ndarray:
        return parts.T @ sums.gram().times(parts)

    working = sums.replicated or sums.owners is not None
    gram = sums.comm.bcast(products() if working else None)
    g, k = 2 * span.shape[1], functions.shape[1]
    inside = gram[:g, g:].T @ np.linalg.pinv(gram[:g, :g], rcond=1e-9, hermitian=True) @ gram[:g, g:]
    # of a complex function the real and the imaginary part together
    kept, whole = (np.diagonal(form).reshape(2, k).sum(axis=0) for form in (inside, gram[g:, g:]))
    return kept / whole


def _holding(train: Sample, test: Sample, names: tuple[str, ...], problem: Problem) -> np.ndarray:
    """(p, g) coefficients of the modes of one half that hold on the other, the constant one not among them."""
    sums = assemble(train, names)
    found, estimator = fit(sums, **vars(problem))[0], problem.estimator
    influence = estimator.influence(sums, found.fitted, found.right, found.left)
    offsets = estimator.offsets(sums, found.fitted, found.right)

    def compared(pairs: Pairs) -> np.ndarray:
        square = np.abs(offsets + pairs.x @ found.right) ** 2  # asks for the features, so that all is precise
        return weighted_sum(np.concatenate([influence(pairs), square], axis=1), pairs.weight)

    k = len(found.fitted)
    shares, weight = group_sums(test, compared, 2 * k)
    total = weight.sum()
    change, norm = (shares[:, :k].sum(axis=0) / total, shares[:, k:].real.sum(axis=0) / total)
    change = change / norm
    spread = standard_error((shares[:, :k] - change * shares[:, k:].real) / (norm * total))
    after = found.fitted + (change if np.iscomplexobj(found.fitted) else change.real)
    expected = 2 * found.values - found.fitted
    with np.errstate(divide="ignore", invalid="ignore"):
        before, after = (estimator.rates(values, problem.lag_time) for values in (expected, after))
        error = estimator.rate_errors(expected, spread, problem.lag_time)
        agrees = np.abs(after - before) <= 3 * error + _AGREEMENT * np.abs(before)
    good = found.resolved & agrees & (norm > _NORMS[0]) & (norm < _NORMS[1])
    return found.right[:, _whole_pairs(good, before)]


def _whole_pairs(good: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """A complex pair holds where both do."""
    good = good.copy()
    for k in range(len(rates) - 1):
        if abs(rates[k].imag) > 1e-9 * abs(rates[k]) and np.isclose(rates[k], np.conj(rates[k + 1])):
            good[k] = good[k + 1] = good[k] and good[k + 1]
    return good


@dataclass(frozen=True)
class Vamp:
    """Singular functions with errors, and their scores.

    functions : without the constant one; errors : (r,) standard errors of the singular values
    own : scores on the sample itself; held_out : name -> (mean over folds, standard error), empty for too few blocks
    """

    functions: SingularFunctions
    errors: np.ndarray
    own: dict[str, float]
    held_out: dict[str, tuple[float, float]]

    def datasets(self) -> dict:
        """What the results keep, the constant function first."""
        found, f = {}, self.functions
        for side in ("left", "right"):
            coefficients, offsets = getattr(f, side), getattr(f, f"{side}_offsets")
            found[f"{side}_coefficients"] = np.concatenate([np.zeros((len(coefficients), 1)), coefficients], axis=1)
            found[f"{side}_offsets"] = np.append(1.0, offsets)
        found |= {f"score_{name}": value for name, value in self.own.items()}
        for name, (value, error) in self.held_out.items():
            found |= {f"held_out_{name}": value, f"held_out_{name}_error": error}
        return {
            "koopman/singular_values": np.append(1.0, f.values),
            "koopman/singular_values_error": np.append(0.0, self.errors),
            **{f"koopman/vamp/{name}": value for name, value in found.items()},
        }


def vamp(sample: Sample, count: int, regularization: float) -> Vamp:
    """Singular functions between the laws of the two ends of the pairs, under no weights. Collective.

    Parameters
    ----------
    count : singular functions wanted, the constant one not counted
    regularization : relative cut of the Gram matrices
    """
    sample = replace(sample, pairs=True, values=(), weight=None)
    whole = _covariances(sample)
    found = sample.comm.bcast(singular_functions(whole, count, regularization))
    shares, _count = group_sums(sample, lambda pairs: found.influence(pairs.x, pairs.y).sum(axis=0), len(found.values))
    held_out = {}
    if sample.terms >= 2 * _FOLDS:
        judged = []
        for number in range(_FOLDS):
            held = _covariances(fold(sample, number, _FOLDS, True))
            judged.append(scores(singular_functions(whole - held, count, regularization), held))
        for name in judged[0]:
            values = np.array([score[name] for score in judged])
            held_out[name] = (float(values.mean()), float(values.std(ddof=1) / np.sqrt(_FOLDS)))
    own = scores(found, whole)
    return Vamp(found, standard_error(shares / whole.weight), *sample.comm.bcast((own, held_out)))


def _covariances(sample: Sample) -> Covariances:
    sums = assemble(sample, ("c0", "c1", "l0"))
    if not sums.replicated:
        raise SpectrumError(f"koopman.vamp: {sums.size} functions are too many for singular functions")
    matrices = (sums.matrices[name] * sums.count for name in ("c0", "c1", "l0"))
    return Covariances(sums.count, sums.vectors["x"] * sums.count, sums.vectors["y"] * sums.count, *matrices)
