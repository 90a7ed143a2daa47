"""DrQ+BC's settings for tests."""

import copy

import torch
from helpers.agents import (
    SIZE,
    make_batches,
)

from benchbench.agent.protocol import AgentSpec
from benchbench.suite.model import AgentSettings

LR = 1e-3
DRQ = AgentSettings(
    algorithm="drq-bc", encoder="drqv2", feature_dim=6, hidden=(16, 16), encoder_lr=LR,
    critic_lr=LR, actor_lr=LR, tau=0.01, noise_updates=10,
)  # fmt: skip
DRQ_SPEC = AgentSpec(
    action_dim=2, channels=3, size=SIZE, proprio_dim=0, state_dim=0, min_value=0, max_value=1,
    action_mean=torch.tensor([0.1, -0.2]), action_std=torch.tensor([0.5, 0.3]),
)  # fmt: skip
DRQ_VARIANTS = [
    "before", "after", "vae-only", "joint-sum", "joint-two", "frozen", "leak", "leak-stale",
    "pcgrad",
]  # fmt: skip


def frames_only(count):
    none = torch.empty(8, 0)
    return [
        copy.copy(b).__class__(**(vars(b) | {"proprio_BP": none, "next_proprio_BP": none}))
        for b in make_batches(count)
    ]
