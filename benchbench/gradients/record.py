"""What a watch records: the events of ``.grad``, and each backward pass's share of a gradient."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from benchbench.gradients.graph import Paths

EARLIER = "a gradient from before the watch"
UNSEEN = "an unseen backward pass"
NOT_LOSSES: frozenset[Hashable] = frozenset({EARLIER, UNSEEN})
"""Stand in place of a share's loss for gradients that no watched backward pass made."""

BY_HAND = "code outside zero_grad()"
"""Stands in place of an optimizer for gradients that were cleared without one."""
BY_CODE = "code outside step()"
"""Stands in place of an optimizer for weights that were changed without one."""
UNNAMED = "(unnamed)"
"""The module of parameters that an optimizer holds and no named module has."""

EventKind = Literal["backward", "grad", "zero_grad", "step", "skipped"]


@dataclass(frozen=True)
class Term:
    """One summand of a loss, differentiated on its own at one backward pass."""

    name: str
    factor: float
    """What it is multiplied by in the loss."""
    norms: dict[str, float]
    """L2 norm of the term's own gradient (without the factor), by module."""
    paths: Paths = field(default_factory=Paths, compare=False)
    """How the term's gradient travels between modules."""


@dataclass
class Event:
    """One thing that happened to ``.grad``."""

    step: int
    """Which of the watched training steps, from 1."""
    kind: EventKind
    """``grad`` is a call of ``torch.autograd.grad``; ``skipped`` a step that a GradScaler left
    out because a gradient was not finite."""
    by: Any
    """The loss, or the name of the optimizer."""
    paths: Paths | None = None
    """Of a backward pass: how its gradient travelled between modules."""
    terms: tuple[Term, ...] = ()
    """Of a backward pass of a sum: its summands, where they were taken apart."""
    error: dict[str, float] = field(default_factory=dict)
    """Of a step, by module: relative error of ``.grad`` against the gradients due."""
    scale: dict[str, float] = field(default_factory=dict)
    """Of a step, by module: what ``.grad`` was multiplied by since, as clipping does."""
    found: int = 0
    """Of a step: how many held parameters had a gradient that is not zero."""

    def __str__(self) -> str:
        name = str(self.by)
        if name in (BY_HAND, BY_CODE):
            return name
        if self.kind == "grad":
            return f"autograd.grad of {name}"
        end = "step() skipped" if self.kind == "skipped" else f"{self.kind}()"
        return f"{name}.{end}" if re.fullmatch(r"[\w.\[\]]+", name) else f"{name}: {end}"


@dataclass(eq=False)
class Share:
    """What one backward pass added to one parameter's ``.grad``, from then to its end."""

    loss: Any
    module: str
    parameter: torch.Tensor
    step: int
    born: int
    """Position among the events, as in ``applied``, ``survived``, ``skipped`` and ``ended``."""
    square: float
    """Its squared norm; not finite where the gradient is not."""
    grad: torch.Tensor | None
    """Freed when nothing can be learned from it any more."""
    factor: float = 1.0
    """The constant that the named loss was multiplied by before ``backward()``."""
    returned: bool = False
    """Whether ``torch.autograd.grad`` handed it to the code, and did not put it into ``.grad``."""
    applied: list[int] = field(default_factory=list)
    """The steps that found it in ``.grad``, or moved the weights along it."""
    survived: list[int] = field(default_factory=list)
    """Calls of ``zero_grad`` by a holder that left it where it was."""
    skipped: list[int] = field(default_factory=list)
    """Steps that a GradScaler left out while it was in ``.grad``."""
    ended: int | None = None
    """What cleared it."""
    recombined: bool = False
    """Whether it was cleared first and then put back, by itself or in a sum with others."""
    rewritten: bool = False
    """Whether ``.grad`` was written to by hand after it was cleared, in a way not understood."""
    mismatch: float = 0.0
    """The error, as in :class:`Event`, at the last step that found it."""

    @property
    def dropped(self) -> bool:
        """Whether it was cleared before any step."""
        return self.ended is not None and not self.applied

    @property
    def own_square(self) -> float:
        """Squared norm of the named loss's own gradient, its constant factor taken out."""
        return self.square / self.factor**2


def square(tensor: torch.Tensor) -> float:
    """Squared L2 norm, summed in double precision."""
    return float(tensor.double().square().sum())


def dense(grad: torch.Tensor | None) -> torch.Tensor | None:
    """A dense copy outside the graph."""
    if grad is None:
        return None
    grad = grad.detach()
    return grad.clone() if grad.layout == torch.strided else grad.to_dense()


def is_clear(parameter: torch.Tensor) -> bool:
    """Whether ``.grad`` is None or zero throughout."""
    grad = parameter.grad
    if grad is not None and grad.layout != torch.strided:
        grad = dense(grad)
    return grad is None or not grad.any()
