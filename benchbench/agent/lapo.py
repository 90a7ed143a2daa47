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

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from benchbench.agent.networks import ActorVAE, Critic, LatentActor, make_encoder, random_shift
from benchbench.data.batch import Batch
from benchbench.routing import LOSSES, Loss, RoutedOptimizers, Routing
from benchbench.suite import AgentSettings

Info = dict[str, torch.Tensor]
"""Scalars that a loss reports, still tensors so that the training loop never waits for them."""


@dataclass(frozen=True)
class AgentSpec:
    """What the networks must fit.

    ``channels`` and ``size`` describe the frames (``channels`` = stack x 3); both are 0 where the
    observation is a state vector of ``state_dim`` numbers. ``min_value`` and ``max_value`` bound
    V's target: the smallest and largest scaled reward over (1 - discount).
    """

    action_dim: int
    channels: int
    size: int
    proprio_dim: int
    state_dim: int
    min_value: float
    max_value: float
    shift_pad: int = 0
    """Largest random shift in pixels; 0 for no augmentation."""
    mean_image: torch.Tensor | None = None
    """What the encoder subtracts from frames in [0, 1], (C, H, W); None for 1/2 everywhere."""


class Features(NamedTuple):
    """What each network reads of an observation, (B, F) each: one tensor where they share."""

    critic: torch.Tensor
    vae: torch.Tensor
    actor: torch.Tensor

    def seen_by(self, loss: Loss, routing: Routing) -> Features:
        """The features as ``loss`` may see them: only its own network's with a graph, if any."""
        if routing.encoders == "separate":
            return Features(*(f if n == loss else f.detach() for n, f in self._asdict().items()))
        return self if routing.attached(loss) else Features(*(f.detach() for f in self))


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


class LAPO:
    """The shared agent under one routing.

    ``stream`` gives the seed of a random stream by purpose; it must not depend on the variant, so
    that the variants of a pair start from equal weights and draw equal noise.
    """

    def __init__(
        self,
        spec: AgentSpec,
        settings: AgentSettings,
        routing: Routing,
        stream: Callable[[str], int],
        device: torch.device,
    ) -> None:
        self.spec, self.settings, self.routing, self.device = spec, settings, routing, device
        latent_dim = 2 * spec.action_dim
        hidden = settings.hidden
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream("weights"))
            if spec.channels:
                feature_dim = settings.feature_dim + spec.proprio_dim
                self.obs_encoder: nn.Module = make_encoder(
                    settings.encoder,
                    spec.channels,
                    spec.size,
                    settings.feature_dim,
                    spec.mean_image,
                    settings.precision == "bf16",
                )
            else:
                feature_dim = spec.state_dim
                self.obs_encoder = nn.Identity()
            self.critic = Critic(feature_dim, spec.action_dim, hidden)
            self.actor_vae = ActorVAE(feature_dim, spec.action_dim, latent_dim, hidden)
            self.actor = LatentActor(feature_dim, latent_dim, hidden, settings.max_latent_action)
            if routing.encoders == "separate":
                one = self.obs_encoder
                self.obs_encoder = nn.ModuleDict({str(n): copy.deepcopy(one) for n in LOSSES})
        for name, module in self.modules().items():
            module.to(device)
            setattr(self, f"{name}_target", copy.deepcopy(module).requires_grad_(False))
        self.obs_encoder_target: nn.Module
        self.critic_target: Critic
        self.actor_vae_target: ActorVAE
        self.actor_target: LatentActor
        self.optimizers = RoutedOptimizers(
            routing,
            {loss: self.encoder(loss) for loss in LOSSES},
            heads={"critic": self.critic, "vae": self.actor_vae, "actor": self.actor},
            learning_rates={
                "critic": settings.critic_lr,
                "vae": settings.vae_lr,
                "actor": settings.actor_lr,
            },
            encoder_lr=settings.encoder_lr,
        )
        self._streams = {
            purpose: torch.Generator(device).manual_seed(stream(purpose))
            for purpose in ("target-noise", "vae-noise", "augmentation")
        }
        self._noise = self._streams
        self._online: list[torch.Tensor] = [
            p for m in self.modules().values() for p in m.parameters()
        ]
        self._targets: list[torch.Tensor] = [
            p for m in self.target_modules().values() for p in m.parameters()
        ]

    def modules(self) -> dict[str, nn.Module]:
        """The four trained modules by the brief's names."""
        return {
            "obs_encoder": self.obs_encoder,
            "critic": self.critic,
            "actor_vae": self.actor_vae,
            "actor": self.actor,
        }

    def target_modules(self) -> dict[str, nn.Module]:
        """Their slowly moving copies, by the same names."""
        return {name: getattr(self, f"{name}_target") for name in self.modules()}

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
        q_feature_BF = feature_BF.detach() if terms == "v" else feature_BF
        v_feature_BF = feature_BF.detach() if terms == "q" else feature_BF
        q1_B, q2_B = self.critic.q(q_feature_BF, batch.action_BA)
        q_loss = F.mse_loss(q1_B, fixed.td_target_B) + F.mse_loss(q2_B, fixed.td_target_B)
        v_loss = F.mse_loss(self.critic.v(v_feature_BF), fixed.v_target_B)
        loss = q_loss + v_loss
        info = {"critic_loss": loss, "q_loss": q_loss, "v_loss": v_loss}
        return loss, _detached(info)

    def vae_loss(self, features: Features, batch: Batch, fixed: Fixed) -> tuple[torch.Tensor, Info]:
        """Advantage-weighted reconstruction and KL divergence of the action VAE.

        The advantage compares the one-step lookahead, with the target Q at the next observation,
        to the current V; the weight is ``expectile`` where it is positive, else 1 - ``expectile``.
        """
        with torch.no_grad():
            q_B = batch.reward_B + batch.discount_B * fixed.next_target_q_B
            advantage_B = q_B - self.critic.v(features.critic)
            expectile = self.settings.expectile
            weight_B = torch.where(advantage_B > 0, expectile, 1 - expectile)
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
        return loss, _detached(info)

    def actor_loss(self, features: Features, fixed: Fixed) -> tuple[torch.Tensor, Info]:
        """-Q1 of the action that the target decoder makes of the policy's latent."""
        latent_BZ = self.actor(features.actor)
        action_BA = self.actor_vae_target.decode(fixed.vae_target_BF, latent_BZ)
        loss = -self.critic.q1(features.critic, action_BA).mean()
        return loss, _detached({"actor_loss": loss})

    # ------------------------------------------------------------------ the public face

    def encoder(self, reader: Loss, *, target: bool = False) -> nn.Module:
        """The encoder that the network of a loss reads; one and the same where they share."""
        encoder = self.obs_encoder_target if target else self.obs_encoder
        return encoder[reader] if isinstance(encoder, nn.ModuleDict) else encoder

    def read(
        self, reader: Loss, obs: torch.Tensor, proprio_BP: torch.Tensor, *, target: bool = False
    ) -> torch.Tensor:
        """What one network reads: encoder output with proprioception joined to it, (B, F)."""
        encoded_BF = self.encoder(reader, target=target)(obs)
        return torch.cat([encoded_BF, proprio_BP], 1) if proprio_BP.shape[1] else encoded_BF

    def features(
        self, obs: torch.Tensor, proprio_BP: torch.Tensor, *, target: bool = False
    ) -> Features:
        """What each network reads; computed once where they share an encoder."""
        if self.routing.encoders == "separate":
            return Features(*(self.read(loss, obs, proprio_BP, target=target) for loss in LOSSES))
        return Features(*[self.read("critic", obs, proprio_BP, target=target)] * len(LOSSES))

    @torch.no_grad()
    def act(self, obs: torch.Tensor, proprio_BP: torch.Tensor) -> torch.Tensor:
        """The policy's z-scored actions (B, A): online policy, target decoder, as the authors'."""
        latent_BZ = self.actor(self.read("actor", obs, proprio_BP))
        target_BF = self.read("vae", obs, proprio_BP, target=True)
        return self.actor_vae_target.decode(target_BF, latent_BZ)

    @contextmanager
    def noise_from(self, seed: int) -> Iterator[None]:
        """Draw all noise from ``seed`` for the length of a block; training's own is untouched."""
        own = self._noise
        self._noise = {purpose: torch.Generator(self.device).manual_seed(seed) for purpose in own}
        try:
            yield
        finally:
            self._noise = own

    def weights_sha256(self) -> str:
        """Hash of all parameters, online and target, bit for bit."""
        digest = hashlib.sha256()
        for parameter in [*self._online, *self._targets]:
            digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def state(self) -> dict[str, Any]:
        """All that further updates follow from, between two of them: tensors and plain values.

        The gradients are among it, as one that is not cleared before its step outlives an update.
        """
        return {
            "online": {name: m.state_dict() for name, m in self.modules().items()},
            "target": {name: m.state_dict() for name, m in self.target_modules().items()},
            "grads": [p.grad for p in self._online],
            "optimizers": {str(n): o.state_dict() for n, o in self.optimizers.by_name.items()},
            "noise": {name: stream.get_state() for name, stream in self._streams.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state` of an agent that was built alike."""
        for name, module in self.modules().items():
            module.load_state_dict(state["online"][name])
        for name, module in self.target_modules().items():
            module.load_state_dict(state["target"][name])
        for parameter, grad in zip(self._online, state["grads"], strict=True):
            parameter.grad = grad
        for holder, optimizer in self.optimizers.by_name.items():
            optimizer.load_state_dict(state["optimizers"][holder])
        for name, stream in self._streams.items():
            stream.set_state(state["noise"][name].cpu())

    # ------------------------------------------------------------------ the small print

    def _encode(self, obs: torch.Tensor, batch: Batch, grad: bool) -> Features:
        with torch.set_grad_enabled(grad):
            return self.features(obs, batch.proprio_BP)

    def _augmented(self, obs: torch.Tensor) -> torch.Tensor:
        if not self.spec.shift_pad:
            return obs
        return random_shift(obs, self.spec.shift_pad, self._noise["augmentation"])

    def _normal(self, purpose: str, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=self._noise[purpose], device=self.device)

    def _target_q(self, features: Features, latent_BZ: torch.Tensor) -> torch.Tensor:
        action_BA = self.actor_vae_target.decode(features.vae, latent_BZ)
        q1_B, q2_B = self.critic_target.q(features.critic, action_BA)
        least = self.settings.doubleq_min
        return torch.min(q1_B, q2_B) * least + torch.max(q1_B, q2_B) * (1 - least)

    @torch.no_grad()
    def _move_targets(self) -> None:
        torch._foreach_lerp_(self._targets, self._online, self.settings.tau)


def _detached(info: Info) -> Info:
    return {name: value.detach() for name, value in info.items()}
