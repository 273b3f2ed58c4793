"""The files of a checkpoint: bundles of items, whole or not there, and checked when they are read.

A bundle is a zip archive of NPY arrays, without compression; NumPy reads it too (`numpy.load`). Its members are named
STAGE/INDEX/PROGRESS/ARRAY: of item INDEX of a stage, as it was after PROGRESS steps. Each member has a CRC-32, which is
compared before anything of it is used. The member `about` says in JSON what the items belong to.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SUFFIX = ".bundle"
_ABOUT = "about"
# what a truncated or altered archive makes zipfile, zlib and NumPy raise
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    IndexError,
    MemoryError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


class Damaged(Exception):
    """A bundle, or an item of it, that is not what was written."""


@dataclass(frozen=True, order=True)
class Key:
    """An item as it was at some time: index of a stage, after so many steps."""

    stage: str
    index: int
    progress: int

    @property
    def prefix(self) -> str:
        """How the names of its arrays begin."""
        return f"{self.stage}/{self.index}/{self.progress}/"


@dataclass(frozen=True)
class Contents:
    """What a bundle has: about : what it belongs to; items : key -> names of its arrays."""

    about: dict[str, Any]
    items: dict[Key, list[str]]


def write(
    path: Path, about: dict[str, Any], items: dict[Key, dict[str, np.ndarray]], copies: Iterable[tuple[Path, Key]] = ()
) -> int:
    """Write a bundle so that it is there whole or not at all: temporary file, fsync, rename, fsync of the directory.

    Parameters
    ----------
    about : see `Contents`
    items : key -> name -> array
    copies : items to take over from other bundles; damaged ones are left out

    Returns
    -------
    bytes written

    Raises
    ------
    OSError : no space, no permission; nothing is left behind then
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_ABOUT, json.dumps(about))
                for key, arrays in items.items():
                    for name, array in arrays.items():
                        with archive.open(key.prefix + name, "w", force_zip64=True) as member:
                            np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
                _copy(archive, copies)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(partial, path)
        _sync_directory(path.parent)
        return size
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _copy(archive: zipfile.ZipFile, copies: Iterable[tuple[Path, Key]]) -> None:
    by_path: dict[Path, list[Key]] = {}
    for path, key in copies:
        by_path.setdefault(path, []).append(key)
    for path, keys in by_path.items():
        with suppress(Damaged), Reader(path) as reader:
            for key in keys:
                with suppress(Damaged):
                    for name, content in reader.members(key).items():
                        archive.writestr(key.prefix + name, content)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot, and do it by themselves
    finally:
        os.close(descriptor)


def contents(path: Path) -> Contents:
    """What a bundle has. Raises Damaged; the arrays themselves are looked at by `read`."""
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read(_ABOUT))
            items: dict[Key, list[str]] = {}
            for member in archive.namelist():
                if member != _ABOUT:
                    stage, index, progress, name = member.split("/", 3)
                    items.setdefault(Key(stage, int(index), int(progress)), []).append(name)
        return Contents(about, items)
    except _DAMAGE as error:
        raise Damaged(str(error) or type(error).__name__) from error


class Reader:
    """A bundle that items are read from, one after the other. Raises Damaged if it is no bundle."""

    def __init__(self, path: Path):
        self._names: dict[str, list[str]] = {}
        try:
            self._archive = zipfile.ZipFile(path)
            for member in self._archive.namelist():
                stem = "/".join(member.split("/", 3)[:3]) + "/"
                self._names.setdefault(stem, []).append(member)
        except _DAMAGE as error:
            raise Damaged(str(error) or type(error).__name__) from error

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_error) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def members(self, key: Key) -> dict[str, bytes]:
        """Name -> content of the arrays of an item; reading a member to its end compares its CRC. Raises Damaged."""
        names = self._names.get(key.prefix, [])
        if not names:
            raise Damaged("the item is missing")
        try:
            return {name.removeprefix(key.prefix): self._archive.read(name) for name in names}
        except _DAMAGE as error:
            raise Damaged(str(error) or type(error).__name__) from error

    def read(self, key: Key) -> dict[str, np.ndarray]:
        """The arrays of an item. Raises Damaged where a byte of it is not what was written."""
        try:
            return {name: _array(content) for name, content in self.members(key).items()}
        except _DAMAGE as error:
            raise Damaged(str(error) or type(error).__name__) from error


def read(path: Path, key: Key) -> dict[str, np.ndarray]:
    """The arrays of one item of a bundle, see `Reader.read`."""
    with Reader(path) as reader:
        return reader.read(key)


def _array(content: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
