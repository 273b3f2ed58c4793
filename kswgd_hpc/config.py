"""The configuration file: the whole of it, read and checked. Its sections are in schema/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from kswgd_hpc import combinations
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.explain import explain, one_line, short
from kswgd_hpc.schema.base import Section
from kswgd_hpc.schema.ensemble import Ensemble
from kswgd_hpc.schema.koopman import Koopman
from kswgd_hpc.schema.kswgd import Kswgd
from kswgd_hpc.schema.output import Compute, Output
from kswgd_hpc.schema.system import DataSystem, DiffusionSystem, SpdeSystem
from kswgd_hpc.schema.validation import Validation

_MAX_NODES = 100_000
_MAX_BYTES = 250_000  # a second or so of reading


class Config(Section):
    """A whole configuration; stages that are left out are not run."""

    title: str = "KSWGD run"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    system: Annotated[SpdeSystem | DiffusionSystem | DataSystem, Field(discriminator="kind")]
    ensemble: Ensemble = Ensemble()
    koopman: Koopman | None = None
    kswgd: Kswgd | None = None
    validation: Validation = Validation()
    compute: Compute = Compute()
    output: Output = Output()

    @model_validator(mode="after")
    def _combination(self):
        combinations.check(self)
        return self


def load(path: str | Path) -> tuple[Config, str]:
    """Read and check a configuration file.

    Returns
    -------
    the configuration, and the text of the file

    Raises
    ------
    ConfigurationError : one line with the path of the key, what is wrong, and the nearest valid key
    """
    text = _text(path)
    return parse(text, str(path)), text


def read_mapping(path: str | Path) -> tuple[dict[str, Any], str]:
    """The keys of a YAML file, not checked against any schema, and its text; raises as `load` does."""
    text = _text(path)
    return _mapping(text, str(path)), text


def _text(path: str | Path) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ConfigurationError(f"{path}: longer than {_MAX_BYTES} bytes, which no configuration is")
        return content.decode()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not a text file in UTF-8") from error


def parse(text: str, name: str = "configuration") -> Config:
    """Check the text of a configuration; see `load`."""
    values = _mapping(text, name)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(f"{name}: {explain(error, Config)}") from error
    except (ValueError, RecursionError, OverflowError) as error:
        raise ConfigurationError(f"{name}: {one_line(error)}") from error


def _mapping(text: str, name: str) -> dict[str, Any]:
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigurationError(f"{name}: expected keys such as 'system:' and 'koopman:' at the top level")
        _check_nodes(node, name, "", {}, set())
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}:" if where else ""
        reason = getattr(error, "problem", None) or "not YAML"
        raise ConfigurationError(f"{name}:{line} {one_line(reason)}") from error
    except (ValueError, RecursionError, OverflowError) as error:
        raise ConfigurationError(f"{name}: {one_line(error)}") from error
    except (AttributeError, LookupError, TypeError) as error:  # of PyYAML, which leaves some values unchecked
        raise ConfigurationError(f"{name}: a value does not fit its tag, such as !!bool or !!timestamp") from error


def _check_nodes(node: yaml.Node, name: str, path: str, sizes: dict[int, int], open_nodes: set[int]) -> int:
    """Size of the document with its aliases expanded; refuses repeated keys, cycles and alias bombs."""
    if id(node) in open_nodes:
        raise ConfigurationError(f"{name}: {path or 'top level'}: an alias that contains itself")
    if id(node) in sizes:
        return sizes[id(node)]
    open_nodes.add(id(node))
    size = 1
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigurationError(f"{name}: line {key.start_mark.line + 1}: a key has to be a name")
            if key.value in seen:
                raise ConfigurationError(f"{name}: {path}{short(key.value)}: the key is given twice")
            seen.add(key.value)
            size += _check_nodes(value, name, f"{path}{key.value}.", sizes, open_nodes)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_check_nodes(item, name, path, sizes, open_nodes) for item in node.value)
    open_nodes.discard(id(node))
    if size > _MAX_NODES:
        raise ConfigurationError(f"{name}: {path or 'the file'} expands to more than {_MAX_NODES} values")
    sizes[id(node)] = size
    return size
