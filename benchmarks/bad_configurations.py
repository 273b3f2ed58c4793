"""Bad configurations: hundreds of mutated files, each of which has to end in one line and status 2 within 5 seconds.

    python -m benchmarks.bad_configurations [--ranks 1,3] [--count 240] [--seed 0]      # through the public command
    python -m benchmarks.bad_configurations --here                                      # all of them, in this process

Mutations are made from the schema itself, so that new keys are covered, on configurations that between them use every
section: keys misspelt, added or left out, values of the wrong type or absurd, and by hand what only a person thinks of:
files that are no YAML, expressions that are unsafe, sections that do not go together, sizes that fit no machine.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mpi4py import MPI

from kswgd_hpc.config import Config, load
from kswgd_hpc.errors import KswgdError
from kswgd_hpc.plan import prepare
from kswgd_hpc.schema.base import Section
from spde.errors import SpdeError

LIMIT = 5.0  # seconds
_DATA = "samples.npy"

_FIELD = """
title: A field
seed: 3
system:
  kind: spde
  equation: custom
  diffusivity: 1.0
  reaction: a*u - u**3
  flux: -u**2/2
  parameters: {a: 1.0}
  domain: {length: 2.5, points: 16, boundary: periodic}
  discretization: spectral
  noise: {amplitude: 0.5, covariance: matern, correlation_length: 0.3, smoothness: 1.5, conserved: false}
ensemble: {trajectories: 64, initial: {kind: gaussian, mean: 0.0, deviation: 1.0}, scheme: auto, time_step: 0.01,
  burn_in: 2.0, duration: 20.0, lag_time: 0.5, stride: 0.5, store: false}
koopman:
  estimator: edmd
  coordinates: {kind: expressions, functions: [mean(u), mean(u**2)], of: {kind: identity}}
  dictionary: {kind: polynomial, degree: 3}
  modes: 6
  regularization: 1.0e-9
  certify: false
  lag_times: [0.5, 1.0]
  sets: {A: mean(u) < -0.5, B: mean(u) > 0.5}
  petsc_options: {eps_tol: 1.0e-12}
kswgd: {particles: 200, initial: {kind: uniform, low: -1.0, high: 1.0}, step_size: 0.1, steps: 20, relaxation: 0.5}
validation:
  feynman_kac:
    - {name: quench, observable: mean(u), killing: 0.1*mean(u)**2, initial: {kind: expression, value: sin(x)},
       times: [0.5, 2], trajectories: 200}
compute: {device: cpu, precision: double}
output: {directory: out, checkpoint: {every: 10min, keep: 2}}
"""
_PLANE = """
system:
  kind: spde
  equation: allen_cahn
  parameters: {nu: 1.0}
  domain: {length: [2.0, 3.0], points: [8, 12], boundary: [periodic, neumann]}
  noise: {amplitude: 0.5, covariance: exponential, correlation_length: 0.5}
ensemble: {trajectories: 64, initial: {kind: constant, value: 1.0}, time_step: 0.01, duration: 20.0, lag_time: 0.5}
koopman:
  estimator: reversible
  coordinates: {kind: modes, count: 3}
  dictionary: {kind: gaussian, size: 40, centres: farthest, bandwidth: auto}
  modes: auto
  reweight: generator
  vamp: true
kswgd: {particles: 200, initial: {kind: gaussian}}
output: {directory: out}
"""
_WELLS = """
system: {kind: diffusion, variables: [x, y], potential: (x**2 - 1)**2 + y**2, temperature: 0.5}
ensemble: {trajectories: 64, initial: {kind: uniform, low: [-1.5, -1], high: [1.5, 1]}, time_step: 0.01, duration: 20.0,
  lag_time: 0.1}
koopman: {estimator: reduced_rank, rank: 5, dictionary: {kind: splines, cells: [6, 8], degree: 2}, modes: 5}
output: {directory: out}
"""
_SPIRAL = """
system: {kind: diffusion, variables: [x, y], drift: [-x - 2*y, 2*x - y], diffusion: [[1.0, 0.0], [0.0, 1.0]]}
ensemble: {trajectories: 64, initial: {kind: constant, value: [1.0, 0.0]}, time_step: 0.01, duration: 20.0,
  lag_time: 0.1}
koopman: {estimator: edmd, coordinates: {kind: delay, count: 3, spacing: 0.1, of: {kind: pod, count: 2}},
  dictionary: {kind: random_fourier, size: 30, bandwidth: 1.0}, modes: 5}
output: {directory: out}
"""
_TORUS = """
system: {kind: diffusion, manifold: {kind: torus, R: 2.0, r: 0.8}}
ensemble: {trajectories: 64, initial: {kind: constant, value: [2.8, 0, 0]}, time_step: 0.01, duration: 20.0,
  lag_time: 0.1}
koopman: {estimator: generator, dictionary: {kind: fourier, degree: 2, truncation: total, margin: 0.1}, modes: 5}
output: {directory: out}
"""
_INERTIA = """
system: {kind: diffusion, variables: [q], potential: q**4/4, temperature: 1.0, friction: 1.0, mass: [2.0]}
ensemble: {trajectories: 64, initial: {kind: constant, value: 0.0}, time_step: 0.01, duration: 20.0, lag_time: 0.1}
koopman: {estimator: edmd, dictionary: {kind: matern, size: 30, smoothness: 5/2}, modes: 5}
output: {directory: out}
"""
_SAMPLES = f"""
system: {{kind: data, path: {_DATA}, mobility: 0.5}}
koopman: {{estimator: dirichlet, dictionary: {{kind: wendland, size: 20, smoothness: 2, bandwidth: 3.0}}, modes: 5}}
kswgd: {{particles: 100, initial: {{kind: file, path: {_DATA}}}}}
output: {{directory: out}}
"""
BASES = {
    "field": _FIELD,
    "plane": _PLANE,
    "wells": _WELLS,
    "spiral": _SPIRAL,
    "torus": _TORUS,
    "inertia": _INERTIA,
    "samples": _SAMPLES,
}

NAN, INF = math.nan, math.inf
# values that no key takes
_NOWHERE: dict[str, Any] = {
    "a mapping": {"no": "such"},
    "nested lists": [[[[]]]],
    "NaN": NAN,
    "infinity": INF,
    "minus infinity": -INF,
    "1e400": "1e400",
    "a date": date(2026, 1, 1),
    "bytes": b"\x00\xff",
    "an empty text": "",
    "control characters": "a\x07b",
    "a list of a mapping": [{"no": 1}],
}
# values that no key takes which is a number
_NO_NUMBER: dict[str, Any] = {
    "a word": "many",
    "a huge integer": 10**40,
    "a boolean": True,
    "an empty list": [],
    "a thousand numbers": [1.0] * 1000,
    "a list with NaN": [1.0, NAN],
    "a list with a word": ["many"],
}
_FREE = ("parameters", "petsc_options")  # mappings from the user's own names
_NO_TEXT = ("a mapping", "nested lists", "NaN")
_TEXTS = ("title", "every", "path", "dataset", "directory")


@dataclass(frozen=True)
class Mutation:
    """A bad file: what was done to it, and its bytes."""

    kind: str
    what: str
    content: bytes


def sections(values: Any, model: type[Section] = Config, path: tuple = ()) -> Iterator[tuple[tuple, type[Section]]]:
    """Paths of all sections of a configuration, with the model that describes each."""
    yield path, model
    for name, value in values.items():
        if name not in model.model_fields:
            continue
        for at, item in [((), value)] if isinstance(value, dict) else enumerate_items(value):
            found = _model(model.model_fields[name].annotation, item) if isinstance(item, dict) else None
            if found is not None:
                yield from sections(item, found, (*path, name, *at))


def enumerate_items(value: Any) -> list[tuple[tuple, Any]]:
    """Items of a list with their places; none for anything else."""
    return [((i,), item) for i, item in enumerate(value)] if isinstance(value, list) else []


def _model(annotation: Any, value: dict) -> type[Section] | None:
    """The section in a type annotation that a mapping is an instance of, by its kind."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        kinds = getattr(annotation.model_fields.get("kind"), "annotation", None)
        return annotation if kinds is None or value.get("kind") in kinds.__args__ else None
    for part in getattr(annotation, "__args__", ()):
        if (found := _model(part, value)) is not None:
            return found
    return None


def _numeric(annotation: Any) -> bool:
    """Whether a type annotation is of numbers alone, not of texts, choices or sections beside them."""
    if annotation in (int, float):
        return True
    arguments = [a for a in getattr(annotation, "__args__", ()) if a is not type(None)]
    if getattr(annotation, "__metadata__", None) is not None:
        return _numeric(annotation.__origin__)
    return bool(arguments) and not isinstance(arguments[0], str) and all(map(_numeric, arguments))


def put(values: dict, path: tuple, value: Any) -> dict:
    """A copy of nested values with one replaced."""
    changed = copy.deepcopy(values)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def _at(values: Any, path: tuple) -> Any:
    for key in path:
        values = values[key]
    return values


def misspelt(name: str) -> str:
    """A key with two letters exchanged, or one more."""
    middle = len(name) // 2
    swapped = name[: middle - 1] + name[middle] + name[middle - 1] + name[middle + 1 :] if middle else name
    return swapped if swapped != name else name + "s"


def from_schema(base: str) -> Iterator[Mutation]:
    """Mutations of every key that the schema knows in the sections of a configuration."""
    values = yaml.safe_load(BASES[base])

    def mutation(kind: str, path: tuple, changed: dict, how: str = "") -> Mutation:
        where = ".".join(map(str, path))
        return Mutation(kind, f"{base}: {where} {how}".rstrip(), yaml.safe_dump(changed, allow_unicode=True).encode())

    for path, model in sections(values):
        section = _at(values, path)
        yield mutation("unknown key", (*path, "colour"), put(values, (*path, "colour"), 1))
        for name in section:
            renamed = {(misspelt(k) if k == name else k): v for k, v in section.items()}
            yield mutation("misspelt key", (*path, name), put(values, path, renamed) if path else renamed)
        for name, field in model.model_fields.items():
            place = (*path, name)
            if field.is_required():
                left = {k: v for k, v in section.items() if k != name}
                yield mutation("missing key", place, put(values, path, left) if path else left)
            if name in _FREE:
                continue
            numeric = _numeric(field.annotation)
            wrong = {k: v for k, v in _NOWHERE.items() if name not in _TEXTS or k in _NO_TEXT}
            for how, value in (wrong | (_NO_NUMBER if numeric else {})).items():
                yield mutation("wrong value", place, put(values, place, value), f"is {how}")
            if name == "kind":
                yield mutation("unknown kind", place, put(values, place, "quantum"))


def _replace(base: str, old: str, new: str) -> bytes:
    assert BASES[base].count(old) == 1, (base, old)
    return BASES[base].replace(old, new).encode()


_PREDICTION = "validation: {feynman_kac: [{name: a, observable: 1, initial: {kind: gaussian}, times: [1]}]}\n"
_GAUSS = "dictionary: {kind: gaussian, size: 40, centres: farthest, bandwidth: auto}"
# kind -> (base, what is replaced, by what)
_BY_HAND: dict[str, list[tuple[str, str, str]]] = {
    "unsafe or invalid expression": [
        ("field", "reaction: a*u - u**3", f'reaction: "{text}"')
        for text in (
            "__import__('os').system('true')",
            "().__class__",
            "u.real",
            "u[0]",
            "lambda: u",
            "open('/etc/passwd')",
            "u if u > 0 else -u",
            "9**9**9**9*u",
            "u**1000",
            "u - ",
            "u u",
            "(u",
            "b*u",
            "mean(u)",
            "sin(u, u)",
            "sin()",
            "1e400*u",
            "u < 1",
            "u and u",
            "[u]",
            "u; u",
            "print(u)",
            "exec('1')",
            "f(u)",
            "True*u",
            "(" * 300 + "u" + ")" * 300,
            "+".join(["u"] * 1500),
            "u := 1",
            "*u",
            "u @ u",
            "u // 2",
            "u % 2",
            "~u",
            "1j*u",
            "'u'",
            "u\\u0000",
            "u if True else u",
        )
    ]
    + [
        ("field", "A: mean(u) < -0.5", "A: u < -0.5"),
        ("field", "observable: mean(u),", "observable: u,"),
        ("field", "observable: mean(u),", "observable: mean(w),"),
        ("field", "killing: 0.1*mean(u)**2", "killing: __builtins__"),
        ("field", "value: sin(x)", "value: 1/x - 1/x"),
        ("field", "value: sin(x)", "value: u"),
        ("field", "functions: [mean(u), mean(u**2)]", "functions: [mean(u), exec(u)]"),
        ("field", "amplitude: 0.5", "amplitude: os.environ"),
        ("field", "amplitude: 0.5", "amplitude: 0.0"),
        ("field", "diffusivity: 1.0", "diffusivity: u"),
        ("field", "diffusivity: 1.0", "diffusivity: -1.0"),
        ("wells", "(x**2 - 1)**2 + y**2", "(x**2 - 1)**2 + z**2"),
        ("wells", "(x**2 - 1)**2 + y**2", "log(-1)*x"),
        ("spiral", "[-x - 2*y, 2*x - y]", "[-x - 2*y, import]"),
        ("spiral", "[-x - 2*y, 2*x - y]", "[-x - 2*y, x < y]"),
    ],
    "sections that do not go together": [
        ("field", "lag_time: 0.5", "lag_time: 0.505001"),
        ("field", "duration: 20.0", "duration: 0.1"),
        ("field", "stride: 0.5", "stride: 0.3"),
        ("field", "lag_times: [0.5, 1.0]", "lag_times: [0.5, 0.7]"),
        ("field", "estimator: edmd", "estimator: transformer"),
        ("field", "estimator: edmd", "estimator: reduced_rank\n  rank: 0"),
        ("field", "estimator: edmd", "estimator: edmd\n  rank: 4"),
        ("field", "times: [0.5, 2]", "times: [2, 0.5]"),
        ("field", "times: [0.5, 2]", "times: [0.5, 0.5]"),
        ("field", "times: [0.5, 2]", "times: [0.0001]"),
        ("field", "covariance: matern,", "covariance: white,"),
        ("field", "modes: 6", "modes: 60"),
        ("field", "parameters: {a: 1.0}", "parameters: {u: 1.0, a: 1}"),
        ("field", "parameters: {a: 1.0}", "parameters: {a: .nan}"),
        ("field", "flux: -u**2/2", "flux: [-u, u]"),
        ("field", "name: quench", "name: ../../etc/passwd"),
        ("field", "scheme: auto", "scheme: baoab"),
        ("field", "scheme: auto", "scheme: euler_maruyama"),
        ("field", "kind: identity", "kind: delay"),
        ("plane", "equation: allen_cahn", "equation: allen_cahn\n  reaction: u"),
        ("plane", "parameters: {nu: 1.0}", "parameters: {epsilon: 1.0}"),
        ("plane", "parameters: {nu: 1.0}", "parameters: {nu: -1.0}"),
        ("plane", "points: [8, 12]", "points: [8, 12, 4]"),
        ("plane", "points: [8, 12]", "points: [8]"),
        ("plane", "covariance: exponential, correlation_length: 0.5", "covariance: white"),
        ("plane", "count: 3", "count: 97"),
        ("plane", "value: 1.0}", "value: [1.0, 2.0]}"),
        ("plane", "reweight: generator", "reweight: drift"),
        ("plane", _GAUSS, "dictionary: {kind: indicator, size: 40}"),
        ("plane", _GAUSS, "dictionary: {kind: indicator, size: 40, cells: 3}"),
        ("plane", _GAUSS, "dictionary: {kind: splines, cells: 4, degree: 1}"),
        ("plane", _GAUSS, "dictionary: {kind: expressions, functions: [max(u)]}"),
        ("plane", _GAUSS, "dictionary: {kind: gaussian, degree: 4}"),
        ("plane", "time_step: 0.01", "time_step: 0.01, time_step: 0.02"),
        ("wells", "[-1.5, -1]", "[-1.5, -1, 0]"),
        ("wells", "high: [1.5, 1]", "high: [-3, 1]"),
        ("wells", "variables: [x, y]", "variables: [x, x]"),
        ("wells", "variables: [x, y]", "variables: [x, sin]"),
        ("wells", "variables: [x, y]", "variables: []"),
        ("wells", "temperature: 0.5", "temperature: 0"),
        ("wells", "temperature: 0.5", "temperature: 0.5, drift: [x, y]"),
        ("wells", "cells: [6, 8]", "cells: [6, 8, 6]"),
        ("wells", "rank: 5,", "coordinates: {kind: modes, count: 1},"),
        ("spiral", "estimator: edmd", "estimator: reversible"),
        ("spiral", "spacing: 0.1", "spacing: 0.15"),
        ("spiral", "count: 3", "count: 1000"),
        ("spiral", "count: 2}}", "count: 3}}"),
        ("spiral", "[[1.0, 0.0], [0.0, 1.0]]", "[[1.0, 0.0], [0.0]]"),
        ("spiral", "[[1.0, 0.0], [0.0, 1.0]]", "[1.0, 1.0, 1.0]"),
        ("spiral", "[-x - 2*y, 2*x - y]", "[-x]"),
        ("torus", "r: 0.8", "r: 2.0"),
        ("torus", "manifold:", "variables: [x, y], manifold:"),
        ("torus", "value: [2.8, 0, 0]", "value: [0, 0]"),
        ("inertia", "mass: [2.0]", "mass: [2.0, 3.0]"),
        ("inertia", "friction: 1.0, ", ""),
        ("inertia", "estimator: edmd", "estimator: dirichlet"),
        ("samples", "estimator: dirichlet", "estimator: reversible"),
        ("samples", "estimator: dirichlet", "estimator: generator"),
        ("samples", "mobility: 0.5", "mobility: [0.5, 0.5]"),
        ("samples", f"{{kind: data, path: {_DATA}", "{kind: data, path: no/such/file.npy"),
        ("samples", f"{{kind: data, path: {_DATA}", "{kind: data, path: /"),
        ("samples", f"{{kind: data, path: {_DATA}", "{kind: data, path: config.yaml"),
        ("samples", f"{{kind: data, path: {_DATA}", f"{{kind: data, path: {_DATA}, sampling_interval: 0.1"),
        ("samples", f"{{kind: file, path: {_DATA}}}", "{kind: file, path: none.npy}"),
        ("samples", f"{{kind: file, path: {_DATA}}}", "{kind: expression, value: x}"),
        ("samples", f"{{kind: file, path: {_DATA}}}", "{kind: constant, value: 0}"),
        ("samples", "directory: out", "directory: /proc/nothing/here"),
        ("samples", "directory: out", f"directory: {_DATA}"),
        ("samples", "directory: out", f"directory: {'long' * 100}"),
        ("samples", "directory: out", 'directory: "a\\0b"'),
        ("samples", "output:", _PREDICTION + "output:"),
        ("field", "every: 10min", "every: soon"),
    ],
    "a size that fits no machine": [
        ("field", "points: 16", "points: 1048576, length: 1.0"),
        ("field", "trajectories: 64", "trajectories: 2147483648"),
        ("field", "duration: 20.0", "duration: 1.0e+15"),
        ("field", "duration: 20.0", "duration: 1.0e+300"),
        ("field", "burn_in: 2.0", "burn_in: 1.0e+18"),
        ("field", "particles: 200", "particles: 2147483648"),
        ("field", "trajectories: 200}", "trajectories: 1000000000000}"),
        ("field", "store: false", "store: true, trajectories: 1000000"),
        ("field", "time_step: 0.01", "time_step: 1.0e-12"),
        ("field", "relaxation: 0.5", "relaxation: 1.0e+16"),
        ("field", "times: [0.5, 2]", "times: [1.0e+17]"),
        ("field", "degree: 3", "degree: 20, kind: fourier"),
        ("plane", "points: [8, 12]", "points: [8192, 8192]"),
        ("plane", "points: [8, 12]", "points: [1048576, 1048576]"),
        ("plane", "size: 40", "size: 100000"),
        ("plane", "modes: auto", "modes: 10000"),
        ("plane", "trajectories: 64", "trajectories: 100000000"),
        ("wells", "cells: [6, 8]", "cells: [1048576, 1048576]"),
        ("wells", "cells: [6, 8]", "cells: [100000, 1000]"),
        ("spiral", "size: 30", "size: 100000"),
        ("spiral", "trajectories: 64", "trajectories: 2000000000"),
        ("torus", "degree: 2,", "degree: 10000,"),
        ("samples", "particles: 100", "particles: 2000000000"),
        ("samples", "kind: wendland, size: 20, smoothness: 2", "kind: random_fourier, size: 100000"),
    ],
}


def by_hand() -> Iterator[Mutation]:
    """What only a person thinks of."""
    for kind, rows in _BY_HAND.items():
        for base, old, new in rows:
            yield Mutation(kind, f"{base}: {old[:40]} -> {new[:60]}", _replace(base, old, new))
    yield from _files()


def _files() -> Iterator[Mutation]:
    bomb = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    bomb += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    contents = {
        "empty": b"",
        "blank": b" \n\n",
        "a comment": b"# nothing\n",
        "null": b"null\n",
        "a number": b"42\n",
        "a list": b"- 1\n- 2\n",
        "two documents": _FIELD.encode() + b"\n---\n" + _FIELD.encode(),
        "binary": bytes(range(256)),
        "Latin-1": _FIELD.replace("A field", "Übergänge").encode("latin-1"),
        "UTF-16": _FIELD.encode("utf-16"),
        "zeros": b"\0" * 4096,
        "a tab": _FIELD.replace("  kind: spde", "\tkind: spde").encode(),
        "cut off": _FIELD.encode()[:400] + b" [",
        "an open quote": _FIELD.replace("A field", "'A field").encode(),
        "a repeated key": _FIELD.replace("seed: 3", "seed: 3\nseed: 4").encode(),
        "a repeated section": (_FIELD + "\nsystem: {kind: data, path: x.npy}\n").encode(),
        "a cyclic alias": _FIELD.replace("seed: 3", "seed: &a [*a]").encode(),
        "a cyclic mapping": _FIELD.replace("seed: 3", "seed: &a {b: *a}").encode(),
        "an alias bomb": "\n".join(bomb).encode(),
        "an unknown alias": _FIELD.replace("seed: 3", "seed: *nothing").encode(),
        "a Python object": _FIELD.replace("seed: 3", "seed: !!python/object/apply:os.system [ls]").encode(),
        "an unknown tag": _FIELD.replace("seed: 3", "seed: !secret 3").encode(),
        "a list as key": _FIELD.replace("seed: 3", "? [a, b]\n: 3").encode(),
        "a mapping as key": _FIELD.replace("seed: 3", "? {a: b}\n: 3").encode(),
        "a number as key": _FIELD.replace("seed: 3", "3: seed").encode(),
        "null as key": _FIELD.replace("seed: 3", "~: seed").encode(),
        "a set": _FIELD.replace("seed: 3", "seed: !!set {a, b}").encode(),
        "five thousand digits": _FIELD.replace("seed: 3", "seed: " + "9" * 5000).encode(),
        "deep brackets": b"system: " + b"[" * 20000,
        "deep mappings": b"system: " + b"{a: " * 3000 + b"1" + b"}" * 3000,
        "a merge of nothing": _FIELD.replace("seed: 3", "<<: 3").encode(),
        "a merge of itself": _FIELD.replace("seed: 3", "seed: &m {<<: *m}").encode(),
        "HDF5": b"\x89HDF\r\n\x1a\n" + b"\0" * 100,
        "JSON, cut": b'{"system": {"kind": "spde"',
        "prose": b"Please simulate the Allen-Cahn equation.\n",
    }
    for name, content in contents.items():
        yield Mutation("not a configuration file", name, content)


def corpus() -> list[Mutation]:
    """All mutations, in a fixed order."""
    return [*by_hand(), *(mutation for base in BASES for mutation in from_schema(base))]


def drawn(count: int, seed: int) -> list[Mutation]:
    """Mutations in a random order: two thirds made by hand, as far as there are, the rest from the schema."""
    chance, hand = random.Random(seed), list(by_hand())
    rest = [mutation for base in BASES for mutation in from_schema(base)]
    kept = chance.sample(hand, min(len(hand), 2 * count // 3))
    kept += chance.sample(rest, min(len(rest), count - len(kept)))
    return chance.sample(kept, len(kept))


def write_data(directory: Path) -> None:
    """The array that the configurations refer to."""
    np.save(directory / _DATA, np.random.default_rng(0).normal(size=(500, 3)))


def refusal(path: str | Path) -> str | None:
    """Message with which a configuration file is refused in this process; None where it is accepted."""
    try:
        prepare(MPI.COMM_SELF, load(path)[0])
    except (KswgdError, SpdeError) as error:
        return str(error)
    return None


def _environment() -> dict[str, str]:
    mine = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    return {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_COMM", "PMIX", "PMI_"))} | mine


def escaped(directory: Path, ranks: int) -> tuple[str, float]:
    """What is wrong with the end of the public command on a bad configuration, empty for nothing; and its seconds.

    They are those on the clock: on a machine in use they say little, and the processor time in the table says more;
    of several ranks it is not known, because mpiexec does not wait for all of them.
    """
    command = [sys.executable, "-m", "kswgd_hpc.run", "config.yaml"]
    command = ["mpiexec", "-n", str(ranks), *command] if ranks > 1 else command
    began = time.perf_counter()
    try:
        process = subprocess.run(
            command, cwd=directory, env=_environment(), capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return "did not end", time.perf_counter() - began
    seconds = time.perf_counter() - began
    # mpiexec adds its own words about a status that is not zero
    own = process.stderr.split("-" * 40)[0].strip().splitlines()
    if process.returncode != 2:
        return f"status {process.returncode}: {own[-1] if own else ''}", seconds
    if len(own) != 1 or not own[0].startswith("kswgd-hpc: error: "):
        return f"{len(own)} lines: {own[:3]}", seconds
    if list(directory.rglob("results.h5*")):
        return "left results behind", seconds
    return "", seconds


def _processor_seconds() -> float:
    """Processor time of this process and of the commands that it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def escaped_here(path: Path) -> tuple[str, float]:
    """The same in this process."""
    began = time.perf_counter()
    said = refusal(path)
    problem = "accepted" if said is None else "several lines" if "\n" in said else ""
    return problem, time.perf_counter() - began


def main() -> int:
    """Print each file with its end, a table by kind of mutation, and what escaped. Returns 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="1,3")
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--here", action="store_true", help="all mutations, in this process")
    options = parser.parse_args()
    mutations = corpus() if options.here else drawn(options.count, options.seed)
    seconds, processor, failures = defaultdict(list), defaultdict(list), []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        os.chdir(directory)
        write_data(directory)
        for mutation in mutations:
            (directory / "config.yaml").write_bytes(mutation.content)
            for ranks in [1] if options.here else map(int, options.ranks.split(",")):
                before = _processor_seconds()
                problem, took = escaped_here(Path("config.yaml")) if options.here else escaped(directory, ranks)
                seconds[mutation.kind, ranks].append(took)
                processor[mutation.kind, ranks].append(_processor_seconds() - before)
                if bad := problem or took > LIMIT:
                    failures.append(f"{mutation.kind}, {mutation.what}, {ranks} ranks: {problem} ({took:.1f} s)")
                if bad or not options.here:
                    said = f"ESCAPED, {problem}" if problem else "too late" if bad else "refused"
                    print(f"{ranks} ranks {took:5.1f} s  {said:<8}  {mutation.kind}: {mutation.what}", flush=True)
    print(f"{'kind of mutation':<36} ranks  files  median s  longest s  processor s, longest")
    for (kind, ranks), values in sorted(seconds.items()):
        median, longest = statistics.median(values), max(values)
        busiest = f"{max(processor[kind, ranks]):.2f}" if ranks == 1 else "-"
        print(f"{kind:<36} {ranks:>5} {len(values):>6} {median:>9.2f} {longest:>10.2f} {busiest:>21}")
    print(f"{len(mutations)} files, {len(failures)} escaped", *failures, sep="\n")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
