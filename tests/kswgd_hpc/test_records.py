from __future__ import annotations

import numpy as np
import pytest
from support import SMALL, sums

from kswgd_hpc.estimators import ESTIMATORS
from kswgd_hpc.spectrum import solve


@pytest.mark.parametrize("lags", [0.2, 1, 2, 3])
def test_every_pair_is_a_lag_apart_and_in_one_group_whatever_the_stride(lags):
    """Three trajectories, so that each is cut into six stretches of time, with strides below and beyond the lag."""
    text = SMALL.replace("trajectories: 100", "trajectories: 3").replace("  sets:", "  # sets:")
    text = text.replace("lag_time: 0.5", f"lag_time: 0.5\n  stride: {0.5 * lags:g}").replace(
        "duration: 20", "duration: 40"
    )
    _config, plan, means = sums(text)
    sample, pairing = means.sample, plan.ensemble.pairing
    assert plan.ensemble.segments == 6
    assert means.count == 3 * pairing.starts
    scale, centre = sample.coordinates.scale[0], sample.coordinates.mean[0]
    for block in sample.blocks:
        # the first coordinate is the integral of u over the length, in units of the constant mode
        at_start = (block.z[block.x, :, 0] * scale + centre) / np.sqrt(2.5)
        np.testing.assert_allclose(block.values["f:mean(u)"], at_start, atol=1e-12)
        assert len(block.x) == len(block.y) == len(block.group) == pairing.starts
        assert (np.diff(block.group) >= 0).all()
    groups = np.concatenate([block.group for block in sample.blocks])
    np.testing.assert_array_equal(np.unique(groups), np.arange(18))
    spectrum, _ = solve(means, ESTIMATORS["reversible"], 0.5, 4, 1e-9)
    assert np.isfinite(spectrum.rates_error).all()


def test_the_two_ends_of_pairs_are_records_a_lag_apart():
    """Against all records of the same trajectories, for a stride of two lags."""
    text = SMALL.replace("trajectories: 100", "trajectories: 3").replace("  sets:", "  # sets:")
    ends = {}
    for stride in ("0.5", "1"):
        sample = sums(text.replace("lag_time: 0.5", f"lag_time: 0.5\n  stride: {stride}"))[2].sample
        c = sample.coordinates
        ends[stride] = [[b.z[i] * c.scale + c.mean for i in (b.x, b.y)] for b in sample.blocks]
    for every, second in zip(ends["0.5"], ends["1"], strict=True):
        for all_ends, some in zip(every, second, strict=True):
            np.testing.assert_allclose(some, all_ends[::2], atol=1e-9)
