"""Watching where gradients go: every backward pass, ``zero_grad`` and ``step`` of real training.

A :class:`GradientWatch` compares ``.grad`` before and after what a training step does to it. What a
backward pass adds to one parameter is a :class:`Share`; the watch books when it was born, which
optimizers stepped along it, and what cleared it. It assumes no order and knows no agent:
:class:`~benchbench.diagnostics.ledger.Ledger` reads it for benchbench's own, and
:func:`benchbench.audit` for anyone's. How it hears of events is in
:mod:`~benchbench.gradients.patches`.

The watched step computes what it always does, bit for bit: tensors are only read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from benchbench.gradients.graph import Graph
from benchbench.gradients.patches import patched
from benchbench.gradients.record import (
    BY_CODE,
    BY_HAND,
    EARLIER,
    UNNAMED,
    UNSEEN,
    Event,
    EventKind,
    Share,
    dense,
    is_clear,
    square,
)
from benchbench.gradients.sums import Sums, find_terms
from benchbench.gradients.weights import Weights, all_parallel, fits, parallel

Modules = Mapping[str, nn.Module | torch.Tensor]
Source = Callable[[], tuple[Modules, Mapping[str, Any]]]


@dataclass
class StepCall:
    """A call of an optimizer's ``step`` that is running."""

    optimizer: Any
    booked: set[torch.Tensor] = field(default_factory=set)
    position: int | None = None
    closure_ran: bool = False


class GradientWatch:
    """Books the gradients of training steps; see the module's docstring.

    ``modules`` may hold single tensors beside modules; ``homes`` says to which a parameter of
    several is booked. ``name_loss`` is asked at each outermost backward pass for the name of the
    tensors that it starts from. ``audit`` asks for all that an audit needs and the ledger does not:
    paths between modules, who moved the weights, summands of losses.
    """

    def __init__(
        self,
        modules: Modules,
        optimizers: Mapping[str, Any],
        name_loss: Callable[[Sequence[Any]], Hashable],
        audit: bool = False,
        source: Source | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.shares: list[Share] = []
        self.optimizers: dict[str, Any] = dict(optimizers)
        self.unnamed: set[str] = set()
        """Names made up for optimizers that were met while watching."""
        self.drives: dict[str, set[str]] = {}
        """For each optimizer: those whose ``step`` it calls within its own."""
        self.step_calls: dict[str, int] = {}
        self.home: dict[torch.Tensor, str] = {}
        self.path_of: dict[torch.Tensor, str] = {}
        self.modules: dict[str, None] = {}
        """All named modules, then rows for what several share."""
        self.zeros: dict[torch.Tensor, None] = {}
        """Parameters that a backward pass reached with a gradient of zero."""
        self.steps = 0
        self.weights = Weights()
        self.hooked = False
        """Whether saved tensors are hooked (checkpoints, offloading), so that nothing may be
        differentiated twice."""
        self.audit, self._name_loss = audit, name_loss
        self._source = source or (lambda: (modules, optimizers))
        self._known: tuple[int, ...] = ()
        self._open: dict[torch.Tensor, list[Share]] = {}
        self._returned: dict[torch.Tensor, list[Share]] = {}
        self._wiped: dict[torch.Tensor, list[Share]] = {}
        self._graph: Graph | None = None
        self._split: set[Hashable] = set()
        self.active: list[StepCall] = []
        self.zeroing = 0
        self.refresh()

    # ------------------------------------------------------------------ who is who

    def refresh(self) -> None:
        """Take in modules, parameters and optimizers that have come since."""
        modules, optimizers = self._source()
        named = {name: named_parameters(module) for name, module in modules.items()}
        for name, optimizer in optimizers.items():
            if not any(optimizer is known for known in self.optimizers.values()):
                self.optimizers.setdefault(name, optimizer)
        held = [p for optimizer in self.optimizers.values() for p in held_by(optimizer)]
        now = tuple(id(p) for of in named.values() for p in of.values()) + tuple(map(id, held))
        if now == self._known:
            return
        self._known = now
        self.modules.update(dict.fromkeys(named))
        for parameter, (name, path) in homes(named).items():
            if self.home.get(parameter, UNNAMED) == UNNAMED:
                self.home[parameter], self.path_of[parameter] = name, path
                self.modules[name] = None
        for parameter in held:
            self.home.setdefault(parameter, UNNAMED)
        for parameter in self.home:
            self._open.setdefault(parameter, [])
        if self.audit:
            self.weights.add(self.home)

    def holders(self, parameter: torch.Tensor) -> list[str]:
        """Names of the optimizers that hold a parameter, those met while watching included."""
        return [
            name
            for name, optimizer in self.optimizers.items()
            if any(parameter is p for p in held_by(optimizer))
        ]

    def name_of(self, optimizer: Any) -> str:
        """An optimizer's name; one is made up where it has none."""
        for name, known in self.optimizers.items():
            if known is optimizer:
                return name
        name = f"an unnamed {type(optimizer).__name__}"
        count = sum(known.startswith(name) for known in self.optimizers)
        name = f"{name} ({count + 1})" if count else name
        self.optimizers[name] = optimizer
        self.unnamed.add(name)
        self.refresh()
        return name

    def has_parameters(self, module: str) -> bool:
        """Whether a named module has parameters, of its own or of its parts."""
        modules, _ = self._source()
        return module in modules and bool(named_parameters(modules[module]))

    def knows(self, optimizer: Any) -> bool:
        """Whether an optimizer is among the named ones."""
        return any(known is optimizer for known in self.optimizers.values())

    # ------------------------------------------------------------------ training steps

    @contextmanager
    def step(self) -> Iterator[None]:
        """Watch one training step: the length of the block. All patches are undone after it."""
        with patched(self):
            self.start_step()
            yield
            self.end_step()

    def start_step(self) -> None:
        """A training step begins."""
        self.refresh()
        self.steps += 1
        self.hooked = False
        self.active.clear()
        self.settle(EARLIER if self.steps == 1 else UNSEEN)
        if self.audit:
            self.weights.compare(self.home, BY_CODE)

    def end_step(self) -> None:
        """A training step ends."""
        self.settle()
        if self.audit:
            self.weights.compare(self.home, BY_CODE)
            for shares in self._returned.values():
                for share in shares:
                    if share.step < self.steps:
                        share.grad = None

    # ------------------------------------------------------------------ backward passes

    def backward(self, roots: Sequence[Any], run: Callable[[], Any]) -> Any:
        """An outermost backward pass into ``.grad``."""
        loss = self._name_loss(roots)
        self.refresh()
        self.settle()
        self._graph = graph = Graph(roots, self.home)
        candidates = [p for p in graph.parameters if p in self.home]
        if not graph.plain:
            candidates = list(self.home)
        terms = ()
        if self.audit and loss not in self._split and graph.plain and not self.hooked:
            self._split.add(loss)
            terms = find_terms(roots, candidates, self.home, self._name_loss)
        getattr(self._name_loss, "forget", lambda: None)()
        before = {p: dense(p.grad) for p in candidates}
        try:
            result = run()
        finally:
            self._graph = None
        position = self.record("backward", loss)
        event = self.events[position]
        event.terms = terms
        if self.audit:
            event.paths = graph.paths()
        for parameter, earlier in before.items():
            grad = dense(parameter.grad)
            if grad is not None:
                added = grad if earlier is None else grad - earlier
                reached = earlier is None or parameter in graph.parameters
                self._bear(loss, parameter, added, position, reached)
        return result

    def nested(self, roots: Sequence[Any]) -> None:
        """A backward pass within another, as reentrant checkpoints run."""
        node = torch._C._current_autograd_node()
        if self._graph is not None and node is not None:
            self._graph.inner(node, roots)

    def grad(self, roots: Sequence[Any], inputs: Sequence[Any], run: Callable[[], Any]) -> Any:
        """A call of ``torch.autograd.grad``."""
        self.refresh()
        wanted = [(i, p) for i, p in enumerate(inputs) if isinstance(p, torch.Tensor) and p in
                  self.home]  # fmt: skip
        if not wanted or not self.audit:
            return run()
        loss = self._name_loss(roots)
        self.settle()
        graph = Graph(roots, self.home)
        result = run()
        position = self.record("grad", loss)
        self.events[position].paths = graph.paths()
        for i, parameter in wanted:
            if result[i] is None:
                continue
            share = self._bear(loss, parameter, dense(result[i]), position, True, returned=True)
            if share:
                self._returned.setdefault(parameter, []).append(share)
        return result

    def _bear(
        self,
        loss: Hashable,
        parameter: torch.Tensor,
        added: torch.Tensor | None,
        position: int,
        reached: bool = True,
        returned: bool = False,
    ) -> Share | None:
        assert added is not None
        if not added.any():
            if reached:
                self.zeros[parameter] = None
            return None
        share = Share(
            loss, self.home[parameter], parameter, self.steps, position, square(added), added,
            factor=getattr(loss, "factor", 1.0), returned=returned,
        )  # fmt: skip
        if not returned:
            self._open[parameter].append(share)
        self.shares.append(share)
        return share

    # ------------------------------------------------------------------ clearing

    def settle(self, unknown: str = UNSEEN) -> None:
        """Book what happened to ``.grad`` and weights since the last event, by hand or unseen."""
        if self.audit:
            self._hand_steps()
        gone = [p for p, shares in self._open.items() if shares and is_clear(p)]
        if gone:
            self.end_cleared(self.record("zero_grad", BY_HAND))
        for parameter, shares in self._open.items():
            if not shares and not is_clear(parameter) and not self._adopt(parameter):
                self._bear(unknown, parameter, dense(parameter.grad), len(self.events) - 1)

    def _adopt(self, parameter: torch.Tensor) -> bool:
        """Whether the code has put results of ``torch.autograd.grad`` into ``.grad``."""
        waiting = [s for s in self._returned.get(parameter, ()) if s.grad is not None]
        grad = dense(parameter.grad)
        if not waiting or grad is None:
            return False
        found = [s for s in waiting if s.grad is not None and parallel(s.grad, grad)][-1:]
        total = sum((s.grad for s in waiting if s.grad is not None), torch.zeros_like(grad))
        if not found and parallel(total, grad):
            found = waiting
        for share in found:
            share.returned = False
            self._returned[parameter].remove(share)
            self._open[parameter].append(share)
        if not found:
            for share in waiting:
                share.rewritten = True
        return bool(found)

    def _hand_steps(self) -> None:
        """Find weights that code moved along a gradient, as hand-written SGD does."""
        moved: dict[str, list[tuple[torch.Tensor, torch.Tensor, list[Share]]]] = {}
        for parameter, module in self.home.items():
            waiting = [
                s for s in (*self._open[parameter], *self._returned.get(parameter, ()))
                if not s.applied and s.grad is not None and s.loss != EARLIER
            ]  # fmt: skip
            way = self.weights.displacement(parameter) if waiting else None
            if way is not None:
                total = sum((s.grad for s in waiting if s.grad is not None), torch.zeros_like(way))
                moved.setdefault(module, []).append((total, way, waiting))
        found: list[Share] = []
        for of_module in moved.values():
            together = all_parallel([total for total, _, _ in of_module],
                                    [way for _, way, _ in of_module])  # fmt: skip
            for total, way, waiting in of_module:
                if together or (total.numel() > 2 and parallel(total, way)):
                    found += waiting
        if found:
            position = self.record("step", BY_CODE)
            self.events[position].found = len(found)
            self.step_calls[BY_CODE] = self.step_calls.get(BY_CODE, 0) + 1
            for share in found:
                share.applied.append(position)
                share.returned, share.grad = False, None
            self.weights.compare({s.parameter for s in found}, BY_CODE)

    def zero_grad(self, name: str, held: Sequence[torch.Tensor], run: Callable[[], Any]) -> Any:
        """A call of an optimizer's ``zero_grad``, or of a module's where ``held`` is empty."""
        self.settle()
        result = run()
        position = self.record("zero_grad", name)
        self.end_cleared(position)
        for parameter in held:
            for share in self._open.get(parameter, ()):
                share.survived.append(position)
        return result

    def end_cleared(self, position: int) -> None:
        """End the shares whose ``.grad`` is clear now."""
        for parameter, shares in self._open.items():
            if shares and is_clear(parameter):
                for share in shares:
                    share.ended = position
                    if self.audit and not share.applied and share.grad is not None:
                        self._wiped.setdefault(parameter, []).append(share)
                    else:
                        share.grad = None
                for old in self._wiped.get(parameter, [])[:-6]:
                    old.grad = None
                    self._wiped[parameter].remove(old)
                shares.clear()

    # ------------------------------------------------------------------ steps

    def book_step(self, call: StepCall, name: str, held: Sequence[torch.Tensor]) -> None:
        """An optimizer is about to change its parameters along what is in ``.grad``."""
        held = [p for p in held if p in self.home and p not in call.booked]
        if not held:
            return
        self.settle()
        if self.audit:
            self.weights.compare(held, BY_CODE)
        call.booked.update(held)
        if call.position is None or self.events[call.position].by != name:
            call.position = self.record("step", name)
        position, event = call.position, self.events[call.position]
        sums: dict[str, Sums] = {}
        found: list[Share] = []
        for parameter in held:
            grad = dense(parameter.grad)
            if grad is None:
                continue
            event.found += bool(grad.any())
            due = [s for s in self._open[parameter] if not s.applied and s.loss != UNSEEN]
            sums.setdefault(self.home[parameter], Sums()).add(grad, due)
            found += self._open[parameter]
        event.error |= {module: total.error() for module, total in sums.items()}
        event.scale |= {module: total.scale() for module, total in sums.items()}
        if self._wiped:
            self._recombine(position, held)
        for share in found:
            share.applied.append(position)
            share.mismatch = event.error[share.module]
            share.grad = None

    def _recombine(self, position: int, held: Sequence[torch.Tensor]) -> None:
        """Find cleared gradients that were put back in sums, as PCGrad does."""
        by_module: dict[str, list[torch.Tensor]] = {}
        for parameter in held:
            if parameter.grad is not None and self._wiped.get(parameter):
                by_module.setdefault(self.home[parameter], []).append(parameter)
        for module, parameters in by_module.items():
            births = sorted({s.born for p in parameters for s in self._wiped[p]})
            rows = [
                [next((s.grad for s in self._wiped[p] if s.born == born), None) for p in parameters]
                for born in births
            ]
            target = [g for p in parameters if (g := dense(p.grad)) is not None]
            used = fits(target, rows)
            unseen = all(s.loss == UNSEEN for p in parameters for s in self._open[p])
            for parameter in parameters:
                for share in self._wiped.pop(parameter):
                    share.grad = None
                    if used is not None and used[births.index(share.born)]:
                        share.applied.append(position)
                        share.recombined = True
                    elif unseen and self._open[parameter]:
                        share.rewritten = True
                if used is not None and unseen:
                    for share in self._open[parameter]:
                        share.recombined = True

    def stepped(self, name: str, held: Sequence[torch.Tensor]) -> bool:
        """An optimizer has changed its parameters; whether any moved."""
        self.step_calls[name] = self.step_calls.get(name, 0) + 1
        return self.audit and self.weights.compare([p for p in held if p in self.home], name)

    def skipped(self, optimizer: Any) -> None:
        """A GradScaler left an optimizer's step out."""
        if not self.knows(optimizer):
            return
        self.settle()
        position = self.record("skipped", self.name_of(optimizer))
        for parameter in held_by(optimizer):
            for share in self._open.get(parameter, ()):
                share.skipped.append(position)

    def record(self, kind: EventKind, by: Any) -> int:
        """Append an event; its position."""
        self.events.append(Event(self.steps, kind, by))
        return len(self.events) - 1


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
