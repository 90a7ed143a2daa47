"""What a user calls a loss: the name of the variable on which ``backward()`` is called.

The name is looked for in the frames between the audit and the call, the outermost first, so that a
helper's ``loss`` is known by what its caller calls it. A constant factor (``loss / 2``, a scaler's)
is looked through. Where every variable is just ``loss``, the function, then the line, then the
modules that it reaches tell losses apart; where there is no variable, the source of the expression
names the loss; else losses are numbered.
"""

from __future__ import annotations

import ast
import itertools
import linecache
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

from benchbench.gradients.graph import multiple_of

GENERIC = frozenset({
    "loss", "losses", "total", "total_loss", "tensor", "tensors", "value", "x", "output", "outputs",
    "result", "objective", "closure_loss", "scaled", "scaled_loss", "loss_scaled", "out", "root",
    "l", "roots", "step_output",
})  # fmt: skip
"""Names that say nothing of which loss it is; their places tell them apart."""

_NOT_THE_USERS = tuple(f"{Path(file).parent}{os.sep}" for file in (torch.__file__, __file__))

LONGEST = 40
"""An expression's source is cut to this many characters."""

Place = tuple[str, int, int]
"""Function, line, and the position of the call within the code."""


@dataclass(frozen=True)
class Name:
    """What a loss is called and, for a name that says little, where: frames from inside out."""

    text: str | None
    places: tuple[Place, ...] = ()
    factor: float = field(default=1.0, compare=False)
    """The constant by which the named tensor was multiplied before ``backward()``."""


class LossNames:
    """Names losses by the caller's variables, in frames up to that of a given code."""

    def __init__(self, outermost: CodeType | None) -> None:
        self._outermost = outermost
        self._terms: dict[Any, str] = {}

    def __call__(self, roots: Sequence[Any]) -> Name:
        """The name of the tensors of a backward pass; to be called below it."""
        frames = self._user_frames()
        if not frames:
            return Name(None)
        self._terms = {}
        for name, value, _ in _tensors(frames):
            if value.grad_fn is not None and value.numel() == 1:
                known = self._terms.get(value.grad_fn)
                if known is None or known in GENERIC:
                    self._terms[value.grad_fn] = name
        places = tuple((frame.f_code.co_name, frame.f_lineno, frame.f_lasti) for frame in frames)
        if len(roots) == 1:
            found, factor = _scaled_variable(roots[0], frames)
        else:
            every = [_variable(root, frames) for root in roots]
            known_parts = [part for part in every if part is not None]
            found, factor = None, 1.0
            if known_parts and len(known_parts) == len(every):
                text = " + ".join(dict.fromkeys(part[0] for part in known_parts))
                return Name(text, () if all(part[1] for part in known_parts) else places)
        if found is not None:
            text, telling = found
            return Name(text, () if telling else places, factor)
        return Name(_expression(frames[0]), places)

    def name_term(self, node: Any) -> str | None:
        """The variable that a summand of the last named loss was kept in; not a generic one."""
        name = self._terms.get(node)
        return None if name in GENERIC else name

    def forget(self) -> None:
        """Release the last loss's graph."""
        self._terms = {}

    def _user_frames(self) -> list[FrameType]:
        """The user's frames, innermost first."""
        frames: list[FrameType] = []
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code is not self._outermost:
            if not frame.f_code.co_filename.startswith(_NOT_THE_USERS):
                frames.append(frame)
            frame = frame.f_back
        return frames


class GivenNames:
    """Names losses by the user's list, once all steps are seen.

    A name belongs to a place in the code; where one place runs several backward passes in a step,
    to the first, second, … of them. So a loss that is left out in some steps keeps its name.
    """

    def __init__(self, names: Sequence[str], outermost: CodeType | None) -> None:
        self._names = list(names)
        self._places = LossNames(outermost)
        self._steps: list[list[tuple[Place, ...]]] = [[]]

    def __call__(self, roots: Sequence[Any]) -> tuple[int, int]:
        """Where the answer will be found: the step, and the position in it."""
        frames = self._places._user_frames()
        place = tuple((frame.f_code.co_name, frame.f_lineno, frame.f_lasti) for frame in frames)
        self._steps[-1].append(place)
        return len(self._steps) - 1, len(self._steps[-1]) - 1

    def end_step(self) -> None:
        """The next backward pass is of another step."""
        self._steps.append([])

    def resolve(self) -> dict[Any, str]:
        """The name of every answer; :class:`ValueError` where the list does not fit the loop."""
        sites: dict[tuple[Place, ...], None] = {}
        numbered: dict[tuple[tuple[Place, ...], int], None] = {}
        keys: dict[tuple[int, int], tuple[tuple[Place, ...], int]] = {}
        for s, step in sorted(enumerate(self._steps), key=lambda item: -len(item[1])):
            for position, place in enumerate(step):
                key = place, step[:position].count(place)
                keys[s, position] = key
                sites[place] = numbered[key] = None
        if len(numbered) == len(self._names):
            names = dict(zip(numbered, self._names, strict=True))
            return {at: names[key] for at, key in keys.items()}
        if len(sites) == len(self._names):
            by_site = dict(zip(sites, self._names, strict=True))
            return {at: by_site[key[0]] for at, key in keys.items()}
        if not numbered:
            return {}
        raise ValueError(
            f"losses names {self._names}, and the steps run {len(numbered)} different backward "
            f"passes from {len(sites)} lines; give one name for each"
        )


def labels(names: Sequence[tuple[Name, frozenset[str]]]) -> dict[tuple[Name, frozenset[str]], str]:
    """A distinct text for each name and the modules reached, in the order of appearance."""
    distinct = list(dict.fromkeys(names))
    numbers = itertools.count(1)
    found: dict[tuple[Name, frozenset[str]], str] = {}
    unnamed: dict[tuple[Name, frozenset[str]], str] = {}
    for key in distinct:
        name, reached = key
        if name.text is None:
            at = (name, frozenset()) if not name.places else key
            unnamed.setdefault(at, "")
            unnamed[at] = unnamed[at] or f"loss {next(numbers)}"
            found[key] = unnamed[at]
            continue
        if not name.places:
            several = any(n == name and r != reached for n, r in distinct)
            found[key] = name.text + (_on(reached) if several else "")
            continue
        alike = list(dict.fromkeys(n for n, _ in distinct if n.text == name.text))
        text = name.text + _where(name, alike)
        if any(n == name and r != reached for n, r in distinct):
            text += _on(reached)
        found[key] = text
    return found


def _on(modules: frozenset[str]) -> str:
    return f" on {', '.join(sorted(modules)) or 'nothing'}"


def _where(name: Name, alike: Sequence[Name]) -> str:
    """What tells a name from others of the same text: the function, the line, or the call in it."""
    if len(alike) == 1:
        return ""
    for level in range(len(name.places)):
        here = [n.places[level] if level < len(n.places) else ("", 0, 0) for n in alike]
        function, line, call = name.places[level]
        functions = [place[0] for place in here]
        if len(set(functions)) > 1 and functions.count(function) == 1:
            return f" of {function}"
        lines = [place[:2] for place in here]
        if len(set(lines)) > 1 and lines.count((function, line)) == 1:
            return f" in line {line}"
        if len(set(here)) == len(here):
            calls = sorted(p[2] for p in here if p[:2] == (function, line))
            return f" in line {line}, call {calls.index(call) + 1}"
    lines_of_all = "/".join(str(place[1]) for place in name.places[:2])
    return f" in line {lines_of_all}, number {alike.index(name) + 1}"


def _tensors(frames: Sequence[FrameType]) -> Iterator[tuple[str, torch.Tensor, FrameType]]:
    """The tensors in variables, the outermost frame first."""
    for frame in reversed(frames):
        for name, value in list(frame.f_locals.items()):
            if isinstance(value, torch.Tensor) and name != "self":
                yield name, value, frame


def _variable(root: Any, frames: Sequence[FrameType], node: Any = None) -> tuple[str, bool] | None:
    """The variable that is the tensor or has the node, and whether its name tells enough.

    Names that are not generic come first, then those of outer frames. A helper's argument says
    less than a variable: the helper may be called with anything.
    """
    found = []
    for name, value, frame in _tensors(frames):
        if value is root or (node is not None and value.grad_fn is node):
            code = frame.f_code
            argument = name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            found.append((name, name not in GENERIC and not argument))
    return min(found, key=lambda item: (not item[1], item[0] in GENERIC), default=None)


def _scaled_variable(
    root: Any, frames: Sequence[FrameType]
) -> tuple[tuple[str, bool] | None, float]:
    """The variable that is the loss or, times a constant, makes it; and the constant."""
    first = _variable(root, frames)
    if first is not None and first[0] not in GENERIC:
        return first, 1.0
    factor, node = 1.0, getattr(root, "grad_fn", None)
    best: tuple[tuple[str, bool], float] | None = (first, 1.0) if first else None
    while node is not None:
        scaled = multiple_of(node)
        if scaled is None:
            break
        node, by = scaled
        if by < 0:
            break
        factor *= by
        found = _variable(None, frames, node)
        if found is not None and (best is None or best[0][0] in GENERIC):
            best = found, factor
    return best if best else (None, 1.0)


def _expression(frame: FrameType) -> str | None:
    """The source of ``…`` in the ``….backward()`` a frame is at, or None without the source."""
    position = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    first, last, left, right = position
    if first is None or last is None or left is None or right is None:
        return None
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)[first - 1 : last]
    if len(lines) != last - first + 1:
        return None
    encoded = [line.encode() for line in lines]  # columns are counted in bytes
    encoded[-1] = encoded[-1][:right]
    encoded[0] = encoded[0][left:]
    try:
        call = ast.parse(b"".join(encoded).decode().strip(), mode="eval").body
    except (SyntaxError, UnicodeDecodeError):
        return None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return None
    of_tensor = not (call.args and ast.unparse(call.func).startswith(("torch.", "autograd.")))
    text = ast.unparse(call.func.value if of_tensor else call.args[0]).removeprefix("self.")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
