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

Six settings cover what else variants differ in: ``encoders`` (one for all networks, or one for
each), ``critic_terms`` (whether the Q or the V part of the critic loss is cut off from the
encoder), ``vae_weights`` (whether the VAE's gradient on the encoder keeps its advantage weights),
``clear`` (``zero_grad`` before the backward pass, or after the step, so that what comes in between
outlives it), ``combine`` (how the two gradients in an optimizer of its own become one) and
``encoder_until`` (the share of training after which the encoder stands still).

The second follows from the first and from which losses are attached, so it is not taken on trust:
:func:`trace` plays the loop through symbolically, and a definition whose flows are not what the
loop would do is refused with the reason. That is how the accident in the brief's first loop (the
critic's gradient computed, then wiped by the VAE optimizer's ``zero_grad``) becomes a line of a
table: ``before`` declares ``critic: dropped``, and the loop agrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:  # the command line reads the table at once; torch takes seconds to import
    import torch
    from torch import nn

Loss = Literal["critic", "vae", "actor"]
Flow = Literal["applied", "dropped", "detached"]
Holder = Literal["critic", "vae", "actor", "own"]
Encoders = Literal["shared", "separate"]
CriticTerms = Literal["both", "q", "v"]
VaeWeights = Literal["advantage", "none"]
Clear = Literal["before", "after"]
Combine = Literal["sum", "pcgrad"]

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
    encoders: Encoders = "shared"
    critic_terms: CriticTerms = "both"
    vae_weights: VaeWeights = "advantage"
    clear: Clear = "before"
    combine: Combine = "sum"
    encoder_until: float = 1.0
    why: str = ""

    def __post_init__(self) -> None:
        for nonsense, reason in self._nonsense():
            if nonsense:
                raise RoutingError(f"'{self.name}' {reason}")
        for loss, actual in trace(self).items():
            declared = self.flow(loss)
            if declared != actual:
                raise RoutingError(
                    f"'{self.name}' declares {loss}: {declared}, but with encoder_in: "
                    f"[{', '.join(self.encoder_in)}] that gradient would be {actual}; "
                    f"write {loss}: {actual}, or put the encoder into another optimizer"
                )

    def _nonsense(self) -> tuple[tuple[bool, str], ...]:
        """What makes no sense whatever the loop does, and why."""
        holders, attached = self.encoder_in, [loss for loss in LOSSES if self.attached(loss)]
        return (
            (len(set(holders)) != len(holders), "names an optimizer twice in encoder_in"),
            (
                "own" in holders and len(holders) > 1,
                "puts the encoder into an optimizer of its own and into others; "
                "choose one: encoder_in: [own], or a list without 'own'",
            ),
            (
                self.encoders == "separate" and sorted(holders) != sorted(attached),
                "has separate encoders, so each belongs to its own network's optimizer: "
                f"write encoder_in: [{', '.join(attached)}], one for each loss that is applied",
            ),
            (
                self.combine == "pcgrad"
                and not ("own" in holders and {"critic", "vae"} <= set(attached)),
                "projects conflicting gradients, so it needs encoder_in: [own] and both critic and "
                "vae applied",
            ),
            (
                self.critic_terms != "both" and "critic" not in attached,
                f"lets only the {self.critic_terms} term of a detached critic loss through; "
                "take critic_terms out",
            ),
            (
                self.vae_weights == "none" and "vae" not in attached,
                "takes the weights from the gradient of a detached VAE loss; take vae_weights out",
            ),
            (
                not 0 < self.encoder_until <= 1,
                "trains the encoder for a share of the updates, encoder_until, which is above 0 "
                "and at most 1",
            ),
            (
                self.encoder_until < 1 and not attached,
                "stops training an encoder that no loss trains; take encoder_until out",
            ),
        )

    def at(self, done: float) -> Routing:
        """The routing in force when a share ``done`` of the updates has been made."""
        return self if done < self.encoder_until else self._stopped

    @cached_property
    def _stopped(self) -> Routing:
        """The same with an encoder that stands still; its features are detached in every loss."""
        return Routing(
            self.name, (), critic="detached", vae="detached", actor="detached",
            encoders=self.encoders, why=self.why,
        )  # fmt: skip

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
    step shows what happens to a gradient that outlives the first. Separate encoders have a set
    each, in which their own loss is the only one.
    """
    holders, clear_first = routing.encoder_in, routing.clear == "before"
    grads: dict[Loss, set[Loss]] = {}
    shared: set[Loss] = set()
    applied: set[Loss] = set()
    for _ in range(2):
        if "own" in holders and clear_first:
            shared.clear()
        for loss in LOSSES:
            grad = shared if routing.encoders == "shared" else grads.setdefault(loss, set())
            if loss in holders and clear_first:
                grad.clear()
            if routing.attached(loss):
                grad.add(loss)
            if routing.moved_by(loss):
                applied |= grad
                if not clear_first:
                    grad.clear()
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
    Routing(
        "separate", ("critic", "vae", "actor"), critic="applied", vae="applied", actor="applied",
        encoders="separate",
        why="one encoder for each network, as d3rlpy and OGBench have it",
    ),
    Routing(
        "q-only", ("critic",), critic="applied", vae="detached", actor="detached",
        critic_terms="q", why="'after', but the V term is cut off: is it Q that helps?",
    ),
    Routing(
        "v-only", ("critic",), critic="applied", vae="detached", actor="detached",
        critic_terms="v", why="'after', but the Q term is cut off: is it V that helps?",
    ),
    Routing(
        "vae-unweighted", ("vae",), critic="detached", vae="applied", actor="detached",
        vae_weights="none",
        why="the VAE's advantage weights carry value information; this keeps it from the encoder",
    ),
    Routing(
        "actor-too", ("critic", "actor"), critic="applied", vae="detached", actor="applied",
        why="the policy's gradient as well, as actor-critic agents from pixels are warned not to",
    ),
    Routing(
        "leak", ("critic",), critic="applied", vae="dropped", actor="detached",
        why="a near miss of the fix: the VAE is not detached, its gradient dies in a zero_grad",
    ),
    Routing(
        "leak-stale", ("critic",), critic="applied", vae="applied", actor="detached",
        clear="after",
        why="the other near miss: zero_grad after the step, so it joins the next critic step",
    ),
    Routing(
        "pcgrad", ("own",), critic="applied", vae="applied", actor="detached",
        combine="pcgrad",
        why="joint-sum with conflicting parts projected out (Yu et al. 2020)",
    ),
    Routing(
        "bpr", ("vae",), critic="detached", vae="applied", actor="detached",
        vae_weights="none", encoder_until=0.3,
        why="learned by imitating the data's actions, then frozen, as Zang et al. (2023) have it; "
        "but the other networks learn from the first update on",
    ),
)  # fmt: skip

REGISTRY: dict[str, Routing] = {routing.name: routing for routing in _TABLE}
"""The named variants, by name."""


class RoutedOptimizers:
    """The Adam optimizers of one agent, with the encoder where the routing puts it.

    ``heads`` maps each loss to the module that it trains. ``encoders`` maps each loss to the
    encoder that its network reads: the same one three times, or three. ``encoder_lr`` is its
    learning rate in whichever optimizer holds it, so that moving it does not change its step size.
    """

    def __init__(
        self,
        routing: Routing,
        encoders: Mapping[Loss, nn.Module],
        heads: Mapping[Loss, nn.Module],
        learning_rates: Mapping[Loss, float],
        encoder_lr: float,
    ) -> None:
        from torch.optim import Adam

        self.routing = routing
        self._encoder = list(encoders["critic"].parameters())
        self._heads = dict(heads)
        self._critic_grad: list[torch.Tensor] = []
        self.by_name: dict[Holder, torch.optim.Optimizer] = {}
        for loss, head in heads.items():
            groups = [{"params": list(head.parameters()), "lr": learning_rates[loss]}]
            if loss in routing.encoder_in:
                groups.append({"params": list(encoders[loss].parameters()), "lr": encoder_lr})
            self.by_name[loss] = Adam(groups, fused=True)
        if "own" in routing.encoder_in:
            self.by_name["own"] = Adam([{"params": self._encoder, "lr": encoder_lr}], fused=True)

    def step(self, loss_name: Loss, loss: torch.Tensor, *, retain_graph: bool = False) -> None:
        """One turn of the training loop: clear, backpropagate, step.

        ``retain_graph`` keeps the features' graph for a later loss that shares it.
        """
        turn = [self.by_name[loss_name]]
        own = self.by_name.get("own")
        if own and loss_name == "critic" and self.routing.clear == "before":
            own.zero_grad()
        if self.routing.clear == "before":
            turn[0].zero_grad()
        else:  # only the encoder's gradient may outlive its step
            self._heads[loss_name].zero_grad()
        loss.backward(retain_graph=retain_graph)
        if self.routing.combine == "pcgrad":
            self._project(loss_name)
        if own and loss_name == "vae":
            turn.append(own)
        for optimizer in turn:
            optimizer.step()
            if self.routing.clear == "after":
                optimizer.zero_grad()

    def _project(self, loss_name: Loss) -> None:
        """PCGrad (Yu et al. 2020, algorithm 1) for the two gradients on the encoder.

        After the critic's turn its gradient is remembered; after the VAE's backward pass, when
        ``.grad`` holds the sum, each gradient loses its component against the other.
        """
        import torch

        if loss_name == "critic":
            self._critic_grad = [_grad(p).clone() for p in self._encoder]
        elif loss_name == "vae":
            critic, tiny = self._critic_grad, torch.finfo(torch.float32).tiny
            vae = [_grad(p) - g for p, g in zip(self._encoder, critic, strict=True)]
            dot = torch.stack([(a * b).sum() for a, b in zip(critic, vae, strict=True)]).sum()
            critic_square, vae_square = (
                torch.stack([g.square().sum() for g in grads]).sum().clamp(min=tiny)
                for grads in (critic, vae)
            )
            conflict = dot.clamp(max=0.0)  # 0 where the gradients agree
            for parameter, a, b in zip(self._encoder, critic, vae, strict=True):
                _grad(parameter).copy_(
                    a * (1 - conflict / critic_square) + b * (1 - conflict / vae_square)
                )


def _grad(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad
