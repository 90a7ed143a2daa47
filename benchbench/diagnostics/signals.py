"""Each loss's gradient on the encoder, and which loss's descent the encoder has followed."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from benchbench.agent.protocol import Agent
from benchbench.data.batch import Batch
from benchbench.routing import Loss

WAY = 50
"""Updates over which the encoder's displacement is measured."""


class Signals:
    """Samples the losses' gradients on the encoder, each ``every`` updates, beside the training.

    Call :meth:`before_update` before each update at which something is :meth:`due`.
    """

    def __init__(self, agent: Agent, every: int) -> None:
        self._agent, self._every = agent, every
        self._weights: dict[int, dict[Loss, torch.Tensor]] = {}

    def due(self, update: int) -> bool:
        """Whether a sample is due before this update, or the starting weights of a later one."""
        return self._sampled(update) or self._sampled(update + WAY)

    def before_update(self, update: int, batch: Batch, seed: int) -> dict[str, float | None] | None:
        """A sample on ``batch``, keyed as in ``training.parquet``; None if weights are all."""
        if self._sampled(update + WAY):
            self._weights[update + WAY] = {
                "critic": _weights(self._agent, "critic"),
                "vae": _weights(self._agent, "vae"),
            }
        if not self._sampled(update):
            return None
        return encoder_signals(self._agent, batch, seed, self._weights.pop(update, None))

    def state(self) -> list[tuple[int, dict[str, torch.Tensor]]]:
        """The weights that samples to come will be compared with, by those samples' updates."""
        return [(u, {str(loss): w for loss, w in by.items()}) for u, by in self._weights.items()]

    def restore(self, state: list[tuple[int, dict[str, torch.Tensor]]]) -> None:
        """Go on from a :meth:`state`."""
        self._weights = {u: {"critic": by["critic"], "vae": by["vae"]} for u, by in state}

    def _sampled(self, update: int) -> bool:
        return update % self._every == 0


def encoder_signals(
    agent: Agent, batch: Batch, seed: int, earlier: dict[Loss, torch.Tensor] | None = None
) -> dict[str, float | None]:
    """The critic's and the VAE's gradients on the encoder that each of them reads.

    All are computed on one batch at the same weights, with the features attached to each loss, and
    apart from ``.grad``; noise comes from ``seed``. ``grad_q`` and ``grad_v`` are of the critic
    loss's two terms, each taken alone and whole, also where the routing cuts one of them off.
    ``moved_critic`` and ``moved_vae`` are cosines between minus the loss's gradient and the
    displacement of its encoder from the ``earlier`` flat weights. None marks what is undefined: all
    of it without an encoder (``observation: state``), ``grad_v`` without a V, and cosines where a
    vector is zero, the two losses read separate encoders, or there are no earlier weights.
    """
    names = ("grad_critic", "grad_vae", "grad_cosine", "grad_q", "grad_v")
    signals = dict[str, float | None].fromkeys((*names, "moved_critic", "moved_vae"))
    if not list(agent.encoder("critic").parameters()):
        return signals
    with agent.noise_from(seed):
        fixed = agent.fix(batch)
        features = agent.features(fixed.obs, batch.proprio_BP)
        terms = agent.critic_terms(features, batch, fixed)
        grads = {name: _gradient(agent, "critic", term) for name, term in terms.items()} | {
            "critic": _gradient(agent, "critic", agent.critic_loss(features, batch, fixed)[0]),
            "vae": _gradient(agent, "vae", agent.vae_loss(features, batch, fixed)[0]),
        }
    norms = {f"grad_{name}": grad.norm() for name, grad in grads.items()}
    cosines = {}
    if agent.encoder("critic") is agent.encoder("vae"):
        cosines["grad_cosine"] = _cosine(grads["critic"], grads["vae"])
    for loss, weights in (earlier or {}).items():
        way = _weights(agent, loss) - weights
        cosines[f"moved_{loss}"] = _cosine(way, -grads[loss])
    values = torch.stack([*norms.values(), *cosines.values()]).tolist()  # one copy
    found = dict(zip([*norms, *cosines], values, strict=True))
    return signals | {
        name: None if name in cosines and math.isnan(value) else value
        for name, value in found.items()
    }


def _gradient(agent: Agent, reader: Loss, loss: torch.Tensor) -> torch.Tensor:
    parameters = list(agent.encoder(reader).parameters())
    return _flat(torch.autograd.grad(loss, parameters, retain_graph=True))


def _weights(agent: Agent, reader: Loss) -> torch.Tensor:
    parameters = list(agent.encoder(reader).parameters())
    return _flat(p.detach() for p in parameters) if parameters else torch.empty(0)


def _flat(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.double().flatten() for tensor in tensors])


def _cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """NaN where a vector is zero."""
    return one @ other / (one.norm() * other.norm())
