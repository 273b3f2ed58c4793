"""What the tests share: a small configuration, runs of the public command, and their results."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from mpi4py import MPI

from kswgd_hpc.config import parse
from kswgd_hpc.galerkin import assemble
from kswgd_hpc.parallel import local
from kswgd_hpc.pipeline import sample_of
from kswgd_hpc.plan import build, collector_for, matrices_for, pilot_sample
from kswgd_hpc.storage import read_results

ROOT = Path(__file__).resolve().parent.parent

# a complete run in about two seconds
SMALL = """
seed: 3
system:
  kind: spde
  equation: allen_cahn
  domain: {length: 2.5, points: 32, boundary: neumann}
  noise: {amplitude: 0.5}
ensemble:
  trajectories: 100
  initial: {kind: gaussian}
  time_step: 0.01
  burn_in: 2
  duration: 20
  lag_time: 0.5
koopman:
  estimator: reversible
  coordinates: {kind: modes, count: 3}
  dictionary: {kind: gaussian, size: 60}
  modes: 8
kswgd:
  particles: 1000
  initial: {kind: constant, value: 1.0}
  relaxation: 0.5
validation:
  feynman_kac:
    - {name: quench, observable: mean(u), killing: 0.1*mean(u)**2,
       initial: {kind: constant, value: 1.0}, times: [0.5, 2], trajectories: 200}
output: {directory: out}
"""


# the same with everything that is computed on request
EVERYTHING = SMALL.replace(
    "  modes: 8\n", "  modes: 8\n  vamp: true\n  certify: true\n  sets: {A: mean(u) < -0.5, B: mean(u) > 0.5}\n"
)


def mpi_environment() -> dict[str, str]:
    """The environment of a command: this checkout first, and no traces of an mpiexec that pytest itself runs under."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_COMM", "PMIX", "PMI_", "OMPI_UNIVERSE"))}
    return kept | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}


def run_command(
    text: str,
    directory: Path,
    ranks: int = 1,
    timeout: float = 400,
    options: tuple[str, ...] = (),
    command: str = "run",
) -> subprocess.CompletedProcess:
    """Run a public command on the text of a configuration, in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(text)
    line = [sys.executable, "-m", "kswgd_hpc", command, "config.yaml", *options]
    if ranks > 1:
        line = ["mpiexec", "-n", str(ranks), *line]
    return subprocess.run(
        line, cwd=directory, env=mpi_environment(), capture_output=True, text=True, timeout=timeout, check=False
    )


def start(directory: Path, text: str, ranks: int, *options: str) -> subprocess.Popen:
    """The public command, begun: it has left its imports behind."""
    directory.mkdir(exist_ok=True)
    (directory / "config.yaml").write_text(text)
    words = [sys.executable, "-m", "kswgd_hpc.run", "config.yaml", *options]
    words = words if ranks == 1 else ["mpiexec", "-n", str(ranks), *words]
    with open(directory / "said", "w") as said:
        process = subprocess.Popen(words, cwd=directory, env=mpi_environment(), stdout=said, stderr=said)
    limit = time.monotonic() + 100
    while "burn-in" not in (directory / "said").read_text() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    return process


def ranks_of(process: subprocess.Popen) -> list[int]:
    """Process numbers of what mpiexec has started."""
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout
    return [int(word) for word in found.split()]


def results(directory: Path) -> dict:
    """Datasets of the results file below a directory."""
    (path,) = directory.rglob("results.h5")
    return read_results(path)[0]


def sums(text: str, comm: MPI.Comm = MPI.COMM_SELF):
    """Configuration, plan, and the Galerkin sums of its ensemble. Collective."""
    config = parse(text)
    plan = build(config)
    pilot = pilot_sample(comm, config, plan, lambda _units: None)
    collector, dictionary = collector_for(config, plan, pilot)
    blocks = local(plan.ensemble.blocks, comm)
    records = [collector.collect(block, plan.ensemble.windows(block)) for block in blocks]
    sample = sample_of(comm, config, plan, collector, dictionary, records)
    return config, plan, assemble(sample, matrices_for(config, plan))
