"""An audit of a script that trains at its top level: run it under watch, stop it after some steps.

A training step is what lies between two visits of the first place that clears or makes gradients,
if an optimizer has stepped in between. Modules and optimizers are found in the variables of the
script and of the functions that it is in.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from benchbench.gradients.audit import _enough, _relabel
from benchbench.gradients.find import find, is_optimizer, named_parameters, optimizers_of
from benchbench.gradients.loss_names import LossNames
from benchbench.gradients.patches import patched
from benchbench.gradients.result import Audit, audit_of
from benchbench.gradients.watch import GradientWatch

_HERE = str(Path(__file__).parent)
_TORCH = str(Path(torch.__file__).parent)


class _Seen(BaseException):
    """Ends the script when enough was seen; no ``except Exception`` of the script stops it."""


class ScriptFailed(RuntimeError):
    """The script raised before anything was seen; the message says what."""


def audit_script(
    path: Path, arguments: Sequence[str] = (), steps: int = 3, max_steps: int | None = None
) -> Audit:
    """Run a script as ``python path arguments`` does, and audit its training.

    It is stopped at the start of the step after ``steps`` steps, or later where an optimizer has
    not stepped twice by then, at most ``max_steps`` (ten times ``steps``). Raises
    :class:`ScriptFailed` where the script raises.
    """
    variables = _Variables()
    watch = _ScriptWatch(variables, steps, max_steps or 10 * steps)
    argv, folder = sys.argv, str(path.resolve().parent)
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, folder)
    try:
        with patched(watch):
            watch.start_step()
            try:
                runpy.run_path(str(path), run_name="__main__")
            except (_Seen, SystemExit):
                pass
            except Exception as error:
                raise ScriptFailed(f"{path}: {type(error).__name__}: {error}") from error
            watch.end_step()
    finally:
        sys.argv = argv
        sys.path.remove(folder)
    if watch.steps > 1 and not any(e.step == watch.steps for e in watch.events):
        watch.steps -= 1
    _relabel(watch, None)
    return audit_of(watch)


class _ScriptWatch(GradientWatch):
    """Finds the steps by itself, and ends the script."""

    def __init__(self, variables: _Variables, steps: int, most: int) -> None:
        self._anchor: Any = None
        self._stepped = False
        self._wanted, self._most = steps, most
        super().__init__({}, {}, LossNames(None), True, variables)
        self.finds = True

    def _boundary(self, kind: str) -> None:
        place = kind, tuple((f.f_code, f.f_lineno) for f in _frames())
        self._anchor = self._anchor or place
        if place == self._anchor and self._stepped:
            self._stepped = False
            self.end_step()
            if self.steps >= self._most or (self.steps >= self._wanted and _enough(self)):
                raise _Seen
            self.start_step()

    def backward(self, roots: Sequence[Any], run: Callable[[], Any]) -> Any:
        self._boundary("backward")
        return super().backward(roots, run)

    def zero_grad(self, name: str, held: Sequence[torch.Tensor], run: Callable[[], Any]) -> Any:
        self._boundary("zero_grad")
        return super().zero_grad(name, held, run)

    def stepped(self, name: str, held: Sequence[torch.Tensor]) -> bool:
        self._stepped = True
        return super().stepped(name, held)


class _Variables:
    """The modules and optimizers in the variables of the running script."""

    def __init__(self) -> None:
        self._modules: dict[str, Any] = {}
        self._optimizers: dict[str, Any] = {}
        self._last: frozenset[int] = frozenset()

    def __call__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        held: dict[str, Any] = {}
        for frame in _frames():  # innermost first: outer names win
            held |= {n: v for n, v in frame.f_locals.items() if not n.startswith("__")}
        now = frozenset(id(v) for v in held.values() if _may_hold(v))
        if now <= self._last:
            return self._modules, self._optimizers
        self._last |= now
        modules, optimizers = find({n: v for n, v in held.items() if _may_hold(v)})
        for name, module in modules.items():
            if not any(module is known for known in self._modules.values()):
                self._modules.setdefault(name, module)
        known = list(self._optimizers.values())
        for name, optimizer in optimizers.items():
            if not any(optimizer is other for other in known):
                self._optimizers.setdefault(name, optimizer)
        parameters = {p for m in self._modules.values() for p in named_parameters(m).values()}
        inner = {id(i) for o in self._optimizers.values() for i in vars(o).values()}
        for optimizer in optimizers_of(parameters):
            taken = any(optimizer is o for o in self._optimizers.values())
            if not taken and id(optimizer) not in inner:
                name = type(optimizer).__name__
                while name in self._optimizers:
                    name += "'"
                self._optimizers[name] = optimizer
        return self._modules, self._optimizers


def _may_hold(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.requires_grad and value.is_leaf
    plain = (str, bytes, int, float, bool, type(None), type, type(sys))
    return (
        isinstance(value, nn.Module)
        or is_optimizer(value)
        or not (isinstance(value, plain) or callable(value))
    )


def _frames() -> list[FrameType]:
    """The frames of the script and what it calls, innermost first."""
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not audit_script.__code__:
        name = frame.f_code.co_filename
        if not name.startswith((_HERE, _TORCH, "<frozen")):
            frames.append(frame)
        frame = frame.f_back
    return frames
