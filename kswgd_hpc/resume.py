"""Whose checkpoint it is: what was saved for another configuration is told apart, key by key."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpi4py import MPI

from kswgd_hpc import __version__, bundles
from kswgd_hpc.bundles import SUFFIX, Contents, Damaged
from kswgd_hpc.checkpoint import Checkpoint, Item, Schedule
from kswgd_hpc.config import Config
from kswgd_hpc.errors import ResumeError
from kswgd_hpc.parallel import from_root
from kswgd_hpc.schema.output import Checkpoint as Section
from kswgd_hpc.schema.output import seconds
from kswgd_hpc.stopping import Stop

FORMAT = 2
DIRECTORY = "checkpoint"
_OLD = "checkpoint.old"
_WORTH = 60.0  # seconds of work that are worth a save at the end of a stage, where nobody asked for checkpoints

# what changes no number of what was saved
_FREE = ("title", "output", "compute")
# stages in their order, and the first that a key has an effect on; what comes before it is used again
_STAGES = ("pilot", "ensemble", "records", "galerkin", "spectrum", "certificates", "validation", "transport")
_AFFECTS = {
    "ensemble.duration": "records",
    "koopman.dictionary.size": "galerkin",
    "koopman.modes": "spectrum",
    "koopman.regularization": "spectrum",
    "kswgd.particles": "transport",
    "kswgd.initial": "transport",
    "kswgd.steps": "transport",
    "kswgd.step_size": "transport",
    "kswgd.tolerance": "transport",
    "kswgd.stop": "transport",
    "kswgd.time": "transport",
    "kswgd.snapshots": "transport",
    "kswgd.spread": "transport",
    "kswgd.relaxation": "transport",
    "kswgd.baselines": "transport",
    "kswgd.baseline_steps": "transport",
}


@dataclass(frozen=True)
class _Found:
    """What rank 0 finds: items, an unused edition, and what is to be said."""

    items: dict[Item, list[tuple[int, Path]]]
    edition: int
    lines: tuple[str, ...]


def open_checkpoint(
    comm: MPI.Comm, config: Config, stop: Stop, resume: bool, say: Callable[[str], None], extends: Callable
) -> Checkpoint:
    """The checkpoint of a run: continued, or begun. Collective.

    Parameters
    ----------
    resume : whether to go on from what is there
    say : of one line for the log
    extends : function of the saved configuration -> why this one cannot go on from it, empty where it can

    Raises
    ------
    ResumeError : on all ranks, where results of two configurations would mix
    """
    directory = Path(config.output.directory) / DIRECTORY
    about = {"format": FORMAT, "version": __version__, "config": json.loads(config.model_dump_json())}
    about["files"] = _files(about["config"])
    section = config.output.checkpoint or Section()
    every, explicit = seconds(section.every), config.output.checkpoint is not None
    schedule = Schedule(every, 0.0 if explicit else _WORTH, section.keep, explicit)

    def look() -> _Found:
        stop.clear()  # a left-over: this run begins now
        return _find(directory, about, section.keep, extends) if resume else _set_aside(directory)

    found = from_root(comm, look)
    for line in found.lines:
        say(line)
    return Checkpoint(
        comm,
        directory,
        about,
        schedule,
        stop,
        found.items,
        found.edition,
        lambda stage: _label(stage, about["config"]),
    )


def finish(comm: MPI.Comm, config: Config, checkpoint: Checkpoint) -> None:
    """After the results have been written: remove what was saved, unless it was asked for and can be extended.
    Collective."""
    directory = Path(config.output.directory)

    def remove() -> None:
        shutil.rmtree(directory / _OLD, ignore_errors=True)
        if not checkpoint.schedule.lasting:
            shutil.rmtree(directory / DIRECTORY, ignore_errors=True)

    comm.Barrier()  # nobody writes any more
    from_root(comm, remove)


def _label(stage: str, config: dict[str, Any]) -> str:
    """The name of a stage with what it depends on beyond the keys that have to agree in any case."""
    flat, first_word = _flat(config), stage.split(" ")[0]
    last = _STAGES.index(first_word) if first_word in _STAGES else len(_STAGES)
    values = {key: flat.get(key) for key, first in _AFFECTS.items() if _STAGES.index(first) <= last}
    return f"{stage}.{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}"


def _set_aside(directory: Path) -> _Found:
    """A run from the beginning: an older checkpoint is no part of it, but is not thrown away before the run ends."""
    if not any(directory.glob(f"*{SUFFIX}")):
        return _Found({}, 0, ())
    old = directory.with_name(_OLD)
    shutil.rmtree(old, ignore_errors=True)
    directory.rename(old)
    return _Found({}, 0, (f"starting from the beginning without --resume: moved an older checkpoint to {old}",))


def _find(directory: Path, about: dict[str, Any], keep: int, extends: Callable) -> _Found:
    """All items of a directory that belong to the configuration; deletes bundles that nothing needs."""
    for partial in directory.glob(".*.partial"):
        partial.unlink(missing_ok=True)
    lines, edition, bundled = [], 0, {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        edition = max(edition, _edition(path) + 1)
        try:
            bundled[path] = bundles.contents(path)
        except Damaged as error:
            lines.append(f"checkpoint: {path.name} is damaged ({error}) and left out")
    configurations = {json.dumps(c.about["config"], sort_keys=True): c.about for c in bundled.values()}
    for saved in configurations.values():
        lines += _compare(saved, about, extends)
    if not bundled:
        lines.append(f"no checkpoint in {directory}: starting from the beginning")
        return _Found({}, edition, tuple(lines))
    items = _items(bundled, keep)
    needed = {path for saves in items.values() for _, path in saves}
    for path in bundled.keys() - needed:
        path.unlink(missing_ok=True)
    stages = sorted({stage.split(".")[0] for stage, _ in items})
    lines.append(f"resumed from {directory}: {len(items)} items of {', '.join(stages)}")
    return _Found(items, edition, tuple(lines))


def _items(bundled: dict[Path, Contents], keep: int) -> dict[Item, list[tuple[int, Path]]]:
    found: dict[Item, list[tuple[int, Path]]] = {}
    for path, contents in bundled.items():
        for key in contents.items:
            found.setdefault((key.stage, key.index), []).append((key.progress, path))
    # of the same progress the later bundle first; a stage whose steps must agree between items keeps more of them
    return {item: sorted(set(saves), reverse=True)[: keep + 1] for item, saves in found.items()}


def _edition(path: Path) -> int:
    number = path.name.split("-")[0]
    return int(number) if number.isdigit() else 0


def _compare(saved: dict[str, Any], now: dict[str, Any], extends: Callable) -> list[str]:
    """What to say of a saved configuration. Raises ResumeError where it cannot be continued."""
    if saved.get("format") != FORMAT:
        raise ResumeError(
            f"--resume: the checkpoint has format {saved.get('format')}, this version reads {FORMAT}; "
            "run without --resume to start from the beginning"
        )
    lines = []
    if saved.get("version") != now["version"]:
        lines.append(f"checkpoint of version {saved.get('version')}, this is {now['version']}: last digits may differ")
    before, after = _flat(saved["config"]), _flat(now["config"])
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    changed = [key for key in changed if key.split(".")[0] not in _FREE]
    mixing = [key for key in changed if _affected(key) is None]
    changed_files = saved.get("files") != now["files"]
    if mixing or changed_files:
        said = [f"{key} ({_short(before.get(key))} -> {_short(after.get(key))})" for key in mixing]
        said += ["files that the configuration names"] * changed_files
        raise ResumeError(
            f"--resume: the checkpoint belongs to another configuration, and results would mix; changed: "
            f"{', '.join(said)}; change them back, or run without --resume to start from the beginning"
        )
    if changed and (reason := extends(saved["config"])):
        raise ResumeError(f"--resume: changed: {', '.join(changed)}; {reason}")
    if changed:
        first = min(changed, key=lambda key: _STAGES.index(_affected(key)))
        lines.append(f"changed: {', '.join(changed)}; what comes before {_affected(first)} is used again")
    return lines


def _affected(key: str) -> str | None:
    """The first stage that a key has an effect on, None where that is any."""
    return next((stage for name, stage in _AFFECTS.items() if key == name or key.startswith(f"{name}.")), None)


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Path of each key -> value; what an extension may change as a whole is not taken apart."""
    if not isinstance(value, dict) or path in _AFFECTS:
        return {path: value}
    found: dict[str, Any] = {}
    for key, part in value.items():
        found |= _flat(part, f"{path}.{key}" if path else key)
    return found


def _files(value: Any) -> list[list]:
    """Path, size and time of change of the files that a configuration reads."""
    if isinstance(value, list):
        return [row for part in value for row in _files(part)]
    if not isinstance(value, dict):
        return []
    found = [row for key, part in value.items() if key != "output" for row in _files(part)]
    if isinstance(value.get("path"), str) and Path(value["path"]).is_file():
        state = Path(value["path"]).stat()
        found.append([value["path"], state.st_size, state.st_mtime_ns])
    return found
