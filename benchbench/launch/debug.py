"""Running cells in this process, one after the other, so that a breakpoint in them stops."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from benchbench.cell.devices import Device
from benchbench.core.processes import Interrupted, interruptible
from benchbench.launch.executor import RunOptions, Watcher
from benchbench.launch.supervise import Next, Supervisor
from benchbench.launch.worker import CellRunner, work
from benchbench.results.failures import Failure
from benchbench.results.store import Store
from benchbench.suite.grid import Cell


class Debug:
    """Runs cells in this process on ``device``, with ``threads`` CPU threads.

    Output goes to the terminal and not to the cells' logs. Ctrl-C ends the cell at once, without a
    last checkpoint. A cell that hangs is not killed, since no other process watches it.
    """

    def __init__(self, device: Device, threads: int, run_one: CellRunner | None = None) -> None:
        self.device, self.threads, self.run_one = device, threads, run_one

    def run(
        self, cells: Sequence[Cell], store: Store, watcher: Watcher, options: RunOptions
    ) -> None:
        """Run the cells in the order given."""
        supervisor = Supervisor(store, watcher, options)
        waiting = list(cells)
        with interruptible():
            while waiting:
                cell = waiting.pop(0)
                failure = self._attempt(cell, store, watcher, options)
                if supervisor.is_done(cell):
                    continue
                verdict = supervisor.failed(cell, failure or Failure("killed", "it left no result"))
                if verdict is Next.RETRY:
                    waiting.insert(0, cell)
                elif verdict is not Next.GO_ON:
                    supervisor.end_early(waiting, verdict)
                    return

    def _attempt(
        self, cell: Cell, store: Store, watcher: Watcher, options: RunOptions
    ) -> Failure | None:
        """Run a cell once; how it failed, or None. Raises :class:`Interrupted` on SIGTERM."""
        failure: Failure | None = None
        stopped = False

        def tell(word: str, value: object) -> None:
            nonlocal failure, stopped
            if word == "at" and isinstance(value, int):
                watcher.updated(cell, value)
            elif word == "failed" and isinstance(value, Failure):
                failure = value
            stopped = stopped or word == "stopped"

        before = signal.getsignal(signal.SIGTERM)
        environment = dict(os.environ)
        try:
            work(
                cell, self.device, self.threads, options.processes or 1, store,
                options.checkpoint_every, tell, self.run_one, to_log=False,
            )  # fmt: skip
        finally:
            signal.signal(signal.SIGTERM, before)
            os.environ.clear()
            os.environ.update(environment)
        if stopped:
            raise Interrupted(signal.SIGTERM)
        return failure
