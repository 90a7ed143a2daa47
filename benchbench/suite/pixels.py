"""What a suite says of its pictures: their size, their stacking, and what distracts in them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, model_validator

from benchbench.core.files import remembered_sha256
from benchbench.core.settings import Count, Fraction, Index, Settings
from benchbench.suite.environments import family_of

Key = Literal["light", "colour", "warm"]
"""How the scene is separated from its background: see :func:`key_of`."""

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""Endings of the pictures that a folder of one's own may hold."""


class Tint(Settings):
    """A coarse grid of random colours that the picture is multiplied with."""

    strength: Fraction = Field(description="a channel keeps at least 1 - strength of its light")
    grid: Count = Field(8, description="colours along each side")
    every: Literal["frame", "episode"] = Field("frame", description="when it is drawn anew")


class Background(Settings):
    """Another picture where the scene's floor, sky or walls far behind are."""

    strength: Fraction = Field(description="how much of the own background it covers")
    motion: Literal["still", "moving"] = "moving"
    textures: Count = Field(60, description="how many there are; an episode has one of them")
    pictures: str | None = Field(
        None,
        min_length=1,
        description="a folder of your own pictures in place of made textures; a folder inside it "
        "is a video, whose pictures are shown in the order of their names, forth and back",
    )


class Objects(Settings):
    """Discs or boxes in front of the scene, which move along straight lines and bounce."""

    strength: Fraction = Field(description="how opaque they are")
    count: Count = 3
    radius: Annotated[float, Field(gt=0, le=0.4)] = Field(0.1, description="of the picture's side")
    shape: Literal["disc", "box"] = "disc"


class Camera(Settings):
    """A camera that shifts, zooms and rolls: at 1 by a quarter of the side, 20 % and 0.5 rad."""

    strength: Fraction
    motion: Literal["drift", "jitter"] = Field(
        "drift", description="slow and smooth, or anew each frame"
    )


class Noise(Settings):
    """Gaussian noise on every channel of every pixel."""

    strength: Fraction = Field(description="its standard deviation, in shares of full light")


PARTS = ("tint", "background", "objects", "camera", "noise")

_PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    name: {
        "tint": {"strength": tint},
        "background": {"strength": background, "textures": textures},
        "objects": {"strength": 0.6, "count": count},
        "camera": {"strength": camera},
    }
    for name, tint, background, textures, count, camera in (
        ("easy", 0.2, 0.4, 4, 1, 0.1),
        ("medium", 0.4, 0.7, 8, 2, 0.2),
        ("hard", 0.6, 1.0, 60, 3, 0.3),
    )
}
PRESETS = tuple(_PRESETS)


class DistractSettings(Settings):
    """What distracts from the scene, in training and in evaluation alike."""

    preset: Literal["easy", "medium", "hard"] | None = Field(
        None, description="of tint, background, objects and camera; parts stated beside it win"
    )
    tint: Tint | None = None
    background: Background | None = None
    objects: Objects | None = None
    camera: Camera | None = None
    noise: Noise | None = None
    seed: Index = Field(0, description="of the textures and of every draw")

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        """Write out what a preset stands for; a part stated beside it takes its place.

        Its name alone is the preset: ``pixels.distract: easy``.
        """
        if isinstance(values, str):
            values = {"preset": values}
        if not isinstance(values, dict) or not isinstance(values.get("preset"), str):
            return values
        return _PRESETS.get(values["preset"], {}) | values

    def identity(self) -> dict[str, Any]:
        """What decides the pictures, as plain JSON values: the parts that are there, and the seed.

        Empty where nothing distracts.
        """
        parts = {name: getattr(self, name) for name in PARTS}
        values = {name: part.model_dump(mode="json") for name, part in parts.items() if part}
        values = {name: part for name, part in values.items() if part["strength"] > 0}
        return values | {"seed": self.seed} if values else {}

    def under(self, other: Self) -> Self:
        """These settings with what ``other`` states in their place; a preset replaces all parts."""
        if other.preset:
            seed = other.seed if "seed" in other.model_fields_set else self.seed
            return other.model_copy(update={"seed": seed})
        return self.model_copy(
            update={name: getattr(other, name) for name in other.model_fields_set}
        )

    @property
    def folder(self) -> str | None:
        """The folder of one's own pictures, where there is one."""
        return self.background.pictures if self.background and self.background.strength else None


def key_of(env_id: str) -> Key | None:
    """How the scene of an environment's clean frames is separated from its background.

    The stores hold no masks, so it is done by colour: the mazes' floor is white (``light``: what is
    darker is the scene, walls included), the sky and the floor of PyBullet's and MuJoCo's bodies
    are grey and their limbs are not (``colour``; the black hips of PyBullet's ant go with the
    floor), and dm_control's robots are warm before a blue world (``warm``). None where colours do
    not separate them: pictures of one's own, and V-D4RL's distracting sets, which have backgrounds
    already.
    """
    name = family_of(env_id).name
    if name in ("maze2d", "maze"):
        return "light"
    if name in ("bullet", "mujoco", "minari"):
        return "colour"
    return "warm" if name == "dmc" and ":distracting/" not in env_id else None


def refusal(env_id: str, distract: DistractSettings) -> str | None:
    """Why these distractions cannot be laid over an environment's frames; None where they can."""
    if distract.background and distract.background.strength and key_of(env_id) is None:
        why = (
            "has a background of its own that moves"
            if family_of(env_id).scored
            else "has pictures of your own"
        )
        return (
            f"distract.background: {env_id} {why}, in which scene and background cannot be told "
            "apart; write background: 0, or leave it out (tint, objects, camera and noise fit any "
            "picture)"
        )
    return None


def picture_files(folder: Path) -> list[list[Path]]:
    """The clips in a folder: a picture each, and each folder inside it one; in the names' order."""

    def images(inside: Path) -> list[Path]:
        return sorted(p for p in inside.iterdir() if p.suffix.lower() in IMAGES and p.is_file())

    if not folder.is_dir():
        return []
    videos = [images(inside) for inside in sorted(folder.iterdir()) if inside.is_dir()]
    return [[path] for path in images(folder)] + [frames for frames in videos if frames]


@cache
def pictures_sha256(folder: str) -> str:
    """A hash of the names and bytes of a folder's pictures; 'absent' where there are none."""
    root = Path(folder).expanduser()
    files = [path for clip in picture_files(root) for path in clip]
    if not files:
        return "absent"
    lines = (f"{path.relative_to(root)} {remembered_sha256(path)}" for path in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


SMALLEST, LARGEST = 16, 1024
"""Pixels along a side of a picture."""


class PixelSettings(Settings):
    """How a frame is drawn and stacked."""

    size: Annotated[int, Strict(), Field(ge=SMALLEST, le=LARGEST)] = Field(
        84, description="height and width, pixels"
    )
    stack: Annotated[int, Strict(), Field(ge=1, le=64)] = Field(
        3, description="frames in one observation"
    )
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
        values = self.model_dump(mode="json", exclude={"distract"})
        distract = self.distract.identity() if self.distract else {}
        return values | ({"distract": distract} if distract else {})
