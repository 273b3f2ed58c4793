"""The same pairs through a richer dictionary: how much of a rate the dictionary at hand leaves out.

Of functions each of which has a part of its own, such as powers or those that a user gives, no half is like the whole.
They are compared with a dictionary that also holds their products: what it changes, they lack. A mode that they lack
altogether, such as a product of slow modes of too high a degree, shows too: all rates behind it move up by one.
"""

from __future__ import annotations

from dataclasses import replace

from kswgd_hpc.dictionary import Dictionary, enrichment
from kswgd_hpc.estimators import Estimator
from kswgd_hpc.galerkin import Sums, assemble
from kswgd_hpc.records import Sample

_WORK = 6e9  # multiplications that the comparison may take; of more pairs only some are looked at
_FEWEST = 20  # pairs for each function, below which it would be of noise


def enriched(sums: Sums, estimator: Estimator) -> tuple[Sums, Sums] | None:
    """Sums of the dictionary and of a richer one over the same pairs, None where that cannot be compared. Collective.

    Weights that are functions of the dictionary's own features have no meaning for another.
    """
    rich, sample = enrichment(sums.sample.dictionary), sums.sample
    if rich is None or sample.weight is not None:
        return None
    thin = 1 + int(sums.count * _cost(sample, rich, estimator) / _WORK)
    if sums.count < thin * _FEWEST * rich.size:
        return None
    if thin > 1:
        sample = replace(sample, blocks=[block.thinned(thin) for block in sample.blocks])
        sums = assemble(sample, estimator.matrices)
    return sums, assemble(replace(sample, dictionary=rich), estimator.matrices)


def _cost(sample: Sample, rich: Dictionary, estimator: Estimator) -> float:
    """Multiplications for one pair: products of features, or derivatives where each has its own factors."""
    c = len(sample.coordinates.scale)
    if estimator.pairs:
        return rich.size * (rich.size + c)
    derivatives = c if sample.mobility is not None else c * (c + 3) // 2
    return 10 * rich.size * (rich.size + c * derivatives)
