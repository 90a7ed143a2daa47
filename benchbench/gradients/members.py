"""Which parameters are whose: of modules by name, of optimizers, and of several modules at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


def named_parameters(module: nn.Module | torch.Tensor) -> dict[str, torch.Tensor]:
    """A module's parameters by their paths; a tensor is its own, without a path."""
    return {"": module} if isinstance(module, torch.Tensor) else dict(module.named_parameters())


def held_by(optimizer: Any) -> Iterator[torch.Tensor]:
    """All parameters of an optimizer."""
    for group in optimizer.param_groups:
        yield from group["params"]


def homes(
    named: Mapping[str, Mapping[str, torch.Tensor]],
) -> dict[torch.Tensor, tuple[str, str]]:
    """To which module each parameter is booked, and its path there.

    To the smallest that has it, where one is part of the other; what modules share of which none
    is part of the other gets a name of its own, ``a ∩ b``.
    """
    sets = {name: frozenset(map(id, of.values())) for name, of in named.items()}
    found: dict[torch.Tensor, tuple[str, str]] = {}
    every = {id(p): p for of in named.values() for p in of.values()}
    for key, parameter in every.items():
        owners = [name for name in named if key in sets[name]]
        owners = [
            name for name in owners
            if not any(sets[other] < sets[name] for other in owners)
        ]  # fmt: skip
        distinct = {sets[name]: name for name in reversed(owners)}
        names = [name for name in owners if name in distinct.values()]
        first = names[0]
        path = next(path for path, p in named[first].items() if p is parameter)
        found[parameter] = " ∩ ".join(names), path
    return found
