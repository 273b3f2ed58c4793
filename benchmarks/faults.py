"""Kill -9 at random moments: python -m benchmarks.faults --kills 200

One run with every stage is never disturbed. Others of the same configuration are killed, a random rank or all of them,
at a random moment, and resumed on one to four ranks, chosen at random, until they come to an end: every dataset of
results.h5 has to have the bits of the first run.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kswgd_hpc.storage import read_results

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = """
seed: 3
system:
  kind: spde
  equation: allen_cahn
  domain: {length: 2.5, points: 32, boundary: neumann}
  noise: {amplitude: 0.5}
ensemble: {trajectories: 100, initial: {kind: gaussian}, time_step: 0.005, burn_in: 10, duration: 40, lag_time: 0.5}
koopman:
  estimator: reversible
  coordinates: {kind: modes, count: 3}
  dictionary: {kind: gaussian, size: 60}
  modes: 8
  certify: true
  sets: {A: mean(u) < -0.5, B: mean(u) > 0.5}
kswgd: {particles: 1000, initial: {kind: constant, value: 1.0}, relaxation: 2.0}
validation:
  feynman_kac:
    - {name: quench, observable: mean(u), killing: 0.1*mean(u)**2, initial: {kind: constant, value: 1.0},
       times: [0.5, 2, 5], trajectories: 500}
output: {directory: out, checkpoint: {every: 0.1s}}
"""


@dataclass(frozen=True)
class Command:
    """The public command in a directory with a configuration."""

    directory: Path

    def start(self, ranks: int, resume: bool) -> subprocess.Popen:
        """Start it, with its output in a file."""
        words = [sys.executable, "-m", "kswgd_hpc.run", "config.yaml", *["--resume"] * resume]
        if ranks > 1:
            words = ["mpiexec", "-n", str(ranks), *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with open(self.log, "w") as log:
            return subprocess.Popen(words, cwd=self.directory, stdout=log, stderr=log, env=environment)

    @property
    def log(self) -> Path:
        """What it says."""
        return self.directory / "log.txt"

    def begun(self) -> bool:
        """Whether it has left its imports behind."""
        return "time stepping" in self.log.read_text()

    def ended(self) -> bool:
        """Whether its results are there, and the report is being made."""
        return "\nresults " in self.log.read_text()


def ranks_of(process: subprocess.Popen, ranks: int) -> list[int]:
    """Process numbers of the ranks."""
    if ranks == 1:
        return [process.pid]
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout
    return [int(word) for word in found.split()]


def kill(process: subprocess.Popen, ranks: int, rng: np.random.Generator) -> None:
    """Kill a random rank, or all of them, with no warning; wait until the job is gone."""
    victims = ranks_of(process, ranks)
    if victims and rng.random() < 0.7:
        victims = [int(rng.choice(victims))]
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    process.wait()


def end(process: subprocess.Popen, ranks: int) -> None:
    """End a run whose results are in place: the report is not looked at."""
    for number in ranks_of(process, ranks):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()


def differences(one: dict, other: dict) -> list[str]:
    """Names of the datasets whose bits differ."""
    names = sorted({*one, *other})
    return [n for n in names if n not in one or n not in other or bits(one[n]) != bits(other[n])]


def bits(value) -> bytes:
    """The bits of a dataset."""
    return np.asarray(value).tobytes()


def life(command: Command, seconds: float, kills: int, rng: np.random.Generator) -> tuple[int, list[int]]:
    """Run, and kill, and resume, until it ends or has been killed often enough: kills, and ranks of each start."""
    done, starts = 0, []
    while True:
        ranks = int(rng.integers(1, 5))
        starts.append(ranks)
        process = command.start(ranks, resume=len(starts) > 1)
        mortal = done < kills
        while mortal and process.poll() is None and not command.begun():
            time.sleep(0.01)
        limit = time.monotonic() + rng.uniform(0, seconds)
        while process.poll() is None and not command.ended() and (not mortal or time.monotonic() < limit):
            time.sleep(0.01)
        if command.ended():
            end(process, ranks)
            return done, starts
        if process.poll() is None:
            kill(process, ranks, rng)
            done += 1
        elif process.returncode == 0:
            return done, starts
        else:
            raise RuntimeError(f"{command.directory}: status {process.returncode}\n{command.log.read_text()}")


def main() -> int:
    """Print one line a life, and a sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=4, help="kills in one life")
    parser.add_argument(
        "--within", type=float, help="seconds until a kill at most; as the undisturbed run takes if not said"
    )
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)

        def command(label: str) -> Command:
            (base / label).mkdir()
            (base / label / "config.yaml").write_text(CONFIGURATION)
            return Command(base / label)

        undisturbed = command("undisturbed")
        process = undisturbed.start(1, resume=False)
        while process.poll() is None and not undisturbed.begun():
            time.sleep(0.01)
        began = time.monotonic()
        while process.poll() is None and not undisturbed.ended():
            time.sleep(0.01)
        seconds = time.monotonic() - began
        end(process, 1)
        reference, _ = read_results(undisturbed.directory / "out" / "results.h5")
        print(f"undisturbed: {seconds:.1f} s of work, {len(reference)} datasets", flush=True)
        total = wrong = lives = 0
        while total < options.kills:
            trial = command(f"life{lives}")
            most = int(rng.integers(1, options.most + 1))
            kills, starts = life(trial, options.within or seconds, min(most, options.kills - total), rng)
            bad = differences(reference, read_results(trial.directory / "out" / "results.h5")[0])
            total, wrong, lives = total + kills, wrong + bool(bad), lives + 1
            ranks = " ".join(map(str, starts))
            verdict = f"DIFFERS: {', '.join(bad)}" if bad else "same bits"
            print(f"life {lives}: {kills} kills, ranks {ranks}: {verdict}; {total} kills so far", flush=True)
    print(f"{total} kills, {lives} runs, {wrong} with other bits", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
