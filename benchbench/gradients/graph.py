"""Reading an autograd graph: by which modules a loss reaches a module, and of what it is a sum.

The graph is walked from the loss towards the parameters, so "before" means nearer to the loss.
Nothing is computed on it, and nothing in it is changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge

LOSS = ""
"""Stands in place of a module for the loss itself."""

_CHAIN = re.compile(
    r"(T|Transpose|Permute|View|Reshape|ReshapeAlias|UnsafeView|Expand|Unsqueeze|Squeeze|ToCopy|"
    r"Clone|Slice|Select|Split|SplitWithSizes|Unbind|Alias|AsStrided|Cat|Stack|"
    r"WeightNormInterface)Backward\d*$"
)
"""Operations that only rearrange parameters on their way into an operation on data."""

_SAVED = ("_saved_mat2", "_saved_weight", "_saved_other", "_saved_mat1")
"""Where operations keep the weights that they need in the backward pass."""


@dataclass
class Paths:
    """How the gradient of one backward pass travels between modules."""

    beyond: dict[str, set[str]] = field(default_factory=dict)
    """For each module: those whose outputs are among its inputs, directly or further up."""
    feeds: dict[str, set[str]] = field(default_factory=dict)
    """For each module: those that its output enters next, on the way to the loss; ``LOSS`` where
    there is none between."""
    modules: frozenset[str] = frozenset()
    """All that the loss reaches."""
    hidden: set[str] = field(default_factory=set)
    """Modules of which the order cannot be told, as within a compiled region."""


class Graph:
    """One graph, read before its backward pass; :meth:`paths` may be asked for afterwards."""

    def __init__(
        self, roots: Sequence[Any], home: Mapping[torch.Tensor, str], peek: bool = False
    ) -> None:
        """``peek``: whether saved tensors may be looked at, to see frozen weights as well."""
        self._home, self._peek = home, peek
        self.roots = [node for node in map(_node_of, roots) if node is not None]
        self.parameters: set[torch.Tensor] = set()
        """All that are in the graph, wherever they belong."""
        self.plain = True
        """Whether every operation is torch's own, so that nothing is hidden in it."""
        self._inner: dict[Any, list[Any]] = {}
        self._frozen: dict[Any, str] = {}
        self._read(self.roots)

    def _read(self, roots: Sequence[Any]) -> None:
        frozen = {
            p.untyped_storage().data_ptr(): module
            for p, module in self._home.items()
            if self._peek and p.layout == torch.strided and p.numel()
        }
        for node in self._ordered(roots):
            if hasattr(node, "variable"):
                self.parameters.add(node.variable)
            if isinstance(node, BackwardCFunction):
                self.plain = False
            elif frozen:
                for saved in _saved_weights(node):
                    module = frozen.get(saved.untyped_storage().data_ptr())
                    if module is not None:
                        self._frozen[node] = module

    def inner(self, node: Any, roots: Sequence[Any]) -> None:
        """Record that a node ran a backward pass of its own, as reentrant checkpoints do."""
        inside = [n for n in map(_node_of, roots) if n is not None]
        self._inner.setdefault(node, []).extend(inside)
        self._read(inside)

    def _children(self, node: Any) -> list[Any]:
        """The nodes that a node hands gradients to; what it hides comes first."""
        outside = [child for child, _ in node.next_functions if child is not None]
        return [*self._inner.get(node, ()), *outside]

    def _ordered(
        self, roots: Sequence[Any], outer: Mapping[Any, Sequence[Any]] = MappingProxyType({})
    ) -> list[Any]:
        """All nodes, each after its children; ``outer`` are edges from hidden leaves outwards."""
        done: set[Any] = set()
        order: list[Any] = []
        stack: list[tuple[Any, bool]] = [(root, False) for root in roots]
        while stack:
            node, ready = stack.pop()
            if ready:
                order.append(node)
            elif node not in done:
                done.add(node)
                stack.append((node, True))
                children = [*self._children(node), *outer.get(node, ())]
                stack += [(child, False) for child in children if child not in done]
        return order

    def paths(self) -> Paths:
        """How the gradient travels between modules."""
        # What a checkpoint hides gets its inputs from the checkpoint's own inputs.
        order = self._ordered(self.roots)
        outer: dict[Any, list[Any]] = {}
        for node, inside in self._inner.items():
            outside = [child for child, _ in node.next_functions if child is not None]
            for leaf in self._ordered(inside):
                if hasattr(leaf, "variable") and leaf.variable not in self._home:
                    outer.setdefault(leaf, []).extend(outside)
        if outer:
            order = self._ordered(self.roots, outer)
        weights: dict[Any, str | None] = {}
        reached: dict[Any, frozenset[str]] = {}
        result = Paths()
        for node in order:
            children = [*self._children(node), *outer.get(node, ())]
            own = self._home.get(node.variable) if hasattr(node, "variable") else None
            reached[node] = frozenset([own] if own else []).union(
                *(reached.get(c, frozenset()) for c in children)
            )
            weights[node] = own if own else self._rearranged(node, children, weights)
        near: dict[Any, set[str]] = {root: {LOSS} for root in self.roots}
        for node in reversed(order):
            self._pass_on(node, [*self._children(node), *outer.get(node, ())], weights, reached,
                          near, result)  # fmt: skip
        result.modules = frozenset().union(*(reached[root] for root in self.roots))
        return result

    def _pass_on(
        self,
        node: Any,
        children: Sequence[Any],
        weights: Mapping[Any, str | None],
        reached: Mapping[Any, frozenset[str]],
        near: dict[Any, set[str]],
        result: Paths,
    ) -> None:
        before = near.get(node, set())
        if weights[node] is not None:
            for child in children:
                near.setdefault(child, set()).update(before)
            return
        parts = [child for child in children if weights.get(child) is not None]
        own = {weights[child] for child in parts} | {self._frozen.get(node)}
        own.discard(None)
        data = [child for child in children if child not in parts and child not in
                self._inner.get(node, ())]  # fmt: skip
        inside = self._inner.get(node, ())
        if _is_compiled(node) and len(own) > 1:
            result.hidden.update(m for m in own if m)
        for module in own:
            assert module is not None
            result.feeds.setdefault(module, set()).update(before - {module})
            behind = set().union(*(reached[child] for child in data)) if data else set()
            result.beyond.setdefault(module, set()).update(behind - {module})
        passed = {m for m in own if m} or before
        for child in [*parts, *data, *inside]:
            # A checkpoint's outside inputs are reached by way of its inside.
            if not (inside and child in data):
                near.setdefault(child, set()).update(passed)

    def _rearranged(
        self, node: Any, children: Sequence[Any], weights: Mapping[Any, str | None]
    ) -> str | None:
        """The module of which a node is only its parameters, rearranged."""
        if not children or not _CHAIN.match(node.name()):
            return None
        found = {weights.get(child) for child in children}
        return found.pop() if len(found) == 1 else None


def _node_of(root: Any) -> Any:
    """Where the graph of a tensor or an edge starts; for a leaf, what adds to its ``.grad``."""
    if isinstance(root, GradientEdge):
        return root.node
    if root.grad_fn is not None:
        return root.grad_fn
    return torch.autograd.graph.get_gradient_edge(root).node if root.requires_grad else None


def _saved_weights(node: Any) -> Iterator[torch.Tensor]:
    for name in _SAVED:
        try:
            saved = getattr(node, name, None)
        except RuntimeError:  # freed, or changed in place since
            continue
        if isinstance(saved, torch.Tensor) and saved.layout == torch.strided:
            yield saved


def _is_compiled(node: Any) -> bool:
    return "CompiledFunction" in node.name()


def multiple_of(node: Any) -> tuple[Any, float] | None:
    """The node of ``x`` and the constant ``c``, for a node of ``c * x``, ``x / c`` or ``-x``."""
    name = node.name()
    children = [(child, i) for i, (child, _) in enumerate(node.next_functions) if child is not None]
    if len(children) != 1:
        return None
    child, position = children[0]
    if name.startswith("NegBackward"):
        return child, -1.0
    if name.startswith(("MulBackward", "DivBackward")) and position == 0:
        constant = node._saved_other
    elif name.startswith("MulBackward"):
        constant = node._saved_self
    else:
        return None
    if not isinstance(constant, torch.Tensor) or constant.numel() != 1 or not _scalar(child):
        return None
    value = float(constant)
    if name.startswith("DivBackward"):
        value = 1 / value if value else float("inf")
    return (child, value) if value and abs(value) != float("inf") and value == value else None


def terms(
    root: Any, named: Callable[[Any], bool] = lambda node: False, most: int = 8
) -> list[tuple[Any, float]]:
    """The summands of a scalar: node and constant factor of each; one where it is no sum.

    What has a name is not taken apart further.
    """
    found: list[tuple[Any, float]] = []
    stack: list[tuple[Any, float]] = [(root, 1.0)]
    while stack:
        node, factor = stack.pop()
        scaled = multiple_of(node)
        children = [child for child, _ in node.next_functions if child is not None]
        sum_ = re.match(r"(Add|Sub)Backward", node.name())
        if node is not root and named(node):
            found.append((node, factor))
        elif scaled is not None:
            stack.append((scaled[0], factor * scaled[1]))
        elif sum_ and all(map(_scalar, children)):
            second = float(node._saved_alpha) * (-1.0 if sum_[1] == "Sub" else 1.0)
            ends = [
                (child, factor * (second if i else 1.0))
                for i, (child, _) in enumerate(node.next_functions)
                if child is not None
            ]
            stack += reversed(ends)
        else:
            found.append((node, factor))
    return found if len(found) <= most else []


def _scalar(node: Any) -> bool:
    metadata = getattr(node, "_input_metadata", None)
    if metadata is None or len(metadata) != 1:
        return False
    count = 1
    for size in metadata[0].shape:
        count *= int(size)
    return count == 1
