"""python -m kswgd_hpc.run config.yaml: the main job."""

from __future__ import annotations

import argparse
import sys

_USAGE = "mpiexec -n RANKS python -m kswgd_hpc.run config.yaml [PETSc options]"


def main(argv: list[str] | None = None) -> int:
    """Run one configuration file; arguments that are not ours go to PETSc. Returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="kswgd-hpc", usage=_USAGE, description=__doc__)
    parser.add_argument("config", help="configuration file (YAML)")
    ours, petsc = parser.parse_known_args(arguments)

    import petsc4py

    petsc4py.init([sys.argv[0], *petsc])
    from mpi4py import MPI

    from kswgd_hpc import pipeline
    from kswgd_hpc.config import load
    from kswgd_hpc.eigensolver import check_real
    from kswgd_hpc.errors import KswgdError
    from kswgd_hpc.parallel import abort, from_root
    from kswgd_hpc.plan import prepare

    comm = MPI.COMM_WORLD
    try:
        check_real()
        config, text = from_root(comm, lambda: load(ours.config))
        plan = prepare(comm, config)
    except KswgdError as error:
        # all ranks know this error: one line, and every rank ends by itself
        if comm.rank == 0:
            print(f"kswgd-hpc: error: {error}", file=sys.stderr, flush=True)
        return 2
    except Exception as error:
        abort(comm, error)
    try:
        pipeline.run(comm, config, text, plan)
    except BaseException as error:
        abort(comm, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
