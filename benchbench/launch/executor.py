"""The protocol of executors, which run cells and report their progress to a watcher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from benchbench.results.failures import Failure
from benchbench.results.store import Store
from benchbench.suite.grid import Cell


@dataclass(frozen=True)
class RunOptions:
    """How a grid is run; nothing here changes what a cell computes."""

    checkpoint_every: float = 60.0
    """Seconds between a cell's checkpoints; ``inf`` for none."""
    silence: float = 600.0
    """Seconds without a heartbeat after which a cell's process is killed."""
    retries: int = 2
    """How often a failed cell is tried again without progress in between."""
    fail_fast: bool = False
    """Whether the first failure ends the run."""
    processes: int | None = None
    """Processes that play a cell's episodes; None: as many as its CPUs, where that pays."""
    log: Literal["tensorboard"] | None = None
    """Where curves go while cells train; read from their checkpoints, by the run's process."""


DEFAULTS = RunOptions()


class Watcher(Protocol):
    """Receives the progress and the end of each cell."""

    def updated(self, cell: Cell, updates: int) -> None:
        """The cell has done this many updates."""

    def finished(self, cell: Cell, score: float, seconds: float) -> None:
        """The cell's results are published."""

    def retrying(self, cell: Cell, failure: Failure) -> None:
        """The cell has failed and will be tried again."""

    def failed(self, cell: Cell, failure: Failure, log: Path) -> None:
        """The cell has failed for good."""

    def ended_early(self, cells: Sequence[Cell], reason: str) -> None:
        """These cells will not be run to their end."""


class NullWatcher:
    """A watcher that ignores all events."""

    def updated(self, cell: Cell, updates: int) -> None:
        """Ignore it."""

    def finished(self, cell: Cell, score: float, seconds: float) -> None:
        """Ignore it."""

    def retrying(self, cell: Cell, failure: Failure) -> None:
        """Ignore it."""

    def failed(self, cell: Cell, failure: Failure, log: Path) -> None:
        """Ignore it."""

    def ended_early(self, cells: Sequence[Cell], reason: str) -> None:
        """Ignore it."""


class Executor(Protocol):
    """Runs cells: in this process, on this machine, as Slurm jobs or as Ray tasks.

    An executor decides where a cell runs. What becomes of one that failed is decided by
    :class:`benchbench.launch.supervise.Supervisor`, the same for all.
    """

    def run(
        self, cells: Sequence[Cell], store: Store, watcher: Watcher, options: RunOptions
    ) -> None:
        """Run the cells; returns when each is done, has failed for good, or was ended early.

        Raises :class:`~benchbench.core.processes.Interrupted` on SIGINT and SIGTERM, after the
        cells at work have left a checkpoint; :class:`UserError` where it cannot run them.
        """
