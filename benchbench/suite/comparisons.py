"""What a suite compares and decides: contrasts, claims and their deltas, the plan of its seeds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, Strict, model_validator

from benchbench.core.settings import Count, Rate, Settings


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

    start: Annotated[int, Strict(), Field(ge=2, le=10_000)] = Field(
        description="seeds before the first look"
    )
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


class Deltas(Settings):
    """The smallest effect of interest for each kind of claim, fixed before the run."""

    score: Rate = Field(5.0, description="score points")
    r2: Rate = Field(0.05, description="R² of a probe")
    q_error: Rate = Field(0.10, description="relative reduction of an error")
    auc: Rate = Field(5.0, description="points of area under the score curve")
    wobble: Rate = Field(
        100.0,
        description="points² of variance of the late score changes; 100: changes of 10 points "
        "from one evaluation to the next, where the other variant has none",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_relative_stability(cls, values: Any) -> Any:
        """Results of earlier versions state ``stability``, a share of the values it judged."""
        if isinstance(values, dict) and "stability" in values:
            return {key: value for key, value in values.items() if key != "stability"}
        return values


Claim = Literal["return", "action", "state", "q", "area", "score", "stability", "robustness"]
CLAIMS: tuple[Claim, ...] = get_args(Claim)
"""Names of the claims that a test decides, in the order of the brief's table; the last is of suites
that evaluate under unseen distractions."""


class Margins(Settings):
    """The smallest worsening that fails the nightly gate, fixed before the night."""

    score: Rate = Field(5.0, description="score points lost")
    r2: Rate = Field(0.05, description="R² of a probe lost")
    q_error: Rate = Field(0.10, description="relative growth of an error of Q")
    update_ms: Rate = Field(
        0.25,
        description="relative growth of an update's time; single runs vary by 6 to 16 % on shared "
        "machines, and all times of a night vary together",
    )
    memory: Rate = Field(0.10, description="relative growth of the peak memory")
