"""The figures that the solver promises, on the examples and by the public command."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from support import EVERYTHING, ROOT, results, run_command

from kswgd_hpc.metrics import energy_distance, iid_floor

FOUR_WELLS = [0.749, 0.749, 1.497, 6.00]  # method, section 5
ALLEN_CAHN_RATE = 0.0083  # between 0.0081(2), decay of the mean from +1 over 2e6 time units, and 0.0088(6), plain Euler


def assert_rates(found: dict, expected: list[float], tolerance: float) -> None:
    """Rates within a tolerance, and inside three printed standard errors plus the dictionary error."""
    n = len(expected)
    rates = found["koopman/rates"][1 : n + 1].real
    np.testing.assert_allclose(rates, expected, rtol=tolerance)
    allowed = 3 * found["koopman/rates_error"][1 : n + 1] + found["koopman/rates_dictionary_error"][1 : n + 1]
    rounding = 0.001 * np.array(expected)  # the expected values have three or four digits
    assert (np.abs(rates - expected) <= allowed + rounding).all()


def test_four_wells_reversible_rates(example):
    assert_rates(example("four_wells"), FOUR_WELLS, 0.03)


def test_four_wells_dirichlet_rates(tmp_path):
    text = (ROOT / "examples" / "four_wells.yaml").read_text().replace("estimator: reversible", "estimator: dirichlet")
    text = text[: text.index("kswgd:")] + text[text.index("output:") :]
    process = run_command(text, tmp_path, ranks=2)
    assert process.returncode == 0, process.stderr
    assert_rates(results(tmp_path), FOUR_WELLS, 0.03)


def test_stochastic_heat_rates_are_sums_of_mode_rates(example):
    expected = [np.pi**2 * k for k in (1, 2, 3, 4, 4, 5)]
    assert_rates(example("stochastic_heat"), expected, 0.02)


def test_allen_cahn_slowest_rate(example):
    found = example("allen_cahn")
    assert found["koopman/rates"][1].real == pytest.approx(ALLEN_CAHN_RATE, rel=0.1)


def test_allen_cahn_slowest_rate_is_below_the_bound_of_the_exact_law(example):
    # Rayleigh quotient of clip(2 mean, -1, 1) under the transfer-matrix law of the mean: P(|mean| < 1/2) = 0.05735
    bound = 0.5**2 / (2 * 2.5) * 4 * 0.05735 / (1 - 0.05735)
    assert example("allen_cahn")["koopman/rates"][1].real < bound


def test_allen_cahn_particles_leave_the_well_they_all_start_in(example):
    found = example("allen_cahn")
    assert (found["kswgd/initial"] == 1.0).all()
    assert 0.47 < (found["kswgd/transported"].mean(axis=1) > 0).mean() < 0.53


def test_allen_cahn_particles_are_close_to_fresh_equilibrium_fields(example):
    found = example("allen_cahn")
    sample, particles = found["ensemble/sample"][::4], found["kswgd/particles"][::2]
    floor, _ = iid_floor(MPI.COMM_SELF, found["ensemble/sample"][1::2], len(particles), 0)
    assert energy_distance(MPI.COMM_SELF, particles, sample) <= 2.5 * floor


def test_allen_cahn_invariant_law_matches_the_transfer_matrix(example):
    found = example("allen_cahn")
    assert (found["ensemble/variance"] + found["ensemble/mean"] ** 2).mean() == pytest.approx(0.85461, rel=0.01)


@pytest.mark.parametrize("name", ["allen_cahn", "four_wells", "stochastic_heat"])
def test_feynman_kac_predictions_agree_with_monte_carlo(example, name):
    found = example(name)
    cases = {path.split("/")[1] for path in found if path.startswith("feynman_kac/")}
    assert cases
    for case in cases:
        get = {key: found[f"feynman_kac/{case}/{key}"] for key in ("koopman", "reference", "reference_error")}
        # 1 % is the spectrum's own error, which the reference's does not contain
        allowed = 4 * get["reference_error"] + 0.01 * np.abs(get["reference"]).max()
        assert (np.abs(get["koopman"] - get["reference"]) <= allowed).all(), case


def test_results_have_the_same_bits_on_any_number_of_ranks(tmp_path):
    reference = None
    for ranks in (1, 2, 3, 4):
        process = run_command(EVERYTHING, tmp_path / str(ranks), ranks)
        assert process.returncode == 0, process.stderr
        found = results(tmp_path / str(ranks))
        reference = reference or found
        assert set(found) == set(reference)
        for name, value in reference.items():
            assert np.asarray(found[name]).tobytes() == np.asarray(value).tobytes(), (ranks, name)
