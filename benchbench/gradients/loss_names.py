"""What a user calls a loss: the name of the variable on which ``backward()`` is called.

The name is looked for in the frames between the audit and the call, the outermost first, so that a
helper's ``loss`` is known by what its caller calls it. Where every variable is just ``loss``, the
function (and then the line) tells them apart; where there is none, the source of the expression;
else the losses are numbered.
"""

from __future__ import annotations

import ast
import itertools
import linecache
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

import torch

GENERIC = frozenset({"loss", "losses", "total", "total_loss", "tensor", "tensors", "value", "x"})
"""Names that say nothing of which loss it is; their places tell them apart."""

_NOT_THE_USERS = tuple(f"{Path(file).parent}{os.sep}" for file in (torch.__file__, __file__))

LONGEST = 40
"""An expression's source is cut to this many characters."""


@dataclass(frozen=True)
class Name:
    """What a loss is called and, for a name that says little, where."""

    text: str | None
    function: str = ""
    line: int = 0


class LossNames:
    """Names losses by the caller's variables, in frames up to that of a given code."""

    def __init__(self, outermost: CodeType) -> None:
        self._outermost = outermost

    def __call__(self, tensors: Sequence[torch.Tensor]) -> Name:
        """The name of the tensors of a backward pass; to be called below it."""
        frames = self._user_frames()
        if not frames:
            return Name(None)
        parts = [_variable(tensor, frames) for tensor in tensors]
        known = [part for part in parts if part is not None]
        if known and len(known) == len(parts):
            telling = all(text not in GENERIC for text, _ in known)
            text = " + ".join(dict.fromkeys(text for text, _ in known))
            return Name(text) if telling else Name(text, *_place(known[0][1]))
        text_or_none = _expression(frames[0])
        return Name(text_or_none) if text_or_none else Name(None, *_place(frames[0]))

    def _user_frames(self) -> list[FrameType]:
        """The user's frames, innermost first."""
        frames: list[FrameType] = []
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code is not self._outermost:
            if not frame.f_code.co_filename.startswith(_NOT_THE_USERS):
                frames.append(frame)
            frame = frame.f_back
        return frames


def labels(names: Sequence[Name]) -> dict[Name, str]:
    """A distinct text for each name, in the order of their first appearance."""
    distinct = list(dict.fromkeys(names))
    numbers = itertools.count(1)
    found: dict[Name, str] = {}
    for name in distinct:
        alike = [other for other in distinct if other.text == name.text]
        if name.text is None:
            found[name] = f"loss {next(numbers)}"
        elif len(alike) == 1:
            found[name] = name.text
        elif sum(other.function == name.function for other in alike) == 1:
            found[name] = f"{name.text} of {name.function}"
        else:
            found[name] = f"{name.text} in line {name.line}"
    return found


def _variable(tensor: torch.Tensor, frames: Sequence[FrameType]) -> tuple[str, FrameType] | None:
    """The variable that is the tensor, and its frame: telling ones first, then outer ones."""
    found = [
        (name, frame)
        for frame in reversed(frames)
        for name, value in frame.f_locals.items()
        if value is tensor and name != "self"
    ]
    return min(found, key=lambda item: item[0] in GENERIC, default=None)


def _place(frame: FrameType) -> tuple[str, int]:
    return frame.f_code.co_name, frame.f_lineno


def _expression(frame: FrameType) -> str | None:
    """The source of ``…`` in the ``….backward()`` that a frame is at, where it can be had."""
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
    of_tensor = not (call.args and ast.unparse(call.func).startswith("torch."))
    text = ast.unparse(call.func.value if of_tensor else call.args[0]).removeprefix("self.")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
