"""python -m kswgd_hpc [COMMAND] ...: a command of `commands/`, or, without its name, a run."""

import sys
from importlib import import_module

from kswgd_hpc import run
from kswgd_hpc.commands import COMMANDS


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says. Returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in COMMANDS:
        return import_module(f"kswgd_hpc.commands.{arguments[0]}").main(arguments[1:])
    return run.main(arguments[1:] if arguments[:1] == ["run"] else arguments)


if __name__ == "__main__":
    sys.exit(main())
