"""Which loss trains the pixel encoder: the table of variants, and what each one does.

One training step of the shared agent is a loop over three losses, in this order::

    for loss in critic, vae, actor:
        optimizer[loss].zero_grad()
        loss.backward()
        optimizer[loss].step()

A :class:`Routing` says two things about that loop. *Who holds the encoder*: which optimizers
have its parameters (``own`` is a fourth optimizer for the encoder alone, zeroed before the critic's
backward pass and stepped after the VAE's). And *what becomes of each loss's gradient* on it:

- ``applied``: it reaches the encoder and an optimizer steps along it;
- ``dropped``: it is computed, lies in ``.grad``, and dies in a ``zero_grad`` before any step;
- ``detached``: the loss sees the features without their graph, so nothing is computed.

The second follows from the first and from which losses are attached, so it is not taken on trust:
:func:`trace` plays the loop through symbolically, and a definition whose flows are not what the
loop would do is refused with the reason. That is how the accident in the brief's first loop (the
critic's gradient computed, then wiped by the VAE optimizer's ``zero_grad``) becomes a line of a
table: ``before`` declares ``critic: dropped``, and the loop agrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

Loss = Literal["critic", "vae", "actor"]
Flow = Literal["applied", "dropped", "detached"]
Holder = Literal["critic", "vae", "actor", "own"]

LOSSES: tuple[Loss, ...] = get_args(Loss)
"""The losses of one training step, in the order of the loop."""


class RoutingError(ValueError):
    """A routing that makes no sense; the message says why and what to do."""


@dataclass(frozen=True)
class Routing:
    """One variant: which optimizers hold the encoder, and what each loss does to it.

    Raises :class:`RoutingError` where the declared flows are not what the training loop would do.
    """

    name: str
    encoder_in: tuple[Holder, ...]
    critic: Flow
    vae: Flow
    actor: Flow
    why: str = ""

    def __post_init__(self) -> None:
        if len(set(self.encoder_in)) != len(self.encoder_in):
            raise RoutingError(f"'{self.name}' names an optimizer twice in encoder_in")
        if "own" in self.encoder_in and len(self.encoder_in) > 1:
            raise RoutingError(
                f"'{self.name}' puts the encoder into an optimizer of its own and into others; "
                "choose one: encoder_in: [own], or a list without 'own'"
            )
        for loss, actual in trace(self).items():
            declared = self.flow(loss)
            if declared != actual:
                raise RoutingError(
                    f"'{self.name}' declares {loss}: {declared}, but with encoder_in: "
                    f"[{', '.join(self.encoder_in)}] that gradient would be {actual}; "
                    f"write {loss}: {actual}, or put the encoder into another optimizer"
                )

    def flow(self, loss: Loss) -> Flow:
        """What becomes of the gradient of ``loss`` on the encoder."""
        return {"critic": self.critic, "vae": self.vae, "actor": self.actor}[loss]

    def attached(self, loss: Loss) -> bool:
        """Whether the features keep their graph in ``loss``: its gradient is computed."""
        return self.flow(loss) != "detached"

    def moved_by(self, loss: Loss) -> bool:
        """Whether the encoder's weights may change in the step of ``loss``."""
        return loss in self.encoder_in or (loss == "vae" and "own" in self.encoder_in)


def trace(routing: Routing) -> dict[Loss, Flow]:
    """What the training loop does with each attached loss's gradient on the encoder.

    Plays two steps symbolically, with sets of loss names in the place of ``.grad``; the second
    step shows what happens to a gradient that outlives the first.
    """
    grad: set[Loss] = set()
    applied: set[Loss] = set()
    holders = routing.encoder_in
    for _ in range(2):
        if "own" in holders:
            grad.clear()
        for loss in LOSSES:
            if loss in holders:
                grad.clear()
            if routing.attached(loss):
                grad.add(loss)
            if routing.moved_by(loss):
                applied |= grad
    return {
        loss: "detached"
        if not routing.attached(loss)
        else ("applied" if loss in applied else "dropped")
        for loss in LOSSES
    }


_TABLE = (
    Routing(
        "before", ("vae",), critic="dropped", vae="applied", actor="detached",
        why="the brief's first loop: the critic's gradient is computed, then wiped by the VAE "
        "optimizer's zero_grad",
    ),
    Routing(
        "after", ("critic",), critic="applied", vae="detached", actor="detached",
        why="the brief's second loop: the encoder moves to the critic's optimizer",
    ),
    Routing(
        "vae-only", ("vae",), critic="detached", vae="applied", actor="detached",
        why="must end in the very weights of 'before', cheaper: a built-in check",
    ),
    Routing(
        "joint-sum", ("own",), critic="applied", vae="applied", actor="detached",
        why="one optimizer for the encoder, along the sum of both gradients",
    ),
    Routing(
        "joint-two", ("critic", "vae"), critic="applied", vae="applied", actor="detached",
        why="both optimizers hold and step it; Adam's normalisation sets it apart from joint-sum",
    ),
    Routing(
        "frozen", (), critic="detached", vae="detached", actor="detached",
        why="random features: what the rest of the agent does without a trained encoder",
    ),
)  # fmt: skip

REGISTRY: dict[str, Routing] = {routing.name: routing for routing in _TABLE}
"""The named variants, by name."""


class RoutedOptimizers:
    """The Adam optimizers of one agent, with the encoder where the routing puts it.

    ``heads`` maps each loss to the module that it trains; ``encoder_lr`` is the encoder's learning
    rate in whichever optimizer holds it, so that moving it does not also change its step size.
    """

    def __init__(
        self,
        routing: Routing,
        encoder: nn.Module,
        heads: Mapping[Loss, nn.Module],
        learning_rates: Mapping[Loss, float],
        encoder_lr: float,
    ) -> None:
        self.routing = routing
        encoder_group = {"params": list(encoder.parameters()), "lr": encoder_lr}
        self.by_name: dict[Holder, torch.optim.Optimizer] = {}
        for loss, head in heads.items():
            groups = [{"params": list(head.parameters()), "lr": learning_rates[loss]}]
            if loss in routing.encoder_in:
                groups.append(encoder_group)
            self.by_name[loss] = torch.optim.Adam(groups, fused=True)
        if "own" in routing.encoder_in:
            self.by_name["own"] = torch.optim.Adam([encoder_group], fused=True)

    def step(self, loss_name: Loss, loss: torch.Tensor, *, retain_graph: bool = False) -> None:
        """One turn of the training loop: clear, backpropagate, step.

        ``retain_graph`` keeps the features' graph for a later loss that shares it.
        """
        own = self.by_name.get("own")
        if own and loss_name == LOSSES[0]:
            own.zero_grad()
        self.by_name[loss_name].zero_grad()
        loss.backward(retain_graph=retain_graph)
        self.by_name[loss_name].step()
        if own and loss_name == "vae":
            own.step()
