"""What a suite compares, and how its seeds are planned: contrasts and looks."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from benchbench.core.settings import (
    Count,
    Settings,
)


class Contrast(Settings):
    """Two variants that are compared: D = ``of`` − ``against``."""

    of: str = Field(description="the variant whose worth is asked")
    against: str = Field(description="the control; contrasts with one control are one family")
    expect: Literal["brief"] | None = Field(
        None, description="brief: its claims are judged, for after against before only"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.of == self.against:
            raise ValueError(f"'{self.of}' cannot be compared with itself; name another variant")
        if self.expect and (self.of, self.against) != ("after", "before"):
            raise ValueError(
                "expect: brief is for {of: after, against: before}; leave it out elsewhere"
            )
        return self

    @property
    def name(self) -> str:
        """How people name the contrast."""
        return f"{self.of} − {self.against}"


class SeedPlan(Settings):
    """Seeds that are added until the claims are decided, with looks planned beforehand."""

    start: Annotated[int, Strict(), Field(ge=2, le=10_000)] = Field(description="seeds before the first look")
    most: Annotated[int, Strict(), Field(ge=1, le=10_000)] = Field(
        description="seeds at which it ends, whatever is known then"
    )
    look_every: Count = Field(description="seeds between two looks")
    spending: Literal["pocock", "obrien-fleming"] = Field(
        "pocock",
        description="how the error is spent over the looks (Lan and DeMets 1983): pocock stops "
        "early more often, obrien-fleming keeps most of it for the last look",
    )

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.most <= self.start:
            raise ValueError(
                "most: should be above start; write a plain count for a single look at the end"
            )
        return self

    @property
    def looks(self) -> tuple[int, ...]:
        """The number of seeds at each look, the last one ``most``."""
        return (*range(self.start, self.most, self.look_every), self.most)
