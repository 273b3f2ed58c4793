"""What all sections of the configuration are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

_LARGEST = 1e30  # squares, cubes and sums of such numbers are still finite
Positive = Annotated[float, Field(gt=0, le=_LARGEST, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=_LARGEST, allow_inf_nan=False)]
Finite = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]
Numbers = Finite | Annotated[list[Finite], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00-\x08\x0e-\x1f\x7f]*$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Count = Annotated[int, Field(ge=1, le=2**31)]
Formula = Text | Finite
Amplitude = Positive | Text


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values are not changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _true_is_not_one(cls, given: Any) -> Any:
        """YAML reads yes, no, on and off as truth values, and Python takes those for 1 and 0."""
        for name, value in given.items() if isinstance(given, dict) else ():
            field = cls.model_fields.get(name)
            values = value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]
            if field is not None and any(isinstance(v, bool) for v in values) and not _knows_bool(field.annotation):
                raise ValueError(f"{name!r} takes no truth value (true, false, yes, no, on, off); quote a text")
        return given


def _knows_bool(annotation: Any) -> bool:
    """Whether a type annotation has truth values, or sections that judge for themselves."""
    if isinstance(annotation, type) and issubclass(annotation, bool | Section):
        return True
    return any(_knows_bool(part) for part in getattr(annotation, "__args__", ()))
