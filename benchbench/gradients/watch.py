"""Watching where gradients go: every backward pass, ``zero_grad`` and ``step`` of real training.

A :class:`GradientWatch` stands beside a training step and compares ``.grad`` before and after what
the step does to it. What a backward pass adds to one parameter is a :class:`Share`; the watch books
when it was born, which optimizers stepped along it, and what cleared it. It assumes no order and
knows no agent: :class:`~benchbench.diagnostics.ledger.Ledger` reads it for benchbench's own, and
:func:`benchbench.audit` for anyone's.

The watched step computes what it always does, bit for bit: tensors are only read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from benchbench.gradients.record import BY_HAND, EARLIER, UNNAMED, UNSEEN, Event, Share


class Unwatchable(RuntimeError):
    """Training of a kind that cannot be watched; the message says why and what to do."""


class GradientWatch:
    """Books the gradients of training steps; see the module's docstring.

    ``modules`` may hold single tensors beside modules. A parameter of several of them is booked to
    the smallest, the first of equals. ``name_loss`` is asked at each outermost backward pass for
    the name of the tensors it starts from. ``paths`` asks for :attr:`Event.beyond`.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module | torch.Tensor],
        optimizers: Mapping[str, torch.optim.Optimizer],
        name_loss: Callable[[Sequence[torch.Tensor]], Hashable],
        paths: bool = False,
    ) -> None:
        self.events: list[Event] = []
        self.shares: list[Share] = []
        self.optimizers = dict(optimizers)
        self.home: dict[torch.Tensor, str] = {}
        self.path_of: dict[torch.Tensor, str] = {}
        self.steps = 0
        self._name_loss, self._paths = name_loss, paths
        named = {name: named_parameters(module) for name, module in modules.items()}
        for name in sorted(named, key=lambda name: sum(p.numel() for p in named[name].values())):
            for path, parameter in named[name].items():
                self.home.setdefault(parameter, name)
                self.path_of.setdefault(parameter, path)
        for optimizer in self.optimizers.values():
            for parameter in held_by(optimizer):
                self.home.setdefault(parameter, UNNAMED)
        self._open: dict[torch.Tensor, list[Share]] = {p: [] for p in self.home}
        self._in_backward = False

    def holders(self, parameter: torch.Tensor) -> list[str]:
        """Names of the optimizers that hold a parameter, those met while watching included."""
        return [
            name
            for name, optimizer in self.optimizers.items()
            if any(parameter is p for p in held_by(optimizer))
        ]

    @contextmanager
    def step(self) -> Iterator[None]:
        """Watch one training step: the length of the block. All patches are undone after it."""
        self.steps += 1
        self._settle(EARLIER if self.steps == 1 else UNSEEN)
        with ExitStack() as undo:
            hook = register_optimizer_step_pre_hook(self._before_step)
            undo.callback(hook.remove)
            _patch(undo, torch.autograd, "backward", self._watched_backward)
            _patch(undo, nn.Module, "zero_grad", self._watched_module_zero_grad)
            for name, optimizer in self.optimizers.items():
                _patch(undo, optimizer, "zero_grad", self._watched_zero_grad(name, optimizer))
            yield
        self._settle()

    # ------------------------------------------------------------------ what is patched

    def _watched_backward(self, original: Callable[..., None]) -> Callable[..., None]:
        # Tensor.backward calls torch.autograd.backward, so this one place sees both.
        def backward(tensors: Any, *args: Any, **options: Any) -> None:
            if self._in_backward:  # within another, as reentrant checkpointing does
                return original(tensors, *args, **options)
            roots = (tensors,) if isinstance(tensors, torch.Tensor) else tuple(tensors)
            loss = self._name_loss(roots)
            self._settle()
            before = {p: _copy(p.grad) for p in self.home}
            beyond = modules_beyond(roots, self.home) if self._paths else {}
            self._in_backward = True
            try:
                original(roots, *args, **options)
            finally:
                self._in_backward = False
            self._book_backward(loss, before, beyond)

        return backward

    def _watched_zero_grad(
        self, name: str, optimizer: torch.optim.Optimizer
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        def watched(original: Callable[..., None]) -> Callable[..., None]:
            def zero_grad(*args: Any, **options: Any) -> None:
                self._settle()
                original(*args, **options)
                position = self._record("zero_grad", name)
                self._end_cleared(position)
                for parameter in held_by(optimizer):
                    for share in self._open[parameter]:
                        share.survived.append(position)

            return zero_grad

        return watched

    def _watched_module_zero_grad(self, original: Callable[..., None]) -> Callable[..., None]:
        def zero_grad(module: nn.Module, *args: Any, **options: Any) -> None:
            self._settle()
            original(module, *args, **options)
            homes = {self.home[p] for p in module.parameters() if p in self.home}
            if homes:
                self._end_cleared(self._record("zero_grad", " and ".join(sorted(homes))))

        return zero_grad

    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        held = [p for p in held_by(optimizer) if p in self.home]
        if not held:
            return  # an optimizer of something else
        name = self._name_of(optimizer)
        closures = [a for a in (*args, *options.values()) if callable(a)]
        if isinstance(optimizer, torch.optim.LBFGS) or closures:
            raise Unwatchable(
                f"{name} steps with a closure, so its backward passes lie inside step() and their "
                "fate cannot be told from outside; call backward() before step() without one"
            )
        self._settle()
        self._book_step(self._record("step", name), held)

    # ------------------------------------------------------------------ the books

    def _book_backward(
        self,
        loss: Hashable,
        before: dict[torch.Tensor, torch.Tensor | None],
        beyond: dict[str, set[str]],
    ) -> None:
        position = self._record("backward", loss)
        self.events[position].beyond = beyond
        for parameter, earlier in before.items():
            grad = _copy(parameter.grad)
            if grad is not None:
                self._bear(loss, parameter, grad if earlier is None else grad - earlier, position)

    def _book_step(self, position: int, held: Sequence[torch.Tensor]) -> None:
        sums: dict[str, _Sums] = {}
        found: list[Share] = []
        for parameter in held:
            grad = _copy(parameter.grad)
            if grad is None:
                continue
            due = sum(
                (
                    share.grad
                    for share in self._open[parameter]
                    if not share.applied and share.loss != UNSEEN and share.grad is not None
                ),
                start=torch.zeros_like(grad),
            )
            sums.setdefault(self.home[parameter], _Sums()).add(grad, due)
            found += self._open[parameter]
        event = self.events[position]
        event.error = {module: total.error() for module, total in sums.items()}
        event.scale = {module: total.scale() for module, total in sums.items()}
        for share in found:
            share.applied.append(position)
            share.mismatch = event.error[share.module]

    def _settle(self, unknown: str = UNSEEN) -> None:
        """Book what happened to ``.grad`` since the last event, by hand or out of sight."""
        gone = [p for p, shares in self._open.items() if shares and _is_clear(p)]
        if gone:
            self._end_cleared(self._record("zero_grad", BY_HAND))
        for parameter, shares in self._open.items():
            if not shares and not _is_clear(parameter):
                grad = _copy(parameter.grad)
                assert grad is not None
                self._bear(unknown, parameter, grad, len(self.events) - 1)

    def _end_cleared(self, position: int) -> None:
        for parameter, shares in self._open.items():
            if shares and _is_clear(parameter):
                for share in shares:
                    share.ended, share.grad = position, None
                shares.clear()

    def _bear(
        self, loss: Hashable, parameter: torch.Tensor, added: torch.Tensor, position: int
    ) -> None:
        if added.any():
            share = Share(
                loss, self.home[parameter], parameter, self.steps, position, square(added), added
            )
            self._open[parameter].append(share)
            self.shares.append(share)

    def _record(self, kind: Literal["backward", "zero_grad", "step"], by: Any) -> int:
        self.events.append(Event(self.steps, kind, by))
        return len(self.events) - 1

    def _name_of(self, optimizer: torch.optim.Optimizer) -> str:
        for name, known in self.optimizers.items():
            if known is optimizer:
                return name
        name = f"an unnamed {type(optimizer).__name__}"
        count = sum(known.startswith(name) for known in self.optimizers)
        name = f"{name} ({count + 1})" if count else name
        self.optimizers[name] = optimizer
        for parameter in held_by(optimizer):
            self.home.setdefault(parameter, UNNAMED)
            self._open.setdefault(parameter, [])
        return name


def named_parameters(module: nn.Module | torch.Tensor) -> dict[str, torch.Tensor]:
    """A module's parameters by their paths; a tensor is its own, without a path."""
    return {"": module} if isinstance(module, torch.Tensor) else dict(module.named_parameters())


def held_by(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    """All parameters of an optimizer."""
    for group in optimizer.param_groups:
        yield from group["params"]


def square(tensor: torch.Tensor) -> float:
    """Squared L2 norm, summed in double precision."""
    return float(tensor.double().square().sum())


def modules_beyond(
    roots: Sequence[torch.Tensor], home: Mapping[torch.Tensor, str]
) -> dict[str, set[str]]:
    """For each module in the graph of ``roots``: the modules whose outputs are among its inputs.

    An operation that takes a parameter of the module has other inputs; every parameter further up
    those lies beyond. A loss on ``critic(actor(obs))`` thus has the actor beyond the critic.
    """
    beyond: dict[str, set[str]] = {}
    reached: dict[Any, frozenset[str]] = {}
    stack: list[tuple[Any, bool]] = [(root.grad_fn, False) for root in roots if root.grad_fn]
    while stack:
        node, children_done = stack.pop()
        if node in reached:
            continue
        inputs = [child for child, _ in node.next_functions if child is not None]
        if not children_done:
            stack.append((node, True))
            stack += [(child, False) for child in inputs if child not in reached]
            continue
        own = home.get(node.variable) if hasattr(node, "variable") else None
        reached[node] = frozenset([own] if own else []).union(*(reached[c] for c in inputs))
        for child in inputs:
            module = _parameter_at(child, home)
            if module:
                others = (reached[other] for other in inputs if other is not child)
                beyond.setdefault(module, set()).update(*others)
    return {module: found - {module} for module, found in beyond.items()}


def _parameter_at(node: Any, home: Mapping[torch.Tensor, str]) -> str | None:
    """The module of the parameter that a chain of one-input operations (a transpose) starts at."""
    while not hasattr(node, "variable"):
        inputs = [child for child, _ in node.next_functions if child is not None]
        if len(inputs) != 1:
            return None
        node = inputs[0]
    return home.get(node.variable)


@dataclass
class _Sums:
    """Compares ``.grad`` with what was due, over the parameters of a module."""

    grad: float = 0.0
    due: float = 0.0
    dot: float = 0.0
    off: float = 0.0

    def add(self, grad: torch.Tensor, due: torch.Tensor) -> None:
        found, off = square(grad), square(grad - due)
        self.grad += found
        self.off += off
        if off < 1e-14 * found:  # as good as equal, which spares two passes
            self.due, self.dot = self.due + found, self.dot + found
        else:
            self.due += square(due)
            self.dot += float((grad.double() * due.double()).sum())

    def error(self) -> float:
        return float((self.off / self.grad) ** 0.5) if self.grad else 0.0

    def scale(self) -> float:
        """The factor that explains ``.grad``; nan where none does."""
        if not self.grad or not self.due:
            return float("nan")
        cosine = self.dot / (self.grad * self.due) ** 0.5
        return self.dot / self.due if cosine > 1 - 1e-6 else float("nan")


def _patch(
    undo: ExitStack, owner: Any, name: str, watched: Callable[[Callable[..., Any]], Any]
) -> None:
    """Put ``watched(original)`` in an attribute's place; what was there comes back at the end."""
    own = vars(owner)
    if name in own:
        undo.callback(setattr, owner, name, own[name])
    else:
        undo.callback(delattr, owner, name)  # the class's own method shows again
    setattr(owner, name, watched(getattr(owner, name)))


def _copy(grad: torch.Tensor | None) -> torch.Tensor | None:
    """A dense copy outside the graph."""
    if grad is None:
        return None
    grad = grad.detach()
    return grad.clone() if grad.layout == torch.strided else grad.to_dense()


def _is_clear(parameter: torch.Tensor) -> bool:
    grad = _copy(parameter.grad) if _is_sparse(parameter) else parameter.grad
    return grad is None or not grad.any()


def _is_sparse(parameter: torch.Tensor) -> bool:
    return parameter.grad is not None and parameter.grad.layout != torch.strided
