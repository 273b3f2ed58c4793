"""Kernels on disk follow the sources that they were compiled from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# the normals of one step, by a loop that another file's function is compiled into
PROGRAM = """
import numpy as np
from kernel_of_a_user import normals
out = np.empty((4, 8))
normals(out, (1, 2, 3, 0, 0, np.empty((0, 0, 0))))
print(out.sum())
"""
KERNEL = """
from spde.compiling import njit
from spde.driving import draw
@njit(cache=True)
def normals(out, address):
    draw(out, address, 0, 0)
"""


def printed(place: Path) -> float:
    """What the program prints with the package in a directory, and its cache beside it."""
    environment = os.environ | {"PYTHONPATH": str(place), "KSWGD_CACHE": str(place / "cache")}
    words = [sys.executable, "-c", PROGRAM]
    process = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=place)
    assert process.returncode == 0, process.stderr
    return float(process.stdout)


def test_a_change_of_what_is_compiled_into_a_kernel_of_another_file_is_seen(tmp_path):
    shutil.copytree(ROOT / "spde", tmp_path / "spde", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "kernel_of_a_user.py").write_text(KERNEL)
    before = printed(tmp_path)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.nbc")}
    assert files
    assert printed(tmp_path) == before
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.nbc")}
    source = tmp_path / "spde" / "driving.py"
    text = source.read_text()
    changed = text.replace("fill_quad(normal, k0, k1, stream, first, step, quad)", "normal[:] = 1.0", 1)
    assert changed != text
    source.write_text(changed)
    assert printed(tmp_path) == 32.0 != before
