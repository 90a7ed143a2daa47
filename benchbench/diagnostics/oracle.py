"""The most that an encoder's features can hold of the simulator's state.

The reference for the state probe: the same architecture, trained on nothing but the state, through
the same kind of bottleneck and read by the same ridge probe. A routing's encoder is placed between
an untrained one and this one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from benchbench.agent.networks import PixelEncoder

BATCH_SIZE = 64
LEARNING_RATE = 1e-3


def train_on_state(
    encoder: PixelEncoder,
    feature_dim: int,
    state_dim: int,
    draw: Callable[[], tuple[torch.Tensor, torch.Tensor]],
    updates: int,
) -> None:
    """Train the encoder, in place, to tell the z-scored state through one linear layer.

    ``draw`` gives a batch: frames uint8 (B, C, H, W) and states float32 (B, D). Mean squared error
    and Adam, for ``updates`` steps. Draws from torch's global stream: seed it around the call.
    """
    head = nn.Linear(feature_dim, state_dim).to(next(encoder.parameters()).device)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=LEARNING_RATE)
    for _ in range(updates):
        obs_BCHW, state_BD = draw()
        optimizer.zero_grad()
        F.mse_loss(head(encoder(obs_BCHW)), state_BD).backward()
        optimizer.step()
