"""python -m kswgd_hpc [COMMAND] ...: a command of `commands/`, or, without its name, a run."""

import sys
from importlib import import_module

from kswgd_hpc import run
from kswgd_hpc.commands import COMMANDS
from kswgd_hpc.launch import leave


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says. Returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] in COMMANDS:
        return import_module(f"kswgd_hpc.commands.{arguments[0]}").main(arguments[1:])
    return run.main(arguments[1:] if arguments[:1] == ["run"] else arguments)


def _overview() -> str:
    """The first line of what each command says about itself."""
    modules = [run, *(import_module(f"kswgd_hpc.commands.{name}") for name in COMMANDS)]
    return "\n".join((module.__doc__ or "").partition("\n")[0] for module in modules)


if __name__ == "__main__":
    leave(main())
