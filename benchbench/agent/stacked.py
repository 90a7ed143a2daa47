"""Several agents of one kind trained as one program: a GPU is not filled by one small agent.

A :class:`Stack` lays the weights of N agents into tensors with N in front and leaves the agents
views of their own slices. So an agent of a stack can be evaluated, measured, hashed or checkpointed
as any other. The stack runs the same ``update`` of the agents' class: what that calls (``fix``, the
encoder, each loss) is mapped over the agents by ``torch.func.vmap``, and one set of optimizers
steps for all. Adam is elementwise, and a sum of losses that share no weights has each one's
gradient, so this is the training of separate agents, up to rounding.

Each agent draws its own shifts and noise from its own streams. Shape suffixes: see ``networks.py``;
N agents in front of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from benchbench.agent.base import PixelAgent
from benchbench.agent.networks import PixelEncoder
from benchbench.agent.protocol import Features, Info
from benchbench.data.batch import Batch
from benchbench.routing import Loss, RoutedOptimizers

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What Adam keeps for each weight, beside the number of its steps."""


class Stack:
    """N agents of one class with equal settings and routing; see the module's docstring.

    Call :meth:`separate` before an agent's gradients or optimizers are read or it is updated on its
    own, and :meth:`join` after the latter.
    """

    def __init__(self, agents: Sequence[PixelAgent]) -> None:
        self.agents = list(agents)
        first, kind = self.agents[0], type(self.agents[0])
        self._all = cast(_All, _derived(first, _All, kind))
        self._all.lay_out(self.agents, cast(_Each, _derived(first, _Each, kind)))
        both = list(self._all.optimizers.by_name.items())
        self._weights = list(zip(self._all._online, *(a._online for a in agents), strict=True))
        self._stepped = [
            row
            for holder, together in both
            for row in zip(
                _turns(together),
                *(_turns(agent.optimizers.by_name[holder]) for agent in self.agents),
                strict=True,
            )
        ]
        self.join()

    def update(self, batches: Sequence[Batch]) -> list[Info]:
        """One update of each agent on its batch; returns the losses of each."""
        shifted = [
            replace(b, obs=a._augmented(b.obs), next_obs=a._augmented(b.next_obs))
            for a, b in zip(self.agents, batches, strict=True)
        ]
        batch = Batch(
            **{f.name: stacked([getattr(b, f.name) for b in shifted]) for f in fields(Batch)}
        )
        self._all.follow(self.agents[0].routing)
        info: Info = self._all.update(batch)  # type: ignore[attr-defined]
        return [{name: value[k] for name, value in info.items()} for k in range(len(self.agents))]

    @torch.no_grad()
    def separate(self) -> None:
        """Give the agents what they do not see through their views: gradients and step counts."""
        for together, *own in self._weights:
            for k, weight in enumerate(own):
                weight.grad = None if together.grad is None else together.grad[k].clone()
        for (optimizer, together), *turns in self._stepped:
            if optimizer.state[together]:
                whole = optimizer.state[together]
                for k, (mine, weight) in enumerate(turns):
                    mine.state[weight] = {
                        "step": whole["step"].clone(),
                        **{moment: whole[moment][k] for moment in MOMENTS},
                    }
        for agent in self.agents:
            for name in agent.counters:
                setattr(agent, name, getattr(self._all, name))

    @torch.no_grad()
    def join(self) -> None:
        """Take over the agents' gradients, moments and counts; all must be at the same update."""
        for together, *own in self._weights:
            grads = [weight.grad for weight in own if weight.grad is not None]
            together.grad = stacked(grads) if grads else None
        for (optimizer, together), *turns in self._stepped:
            states = [mine.state[weight] for mine, weight in turns]
            if states[0]:
                optimizer.state[together] = {
                    "step": states[0]["step"].clone(),
                    **{moment: stacked([s[moment] for s in states]) for moment in MOMENTS},
                }
        for name in self._all.counters:
            setattr(self._all, name, getattr(self.agents[0], name))


class _Each(PixelAgent):
    """One agent as ``vmap`` sees it: its shifts are made already, its noise is drawn for all."""

    agents: Sequence[PixelAgent]
    place: Tensor
    """Which of them this is; inside ``vmap`` another number for each."""

    def _augmented(self, obs: Tensor) -> Tensor:
        return obs

    def _normal(self, purpose: str, like: Tensor) -> Tensor:
        drawn = torch.stack([agent._normal(purpose, like) for agent in self.agents])
        return drawn.index_select(0, self.place.reshape(1)).squeeze(0)


class _All(PixelAgent):
    """All agents as their class's ``update`` sees them: one, with N in front of its tensors."""

    def lay_out(self, agents: Sequence[PixelAgent], each: _Each) -> None:
        """Move the agents' weights together; they keep views. ``each`` is what is mapped."""
        self._each, each.agents = each, agents
        for name, module in everything(each).named_children():
            setattr(each, name, copy.deepcopy(module))
        self._called = _Called(each)
        theirs = [everything(agent) for agent in agents]
        together = copy.deepcopy(theirs[0])
        parameters = zip(together.parameters(), *(m.parameters() for m in theirs), strict=True)
        buffers = zip(*(m.buffers() for m in theirs), strict=True)
        for whole, *slices in parameters:
            whole.data = stacked([one.data for one in slices])
            for k, one in enumerate(slices):
                one.data = whole.data[k]
        names = [name for name, _ in together.named_parameters()]
        self._state: dict[str, Tensor] = dict(zip(names, together.parameters(), strict=True))
        names = [name for name, _ in together.named_buffers()]
        self._state |= dict(zip(names, map(stacked, buffers), strict=True))
        for name, module in together.named_children():
            setattr(self, name, module)
        self._place_N = torch.arange(len(agents), device=self.device)
        self._constants = {
            name: torch.stack([getattr(a, name) for a in agents]) for name in self.constants
        }
        self._bounds = {
            name: torch.tensor([getattr(a.spec, name) for a in agents], device=self.device)
            for name in ("min_value", "max_value")
        }
        self._settle(_Optimizers)
        cast(_Optimizers, self.optimizers).agents = agents

    def fix(self, batch: Batch) -> Any:
        with torch.no_grad():
            return self._mapped("fix", batch)

    def _encode(self, obs: Tensor, batch: Batch, grad: bool) -> Features:
        with torch.set_grad_enabled(grad):
            return cast(Features, self._mapped("features", obs, batch.proprio_BP))

    def critic_loss(self, *given: Any) -> tuple[Tensor, Info]:
        return self._loss("critic_loss", *given)

    def vae_loss(self, features: Features, batch: Batch, fixed: Any) -> tuple[Tensor, Info]:
        if self.routing.vae_weights == "none" and features.vae.requires_grad:
            # As in LAPO's, whose hook does not see the graph from within vmap.
            weight_NB = self._mapped("sample_weights", features, batch, fixed)
            feature_NBF = features.vae.view_as(features.vae)
            feature_NBF.register_hook(lambda grad_NBF: grad_NBF / weight_NB[..., None])
            features = features._replace(vae=feature_NBF)
        return self._loss("vae_loss", features, batch, fixed)

    def actor_loss(self, *given: Any) -> tuple[Tensor, Info]:
        return self._loss("actor_loss", *given)

    def _loss(self, name: str, *given: Any) -> tuple[Tensor, Info]:
        loss_N, info = self._mapped(name, *given)
        return loss_N.sum(), info

    def _mapped(self, name: str, *given: Any) -> Any:
        """What each agent's method gives for its slices of ``given``, with N in front of it.

        Dataclasses pass as dictionaries, as ``vmap`` looks into no others.
        """
        each, kinds, made = self._each, [type(one) for one in given], list[type]()
        for counter in self.counters:
            setattr(each, counter, getattr(self, counter))

        def one(state: Any, place: Tensor, constants: Any, bounds: Any, given: Any) -> Any:
            each.place, each.spec = place, replace(self.spec, **bounds)
            for constant, value in constants.items():
                setattr(each, constant, value)
            given = [
                kind(**some) if is_dataclass(kind) else some
                for kind, some in zip(kinds, given, strict=True)
            ]
            result = functional_call(self._called, state, (name, *given))
            if not is_dataclass(result):
                return result
            made.append(type(result))
            return vars(result)

        plain = [vars(some) if is_dataclass(some) else some for some in given]
        mapped = vmap(one, randomness="same")
        result = mapped(self._state, self._place_N, self._constants, self._bounds, plain)
        return made[0](**result) if made else result


class _Called(nn.Module):
    """An agent's methods as a module's ``forward``, so that its weights can be put in by name."""

    def __init__(self, each: _Each) -> None:
        super().__init__()
        for name, module in everything(each).named_children():
            self.add_module(name, module)
        self._agent = (each,)
        for module in self.modules():
            if isinstance(module, PixelEncoder):
                module.in_place = False
            elif isinstance(module, nn.GroupNorm):
                module.__class__ = MappedGroupNorm

    def forward(self, method: str, *given: Any) -> Any:
        return getattr(self._agent[0], method)(*given)


class MappedGroupNorm(nn.GroupNorm):
    """The same by its formula: PyTorch's own kernel asks for a layout that ``vmap`` hides."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(x - mean) / sqrt(variance + eps) over each group, then weight and bias by channel."""
        groups = x_BCHW.unflatten(1, (self.num_groups, -1)).flatten(2)
        variance, mean = torch.var_mean(groups, 2, correction=0, keepdim=True)
        normed_BCHW = ((groups - mean) * (variance + self.eps).rsqrt()).view_as(x_BCHW)
        return normed_BCHW * self.weight[:, None, None] + self.bias[:, None, None]


class _Optimizers(RoutedOptimizers):
    """The routed optimizers of stacked weights."""

    agents: Sequence[PixelAgent]

    def _project(self, loss_name: Loss) -> None:
        """Each agent projects its own gradients, of which it gets views."""
        for k, agent in enumerate(self.agents):
            for together, own in zip(self._encoder, agent.optimizers._encoder, strict=True):
                assert together.grad is not None
                own.grad = together.grad[k]
            agent.optimizers._project(loss_name)


def everything(agent: PixelAgent) -> nn.ModuleDict:
    """All modules of an agent by the attributes that hold them, its target copies among them."""
    targets = {f"{name}_target": module for name, module in agent.target_modules().items()}
    return nn.ModuleDict(agent.modules() | targets)


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors with N in front; where channels are last in memory they stay so."""
    if tensors[0].dim() != 4:
        return torch.stack(list(tensors))
    return torch.stack([one.permute(0, 2, 3, 1) for one in tensors]).permute(0, 1, 4, 2, 3)


def _derived(agent: PixelAgent, part: type[PixelAgent], kind: type[PixelAgent]) -> PixelAgent:
    """A copy of the agent that is of both classes, with its modules still shared."""
    made = copy.copy(agent)
    made.__class__ = type(f"{part.__name__}{kind.__name__}", (part, kind), {})
    return made


def _turns(optimizer: torch.optim.Optimizer) -> list[tuple[torch.optim.Optimizer, Tensor]]:
    return [(optimizer, p) for group in optimizer.param_groups for p in group["params"]]
