"""Head of the page: what was run, where the time went, with which versions."""

from __future__ import annotations

from kswgd_hpc.config import Config
from kswgd_hpc.report.numbers import count, number
from kswgd_hpc.report.page import Section, Table
from kswgd_hpc.report.view import Run
from kswgd_hpc.schema.ensemble import Initial
from kswgd_hpc.schema.system import DataSystem, DiffusionSystem, SpdeSystem


def summary(run: Run) -> Section:
    """What was run in a sentence, and tables of the setting, the seconds per stage and the versions."""
    setting = _setting(run)
    stages = [row for row in _prefixed(run, "seconds_") if not row[0].startswith("cpu_")]  # parts of stages
    total = sum(float(seconds) for _, seconds in stages)
    tables = [Table((), setting, "Setting")] if setting else []
    if stages:
        ordered = sorted(stages, key=lambda row: -float(row[1]))
        rows = [(name.replace("_", " "), f"{float(seconds):.2f} s") for name, seconds in ordered]
        tables.append(Table((), [*rows, ("sum", f"{total:.2f} s")], "Time per stage"))
    versions = [("kswgd-hpc", str(run.attributes["version"]))] if "version" in run.attributes else []
    if run.attributes.get("revision"):
        versions.append(("revision", str(run.attributes["revision"])[:12]))
    versions += [(name, str(value)) for name, value in _prefixed(run, "library_")]
    if versions:
        tables.append(Table((), versions, "Versions"))
    return Section(run.title, _sentence(run, total), tables)


def _sentence(run: Run, seconds: float) -> str:
    parts = [f"State space of {count(run.dimension, 'dimension')}"]
    if run.config is not None and run.config.ensemble.trajectories is not None:
        parts.append(count(run.config.ensemble.trajectories, "trajectory").replace("trajectorys", "trajectories"))
    if "koopman/rates" in run.data:
        parts.append(f"{count(len(run.rates) - 1, 'mode')} besides the constant one")
    if "kswgd/particles" in run.data:
        parts.append(count(len(run.data["kswgd/particles"]), "transported particle"))
    text = ", ".join(parts)
    if "ranks" in run.attributes:
        text += f"; {number(seconds, 3)} seconds on {count(int(run.attributes['ranks']), 'rank')}"
    return text + "."


def described(section: Initial) -> str:
    """A section of the configuration in words: its kind and its numbers."""
    values = section.model_dump(exclude_none=True, exclude={"kind"})
    return f"{section.kind} ({', '.join(f'{key} {_plain(value)}' for key, value in values.items())})"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " × ".join(_plain(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _prefixed(run: Run, prefix: str) -> list[tuple[str, object]]:
    """Attributes whose names start with a prefix, without it."""
    return [(name.removeprefix(prefix), value) for name, value in run.attributes.items() if name.startswith(prefix)]


def _setting(run: Run) -> list[tuple[str, str]]:
    """Rows that say what system, ensemble and estimator were used."""
    if run.config is None:
        return []
    system, rows = run.config.system, []
    if isinstance(system, SpdeSystem):
        rows = _spde_rows(system)
    elif isinstance(system, DiffusionSystem):
        rows = _diffusion_rows(system)
    elif isinstance(system, DataSystem):
        rows = [("data", system.path if system.dataset is None else f"{system.path}: {system.dataset}")]
    rows += _ensemble_rows(run.config) + _koopman_rows(run.config)
    if "koopman/effective_sample_size" in run.data:
        rows.append(("effective sample size", number(float(run.data["koopman/effective_sample_size"]))))
    rows += _transport_rows(run.config)
    return [*rows, ("seed", str(run.config.seed))]


def _spde_rows(system: SpdeSystem) -> list[tuple[str, str]]:
    terms = ("diffusivity", "hyperdiffusivity", "advection", "reaction", "flux", "potential")
    given = {name: getattr(system, name) for name in terms if getattr(system, name) is not None} | system.parameters
    parts = [system.equation.replace("_", " "), *(f"{name} {_plain(value)}" for name, value in given.items())]
    domain, noise = system.domain, system.noise
    size = f"length {_plain(domain.length)}, {_plain(domain.points)} points, {_plain(domain.boundary)}"
    numbers = noise.model_dump(exclude={"amplitude", "covariance"}, exclude_defaults=True)
    law = [noise.covariance.replace("_", " "), f"amplitude {_plain(noise.amplitude)}"]
    law += [name if value is True else f"{name.replace('_', ' ')} {_plain(value)}" for name, value in numbers.items()]
    return [
        ("equation", ", ".join(parts)),
        ("domain", size),
        ("discretisation", system.discretization.replace("_", " ")),
        ("noise", ", ".join(law)),
    ]


def _diffusion_rows(system: DiffusionSystem) -> list[tuple[str, str]]:
    rows = []
    if system.manifold is not None:
        shape = system.manifold.model_dump(exclude={"kind"})
        rows.append(("manifold", ", ".join([system.manifold.kind, *(f"{k} = {v:g}" for k, v in shape.items())])))
    if system.drift is not None:
        drift = [f"d{name}/dt: {text}" for name, text in zip(system.variables, system.drift)]
        noise = f"{system.diffusion}{', Stratonovich' * (system.interpretation == 'stratonovich')}"
        return [("drift", "\n".join(drift)), ("diffusion", noise)]
    if system.potential is not None:
        rows += [("potential", system.potential), ("temperature", f"{system.temperature:g}")]
    if system.friction is not None:
        mass = 1.0 if system.mass is None else system.mass
        rows += [("friction", f"{system.friction:g}"), ("mass", str(mass))]
    return rows


def _ensemble_rows(config: Config) -> list[tuple[str, str]]:
    """Numbers of the ensemble that were given."""
    given = config.ensemble.model_dump(include={"time_step", "burn_in", "duration", "lag_time"}, exclude_none=True)
    if config.system.kind == "data":
        given = {"sampling_interval": config.system.sampling_interval, "lag_time": config.ensemble.lag_time}
        given = {name: value for name, value in given.items() if value is not None}
    return [(name.replace("_", " "), number(value)) for name, value in given.items()]


def _koopman_rows(config: Config) -> list[tuple[str, str]]:
    if config.koopman is None:
        return []
    dictionary, coordinates = config.koopman.dictionary, config.koopman.coordinates
    given = dictionary.model_dump(exclude={"kind"}, exclude_none=True)
    parts = [dictionary.kind.replace("_", " "), *(f"{name} {_listed(value)}" for name, value in given.items())]
    return [
        ("estimator", config.koopman.estimator),
        ("dictionary", ", ".join(parts)),
        ("coordinates", _coordinates_in_words(coordinates)),
    ]


def _listed(value) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _coordinates_in_words(coordinates) -> str:
    """What the dictionary sees."""
    if coordinates.kind == "identity":
        return "the state"
    if coordinates.kind in ("modes", "pod"):
        return f"{coordinates.count} {'Laplacian modes' if coordinates.kind == 'modes' else 'principal directions'}"
    of = "" if coordinates.of.kind == "identity" else f" of {_coordinates_in_words(coordinates.of)}"
    if coordinates.kind == "expressions":
        return f"{_listed(coordinates.functions)}{of}"
    return f"{coordinates.count} times, {coordinates.spacing:g} apart{of}"


def _transport_rows(config: Config) -> list[tuple[str, str]]:
    if config.kswgd is None:
        return []
    rows = [("particles start", described(config.kswgd.initial))]
    relaxation = config.kswgd.relaxation
    if relaxation == 0:
        return rows
    return [*rows, ("relaxation", relaxation if relaxation == "auto" else number(relaxation))]
