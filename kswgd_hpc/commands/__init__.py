"""The commands beside `run`, one a file with `main(argv) -> exit status`: python -m kswgd_hpc COMMAND ..."""

COMMANDS: tuple[str, ...] = ("study",)
