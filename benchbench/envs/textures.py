"""Background pictures: generated here, or read from the user's folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from benchbench.core.errors import UserError
from benchbench.suite.pixels import picture_files, pictures_sha256

_WAVES = 6

STREAM = 2
"""The textures' among the streams of a seed."""


@cache
def made_textures(seed: int, count: int, size: int) -> np.ndarray:
    """The textures that a process makes once, uint8 (count, 3·size, 3·size, 3)."""
    rng = np.random.default_rng([seed, STREAM])
    return np.stack([_made(rng, size) for _ in range(count)])


def _made(rng: np.random.Generator, size: int) -> np.ndarray:
    """A texture of a few waves in random colours, uint8 (3·size, 3·size, 3).

    It repeats after twice the size, so that a window can move over it without end.
    """
    at = np.arange(2 * size) * (np.pi / size)
    waves = rng.integers(-4, 5, (_WAVES, 2))
    phases, colours = rng.uniform(0, 2 * np.pi, _WAVES), rng.uniform(-1, 1, (_WAVES, 3))
    swing = sum(
        np.sin(down * at[:, None] + right * at + phase)[:, :, None] * colour
        for (down, right), phase, colour in zip(waves, phases, colours, strict=True)
    )
    low, high = swing.min((0, 1)), swing.max((0, 1))
    texture = 255 * (swing - low) / np.maximum(high - low, 1e-9)
    return np.pad(texture, ((0, size), (0, size), (0, 0)), mode="wrap").round().astype(np.uint8)


def own_pictures(folder: str, sha256: str, size: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The pictures of a folder, uint8 (F, size, size, 3), and of each clip its first and length.

    The middle square of each picture, made as large as the frames.
    """
    from PIL import Image, ImageOps

    now = pictures_sha256(folder)
    if now == "absent":
        raise UserError(
            f"distract.background.pictures: {folder}: holds no PNG, JPEG, BMP or WebP pictures "
            "here; name a folder that does, relative to where benchbench is started"
        )
    if sha256 and now != sha256:
        raise UserError(
            f"distract.background.pictures: {folder}: the pictures have changed since the run "
            "began; run the same command again for cells with them as they are now"
        )
    frames, clips = list[np.ndarray](), list[tuple[int, int]]()
    for clip in picture_files(Path(folder).expanduser()):
        clips.append((len(frames), len(clip)))
        for path in clip:
            try:
                with Image.open(path) as picture:
                    square = ImageOps.fit(picture.convert("RGB"), (size, size))
            except OSError as error:
                raise UserError(f"{path}: cannot be read as a picture ({error})") from None
            frames.append(np.asarray(square))
    return np.stack(frames), clips
