"""LAPO from pixels: the one agent that all variants share.

Latent-variable advantage-weighted policy optimisation (Chen et al., NeurIPS 2022; the formulas
follow the authors' ``algos/algos_vae.py`` in https://github.com/pcchenxi/LAPO-offlienRL), with one
``obs_encoder`` in front of the critic, the action VAE and the latent policy, and a target copy of
it in front of their target copies. Without pixels (``observation: state``) the encoder is the
identity and what is left is the original algorithm, number for number.

The training step is one loop over three losses. What each of them does to the encoder is not
decided here but in ``benchbench.routing``: a loss sees the features attached or detached, and the
routed optimizers clear, backpropagate and step.

Shape suffixes: see ``networks.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from benchbench.agent.base import PixelAgent, detached, make_obs_encoder, weights_from
from benchbench.agent.networks import ActorVAE, Critic, LatentActor
from benchbench.agent.protocol import AgentSpec, Features, Info
from benchbench.data.batch import Batch
from benchbench.routing import Routing
from benchbench.suite.agent import AgentSettings


@dataclass(frozen=True)
class Fixed:
    """What stays the same during one update, computed once: the targets' view of a batch."""

    obs: torch.Tensor
    """The observation after augmentation: uint8 (B, C, H, W), or states (B, D)."""
    vae_target_BF: torch.Tensor
    """What the target decoder reads of the observation."""
    td_target_B: torch.Tensor
    """What Q is trained towards: reward + discount x online V of the next observation."""
    v_target_B: torch.Tensor
    """What V is trained towards: the target Q of the target policy's noisy action, clipped."""
    next_target_q_B: torch.Tensor
    """Target Q of the target policy's action at the next observation, for the advantage."""


class LAPO(PixelAgent):
    """The shared agent under one routing.

    ``stream`` gives the seed of a random stream by purpose; it must not depend on the variant, so
    that the variants of a pair start from equal weights and draw equal noise.
    """

    actor_class = LatentActor
    critic_target: Critic
    actor_vae_target: ActorVAE
    actor_target: LatentActor

    def __init__(
        self,
        spec: AgentSpec,
        settings: AgentSettings,
        routing: Routing,
        stream: Callable[[str], int],
        device: torch.device,
    ) -> None:
        self.spec, self.settings, self.routing, self.device = spec, settings, routing, device
        latent_dim, hidden = 2 * spec.action_dim, settings.hidden
        with weights_from(stream("weights")):
            self.obs_encoder, width = make_obs_encoder(spec, settings, settings.feature_dim)
            self.critic = Critic(width, spec.action_dim, hidden)
            self.actor_vae = ActorVAE(width, spec.action_dim, latent_dim, hidden)
            self.actor = self.actor_class(width, latent_dim, hidden, settings.max_latent_action)
        self.assemble(
            stream,
            heads={"critic": "critic", "vae": "actor_vae", "actor": "actor"},
            learning_rates={
                "critic": settings.critic_lr,
                "vae": settings.vae_lr,
                "actor": settings.actor_lr,
            },
            encoder_lr=settings.encoder_lr,
            targets=("obs_encoder", "critic", "actor_vae", "actor"),
            noise=("target-noise", "vae-noise"),
        )

    # ------------------------------------------------------------------ one training step

    def update(self, batch: Batch) -> Info:
        """One update of everything: critic, VAE, latent policy, targets. Returns the losses.

        Each loss sees the encoder as it stands when its turn comes. Where the encoder has not
        moved since the last turn its features are used again, with their graph if that is needed.
        """
        routing = self.routing
        fixed = self.fix(batch)

        share = routing.attached("vae") and not routing.moved_by("critic")
        features = self._encode(fixed.obs, batch, routing.attached("critic") or share)
        loss, info = self.critic_loss(features.seen_by("critic", routing), batch, fixed)
        both = share and routing.attached("critic")
        self.optimizers.step("critic", loss, retain_graph=both)

        if routing.moved_by("critic"):
            features = self._encode(fixed.obs, batch, routing.attached("vae"))
        loss, vae_info = self.vae_loss(features.seen_by("vae", routing), batch, fixed)
        self.optimizers.step("vae", loss)

        if routing.moved_by("vae") or routing.attached("actor"):
            features = self._encode(fixed.obs, batch, routing.attached("actor"))
        loss, actor_info = self.actor_loss(features.seen_by("actor", routing), fixed)
        self.optimizers.step("actor", loss)

        self._move_targets()
        return info | vae_info | actor_info

    @torch.no_grad()
    def fix(self, batch: Batch) -> Fixed:
        """Augment the batch and compute all that its losses take as given."""
        obs, next_obs = self._augmented(batch.obs), self._augmented(batch.next_obs)
        next_critic_BF = self.read("critic", next_obs, batch.next_proprio_BP)
        # Both observations go through the target networks in one pass, only the first with noise.
        both = self.features(
            torch.cat([obs, next_obs]),
            torch.cat([batch.proprio_BP, batch.next_proprio_BP]),
            target=True,
        )
        noisy_BZ, next_BZ = self.actor_target(both.actor).chunk(2)
        noise_BZ = (0.1 * self._normal("target-noise", noisy_BZ)).clamp(-0.2, 0.2)
        latent_2BZ = torch.cat([noisy_BZ + noise_BZ, next_BZ])
        v_target_B, next_target_q_B = self._target_q(both, latent_2BZ).chunk(2)
        return Fixed(
            obs=obs,
            vae_target_BF=both.vae[: len(obs)],
            td_target_B=batch.reward_B + batch.discount_B * self.critic.v(next_critic_BF),
            v_target_B=v_target_B.clamp(self.spec.min_value, self.spec.max_value),
            next_target_q_B=next_target_q_B,
        )

    def critic_loss(
        self, features: Features, batch: Batch, fixed: Fixed
    ) -> tuple[torch.Tensor, Info]:
        """MSE(Q1) + MSE(Q2) + MSE(V) against the fixed targets."""
        terms = self.routing.critic_terms
        feature_BF = features.critic
        q_loss = self.q_loss(feature_BF.detach() if terms == "v" else feature_BF, batch, fixed)
        v_loss = self.v_loss(feature_BF.detach() if terms == "q" else feature_BF, fixed)
        loss = q_loss + v_loss
        info = {"critic_loss": loss, "q_loss": q_loss, "v_loss": v_loss}
        return loss, detached(info)

    def q_loss(self, feature_BF: torch.Tensor, batch: Batch, fixed: Fixed) -> torch.Tensor:
        """MSE(Q1) + MSE(Q2)."""
        q1_B, q2_B = self.critic.q(feature_BF, batch.action_BA)
        return F.mse_loss(q1_B, fixed.td_target_B) + F.mse_loss(q2_B, fixed.td_target_B)

    def v_loss(self, feature_BF: torch.Tensor, fixed: Fixed) -> torch.Tensor:
        """MSE(V)."""
        return F.mse_loss(self.critic.v(feature_BF), fixed.v_target_B)

    def critic_terms(self, features: Features, batch: Batch, fixed: Fixed) -> Info:
        """Both terms, whole, whichever of them the routing cuts off."""
        return {
            "q": self.q_loss(features.critic, batch, fixed),
            "v": self.v_loss(features.critic, fixed),
        }

    def vae_loss(self, features: Features, batch: Batch, fixed: Fixed) -> tuple[torch.Tensor, Info]:
        """Weighted reconstruction and KL divergence of the action VAE."""
        weight_B = self.sample_weights(features, batch, fixed)
        feature_BF = features.vae
        if self.routing.vae_weights == "none" and feature_BF.requires_grad:
            # Each sample's gradient carries its weight as a factor; here the encoder's loses it.
            feature_BF = feature_BF.view_as(feature_BF)
            feature_BF.register_hook(lambda grad_BF: grad_BF / weight_B[:, None])
        mean_BZ, log_var_BZ = self.actor_vae.encode(feature_BF, batch.action_BA)
        latent_BZ = mean_BZ + torch.exp(log_var_BZ / 2) * self._normal("vae-noise", mean_BZ)
        action_BA = self.actor_vae.decode(feature_BF, latent_BZ)
        recon_B = (action_BA - batch.action_BA).square().sum(1)
        kl_B = -0.5 * (1 + log_var_BZ - mean_BZ.square() - log_var_BZ.exp()).sum(1)
        loss = ((recon_B + kl_B * self.settings.kl_beta) * weight_B).mean()
        info = {"vae_loss": loss, "recon_loss": recon_B.mean(), "kl_loss": kl_B.mean()}
        return loss, detached(info)

    @torch.no_grad()
    def sample_weights(self, features: Features, batch: Batch, fixed: Fixed) -> torch.Tensor:
        """The VAE's weight of each sample, (B,), by its advantage.

        The advantage compares the one-step lookahead, with the target Q at the next observation,
        to the current V; the weight is ``expectile`` where it is positive, else 1 - ``expectile``.
        """
        q_B = batch.reward_B + batch.discount_B * fixed.next_target_q_B
        advantage_B = q_B - self.critic.v(features.critic)
        expectile = self.settings.expectile
        return torch.where(advantage_B > 0, expectile, 1 - expectile)

    def actor_loss(self, features: Features, fixed: Fixed) -> tuple[torch.Tensor, Info]:
        """-Q1 of the action that the target decoder makes of the policy's latent."""
        latent_BZ = self.actor(features.actor)
        action_BA = self.actor_vae_target.decode(fixed.vae_target_BF, latent_BZ)
        loss = -self.critic.q1(features.critic, action_BA).mean()
        return loss, detached({"actor_loss": loss})

    # ------------------------------------------------------------------ the public face

    @torch.inference_mode()
    def act(self, obs: torch.Tensor, proprio_BP: torch.Tensor) -> torch.Tensor:
        """The policy's z-scored actions (B, A): online policy, target decoder, as the authors'."""
        latent_BZ = self.actor(self.read("actor", obs, proprio_BP))
        target_BF = self.read("vae", obs, proprio_BP, target=True)
        return self.actor_vae_target.decode(target_BF, latent_BZ)

    def q(self, feature_BF: torch.Tensor, action_BA: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(Q1, Q2) of z-scored actions, each (B,)."""
        return self.critic.q(feature_BF, action_BA)

    def bootstrap(self, next_features: Features) -> torch.Tensor:
        """Online V, as in the target of Q."""
        return self.critic.v(next_features.critic)

    def _target_q(self, features: Features, latent_BZ: torch.Tensor) -> torch.Tensor:
        action_BA = self.actor_vae_target.decode(features.vae, latent_BZ)
        q1_B, q2_B = self.critic_target.q(features.critic, action_BA)
        least = self.settings.doubleq_min
        return torch.min(q1_B, q2_B) * least + torch.max(q1_B, q2_B) * (1 - least)
