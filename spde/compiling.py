"""Compiled functions that are kept on disk, and compiled anew whenever any source that goes into them changes.

Numba files machine code by the source of the one file that a function stands in, but compiles what it calls into it,
from whichever file. So code that is kept goes to a directory named by the hash of all sources that are compiled:
$NUMBA_CACHE_DIR, else $KSWGD_CACHE/kernels, else kswgd-hpc/kernels in the user's cache directory, else a temporary one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numba
from numba import config

_COMPILED = (b"njit", b"cfunc", b"llvmlite")  # what a file has that is compiled, or writes machine code by itself
_MONTHS = 60 * 86400.0  # seconds


def njit(function: Callable | None = None, **options) -> Callable:
    """`numba.njit`; cache=True is for functions in this package's files, and in others that call nothing but these."""
    decorate = _kept(numba.njit(**options))
    return decorate if function is None else decorate(function)


def cfunc(signature, **options) -> Callable:
    """`numba.cfunc`, kept likewise."""
    return _kept(numba.cfunc(signature, **options))


def _kept(decorator: Callable) -> Callable:
    """A decorator of Numba whose functions are kept in `_place`: it is when it decorates that Numba asks where."""

    def decorate(function: Callable) -> Callable:
        before, config.CACHE_DIR = config.CACHE_DIR, str(_place())
        try:
            return decorator(function)
        finally:
            config.CACHE_DIR = before

    return decorate


@cache
def _place() -> Path:
    """Directory of the machine code of these sources; that of sources long gone is removed when it is made."""
    home = Path(config.CACHE_DIR) if config.CACHE_DIR else directory()
    place = home / f"code_{sources()[:16]}"
    if not place.exists():
        for other in home.glob("code_*"):
            with suppress(OSError):  # another rank was first
                if time.time() - other.stat().st_mtime > _MONTHS:
                    shutil.rmtree(other)
    return place


@cache
def sources() -> str:
    """Hash of all files of spde that are compiled; a file elsewhere that calls them is in Numba's own account."""
    texts = (path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
    return hashlib.sha256(b"".join(t for t in texts if any(word in t for word in _COMPILED))).hexdigest()


@cache
def directory() -> Path:
    """The cache directory; a temporary one where the user's cannot be written."""
    given = os.environ.get("KSWGD_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = Path(given) / "kernels" if given else home / "kswgd-hpc" / "kernels"
    try:
        path.mkdir(parents=True, exist_ok=True)
        if os.access(path, os.W_OK):
            return path
    except OSError:
        pass
    path = Path(tempfile.gettempdir()) / f"kswgd-hpc-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    return path
