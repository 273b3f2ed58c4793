"""Standard errors from groups: two of them cover 95 %, for few groups, for complex and for skew numbers."""

import numpy as np
import pytest

from kswgd_hpc.statistics import standard_error

SAMPLES = 20_000


def covered(groups: np.ndarray) -> float:
    """Fraction of samples (groups, samples) of mean zero whose sum lies within two printed errors of zero."""
    errors = standard_error(groups - groups.mean(axis=0))
    return float((np.abs(groups.sum(axis=0)) < 2 * errors).mean())


def normals(groups: int) -> np.ndarray:
    return np.random.default_rng(groups).normal(size=(2, groups, SAMPLES))


@pytest.mark.parametrize("groups", [4, 16, 64])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_two_errors_cover_95_percent_of_normal_numbers_on_the_line_and_in_the_plane(groups, ratio):
    first, second = normals(groups)
    # a factor 1.2 too small would be 90 %, too large 98 %; chance moves this by 0.15 %
    assert 0.945 < covered(first + 1j * ratio * second) < (0.975 if groups > 4 else 0.99)


def test_real_numbers_have_the_same_errors_with_a_complex_type():
    deviations = normals(16)[0] - normals(16)[0].mean(axis=0)
    np.testing.assert_allclose(standard_error(deviations + 0j), standard_error(deviations), rtol=1e-12)


def test_two_errors_cover_skew_numbers_nearly_as_well():
    groups = np.random.default_rng(0).gamma(0.5, size=(64, SAMPLES)) - 0.5
    plain = 2 * np.sqrt(64 / 63 * ((groups - groups.mean(axis=0)) ** 2).sum(axis=0))
    assert (np.abs(groups.sum(axis=0)) < plain).mean() < 0.94
    assert 0.95 < covered(groups) < 0.975


def test_errors_of_many_normal_groups_are_their_spread():
    groups = normals(1024)[0][:, :200]
    errors = standard_error(groups - groups.mean(axis=0))
    assert np.mean(errors) == pytest.approx(32.0, rel=0.02)


def test_one_group_has_no_error_and_equal_groups_have_none_to_tell():
    assert np.isnan(standard_error(np.zeros((1, 3)))).all()
    assert (standard_error(np.zeros((16, 3))) == 0).all()
