"""python -m kswgd_hpc.run config.yaml: the main job."""

from __future__ import annotations

import argparse
import sys

from kswgd_hpc.launch import launch

_USAGE = "mpiexec -n RANKS python -m kswgd_hpc.run config.yaml [PETSc options]"


def main(argv: list[str] | None = None) -> int:
    """Run one configuration file; arguments that are not ours go to PETSc. Returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="kswgd-hpc", usage=_USAGE, description=__doc__)
    parser.add_argument("config", help="configuration file (YAML)")
    ours, petsc = parser.parse_known_args(arguments)
    return launch(ours.config, petsc, _work)


def _work(comm, config, text, plan) -> int:
    from kswgd_hpc import pipeline

    pipeline.run(comm, config, text, plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
