"""Watching where gradients go: every backward pass, ``zero_grad`` and ``step`` of real training.

A :class:`GradientWatch` compares ``.grad`` before and after what a training step does to it. What a
backward pass adds to one parameter is a :class:`Share`; the watch books when it was born, which
optimizers stepped along it, and what cleared it. It assumes no order and knows no agent:
:class:`~benchbench.diagnostics.ledger.Ledger` reads it for benchbench's own, and
:func:`benchbench.audit` for anyone's. Events reach it through :mod:`~benchbench.gradients.patches`.

The watched step computes what it always does, bit for bit: tensors are only read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from benchbench.gradients.books import Books
from benchbench.gradients.find import held_by, homes, named_parameters
from benchbench.gradients.graph import Graph
from benchbench.gradients.patches import patched
from benchbench.gradients.record import BY_CODE, EARLIER, UNNAMED, UNSEEN, Share, Term, dense
from benchbench.gradients.sums import Sums, find_terms

Modules = Mapping[str, nn.Module | torch.Tensor]
Source = Callable[[], tuple[Modules, Mapping[str, Any]]]


@dataclass
class StepCall:
    """A call of an optimizer's ``step`` that is running."""

    optimizer: Any
    booked: set[torch.Tensor] = field(default_factory=set)
    position: int | None = None
    closure_ran: bool = False


class GradientWatch(Books):
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
        super().__init__(audit)
        self.optimizers: dict[str, Any] = dict(optimizers)
        self.unnamed: set[str] = set()
        """Names made up for optimizers that were met while watching."""
        self.finds = False
        """Whether optimizers are found rather than named, so that one without a name is no
        mistake."""
        self._aliases: list[tuple[Any, str]] = []
        self.drives: dict[str, set[str]] = {}
        """For each optimizer: those whose ``step`` it calls within its own."""
        self.path_of: dict[torch.Tensor, str] = {}
        self.modules: dict[str, None] = {}
        """All named modules, then rows for what several share."""
        self.hooked = False
        """Whether saved tensors are hooked (checkpoints, offloading), so that nothing may be
        differentiated twice."""
        self._name_loss = name_loss
        self._source = source or (lambda: (modules, optimizers))
        self._known: tuple[int, ...] = ()
        self._graph: Graph | None = None
        self._split: set[Hashable] = set()
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
        for name, known in (*self.optimizers.items(), *((n, o) for o, n in self._aliases)):
            if known is optimizer:
                return name
        for name, known in self.optimizers.items():
            if _holds(optimizer, known) or _holds(known, optimizer):  # one wraps the other
                self._aliases.append((optimizer, name))
                return name
        name = f"{'' if self.finds else 'an unnamed '}{type(optimizer).__name__}"
        count = sum(known.startswith(name) for known in self.optimizers)
        name = f"{name} ({count + 1})" if count else name
        self.optimizers[name] = optimizer
        if not self.finds:
            self.unnamed.add(name)
        self.refresh()
        return name

    def has_parameters(self, module: str) -> bool:
        """Whether a named module has parameters, of its own or of its parts."""
        modules, _ = self._source()
        return module in modules and bool(named_parameters(modules[module]))

    def knows(self, optimizer: Any) -> bool:
        """Whether an optimizer is among the named ones, or wraps one."""
        every = [*self.optimizers.values(), *(known for known, _ in self._aliases)]
        return any(known is optimizer for known in every)

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
        self._graph = graph = Graph(roots, self.home, self.audit and not self.hooked)
        candidates = [p for p in self.home if p in graph.parameters]  # in the order of their names
        if not graph.plain:
            candidates = list(self.home)
        terms: tuple[Term, ...] = ()
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
        graph = Graph(roots, self.home, not self.hooked)
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

    # ------------------------------------------------------------------ clearing

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

    # ------------------------------------------------------------------ steps

    def book_step(self, call: StepCall, name: str, held: Sequence[torch.Tensor]) -> None:
        """An optimizer is about to change its parameters along what is in ``.grad``."""
        held = [p for p in held if p in self.home and p not in call.booked]
        if not held:
            return
        self.settle()
        if self.audit:
            # Between the closure's calls it is the optimizer itself that moves them.
            self.weights.compare(held, name if call.closure_ran else BY_CODE)
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


def _holds(outer: Any, inner: Any) -> bool:
    """Whether an object keeps another as an attribute."""
    return any(value is inner for value in vars(outer).values())
