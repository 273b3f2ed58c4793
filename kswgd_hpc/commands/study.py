"""python -m kswgd_hpc study study.yaml: one configuration, what varies in it, its rivals, several seeds, one table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kswgd_hpc.launch import launch_with

if TYPE_CHECKING:
    from mpi4py import MPI

    from kswgd_hpc.studies import StudyPlan

_USAGE = "mpiexec -n RANKS python -m kswgd_hpc study study.yaml [--reuse] [PETSc options]"


def main(argv: list[str]) -> int:
    """Check a study whole, run it, and write table.csv and report.html. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="kswgd-hpc study", allow_abbrev=False, usage=_USAGE, description=__doc__)
    parser.add_argument("study", help="study file (YAML)")
    parser.add_argument("--reuse", action="store_true", help="take results that the same configuration has left")
    ours, petsc = parser.parse_known_args(argv)

    def ready(comm: MPI.Comm) -> StudyPlan:
        from kswgd_hpc import studies

        return studies.plan(comm, ours.study)

    return launch_with(petsc, ready, lambda comm, plan: _work(comm, plan, ours.reuse))


def _work(comm: MPI.Comm, ready: StudyPlan, reuse: bool) -> int:
    from kswgd_hpc import studies
    from kswgd_hpc.parallel import from_root
    from kswgd_hpc.progress import Progress

    for _run in studies.carried_out(comm, ready, reuse):
        pass
    path = from_root(comm, lambda: _write(ready))
    Progress(comm).say(f"study                  {path}")
    return 0


def _write(ready: StudyPlan) -> Path:
    from kswgd_hpc import comparison
    from kswgd_hpc.report import study  # matplotlib is slow to import: rank 0 alone, at the end

    found = comparison.collect(ready)
    comparison.write_table(found, ready.directory / "table.csv")
    return study.write(ready, found)
