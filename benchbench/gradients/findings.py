"""What is wrong with a training loop, read off its watched gradients; each with its cure.

A gradient that is computed and wiped is not always a mistake: the loss of an actor passes through
the critic, and leaves a gradient on it that nobody wants. It is told from a lost one by the graph:
if something that the loss did train lies beyond the module, the loss had to pass through it, and
that is a note and no warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from benchbench.gradients.record import NOT_LOSSES, UNNAMED, UNSEEN, Event, Share
from benchbench.gradients.watch import GradientWatch

Kind = Literal[
    "dropped",
    "unheld gradient",
    "unheld",
    "target gradient",
    "two optimizers",
    "stale",
    "outlived",
    "idle step",
    "no step",
    "unnamed parameters",
    "unnamed optimizer",
    "no backward",
    "altered",
    "passed through",
    "target requires grad",
]

NOTES: frozenset[Kind] = frozenset({"altered", "passed through", "target requires grad"})
"""Kinds that are worth knowing and no mistakes."""


@dataclass(frozen=True)
class Finding:
    """One thing to know about a training loop, and what to do."""

    kind: Kind
    text: str
    loss: str | None = None
    """Of a finding about one loss's gradient on one module: these two."""
    module: str | None = None

    def __str__(self) -> str:
        return self.text


def findings(watch: GradientWatch, moved: set[torch.Tensor]) -> list[Finding]:
    """All findings, in the order of the loop.

    ``moved`` are the parameters of no optimizer whose values changed nevertheless.
    """
    return list(dict.fromkeys(_Judge(watch, moved).all()))


class _Judge:
    """The findings of one watch."""

    def __init__(self, watch: GradientWatch, moved: set[torch.Tensor]) -> None:
        self.watch, self.moved = watch, moved
        self.events: list[Event] = watch.events
        # What was born in the last step has no end yet.
        self.shares = [s for s in watch.shares if s.loss not in NOT_LOSSES and s.step < watch.steps]
        self.holders = {p: tuple(watch.holders(p)) for p in watch.home}

    def all(self) -> Iterator[Finding]:
        """Gradients first, then optimizers, then parameters."""
        if not any(event.kind == "backward" for event in self.events):
            yield Finding(
                "no backward",
                f"no backward pass was seen in {self.watch.steps} steps: let step() train, by "
                "loss.backward() or torch.autograd.backward(loss)",
            )
        groups: dict[tuple[str, str], list[Share]] = {}
        for share in self.shares:
            groups.setdefault((share.loss, share.module), []).append(share)
        for (loss, module), group in groups.items():
            if module == UNNAMED:
                continue
            yield from self._unheld_gradients(loss, module, group)
            yield from self._dropped(loss, module, group)
            yield from self._left_over(loss, module, group)
            yield from self._stale(loss, module, group)
            yield from self._outlived(loss, module, group)
        for name in self.watch.optimizers:
            yield from self._of_optimizer(name)
        yield from self._of_parameters()
        yield from self._altered()

    # ------------------------------------------------------------------ a gradient's fate

    def _unheld_gradients(self, loss: str, module: str, group: list[Share]) -> Iterator[Finding]:
        unheld = [s for s in group if not self.holders[s.parameter]]
        if not unheld:
            return
        what = self._what(module, unheld)
        own = self._own_optimizer(loss)
        if self._is_target(module, unheld):
            cure = (
                f"call {module}.requires_grad_(False)"
                if self._passed_through(loss, module)
                else f"compute what {loss} takes from it under torch.no_grad()"
            )
            yield Finding(
                "target gradient",
                f"{loss} puts a gradient on {what}, a target that no optimizer holds: {cure}",
                loss,
                module,
            )
            return
        add = f"add {what} to {own}" if own else f"add {what} to an optimizer"
        yield Finding(
            "unheld gradient",
            f"{loss} puts a gradient on {what}, which is in no optimizer, so that nothing ever "
            f"steps along it: {add}, or detach it from {loss}",
            loss,
            module,
        )

    def _dropped(self, loss: str, module: str, group: list[Share]) -> Iterator[Finding]:
        by_end: dict[str, list[Share]] = {}
        for share in group:
            if share.dropped and share.ended is not None and self.holders[share.parameter]:
                by_end.setdefault(str(self.events[share.ended]), []).append(share)
        own = self._own_optimizer(loss)
        for wiper, lost in by_end.items():
            what, holders = self._what(module, lost), self.holders[lost[0].parameter]
            if self._passed_through(loss, module):
                yield Finding(
                    "passed through",
                    f"{loss} passes through {what} and leaves a gradient there that {wiper} wipes; "
                    f"harmless, and spared by {module}.requires_grad_(False) while {loss} is "
                    "computed",
                    loss,
                    module,
                )
            elif own in holders or own is None:
                holder = own or holders[0]
                yield Finding(
                    "dropped",
                    f"{loss} puts a gradient on {what}, and {wiper} wipes it before "
                    f"{holder}.step(): call zero_grad() before the backward pass, not after it",
                    loss,
                    module,
                )
            else:
                yield Finding(
                    "dropped",
                    f"{loss} puts a gradient on {what}, and {wiper} wipes it before any step: add "
                    f"{what} to {own}, or detach it from {loss}",
                    loss,
                    module,
                )

    def _left_over(self, loss: str, module: str, group: list[Share]) -> Iterator[Finding]:
        left = [
            s for s in group
            if s.ended is None and not s.applied and self.holders[s.parameter]
        ]  # fmt: skip
        if left:
            what, holder = self._what(module, left), self.holders[left[0].parameter][0]
            yield Finding(
                "no step",
                f"{loss} puts a gradient on {what}, and {holder}, which holds it, took no step "
                f"after it in {self.watch.steps} watched steps: call {holder}.step(), or watch "
                "more steps",
                loss,
                module,
            )

    def _stale(self, loss: str, module: str, group: list[Share]) -> Iterator[Finding]:
        again: dict[str, list[Share]] = {}
        late: dict[str, list[Share]] = {}
        for share in group:
            steppers = [self.events[position].by for position in share.applied]
            for name in dict.fromkeys(steppers):
                if steppers.count(name) > 1:
                    again.setdefault(name, []).append(share)
            if share.applied and self._came_late(share) and not self._all_late(loss):
                late.setdefault(steppers[0], []).append(share)
        for name, shares in again.items():
            yield Finding(
                "stale",
                f"{name} steps along the same gradient of {loss} on {self._what(module, shares)} "
                f"more than once: call {name}.zero_grad() before each {loss} backward pass",
                loss,
                module,
            )
        for name, shares in late.items():
            what = self._what(module, shares)
            yield Finding(
                "stale",
                f"{loss} leaves a gradient on {what} after {name}.step(), and it is added to "
                f"{name}'s next step: call {name}.zero_grad() at the start of its turn, or detach "
                f"{what} from {loss}",
                loss,
                module,
            )

    def _came_late(self, share: Share) -> bool:
        """Whether the optimizer had already stepped when this came, so that it waited for the next.

        Micro-batches that are meant to add up come with no step of that optimizer before them.
        """
        first = self.events[share.applied[0]]
        return first.step > share.step and any(
            event.kind == "step" and event.by == first.by and event.step == share.step
            for event in self.events[: share.born]
        )

    def _all_late(self, loss: str) -> bool:
        """Whether a loss is applied a step later throughout: its own step() comes too early."""
        applied = [s for s in self.shares if s.loss == loss and s.applied]
        return all(self._came_late(share) for share in applied)

    def _outlived(self, loss: str, module: str, group: list[Share]) -> Iterator[Finding]:
        for share in group:
            for position in share.survived[:1]:
                name = self.events[position].by
                yield Finding(
                    "outlived",
                    f"{name}.zero_grad() leaves the gradient of {loss} on {module} where it is, "
                    f"though {name} holds it: is zero_grad overridden?",
                    loss,
                    module,
                )

    # ------------------------------------------------------------------ optimizers, parameters

    def _of_optimizer(self, name: str) -> Iterator[Finding]:
        held = [p for p, holders in self.holders.items() if name in holders]
        mine = ", ".join(self._modules(held)) or "nothing"
        if name.startswith("an unnamed "):
            yield Finding(
                "unnamed optimizer",
                f"{name} steps {mine}: give it a name in optimizers=",
            )
        unnamed = [p for p in held if self.watch.home[p] == UNNAMED]
        if unnamed:
            reached = any(s.parameter in set(unnamed) for s in self.watch.shares)
            count = f"{len(unnamed)} parameter{'s' if len(unnamed) > 1 else ''}"
            yield Finding(
                "unnamed parameters",
                f"{name} holds {count} of no named module"
                + (": name their module in modules=" if reached else
                   ", and no loss reaches them: make the optimizer after the module has its final "
                   "parameters, or name the module in modules="),
            )  # fmt: skip
        if unnamed and len(unnamed) == len(held):
            return
        steps = [i for i, e in enumerate(self.events) if e.kind == "step" and e.by == name]
        idle = [i for i in steps if not self._found_something(i, held)]
        lost = any(
            s.dropped and s.ended is not None and self.events[s.ended].by == name
            for s in self.shares
            if s.parameter in set(held)
        )
        if idle and not lost:
            reached = any(s.parameter in set(held) for s in self.watch.shares)
            yield Finding(
                "idle step",
                f"{name}.step() found no gradient on {mine} in {len(idle)} of {len(steps)} calls: "
                + ("call it after the backward pass that reaches them" if reached else
                   "no loss reaches them; is a detach() in the way, or is the loss made of other "
                   "modules?"),
            )  # fmt: skip

    def _found_something(self, position: int, held: Sequence[torch.Tensor]) -> bool:
        mine = set(held)
        return any(position in s.applied and s.parameter in mine for s in self.watch.shares)

    def _of_parameters(self) -> Iterator[Finding]:
        held_twice: dict[tuple[str, tuple[str, ...]], list[torch.Tensor]] = {}
        silent: dict[str, list[torch.Tensor]] = {}
        reached = {s.parameter for s in self.watch.shares}
        for parameter, holders in self.holders.items():
            module = self.watch.home[parameter]
            if len(holders) > 1:
                held_twice.setdefault((module, holders), []).append(parameter)
            if not holders and parameter.requires_grad and parameter not in reached:
                silent.setdefault(module, []).append(parameter)
        for (module, holders), parameters in held_twice.items():
            yield Finding(
                "two optimizers",
                f"{self._named(module, parameters)} is in {' and '.join(holders)}: each steps it "
                "by a state of its own, and the zero_grad() of one wipes the other's gradient; "
                "keep it in one",
            )
        for module, parameters in silent.items():
            what = self._named(module, parameters)
            if "target" in module or self.moved.intersection(parameters):
                yield Finding(
                    "target requires grad",
                    f"{what} requires grad, though no optimizer holds it and no loss reaches it; "
                    f"harmless, and {module}.requires_grad_(False) keeps it so",
                )
            else:
                yield Finding(
                    "unheld",
                    f"{what} requires grad, is in no optimizer and no loss reaches it, so that it "
                    f"is never trained: add it to an optimizer, or call "
                    f"{module}.requires_grad_(False)",
                )

    def _altered(self) -> Iterator[Finding]:
        """Gradients at a step that are neither what the losses put there nor a multiple of it."""
        for position, event in enumerate(self.events):
            for module, error in event.error.items():
                stepped = [s for s in self.watch.shares if position in s.applied]
                mixed = any(s.module == module and s.applied[0] < position for s in stepped)
                if error > 1e-3 and event.scale[module] != event.scale[module] and not mixed:
                    unseen = any(s.loss == UNSEEN and s.module == module for s in stepped)
                    why = (
                        "a backward pass ran where it could not be seen, or .grad was written to"
                        if unseen
                        else "was it clipped by value, projected, or written to?"
                    )
                    yield Finding(
                        "altered",
                        f"at {event} the gradient on {module} is not the sum or a multiple of what "
                        f"the losses put there: {why}",
                    )

    # ------------------------------------------------------------------ words

    def _own_optimizer(self, loss: str) -> str | None:
        """The optimizer that first steps along a loss's gradients: the one of its turn."""
        first = [s.applied[0] for s in self.watch.shares if s.loss == loss and s.applied]
        return self.events[min(first)].by if first else None

    def _passed_through(self, loss: str, module: str) -> bool:
        """Whether a loss trains something that it reaches only through this module."""
        trained = {s.module for s in self.watch.shares if s.loss == loss and s.applied}
        return any(
            event.beyond.get(module, set()) & (trained - {module})
            for event in self.events
            if event.kind == "backward" and event.by == loss
        )

    def _is_target(self, module: str, shares: Sequence[Share]) -> bool:
        return "target" in module or any(s.parameter in self.moved for s in shares)

    def _what(self, module: str, shares: Sequence[Share]) -> str:
        return self._named(module, [s.parameter for s in shares])

    def _named(self, module: str, parameters: Sequence[torch.Tensor]) -> str:
        """The module; or, for a part of it, the names of its parameters."""
        some = list(dict.fromkeys(parameters))
        whole = [p for p, home in self.watch.home.items() if home == module and p.requires_grad]
        if len(some) >= len(whole) or module == UNNAMED:
            return module
        return _part(module, [self.watch.path_of[p] for p in some])

    def _modules(self, parameters: Sequence[torch.Tensor]) -> list[str]:
        return list(dict.fromkeys(self.watch.home[p] for p in parameters))


def _part(module: str, paths: list[str]) -> str:
    shown = ", ".join(paths[:2]) + (f" and {len(paths) - 2} more" if len(paths) > 2 else "")
    return f"{module} ({shown})"
