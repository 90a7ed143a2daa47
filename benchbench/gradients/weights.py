"""Which weights moved and which optimizer moved them, found by comparing values."""

from __future__ import annotations

from collections.abc import Iterable

import torch


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
