"""Run pytest on every rank: mpiexec -n 2 python scripts/mpi_pytest.py LOG_DIRECTORY [pytest arguments].

Rank 0 reports on the terminal, the others in LOG_DIRECTORY/rankN.log; LOG_DIRECTORY/rankN.test names the
test that rank N ran last. A rank whose tests failed leaves
the others waiting for it in some collective call; after a grace time it ends the whole job.
"""

import os
import sys
import time
from pathlib import Path

import pytest
from mpi4py import MPI

GRACE = 10.0  # seconds that a failed rank leaves the others to finish their reports


class Reporting:
    """What every rank reports beyond, and short of, pytest's own words."""

    def __init__(self, current_test: Path):
        self.current_test = current_test

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Leave the name of the test on disk, for the rank that does not come back from it."""
        self.current_test.write_text(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, config: pytest.Config) -> None:
        """Leave out the forty lines on the MPI library that pytest-mpi ends every report with."""
        for plugin in config.pluginmanager.get_plugins():
            if type(plugin).__name__ == "MPIPlugin":
                plugin._is_testing_mpi = False


def redirect_output(path: Path) -> None:
    """Send stdout and stderr of this process, and of what it starts, to a file."""
    with path.open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def all_ranks_finish(comm: MPI.Comm, seconds: float) -> bool:
    """Whether every rank arrives here within the given time."""
    arrival = comm.Ibarrier()
    deadline = time.monotonic() + seconds
    while not arrival.Test():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def main(directory: Path, arguments: list[str]) -> int:
    comm = MPI.COMM_WORLD.Dup()  # apart from the messages of the tests
    directory.mkdir(parents=True, exist_ok=True)
    if comm.rank > 0:
        redirect_output(directory / f"rank{comm.rank}.log")
    reporting = Reporting(directory / f"rank{comm.rank}.test")
    # Ranks share neither pytest's temporary directory nor its cache.
    private = [f"--basetemp={directory / f'tmp{comm.rank}'}", "-p", "no:cacheprovider"]
    status = int(pytest.main(arguments + private, plugins=[reporting]))
    sys.stdout.flush()
    sys.stderr.flush()
    if not all_ranks_finish(comm, GRACE if status else float("inf")):
        comm.Abort(status)
    return comm.allreduce(status, op=MPI.MAX)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
