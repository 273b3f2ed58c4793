"""A study: one configuration, what varies in it, the methods that are compared, and over how many seeds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kswgd_hpc.schema.base import Count, NonNegative, Positive, Section, Text
from kswgd_hpc.schema.kswgd import Rival

_MOST_CASES = 64


class ReferenceRun(Section):
    """An ensemble apart from all others, whose states are the reference; keys left out are those of the base."""

    trajectories: Count | None = None
    burn_in: NonNegative | None = None
    duration: Positive | None = None


class StudyOutput(Section):
    """Where the table, the page and the results of each run go, relative to the current directory."""

    directory: Text


class Study(Section):
    """Runs of one configuration that differ in what varies and in their seed, and one table of all."""

    title: str = "KSWGD study"
    base: Text | dict[str, Any]
    vary: dict[Text, Annotated[list[Any], Field(min_length=1, max_length=_MOST_CASES)]] = {}
    labels: list[Text] | None = None
    methods: Annotated[list[Literal["kswgd"] | Rival], Field(min_length=1)] = ["kswgd"]
    seeds: Annotated[int, Field(ge=1, le=100)] | Annotated[list[Count], Field(min_length=1, max_length=100)] = 5
    statistics: Annotated[list[Text], Field(min_length=1)] | None = None
    reference: ReferenceRun | None = None
    data: Literal["digits"] | None = None
    output: StudyOutput

    @model_validator(mode="after")
    def _cases_fit(self):
        counts = {key: len(values) for key, values in self.vary.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{key} has {count}" for key, count in counts.items())
            raise ValueError(f"'vary' takes lists of one length, one value for each case: {listed}")
        if self.labels is not None and len(self.labels) != self.cases:
            raise ValueError(f"'labels' has {len(self.labels)} entries for {self.cases} cases")
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise ValueError("'labels' repeats a name")
        if "kswgd" not in self.methods:
            raise ValueError("'methods' needs kswgd, which the others are compared with")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError("'methods' names a method twice")
        if isinstance(self.seeds, list) and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("'seeds' repeats a seed")
        return self

    @property
    def cases(self) -> int:
        """Number of configurations, seeds apart."""
        return max((len(values) for values in self.vary.values()), default=1)

    @property
    def seed_list(self) -> list[int]:
        """Seeds of the runs of one case."""
        return self.seeds if isinstance(self.seeds, list) else list(range(1, self.seeds + 1))

    @property
    def names(self) -> list[str]:
        """Names of the cases: the labels, or what varies."""
        if self.labels is not None:
            return self.labels
        if not self.vary:
            return [self.title]
        key, values = next(iter(self.vary.items()))
        return [f"{key.rsplit('.', 1)[-1]} {value}" for value in values]
