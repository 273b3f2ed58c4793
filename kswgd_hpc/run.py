"""python -m kswgd_hpc.run config.yaml: the main job."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from kswgd_hpc.launch import launch, leave

_USAGE = "mpiexec -n RANKS python -m kswgd_hpc.run config.yaml [--resume] [PETSc options]"


def main(argv: list[str] | None = None) -> int:
    """Run one configuration file; arguments that are not ours go to PETSc. Returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="kswgd-hpc", allow_abbrev=False, usage=_USAGE, description=__doc__)
    parser.add_argument("config", help="configuration file (YAML)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint, on any number of ranks")
    ours, petsc = parser.parse_known_args(arguments)
    return launch(ours.config, petsc, partial(_work, ours.resume))


def _work(resume, comm, config, text, plan) -> int:
    from kswgd_hpc import pipeline

    pipeline.run(comm, config, text, plan, resume)
    return 0


if __name__ == "__main__":
    leave(main())
