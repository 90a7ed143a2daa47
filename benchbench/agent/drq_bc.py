"""DrQ+BC, V-D4RL's baseline: DrQ-v2 with a cloning term in the policy's loss.

The formulas follow ``drqbc/drqv2.py`` of https://github.com/conglu1997/v-d4rl (Lu et al. 2023;
DrQ-v2: Yarats et al. 2021; the cloning term: TD3+BC, Fujimoto and Gu 2021, equation 5). As there,
the encoder is the convolutions alone, critic and policy each have a trunk of their own, there is no
target encoder, and the critic's loss trains the encoder: that is ``after``, and under it an update
is V-D4RL's, number for number.

Its loop has two losses. The policy's, which imitates the data as LAPO's VAE does, stands in the
``vae`` place, and the ``actor`` place is empty. So ``vae-only`` lets the policy train the encoder
(through the policy's own features, never through the critic's), ``frozen`` no loss, and so on;
variants of a third loss, of V or of advantage weights are refused when the suite is read. What
results name after the VAE is the policy's here: ``vae_loss`` its loss, ``recon_loss`` its squared
error against the data's action, ``actor_loss`` its -Q.

The batch's z-scored actions are turned back into the environment's, which a ``tanh`` policy gives
within ±1. Two things differ from V-D4RL: rewards are scaled and batches drawn as for every agent
here, and DrQ's shift copies pixels, where theirs interpolates at whole pixels, which is the same up
to rounding. Its settings (``drqbc/cfgs``) are ``agent: {encoder: drqv2, hidden: [1024, 1024], tau:
0.01}``, one learning rate for all, and a batch of 256. V-D4RL counts the policy's noise schedule in
steps, with an update every second step; ``noise_updates`` counts updates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchbench.agent.base import PixelAgent, detached, make_obs_encoder, weights_from
from benchbench.agent.networks import mlp, orthogonal
from benchbench.agent.protocol import AgentSpec, Features, Info
from benchbench.data.batch import Batch
from benchbench.routing import Routing
from benchbench.suite.agent import AgentSettings

EDGE = 1.0 - 1e-6
"""Noisy actions are clamped to ±this; the gradient passes as if they were not."""


class Trunk(nn.Module):
    """From an encoder's maps to few features, with proprioception joined behind them."""

    def __init__(self, maps: int, feature_dim: int) -> None:
        super().__init__()
        self.maps = maps
        self.net = nn.Sequential(nn.Linear(maps, feature_dim), nn.LayerNorm(feature_dim), nn.Tanh())

    def forward(self, feature_BF: torch.Tensor) -> torch.Tensor:
        """(B, maps + P) to (B, feature_dim + P)."""
        return torch.cat([self.net(feature_BF[:, : self.maps]), feature_BF[:, self.maps :]], 1)


class TwinQ(nn.Module):
    """A trunk and two Q networks."""

    def __init__(self, trunk: nn.Module, width: int, spec: AgentSpec, hidden: tuple[int, ...]):
        super().__init__()
        self.trunk = trunk
        self.q1_net = mlp(width + spec.action_dim, hidden, 1)
        self.q2_net = mlp(width + spec.action_dim, hidden, 1)
        self.apply(orthogonal)

    def forward(
        self, feature_BF: torch.Tensor, action_BA: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """(Q1, Q2) of the environment's actions, each of shape (B,)."""
        both = torch.cat([self.trunk(feature_BF), action_BA], 1)
        return self.q1_net(both).squeeze(1), self.q2_net(both).squeeze(1)


class Policy(nn.Module):
    """A trunk and a deterministic policy; its noise is added outside."""

    def __init__(self, trunk: nn.Module, width: int, spec: AgentSpec, hidden: tuple[int, ...]):
        super().__init__()
        self.trunk, self.net = trunk, mlp(width, hidden, spec.action_dim)
        self.apply(orthogonal)

    def forward(self, feature_BF: torch.Tensor) -> torch.Tensor:
        """The environment's action (B, A), within ±1."""
        return torch.tanh(self.net(self.trunk(feature_BF)))


@dataclass(frozen=True)
class Fixed:
    """What stays the same during one update."""

    obs: torch.Tensor
    """The observation after augmentation."""
    td_target_B: torch.Tensor
    """What Q is trained towards: reward + discount x target Q of a noisy action of the policy."""


class DrQBC(PixelAgent):
    """DrQ+BC under one routing; see the module's docstring."""

    critic_target: TwinQ
    counters = ("_updates",)
    constants = ("_mean_A", "_std_A")

    def __init__(
        self,
        spec: AgentSpec,
        settings: AgentSettings,
        routing: Routing,
        stream: Callable[[str], int],
        device: torch.device,
    ) -> None:
        self.spec, self.settings, self.routing, self.device = spec, settings, routing, device
        with weights_from(stream("weights")):
            self.obs_encoder, width = make_obs_encoder(spec, settings, feature_dim=None)
            trunks: list[nn.Module] = [nn.Identity(), nn.Identity()]
            if spec.channels:
                maps, few = width - spec.proprio_dim, settings.feature_dim
                trunks, width = [Trunk(maps, few), Trunk(maps, few)], few + spec.proprio_dim
            self.critic = TwinQ(trunks[0], width, spec, settings.hidden)
            self.actor = Policy(trunks[1], width, spec, settings.hidden)
        self.assemble(
            stream,
            heads={"critic": "critic", "vae": "actor"},
            learning_rates={"critic": settings.critic_lr, "vae": settings.actor_lr},
            encoder_lr=settings.encoder_lr,
            targets=("critic",),
            noise=("target-noise", "policy-noise"),
        )
        none = torch.zeros(spec.action_dim)
        self._mean_A = (none if spec.action_mean is None else spec.action_mean).to(device)
        self._std_A = (none + 1 if spec.action_std is None else spec.action_std).to(device)
        self._updates = 0

    def update(self, batch: Batch) -> Info:
        """One update of critic, policy and target. Returns the losses.

        The policy reads what the encoder gave before the critic's step, as in V-D4RL, unless its
        own gradient is to reach an encoder that this step has moved.
        """
        routing = self.routing
        fixed = self.fix(batch)
        again = routing.attached("vae") and routing.moved_by("critic")
        share = routing.attached("vae") and not again

        features = self._encode(fixed.obs, batch, routing.attached("critic") or share)
        loss, info = self.critic_loss(features.seen_by("critic", routing), batch, fixed)
        self.optimizers.step("critic", loss, retain_graph=share and routing.attached("critic"))

        if again:
            features = self._encode(fixed.obs, batch, grad=True)
        loss, policy_info = self.vae_loss(features.seen_by("vae", routing), batch, fixed)
        self.optimizers.step("vae", loss)

        self._move_targets()
        self._updates += 1
        return info | policy_info

    @torch.no_grad()
    def fix(self, batch: Batch) -> Fixed:
        """Augment the batch and compute the target of Q, through the online encoder."""
        obs, next_obs = self._augmented(batch.obs), self._augmented(batch.next_obs)
        following = self.features(next_obs, batch.next_proprio_BP)
        action_BA = self._noisy(self.actor(following.vae), "target-noise")
        value_B = torch.min(*self.critic_target(following.critic, action_BA))
        return Fixed(obs, batch.reward_B + batch.discount_B * value_B)

    def critic_loss(
        self, features: Features, batch: Batch, fixed: Fixed
    ) -> tuple[torch.Tensor, Info]:
        """MSE(Q1) + MSE(Q2) against the fixed target."""
        loss = self.critic_terms(features, batch, fixed)["q"]
        return loss, detached({"critic_loss": loss, "q_loss": loss})

    def critic_terms(self, features: Features, batch: Batch, fixed: Fixed) -> Info:
        """The only term."""
        q1_B, q2_B = self.q(features.critic, batch.action_BA)
        return {"q": F.mse_loss(q1_B, fixed.td_target_B) + F.mse_loss(q2_B, fixed.td_target_B)}

    def vae_loss(self, features: Features, batch: Batch, fixed: Fixed) -> tuple[torch.Tensor, Info]:
        """The policy's loss: -Q of its noisy action, scaled to ``bc_weight``, and cloning."""
        action_BA = self._noisy(self.actor(features.vae), "policy-noise")
        q_B = torch.min(*self.critic(features.critic.detach(), action_BA))
        cloning = F.mse_loss(action_BA, self._unscaled(batch.action_BA))
        scale = self.settings.bc_weight / q_B.detach().abs().mean()
        loss = -q_B.mean() * scale + cloning
        info = {"vae_loss": loss, "recon_loss": cloning, "actor_loss": -q_B.mean()}
        return loss, detached(info)

    # ------------------------------------------------------------------ the public face

    @torch.inference_mode()
    def act(self, obs: torch.Tensor, proprio_BP: torch.Tensor) -> torch.Tensor:
        """The policy's actions (B, A) without noise, z-scored as the data's are."""
        action_BA = self.actor(self.read("vae", obs, proprio_BP))
        return (action_BA - self._mean_A) / self._std_A

    def q(self, feature_BF: torch.Tensor, action_BA: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(Q1, Q2) of z-scored actions, each (B,)."""
        return self.critic(feature_BF, self._unscaled(action_BA))

    def bootstrap(self, next_features: Features) -> torch.Tensor:
        """Target Q of the policy's action, without its noise."""
        action_BA = self.actor(next_features.vae)
        return torch.min(*self.critic_target(next_features.critic, action_BA))

    def probed(self) -> nn.Module:
        """The encoder and the critic's trunk: together what LAPO's encoder is."""
        return nn.Sequential(self.encoder("critic"), self.critic.trunk)

    def state(self) -> dict[str, Any]:
        """The state of every agent, and the position of the noise schedule."""
        return super().state() | {"updates": self._updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state` of an agent that was built alike."""
        super().restore(state)
        self._updates = state["updates"]

    # ------------------------------------------------------------------ details

    def _noisy(self, action_BA: torch.Tensor, purpose: str) -> torch.Tensor:
        s = self.settings
        done = min(self._updates / s.noise_updates, 1.0)
        spread = (1 - done) * s.noise_start + done * s.noise_end
        noise_BA = (spread * self._normal(purpose, action_BA)).clamp(-s.noise_clip, s.noise_clip)
        noisy_BA = action_BA + noise_BA
        return noisy_BA + (noisy_BA.clamp(-EDGE, EDGE) - noisy_BA).detach()

    def _unscaled(self, action_BA: torch.Tensor) -> torch.Tensor:
        return action_BA * self._std_A + self._mean_A
