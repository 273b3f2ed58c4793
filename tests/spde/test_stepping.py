"""The time loop: trajectories depend on their address alone, and integrals along paths."""

import numpy as np
import pytest
from fields import custom
from scipy.integrate import trapezoid

from spde.diffusions import langevin
from spde.domain import Interval
from spde.errors import BlowUpError
from spde.expressions import Expression
from spde.stepping import Noise, PathIntegral

FIELD = custom(Interval(2.0, 6), 1.0, "u - u**3", 0.5)
SPECTRAL = custom(Interval(2.0, 6, "periodic", "spectral"), 1.0, "u - u**3", 0.5)
LANGEVIN = langevin(("x", "y"), "(x**2 - 1)**2 + x*y + y**2", 0.7)
every_system = pytest.mark.parametrize("system", [FIELD, SPECTRAL, LANGEVIN], ids=["grid", "modes", "langevin"])


def starts(system, batch=8):
    return np.random.default_rng(3).normal(size=(system.dimension, batch))


@every_system
def test_trajectories_do_not_depend_on_the_batching(system):
    stepper, states = system.stepper(0.05), starts(system)
    whole = stepper.advance(states, Noise(1, 2, 10), 0, 20)
    for cut in (slice(0, 3), slice(3, 8)):
        part = stepper.advance(states[:, cut], Noise(1, 2, 10 + cut.start), 0, 20)
        # products with the basis may round differently for another batch
        np.testing.assert_allclose(part, whole[:, cut], rtol=0, atol=1e-12)


@every_system
def test_a_path_in_two_pieces_is_the_path(system):
    stepper, states = system.stepper(0.05), starts(system)
    kept = states.copy()
    whole = stepper.advance(states, Noise(1, 2, 0), 7, 20)
    pieces = stepper.advance(stepper.advance(states, Noise(1, 2, 0), 7, 8), Noise(1, 2, 0), 15, 12)
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(states, kept)
    np.testing.assert_allclose(stepper.advance(states, Noise(1, 2, 0), 7, 0), states, rtol=0, atol=1e-13)


@every_system
def test_watch_sees_the_states_after_every_step(system):
    stepper, states, seen = system.stepper(0.05), starts(system), []
    stepper.advance(states, Noise(1, 2, 0), 4, 5, lambda now: seen.extend(now.copy()))
    for count, state in enumerate(seen, start=1):
        expected = stepper.advance(states, Noise(1, 2, 0), 4, count)
        np.testing.assert_allclose(state, expected, rtol=0, atol=1e-13)
    assert len(seen) == 5


@every_system
def test_path_integral_is_the_trapezoidal_rule(system):
    stepper, states = system.stepper(0.05), starts(system)

    def rate(now):
        return (now**2).sum(axis=0)

    path, seen = PathIntegral(rate, states, 0.05), [states]

    def watch(now):
        path.watch(now)
        seen.extend(now.copy())

    middle = stepper.advance(states, Noise(1, 2, 0), 0, 4, watch)
    stepper.advance(middle, Noise(1, 2, 0), 4, 6, watch)
    expected = trapezoid([rate(state) for state in seen], dx=0.05, axis=0)
    np.testing.assert_allclose(path.value, expected, rtol=1e-12)


def test_path_integral_of_an_observable_of_the_field():
    observable = Expression("mean(u**2)", FIELD.variables, reductions=True)
    stepper, states = FIELD.stepper(0.05), starts(FIELD)
    path = PathIntegral(lambda now: FIELD.observe(observable, now), states, 0.05)
    records = [states]

    def watch(now):
        path.watch(now)
        records.extend(now.copy())

    stepper.advance(states, Noise(1, 2, 0), 0, 10, watch)
    expected = trapezoid([(state**2).mean(axis=0) for state in records], dx=0.05, axis=0)
    np.testing.assert_allclose(path.value, expected, rtol=1e-12)


def test_blow_up_names_trajectory_and_time():
    stepper = FIELD.stepper(2.0)
    states = np.zeros((6, 4))
    states[:, 2] = 1e3
    with pytest.raises(BlowUpError, match=r"trajectory 102 .* after step 13, at time 26: .* time step 2 "):
        stepper.advance(states, Noise(1, 2, 100), 10, 4)
    # it is the first: two steps are finite and the third is not
    assert np.isfinite(stepper.advance(states, Noise(1, 2, 100), 10, 2)).all()
    with pytest.raises(BlowUpError, match="after step 13, "):
        stepper.advance(states, Noise(1, 2, 100), 10, 3)
    others = states[:, [0, 1, 3]]
    assert np.isfinite(stepper.advance(others, Noise(1, 2, 100), 10, 4)).all()
    assert np.isfinite(FIELD.stepper(1e-7).advance(states, Noise(1, 2, 100), 10, 4)).all()


def test_a_watched_path_has_the_bits_of_an_unwatched_one():
    """Watching shows the steps in pieces, of every stepper there is."""
    for system, schemes in ((FIELD, ("euler_maruyama", "semi_implicit", "exponential_heun", "strang_splitting")),
                            (LANGEVIN, ("heun",))):  # fmt: skip
        for scheme in schemes:
            stepper, states, seen = system.stepper(0.01, scheme), starts(system), []
            end = stepper.advance(states, Noise(1, 2, 0), 3, 25)
            watched = stepper.advance(states, Noise(1, 2, 0), 3, 25, lambda now, seen=seen: seen.extend(now.copy()))
            np.testing.assert_array_equal(watched, end)
            np.testing.assert_allclose(seen[-1], end, rtol=0, atol=1e-13)
            assert len(seen) == 25
