"""The gradient ledger: what becomes of every gradient of a real training step.

A :class:`Ledger` stands beside two consecutive updates and looks at ``.grad`` before and after
every ``backward``, ``zero_grad`` and ``step``. For each loss and module of the first update it
books three norms: *computed* (what the loss's backward pass added), *applied* (what of that was in
``.grad`` when an optimizer that holds the parameters stepped) and *dropped* (what a ``zero_grad``
wiped before any step). The second update is watched only to see the first one's gradients end.
Nothing is derived from the variant's definition; :func:`check_routing` compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

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


@dataclass
class _Share:
    """One loss's gradient on one parameter, from its backward pass to its end."""

    loss: Loss
    module: str
    grad: torch.Tensor
    first_update: bool
    applied: bool = False


class Ledger:
    """Watches the optimizers of an agent; see the module's docstring."""

    def __init__(self, modules: Mapping[str, nn.Module], optimizers: RoutedOptimizers) -> None:
        self._module_of: dict[torch.Tensor, str] = {
            p: name for name, m in modules.items() for p in m.parameters()
        }
        self._optimizers = optimizers
        self._open: dict[torch.Tensor, list[_Share]] = {p: [] for p in self._module_of}
        for parameter in modules["obs_encoder"].parameters():
            # What outlived an earlier update may be stepped along in the first one that is watched.
            # It is not booked, so it does not matter whose it is.
            if parameter.grad is not None and parameter.grad.any():
                share = _Share(LOSSES[0], "obs_encoder", parameter.grad.clone(), False)
                self._open[parameter].append(share)
        self._squares: dict[tuple[Loss, str, str], float] = {}
        self._mismatch: dict[tuple[Loss, str], float] = {}
        self._names = list(modules)
        self._first_update = True

    def watch(self, update: Callable[[], Result]) -> Result:
        """Run one update under watch; call it for two consecutive updates, then read."""
        with self._patched():
            result = update()
        self._first_update = False
        return result

    def entries(self) -> list[Entry]:
        """One entry for every loss and module, zeros where nothing happened."""
        return [
            Entry(
                loss,
                module,
                computed=self._norm(loss, module, "computed"),
                applied=self._norm(loss, module, "applied"),
                dropped=self._norm(loss, module, "dropped"),
                mismatch=self._mismatch.get((loss, module), 0.0),
            )
            for loss in LOSSES
            for module in self._names
        ]

    @contextmanager
    def _patched(self) -> Iterator[None]:
        """Route the agent's optimizer calls through this ledger for the length of a block."""
        undo: list[tuple[object, str]] = []

        def patch(owner: object, name: str, replacement: Callable[..., Any]) -> None:
            undo.append((owner, name))
            setattr(owner, name, replacement)

        turn, backward = self._optimizers.step, torch.Tensor.backward
        loss_now: list[Loss] = []

        def watched_turn(loss_name: Loss, loss: torch.Tensor, **options: Any) -> None:
            loss_now.append(loss_name)
            turn(loss_name, loss, **options)
            loss_now.pop()

        def watched_backward(loss: torch.Tensor, *args: Any, **options: Any) -> None:
            before = {p: _copy(p.grad) for p in self._module_of}
            backward(loss, *args, **options)
            self._book_backward(loss_now[-1], before)

        patch(self._optimizers, "step", watched_turn)
        for optimizer in self._optimizers.by_name.values():
            patch(optimizer, "zero_grad", self._watched_zero_grad(optimizer))
            patch(optimizer, "step", self._watched_step(optimizer))
        try:
            torch.Tensor.backward = watched_backward  # type: ignore[method-assign,assignment]
            yield
        finally:
            torch.Tensor.backward = backward  # type: ignore[method-assign]
            for owner, name in undo:
                delattr(owner, name)  # the class's own method shows again

    def _watched_zero_grad(self, optimizer: torch.optim.Optimizer) -> Callable[..., None]:
        original = optimizer.zero_grad

        def zero_grad(*args: Any, **options: Any) -> None:
            original(*args, **options)
            for parameter in self._parameters(optimizer):
                if parameter.grad is None or not parameter.grad.any():
                    for share in self._open[parameter]:
                        if not share.applied:
                            self._add(share, "dropped")
                    self._open[parameter].clear()

        return zero_grad

    def _watched_step(self, optimizer: torch.optim.Optimizer) -> Callable[..., Any]:
        original = optimizer.step

        def step(*args: Any, **options: Any) -> Any:
            off: dict[str, float] = {}
            size: dict[str, float] = {}
            for parameter in self._parameters(optimizer):
                if parameter.grad is None:
                    continue
                module = self._module_of[parameter]
                booked = sum(
                    share.grad
                    for share in self._open[parameter]
                    if not share.applied  # what was stepped along before is stale
                )
                off[module] = off.get(module, 0.0) + _square(parameter.grad - booked)
                size[module] = size.get(module, 0.0) + _square(parameter.grad)
                for share in self._open[parameter]:
                    if not share.applied:
                        self._add(share, "applied")
                    share.applied = True
                    error = (off[module] / size[module]) ** 0.5 if size[module] else 0.0
                    if share.first_update:
                        self._mismatch[share.loss, module] = error
            return original(*args, **options)

        return step

    def _book_backward(self, loss: Loss, before: dict[torch.Tensor, torch.Tensor | None]) -> None:
        for parameter, module in self._module_of.items():
            if parameter.grad is None:
                continue
            earlier = before[parameter]
            added = parameter.grad.clone() if earlier is None else parameter.grad - earlier
            share = _Share(loss, module, added, self._first_update)
            if added.any():
                self._open[parameter].append(share)
                self._add(share, "computed")

    def _add(self, share: _Share, kind: str) -> None:
        if share.first_update:
            key = (share.loss, share.module, kind)
            self._squares[key] = self._squares.get(key, 0.0) + _square(share.grad)

    def _norm(self, loss: Loss, module: str, kind: str) -> float:
        return self._squares.get((loss, module, kind), 0.0) ** 0.5

    def _parameters(self, optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
        for group in optimizer.param_groups:
            yield from group["params"]


def check_routing(entries: list[Entry], routing: Routing, tolerance: float = 1e-5) -> None:
    """Compare the measured fate of each loss's gradient on the encoder with the definition.

    Raises :class:`RoutingMismatch` where they differ, or where the gradient at a step is not the
    sum of the routed losses' gradients to a relative error of ``tolerance``.
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
        if entry.mismatch > tolerance:
            raise RoutingMismatch(
                f"variant '{routing.name}': at the encoder's step .grad differs from the routed "
                f"losses' gradients by {entry.mismatch:.1e} of its norm"
            )


def _copy(grad: torch.Tensor | None) -> torch.Tensor | None:
    return None if grad is None else grad.clone()


def _square(tensor: torch.Tensor) -> float:
    return float(tensor.double().square().sum())
