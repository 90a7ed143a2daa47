"""The shared agent's networks: pixel encoders, and LAPO's critic, action VAE and latent policy.

Shape suffixes here and in ``lapo.py``: B batch, C channels (stack x 3), H height, W width,
D observation vector, F features (encoder output and proprioception joined), A action, Z latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from benchbench.core.errors import UserError
from benchbench.suite.user_code import is_import_path, load

CACHED_PIXELS = 2**18
"""Pixels (height x width x rows) that an encoder takes in one pass on a CPU."""


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Linear layers with ReLU between them, PyTorch's default initialisation, as LAPO has them."""
    sizes = [inputs, *hidden]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


class Critic(nn.Module):
    """LAPO's critic: two Q networks and one V (``algos_vae.py``, class ``Critic``)."""

    def __init__(self, features: int, action_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.q1_net = mlp(features + action_dim, hidden, 1)
        self.q2_net = mlp(features + action_dim, hidden, 1)
        self.v_net = mlp(features, hidden, 1)

    def q(self, feature_BF: torch.Tensor, action_BA: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(Q1, Q2), each of shape (B,)."""
        both = torch.cat([feature_BF, action_BA], 1)
        return self.q1_net(both).squeeze(1), self.q2_net(both).squeeze(1)

    def q1(self, feature_BF: torch.Tensor, action_BA: torch.Tensor) -> torch.Tensor:
        """Q1 alone, shape (B,)."""
        return self.q1_net(torch.cat([feature_BF, action_BA], 1)).squeeze(1)

    def v(self, feature_BF: torch.Tensor) -> torch.Tensor:
        """V, shape (B,)."""
        return self.v_net(feature_BF).squeeze(1)


class ActorVAE(nn.Module):
    """LAPO's conditional VAE over actions (``algos_vae.py``, class ``ActorVAE``).

    The decoder's output is unbounded: actions are z-scored and the environment clips them.
    """

    def __init__(
        self, features: int, action_dim: int, latent_dim: int, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        self.encoder = mlp(features + action_dim, hidden[:-1], hidden[-1])
        self.mean = nn.Linear(hidden[-1], latent_dim)
        self.log_var = nn.Linear(hidden[-1], latent_dim)
        self.decoder = mlp(features + latent_dim, hidden, action_dim)

    def encode(
        self, feature_BF: torch.Tensor, action_BA: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of the latent, each (B, Z)."""
        hidden = F.relu(self.encoder(torch.cat([feature_BF, action_BA], 1)))
        return self.mean(hidden), self.log_var(hidden)

    def decode(self, feature_BF: torch.Tensor, latent_BZ: torch.Tensor) -> torch.Tensor:
        """The z-scored action (B, A) of a latent."""
        return self.decoder(torch.cat([feature_BF, latent_BZ], 1))


class LatentActor(nn.Module):
    """LAPO's deterministic policy over latents, bounded by ``tanh`` (class ``Actor``)."""

    def __init__(
        self, features: int, latent_dim: int, hidden: Sequence[int], max_latent_action: float
    ) -> None:
        super().__init__()
        self.net = mlp(features, hidden, latent_dim)
        self.max_latent_action = max_latent_action

    def forward(self, feature_BF: torch.Tensor) -> torch.Tensor:
        """The latent (B, Z), each element within ±max_latent_action."""
        return self.max_latent_action * torch.tanh(self.net(feature_BF))


class PixelEncoder(nn.Module):
    """A convolutional body and V-D4RL's trunk: linear, LayerNorm, tanh.

    Takes uint8 frames (B, C, H, W), scales them to [0, 1], subtracts ``mean_image`` (C, H, W), or
    1/2 as DrQ-v2 does where that is None, and gives (B, feature_dim) float32 in (-1, 1). With
    ``bf16`` its layers compute in bfloat16 by PyTorch's autocast; parameters stay in float32. A
    body with ``own_weights`` keeps them; any other starts from DrQ-v2's. Where ``feature_dim`` is
    None there is no trunk, and what it gives are the maps, flat; ``width`` says how many numbers.
    """

    mean_image: torch.Tensor
    """(1, C, H, W) float32."""
    in_place = True
    """Whether frames are scaled where they were converted; ``vmap`` cannot do that."""

    def __init__(
        self,
        body: nn.Module,
        channels: int,
        size: int,
        feature_dim: int | None,
        mean_image: torch.Tensor | None,
        bf16: bool = False,
        own_weights: bool = False,
    ) -> None:
        super().__init__()
        self.body, self.bf16 = body, bf16
        mean = torch.full((channels, size, size), 0.5) if mean_image is None else mean_image
        self.register_buffer("mean_image", mean[None])
        with torch.no_grad():
            maps = body(torch.zeros(1, channels, size, size))
        self.width = maps[0].numel() if feature_dim is None else feature_dim
        self.trunk = nn.Sequential()
        if feature_dim is not None:
            self.trunk = nn.Sequential(
                nn.Linear(maps[0].numel(), feature_dim), nn.LayerNorm(feature_dim), nn.Tanh()
            )
        (self.trunk if own_weights else self).apply(orthogonal)
        if feature_dim is not None:
            with torch.no_grad():
                # Drawn for maps in PyTorch's order, used in memory's, where channels are last.
                weight = cast(nn.Linear, self.trunk[0]).weight
                weight.copy_(_rows(weight.view(feature_dim, *maps.shape[1:])))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, obs_BCHW: torch.Tensor) -> torch.Tensor:
        """Features (B, feature_dim) of uint8 frames."""
        some = cached_rows(obs_BCHW)
        if len(obs_BCHW) <= some or torch.is_grad_enabled() or obs_BCHW.device.type != "cpu":
            return self._encode(obs_BCHW)
        # Without a graph to keep, a CPU's caches can hold what passes between the layers.
        return torch.cat([self._encode(part) for part in obs_BCHW.split(some)])

    def _encode(self, obs_BCHW: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = obs_BCHW.shape
        # Channels are last in memory; on flat rows the arithmetic is several times as fast.
        pixels = obs_BCHW.permute(0, 2, 3, 1).flatten(1).to(self.mean_image.dtype)
        mean = self.mean_image.permute(0, 2, 3, 1).flatten()
        most = pixels.new_full((), 255.0)
        if self.in_place:
            torch.addcdiv(-mean, pixels, most, out=pixels)
        else:
            pixels = torch.addcdiv(-mean, pixels, most)
        pixels_BCHW = pixels.view(batch, height, width, channels).permute(0, 3, 1, 2)
        with torch.autocast(obs_BCHW.device.type, torch.bfloat16, enabled=self.bf16):
            return self.trunk(_rows(self.body(pixels_BCHW))).to(self.mean_image.dtype)


def cached_rows(obs: torch.Tensor) -> int:
    """How many rows of these observations an encoder takes at once on a CPU, without gradients."""
    return max(1, CACHED_PIXELS // obs[0, 0].numel())


def _rows(maps_BCHW: torch.Tensor) -> torch.Tensor:
    """Feature maps as flat rows in the order of memory: without a copy if channels are last."""
    return maps_BCHW.movedim(1, -1).flatten(1)


def make_encoder(
    kind: str,
    channels: int,
    size: int,
    feature_dim: int | None,
    mean_image: torch.Tensor | None = None,
    bf16: bool = False,
) -> PixelEncoder:
    """A pixel encoder by name; the other arguments are :class:`PixelEncoder`'s.

    - ``small``: three 3x3 layers of stride 2 with 16, 32 and 32 channels, for CPU suites;
    - ``drqv2``: V-D4RL's four 3x3 layers of 32 channels, the first of stride 2 (``drqv2.py``);
    - ``resnet18``: He et al. 2016 up to the global average, with GroupNorm in the place of
      BatchNorm, whose running statistics do not go together with a target copy;
    - ``module:function`` of your own: a body that the function makes of (channels, size), from
      float32 (B, channels, size, size) to maps or vectors (B, ...), with weights of its own.

    Raises :class:`UserError` where the last cannot be made.
    """
    if is_import_path(kind):
        body = _own_body(kind, channels, size)
        return PixelEncoder(body, channels, size, feature_dim, mean_image, bf16, own_weights=True)
    return PixelEncoder(BODIES[kind](channels), channels, size, feature_dim, mean_image, bf16)


def _own_body(kind: str, channels: int, size: int) -> nn.Module:
    key = "agent.encoder"
    try:
        body = load(key, kind)(channels, size)
        with torch.no_grad():
            maps = body(torch.zeros(1, channels, size, size))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{key}: {kind} fails on {channels} channels and {size} pixels ({error}); it should "
            "give a torch module that takes (B, channels, size, size)"
        ) from None
    if not isinstance(maps, torch.Tensor) or maps.dim() not in (2, 4) or len(maps) != 1:
        raise UserError(f"{key}: {kind} should give maps (B, C, H, W) or vectors (B, F)")
    return body


def _conv_stack(channels: int, layers: Sequence[tuple[int, int]], padding: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for width, stride in layers:
        modules += [
            nn.Conv2d(channels, width, 3, stride=stride, padding=padding),
            nn.ReLU(inplace=True),
        ]
        channels = width
    return nn.Sequential(*modules)


class _ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(outputs // 16, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(outputs // 16, outputs)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.GroupNorm(outputs // 16, outputs),
            )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = F.relu(self.norm1(self.conv1(x_BCHW)))
        return F.relu(self.norm2(self.conv2(y_BCHW)) + self.skip(x_BCHW))


def _resnet18(channels: int) -> nn.Sequential:
    modules: list[nn.Module] = [
        nn.Conv2d(channels, 64, 7, 2, 3, bias=False),
        nn.GroupNorm(4, 64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    width = 64
    for stage, outputs in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            modules.append(_ResidualBlock(width, outputs, stride))
            width = outputs
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1))


BODIES: dict[str, Callable[[int], nn.Module]] = {
    "small": lambda channels: _conv_stack(channels, ((16, 2), (32, 2), (32, 2)), padding=1),
    "drqv2": lambda channels: _conv_stack(
        channels, ((32, 2), (32, 1), (32, 1), (32, 1)), padding=0
    ),
    "resnet18": _resnet18,
}
"""The encoders' bodies, made from the number of channels; their names are in ``suite/agent.py``."""


def orthogonal(module: nn.Module) -> None:
    """DrQ-v2's initialisation of a layer (``utils.weight_init``)."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        gain = math.sqrt(2.0) if isinstance(module, nn.Conv2d) else 1.0
        nn.init.orthogonal_(module.weight, gain)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def random_shift(obs_BCHW: torch.Tensor, pad: int, generator: torch.Generator) -> torch.Tensor:
    """DrQ's augmentation (Kostrikov et al. 2021): each image moved by up to ``pad`` pixels.

    Equal to padding by replication and cropping at a random place, one shift for all frames of a
    stack. Takes and gives uint8 (B, C, H, W), channels last in memory.
    """
    batch, channels, height, width = obs_BCHW.shape
    device = obs_BCHW.device
    shift_B2 = torch.randint(-pad, pad + 1, (batch, 2), generator=generator, device=device)
    obs_BHWC = obs_BCHW.permute(0, 2, 3, 1)
    left, right = (
        obs_BHWC[:, :, edge].expand(batch, height, pad, channels)
        for edge in (slice(0, 1), slice(-1, None))
    )
    padded_BHWC = torch.cat([left, obs_BHWC, right], 2).contiguous()
    # A row of the result is one run of a padded image's bytes: seen as all runs of that length,
    # one from each pixel on, the batch is three times as fast to pick from as pixel by pixel.
    wide = width + 2 * pad
    runs = padded_BHWC.as_strided(
        (batch * height * wide - width + 1, width * channels), (channels, 1)
    )
    row_BH = (torch.arange(height, device=device) + shift_B2[:, :1]).clamp_(0, height - 1)
    row_BH += height * torch.arange(batch, device=device)[:, None]
    first = row_BH * wide + pad + shift_B2[:, 1:]
    shifted = runs.index_select(0, first.flatten())
    return shifted.view(batch, height, width, channels).permute(0, 3, 1, 2)
