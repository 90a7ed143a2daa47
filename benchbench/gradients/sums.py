"""Sums of gradients: ``.grad`` against what was due, and a summed loss taken apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import GradientEdge

from benchbench.gradients.graph import Graph, terms
from benchbench.gradients.record import Share, Term, square


@dataclass
class Sums:
    """Compares ``.grad`` with what was due, over the parameters of a module."""

    grad: float = 0.0
    due: float = 0.0
    dot: float = 0.0
    off: float = 0.0

    def add(self, grad: torch.Tensor, shares: Sequence[Share]) -> None:
        """Take in one parameter, with the gradients that are due on it."""
        due = sum((s.grad for s in shares if s.grad is not None), start=torch.zeros_like(grad))
        found, off = square(grad), square(grad - due)
        self.grad += found
        self.off += off
        if off < 1e-14 * found:  # as good as equal, which spares two passes
            self.due, self.dot = self.due + found, self.dot + found
        else:
            self.due += square(due)
            self.dot += float((grad.double() * due.double()).sum())

    def error(self) -> float:
        """Relative error."""
        return float((self.off / self.grad) ** 0.5) if self.grad else 0.0

    def scale(self) -> float:
        """The factor that explains ``.grad``; nan where none does."""
        if not self.grad or not self.due:
            return float("nan")
        cosine = self.dot / (self.grad * self.due) ** 0.5
        return self.dot / self.due if cosine > 1 - 1e-6 else float("nan")


def find_terms(
    roots: Sequence[Any],
    parameters: Sequence[torch.Tensor],
    home: Mapping[torch.Tensor, str],
    names: Any,
) -> tuple[Term, ...]:
    """Each summand of a loss with the norm of its gradient on each module; none where it is no sum.

    Each takes a backward pass of its own, before the real one. None is made where a parameter has
    hooks; random states are put back, so that training goes on as it would have.
    """
    root = roots[0] if len(roots) == 1 else None
    name_term = getattr(names, "name_term", None)
    if root is None or getattr(root, "grad_fn", None) is None or root.numel() != 1:
        return ()
    found = terms(root.grad_fn, lambda node: bool(name_term and name_term(node)))
    wanted = [p for p in parameters if p.requires_grad]
    if len(found) < 2 or not wanted or any(p._backward_hooks for p in wanted):
        return ()
    result = []
    devices = sorted({p.device.index or 0 for p in wanted if p.is_cuda})
    with torch.random.fork_rng(devices=devices):
        for number, (node, factor) in enumerate(found, 1):
            if hasattr(node, "variable"):
                continue
            shape = tuple(node._input_metadata[0].shape)
            one = torch.ones(shape, dtype=node._input_metadata[0].dtype, device=root.device)
            try:
                grads = torch.autograd.grad(
                    [GradientEdge(node, 0)], wanted, [one], retain_graph=True, allow_unused=True
                )
            except RuntimeError:  # what cannot be differentiated twice stays whole
                return ()
            norms: dict[str, float] = {}
            for parameter, grad in zip(wanted, grads, strict=True):
                if grad is not None:
                    module = home[parameter]
                    norms[module] = norms.get(module, 0.0) + square(grad.detach())
            name = (name_term(node) if name_term else None) or f"term {number}"
            paths = Graph([GradientEdge(node, 0)], home).paths()
            result.append(Term(name, factor, {m: n**0.5 for m, n in norms.items() if n}, paths))
    return tuple(result)
