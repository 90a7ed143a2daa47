"""Heartbeats: a small file that a running cell updates, for ``benchbench status`` to read.

``running/<key>.json`` is written by the cell's own process, whichever machine that is on, and
removed when it ends. A killed process leaves it behind; such a file is recognised by its process
being gone.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchbench.core.files import from_json, write_text

log = logging.getLogger(__name__)

FRESH_SECONDS = 2.0
"""Least time between two writes of a heartbeat; the first progress is written at once."""

LOST_SECONDS = 120.0
"""Seconds of silence after which a cell on another machine counts as dead."""


@dataclass(frozen=True)
class Heartbeat:
    """The progress of a running cell. Times are seconds since the epoch."""

    key: str
    pid: int
    host: str
    born: str
    """Distinguishes the process from a later one with the same number; '' where unknown."""
    device: str
    since: float
    first: int
    """Updates done when this process began: more than 0 where it went on from a checkpoint."""
    updates: int
    wanted: int
    seen: float

    @classmethod
    def of_this_process(cls, key: str, device: str, wanted: int) -> Heartbeat:
        """The heartbeat of a cell that begins in this process now."""
        now, pid = time.time(), os.getpid()
        return cls(key, pid, socket.gethostname(), _born(pid), device, now, 0, 0, wanted, now)

    @property
    def alive(self) -> bool:
        """Whether its process is still there."""
        if self.host != socket.gethostname():
            # In either direction: a clock that was set back leaves heartbeats from the future.
            return abs(time.time() - self.seen) < LOST_SECONDS
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return _born(self.pid) == self.born

    def seconds_left(self) -> float | None:
        """At the speed so far, evaluations included; None before that is known."""
        done, spent = self.updates - self.first, self.seen - self.since
        if done <= 0 or spent <= 0:  # not begun, or the clock was set back
            return None
        return (self.wanted - self.updates) * spent / done


class HeartbeatWriter:
    """Writes a cell's heartbeat. A write that fails is logged and does not affect the cell."""

    def __init__(self, path: Path, heartbeat: Heartbeat) -> None:
        self._path, self._heartbeat, self._next = path, heartbeat, 0.0
        self.tell(0, 0)

    def tell(self, updates: int, first: int) -> None:
        """The cell has done ``updates`` updates, ``first`` of them in earlier processes."""
        now = time.monotonic()
        first_progress = updates > first and self._heartbeat.updates == self._heartbeat.first
        if now >= self._next or first_progress:
            self._next = now + FRESH_SECONDS
            self._heartbeat = replace(
                self._heartbeat, updates=updates, first=first, seen=time.time()
            )
            try:
                write_text(self._path, json.dumps(asdict(self._heartbeat)), synced=False)
            except OSError as error:
                log.warning("%s: %s", self._path, error)

    def remove(self) -> None:
        """The cell has ended."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def read_heartbeat(path: Path) -> Heartbeat | None:
    """The heartbeat in a file; None where there is none that can be read."""
    try:
        found = Heartbeat(**from_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    texts = (found.key, found.host, found.born, found.device)
    counts = (found.first, found.updates, found.wanted)
    whole = (
        all(isinstance(text, str) for text in texts)
        and all(type(count) is int and 0 <= count < 2**63 for count in counts)
        and type(found.pid) is int
        and 0 < found.pid < 2**31
        and all(isinstance(t, (int, float)) and 0 <= t < 2**33 for t in (found.since, found.seen))
    )
    return found if whole else None


def _born(pid: int) -> str:
    """The start time that Linux keeps of a process, field 22 of its ``stat``; '' for a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
