from __future__ import annotations

import numpy as np

from kswgd_hpc.certificates import Restarts, time_step_error, true_residuals
from spde.diffusions import Diffusion
from spde.stepping import Noise

STEP, HORIZON, GROUPS, BATCH = 0.1, 0.5, 32, 512
VALUES = np.exp([-0.5, -1.0])  # at the horizon, of rates 1 and 2
SLOPE = -1 / (VALUES * HORIZON)
SYSTEM = Diffusion(["x"], ["-x"], np.array([[np.sqrt(2)]]))


def paths(group: int, states: np.ndarray, stream: int, time_step: float, merged: int = 0) -> np.ndarray:
    """Ornstein-Uhlenbeck states a horizon later, by Euler-Maruyama."""
    stepper = SYSTEM.stepper(time_step, "euler_maruyama")
    return stepper.advance(states, Noise(1, stream, group * BATCH, merged), 0, round(HORIZON / time_step))


def hermite(x: np.ndarray, contamination: float = 0.0) -> np.ndarray:
    """(n, 2) the first two eigenfunctions; the second one with a share of the third in its variance."""
    third = (x**3 - 3 * x) / np.sqrt(6)
    second = (x**2 - 1) / np.sqrt(2)
    return np.stack([x, np.sqrt(1 - contamination) * second + np.sqrt(contamination) * third], axis=1)


def restarts(contamination: float = 0.0, coupled: bool = True) -> np.ndarray:
    """Sums of all groups; coupled or independent paths for the smaller step."""
    rows = []
    for group in range(GROUPS):
        x = np.random.default_rng(group).normal(size=(1, BATCH))
        first, second = paths(group, x, 7, STEP, merged=1), paths(group, x, 8, STEP)
        fine = paths(group, x, 7 if coupled else 9, STEP / 2)
        phi = [hermite(states[0], contamination) for states in (x, first, fine, second)]
        change = phi[0] * (phi[1] - phi[2])
        rows.append(Restarts(phi[0], phi[1], phi[3], change, np.ones(BATCH)).sums(VALUES))
    return np.array(rows)


def test_the_change_of_rates_with_the_time_step_is_that_of_the_scheme():
    # Euler-Maruyama multiplies x by 1 - h a step: the first rate is -log(1 - h) / h; the second twice that
    found = time_step_error(restarts(), SLOPE)
    rate = [-np.log(1 - h) / h for h in (STEP, STEP / 2)]
    exact = (rate[0] - rate[1]) * np.array([1, 2])
    # the second order in the change of mu, 1 %, is neglected
    assert (np.abs(found.difference.real - exact) < 3 * found.error + 0.03 * exact).all()
    assert (found.error < 0.5 * exact).all()
    assert (found.bound >= np.abs(found.difference)).all()


def test_one_brownian_path_makes_the_time_steps_comparable():
    coupled, independent = (time_step_error(restarts(coupled=c), SLOPE) for c in (True, False))
    assert (coupled.error < 0.25 * independent.error).all()


def test_the_residual_of_eigenfunctions_is_that_of_the_time_step_alone():
    # mu is exp(-rate t) here and (1 - h)^n in the paths
    found = true_residuals(restarts(), VALUES)
    decay = (1 - STEP) ** 5
    assert abs(found.values[0] - (np.exp(-0.5) - decay)) < 3 * found.errors[0]
    # the error of a root of what is nearly zero: (number of restarts)^(-1/4) and the scatter of that
    assert (found.errors < 0.13).all()
    assert not found.spurious.any()


def test_the_residual_is_that_of_the_operator_and_not_of_the_noise():
    # phi = sqrt(1 - c) h2 + sqrt(c) h3 with mu of h2: |K phi - mu phi| = sqrt(c) |mu_3 - mu_2|
    found = true_residuals(restarts(contamination=0.9), VALUES)
    d = (1 - STEP) ** 5
    exact = np.sqrt(0.9 * (d**3 - np.exp(-1)) ** 2 + 0.1 * (d**2 - np.exp(-1)) ** 2)
    assert abs(found.values[1] - exact) < 3 * found.errors[1]
    noise = np.sqrt(1 - np.exp(-2))  # what one successor would report
    assert found.values[1] < 0.5 * noise


def test_a_function_that_is_no_eigenfunction_is_called_spurious():
    # sin(9 x) is forgotten within the horizon, whatever eigenvalue it is given
    rng, rows = np.random.default_rng(1), []
    for _ in range(GROUPS):
        x, y, z = rng.normal(size=(3, BATCH, 1))
        phi = [np.sqrt(2) * np.sin(9 * states) for states in (x, y, z)]
        rows.append(Restarts(phi[0], phi[1], phi[2], 0 * phi[0], np.ones(BATCH)).sums(np.array([0.3])))
    found = true_residuals(np.array(rows), np.array([0.3]))
    assert found.spurious.all()
    assert abs(found.values[0] - 0.3) < 3 * found.errors[0]
