"""python -m kswgd_hpc bench [config.yaml] --ranks 1,2,4: strong and weak scaling of each stage, with its messages.

Each number of ranks runs under mpiexec, once with the work of the configuration (strong scaling) and once with that
work for each rank (weak scaling: as many times the trajectories, particles and paths). Messages are counted at the MPI
layer. The model of `plan`, scaled to what the fewest ranks took, is printed beside the measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kswgd_hpc.commands import configuration_errors

_USAGE = "python -m kswgd_hpc bench [config.yaml] [--ranks 1,2,4] [--output DIRECTORY]"
# the metastable Allen-Cahn interval, with about a quarter of an hour of work divided by a hundred
DEFAULT = """
title: Scaling of the metastable Allen-Cahn interval
seed: 1
system:
  kind: spde
  equation: allen_cahn
  domain: {length: 2.5, points: 32, boundary: neumann}
  noise: {amplitude: 0.5}
ensemble: {trajectories: 1024, initial: {kind: gaussian}, time_step: 0.005, burn_in: 5.0, duration: 20.0, lag_time: 0.5}
koopman: {coordinates: {kind: modes, count: 4}, dictionary: {kind: gaussian, size: 200}, modes: 20}
kswgd: {particles: 8192, initial: {kind: constant, value: 1.0}, relaxation: 1.0}
validation:
  feynman_kac:
    - {name: quench, observable: mean(u), initial: {kind: constant, value: 1.0}, times: [1, 2], trajectories: 2048}
"""


def main(argv: list[str]) -> int:
    """Measure, print a table, write bench.json and bench.png. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="kswgd-hpc bench", usage=_USAGE, description=__doc__)
    parser.add_argument("config", nargs="?", help="configuration file (YAML); a small built-in one, if not said")
    parser.add_argument("--ranks", default="1,2,4", help="numbers of ranks, from few to many (1,2,4)")
    parser.add_argument("--output", default="results/bench", help="directory of bench.json and bench.png")
    parser.add_argument("--mpiexec", default="mpiexec", help="the command that starts ranks, before -n")
    parser.add_argument("--strong-only", action="store_true", help="leave out weak scaling and its runs")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        return _child(options.config)
    try:
        options.ranks = sorted({int(number) for number in options.ranks.split(",")})
    except ValueError:
        parser.error("--ranks takes numbers, such as 1,2,4")
    if options.ranks[0] < 1:
        parser.error("a run has at least one rank")
    return configuration_errors(lambda: _bench(options))


def _child(path: str) -> int:
    """A run that counts its messages. Collective."""
    from kswgd_hpc.launch import launch

    def work(comm, config, text, plan) -> int:
        from kswgd_hpc import pipeline
        from kswgd_hpc.traffic import Counted

        pipeline.run(Counted(comm), config, text, plan)
        return 0

    return launch(path, [], work)


def _bench(options) -> int:
    from kswgd_hpc.machine import start_petsc

    start_petsc()
    from mpi4py import MPI

    from kswgd_hpc import memory, scaling, storage
    from kswgd_hpc.config import load, parse
    from kswgd_hpc.plan import build
    from kswgd_hpc.report.scaling import draw

    config, text = load(options.config) if options.config else (parse(DEFAULT), DEFAULT)
    for n in options.ranks:
        memory.check(config, n, n, memory.of_machine())
    build(config)
    directory = Path(options.output)
    storage.prepare_directory(MPI.COMM_SELF, directory, "--output")
    fewest = options.ranks[0]
    measured = {"strong": {n: _measure(text, 1, n, options.mpiexec) for n in options.ranks}}
    if not options.strong_only:
        first = measured["strong"][fewest]
        rest = [n for n in options.ranks if n > fewest]
        measured["weak"] = {fewest: first} | {n: _measure(text, n / fewest, n, options.mpiexec) for n in rest}
    models = scaling.calibrate(config, text) if config.system.kind != "data" else []
    model = {n: {p.stage: p.work + p.messages for p in scaling.predict(models, config, n)} for n in options.ranks}
    for name, runs in measured.items():
        print(f"\n{name} scaling, seconds (parallel efficiency); messages and bytes of a rank on {options.ranks[-1]}\n")
        _table(runs, model if name == "strong" else None)
    (directory / "bench.json").write_text(json.dumps({"config": text, "measured": measured, "model": model}, indent=1))
    draw(measured, directory / "bench.png")
    print(f"\n{directory / 'bench.json'}, {directory / 'bench.png'}")
    return 0


def scaled(text: str, factor: float) -> dict[str, Any]:
    """A configuration with `factor` times the trajectories, particles and paths."""
    import yaml

    values = yaml.safe_load(text)
    shared = [(values.get("ensemble"), "trajectories"), (values.get("kswgd"), "particles")]
    shared += [(row, "trajectories") for row in (values.get("validation") or {}).get("feynman_kac", [])]
    for section, key in shared:
        if section is not None and key in section:
            section[key] = round(section[key] * factor)
    return values


def _measure(text: str, factor: float, ranks: int, mpiexec: str) -> dict[str, dict]:
    """Stages of a run on some ranks, see `scaling.stages`."""
    import yaml

    from kswgd_hpc import log, scaling
    from kswgd_hpc.errors import KswgdError

    with tempfile.TemporaryDirectory() as name:
        values = scaled(text, factor)
        values["output"] = {"directory": str(Path(name) / "out")}
        path = Path(name) / "config.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        command = [*mpiexec.split(), "-n", str(ranks), sys.executable, "-m", "kswgd_hpc", "bench", "--child", str(path)]
        try:
            process = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
        except OSError as error:
            raise KswgdError(f"--mpiexec: {command[0]}: {error.strerror or error}") from error
        if process.returncode:
            said = [line for line in process.stderr.splitlines() if line.startswith("kswgd-hpc: error")]
            reason = said[0].removeprefix("kswgd-hpc: error") if said else f": {process.stderr[-500:]}"
            raise KswgdError(f"the run on {ranks} ranks failed{' '.join(reason.split())}")
        run = scaling.stages(event for event, _ in log.read_events(Path(name) / "out" / log.EVENTS))
    print(f"{factor:g} times the work on {ranks} rank{'s' * (ranks > 1)}: {seconds(run)['all']:.1f} s", flush=True)
    return run


def _environment() -> dict[str, str]:
    """The environment of a new job: without what tells MPI that this process belongs to another one."""
    here = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_COMM", "OMPI_UNIVERSE", "PMIX", "PMI_"))}
    root = str(Path(__file__).resolve().parents[2])
    return here | {"PYTHONPATH": os.pathsep.join(filter(None, [root, here.get("PYTHONPATH")]))}


def seconds(run: dict[str, dict]) -> dict[str, float]:
    """Stage -> seconds of a run, and their sum as `all`."""
    found = {name: stage["seconds"] for name, stage in run.items()}
    return found | {"all": sum(found.values())}


def _table(runs: dict[int, dict], model: dict[int, dict] | None) -> None:
    fewest, most = min(runs), max(runs)
    print("  ".join([f"{'stage':<22}", *(f"{n:>7} ranks   " for n in runs), "messages      bytes"]))
    for name in seconds(runs[fewest]):
        times = {n: seconds(run).get(name, 0.0) for n, run in runs.items()}
        cells = [f"{times[n]:>8.3f} ({_efficiency(times, n, model is None):>4.0%})" for n in runs]
        traffic = [row for s, stage in runs[most].items() if name in (s, "all") for row in stage["traffic"]]
        calls, sent = sum(n for *_, n in traffic), sum(b * n for _, b, n in traffic)
        print("  ".join([f"{name:<22}", *cells, f"{calls:>8} {sent:>10}"]))
    if not model or not model.get(fewest):
        return
    first = seconds(runs[fewest])
    predicted = {
        n: sum(first[s] * model[n][s] / model[fewest][s] for s in runs[fewest] if model[fewest].get(s)) for n in runs
    }
    shown = [f"{predicted[n]:>8.3f} ({seconds(runs[n])['all'] / predicted[n] - 1:>+4.0%})" for n in runs]
    print("  ".join([f"{'all, by the model':<22}", *shown, "(measured against it)"]))


def _efficiency(times: dict[int, float], ranks: int, weak: bool) -> float:
    fewest = min(times)
    if not times[ranks]:
        return 1.0
    return times[fewest] / times[ranks] * (1.0 if weak else fewest / ranks)
