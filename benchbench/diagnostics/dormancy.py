"""Features of many rows, and the share of the encoder's units that are dormant on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from benchbench.agent.networks import cached_rows

TAU = 0.025
"""A unit is dormant at or below this share of its layer's mean activity (Sokar et al. 2023)."""

ROWS_AT_ONCE = 256
"""Rows in one pass: fastest on a CPU, and small enough for any memory."""


@torch.no_grad()
def encode(encoder: nn.Module, obs: torch.Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
    """Features (N, F) of observations, float64, and each layer's mean |activation| by unit.

    The layers are every ReLU, in the order in which they are computed, and the output; of a
    convolution a unit is a channel, averaged over the picture.

    Raises ``FloatingPointError`` where a feature is not a finite number.
    """
    features, sums = [], list[np.ndarray]()
    # An encoder that split a part by itself would show each of its ReLUs several times.
    for part in obs.split(min(ROWS_AT_ONCE, cached_rows(obs))):
        with _ReluOutputs() as relus:
            output = encoder(part)
        if not output.isfinite().all():
            raise FloatingPointError("the encoder's output is not a finite number")
        features.append(output.double().cpu().numpy())
        activity = [*relus.activity, _activity(output)]
        now = [layer.double().cpu().numpy() * len(part) for layer in activity]
        sums = [a + b for a, b in zip(sums, now, strict=True)] if sums else now
    return np.concatenate(features), [layer / len(obs) for layer in sums]


def dormant_share(activity: Sequence[np.ndarray], tau: float = TAU) -> float:
    """Share of all units that are τ-dormant: s = E|h| / mean of E|h| over the layer, s <= τ.

    ``activity`` holds E|h| of each layer's units (Sokar et al. 2023, "The dormant neuron
    phenomenon in deep reinforcement learning", definition 3.1). In a silent layer all
    units are dormant.
    """
    dormant = sum(int((layer <= tau * layer.mean()).sum()) for layer in activity)
    return dormant / sum(len(layer) for layer in activity)


class _ReluOutputs(TorchFunctionMode):
    """Records the output of every ReLU in a block, module or function, without changing it."""

    def __init__(self) -> None:
        super().__init__()
        self.activity: list[torch.Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _RELUS:
            self.activity.append(_activity(result))
        return result


_RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_}


def _activity(output: torch.Tensor) -> torch.Tensor:
    """Mean |activation| of each unit (dimension 1) over rows and places."""
    return output.abs().transpose(0, 1).flatten(1).mean(1)
