"""What agents from pixels have in common: the routed encoder and its readers,
target copies, noise, augmentation, and resuming from a checkpoint.

Shape suffixes: see ``networks.py``.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import nn

from benchbench.agent.networks import make_encoder, random_shift
from benchbench.agent.protocol import AgentSpec, Features, Info
from benchbench.data.batch import Batch
from benchbench.routing import LOSSES, Loss, RoutedOptimizers, Routing
from benchbench.suite.agent import AgentSettings


class PixelAgent:
    """The part of :class:`~benchbench.agent.protocol.Agent` that is no algorithm.

    A subclass's constructor sets ``spec``, ``settings``, ``routing`` and ``device``, makes its
    networks inside :func:`weights_from`, ``obs_encoder`` first, and calls :meth:`assemble`.
    """

    spec: AgentSpec
    settings: AgentSettings
    routing: Routing
    device: torch.device
    obs_encoder: nn.Module
    obs_encoder_target: nn.Module
    optimizers: RoutedOptimizers
    counters: ClassVar[tuple[str, ...]] = ()
    """Attributes that an update changes beside weights and streams: plain numbers."""
    constants: ClassVar[tuple[str, ...]] = ()
    """Attributes that are tensors and never change; they follow from the data."""

    def assemble(
        self,
        stream: Callable[[str], int],
        heads: Mapping[Loss, str],
        learning_rates: Mapping[Loss, float],
        encoder_lr: float,
        targets: Sequence[str],
        noise: Sequence[str],
    ) -> None:
        """Turn the networks into an agent: on its device, with targets, optimizers and noise.

        ``heads`` names the attribute that each loss trains, ``targets`` those of all of them that
        have a slowly moving copy, and ``noise`` the purposes of its random streams.
        """
        if self.routing.encoders == "separate":
            one = self.obs_encoder
            self.obs_encoder = nn.ModuleDict({str(n): copy.deepcopy(one) for n in LOSSES})
        self._names = ("obs_encoder", *heads.values())
        self._target_names = tuple(targets)
        for module in self.modules().values():
            module.to(self.device)
        for name in targets:
            target = copy.deepcopy(getattr(self, name)).requires_grad_(False)
            setattr(self, f"{name}_target", target)
        self._heads, self._rates = dict(heads), (dict(learning_rates), encoder_lr)
        self._settle(RoutedOptimizers)
        self._streams = {
            purpose: torch.Generator(self.device).manual_seed(stream(purpose))
            for purpose in (*noise, "augmentation")
        }
        self._noise = self._streams

    def _settle(self, kind: type[RoutedOptimizers]) -> None:
        """Make the optimizers of the modules as they are now, and the lists of their weights."""
        self.optimizers = kind(
            self.routing,
            {loss: self.encoder(loss) for loss in LOSSES},
            {loss: getattr(self, name) for loss, name in self._heads.items()},
            *self._rates,
        )
        online, copies = self.modules(), self.target_modules()
        self._online = [p for m in online.values() for p in m.parameters()]
        self._followed: list[torch.Tensor] = [
            p for name in copies for p in online[name].parameters()
        ]
        self._targets: list[torch.Tensor] = [p for m in copies.values() for p in m.parameters()]

    def follow(self, routing: Routing) -> None:
        """Train under ``routing`` from now on; the encoder stays in the optimizers it is in."""
        self.routing = self.optimizers.routing = routing

    def modules(self) -> dict[str, nn.Module]:
        """The trained modules by the brief's names."""
        return {name: getattr(self, name) for name in self._names}

    def target_modules(self) -> dict[str, nn.Module]:
        """Slowly moving copies, by the same names."""
        return {name: getattr(self, f"{name}_target") for name in self._target_names}

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

    def probed(self) -> nn.Module:
        """The encoder that the probes use: the critic's."""
        return self.encoder("critic")

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
        """The full state between two updates: tensors and plain values.

        It includes the gradients, since one that is not cleared before its step outlives an update.
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

    # ------------------------------------------------------------------ for subclasses

    def _encode(self, obs: torch.Tensor, batch: Batch, grad: bool) -> Features:
        with torch.set_grad_enabled(grad):
            return self.features(obs, batch.proprio_BP)

    def _augmented(self, obs: torch.Tensor) -> torch.Tensor:
        if not self.spec.shift_pad:
            return obs
        return random_shift(obs, self.spec.shift_pad, self._noise["augmentation"])

    def _normal(self, purpose: str, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=self._noise[purpose], device=self.device)

    @torch.no_grad()
    def _move_targets(self) -> None:
        torch._foreach_lerp_(self._targets, self._followed, self.settings.tau)


def make_obs_encoder(
    spec: AgentSpec, settings: AgentSettings, feature_dim: int | None
) -> tuple[nn.Module, int]:
    """The encoder, and the width of what is read of it with proprioception joined to it.

    With ``feature_dim`` None it has no trunk.
    """
    if not spec.channels:
        return nn.Identity(), spec.state_dim
    encoder = make_encoder(
        settings.encoder,
        spec.channels,
        spec.size,
        feature_dim,
        spec.mean_image,
        settings.precision == "bf16",
    )
    return encoder, encoder.width + spec.proprio_dim


@contextmanager
def weights_from(seed: int) -> Iterator[None]:
    """Draw the initial weights of a block from ``seed``; PyTorch's own stream is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def detached(info: Info) -> Info:
    """The same scalars without their graphs."""
    return {name: value.detach() for name, value in info.items()}
