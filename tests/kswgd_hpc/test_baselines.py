from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from kswgd_hpc.baselines import RIVALS, lacking, langevin
from kswgd_hpc.baselines.dmps import Chart
from kswgd_hpc.baselines.frame import frame_of
from kswgd_hpc.baselines.ring import TILE, Ring
from kswgd_hpc.baselines.task import Task
from kswgd_hpc.kernel_density import bandwidth, squared_distances
from kswgd_hpc.metrics import discrepancies, median_distance, pair_means
from spde.catalogue import named_equation
from spde.density import invariant_density
from spde.diffusions import Diffusion
from spde.diffusions import langevin as langevin_dynamics
from spde.domain import Domain
from spde.draws import independent_draws
from spde.manifolds import Circle, ManifoldDiffusion
from spde.spectra import exact_spectrum
from spde.stepping import Noise

COMM, ALONE = MPI.COMM_WORLD, MPI.COMM_SELF
SKEWED = langevin_dynamics(["x", "y"], "2*(x**2 - 1)**2 + x/2 + y**2", 1.0)


def drawn(system, count: int, seed: int = 1) -> np.ndarray:
    """(count, d) exact draws."""
    return np.ascontiguousarray(independent_draws(system)(seed, 60, 0, count).T)


def task_for(name: str, system, particles: int, steps: int, comm=ALONE) -> tuple[Task, np.ndarray]:
    """A rival's task, data being exact draws, and its start beside the right-hand well."""
    data, needs = drawn(system, 1024, 7), RIVALS[name].NEEDS
    frame = frame_of(system, data, "density" in needs)
    ring = Ring(comm, particles)
    task = Task(ring, frame, frame.enter(data), 60, steps, 3, 40)
    task.density = invariant_density(system) if "density" in needs else None
    task.spectrum = exact_spectrum(system, 60) if "spectrum" in needs else None
    task.stepper = system.stepper(0.01) if "dynamics" in needs else None
    start = 0.2 * np.random.default_rng(4).normal(size=(particles, 2)) + [0.9, 0.0]
    return task, frame.enter(start[ring.start : ring.stop])


STEPS = {"langevin": 2000, "mala": 2400, "pcn": 600, "svgd": 100, "lawgd": 200, "dmps": 200, "mmd_flow": 200}


@pytest.fixture(scope="module")
def law():
    """Function of particles (400, 2): energy distance to the law less that of as many exact draws, in deviations of
    the latter."""
    reference = drawn(SKEWED, 4000)
    width = median_distance(reference)
    own = pair_means(ALONE, reference, reference, width)
    distance = lambda rows: discrepancies(ALONE, rows, reference, width, own)[0]  # noqa: E731
    floors = np.array([distance(drawn(SKEWED, 400, seed)) for seed in range(2, 32)])
    return lambda rows: (distance(rows) - floors.mean()) / floors.std()


@pytest.mark.parametrize("name", STEPS)
def test_every_rival_ends_at_the_invariant_law(name, law):
    """SVGD, in a hundred steps, has not quite crossed the barrier."""
    task, y = task_for(name, SKEWED, 400, STEPS[name])
    moved = task.frame.leave(RIVALS[name].move(task, y))
    assert law(task.frame.leave(y)) > 500
    assert law(moved) < (25 if name == "svgd" else 4)
    assert task.steps_taken > 0


def test_kernel_density_langevin_has_the_blurred_law():
    """Its invariant law is the data's blurred by the bandwidth: variances add up."""
    system = langevin_dynamics(["x", "y"], "x**2/2 + y**2/2", 1.0)
    task, y = task_for("kde_langevin", system, 600, 200)
    moved = RIVALS["kde_langevin"].move(task, y)
    width = bandwidth(task.data, 2)
    expected = task.data.var(axis=0) + width**2
    assert moved.var(axis=0) == pytest.approx(expected, abs=4 * np.sqrt(2 / 600))
    assert 0.1 < width < 0.6


def test_langevin_is_the_dynamics_of_the_system():
    task, y = task_for("langevin", SKEWED, 300, 50)
    moved = task.frame.leave(langevin.move(task, y))

    states = np.ascontiguousarray(task.frame.leave(y).T)
    parts = [
        task.stepper.advance(states[:, b.start : b.stop], Noise(3, 40, b.start), 0, 50).T for b in task.ring.blocks
    ]
    assert moved == pytest.approx(np.concatenate(parts), abs=1e-12)
    assert task.gradient_calls == 300 * 50


def test_the_diffusion_map_has_the_rates_of_the_generator():
    """The clock: rates of Ornstein-Uhlenbeck dynamics of unit variance are 1, 1, 2, 2, 2."""
    data = np.random.default_rng(0).normal(size=(1024, 2))
    chart = Chart(ALONE, data, 8)
    assert chart.rates[:2] == pytest.approx(1.0, rel=0.17)
    assert chart.rates[2:5] == pytest.approx(2.0, rel=0.17)
    values = chart.values(data)
    slope = np.abs(np.corrcoef(values[:, :2].T, data.T)[:2, 2:])
    assert (np.linalg.norm(slope, axis=1) > 0.9).all()
    step = np.array([1e-5, 0.0])
    weights = np.arange(1.0, len(chart.rates) + 1)
    difference = (chart.values(data[:9] + step) - chart.values(data[:9] - step)) @ weights / 2e-5
    assert chart.gradient(data[:9], weights)[:, 0] == pytest.approx(difference, rel=1e-5, abs=1e-6)


def test_pairs_are_summed_in_tiles_and_nothing_of_n_by_n_is_held():
    particles, seen = 3000, []
    ring = Ring(ALONE, particles)
    y = np.random.default_rng(0).normal(size=(particles, 3))

    def interaction(targets: np.ndarray, sources: np.ndarray) -> np.ndarray:
        kernel = np.exp(-squared_distances(targets, sources))
        seen.append(kernel.size)
        return kernel @ sources

    total = ring.sum_pairs(y, y, interaction, 3)
    assert max(seen) <= TILE**2
    direct = np.exp(-((y[:50, None] - y[None]) ** 2).sum(-1)) @ y
    assert total[:50] == pytest.approx(direct, rel=1e-10)


def test_peak_memory_of_a_step_is_that_of_tiles():
    import tracemalloc

    particles, d = 6000, 2
    task, y = task_for("svgd", SKEWED, particles, 1)
    tracemalloc.start()
    RIVALS["svgd"].move(task, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # an N x N array would be 288 MB
    assert peak < 8 * (6 * TILE**2 + 60 * particles * d + 2 * 512**2)


@pytest.mark.parametrize(
    ("name", "system", "reason"),
    [
        ("mala", Diffusion(["x", "y"], ["-x - y**3", "x**3 - y"], 1.0), "no gradient"),
        ("mala", ManifoldDiffusion(Circle(1.0)), "leave the manifold"),
        ("langevin", None, "recorded data"),
        ("lawgd", langevin_dynamics(["x", "y"], "x**2*y**2 + x**2 + y**2", 1.0), "couples x and y"),
        ("svgd", named_equation("burgers", Domain.box(1.0, 16, "dirichlet", "spectral"), 1.0, {}), "detailed balance"),
    ],
)
def test_a_rival_that_cannot_be_had_says_why(name, system, reason):
    assert reason in lacking(name, system)


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("name", ["svgd", "mala", "dmps", "mmd_flow", "kde_langevin", "langevin"])
def test_rivals_have_the_same_bits_on_every_rank_count(name):
    shared, y = task_for(name, SKEWED, 700, 4, COMM)
    mine = RIVALS[name].move(shared, y)
    alone, y = task_for(name, SKEWED, 700, 4)
    whole = RIVALS[name].move(alone, y)
    assert mine.tobytes() == whole[shared.ring.start : shared.ring.stop].tobytes()
