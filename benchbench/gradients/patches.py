"""Patches of torch's functions that report to a watch; undone when the block ends."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

if TYPE_CHECKING:
    from benchbench.gradients.watch import GradientWatch, StepCall


@contextmanager
def patched(watch: GradientWatch) -> Iterator[None]:
    """Report every backward pass, ``zero_grad`` and ``step`` in a block to a watch."""
    patches = _Patches(watch)
    with ExitStack() as undo:
        patches.put(undo)
        yield


class _Patches:
    def __init__(self, watch: GradientWatch) -> None:
        self.watch = watch
        self._in_backward = 0
        self._own: set[int] = set()
        """Optimizers whose own ``step`` is patched, which ends their calls."""

    def put(self, undo: ExitStack) -> None:
        for hook in (
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ):
            undo.callback(hook.remove)
        # Both torch.autograd.backward and torch.autograd.grad run through this one function,
        # under whatever name a user has imported them.
        _patch(undo, torch.autograd, "_engine_run_backward", self._engine)
        _patch(undo, nn.Module, "zero_grad", self._module_zero_grad)
        _patch(undo, torch.optim.Optimizer, "zero_grad", self._class_zero_grad)
        _patch(undo, torch.amp.GradScaler, "step", self._scaler_step)
        hooks = torch.autograd.graph.saved_tensors_hooks
        _patch(undo, hooks, "__enter__", self._saved_tensors_hooks)
        for optimizer in list(self.watch.optimizers.values()):
            _patch(undo, optimizer, "zero_grad", functools.partial(self._zero_grad, optimizer))
            _patch(undo, optimizer, "step", functools.partial(self._step, optimizer))
            self._own.add(id(optimizer))

    def _engine(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def engine(roots: Any, grads: Any, keep: Any, create: Any, inputs: Any, *args: Any,
                   accumulate_grad: bool, **options: Any) -> Any:  # fmt: skip
            def run() -> Any:
                self._in_backward += 1
                try:
                    return original(roots, grads, keep, create, inputs, *args,
                                    accumulate_grad=accumulate_grad, **options)  # fmt: skip
                finally:
                    self._in_backward -= 1

            if self._in_backward:
                if accumulate_grad:
                    self.watch.nested(_tuple(roots))
                return run()
            self._in_backward += 1  # the watch's own backward passes are not watched
            try:
                if accumulate_grad:
                    return self.watch.backward(_tuple(roots), run)
                return self.watch.grad(_tuple(roots), _tuple(inputs), run)
            finally:
                self._in_backward -= 1

        return engine

    # ------------------------------------------------------------------ zero_grad

    def _zeroed(self, name: str, held: Sequence[torch.Tensor], run: Callable[[], Any]) -> Any:
        if self.watch.zeroing:
            return run()
        self.watch.zeroing += 1
        try:
            return self.watch.zero_grad(name, held, run)
        finally:
            self.watch.zeroing -= 1

    def _zero_grad(self, optimizer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def zero_grad(_: Any, *args: Any, **options: Any) -> Any:
            held = [p for g in optimizer.param_groups for p in g["params"]]
            return self._zeroed(
                self.watch.name_of(optimizer), held, lambda: original(*args, **options)
            )

        return types.MethodType(zero_grad, optimizer)

    def _class_zero_grad(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def zero_grad(optimizer: Any, *args: Any, **options: Any) -> Any:
            def run() -> Any:
                return original(optimizer, *args, **options)

            if self.watch.zeroing:
                return run()
            held = [p for g in optimizer.param_groups for p in g["params"]]
            if not self.watch.knows(optimizer):
                self.watch.refresh()
            if not any(p in self.watch.home for p in held):
                return run()
            return self._zeroed(self.watch.name_of(optimizer), held, run)

        return zero_grad

    def _module_zero_grad(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def zero_grad(module: nn.Module, *args: Any, **options: Any) -> Any:
            home = self.watch.home
            names = sorted({home[p] for p in module.parameters() if p in home})

            def run() -> Any:
                return original(module, *args, **options)

            return self._zeroed(" and ".join(names), (), run) if names else run()

        return zero_grad

    # ------------------------------------------------------------------ step

    def _step(self, optimizer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        """Of a named optimizer, so that what it drives is booked to it."""

        @functools.wraps(original)
        def step(_: Any, *args: Any, **options: Any) -> Any:
            from benchbench.gradients.watch import StepCall

            watch = self.watch
            if any(call.optimizer is optimizer for call in watch.active):
                return original(*args, **options)
            call = StepCall(optimizer)
            watch.active.append(call)
            try:
                result = original(*args, **options)
            finally:
                watch.active[:] = [c for c in watch.active if c is not call]
            if call.position is None and not watch.active:
                # One that torch's hooks do not know; it stepped if its parameters moved.
                held = [p for g in optimizer.param_groups for p in g["params"]]
                if any(watch.weights.displacement(p) is not None for p in held):
                    name = watch.name_of(optimizer)
                    watch.weights.compare(held, name)
                    watch.book_step(call, name, held)
                    watch.stepped(name, held)
            return result

        return types.MethodType(step, optimizer)

    def _before_step(
        self, optimizer: Any, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        from benchbench.gradients.watch import StepCall

        watch = self.watch
        held = [p for g in optimizer.param_groups for p in g["params"]]
        if not watch.knows(optimizer):
            watch.refresh()
        if not any(p in watch.home for p in held):
            return None  # an optimizer of something else
        call = next((c for c in watch.active if c.optimizer is optimizer), None)
        if call is None:
            call = StepCall(optimizer)
            watch.active.append(call)
        outer, name = self._name(optimizer)

        def book() -> None:
            target = call if outer is None else outer
            if target.position is None or watch.events[target.position].by == name:
                watch.book_step(target, name, held)
            else:
                call.booked |= target.booked
                watch.book_step(call, name, held)
                target.booked |= call.booked
            call.position = target.position if call.position is None else call.position

        given = [a for a in (*args, *options.values()) if callable(a)]
        if not given:
            book()
            call.closure_ran = True
            return None
        closure = given[0]

        @functools.wraps(closure)
        def watched(*a: Any, **k: Any) -> Any:
            result = closure(*a, **k)
            call.booked.clear()
            call.position = None
            if outer is not None:
                outer.booked.clear()
                outer.position = None
            book()
            call.closure_ran = True
            return result

        def swap(a: Any) -> Any:
            return watched if a is closure else a

        return tuple(map(swap, args)), {k: swap(v) for k, v in options.items()}

    def _after_step(self, optimizer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        watch = self.watch
        held = [p for g in optimizer.param_groups for p in g["params"]]
        call = next((c for c in watch.active if c.optimizer is optimizer), None)
        if call is None:
            return
        _, name = self._name(optimizer)
        if not call.closure_ran:
            watch.book_step(call, name, held)
        watch.stepped(name, held)
        if id(optimizer) not in self._own:
            watch.active[:] = [c for c in watch.active if c is not call]

    def _name(self, optimizer: Any) -> tuple[StepCall | None, str]:
        """The call that drives an optimizer, and the name under which its step is booked."""
        watch = self.watch
        outer = watch.active[0] if watch.active and watch.active[0].optimizer is not optimizer \
            else None  # fmt: skip
        if outer is None:
            return None, watch.name_of(optimizer)
        driver = watch.name_of(outer.optimizer)
        if watch.knows(optimizer):
            name = watch.name_of(optimizer)
            watch.drives.setdefault(driver, set()).add(name)
            return outer, name
        return outer, driver

    # ------------------------------------------------------------------ scalers, hooks

    def _scaler_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def step(scaler: Any, optimizer: Any, *args: Any, **options: Any) -> Any:
            watch = self.watch
            inner = optimizer if watch.knows(optimizer) else getattr(optimizer, "optimizer", None)
            before = dict(watch.step_calls)
            result = original(scaler, optimizer, *args, **options)
            state = scaler._per_optimizer_states[id(optimizer)] if scaler.is_enabled() else {}
            infinite = sum(float(v) for v in state.get("found_inf_per_device", {}).values())
            known = optimizer if watch.knows(optimizer) else inner
            if infinite and known is not None and watch.step_calls == before:
                watch.skipped(known)
            return result

        return step

    def _saved_tensors_hooks(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def enter(hooks: Any) -> Any:
            self.watch.hooked = True
            return original(hooks)

        return enter


def _tuple(tensors: Any) -> tuple[Any, ...]:
    return tuple(tensors) if isinstance(tensors, (tuple, list)) else (tensors,)


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
