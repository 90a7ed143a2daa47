"""A watch's records: shares from birth to end, also where code touches ``.grad`` by hand.

What happened between two events is inferred from values: gradients that were cleared, assigned or
put back in sums, weights that moved along a gradient without an optimizer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import torch

from benchbench.gradients.record import (
    BY_CODE,
    BY_HAND,
    EARLIER,
    UNSEEN,
    Event,
    EventKind,
    Share,
    dense,
    is_clear,
    square,
)


class Weights:
    """Copies of parameters, compared whenever someone may have changed them."""

    def __init__(self) -> None:
        self._last: dict[torch.Tensor, torch.Tensor] = {}
        self.moved: dict[torch.Tensor, dict[str, None]] = {}
        """Who changed a parameter's values: optimizers by name, in the order of time."""
        self.born_bad: set[torch.Tensor] = set()
        """Parameters with NaN or infinite values when they were first seen."""

    def add(self, parameters: Iterable[torch.Tensor]) -> None:
        """Start to follow parameters."""
        for p in parameters:
            if p not in self._last:
                self._last[p] = p.detach().clone()
                if not bool(torch.isfinite(p.detach()).all()):
                    self.born_bad.add(p)

    def displacement(self, parameter: torch.Tensor) -> torch.Tensor | None:
        """How far a parameter has moved since it was last compared; None where it has not."""
        last = self._last.get(parameter)
        if last is None or last.shape != parameter.shape or same(parameter, last):
            return None
        return parameter.detach() - last

    def compare(self, parameters: Iterable[torch.Tensor], by: str) -> bool:
        """Book what changed since the last comparison to ``by``; whether anything did."""
        any_moved = False
        for p in parameters:
            last = self._last.get(p)
            if last is None:
                self._last[p] = p.detach().clone()
            elif last.shape != p.shape:
                self._last[p], any_moved = p.detach().clone(), True
                self.moved.setdefault(p, {})[by] = None
            elif not same(p, last):
                last.copy_(p.detach())
                self.moved.setdefault(p, {})[by] = None
                any_moved = True
        return any_moved


def same(parameter: torch.Tensor, last: torch.Tensor) -> bool:
    """Whether all values are the same, NaN counted as equal to NaN."""
    now = parameter.detach()
    if torch.equal(now, last):
        return True
    return bool(torch.isclose(now, last, rtol=0.0, atol=0.0, equal_nan=True).all())


def parallel(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors point the same way or opposite ways, to rounding."""
    a, b = a.detach().double().flatten(), b.detach().double().flatten()
    lengths = float(a.norm() * b.norm())
    return lengths > 0 and abs(float(a @ b)) > 0.999 * lengths


def all_parallel(gradients: list[torch.Tensor], ways: list[torch.Tensor]) -> bool:
    """Whether parameters moved along their gradients, one factor for all of them.

    A single number always moves along its gradient or against it; then it has to be against.
    """
    a, b = (torch.cat([t.detach().double().flatten() for t in some]) for some in (gradients, ways))
    if a.numel() == 1:
        return float(a @ b) < 0
    return a.numel() > 2 and parallel(a, b)


def fits(target: list[torch.Tensor], parts: list[list[torch.Tensor | None]]) -> list[float] | None:
    """Coefficients by which the sum of ``parts`` is the target; None where there are none such.

    Target and each part are lists over the same parameters; None stands for zeros. Least squares
    over all of them together, accepted where the residual is under 0.1 % of the target's norm, and
    only where there are clearly more numbers than coefficients.
    """
    if sum(t.numel() for t in target) <= 2 * len(parts):
        return None
    wanted = torch.cat([t.detach().double().flatten() for t in target])
    rows = [
        torch.cat([
            torch.zeros(t.numel(), dtype=torch.float64, device=t.device)
            if part is None else part.double().flatten()
            for t, part in zip(target, parts_of_one, strict=True)
        ])
        for parts_of_one in parts
    ]  # fmt: skip
    matrix = torch.stack(rows, 1)
    size = float(wanted.norm())
    if not bool(torch.isfinite(matrix).all()) or not 0 < size < float("inf"):
        return None
    solution = (torch.linalg.pinv(matrix) @ wanted[:, None])[:, 0]
    if float((matrix @ solution - wanted).norm()) > 1e-3 * size:
        return None
    return [float(c) if abs(float(c) * float(r.norm())) > 1e-3 * size else 0.0
            for c, r in zip(solution, rows, strict=True)]  # fmt: skip


class Books:
    """Events and shares. ``audit``: whether weights are followed and code's doings inferred."""

    def __init__(self, audit: bool) -> None:
        self.audit = audit
        self.events: list[Event] = []
        self.shares: list[Share] = []
        self.home: dict[torch.Tensor, str] = {}
        self.zeros: dict[torch.Tensor, None] = {}
        """Parameters that a backward pass reached with a gradient of zero."""
        self.steps = 0
        self.weights = Weights()
        self.step_calls: dict[str, int] = {}
        self.active: list[Any] = []
        """Calls of optimizers' ``step`` that are running, the outermost first."""
        self._open: dict[torch.Tensor, list[Share]] = {}
        self._returned: dict[torch.Tensor, list[Share]] = {}
        self._wiped: dict[torch.Tensor, list[Share]] = {}

    def record(self, kind: EventKind, by: Any) -> int:
        """Append an event; its position."""
        self.events.append(Event(self.steps, kind, by))
        return len(self.events) - 1

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

    def settle(self, unknown: str = UNSEEN) -> None:
        """Book what happened to ``.grad`` and weights since the last event, by hand or unseen."""
        if self.audit and not self.active:  # else an optimizer moves them
            self._hand_steps()
        gone = [p for p, shares in self._open.items() if shares and is_clear(p)]
        replaced = [p for p in self._returned if self._open[p] and self._replaced(p)]
        if gone or replaced:
            position = self.record("zero_grad", BY_HAND)
            self.end_cleared(position)
            for parameter in replaced:
                self._end(parameter, position)
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

    def _replaced(self, parameter: torch.Tensor) -> bool:
        """Whether ``.grad`` now is what ``torch.autograd.grad`` returned, by assignment."""
        grad = dense(parameter.grad)
        return grad is not None and any(
            s.grad is not None and s.grad.shape == grad.shape and torch.equal(s.grad, grad)
            for s in self._returned[parameter]
        )

    def end_cleared(self, position: int) -> None:
        """End the shares whose ``.grad`` is clear now."""
        for parameter, shares in self._open.items():
            if shares and is_clear(parameter):
                self._end(parameter, position)

    def _end(self, parameter: torch.Tensor, position: int) -> None:
        for share in self._open[parameter]:
            share.ended = position
            if self.audit and not share.applied and share.grad is not None:
                self._wiped.setdefault(parameter, []).append(share)
            else:
                share.grad = None
        for old in self._wiped.get(parameter, [])[:-6]:
            old.grad = None
            self._wiped[parameter].remove(old)
        self._open[parameter].clear()

    def _recombine(self, position: int, held: Sequence[torch.Tensor]) -> None:
        """Find cleared gradients that were put back in sums, as PCGrad does."""
        by_module: dict[str, list[torch.Tensor]] = {}
        for parameter in held:
            if parameter.grad is not None and self._wiped.get(parameter):
                by_module.setdefault(self.home[parameter], []).append(parameter)
        for module, parameters in by_module.items():
            unseen = all(s.loss == UNSEEN for p in parameters for s in self._open[p])
            event = self.events[position]
            written = event.error[module] > 1e-3 and event.scale[module] != event.scale[module]
            parts = {p: list(self._wiped[p]) for p in parameters}
            if written and not unseen:  # what is there does not explain .grad alone, but may help
                for p in parameters:
                    parts[p] += [s for s in self._open[p] if s.loss != UNSEEN and not s.applied]
            births = sorted({s.born for p in parameters for s in parts[p]})
            rows = [
                [next((s.grad for s in parts[p] if s.born == born), None) for p in parameters]
                for born in births
            ]
            target = [g for p in parameters if (g := dense(p.grad)) is not None]
            used = fits(target, rows)
            for parameter in parameters:
                for share in self._wiped.pop(parameter):
                    share.grad = None
                    if used is not None and used[births.index(share.born)]:
                        share.applied.append(position)
                        share.recombined = True
                    elif (unseen or written) and self._open[parameter]:
                        share.rewritten = True
                if used is not None and unseen:
                    for share in self._open[parameter]:
                        share.recombined = True
