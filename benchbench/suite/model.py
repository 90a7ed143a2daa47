"""The suite file: what a benchmark holds, checked once, at the edge.

Frozen pydantic models that refuse unknown keys, wrong types and settings that make no sense;
``benchbench.suite.load`` reads YAML into them; the agent's part is in
``benchbench.suite.agent``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from benchbench.core.settings import (
    LABEL,
    LONGEST_NAME,
    PLAIN_NAME,
    SMALL_NAME,
    Count,
    Index,
    Rate,
    Settings,
    refuse_repeats,
    suggest,
)
from benchbench.routing import REGISTRY, Routing
from benchbench.suite.agent import AgentSettings, refusal
from benchbench.suite.comparisons import CLAIMS, Claim, Contrast, Deltas, Margins, SeedPlan
from benchbench.suite.diagnose import DiagnoseSettings, KeepSettings
from benchbench.suite.environments import DataSource, data_for, family_of
from benchbench.suite.pixels import DistractSettings, PixelSettings
from benchbench.suite.pixels import refusal as distract_refusal
from benchbench.suite.strata import Stratum, refuse_equal_strata, strata_of, unfolded
from benchbench.suite.variants import VariantSettings

RESERVED = ("baselines", "images", "scaling")
"""Folders beside the suites' results that hold something else."""

MOST_SEEDS = 10_000

SmallName = Annotated[str, Field(pattern=SMALL_NAME, max_length=LONGEST_NAME)]


class TrainSettings(Settings):
    """How long and on what batches an agent is trained."""

    updates: Count = 1_000_000
    batch_size: Count = 512
    n_step: Count = Field(1, description="length of the returns; 1 is LAPO's own")
    augmentation: Literal["none", "random-shift"] = Field(
        "none", description="random-shift: DrQ's, by up to shift_pad pixels either way"
    )
    shift_pad: Count = Field(4, description="DrQ's 4 pixels; used with random-shift only")


class EvaluateSettings(Settings):
    """When and on how many episodes the policy is scored."""

    LATER = frozenset({"final_episodes", "distract"})

    every: Count = Field(5_000, description="updates between evaluations")
    episodes: Count = Field(10, description="of an evaluation, from the same starts each time")
    final_episodes: Index = Field(
        0,
        description="more episodes of each evaluation in the last tenth of training, from starts "
        "that no other evaluation has: the final score is then theirs; 0: of the others",
    )
    distract: DistractSettings | None = Field(
        None,
        description="distractions that the training has not seen: what is stated here takes the "
        "place of pixels.distract's in a second evaluation, and the drop between the two becomes "
        "the claim 'robustness'",
    )

    def unseen(self, pixels: PixelSettings) -> DistractSettings | None:
        """The distractions of the second evaluation; None where there is none."""
        if self.distract is None:
            return None
        return (pixels.distract or DistractSettings()).under(self.distract)

    def identity(self, pixels: PixelSettings | None = None) -> dict[str, Any]:
        """All of it as plain JSON values; unseen distractions depend on those of ``pixels``."""
        values = super().identity()
        unseen = self.unseen(pixels or PixelSettings())
        return values if unseen is None else values | {"distract": unseen.identity()}


class Overrides(Settings):
    """What may differ from the suite's settings: in an environment, or under a condition."""

    observation: Literal["pixels", "state"] | None = None
    pixels: PixelSettings | None = None
    action_repeat: Count | None = Field(
        None, description="simulator steps of one action; by default 1, and 2 in V-D4RL"
    )
    proprio: tuple[str, ...] = Field(
        (),
        description="simulator quantities beside the image, such as velocity; an unknown one's "
        "error names the environment's",
    )
    agent: AgentSettings | None = None
    train: TrainSettings | None = None
    evaluate: EvaluateSettings | None = None


class Condition(Overrides):
    """Settings under each of which every environment runs once, overriding its own."""

    data: dict[str, Any] | None = Field(
        None, description="keys of an environment's data, put in the place of its own"
    )

    @model_validator(mode="before")
    @classmethod
    def _dotted(cls, values: Any) -> Any:
        return unfolded(values) if isinstance(values, dict) else values


class EnvSettings(Overrides):
    """One environment; ``agent``, ``train`` and ``evaluate`` override the suite's."""

    id: str = Field(
        description="an environment's id, such as bullet-maze2d-open-v0, hopper-medium-v2, "
        "vd4rl:main/walker_walk/medium or minari:mujoco/hopper/medium-v0; any name with a data "
        "file of your own ('benchbench data list' names them)"
    )
    name: Annotated[str, Field(pattern=LABEL, max_length=LONGEST_NAME)] | None = Field(
        None,
        description="what the environment is called in tables; with it, one id may stand in a "
        "suite several times, under different settings",
    )
    data: DataSource | None = Field(
        None, description="where the data come from; by default the source that fits the id"
    )
    when: Literal["always", "available"] = Field(
        "always",
        description="available: leave the environment out, and say so, where its data are not here",
    )

    @model_validator(mode="before")
    @classmethod
    def _own_source(cls, values: Any) -> Any:
        """The source may be left out where it is the one that fits the id."""
        if isinstance(values, dict) and isinstance(data := values.get("data"), dict):
            source = family_of(str(values.get("id"))).source
            return values | {"data": {"source": source} | data}
        return values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        data_for(self.id, self.data)
        family = family_of(self.id)
        for name in self.proprio:
            if family.proprio is not None and name not in family.proprio:
                raise ValueError(
                    f"proprio: {self.id} has no '{name}'{suggest(name, family.proprio)}"
                )
        makes = family.repeats and (self.data is None or self.data.source == family.source)
        if not makes and self.action_repeat not in (None, family.action_repeat):
            raise ValueError(
                f"action_repeat: the data of {self.id} hold {family.action_repeat} simulator "
                "steps a row; leave it out"
            )
        return self


class Suite(Settings):
    """A whole suite file."""

    name: Annotated[str, Field(pattern=PLAIN_NAME, max_length=LONGEST_NAME)]
    description: str = ""
    observation: Literal["pixels", "state"] = "pixels"
    seeds: Count | tuple[Index, ...] | SeedPlan = Field(
        description="a count (0, 1, …), a list, or {start, most, look_every}: as many as it takes"
    )
    variants: tuple[str | VariantSettings, ...] = Field(min_length=1)
    envs: tuple[EnvSettings, ...] = Field(min_length=1)
    conditions: dict[
        Annotated[str, Field(pattern=SMALL_NAME, max_length=LONGEST_NAME)], Condition
    ] = Field(
        {},
        description="settings under each of which the whole grid runs, by name, such as "
        "{plain: {}, small-lr: {agent.encoder_lr: 1e-4}}; keys as --set takes them",
    )
    pixels: PixelSettings = PixelSettings()
    agent: AgentSettings = AgentSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    diagnose: DiagnoseSettings = DiagnoseSettings()
    contrasts: tuple[Contrast, ...] = Field(
        (),
        description="the variants that are compared; by default after against before with the "
        "brief's claims, or every variant against the first where one of the two is not there",
    )
    claims: tuple[Claim, ...] = Field(
        (),
        description="the claims to be decided, named beforehand; by default all seven, and "
        "robustness where evaluate.distract is stated. Fewer take fewer seeds; the others are "
        "described",
    )
    keep: KeepSettings = KeepSettings()
    deltas: Deltas = Deltas()
    margins: Margins = Margins()
    tolerance: Rate | None = Field(
        None,
        description="makes the suite a canary: 'compare' asks that every number of the baseline "
        "is met within this relative error, and nothing else",
    )

    @field_validator("name", mode="after")
    @classmethod
    def _free_name(cls, value: str) -> str:
        if value.casefold() in RESERVED:
            raise ValueError(
                f"results/{value} holds other things than a suite's results; choose another name"
            )
        return value

    @field_validator("seeds", mode="after")
    @classmethod
    def _some_seeds(
        cls, value: int | tuple[int, ...] | SeedPlan
    ) -> int | tuple[int, ...] | SeedPlan:
        if isinstance(value, tuple):
            if not value:
                raise ValueError("is empty: give a count, or at least one seed")
            refuse_repeats(value, "seed")
        count = value if isinstance(value, int) else 0
        if count > MOST_SEEDS:
            raise ValueError(
                f"{count} is a count, of seeds 0, 1, …, and above {MOST_SEEDS:,}; for that one "
                f"seed write [{count}]"
            )
        return value

    @field_validator("variants", mode="after")
    @classmethod
    def _known_variants(
        cls, value: tuple[str | VariantSettings, ...]
    ) -> tuple[str | VariantSettings, ...]:
        for item in value:
            if isinstance(item, str) and item not in REGISTRY:
                raise ValueError(f"'{item}' is not a variant{suggest(item, REGISTRY)}")
        refuse_repeats([v if isinstance(v, str) else v.name for v in value], "variant")
        return value

    @field_validator("envs", mode="after")
    @classmethod
    def _distinct_envs(cls, value: tuple[EnvSettings, ...]) -> tuple[EnvSettings, ...]:
        names = [env.name or env.id for env in value]
        if "all" in names:
            raise ValueError(f"{names.index('all')}.name: 'all' is the mean of all; choose another")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"names the environment {name!r} twice; give one of them a name: of its own, "
                    "and other settings"
                )
        return value

    @field_validator("claims", mode="after")
    @classmethod
    def _distinct_claims(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        refuse_repeats(value, "claim")
        return value

    @model_validator(mode="after")
    def _robustness_has_a_second_evaluation(self) -> Self:
        if "robustness" in self.claims and not self.has_unseen:
            raise ValueError(
                "claims: robustness is the drop to distractions that the training has not seen; "
                "state them under evaluate.distract"
            )
        return self

    @model_validator(mode="after")
    def _contrasts_are_of_the_suites_variants(self) -> Self:
        names = [routing.name for routing in self.routings]
        for index, contrast in enumerate(self.contrasts):
            for key in ("of", "against"):
                if (name := getattr(contrast, key)) not in names:
                    raise ValueError(
                        f"contrasts.{index}.{key}: the suite has no variant '{name}'"
                        f"{suggest(name, names)}"
                    )
        refuse_repeats([(c.of, c.against) for c in self.contrasts], "contrast")
        return self

    @model_validator(mode="after")
    def _strata_differ(self) -> Self:
        refuse_equal_strata(self)
        return self

    @model_validator(mode="after")
    def _state_has_no_routing(self) -> Self:
        kinds = {one.env.observation or self.observation for one in self.strata}
        names = [routing.name for routing in self.routings]
        if "state" in kinds and names != ["frozen"]:
            raise ValueError(
                "observation: state has no encoder, so its variants are all the same; "
                "write variants: [frozen] in a suite of its own"
            )
        return self

    @model_validator(mode="after")
    def _state_has_no_proprio(self) -> Self:
        for one in self.strata:
            if one.env.proprio and (one.env.observation or self.observation) == "state":
                raise ValueError(
                    f"{one.at}.proprio: {one.label} is seen as its state, which holds all that "
                    "could stand beside an image; take proprio out, or write observation: pixels"
                )
        return self

    @model_validator(mode="after")
    def _variants_fit_the_agents(self) -> Self:
        agents = [self.agent.overridden_by(one.env.agent) for one in self.strata]
        for algorithm in dict.fromkeys(agent.algorithm for agent in agents):
            for routing in self.routings:
                if reason := refusal(algorithm, routing):
                    raise ValueError(f"variants: '{routing.name}' does not fit: {reason}")
        return self

    @model_validator(mode="after")
    def _distractions_fit(self) -> Self:
        for one in self.strata:
            env = one.env
            pixels = self.pixels.overridden_by(env.pixels)
            unseen = self.evaluate.overridden_by(env.evaluate).unseen(pixels)
            for where, distract in (("pixels", pixels.distract), ("evaluate", unseen)):
                if distract is None or (env.observation or self.observation) == "state":
                    continue
                if reason := distract_refusal(env.id, distract):
                    raise ValueError(f"{one.at}.{where}.{reason}")
            seen = pixels.distract.identity() if pixels.distract else {}
            if unseen is not None and unseen.identity() == seen:
                raise ValueError(
                    f"evaluate.distract: {one.label} is trained under the same distractions, so "
                    "that nothing in them is unseen; state another strength, seed or folder"
                )
        return self

    @property
    def strata(self) -> tuple[Stratum, ...]:
        """Environments × conditions, in the file's order: what has verdicts of its own."""
        return strata_of(self)

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, whether the file gave a count or a list; all that a plan may come to."""
        if isinstance(self.seeds, SeedPlan):
            return tuple(range(self.seeds.most))
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def compared(self) -> tuple[Contrast, ...]:
        """The contrasts, whether stated or by default; none with a single variant."""
        if self.contrasts:
            return self.contrasts
        names = [routing.name for routing in self.routings]
        if {"before", "after"} <= {*names}:
            return (Contrast(of="after", against="before", expect="brief"),)
        return tuple(Contrast(of=name, against=names[0]) for name in names[1:])

    @property
    def judged(self) -> tuple[str, ...]:
        """The claims that are tested, in the order of the brief's table."""
        asked = self.claims or CLAIMS
        return tuple(
            name for name in CLAIMS if name in asked and (name != "robustness" or self.has_unseen)
        )

    @property
    def has_unseen(self) -> bool:
        """Whether policies are also evaluated under distractions not seen in training."""
        return any(
            self.evaluate.overridden_by(one.env.evaluate).distract is not None
            for one in self.strata
        )

    @property
    def routings(self) -> tuple[Routing, ...]:
        """The variants, named ones looked up and inline ones built, in the file's order."""
        return tuple(REGISTRY[v] if isinstance(v, str) else v.routing() for v in self.variants)
