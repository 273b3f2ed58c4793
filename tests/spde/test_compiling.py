"""Kernels on disk follow the sources that they were compiled from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COUNTED = "        fill_quad(normal, k0, k1, stream, first, step, quad)"
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


def printed(place: Path, processes: int = 1) -> tuple[float, int, int]:
    """What the program prints, in some processes at once, with the package in a directory, and its cache beside it.

    Returns the number, and how often machine code was saved and loaded.
    """
    environment = {"PYTHONPATH": str(place), "KSWGD_CACHE": str(place / "cache"), "NUMBA_DEBUG_CACHE": "1"}
    words = [sys.executable, "-c", PROGRAM]
    started = [
        subprocess.Popen(words, env=os.environ | environment, stdout=subprocess.PIPE, text=True, cwd=place)
        for _ in range(processes)
    ]
    said = [process.communicate()[0].splitlines() for process in started]
    assert [process.returncode for process in started] == [0] * processes
    (number,) = {float(lines[-1]) for lines in said}
    saved, loaded = (sum(word in line for lines in said for line in lines) for word in ("data saved", "data loaded"))
    return number, saved, loaded


def test_a_change_of_what_is_compiled_into_a_kernel_of_another_file_is_seen(tmp_path):
    shutil.copytree(ROOT / "spde", tmp_path / "spde", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "kernel_of_a_user.py").write_text(KERNEL)
    before, saved, _ = printed(tmp_path, processes=3)
    assert 0 < saved == len(list((tmp_path / "cache").rglob("*.nbc")))  # one of the three compiled
    again, saved, loaded = printed(tmp_path)
    assert (again, saved) == (before, 0)
    assert loaded
    source = tmp_path / "spde" / "driving.py"
    text = source.read_text()
    assert text.count(COUNTED) == 1
    source.write_text(text.replace(COUNTED, "        normal[:] = 1.0"))
    changed, saved, _ = printed(tmp_path)
    assert changed == 32.0 != before
    assert saved
