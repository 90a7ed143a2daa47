"""What a watch books: the events of ``.grad``, and each backward pass's share of a gradient."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

EARLIER = "a gradient from before the watch"
UNSEEN = "an unseen backward pass"
NOT_LOSSES: frozenset[Hashable] = frozenset({EARLIER, UNSEEN})
"""Stand where a share's loss would, for gradients that no watched backward pass made."""

BY_HAND = "code outside zero_grad()"
"""Stands where an optimizer would, for gradients that were cleared without one."""
UNNAMED = "(unnamed)"
"""The module of parameters that an optimizer holds and no named module has."""


@dataclass
class Event:
    """One thing that happened to ``.grad``."""

    step: int
    """Of the watched training steps, from 1."""
    kind: Literal["backward", "zero_grad", "step"]
    by: Any
    """The loss, or the name of the optimizer."""
    beyond: dict[str, set[str]] = field(default_factory=dict)
    """Of a backward pass: the modules that its gradient reaches only through each module."""
    error: dict[str, float] = field(default_factory=dict)
    """Of a step, by module: relative error of ``.grad`` against the gradients due."""
    scale: dict[str, float] = field(default_factory=dict)
    """Of a step, by module: what ``.grad`` was multiplied by since, as clipping does."""

    def __str__(self) -> str:
        name = str(self.by)
        if name == BY_HAND:
            return name
        end = f"{self.kind}()"
        return f"{name}.{end}" if name.isidentifier() else f"{name}: {end}"


@dataclass(eq=False)
class Share:
    """What one backward pass added to one parameter's ``.grad``, from then to its end."""

    loss: Any
    module: str
    parameter: torch.Tensor
    step: int
    born: int
    """Position among the events, as in ``applied``, ``survived`` and ``ended``."""
    square: float
    """Its squared norm."""
    grad: torch.Tensor | None
    """Freed when the share ends."""
    applied: list[int] = field(default_factory=list)
    """The steps that found it in ``.grad``."""
    survived: list[int] = field(default_factory=list)
    """Calls of ``zero_grad`` by a holder that left it where it was."""
    ended: int | None = None
    """What cleared it."""
    mismatch: float = 0.0
    """The error, as in :class:`Event`, at the last step that found it."""

    @property
    def dropped(self) -> bool:
        """Whether it was cleared before any step."""
        return self.ended is not None and not self.applied
