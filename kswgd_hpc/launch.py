"""How every command starts: PETSc, the configuration, its plan, and what becomes of errors."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

from kswgd_hpc.errors import Interrupted, KswgdError, MachineError, ResumeError

if TYPE_CHECKING:
    from mpi4py import MPI

    from kswgd_hpc.config import Config
    from kswgd_hpc.plan import Plan

T = TypeVar("T")


INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: not done, to be tried again


def launch(path: str, petsc: list[str], work: Callable[[MPI.Comm, Config, str, Plan], int]) -> int:
    """Check a configuration file and do the work it describes. Collective on all ranks of the job.

    Parameters
    ----------
    path : of the configuration file
    petsc : options for PETSc
    work : of the communicator, the configuration, its text and its plan, to the exit status

    Returns
    -------
    exit status: that of the work; 2 for a configuration that cannot be run or resumed, 75 for a run that was asked to
    stop and can be resumed, each after one line on standard error
    """

    def ready(comm: MPI.Comm) -> tuple[Config, str, Plan]:
        from kswgd_hpc.config import load
        from kswgd_hpc.parallel import from_root

        config, text = from_root(comm, lambda: load(path))
        from kswgd_hpc.plan import prepare  # a quarter of all imports, which a file that is refused does without

        return config, text, prepare(comm, config)

    def done(comm: MPI.Comm, found: tuple[Config, str, Plan]) -> int:
        from kswgd_hpc import petsc_types

        config, text, plan = found
        petsc_types.apply(petsc_types.select(config.compute.device))
        status = work(comm, config, text, plan)
        if comm.rank == 0:
            _say_unused(petsc, config)
        return status

    return launch_with(petsc, ready, done)


def launch_with(petsc: list[str], ready: Callable[[MPI.Comm], T], work: Callable[[MPI.Comm, T], int]) -> int:
    """The same for what is not one configuration: check everything, then work. Collective on all ranks of the job.

    Parameters
    ----------
    petsc : options for PETSc
    ready : checks what was asked for and returns it; raises KswgdError, the same on every rank
    work : of the communicator and what is ready, to the exit status
    """
    from mpi4py import MPI

    from kswgd_hpc.machine import check_ranks, start_petsc

    comm = MPI.COMM_WORLD
    if (stray := _stray(petsc)) is not None:
        return _ended(comm, f"error: unknown argument {stray}; PETSc options have one dash, and at most one value", 2)
    try:
        start_petsc(petsc)
        check_ranks(comm)
    except MachineError as error:
        return _ended(comm, f"error: {error}", 2)

    from kswgd_hpc.eigensolver import check_real
    from kswgd_hpc.parallel import abort

    try:
        check_real()
        found = ready(comm)
    except KswgdError as error:
        return _ended(comm, f"error: {error}", 2)
    except Exception as error:
        abort(comm, error)
    try:
        return work(comm, found)
    except ResumeError as error:
        return _ended(comm, f"error: {error}", 2)
    except Interrupted as request:
        return _ended(comm, str(request), INTERRUPTED)
    except BaseException as error:
        abort(comm, error)


def leave(status: int) -> NoReturn:
    """End this process. The last search for cycles is left out: it takes a third of a second where SymPy is loaded."""
    gc.freeze()
    sys.exit(status)


def _stray(petsc: list[str]) -> str | None:
    """The first argument that is neither an option for PETSc nor the value of one."""
    before = ""
    for text in petsc:
        if text.startswith("--") or not (text.startswith("-") or before.startswith("-")):
            return text
        before = text
    return None


def _ended(comm: MPI.Comm, message: str, status: int) -> int:
    """The end of a job of which all ranks know the reason: one line, and every rank ends by itself."""
    if comm.rank == 0:
        print(f"kswgd-hpc: {message}", file=sys.stderr, flush=True)
    comm.Barrier()  # a launcher may end the other ranks when the first is gone
    return status


def _say_unused(petsc: list[str], config: Config) -> None:
    """One line for each PETSc option, of the command line or the configuration, that nothing used."""
    from kswgd_hpc.petsc_types import given_options, unused_options

    ours = [name.lstrip("-") for name in config.koopman.petsc_options] if config.koopman is not None else []
    for names, where in ((given_options(petsc), "-"), (ours, "koopman.petsc_options.")):
        for name in unused_options(names):
            print(f"kswgd-hpc: warning: {where}{name}: no PETSc or SLEPc object used this option", file=sys.stderr)
