"""Variants that a suite defines itself, or whose cells other code trained."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from benchbench.core.settings import LONGEST_NAME, SMALL_NAME, Settings
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


class VariantSettings(Settings):
    """A variant defined in the suite, in the terms of ``benchbench.routing``."""

    name: Annotated[str, Field(pattern=SMALL_NAME, max_length=LONGEST_NAME)]
    encoder_in: tuple[Holder, ...] = Field(description="the optimizers that hold the encoder")
    critic: Flow
    vae: Flow
    actor: Flow = "detached"
    encoders: Encoders = Field("shared", description="one encoder for all networks or one each")
    critic_terms: CriticTerms = Field("both", description="the terms that reach the encoder")
    vae_weights: VaeWeights = Field("advantage", description="of the VAE's gradient on the encoder")
    clear: Clear = Field("before", description="zero_grad before the backward or after the step")
    combine: Combine = Field("sum", description="how two gradients in [own] become one")
    encoder_until: float = Field(1.0, description="share of the updates that train the encoder")
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


OTHER_CODE = "of other code"
"""Stands for the data's path where other code trained on them."""


def of_other_code(name: str) -> str | dict[str, object]:
    """How a suite names a variant that other code trained: nothing is known of its routing."""
    if name in REGISTRY:
        return name
    return {"name": name, "encoder_in": [], "critic": "detached", "vae": "detached"}
