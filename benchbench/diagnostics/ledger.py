"""The gradient ledger: what becomes of every gradient of a real training step.

A :class:`Ledger` watches two consecutive updates of benchbench's agent. For each loss and module of
the first it books three norms: *computed* (what the loss's backward pass added), *applied* (what of
that was in ``.grad`` when an optimizer that holds the parameters stepped) and *dropped* (what was
wiped before any step). The second update is watched only to see the first one's gradients end.
Nothing is derived from the variant's definition; :func:`check_routing` compares the two.

The watching itself is :class:`~benchbench.gradients.watch.GradientWatch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from benchbench.gradients.record import Share
from benchbench.gradients.watch import GradientWatch
from benchbench.routing import LOSSES, Loss, RoutedOptimizers, Routing

Result = TypeVar("Result")


class RoutingMismatch(RuntimeError):
    """A variant's gradients did not go where its definition says."""


@dataclass
class Entry:
    """The ledger's line for one loss and module, in L2 norms."""

    loss: Loss
    module: str
    computed: float = 0.0
    applied: float = 0.0
    dropped: float = 0.0
    mismatch: float = 0.0
    """At a step: relative error of ``.grad`` against the sum of the gradients due at that step."""


class Ledger:
    """Watches the optimizers of an agent; see the module's docstring."""

    def __init__(self, modules: Mapping[str, nn.Module], optimizers: RoutedOptimizers) -> None:
        self._names = list(modules)
        self._turns = Turns(optimizers)
        by_name = {str(name): optimizer for name, optimizer in optimizers.by_name.items()}
        self._watch = GradientWatch(modules, by_name, self._turns.loss_of)

    def watch(self, update: Callable[[], Result]) -> Result:
        """Run one update under watch; call it for two consecutive updates, then read."""
        with self._turns.followed(), self._watch.step():
            return update()

    def entries(self) -> list[Entry]:
        """One entry for every loss and module, zeros where nothing happened."""
        return first_step_entries(self._watch.shares, self._names)


class Turns:
    """Tracks which loss an agent's loop is backpropagating."""

    def __init__(self, optimizers: RoutedOptimizers) -> None:
        self._optimizers = optimizers
        self._now: list[Loss] = []

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow ``RoutedOptimizers.step`` for the length of a block."""
        turn = self._optimizers.step

        def followed_turn(loss_name: Loss, *args: Any, **options: Any) -> None:
            self._now.append(loss_name)
            try:
                turn(loss_name, *args, **options)
            finally:
                self._now.pop()

        self._optimizers.step = followed_turn  # type: ignore[method-assign]
        try:
            yield
        finally:
            del self._optimizers.step  # the class's own method shows again

    def loss_of(self, tensors: Sequence[torch.Tensor]) -> Loss:
        """The loss that is being backpropagated."""
        if not self._now:
            raise RoutingMismatch("a backward pass ran outside RoutedOptimizers.step")
        return self._now[-1]


def first_step_entries(shares: Sequence[Share], modules: Sequence[str]) -> list[Entry]:
    """The entries of the first watched step, for every loss of the loop and every module."""
    table = {(loss, module): Entry(loss, module) for loss in LOSSES for module in modules}
    for share in shares:
        entry = table.get((share.loss, share.module))
        if entry is None or share.step != 1:
            continue
        entry.computed += share.square
        entry.applied += share.square if share.applied else 0.0
        entry.dropped += share.square if share.dropped else 0.0
        entry.mismatch = max(entry.mismatch, share.mismatch)
    for entry in table.values():
        entry.computed, entry.applied = entry.computed**0.5, entry.applied**0.5
        entry.dropped = entry.dropped**0.5
    return list(table.values())


def check_routing(entries: list[Entry], routing: Routing, tolerance: float = 1e-5) -> None:
    """Compare the measured fate of each loss's gradient on the encoder with the definition.

    Raises :class:`RoutingMismatch` where they differ, or where the gradient at a step is not the
    sum of the routed losses' gradients to a relative error of ``tolerance``; with PCGrad it is not
    meant to be.
    """
    for entry in entries:
        if entry.module != "obs_encoder":
            continue
        measured = (
            "detached"
            if entry.computed == 0
            else ("applied" if entry.applied > entry.dropped else "dropped")
        )
        declared = routing.flow(entry.loss)
        if measured != declared:
            raise RoutingMismatch(
                f"variant '{routing.name}': the {entry.loss} loss's gradient on the encoder is "
                f"declared {declared} and was {measured} (computed {entry.computed:.3g}, "
                f"applied {entry.applied:.3g}, dropped {entry.dropped:.3g})"
            )
        if routing.combine == "sum" and entry.mismatch > tolerance:
            raise RoutingMismatch(
                f"variant '{routing.name}': at the encoder's step .grad differs from the routed "
                f"losses' gradients by {entry.mismatch:.1e} of its norm"
            )
