"""`validation`: predictions to compare with references."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from kswgd_hpc.schema.base import Finite, Formula, Name, NonNegative, Positive, Section, Text
from kswgd_hpc.schema.ensemble import Initial
from kswgd_hpc.schema.koopman import Sets

Initials = Annotated[
    Annotated[Initial, Tag("one")] | Annotated[list[Initial], Field(min_length=1, max_length=256), Tag("several")],
    Discriminator(lambda given: "several" if isinstance(given, list) else "one"),
]


@dataclass(frozen=True)
class KeysOf:
    """The keys that a kind of prediction must have and may have, and the methods of its reference."""

    needed: tuple[str, ...]
    allowed: tuple[str, ...]
    references: tuple[str, ...]


_ON_PATHS = ("deterministic", "monte_carlo")
KINDS = {
    "expectation": KeysOf(
        ("initial", "times"),
        ("observable", "source", "killing"),
        ("closed_form", "deterministic", "monte_carlo", "multilevel", "splitting"),
    ),
    "resolvent": KeysOf(("source", "initial"), ("killing",), ("closed_form", *_ON_PATHS)),
    "hitting_probability": KeysOf(("target", "initial", "times"), (), _ON_PATHS),
    "hitting_time": KeysOf(("target", "initial"), (), _ON_PATHS),
    "exit_probability": KeysOf(("domain", "initial", "times"), (), _ON_PATHS),
    "exit_time": KeysOf(("domain", "initial"), (), _ON_PATHS),
    "committor": KeysOf(("sets", "initial"), (), _ON_PATHS),
    "principal_eigenvalue": KeysOf((), ("killing", "initial", "times"), ("closed_form", "deterministic", "splitting")),
    "generating_function": KeysOf(
        ("observable", "thetas"), ("initial", "times"), ("closed_form", "deterministic", "splitting")
    ),
    "rate_function": KeysOf(
        ("observable", "thetas", "values"), ("initial", "times"), ("closed_form", "deterministic", "splitting")
    ),
}
_KEYS = ("observable", "source", "killing", "target", "domain", "sets", "thetas", "values", "initial", "times")
TILTED = ("generating_function", "rate_function")  # kinds with a principal eigenvalue for each theta
FEWEST_THETAS = 5  # of a rate function
STEADY = ("resolvent", "hitting_time", "exit_time", "committor")  # kinds without a time axis


class FeynmanKac(Section):
    """One prediction and its independent reference.

    kind : what is predicted, `KINDS` has the keys of each
        expectation: E_x[f(X_t) exp(-int c) + int_0^t g(X_s) exp(-int c) ds] at the `times`, f the observable
        (`terminal` is another word for it), g the source, c the killing
        resolvent: (L + c)^-1 g, the same for t to infinity without f
        hitting_probability, hitting_time: P(T <= t) and E[T] of the first time T in the `target`
        exit_probability, exit_time: of the first time outside of the `domain`
        committor: probability of reaching sets.B before sets.A
        principal_eigenvalue: of L + c; for c = -theta g it is minus the scaled cumulant generating function of the time
        average of g, at theta; particles of its reference run to the last of the `times`
        generating_function: the scaled cumulant generating function of the time average of the observable, at `thetas`
        rate_function: I(a) of the time average of the observable at a in `values`, the Legendre transform of that
        function on the grid `thetas`
    initial : one law, or a list with a curve for each
    reference : method of the reference; auto takes the best there is
    tolerance : standard error wanted of a sampled reference, in the units of u; None for that of `trajectories` paths
    """

    name: Name
    kind: Literal[
        "expectation",
        "resolvent",
        "hitting_probability",
        "hitting_time",
        "exit_probability",
        "exit_time",
        "committor",
        "principal_eigenvalue",
        "generating_function",
        "rate_function",
    ] = "expectation"
    observable: Formula | None = None
    source: Formula | None = None
    killing: Formula = 0.0
    target: Text | None = None
    domain: Text | None = None
    sets: Sets | None = None
    thetas: Annotated[list[Finite], Field(min_length=1, max_length=200)] | None = None
    values: Annotated[list[Finite], Field(min_length=1, max_length=1000)] | None = None
    initial: Initials | None = None
    times: Annotated[list[NonNegative], Field(min_length=1)] | None = None
    trajectories: Annotated[int, Field(ge=2, le=2**31)] = 4096
    reference: Literal["auto", "closed_form", "deterministic", "monte_carlo", "multilevel", "splitting"] = "auto"
    tolerance: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def _terminal_is_observable(cls, given: Any) -> Any:
        """The condition at the end of a backward problem is what an observable is."""
        if not isinstance(given, dict) or "terminal" not in given:
            return given
        if "observable" in given:
            raise ValueError("'terminal' is another word for 'observable': give one of them")
        return {"observable" if key == "terminal" else key: value for key, value in given.items()}

    @field_validator("times", "thetas", "values")
    @classmethod
    def _ascending(cls, numbers, info):
        if numbers is not None and sorted(set(numbers)) != numbers:
            raise ValueError(f"{info.field_name} must ascend")
        return numbers

    @model_validator(mode="after")
    def _keys_of_kind(self):
        keys = KINDS[self.kind]
        if isinstance(self.initial, list) and self.kind in ("principal_eigenvalue", *TILTED):
            raise ValueError(f"kind: {self.kind} does not depend on where paths start; give one 'initial' or none")
        for key in _KEYS:
            given = key in self.model_fields_set and getattr(self, key) is not None
            if given and key not in (*keys.needed, *keys.allowed):
                raise ValueError(f"kind: {self.kind} has no '{key}'")
            if not given and key in keys.needed:
                raise ValueError(f"'{key}': this key is required")
        if self.kind == "expectation" and self.observable is None and self.source is None:
            raise ValueError("'observable': this key is required")
        if self.times == [0]:
            raise ValueError("'times': u at time 0 is f itself; give a time after it, too")
        if self.reference not in ("auto", *keys.references):
            raise ValueError(f"kind: {self.kind} takes reference: {', '.join(keys.references)}")
        if self.kind == "rate_function" and len(self.thetas) < FEWEST_THETAS:
            raise ValueError(f"'thetas': a rate function takes at least {FEWEST_THETAS}")
        if self.source is not None and self.reference == "splitting":
            raise ValueError("'source' is not summed by reference: splitting; use monte_carlo")
        return self

    @property
    def initials(self) -> list:
        """The initial laws, none where there is no need of one."""
        if self.initial is None:
            return []
        return self.initial if isinstance(self.initial, list) else [self.initial]


class Validation(Section):
    """Predictions to compare with references."""

    feynman_kac: list[FeynmanKac] = []

    @field_validator("feynman_kac")
    @classmethod
    def _names_differ(cls, rows):
        names = [row.name for row in rows]
        if len(set(names)) < len(names):
            raise ValueError("two entries have the same name")
        return rows
