"""Behaviour cloning: LAPO's action VAE alone, decoded at its prior's mean latent.

The baseline below LAPO: the score of the data's own behaviour, with the same encoder, VAE, batches
and learning rates. The VAE's loss has no advantage weights, and the policy is the decoder at latent
0. The latent policy is not trained, and the critic is an observer: V's target is the target Q of
the clone's own action (with LAPO's noise on its latent), so Q is the clone's own Q, for the
diagnostics alone.

That holds where the critic is detached: ``vae-only``, and ``frozen`` (on states the only one). A
suite with another variant is refused. Each sample has weight 1 where LAPO's are ``expectile`` or
1 - ``expectile``, so the loss is larger, at the default 0.9 by 1.1 to 10 times. Adam divides a
gradient's scale out, so the learning rates need no change; a comparison of losses would.
"""

from __future__ import annotations

import torch

from benchbench.agent.lapo import LAPO, Fixed
from benchbench.agent.networks import LatentActor
from benchbench.agent.protocol import Features
from benchbench.data.batch import Batch


class _MeanLatent(LatentActor):
    """The latent policy's place, held by the mean of the VAE's prior."""

    def forward(self, feature_BF: torch.Tensor) -> torch.Tensor:
        """Latent 0 (B, Z); its gradient on the net is 0 as well, so that no step moves it."""
        return 0.0 * super().forward(feature_BF)


class Cloning(LAPO):
    """Behaviour cloning; see the module's docstring."""

    actor_class = _MeanLatent

    def sample_weights(self, features: Features, batch: Batch, fixed: Fixed) -> torch.Tensor:
        """1 for each sample."""
        return torch.ones_like(batch.reward_B)
