"""What an agent must offer, so that benchbench can train, watch and measure it.

Your own agent implements :class:`Agent`. It need not start from scratch: a subclass of
:class:`~benchbench.agent.lapo.LAPO` that changes a formula meets it, and
:class:`~benchbench.agent.base.PixelAgent` has all of it that is not an algorithm.

Its training step is a loop over the losses of ``benchbench.routing``, in that order. The loss in
the ``critic`` place regresses Q; the one in the ``vae`` place imitates the data's actions; the one
in the ``actor`` place may be missing, and is then ``detached`` in every variant that fits. Each is
backpropagated by ``optimizers.step``, and reads features that ``Features.seen_by`` let it see.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from benchbench.data.batch import Batch
from benchbench.routing import Loss, RoutedOptimizers, Routing
from benchbench.suite.agent import AgentSettings

Info = dict[str, torch.Tensor]
"""Scalars that a loss reports, still tensors so that the training loop never waits for them.

Their names are columns of ``training.parquet``: ``critic_loss``, ``q_loss``, ``v_loss``,
``vae_loss``, ``recon_loss``, ``kl_loss``, ``actor_loss``; any of them may be missing."""


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
    action_mean: torch.Tensor | None = None
    """The data's actions are z-scores times ``action_std`` plus this, (A,); None for 0."""
    action_std: torch.Tensor | None = None
    """(A,); None for 1."""


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


class Agent(Protocol):
    """See the module's docstring. Observations, actions and batches are those of ``Batch``."""

    spec: AgentSpec
    optimizers: RoutedOptimizers

    def __init__(
        self,
        spec: AgentSpec,
        settings: AgentSettings,
        routing: Routing,
        stream: Callable[[str], int],
        device: torch.device,
    ) -> None:
        """``stream`` gives the seed of a random stream by purpose; it knows no variant."""

    def modules(self) -> dict[str, nn.Module]:
        """The trained modules by name, among them ``obs_encoder``, the routed one."""
        ...

    def target_modules(self) -> dict[str, nn.Module]:
        """The slowly moving copies of some of them, by the same names."""
        ...

    def update(self, batch: Batch) -> Info:
        """One update: the loop over all losses."""
        ...

    def act(self, obs: torch.Tensor, proprio_BP: torch.Tensor) -> torch.Tensor:
        """The policy's z-scored actions (B, A), without noise."""
        ...

    def encoder(self, reader: Loss) -> nn.Module:
        """The part of ``obs_encoder`` that the network of a loss reads."""
        ...

    def probed(self) -> nn.Module:
        """The encoder that the probes use: frames (B, C, H, W) to the critic's features (B, F)."""
        ...

    def features(self, obs: torch.Tensor, proprio_BP: torch.Tensor) -> Features:
        """What each network reads, with graphs where gradients are on."""
        ...

    def fix(self, batch: Batch) -> Any:
        """What one update takes as given; has ``obs``, the observation after augmentation."""
        ...

    def critic_terms(self, features: Features, batch: Batch, fixed: Any) -> Info:
        """The critic loss's terms, whole and with graphs: ``q``, and ``v`` where there is a V."""
        ...

    def critic_loss(
        self, features: Features, batch: Batch, fixed: Any
    ) -> tuple[torch.Tensor, Info]:
        """The loss of the loop's first step."""
        ...

    def vae_loss(self, features: Features, batch: Batch, fixed: Any) -> tuple[torch.Tensor, Info]:
        """The loss of its second."""
        ...

    def q(self, feature_BF: torch.Tensor, action_BA: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(Q1, Q2) of z-scored actions, each (B,); ``feature_BF`` is the critic's."""
        ...

    def bootstrap(self, next_features: Features) -> torch.Tensor:
        """The value (B,) of a next observation that Q is trained towards, without noise."""
        ...

    def noise_from(self, seed: int) -> AbstractContextManager[None]:
        """Draw all noise from ``seed`` for a block; training's own is untouched by it."""
        ...

    def weights_sha256(self) -> str:
        """Hash of all parameters, online and target, bit for bit."""
        ...

    def state(self) -> dict[str, Any]:
        """The full state between two updates: tensors and plain values."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state` of an agent that was built alike."""
        ...
