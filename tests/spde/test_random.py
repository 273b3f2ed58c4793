"""The counter-based normals: known answers, addressing, law and independence."""

import numpy as np
import pytest
from numba import njit
from scipy import stats
from scipy.special import ndtr

from spde.errors import SpdeError
from spde.random import _pair, _philox, fill_normals, fill_quad, key_words, normals, uniforms

ONES = 0xFFFFFFFF
AXES = ("trajectories", "components", "steps")


def draw(d, batch, seed=1, stream=2, first=0, step=0):
    return normals(np.empty((d, batch)), seed, stream, first, step)


def words(counter, key=(0, 0)):
    arguments = [np.uint64(word) for word in (*counter, *key)]
    return tuple(int(word) for word in _philox(*arguments))


def along(axis, count, samples, seed):
    """(count, samples) normals, the rows `count` different trajectories, components or steps."""
    if axis == "components":
        return draw(count, samples, seed)
    if axis == "trajectories":
        return draw(samples, count, seed).T
    return np.stack([draw(samples // 1000, 1000, seed, step=step).ravel() for step in range(count)])


def largest_score(a, b):
    """Largest |correlation| of a, b and of their squares, in standard errors; pairs along the last axis."""
    scores = []
    for x, y in ((a, b), (a**2, b**2), (a, b**2), (a**2, b)):
        x, y = x - x.mean(), y - y.mean()
        product = (x * y).ravel()
        scores.append(abs(product.mean()) / (product.std() / np.sqrt(product.size)))
    return max(scores)


@pytest.fixture(scope="module")
def ten_million():
    return draw(2500, 4000, seed=11).ravel()


@pytest.fixture(scope="module")
def ten_million_uniforms(ten_million):
    return ndtr(ten_million)


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


def test_the_transform_is_exact_to_a_hundredth_of_the_lattice_of_its_uniforms():
    edges = [0, 1, 2, 2**30, 2**31 - 1, 2**31, 2**31 + 1, 3 * 2**30, 2**32 - 2, 2**32 - 1]
    powers = [2**k + shift for k in range(2, 32) for shift in (-1, 0)]
    random = np.random.default_rng(3).integers(0, 2**32, 40).tolist()
    for first in edges + powers + random:
        uniform = (first + 0.5) / 2**32
        radius = np.sqrt(-2 * (np.log(uniform) if uniform < 0.5 else np.log1p((first + 0.5 - 2**32) / 2**32)))
        step = 2.0**-32 / (uniform * radius)  # of the radius, from one uniform to the next
        for second in edges + random[:10]:
            angle = np.longdouble(second) / 2**32 * 2 * np.longdouble(np.pi) - np.longdouble(np.pi) / 2
            exact = radius * np.array([np.cos(angle), np.sin(angle)], dtype=float)
            found = np.array(_pair(np.uint64(first), np.uint64(second)))
            assert np.abs(found - exact).max() < 0.01 * (step + 2 * np.pi * radius / 2**32)


def test_numbers_do_not_depend_on_the_batching():
    whole = draw(7, 8, first=0, step=5)
    np.testing.assert_array_equal(whole[:, :4], draw(7, 4, first=0, step=5))
    np.testing.assert_array_equal(whole[:, 4:], draw(7, 4, first=4, step=5))
    for b in range(8):
        np.testing.assert_array_equal(whole[:, b : b + 1], draw(7, 1, first=b, step=5))


@pytest.mark.parametrize("d", [3, 8])
def test_numbers_do_not_depend_on_odd_widths_and_offsets(d):
    whole = draw(d, 300, step=6)
    for width in (*range(1, 36), 63, 64, 65, 127, 129, 255):
        for first in (0, 1, 300 - width):
            np.testing.assert_array_equal(draw(d, width, first=first, step=6), whole[:, first : first + width])


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6, 7, 33])
def test_leading_components_do_not_depend_on_the_dimension(d):
    np.testing.assert_array_equal(draw(d, 6), draw(40, 6)[:d])


def test_kernels_draw_the_same_numbers_as_normals():
    seed, stream, first, step = 2**63 + 5, 2**20 - 1, 2**32 - 77, 2**44 - 1
    expected = draw(11, 77, seed, stream, first, step)

    @njit
    def kernel(buffer, out, k0, k1):
        fill_normals(out, k0, k1, stream, first, step)
        for quad in range(3):
            fill_quad(buffer[4 * quad : 4 * quad + 4], k0, k1, stream, first, step, quad)

    buffer, out = np.empty((12, 77)), np.empty((11, 77))
    kernel(buffer, out, *key_words(seed))
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(buffer[:11], expected)


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


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("seed", {"seed": 2**64}),
        ("seed", {"seed": -1}),
        ("stream", {"stream": 2**20}),
        ("last trajectory", {"first": 2**32 - 1}),
        ("step", {"step": 2**44}),
    ],
)
def test_an_address_without_numbers_of_its_own_is_refused(name, address):
    with pytest.raises(SpdeError, match=name):
        draw(1, 2, **address)


@pytest.mark.parametrize("order", range(1, 9))
def test_moments_are_those_of_a_standard_normal(ten_million, order):
    exact = float(stats.norm.moment(order))
    error = np.sqrt((float(stats.norm.moment(2 * order)) - exact**2) / ten_million.size)
    power = ten_million.copy()
    for _ in range(order - 1):
        power *= ten_million
    assert abs(power.mean() - exact) < 3.5 * error


def test_normals_fill_cells_of_equal_probability_equally(ten_million_uniforms):
    counts = np.bincount((ten_million_uniforms * 1000).astype(np.int64), minlength=1000)
    assert 0.005 < stats.chisquare(counts).pvalue < 0.995


def test_normals_and_uniforms_pass_kolmogorov_smirnov(ten_million_uniforms):
    for sample in (ten_million_uniforms, uniforms(np.empty((1000, 1000)), 12, 2, 0, 0).ravel()):
        assert sample.min() > 0 and sample.max() < 1
        ordered, n = np.sort(sample), sample.size
        distance = np.abs(ordered - (np.arange(n) + 0.5) / n).max() + 0.5 / n
        assert 0.005 < stats.kstwobign.sf(np.sqrt(n) * distance) < 0.995


def test_tails_have_the_probability_of_the_normal_law_up_to_five_deviations():
    batches = [draw(1000, 4000, seed=19, step=step).ravel() for step in range(20)]
    n = sum(batch.size for batch in batches)
    for side in (-1, 1):
        far = np.concatenate([side * batch[side * batch > 2.5] for batch in batches])
        for threshold in (2.5, 3.0, 3.5, 4.0, 4.5, 5.0):
            count, probability = int((far > threshold).sum()), stats.norm.sf(threshold)
            assert stats.binomtest(count, n, probability).pvalue > 0.002, threshold


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


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_all_pairs_and_powers_are_uncorrelated(axis, order):
    """Every covariance of He_order(x_i) and He_order(x_j), i < j, is normal about 0 with error order! / sqrt(n)."""
    count, n = 64, 20000
    x = along(axis, count, n, seed=21)
    hermite = (x, x**2 - 1, x**3 - 3 * x)[order - 1] / np.sqrt((1, 2, 6)[order - 1])
    scores = (hermite @ hermite.T / np.sqrt(n))[np.triu_indices(count, 1)]
    # fourth moment of the normalised polynomials: 3, 15, 93; it enters no second moment of the scores
    assert np.abs(scores).max() < 5.5
    assert abs(scores.mean()) < 4 / np.sqrt(scores.size)
    assert abs((scores**2).mean() - 1) < 0.15


@pytest.mark.parametrize("axis", AXES)
def test_neighbours_fill_the_cells_of_the_square_equally(axis):
    u = ndtr(along(axis, 100, 10000, seed=22))
    for lag in (1, 2, 3):
        cells = (32 * u[:-lag]).astype(np.int64) * 32 + (32 * u[lag:]).astype(np.int64)
        # apart by twice the lag, so that no number is in two pairs
        once = np.concatenate([cells[i :: 2 * lag] for i in range(lag)])
        assert 0.001 < stats.chisquare(np.bincount(once.ravel(), minlength=1024)).pvalue < 0.999


@pytest.mark.parametrize(
    "change", [{"stream": 3}, {"seed": 18}, {"seed": 17 + 2**32}, {"step": 2**32}, {"step": 2**40}]
)
def test_streams_seeds_and_far_steps_are_independent(change):
    a = draw(400, 500, **{"seed": 17, **change})
    assert largest_score(draw(400, 500, seed=17), a) < 4.5
