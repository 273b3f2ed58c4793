"""Studies: from their file to the configurations of all runs, each checked before any work."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mpi4py import MPI
from pydantic import ValidationError

from kswgd_hpc import digits, memory, pipeline, storage
from kswgd_hpc.config import Config, parse, read_mapping
from kswgd_hpc.errors import ConfigurationError, DataError
from kswgd_hpc.explain import explain, one_line
from kswgd_hpc.parallel import from_root
from kswgd_hpc.plan import build, prepare
from kswgd_hpc.progress import Progress
from kswgd_hpc.schema.study import Study

_REFERENCE_SEED = 1_000_003  # added to the first seed: no run of the study has it


@dataclass(frozen=True)
class StudyRun:
    """One run of a study: its case, seed, configuration, and the text that says it."""

    case: int
    label: str
    seed: int
    config: Config
    text: str


@dataclass(frozen=True)
class StudyPlan:
    """A study that is ready: the runs, and per case the run that makes its reference, if any."""

    study: Study
    path: str
    runs: list[StudyRun]
    references: list[StudyRun]

    @property
    def directory(self) -> Path:
        """Where everything goes."""
        return Path(self.study.output.directory)


def load(path: str) -> tuple[Study, dict[str, Any]]:
    """Read a study and its base configuration, still unchecked.

    Raises
    ------
    ConfigurationError : one line
    """
    values, _text = read_mapping(path)
    try:
        study = Study.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {explain(error, Study)}") from error
    except (ValueError, RecursionError, OverflowError) as error:
        raise ConfigurationError(f"{path}: {one_line(error)}") from error
    base = study.base
    if isinstance(base, str):
        base, _text = read_mapping(str(Path(path).parent / base))
    return study, base


def plan(comm: MPI.Comm, path: str) -> StudyPlan:
    """Check a study whole: every configuration it makes is built once. Collective.

    Raises
    ------
    KswgdError : one line, the same on every rank
    """
    study, base = from_root(comm, lambda: load(path))
    directory = Path(study.output.directory)
    storage.prepare_directory(comm, directory)
    if study.data == "digits":
        from_root(comm, lambda: digits.write(directory))
    runs, references = from_root(comm, lambda: _expanded(study, base, path))
    on_node = memory.ranks_on_node(comm)

    def checked() -> None:
        for run in (*references, *runs):
            memory.check(run.config, comm.size, on_node, memory.of_machine())
        _check(study, runs, references)

    from_root(comm, checked)
    return StudyPlan(study, path, runs, references)


def _expanded(study: Study, base: dict[str, Any], path: str) -> tuple[list[StudyRun], list[StudyRun]]:
    directory, runs, references = Path(study.output.directory), [], []
    for case, label in enumerate(study.names):
        values = _case(study, base, case, path)
        folder = directory / _slug(label)
        if study.reference is not None:
            references.append(_reference(study, values, case, label, folder, path))
            put(values, "kswgd.judge.reference", {"path": str(folder / "reference.npy")})
        for seed in study.seed_list:
            here = copy.deepcopy(values)
            here["seed"], here["output"] = seed, {"directory": str(folder / f"seed-{seed}")}
            text = yaml.safe_dump(here, sort_keys=False, allow_unicode=True)
            # the file of a reference that is still to be made cannot be checked
            runs.append(StudyRun(case, label, seed, parse(text, f"{path}: case {label}"), text))
    return runs, references


def _case(study: Study, base: dict[str, Any], case: int, path: str) -> dict[str, Any]:
    """Values of one case: the base, the methods, and what varies put in."""
    values = copy.deepcopy(base)
    if not isinstance(values.get("kswgd"), dict):
        raise ConfigurationError(f"{path}: base: a study compares particles and needs a 'kswgd' section")
    values["title"] = f"{study.title}: {study.names[case]}"
    put(values, "kswgd.baselines", [name for name in study.methods if name != "kswgd"])
    judge = values["kswgd"].setdefault("judge", {})
    if study.data == "digits":
        directory = Path(study.output.directory)
        put(values, "system.path", str(directory / digits.TRAINING))
        judge["reference"] = {"path": str(directory / digits.HELD_OUT)}
        values["kswgd"].setdefault("initial", {"kind": "file", "path": str(directory / digits.START)})
    for key, entries in study.vary.items():
        if key.split(".")[0] in ("seed", "title", "output"):
            raise ConfigurationError(f"{path}: vary.{key}: a study decides on this key by its own 'seeds' and 'output'")
        try:
            put(values, key, entries[case])
        except (TypeError, KeyError, AttributeError) as error:
            raise ConfigurationError(f"{path}: vary.{key}: there is no such key in the base") from error
    if not isinstance(values["kswgd"], dict):
        raise ConfigurationError(f"{path}: vary.kswgd: expected a section with 'particles' and 'initial'")
    steps = values["kswgd"].get("baseline_steps")
    if isinstance(steps, dict):
        values["kswgd"]["baseline_steps"] = {
            name: count for name, count in steps.items() if name in values["kswgd"]["baselines"]
        }
    return values


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a key such as `system.domain.points`, whose sections are made where they are missing."""
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[last] = copy.deepcopy(value)


def _reference(study: Study, values: dict[str, Any], case: int, label: str, folder: Path, path: str) -> StudyRun:
    """The run of an ensemble alone, with a seed of its own."""
    alone = {key: copy.deepcopy(values[key]) for key in ("system", "ensemble", "compute") if key in values}
    given = study.reference.model_dump(exclude_none=True)
    alone["ensemble"] = {key: v for key, v in alone["ensemble"].items() if key != "lag_time"} | given
    seed = study.seed_list[0] + _REFERENCE_SEED
    alone |= {"title": f"{label}: reference", "seed": seed, "output": {"directory": str(folder / "reference")}}
    text = yaml.safe_dump(alone, sort_keys=False, allow_unicode=True)
    return StudyRun(case, label, seed, parse(text, f"{path}: reference of case {label}"), text)


def _check(study: Study, runs: list[StudyRun], references: list[StudyRun]) -> None:
    """Build the first run of each case: what is wrong with one is wrong with all."""
    for run in references:
        build(run.config)
    for run in runs:
        if run.seed != study.seed_list[0]:
            continue
        config = run.config
        if study.reference is not None:
            judge = config.kswgd.judge.model_copy(update={"reference": None})
            config = config.model_copy(update={"kswgd": config.kswgd.model_copy(update={"judge": judge})})
        try:
            build(config)
        except (ConfigurationError, DataError) as error:
            raise type(error)(f"case {run.label}: {error}") from error


def carried_out(comm: MPI.Comm, ready: StudyPlan, reuse: bool) -> Iterator[StudyRun]:
    """Do the runs of a study one after the other, and yield each when its results are written. Collective.

    Parameters
    ----------
    reuse : take results that are there and were made with the same configuration
    """
    progress = Progress(comm)
    for run in ready.references:
        _carry_out(comm, run, reuse, progress)
        from_root(comm, lambda run=run: _keep_reference(Path(run.config.output.directory)))
    for index, run in enumerate(ready.runs, 1):
        progress.say(f"--- {index} of {len(ready.runs)}: {run.label}, seed {run.seed}")
        _carry_out(comm, run, reuse, progress)
        yield run


def _carry_out(comm: MPI.Comm, run: StudyRun, reuse: bool, progress: Progress) -> None:
    path = results_of(run)
    if reuse and from_root(comm, lambda: storage.attribute(path, "config") == run.text):
        progress.say(f"taken from {path}")
        return
    pipeline.run(comm, run.config, run.text, prepare(comm, run.config), page=False)


def results_of(run: StudyRun) -> Path:
    """results.h5 of a run."""
    return Path(run.config.output.directory) / storage.RESULTS


def _keep_reference(directory: Path) -> None:
    data, _ = storage.read_results(directory / storage.RESULTS)
    np.save(directory.parent / "reference.npy", data["ensemble/sample"])


def _slug(label: str) -> str:
    """A name for a directory."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", label).strip("_.") or "case"
