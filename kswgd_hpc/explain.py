"""What pydantic says of a configuration, in one line: the path of the key, what is wrong, the nearest valid key."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import ValidationError

from kswgd_hpc.schema.base import Section


def explain(error: ValidationError, root: type[Section]) -> str:
    """The first, most telling problem as one line; how many more there are."""
    problems = error.errors(include_url=False)
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    kind, location = first["type"], first["loc"]
    path = _path(location, root)
    if kind == "extra_forbidden":
        known = _keys_at(location[:-1], root)
        given = str(location[-1])
        near = difflib.get_close_matches(given, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(known)}"
        if given.count(")") != given.count("("):
            hint = "; is it a part of an expression with a comma? In {...} that has to be in quotes"
        message = f"{path}: unknown key{hint}"
    elif kind == "missing":
        message = f"{path}: this key is required"
    elif kind in ("literal_error", "union_tag_invalid"):
        expected = first["ctx"].get("expected") or first["ctx"].get("expected_tags")
        value = first["ctx"].get("tag", first["input"])
        choices = [choice.strip(" '") for choice in str(expected).replace(" or ", ",").split(",")]
        near = difflib.get_close_matches(str(value), choices, n=1)
        others = " or a number" if choices[0] == "auto" else ""
        hint = (
            f"; did you mean '{near[0]}'?"
            if near
            else f"; choose {'one of ' * (len(choices) > 1)}{', '.join(choices)}{others}"
        )
        message = f"{path}: {short(value)} is not available{hint}"
    elif kind == "union_tag_not_found":
        message = f"{path}: the key 'kind' is required"
    else:
        reason = first["msg"].removeprefix("Value error, ")
        reason += "" if kind == "value_error" else f", got {short(first['input'])}"
        message = f"{path}: {reason}" if path else reason
    others = len({_path(p["loc"], root) for p in problems}) - 1
    return one_line(message) + (f" (and {others} more)" if others > 0 else "")


def _path(location: tuple, root: type[Section]) -> str:
    """Keys of the file that lead to a location of pydantic's, which also names the branches of unions."""
    keys, model = [], root
    for part in location:
        if isinstance(model, list) and not isinstance(part, int):
            # of a union in a union, the outer branch has a name that no model has
            model = next((m for m in model if part in _tags(m)), model)
            continue
        if isinstance(part, int) or model is None:
            if isinstance(part, int):
                keys.append(str(part))
            continue
        keys.append(part)
        model = _child(model, part)
    return ".".join(keys)


def _keys_at(location: tuple, root: type[Section]) -> list[str]:
    """Valid keys of the section at a location, following pydantic's path through the models."""
    model: Any = root
    for part in location:
        if not isinstance(part, int):
            model = _child(model, part)
        if model is None:
            return []
    return list(model.model_fields) if isinstance(model, type) else []


def _child(model: Any, part: str) -> Any:
    """Model reached from `model` (a model, or the candidates of a union) by one part of a location."""
    if isinstance(model, list):
        return next((m for m in model if part in _tags(m)), model)
    if part not in model.model_fields:
        return None
    found = _models(model.model_fields[part].annotation)
    return (found[0] if len(found) == 1 else found) if found else None


def _models(annotation: Any) -> list[type[Section]]:
    """Section models named anywhere in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def _tags(model: type[Section]) -> tuple:
    return getattr(model.model_fields["kind"].annotation, "__args__", ()) if "kind" in model.model_fields else ()


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def one_line(message: Any) -> str:
    return " ".join(str(message).split())
