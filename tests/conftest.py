"""Fixtures of all tests."""

from __future__ import annotations

import pytest
from support import ROOT, results, run_command


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    """Function name -> datasets of an example, run once by the public command on two ranks."""
    found: dict[str, dict] = {}

    def get(name: str) -> dict:
        if name not in found:
            directory = tmp_path_factory.mktemp(name)
            process = run_command((ROOT / "examples" / f"{name}.yaml").read_text(), directory, ranks=2)
            assert process.returncode == 0, process.stderr
            found[name] = results(directory)
        return found[name]

    return get
