"""What executors have in common: the cells that are out, followed through the results folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchbench.launch.attempts import Attempts
from benchbench.launch.local import RunOptions, Watcher
from benchbench.launch.resources import published_row
from benchbench.results.checkpoints import updates_in
from benchbench.results.failures import Failure
from benchbench.results.heartbeat import LOST_SECONDS, read_sign
from benchbench.results.store import Store
from benchbench.suite.grid import Cell

MARGIN_SECONDS = 5.0
"""So much longer than a lost cell's sign counts as fresh one waits for it."""


class Silent:
    """Hears how cells get on where they run; whoever wants to know reads the results folder."""

    def updated(self, cell: Cell, updates: int) -> None:
        """Nothing is done about it, here as below."""

    def finished(self, cell: Cell, score: float, seconds: float) -> None:
        """The cell's results are published."""

    def again(self, cell: Cell, failure: Failure) -> None:
        """The cell will be tried again."""

    def failed(self, cell: Cell, failure: Failure, log: Path) -> None:
        """The cell has failed for good."""

    def ended_early(self, cells: Sequence[Cell], reason: str) -> None:
        """These cells will not be started."""


class Follower:
    """Reads of cells that are out how they get on, and tells the watcher."""

    def __init__(self, store: Store, watcher: Watcher, options: RunOptions) -> None:
        self.store, self.watcher, self.options = store, watcher, options
        self._attempts = Attempts(options.retries)

    def is_done(self, cell: Cell) -> bool:
        """Whether the cell is published, which the watcher then hears."""
        if not self.store.is_done(cell.key):
            return False
        row = published_row(self.store, cell.key)
        self.watcher.finished(cell, row["final_score"], row["total_seconds"])
        return True

    def look(self, cell: Cell) -> None:
        """The cell is at work: the watcher hears how far it is."""
        sign = read_sign(self.store.sign_path(cell.key))
        if sign:
            self.watcher.updated(cell, sign.updates)

    def runs_again(self, cell: Cell, failure: Failure) -> bool:
        """Record the failure of a cell; whether it is to be placed again."""
        safe = updates_in(self.store.checkpoint_path(cell.key)) or 0
        failure, may_go_on = self._attempts.failed(cell.key, failure, safe)
        with suppress(OSError):  # a full disk: the watcher has it in memory
            self.store.record_failure(cell, failure)
        if may_go_on and not self.options.fail_fast:
            self.watcher.again(cell, failure)
            return True
        self.watcher.failed(cell, failure, self.store.log_path(cell.key))
        return False


def wait_until_stopped(cells: Sequence[Cell], store: Store) -> None:
    """Wait until none of the cells gives a sign of life; a lost machine's end by their age."""
    end = time.monotonic() + LOST_SECONDS + MARGIN_SECONDS
    while time.monotonic() < end:
        signs = [read_sign(store.sign_path(cell.key)) for cell in cells]
        if not any(sign and sign.alive for sign in signs):
            return
        time.sleep(0.5)
