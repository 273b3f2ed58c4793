"""How every command starts: PETSc, the configuration, its plan, and what becomes of errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py import MPI

    from kswgd_hpc.config import Config
    from kswgd_hpc.plan import Plan


def launch(path: str, petsc: list[str], work: Callable[[MPI.Comm, Config, str, Plan], int]) -> int:
    """Check a configuration file and do the work it describes. Collective on all ranks of the job.

    Parameters
    ----------
    path : of the configuration file
    petsc : options for PETSc
    work : of the communicator, the configuration, its text and its plan, to the exit status

    Returns
    -------
    exit status: that of the work, or 2 for a configuration that cannot be run, after one line on standard error
    """
    import petsc4py

    petsc4py.init([sys.argv[0], *petsc])
    from mpi4py import MPI

    from kswgd_hpc import petsc_types
    from kswgd_hpc.config import load
    from kswgd_hpc.eigensolver import check_real
    from kswgd_hpc.errors import KswgdError
    from kswgd_hpc.parallel import abort, from_root
    from kswgd_hpc.plan import prepare

    comm = MPI.COMM_WORLD
    try:
        check_real()
        config, text = from_root(comm, lambda: load(path))
        plan = prepare(comm, config)
    except KswgdError as error:
        # all ranks know this error: one line, and every rank ends by itself
        if comm.rank == 0:
            print(f"kswgd-hpc: error: {error}", file=sys.stderr, flush=True)
        return 2
    except Exception as error:
        abort(comm, error)
    try:
        petsc_types.apply(petsc_types.select(config.compute.device))
        status = work(comm, config, text, plan)
        if comm.rank == 0:
            _say_unused(petsc, config)
        return status
    except BaseException as error:
        abort(comm, error)


def _say_unused(petsc: list[str], config: Config) -> None:
    """One line for each PETSc option, of the command line or the configuration, that nothing used."""
    from kswgd_hpc.petsc_types import given_options, unused_options

    ours = [name.lstrip("-") for name in config.koopman.petsc_options] if config.koopman is not None else []
    for names, where in ((given_options(petsc), "-"), (ours, "koopman.petsc_options.")):
        for name in unused_options(names):
            print(f"kswgd-hpc: warning: {where}{name}: no PETSc or SLEPc object used this option", file=sys.stderr)
