"""What a data set is: enough to make or find the same one again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from benchbench.suite import PixelSettings, WaypointData

RECIPE_VERSION = 1
"""Raised when the recipe would make other bytes from the same settings."""


@dataclass(frozen=True)
class DataIdentity:
    """Source, recipe and its version, seed, and how the frames were drawn."""

    env: str
    source: WaypointData
    size: int
    camera: str
    action_repeat: int
    version: int = RECIPE_VERSION

    @classmethod
    def of(
        cls, env: str, source: WaypointData, pixels: PixelSettings, action_repeat: int
    ) -> DataIdentity:
        """The identity of ``env``'s data; stacking happens later, so it is not in it."""
        return cls(env, source, pixels.size, pixels.camera, action_repeat)

    def settings(self) -> dict[str, Any]:
        """The identity as plain JSON values."""
        return {
            "env": self.env,
            "source": self.source.model_dump(mode="json"),
            "size": self.size,
            "camera": self.camera,
            "action_repeat": self.action_repeat,
            "version": self.version,
        }

    @property
    def key(self) -> str:
        """12 hexadecimal digits of a hash of :meth:`settings`; names the set's folder."""
        text = json.dumps(self.settings(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
