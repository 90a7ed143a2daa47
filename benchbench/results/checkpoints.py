"""Mid-cell checkpoints: a killed cell resumes where it was, and ends with the same bytes.

A checkpoint is one file, ``checkpoints/<key>.ckpt``: a line that names it, a line of JSON about it
(:class:`About` and the payload's length and hash), and the state as ``torch.save`` writes it. It is
read with ``weights_only=True``, so it is data and never code. It is written under a temporary name
beside its place, synced, then renamed. One that cannot be used is moved aside, the cell's log says
why, and the cell starts from scratch.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from benchbench.core.files import from_json, replaced

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of what a checkpoint holds; raised whenever that changes."""

SHARE = 0.05
"""Writing checkpoints takes at most this share of a cell's time, whatever the cadence."""

_FIRST_LINE = b"benchbench checkpoint\n"

State = dict[str, Any]
"""Tensors, numbers, texts, and lists and dictionaries of them: what ``weights_only`` lets pass."""


class Unusable(Exception):
    """Why a checkpoint cannot be continued from."""


class Stopped(Exception):
    """The cell was stopped and has left a checkpoint."""


@dataclass(frozen=True)
class About:
    """What a checkpoint was made from. All but ``updates`` and ``threads`` must match to resume."""

    key: str
    updates: int
    """Updates done."""
    threads: int
    """CPU threads; the cell resumes with the same number, as sums depend on it."""
    device: str
    versions: str
    git_commit: str | None
    data_sha256: str
    initial_weights: str

    def refuse(self, other: About) -> None:
        """Raise :class:`Unusable` where a cell like ``other`` would continue otherwise."""
        for field in fields(self):
            if field.name in ("updates", "threads"):
                continue
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine != theirs:
                raise Unusable(f"its {field.name} is {mine}, and is {theirs} here")


class Checkpoints:
    """The checkpoints of one cell while it runs.

    ``every`` is the cadence in seconds (``inf`` for never).
    """

    def __init__(self, path: Path, every: float) -> None:
        self._path, self._every = path, every
        self._next = time.monotonic() + every
        self._stopping = False
        self.resumed_from = 0
        """Updates of the checkpoint that the cell resumed from; 0 where it started from scratch."""

    @property
    def stopping(self) -> bool:
        """Whether the cell has been told to stop."""
        return self._stopping

    def stop(self) -> None:
        """Have the cell end at the next :meth:`save`, after a last checkpoint."""
        self._stopping = True

    def due(self) -> bool:
        """Whether :meth:`save` should be called at this boundary."""
        return self._stopping or time.monotonic() >= self._next

    def save(self, about: About, state: State) -> None:
        """Write a checkpoint; raises :class:`Stopped` afterwards where the cell is to stop.

        A write that fails is logged and does not end the cell.
        """
        start = time.monotonic()
        if self._every != float("inf"):
            try:
                write_checkpoint(self._path, about, state)
            except OSError as error:
                log.warning("checkpoint at update %d not written: %s", about.updates, error)
        if self._stopping:
            raise Stopped(f"told to stop at update {about.updates}")
        end = time.monotonic()
        self._next = end + max(self._every, (end - start) / SHARE)

    def load(self, here: About, device: str) -> tuple[About, State] | None:
        """The checkpoint to resume from, with its tensors on ``device``; None where there is none.

        One that cannot be used is moved aside, and the log says why.
        """
        if not self._path.exists():
            return None
        try:
            about, state = read_checkpoint(self._path, device)
            about.refuse(here)
        except Unusable as reason:
            aside = self._move_aside()
            log.warning(
                "%s: %s; moved to %s, starting from scratch", self._path, reason, aside.name
            )
            return None
        self.resumed_from = about.updates
        return about, state

    def discard(self) -> None:
        """Remove the checkpoint of a cell whose results are published."""
        self._path.unlink(missing_ok=True)

    def _move_aside(self) -> Path:
        number = 1
        while (aside := self._path.with_suffix(f".aside-{number}")).exists():
            number += 1
        os.replace(self._path, aside)
        return aside


def write_checkpoint(path: Path, about: About, state: State) -> None:
    """Write a checkpoint whole or not at all; raises ``OSError`` where it cannot be written."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    header = {
        "format": FORMAT,
        **asdict(about),
        "bytes": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    with replaced(path) as file:
        file.write(_FIRST_LINE + json.dumps(header).encode() + b"\n")
        file.write(payload)


def read_about(path: Path) -> About:
    """What a checkpoint is of, without reading the state.

    Raises :class:`Unusable` where it is no checkpoint, is damaged or of another format.
    """
    try:
        with path.open("rb") as file:
            return _read_header(file)[0]
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from None


def updates_in(path: Path) -> int | None:
    """Updates that a checkpoint holds; None where there is none that can be read."""
    try:
        return read_about(path).updates
    except Unusable:
        return None


def keep_checkpoint(path: Path, content: bytes) -> None:
    """Put a checkpoint from another machine in its place.

    Raises :class:`Unusable`, and keeps the old one, where it is not whole.
    """
    _read_whole(io.BytesIO(content))
    with replaced(path) as place:
        place.write(content)


def read_checkpoint(path: Path, device: str) -> tuple[About, State]:
    """A checkpoint, checked against its hash; raises :class:`Unusable` as :func:`read_about`."""
    import torch

    try:
        with path.open("rb") as file:
            about, payload = _read_whole(file)
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from None
    try:
        return about, torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except Exception as error:  # torch raises several kinds, also for what is not plain data
        raise Unusable(f"cannot be loaded ({type(error).__name__})") from None


def _read_whole(file: BinaryIO) -> tuple[About, bytes]:
    about, length, sha256 = _read_header(file)
    payload = file.read()
    if len(payload) != length or hashlib.sha256(payload).hexdigest() != sha256:
        raise Unusable("is damaged: its bytes are not those that were written")
    return about, payload


def _read_header(file: BinaryIO) -> tuple[About, int, str]:
    if file.readline(len(_FIRST_LINE)) != _FIRST_LINE:
        raise Unusable("is no checkpoint")
    try:
        header = from_json(file.readline())
        found = header.pop("format")
        if found != FORMAT:
            raise Unusable(f"has checkpoint format {found}, this benchbench reads {FORMAT}")
        length, sha256 = int(header.pop("bytes")), str(header.pop("sha256"))
        return About(**header), length, sha256
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unusable("is damaged: its header cannot be read") from None
