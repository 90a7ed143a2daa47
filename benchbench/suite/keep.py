"""What a suite keeps beside its tables, and how it names what was trained elsewhere."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from benchbench.core.settings import Settings
from benchbench.routing import REGISTRY


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


OTHER_CODE = "of other code"
"""Stands for the data's path where other code trained on them."""


def of_other_code(name: str) -> str | dict[str, object]:
    """How a suite names a variant that other code trained: nothing is known of its routing."""
    if name in REGISTRY:
        return name
    return {"name": name, "encoder_in": [], "critic": "detached", "vae": "detached"}
