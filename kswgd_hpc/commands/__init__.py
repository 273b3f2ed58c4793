"""The commands beside `run`, one a file with `main(argv) -> exit status`: python -m kswgd_hpc COMMAND ..."""

from __future__ import annotations

import sys
from collections.abc import Callable

COMMANDS: tuple[str, ...] = ("bench", "doctor", "plan", "study", "validate", "watch")


def configuration_errors(work: Callable[[], int]) -> int:
    """Do the work of a command in one process; what is wrong with a configuration is one line and status 2."""
    from kswgd_hpc.errors import KswgdError

    try:
        return work()
    except KswgdError as error:
        print(f"kswgd-hpc: error: {error}", file=sys.stderr, flush=True)
        return 2
