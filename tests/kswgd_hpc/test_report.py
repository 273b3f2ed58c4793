"""The page that a run leaves: complete, self-contained, safe, and with the numbers of the results."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest
from mpi4py import MPI
from support import EVERYTHING, run_command

from kswgd_hpc import report
from kswgd_hpc.report import particles, view
from kswgd_hpc.storage import write_results

PLANE = """
system: {kind: diffusion, variables: [x, y], drift: [-x - 2*y, 2*x - y], diffusion: 1.0}
ensemble: {trajectories: 8, initial: {kind: gaussian}, time_step: 0.1, duration: 5, lag_time: 0.1}
koopman: {estimator: edmd, dictionary: {kind: polynomial, degree: 1}, modes: 3}
"""
CIRCLE = """
system:
  kind: spde
  equation: heat
  domain: {length: 6.283185307179586, points: 16, boundary: periodic}
  discretization: spectral
  noise: {amplitude: 1.0}
ensemble: {trajectories: 8, initial: {kind: gaussian}, time_step: 0.1, duration: 5}
"""
SECTIONS = (
    "Rates",
    "Eigenfunctions",
    "Timescales against lag",
    "Singular values",
    "Transitions between A and B",
    "A trajectory",
    "Particles before and after",
    "Convergence of the transport",
    "Feynman-Kac predictions",
)


def normals(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def ensemble(d: int, records: int = 40) -> dict:
    """Datasets of a run without a koopman section."""
    return {
        "ensemble/mean": np.zeros(d),
        "ensemble/variance": np.ones(d),
        "ensemble/sample": normals(400, d),
        "ensemble/path": normals(records, d, seed=1),
        "ensemble/path_interval": 0.1,
    }


def linear_modes(rates, d: int = 2) -> dict:
    """Datasets of a spectrum whose eigenfunctions are the coordinates of a standard normal law."""
    rates = np.concatenate([[0.0], rates]).astype(complex)
    kept = len(rates)
    return {
        "koopman/eigenvalues": np.exp(-0.1 * rates),
        "koopman/rates": rates,
        "koopman/rates_error": np.full(kept, 0.01),
        "koopman/rates_dictionary_error": np.full(kept, 0.02),
        "koopman/residuals": np.zeros(kept),
        "koopman/coefficients": np.eye(d, kept, 1),
        "koopman/offsets": np.eye(1, kept)[0],
        "koopman/noise_floor": 0.01,
        "koopman/rejected": 0,
        "koopman/lag_time": 0.1,
        "koopman/coordinate_mean": np.zeros(d),
        "koopman/coordinate_scale": np.ones(d),
        "koopman/dictionary/coordinates": d,
        "koopman/dictionary/degree": 1,
    }


def transport(d: int, count: int = 200) -> dict:
    """Datasets of particles that were moved in three steps, without relaxation and without metrics."""
    moved = normals(count, d, seed=2)
    return {
        "kswgd/initial": np.ones((count, d)),
        "kswgd/transported": moved,
        "kswgd/particles": moved,
        "kswgd/history/time": np.array([0.0, 0.1, 0.3, 0.6]),
        "kswgd/history/mode_means": np.array([[1.0], [0.8], [0.5], [0.05]]),
        "kswgd/history/step_size": np.array([0.1, 0.2, 0.3]),
        "kswgd/history/displacement": np.array([0.2, 0.2, 0.1]),
        "kswgd/converged": True,
        "kswgd/floor": 3.83,
    }


def write(directory, datasets: dict, config: str = "", **attributes) -> str:
    """Text of the page of handmade results."""
    path = write_results(MPI.COMM_SELF, directory, datasets, {"config": config, **attributes})
    return report.write(path, MPI.COMM_SELF).read_text(encoding="utf-8")


def headings(page: str) -> list[str]:
    return [title for title in re.findall(r"<h2>(.*?)</h2>", page) if title != "Configuration"]


def figures(page: str) -> list[str]:
    """The SVG text of all figures."""
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', page)
    return [base64.b64decode(data).decode() for data in found]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Directory of a complete small run by the public command."""
    directory = tmp_path_factory.mktemp("report")
    process = run_command(EVERYTHING, directory)
    assert process.returncode == 0, process.stderr
    return directory / "out"


def test_a_complete_run_leaves_a_page_with_all_sections(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert headings(page) == list(SECTIONS)
    assert len(figures(page)) == len(SECTIONS) - 1  # singular values are a table
    assert len(page) < 3e6
    assert not list(run.glob("*.partial"))


def test_the_page_refers_to_nothing_outside_itself(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http" not in page
    anchors = set(re.findall(r'id="([^"]*)"', page))
    for address in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert address.startswith("data:image/") or address.removeprefix("#") in anchors
    for figure in figures(page):
        assert all(re.match("#|data:", address) for address in re.findall(r'href="([^"]*)"', figure))


def test_the_same_results_give_the_same_page(run):
    before = (run / "report.html").read_bytes()
    report.write(run / "results.h5", MPI.COMM_SELF)
    assert (run / "report.html").read_bytes() == before


def test_eigenfunctions_of_the_page_are_those_of_the_run(run):
    stored = view.load(run / "results.h5")
    values = stored.eigenfunctions(stored.data["ensemble/sample"], 4)
    assert np.all(values[:, 0] == 1)
    # centred and orthonormal in L2(pi), up to the sampling error of 2000 correlated states
    assert values.T @ values / len(values) == pytest.approx(np.eye(4), abs=0.25)


def test_rates_of_the_table_are_those_of_the_results(tmp_path):
    page = write(tmp_path, ensemble(2) | linear_modes([0.125, 7.5]), PLANE)
    assert "<td>0.125</td><td>8</td><td>0.01</td><td>0.02</td>" in page
    assert "The next after mode 1 is 60 times as fast" in page


def test_complex_rates_are_shown_with_their_period(tmp_path):
    page = write(tmp_path, ensemble(2) | linear_modes([1 - 2j, 1 + 2j]), PLANE)
    assert "1 − 2i" in page
    assert "<td>3.142</td>" in page
    assert headings(page) == ["Rates", "Eigenfunctions", "A trajectory", "The ensemble"]


def test_an_ensemble_alone_has_a_page(tmp_path):
    assert headings(write(tmp_path, ensemble(3))) == ["A trajectory", "The ensemble"]


def test_samples_without_time_have_no_trajectory(tmp_path):
    assert headings(write(tmp_path, ensemble(3, records=1))) == ["The ensemble"]


def test_errors_that_could_not_be_estimated_are_dashes(tmp_path):
    errors = {"koopman/rates_error": [0, np.nan], "koopman/rates_dictionary_error": [0, np.inf]}
    page = write(tmp_path, ensemble(2) | linear_modes([2.0]) | errors, PLANE)
    assert "<td>2</td><td>0.5</td><td>–</td><td>–</td>" in page
    assert not re.search(r"\b(nan|inf)\b", page)


def test_a_spectrum_of_noise_says_so(tmp_path):
    page = write(tmp_path, ensemble(2) | linear_modes([]), PLANE)
    assert "No mode stands above the sampling noise" in page
    assert "Eigenfunctions" not in headings(page)


def kinetics(rates) -> dict:
    """Datasets of timescales at three lags, and of a test that fails at the last of them."""
    rates, lags = np.array(rates, dtype=complex), np.array([0.1, 0.2, 0.4])
    powers = np.exp(-np.outer(lags, rates))
    return {
        "koopman/implied_timescales/lag_times": lags,
        "koopman/implied_timescales/rates": np.tile(rates, (3, 1)),
        "koopman/implied_timescales/errors": np.full((3, len(rates)), 0.1),
        "koopman/chapman_kolmogorov/lag_times": lags,
        "koopman/chapman_kolmogorov/predicted": powers,
        "koopman/chapman_kolmogorov/estimated": powers + np.array([[0.0], [0.01], [0.07]]),
        "koopman/chapman_kolmogorov/error": np.array([[0.0], [0.01], [0.02]]) * np.ones(len(rates)),
    }


@pytest.mark.parametrize("rates", [[0.5, 2.0], [1 + 3j, 1 - 3j]])
def test_the_chapman_kolmogorov_test_is_judged_in_standard_errors(tmp_path, rates):
    page = write(tmp_path, ensemble(2) | linear_modes(rates) | kinetics(rates), PLANE)
    assert "Timescales against lag" in headings(page)
    assert "2 of 4 autocorrelations lie within two standard errors" in page
    assert "the largest difference is 3.5 standard errors" in page


def test_certificates_are_columns_of_the_table_of_rates(tmp_path):
    certificates = {
        "koopman/rates_time_step_error": np.array([0, 0.003, 0.004]),
        "koopman/true_residuals": np.array([0, 0.01, 0.4]),
        "koopman/true_residuals_error": np.array([0, 0.001, 0.001]),
        "koopman/spurious": np.array([False, False, True]),
    }
    page = write(tmp_path, ensemble(2) | linear_modes([0.125, 7.5]) | certificates, PLANE)
    assert "<td>0.003</td><td>0.01</td>" in page
    assert "<td>0.4 (spurious)</td>" in page
    assert "± 0.003 (time step)" in page
    assert "these modes are spurious: 2" in page


@pytest.mark.parametrize("d", [2, 3])
def test_transitions_between_sets_are_shown_with_their_errors(tmp_path, d):
    names = (
        "rate_ab",
        "rate_ba",
        "flux",
        "last_in_a",
        "passage_ab",
        "passage_ba",
        "counted_rate_ab",
        "counted_rate_ba",
    )
    found = {f"koopman/transitions/{name}": 0.25 for name in names}
    found |= {f"koopman/transitions/{name}_error": 0.01 for name in names}
    found |= {"koopman/transitions/monitoring_interval": 0.1, "koopman/committor/sample": np.linspace(0, 1, 400)}
    page = write(tmp_path, ensemble(d) | found, PLANE if d == 2 else "")
    assert "Transitions between A and B" in headings(page)
    assert "<td>0.25 ± 0.01</td><td>0.25 ± 0.01</td>" in page
    assert "by counting" in page
    assert "committor at states of the ensemble" in page


@pytest.mark.parametrize("d", [1, 2, 5])
def test_particles_of_any_dimension_are_compared(tmp_path, d):
    page = write(tmp_path, ensemble(d) | transport(d))
    assert headings(page)[1:] == ["Particles before and after", "Convergence of the transport"]
    assert "too few states to judge" in page
    assert "went from 200 to 0.5 in flow time 0.6 and 3 steps, below the floor" in page


def test_a_component_that_never_changes_is_no_obstacle(tmp_path):
    flat = ensemble(2)
    flat["ensemble/sample"][:, 1] = 0.0
    start = {"kswgd/initial": np.zeros((200, 2))}
    page = write(tmp_path, flat | linear_modes([1.0]) | transport(2) | start, PLANE)
    assert "Eigenfunctions" in headings(page)


def test_particles_without_convergence_are_named(tmp_path):
    assert "NOT below the floor" in write(tmp_path, ensemble(2) | transport(2) | {"kswgd/converged": False})


def test_predictions_are_judged_in_standard_errors(tmp_path):
    case = {
        "feynman_kac/decay/times": np.array([0.5, 1.0, 2.0]),
        "feynman_kac/decay/koopman": np.array([0.6, 0.4, 0.1]),
        "feynman_kac/decay/reference": np.array([0.61, 0.33, 0.1]),
        "feynman_kac/decay/reference_error": np.array([0.01, 0.02, 0.0]),
        "feynman_kac/decay/method": "Monte Carlo",
    }
    page = write(tmp_path, ensemble(2) | case)
    assert "<td>−1.0</td>" in page
    assert "<td>+3.5</td>" in page
    assert "<td>–</td>" in page
    assert "1 of 2 predicted values lie within two standard errors" in page


def test_principal_eigenvalues_share_a_panel_and_multilevel_references_show_their_levels(tmp_path):
    def row(name: str, kind: str, **more) -> dict:
        values = {"koopman": np.array([0.6]), "reference": np.array([0.61]), "reference_error": np.array([0.01])}
        return {f"feynman_kac/{name}/{key}": value for key, value in (values | {"kind": kind} | more).items()}

    levels = {"level_time_step": [0.5, 0.25], "level_dimension": [1, 1], "level_samples": [900, 70]}
    levels |= {"level_cost": [2, 6], "level_mean": [[0.6], [0.01]], "level_variance": [[1.0], [0.1]]}
    levels |= {"tolerances": [0.2, 0.1], "tolerance_costs": [500, 2220], "tolerance_plain_costs": [1000, 5000]}
    levels |= {"total_cost": 2220, "plain_cost": 5000}
    details = {f"reference_details/{name}": np.array(value) for name, value in levels.items()}
    first, second = (row(name, "principal_eigenvalue") for name in ("low", "high"))
    page = write(tmp_path, ensemble(2) | first | second | row("cheap", "expectation", **details))
    assert page.count("principal eigenvalues;") == 1
    assert "plain paths with the finest step take 2.3 times as many" in page


def test_text_of_the_user_is_escaped(tmp_path):
    hostile = '</title><script>alert("$1")</script>'
    page = write(tmp_path, ensemble(2), f"{PLANE}# </pre>{hostile}\n", title=hostile, library_mpi=hostile)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&quot;$1&quot;)") == 4
    assert page.count("</pre>") == page.count("</title>") == 1


def test_a_configuration_of_another_version_is_shown_and_not_used(tmp_path):
    page = write(tmp_path, ensemble(2), "system: {kind: unheard_of}")
    assert "unheard_of" in page
    assert headings(page) == ["A trajectory", "The ensemble"]


@pytest.mark.mpi(min_size=2)
def test_ranks_share_out_the_page(tmp_path):
    comm = MPI.COMM_WORLD
    path = comm.bcast(tmp_path) / "results.h5"
    if comm.rank == 0:
        alone = write(path.parent, ensemble(2) | transport(2))
    comm.Barrier()
    shared = report.write(path, comm)
    if comm.rank == 0:
        assert len(figures(alone)) > 1
        assert shared.read_text(encoding="utf-8") == alone
    comm.Barrier()


def test_a_failure_leaves_the_old_page(tmp_path, monkeypatch):
    old = write(tmp_path, ensemble(2))

    def fail(*_paths):
        raise OSError("disk full")

    monkeypatch.setattr(report.page.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write(tmp_path / "results.h5", MPI.COMM_SELF)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == old
    assert not list(tmp_path.glob(".report*"))


def test_two_point_covariance_of_waves_is_a_cosine(tmp_path):
    waves = np.zeros((20_000, 16))
    waves[:, 1:3] = normals(20_000, 2) * np.sqrt(np.pi)  # u = a cos x + b sin x, a and b standard normal
    path = write_results(MPI.COMM_SELF, tmp_path, ensemble(16) | {"ensemble/sample": waves}, {"config": CIRCLE})
    stored = view.load(path)
    x, curve, deviation = particles.two_point_covariance(stored, waves)
    assert x[-1] == pytest.approx(np.pi)
    assert deviation.max() < 0.02
    assert np.abs(curve - np.cos(x)).max() < 4 * deviation.max()
    assert stored.spatial_means(waves)["u"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("ranks", range(1, 6))
def test_every_section_is_dealt_to_one_rank(ranks):
    dealt = [make for rank in range(ranks) for make in report._dealt(rank, ranks)]
    assert len(dealt) == len(report.SECTIONS)
    assert set(dealt) == set(report.SECTIONS)
