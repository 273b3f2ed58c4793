"""The counter-based normals: known answers, addressing, law and independence."""

import numpy as np
import pytest
from scipy import stats

from spde.random import _philox, normals, uniforms


def draw(d, batch, seed=1, stream=2, first=0, step=0):
    return normals(np.empty((d, batch)), seed, stream, first, step)


def words(counter, key=(0, 0)):
    arguments = [np.uint64(word) for word in (*counter, *key)]
    return tuple(int(word) for word in _philox(*arguments))


def largest_score(a, b):
    """Largest |correlation| of a, b and of their squares, in standard errors; pairs along the last axis."""
    scores = []
    for x, y in ((a, b), (a**2, b**2), (a, b**2), (a**2, b)):
        x, y = x - x.mean(), y - y.mean()
        product = (x * y).ravel()
        scores.append(abs(product.mean()) / (product.std() / np.sqrt(product.size)))
    return max(scores)


ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, answer):
    assert words(counter, key) == answer


def test_normals_are_the_box_muller_transform_of_the_philox_words():
    seed, stream, first, step = 0x0123456789ABCDEF, 77, 12345, 3 * 2**32 + 9
    drawn = draw(8, 5, seed, stream, first, step)
    for quad in range(2):
        for b in range(5):
            counter = (quad, step % 2**32, first + b, (step >> 32 << 20) | stream)
            bits = np.array(words(counter, (seed & ONES, seed >> 32)), dtype=float)
            radius = np.sqrt(-2 * np.log((bits[0::2] + 0.5) / 2**32))
            # the angle is turned by a quarter of a circle, which no law notices
            angle = 2 * np.pi * bits[1::2] / 2**32 - np.pi / 2
            expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
            np.testing.assert_allclose(drawn[4 * quad : 4 * quad + 4, b], expected, rtol=0, atol=1e-11)


def test_numbers_do_not_depend_on_the_batching():
    whole = draw(7, 8, first=0, step=5)
    np.testing.assert_array_equal(whole[:, :4], draw(7, 4, first=0, step=5))
    np.testing.assert_array_equal(whole[:, 4:], draw(7, 4, first=4, step=5))
    for b in range(8):
        np.testing.assert_array_equal(whole[:, b : b + 1], draw(7, 1, first=b, step=5))


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6, 7, 33])
def test_leading_components_do_not_depend_on_the_dimension(d):
    np.testing.assert_array_equal(draw(d, 6), draw(40, 6)[:d])


def test_numbers_do_not_depend_on_earlier_draws_or_on_the_array():
    once = draw(6, 6, step=3)
    draw(6, 6, step=2)
    out = np.full((6, 6), np.nan)
    assert normals(out, 1, 2, 0, 3) is out
    np.testing.assert_array_equal(out, once)


def test_uniforms_do_not_depend_on_batching_or_dimension():
    whole = uniforms(np.empty((9, 8)), 1, 2, 0, 5)
    np.testing.assert_array_equal(whole[:4, 4:], uniforms(np.empty((4, 4)), 1, 2, 4, 5))


def test_every_coordinate_of_the_address_changes_every_number():
    base = {"seed": 1, "stream": 2, "first": 0, "step": 3}
    other = [
        {"seed": 2},
        {"seed": 1 + 2**32},
        {"stream": 3},
        {"stream": 2 + 2**19},
        {"first": 1000},
        {"step": 4},
        {"step": 3 + 2**31},
        {"step": 3 + 2**32},
        {"step": 3 + 2**33},
        {"step": 3 + 2**43},
        {"seed": 3, "stream": 1},
    ]
    draws = [draw(16, 16, **base)] + [draw(16, 16, **{**base, **change}) for change in other]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert not np.isin(a, b).any()


@pytest.mark.parametrize("order", range(1, 9))
def test_moments_are_those_of_a_standard_normal(order):
    sample = draw(1000, 1000, seed=11)
    exact = float(stats.norm.moment(order))
    error = np.sqrt((float(stats.norm.moment(2 * order)) - exact**2) / sample.size)
    assert abs((sample**order).mean() - exact) < 3.5 * error


def test_normals_and_uniforms_pass_kolmogorov_smirnov():
    assert stats.kstest(draw(400, 500, seed=12).ravel(), "norm").pvalue > 0.01
    flat = uniforms(np.empty((400, 500)), 12, 2, 0, 0).ravel()
    assert stats.kstest(flat, "uniform").pvalue > 0.01
    assert flat.min() > 0 and flat.max() < 1


def test_each_component_has_unit_variance():
    sample = draw(64, 20000, seed=13)
    scores = (sample.var(axis=1) - 1) / np.sqrt(2 / sample.shape[1])
    assert np.abs(scores).max() < 4
    assert 0.7 < scores.std() < 1.3


def test_trajectories_are_independent():
    sample = draw(400, 501, seed=14)
    for lag in (1, 2, 4, 250):
        assert largest_score(sample[:, :-lag], sample[:, lag:]) < 4.5


def test_components_are_independent():
    sample = draw(401, 500, seed=15)
    for lag in (1, 2, 3, 4, 200):
        assert largest_score(sample[:-lag], sample[lag:]) < 4.5
    # the two normals of one Box-Muller pair, and the two pairs of one Philox block, by themselves
    quads = sample[:400].reshape(100, 4, 500)
    for i in range(4):
        for j in range(i):
            assert largest_score(quads[:, i], quads[:, j]) < 4.5


def test_steps_are_independent():
    sample = np.array([draw(20, 100, seed=16, step=step) for step in range(101)])
    for lag in (1, 2, 50):
        assert largest_score(sample[:-lag], sample[lag:]) < 4.5


@pytest.mark.parametrize(
    "change", [{"stream": 3}, {"seed": 18}, {"seed": 17 + 2**32}, {"step": 2**32}, {"step": 2**40}]
)
def test_streams_seeds_and_far_steps_are_independent(change):
    a = draw(400, 500, **{"seed": 17, **change})
    assert largest_score(draw(400, 500, seed=17), a) < 4.5
