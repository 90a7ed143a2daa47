"""What findings are drawn from: which loss trained which module, when, by whom and by which way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from benchbench.gradients.graph import LOSS
from benchbench.gradients.record import BY_CODE, NOT_LOSSES, UNNAMED, Event, Share
from benchbench.gradients.watch import GradientWatch


class Facts:
    """What the findings are drawn from: who trained what, when, and along which way."""

    def __init__(self, watch: GradientWatch) -> None:
        self.watch, self.events = watch, watch.events
        self.shares = [s for s in watch.shares if s.loss not in NOT_LOSSES]
        self.holders = {p: tuple(watch.holders(p)) for p in watch.home}
        self.phase = _phases(self.events)
        self._trained: dict[str, set[str]] = {}
        self._beyond: dict[tuple[str, str], set[str]] = {}
        self._feeds: dict[tuple[str, str], set[str]] = {}
        self.hidden: set[tuple[str, str]] = set()
        self.reached: dict[str, set[str]] = {}
        for event in self.events:
            if event.paths is None:
                continue
            self.reached.setdefault(event.by, set()).update(event.paths.modules)
            for module, found in event.paths.beyond.items():
                self._beyond.setdefault((event.by, module), set()).update(found)
            for module, found in event.paths.feeds.items():
                self._feeds.setdefault((event.by, module), set()).update(found)
            self.hidden.update((event.by, module) for module in event.paths.hidden)
        for share in self.shares:
            paths = self.events[share.born].paths
            if paths is not None and share.module not in paths.modules:
                self.hidden.add((share.loss, share.module))
        for share in self.shares:
            if share.applied and not self.late(share):
                self._trained.setdefault(share.loss, set()).add(share.module)

    def late(self, share: Share) -> bool:
        """Whether it was applied only after other losses had had their turn."""
        return bool(share.applied) and self.phase[share.applied[0]] > self.phase[share.born]

    def trained_by(self, loss: str) -> set[str]:
        """The modules that a loss trains in its own turn."""
        return self._trained.get(loss, set())

    def beyond(self, loss: str, module: str) -> set[str]:
        """The modules further up than one, on the ways of a loss."""
        return self._beyond.get((loss, module), set())

    def passes(self, loss: str, module: str) -> bool:
        """Whether a loss trains something that it reaches through a module."""
        return bool(self.beyond(loss, module) & (self.trained_by(loss) - {module}))

    def by_product(self, loss: str, module: str) -> bool:
        """Whether a module feeds only modules that a loss passes through untrained."""
        feeds = self._feeds.get((loss, module), set())
        trained = self.trained_by(loss)
        return bool(feeds) and all(
            m != LOSS and m not in trained and self.passes(loss, m) for m in feeds
        )

    def multiplies(self, loss: str, module: str) -> bool:
        """Whether a module is one number that weighs parts of a loss that trains others."""
        numbers = sum(p.numel() for p, home in self.watch.home.items() if home == module)
        feeds = self._feeds.get((loss, module), set()) or {LOSS}
        return numbers == 1 and feeds == {LOSS} and bool(self.trained_by(loss) - {module})

    def others_train(self, loss: str, parameters: Iterable[torch.Tensor]) -> list[str]:
        """Other losses by which these parameters are trained."""
        mine = set(parameters)
        found = (
            s.loss for s in self.shares
            if s.loss != loss and s.parameter in mine and s.applied
        )  # fmt: skip
        return list(dict.fromkeys(found))

    def bad_from_the_start(self, loss: str) -> list[str]:
        """The modules that a loss reaches, in words, whose weights never were finite."""
        on = self.reached.get(loss, set()) | {s.module for s in self.shares if s.loss == loss}
        found: dict[str, list[torch.Tensor]] = {}
        for parameter, module in self.watch.home.items():
            if module in on and parameter in self.watch.weights.born_bad:
                found.setdefault(module, []).append(parameter)
        return [self.named(module, parameters) for module, parameters in found.items()]

    def own_optimizer(self, loss: str) -> str | None:
        """The optimizer that first steps along a loss's gradients in its turn."""
        mine = [s for s in self.shares if s.loss == loss and s.applied and not s.recombined]
        first = [s.applied[0] for s in mine if not self.late(s)] or [s.applied[0] for s in mine]
        return self.events[min(first)].by if first else None

    def steppers(self, loss: str, module: str) -> set[str]:
        """The optimizers that step along a loss's gradient on a module."""
        return {
            self.events[i].by
            for s in self.shares
            if s.loss == loss and s.module == module
            for i in s.applied
        }

    def driven(self, name: str) -> bool:
        """Whether an optimizer is stepped by another, or drives others."""
        return bool(self.watch.drives.get(name))

    def steps_of(self, name: str) -> int:
        """How often an optimizer stepped, itself or by those that it drives."""
        inner = self.watch.drives.get(name, set())
        return self.watch.step_calls.get(name, 0) or max(
            (self.watch.step_calls.get(n, 0) for n in inner), default=0
        )

    def is_target(self, module: str, parameters: Iterable[torch.Tensor]) -> bool:
        """Whether a module is moved by code, as target networks are."""
        moved = self.watch.weights.moved
        return "target" in module or any(BY_CODE in moved.get(p, {}) for p in parameters)

    def named(self, module: str, parameters: Sequence[torch.Tensor]) -> str:
        """The module; or, for a part of it, the names of its parameters."""
        some = list(dict.fromkeys(parameters))
        whole = [p for p, home in self.watch.home.items() if home == module and p.requires_grad]
        if len(some) >= len(whole) or module == UNNAMED:
            return module
        return part(module, [self.watch.path_of[p] for p in some])

    def what(self, module: str, shares: Sequence[Share]) -> str:
        """Like :meth:`named`, of shares."""
        return self.named(module, [s.parameter for s in shares])


def part(module: str, paths: Sequence[str]) -> str:
    """Some parameters of a module, in words."""
    shown = ", ".join(paths[:2]) + (f" and {len(paths) - 2} more" if len(paths) > 2 else "")
    return f"{module} ({shown})"


def _phases(events: Sequence[Event]) -> list[int]:
    """For each event the number of its phase: backward passes, then the steps that follow them."""
    phase, stepped, result = 0, False, []
    for event in events:
        if event.kind in ("backward", "grad"):
            phase += stepped
            stepped = False
        elif event.kind in ("step", "skipped"):
            stepped = True
        result.append(phase)
    return result
