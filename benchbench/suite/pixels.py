"""What a suite says of its pictures: their size, their stacking, and what distracts in them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, Strict

from benchbench.core.settings import LARGEST, Count, Settings
from benchbench.suite.distract import DistractSettings


class PixelSettings(Settings):
    """How a frame is drawn and stacked."""

    size: Annotated[int, Strict(), Field(ge=16, le=LARGEST)] = Field(
        84, description="height and width, pixels"
    )
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
