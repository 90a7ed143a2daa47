"""What becomes of failed cells: retries, fail-fast and the full disk, once for all executors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum

from benchbench.launch.executor import RunOptions, Watcher
from benchbench.launch.resources import published_row
from benchbench.results.checkpoints import updates_in
from benchbench.results.failures import RETRIED, Failure
from benchbench.results.heartbeat import LOST_SECONDS, read_heartbeat
from benchbench.results.store import Store
from benchbench.suite.grid import Cell

LOST_MARGIN_SECONDS = 5.0
"""Extra wait before a remote cell counts as dead."""


class Next(Enum):
    """What an executor does after a cell has failed."""

    RETRY = "place the cell again"
    GO_ON = "the cell has failed for good; the others go on"
    START_NO_MORE = "cells at work go on, no other cell is started"
    STOP = "cells at work are stopped, no other cell is started"


@dataclass(frozen=True)
class _Tries:
    """A failed cell's attempts, those of them without progress, and how far it got."""

    attempts: int = 0
    without_progress: int = 0
    safe: int = 0
    """Updates that its last checkpoint holds."""


class Supervisor:
    """Decides about failed cells and tells the watcher; one for the length of a run."""

    def __init__(self, store: Store, watcher: Watcher, options: RunOptions) -> None:
        self.store, self.watcher, self.options = store, watcher, options
        self._tries: dict[str, _Tries] = {}

    def is_done(self, cell: Cell) -> bool:
        """Whether the cell is published; if so, report its score and its time."""
        if not self.store.is_done(cell.key):
            return False
        row = published_row(self.store, cell.key)
        score = row["final_score"]
        self.watcher.finished(cell, float("nan") if score is None else score, row["total_seconds"])
        return True

    def look(self, cell: Cell) -> None:
        """Tell the watcher how far a cell is that runs elsewhere."""
        heartbeat = read_heartbeat(self.store.heartbeat_path(cell.key))
        if heartbeat:
            self.watcher.updated(cell, heartbeat.updates)

    def failed(self, cell: Cell, failure: Failure) -> Next:
        """Record a failure; a cell is retried while it makes progress, else ``retries`` times."""
        safe = updates_in(self.store.checkpoint_path(cell.key)) or 0
        before = self._tries.get(cell.key, _Tries())
        without_progress = before.without_progress + 1 if safe <= before.safe else 1
        self._tries[cell.key] = _Tries(before.attempts + 1, without_progress, safe)
        failure = replace(failure, attempts=before.attempts + 1)
        may_retry = without_progress <= self.options.retries and failure.kind in RETRIED
        if may_retry and not self.options.fail_fast:
            self._record(cell, failure)
            self.watcher.retrying(cell, failure)
            return Next.RETRY
        return self.give_up(cell, failure)

    def give_up(self, cell: Cell, failure: Failure) -> Next:
        """Record that the cell has failed for good; never :attr:`Next.RETRY`."""
        self._record(cell, failure)
        self.watcher.failed(cell, failure, self.store.log_path(cell.key))
        if self.options.fail_fast:
            return Next.STOP
        return Next.START_NO_MORE if failure.kind == "disk" else Next.GO_ON

    def end_early(self, cells: Sequence[Cell], because: Next) -> None:
        """Tell the watcher which cells are not run to their end."""
        if cells:
            reason = "--fail-fast" if because is Next.STOP else "the disk takes no results"
            self.watcher.ended_early(cells, reason)

    def _record(self, cell: Cell, failure: Failure) -> None:
        with suppress(OSError):  # a full disk: the watcher keeps it in memory
            self.store.record_failure(cell, failure)


def wait_until_stopped(cells: Sequence[Cell], store: Store) -> None:
    """Wait until none of the cells has a live heartbeat; one of a lost machine ends by its age."""
    end = time.monotonic() + LOST_SECONDS + LOST_MARGIN_SECONDS
    while time.monotonic() < end:
        heartbeats = [read_heartbeat(store.heartbeat_path(cell.key)) for cell in cells]
        if not any(heartbeat and heartbeat.alive for heartbeat in heartbeats):
            return
        time.sleep(0.5)
