"""What a suite says of its agent, and which variants make sense for which.

The agents' own code is in ``benchbench.agent``; here is what a suite is checked against without it.
Defaults are those of LAPO's authors (Chen et al. 2022, https://github.com/pcchenxi/LAPO-offlienRL,
``main_d4rl.py``), and for ``drq-bc`` of V-D4RL's (``drqbc/cfgs`` of
https://github.com/conglu1997/v-d4rl).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from benchbench.core.settings import Count, Fraction, Number, Rate, Settings, Width, suggest
from benchbench.routing import Routing
from benchbench.suite.user_code import IMPORT_PATH, is_import_path

ALGORITHMS = ("lapo", "cloning", "drq-bc")
ENCODERS = ("small", "drqv2", "resnet18")


def _schema(choices: tuple[str, ...]) -> dict[str, Any]:
    """For editors: one of the choices, or an import path."""
    return {"anyOf": [{"enum": list(choices)}, {"pattern": IMPORT_PATH}]}


class AgentSettings(Settings):
    """The agent, and LAPO's hyperparameters; the defaults are its authors'."""

    LATER = frozenset(
        {"algorithm", "bc_weight", "noise_start", "noise_end", "noise_updates", "noise_clip"}
    )
    algorithm: str = Field(
        "lapo",
        description="lapo, cloning (its VAE alone), drq-bc (V-D4RL's baseline), or module:class of "
        "an agent of your own",
        json_schema_extra=_schema(ALGORITHMS),
    )
    encoder: str = Field(
        "small",
        description="small, drqv2, resnet18, or module:function of one of your own, which makes a "
        "torch module of (channels, size)",
        json_schema_extra=_schema(ENCODERS),
    )
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32",
        description="bf16: the encoder's layers by PyTorch's autocast, on CPUs and GPUs; tf32: all "
        "matrix products on NVIDIA GPUs, whose convolutions are in TF32 anyway, as is PyTorch's "
        "default",
    )
    feature_dim: Width = Field(50, description="size of the encoder's output")
    hidden: tuple[Width, ...] = Field((256, 256, 256), min_length=1)
    encoder_lr: Rate = Field(2e-4, description="the same whichever optimizer holds the encoder")
    critic_lr: Rate = 2e-4
    vae_lr: Rate = 2e-4
    actor_lr: Rate = 2e-4
    discount: Annotated[Number, Field(gt=0, lt=1)] = 0.99
    tau: Annotated[Number, Field(gt=0, le=1)] = Field(0.005, description="target update rate")
    expectile: Annotated[Number, Field(gt=0, lt=1)] = 0.9
    kl_beta: Annotated[Number, Field(ge=0)] = Field(1.0, description="0.3 on mazes, 1 elsewhere")
    max_latent_action: Rate = 2.0
    doubleq_min: Fraction = Field(1.0, description="weight of the smaller Q; 0.7 on antmaze")
    bc_weight: Rate = Field(2.5, description="drq-bc: weight of Q beside the cloning error")
    noise_start: Rate = Field(1.0, description="drq-bc: spread of the policy's noise, at first")
    noise_end: Rate = Field(0.1, description="drq-bc: the same in the end")
    noise_updates: Count = Field(125_000, description="drq-bc: updates from the one to the other")
    noise_clip: Rate = Field(0.3, description="drq-bc: largest noise")

    @field_validator("algorithm", mode="after")
    @classmethod
    def _known_algorithm(cls, value: str) -> str:
        return _known("algorithm", value, ALGORITHMS)

    @field_validator("encoder", mode="after")
    @classmethod
    def _known_encoder(cls, value: str) -> str:
        return _known("encoder", value, ENCODERS)


def refusal(algorithm: str, routing: Routing) -> str | None:
    """Why a variant makes no sense for one of benchbench's agents; None where it does."""
    reasons = {
        "cloning": (
            (
                routing.critic != "detached" or routing.actor != "detached",
                "clones the data, and its critic only observes: only the VAE may train the "
                "encoder; use vae-only or frozen",
            ),
            (routing.vae_weights == "none", "has no advantage weights to take; use vae-only"),
        ),
        "drq-bc": (
            (
                routing.actor != "detached",
                "has one policy loss, which takes the place of the VAE's, so there is no third "
                "loss to train an encoder; write actor: detached"
                + (", and encoder_in: [critic, vae]" if routing.encoders == "separate" else ""),
            ),
            (routing.critic_terms != "both", "has no V beside Q to cut off; use after"),
            (routing.vae_weights == "none", "has no advantage weights to take; use vae-only"),
        ),
    }
    found = (reason for nonsense, reason in reasons.get(algorithm, ()) if nonsense)
    return next((f"{algorithm} {reason}" for reason in found), None)


def _known(kind: str, name: str, choices: tuple[str, ...]) -> str:
    if name not in choices and not is_import_path(name):
        cure = suggest(name, choices)
        also = "" if "did you mean" in cure else ", or write module:name for one of your own"
        raise ValueError(f"unknown {kind} '{name}'{cure}{also}")
    return name
