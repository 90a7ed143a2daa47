"""Distractions, laid over clean frames: the same code for stored frames and for an evaluation's.

What a frame is distracted by is a function of its episode and of its time in it, never of when or
how often it is requested. So a frame is the same in every stack, as an observation and as the next
one, in every variant, and in a cell that was killed and resumed. An episode is known by a number
(:meth:`Layer.ids`) that is hashed from a stream and the episode's index; every draw hashes that
number on, as counter-based generators do.

Everything is integer arithmetic on a batch at a time, in 1/128 of full light, except for where
objects and cameras are. Large random fields (tint and noise) are windows of one strip of random
numbers, at hashed places: a copy instead of as many draws.

Shapes: B frames, H = W = size, 3 channels; F textures, K objects.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchbench.envs.textures import made_textures, own_pictures
from benchbench.suite.grid import Cell
from benchbench.suite.pixels import DistractSettings, Key, key_of

FULL = 128
"""A weight of 1. A channel times a weight fits 16 bits."""

SPEED = (1 / 64, 1 / 20)
"""Least and most sides of the picture that a texture or an object moves by in a step."""

SHIFT, ZOOM, ROLL = 0.25, 0.2, 0.5
"""A camera of strength 1: shares of the side, of the size, and radians, either way."""

PERIODS = (40, 160)
"""Least and most steps of a drifting camera's swings."""

_STRIP = 2**18

_EPISODE, _TINT, _TEXTURE, _OBJECT, _CAMERA, _NOISE = range(6)


def stream_of(*parts: object) -> int:
    """A stream's number in [0, 2⁶³), from what it is of."""
    text = "\n".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def hashed(values: Tensor, salt: int | Tensor) -> Tensor:
    """int64 -> int64, each bit of which depends on all of both (splitmix64's finaliser)."""
    step = (salt + 1) * -7046029254386353131
    if isinstance(step, int):
        step = (step + 2**63) % 2**64 - 2**63  # as an int64 wraps
    mixed = values + step
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        mixed = (mixed ^ ((mixed >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return mixed ^ ((mixed >> 31) & ((1 << 33) - 1))


def _uniform(numbers: Tensor, purpose: int, count: int) -> Tensor:
    """(B,) -> (B, count) float64 in [0, 1)."""
    counter = torch.arange(count, device=numbers.device)
    draws = hashed(hashed(numbers, purpose)[:, None].expand(-1, count), counter)
    return ((draws >> 11) & ((1 << 52) - 1)).double() / 2**52


@dataclass(frozen=True, eq=False)
class Layer:
    """Distractions, and the stream that its episodes are drawn from."""

    distraction: Distraction
    stream: int

    def ids(self, episodes: Tensor) -> Tensor:
        """The numbers (int64) by which episodes of these indices are known."""
        return hashed(hashed(episodes.long(), _EPISODE), self.stream)

    def twin(self) -> Layer:
        """The same distractions, drawn from another stream."""
        return Layer(self.distraction, stream_of("twin", self.stream))

    def lay(self, frames: np.ndarray, episodes: Sequence[int], times: Sequence[int]) -> np.ndarray:
        """Frames uint8 (B, H, W, 3), each of an episode's index at a time in it; new ones."""
        ids = _ids(self, tuple(episodes))
        laid = self.distraction.lay(torch.from_numpy(frames), ids, torch.tensor(times))
        return laid.numpy()


@lru_cache(maxsize=64)
def _ids(layer: Layer, episodes: tuple[int, ...]) -> Tensor:
    """The episodes' numbers: an evaluation asks for the same ones at every step."""
    return layer.ids(torch.tensor(episodes))


class Distraction:
    """What one suite's settings lay over frames of ``size`` pixels.

    Raises ``UserError`` where the folder of one's own pictures is not what it was.
    """

    def __init__(
        self,
        settings: DistractSettings,
        size: int,
        key: Key | None,
        device: torch.device | str = "cpu",
        pictures: str = "",
    ) -> None:
        self.size, self._key, self._device = size, key, torch.device(device)
        parts = settings.identity()
        self.tint = settings.tint if "tint" in parts else None
        self.background = settings.background if "background" in parts else None
        self.objects = settings.objects if "objects" in parts else None
        self.camera = settings.camera if "camera" in parts else None
        self.noise = settings.noise if "noise" in parts else None
        self._rng_seed = stream_of("distract", settings.seed) % 2**32
        self._pictures = pictures
        if self.background:
            assert key is not None  # suites are checked for it
            self._bank, self._clips = self._textures()

    # ------------------------------------------------------------------ laying over

    def lay(self, frames_BHWC: Tensor, ids_B: Tensor, times_B: Tensor) -> Tensor:
        """Frames uint8 (B, H, W, 3) of episodes at times, distracted; the argument stays as it is.

        Behind the scene comes the background, before it objects; the camera sees all of that, then
        come light and noise.
        """
        scene = frames_BHWC.to(torch.int16)
        now_B = hashed(ids_B, times_B)
        if self.background:
            self._behind(scene, ids_B, times_B)
        if self.objects:
            self._in_front(scene, ids_B, times_B)
        if self.camera:
            scene = self._seen(scene, ids_B, times_B)
        if self.tint:
            grid = self._tint_grid(ids_B if self.tint.every == "episode" else now_B)
            tint = grid.index_select(2, self._tint_place).index_select(1, self._tint_place)
            scene.mul_(tint).bitwise_right_shift_(7)
        if self.noise:
            scene.add_(_windows(self._noise_strip, now_B, _NOISE, scene.shape[1:]))
            scene.clamp_(0, 255)
        return scene.to(torch.uint8)

    def _behind(self, scene: Tensor, ids_B: Tensor, times_B: Tensor) -> None:
        """Blend the texture into what is not the scene, in place."""
        assert self.background
        texture = self._texture_of(ids_B, times_B).sub_(scene)
        strength = round(self.background.strength * FULL)
        open_BHW = scene_cover(scene, self._key).sub_(FULL).neg_().mul_(strength)
        weight = open_BHW.bitwise_right_shift_(7).unsqueeze(-1)
        scene.add_(texture.mul_(weight).bitwise_right_shift_(7))

    def _in_front(self, scene: Tensor, ids_B: Tensor, times_B: Tensor) -> None:
        """Stamp the objects onto the scene, in place."""
        assert self.objects
        radius, size = self.objects.radius * self.size, self.size
        wide = min(size, math.ceil(2 * radius) + 2)
        centres = self._centres(ids_B, times_B) * size
        colours = (_uniform(ids_B, _OBJECT + 64, 3 * self.objects.count) * 256).to(torch.int16)
        offsets = torch.arange(wide, device=scene.device)
        frame = torch.arange(len(scene), device=scene.device)[:, None, None]
        for k in range(self.objects.count):
            centre = centres[:, k]
            start = (centre - wide / 2 + 0.5).floor().long().clamp_(0, size - wide)
            rows, columns = (start[:, axis, None] + offsets for axis in (0, 1))
            dy, dx = ((at + 0.5 - centre[:, axis, None]).abs()
                      for axis, at in enumerate((rows, columns)))  # fmt: skip
            if self.objects.shape == "disc":
                cover = radius + 0.5 - (dy[:, :, None].square() + dx[:, None].square()).sqrt()
            else:
                cover = radius + 0.5 - torch.maximum(dy[:, :, None], dx[:, None])
            weight = (cover.clamp_(0, 1) * (self.objects.strength * FULL)).to(torch.int16)
            place = frame, rows[:, :, None], columns[:, None]
            under = scene[place]
            colour = colours[:, None, None, 3 * k : 3 * k + 3]
            scene[place] = under + ((colour - under) * weight.unsqueeze(-1) >> 7)

    def _seen(self, scene: Tensor, ids_B: Tensor, times_B: Tensor) -> Tensor:
        """The scene as the camera sees it; beyond its border the border's pixels are repeated."""
        right, down, zoom, roll = self._pose(ids_B, times_B).float().unbind(1)
        cos, sin = torch.cos(roll) * zoom, torch.sin(roll) * zoom
        theta = torch.stack([cos, -sin, right, sin, cos, down], 1).view(-1, 2, 3)
        planes = scene.permute(0, 3, 1, 2).float()
        grid = F.affine_grid(theta, list(planes.shape), align_corners=False)
        seen = F.grid_sample(planes, grid, padding_mode="border", align_corners=False)
        return seen.add_(0.5).to(torch.int16).permute(0, 2, 3, 1).contiguous()

    # ------------------------------------------------------------------ where everything stands

    def state(self, ids_B: Tensor, times_B: Tensor) -> np.ndarray:
        """Targets of the probe for the distractions, (B, D) float64.

        Of the tint the mean colour of each quarter of the picture, of the background where it
        stands (as sines and cosines, as it repeats) or which frame of its clip is shown, and its
        mean colour; of objects their centres; of the camera its pose. Noise has no state.
        """
        parts = []
        if self.tint:
            grid = self._tint_grid(
                ids_B if self.tint.every == "episode" else hashed(ids_B, times_B)
            ).double()
            half = max(1, self.tint.grid // 2)
            parts += [
                grid[:, rows, columns].mean((1, 2))
                for rows in (slice(half), slice(-half, None))
                for columns in (slice(half), slice(-half, None))
            ]
        if self.background:
            clip, frame, offset = self._texture_place(ids_B, times_B)
            turn = offset.double() * (math.pi / self.size)  # it repeats after twice the size
            parts += [turn.sin(), turn.cos(), frame[:, None].double()]
            parts.append(self._bank.double().mean((1, 2))[clip.long()])
        if self.objects:
            parts.append(self._centres(ids_B, times_B).flatten(1))
        if self.camera:
            parts.append(self._pose(ids_B, times_B))
        if not parts:
            return np.empty((len(ids_B), 0))
        return torch.cat(parts, 1).cpu().numpy()

    def _tint_grid(self, numbers_B: Tensor) -> Tensor:
        """The tint's colours (B, G, G, 3), int16 weights."""
        assert self.tint
        return _windows(self._tint_strip, numbers_B, _TINT, (self.tint.grid, self.tint.grid, 3))

    def _centres(self, ids_B: Tensor, times_B: Tensor) -> Tensor:
        """The objects' centres (B, K, 2), down and right, in sides of the picture."""
        assert self.objects
        draws = _uniform(ids_B, _OBJECT, 4 * self.objects.count).view(-1, self.objects.count, 4)
        way = draws[:, :, :2] * 2 + _velocity(draws[:, :, 2:]) * times_B[:, None, None]
        return 1 - (way.remainder(2) - 1).abs()

    def _pose(self, ids_B: Tensor, times_B: Tensor) -> Tensor:
        """Shift right and down (of half a side), zoom and roll of the camera, (B, 4)."""
        assert self.camera
        if self.camera.motion == "jitter":
            swing = _uniform(hashed(ids_B, times_B), _CAMERA, 4) * 2 - 1
        else:
            draws = _uniform(ids_B, _CAMERA, 8)
            periods = PERIODS[0] + draws[:, 4:] * (PERIODS[1] - PERIODS[0])
            swing = torch.sin(2 * math.pi * (draws[:, :4] + times_B[:, None] / periods))
        swing = swing * self.camera.strength
        reach = torch.tensor([2 * SHIFT, 2 * SHIFT, ZOOM, ROLL], device=swing.device).double()
        rest = torch.tensor([0.0, 0.0, 1.0, 0.0], device=swing.device).double()
        return rest + swing * reach

    def _texture_place(self, ids_B: Tensor, times_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which frame of the bank is shown, its number in its clip, and its shift (B, 2)."""
        assert self.background
        draws = _uniform(ids_B, _TEXTURE, 5)
        clip = (draws[:, 0] * len(self._clips)).long()
        first, length = self._clips[clip].unbind(1)
        moves = self.background.motion == "moving"
        # A video starts anywhere and is shown forth and back.
        turn = 2 * length - 2
        at = (draws[:, 1] * length).long() + (times_B if moves else 0)
        at = torch.where(length > 1, at % turn.clamp(min=1), 0)
        frame = torch.where(at < length, at, turn - at)
        offset = torch.zeros(len(ids_B), 2, dtype=torch.long, device=ids_B.device)
        if self.background.pictures is None:
            way = draws[:, 1:3] * 2
            if moves:
                way = way + _velocity(draws[:, 3:]) * times_B[:, None]
            offset = (way * self.size).long() % (2 * self.size)
        return first + frame, frame, offset

    def _texture_of(self, ids_B: Tensor, times_B: Tensor) -> Tensor:
        """The background (B, H, W, 3), int16; new."""
        shown, _, offset = self._texture_place(ids_B, times_B)
        count, height, width, _ = self._bank.shape
        size, row = self.size, 3 * width
        windows = self._bank.as_strided(
            (count, height - size + 1, width - size + 1, size, 3 * size),
            (height * row, row, 3, row, 1),
        )
        down, right = offset.unbind(1)
        return windows[shown, down, right].view(-1, size, size, 3)

    # ------------------------------------------------------------------ what is drawn once

    @cached_property
    def _tint_strip(self) -> Tensor:
        assert self.tint
        rng = np.random.default_rng([self._rng_seed, _TINT])
        weights = FULL * (1 - self.tint.strength * rng.random(_STRIP))
        return torch.from_numpy(weights.round().astype(np.int16)).to(self._device)

    @cached_property
    def _tint_place(self) -> Tensor:
        assert self.tint
        return torch.arange(self.size, device=self._device) * self.tint.grid // self.size

    @cached_property
    def _noise_strip(self) -> Tensor:
        assert self.noise
        rng = np.random.default_rng([self._rng_seed, _NOISE])
        length = _STRIP + 3 * self.size**2
        grey = 255 * self.noise.strength * rng.standard_normal(length)
        return torch.from_numpy(grey.round().astype(np.int16)).to(self._device)

    def _textures(self) -> tuple[Tensor, Tensor]:
        """The bank (F, h, w, 3) int16, and of each clip its first frame and length (clips, 2)."""
        assert self.background
        if self.background.pictures is not None:
            frames, clips = own_pictures(self.background.pictures, self._pictures, self.size)
        else:
            frames = made_textures(self._rng_seed, self.background.textures, self.size)
            clips = [(number, 1) for number in range(len(frames))]
        bank = torch.from_numpy(frames.astype(np.int16)).to(self._device)
        return bank, torch.tensor(clips, device=self._device)


def scene_cover(scene: Tensor, key: Key | None) -> Tensor:
    """How much of each pixel is scene and not background, (B, H, W) int16 in 128ths; by colour.

    See :func:`benchbench.suite.pixels.key_of`. Between the two bounds the cover grows linearly,
    so that a smooth edge stays smooth.
    """
    red, green, blue = scene.unbind(-1)
    if key == "light":
        distance, low, high = 255 - torch.minimum(torch.minimum(red, green), blue), 0, 191
    elif key == "colour":
        most = torch.maximum(torch.maximum(red, green), blue)
        distance, low, high = most - torch.minimum(torch.minimum(red, green), blue), 24, 56
    else:
        distance, low, high = red - blue, 0, 24
    gain = -(-FULL * 8 // (high - low))  # in eighths, so that it fits
    return (
        distance.sub_(low).clamp_(0, high - low).mul_(gain).bitwise_right_shift_(3).clamp_(max=FULL)
    )


def _windows(strip: Tensor, numbers_B: Tensor, purpose: int, shape: Sequence[int]) -> Tensor:
    """(B, *shape): windows of the strip, each at a place hashed from its number; new."""
    length = math.prod(shape)
    places = strip.unfold(0, length, 1)
    start = (hashed(numbers_B, purpose) >> 1 & (2**62 - 1)) % len(places)
    return places.index_select(0, start).view(-1, *shape)


def _velocity(draws: Tensor) -> Tensor:
    """[0, 1) -> sides a step, of either sign and never slow."""
    signed = draws * 2 - 1
    slow, fast = SPEED
    return torch.where(signed < 0, -1, 1) * (slow + signed.abs() * (fast - slow))


def data_layer(
    cell: Cell, device: torch.device | str = "cpu", *, unseen: bool = False
) -> Layer | None:
    """What lies over the cell's stored frames; None where nothing does."""
    return _layer(cell, unseen, device, "data", cell.data.key)


def episode_layer(cell: Cell, *, unseen: bool = False) -> Layer | None:
    """What lies over the frames of the cell's evaluation episodes; None where nothing does."""
    return _layer(cell, unseen, "cpu", "episodes", cell.env, cell.seed)


def _layer(cell: Cell, unseen: bool, device: torch.device | str, *of: object) -> Layer | None:
    settings = cell.unseen if unseen else cell.pixels.distract
    if settings is None or not settings.identity() or cell.observation != "pixels":
        return None
    sha256 = dict(cell.pictures).get(settings.folder or "", "")
    distraction = Distraction(settings, cell.pixels.size, key_of(cell.env), device, sha256)
    return Layer(distraction, stream_of("distraction", settings.seed, *of))
