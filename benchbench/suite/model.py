"""The suite file: what a benchmark holds, checked once, at the edge.

Frozen pydantic models that refuse unknown keys, wrong types and settings that make no sense;
``benchbench.suite.load`` reads YAML into them; the agent's part is in
``benchbench.suite.agent``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, field_validator, model_validator

from benchbench.core.settings import (
    Count,
    Index,
    Number,
    Rate,
    Settings,
    refuse_repeats,
    suggest,
)
from benchbench.routing import (
    REGISTRY,
    Clear,
    Combine,
    CriticTerms,
    Encoders,
    Flow,
    Holder,
    Routing,
    VaeWeights,
)
from benchbench.suite.agent import AgentSettings, refusal
from benchbench.suite.comparisons import CLAIMS, Claim, Contrast, Deltas, Margins, SeedPlan
from benchbench.suite.distract import DistractSettings
from benchbench.suite.distract import refusal as distract_refusal
from benchbench.suite.environments import DataSource, data_for, family_of


class PixelSettings(Settings):
    """How a frame is drawn and stacked."""

    size: Annotated[int, Strict(), Field(ge=16)] = Field(84, description="height and width, pixels")
    stack: Count = Field(3, description="frames in one observation")
    spacing: Count = Field(1, description="environment steps between the frames of a stack")
    centre: Annotated[bool, Strict()] = Field(
        False,
        description="subtract the training frames' mean image, rather than 1/2; where the scene "
        "stands still, an untrained encoder then sees what moves",
    )
    distract: DistractSettings | None = Field(
        None,
        description="what is laid over the frames: tint, background, objects, camera, noise, or a "
        "preset of them; none by default",
    )

    def identity(self) -> dict[str, Any]:
        """All of it as plain JSON values; without what came later, where that is not used."""
        told = self.model_dump(mode="json", exclude={"distract"})
        distract = self.distract.identity() if self.distract else {}
        return told | ({"distract": distract} if distract else {})


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

    every: Count = Field(5_000, description="updates between evaluations")
    episodes: Count = 10
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

    def identity(self, pixels: PixelSettings) -> dict[str, Any]:
        """All of it as plain JSON values; without what came later, where that is not used."""
        told = self.model_dump(mode="json", exclude={"distract"})
        unseen = self.unseen(pixels)
        return told if unseen is None else told | {"distract": unseen.identity()}


class DiagnoseSettings(Settings):
    """What is measured beside the score; it never changes the training."""

    signals_every: Count = Field(
        500, description="updates between samples of losses and gradient norms"
    )
    holdout: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        0.1, description="share of the data set's episodes kept from training for probes and errors"
    )
    probe_frames: Annotated[int, Strict(), Field(ge=200)] = Field(
        2_000, description="held-out frames on which probes are fitted"
    )
    q_pairs: Index = Field(
        32,
        description="held-out states and actions from which the policy is played on, for the true "
        "value of Q; 0: off",
    )
    q_horizon: Count = Field(
        400, description="steps of each of these roll-outs; at discount 0.99, 2 % is left out"
    )
    q_every: Count = Field(
        10, description="evaluations between these roll-outs; the last one always has them"
    )
    oracle_updates: Index = Field(
        2_000,
        description="updates of the reference encoder that is trained on the simulator's state, "
        "once for each data set and encoder; 0: off",
    )


class KeepSettings(Settings):
    """What is kept beside the tables; it shapes no cell, so cells keep their keys."""

    policies: Annotated[bool, Strict()] = Field(
        True, description="the weights of every finished cell, to be loaded, exported and filmed"
    )
    films: Annotated[bool, Strict()] = Field(
        True,
        description="after a run, a short film of an episode: the compared variants side by side "
        "from the same start, on the first seed of each environment",
    )


class EnvSettings(Settings):
    """One environment; ``agent``, ``train`` and ``evaluate`` override the suite's."""

    id: str = Field(
        description="an environment's id, such as bullet-maze2d-open-v0, hopper-medium-v2, "
        "vd4rl:main/walker_walk/medium or minari:mujoco/hopper/medium-v0; any name with a data "
        "file of your own ('benchbench data list' names them)"
    )
    data: DataSource | None = Field(
        None, description="where the data come from; by default the source that fits the id"
    )
    when: Literal["always", "available"] = Field(
        "always",
        description="available: leave the environment out, and say so, where its data are not here",
    )
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


class VariantSettings(Settings):
    """A variant defined in the suite, in the terms of ``benchbench.routing``."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    encoder_in: tuple[Holder, ...] = Field(description="the optimizers that hold the encoder")
    critic: Flow
    vae: Flow
    actor: Flow = "detached"
    encoders: Encoders = Field("shared", description="one encoder for all networks or one each")
    critic_terms: CriticTerms = Field("both", description="the terms that reach the encoder")
    vae_weights: VaeWeights = Field("advantage", description="of the VAE's gradient on the encoder")
    clear: Clear = Field("before", description="zero_grad before the backward or after the step")
    combine: Combine = Field("sum", description="how two gradients in [own] become one")
    why: str = ""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.name in REGISTRY:
            raise ValueError(f"'{self.name}' is a variant of benchbench's own; choose another name")
        self.routing()
        return self

    def routing(self) -> Routing:
        """The routing that these settings describe."""
        return Routing(**self.model_dump())


def of_other_code(name: str) -> str | dict[str, object]:
    """How a suite names a variant that other code trained: nothing is known of its routing."""
    if name in REGISTRY:
        return name
    return {"name": name, "encoder_in": [], "critic": "detached", "vae": "detached"}


class Suite(Settings):
    """A whole suite file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    observation: Literal["pixels", "state"] = "pixels"
    seeds: Count | tuple[Index, ...] | SeedPlan = Field(
        description="a count (0, 1, …), a list, or {start, most, look_every}: as many as it takes"
    )
    variants: tuple[str | VariantSettings, ...] = Field(min_length=1)
    envs: tuple[EnvSettings, ...] = Field(min_length=1)
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

    @field_validator("seeds", mode="after")
    @classmethod
    def _some_seeds(
        cls, value: int | tuple[int, ...] | SeedPlan
    ) -> int | tuple[int, ...] | SeedPlan:
        if isinstance(value, tuple):
            if not value:
                raise ValueError("is empty: give a count, or at least one seed")
            refuse_repeats(value, "seed")
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
        refuse_repeats([env.id for env in value], "environment")
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
    def _state_has_no_routing(self) -> Self:
        kinds = {env.observation or self.observation for env in self.envs}
        names = [routing.name for routing in self.routings]
        if "state" in kinds and names != ["frozen"]:
            raise ValueError(
                "observation: state has no encoder, so its variants are all the same; "
                "write variants: [frozen] in a suite of its own"
            )
        return self

    @model_validator(mode="after")
    def _state_has_no_proprio(self) -> Self:
        for index, env in enumerate(self.envs):
            if env.proprio and (env.observation or self.observation) == "state":
                raise ValueError(
                    f"envs.{index}.proprio: {env.id} is seen as its state, which holds all that "
                    "could stand beside an image; take proprio out, or write observation: pixels"
                )
        return self

    @model_validator(mode="after")
    def _variants_fit_the_agents(self) -> Self:
        for algorithm in {self.agent.overridden_by(env.agent).algorithm for env in self.envs}:
            for routing in self.routings:
                if reason := refusal(algorithm, routing):
                    raise ValueError(f"variants: '{routing.name}' does not fit: {reason}")
        return self

    @model_validator(mode="after")
    def _distractions_fit(self) -> Self:
        for index, env in enumerate(self.envs):
            pixels = self.pixels.overridden_by(env.pixels)
            unseen = self.evaluate.overridden_by(env.evaluate).unseen(pixels)
            for where, distract in (("pixels", pixels.distract), ("evaluate", unseen)):
                if distract is None or (env.observation or self.observation) == "state":
                    continue
                if reason := distract_refusal(env.id, distract):
                    raise ValueError(f"envs.{index}.{where}.{reason}")
            seen = pixels.distract.identity() if pixels.distract else {}
            if unseen is not None and unseen.identity() == seen:
                raise ValueError(
                    f"evaluate.distract: {env.id} is trained under the same distractions, so that "
                    "nothing in them is unseen; state another strength, seed or folder"
                )
        return self

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
            self.evaluate.overridden_by(env.evaluate).distract is not None for env in self.envs
        )

    @property
    def routings(self) -> tuple[Routing, ...]:
        """The variants, named ones looked up and inline ones built, in the file's order."""
        return tuple(REGISTRY[v] if isinstance(v, str) else v.routing() for v in self.variants)
