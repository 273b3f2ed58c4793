"""What a run imports before it starts."""

from __future__ import annotations

import subprocess
import sys

from kswgd_hpc.__main__ import main
from kswgd_hpc.commands import COMMANDS

HEAVY = (
    "sympy",
    "matplotlib",
    "pandas",
    "rich",
    "scipy.optimize",
    "scipy.stats",
    "scipy.interpolate",
    "scipy.integrate",
)


def test_a_run_imports_nothing_heavy_that_it_may_not_use():
    program = f"""
import sys, kswgd_hpc.run, kswgd_hpc.plan, kswgd_hpc.pipeline
print([name for name in {HEAVY} if name in sys.modules])
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert process.stdout.strip() == "[]"


def test_help_without_a_command_names_them_all(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for name in ("run", *COMMANDS):
        assert any(line.replace(".", " ").split()[3].strip(":") == name for line in said.splitlines()), name
