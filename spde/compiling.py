"""Compiled functions that are kept on disk, and compiled anew whenever any source that goes into them changes.

Numba files machine code by the source of the one file that a function stands in, but compiles what it calls into it,
from whichever file. So code that is kept goes to a directory named by the hash of all sources that are compiled:
$NUMBA_CACHE_DIR, else $KSWGD_CACHE/kernels, else kswgd-hpc/kernels in the user's cache directory, else a temporary one.
Of many processes that start at once, the ranks of a node, one compiles and the others load what it has made.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, TypeVar

import numba
from numba import config

T = TypeVar("T")

_COMPILED = (b"njit", b"cfunc", b"llvmlite")  # what a file has that is compiled, or writes machine code by itself
_MONTHS = 60 * 86400.0  # seconds


def njit(function: Callable | None = None, **options) -> Callable:
    """`numba.njit`; cache=True is for functions in this package's files, and in others that call nothing but these."""

    def decorate(function: Callable) -> Callable:
        with _kept_here():
            compiled = numba.njit(**options)(function)
        if options.get("cache"):
            compile_ = compiled.compile
            compiled.compile = lambda signature: _once(function, signature, lambda: compile_(signature))
        return compiled

    return decorate if function is None else decorate(function)


def cfunc(signature, **options) -> Callable:
    """`numba.cfunc` with cache=True, kept likewise."""

    def decorate(function: Callable) -> Callable:
        with _kept_here():
            return _once(function, signature, lambda: numba.cfunc(signature, **options)(function))

    return decorate


@contextmanager
def _kept_here() -> Iterator[None]:
    """Let functions that are decorated meanwhile be kept in `_place`: it is then that Numba asks where."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(_place())
    try:
        yield
    finally:
        config.CACHE_DIR = before


def _once(function: Callable, signature, compile_: Callable[[], T]) -> T:
    """Machine code of a function, made by one process while others that want some wait; then each of them loads it."""
    code = function.__code__
    name = f"{function.__module__} {function.__qualname__} {code.co_firstlineno} {signature} {numba.__version__}"
    made = _place() / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.made"
    if made.exists():
        return compile_()
    with _lock():
        found = compile_()
        with suppress(OSError):
            made.touch()
    return found


class _Lock:
    """Held by one process at a time, of all that share a file; not held at all where the file system has no locks."""

    def __init__(self, path: Path):
        self._path, self._depth = path, 0
        self._file: IO | None = None

    def __enter__(self) -> None:
        self._depth += 1  # what is compiled compiles what it calls
        if self._depth > 1:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_error) -> None:
        self._depth -= 1
        if self._depth == 0 and self._file is not None:
            self._file.close()
            self._file = None


@cache
def _lock() -> _Lock:
    return _Lock(_place() / "lock")


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
