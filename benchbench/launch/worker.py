"""A cell's own process, from its first line to its last.

It reports to the process that started it, in pairs of a word and a value:

- ``("at", updates)``: alive, with that many updates done; at most every half second;
- ``("done", final score)``: the results are published;
- ``("failed", Failure)``: they are not, and why;
- ``("stopped", updates)``: it was told to stop by SIGTERM, and left a checkpoint.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from benchbench.cell.devices import Device
from benchbench.core.processes import compute_on
from benchbench.results.checkpoints import Checkpoints, Stopped
from benchbench.results.failures import Failure, of_error
from benchbench.results.heartbeat import Heartbeat, HeartbeatWriter
from benchbench.results.store import Store, TableRows
from benchbench.suite.grid import Cell

log = logging.getLogger(__name__)

MESSAGE_SECONDS = 0.5
"""A cell reports its progress at most this often."""

Tell = Callable[[str, object], None]


class CellRunner(Protocol):
    """What trains and measures a cell: :func:`benchbench.cell.train.run_cell`, or a test's."""

    def __call__(
        self,
        cell: Cell,
        device: Device,
        on_update: Callable[[int], None],
        checkpoints: Checkpoints | None,
        on_alive: Callable[[], None],
        processes: int,
    ) -> TableRows:
        """Run the cell and return its rows."""
        ...


def work(
    cell: Cell,
    device: Device,
    threads: int,
    processes: int,
    store: Store,
    checkpoint_every: float,
    tell: Tell,
    run_one: CellRunner | None = None,
    to_log: bool = True,
) -> None:
    """Run a cell and publish its results; by default once, in a process of its own.

    At most ``processes`` play its episodes. Returns when the cell is done, has failed or was
    stopped, each of which goes to ``tell``. ``to_log`` sends all output to the cell's log.
    """
    heartbeat: HeartbeatWriter | None = None
    try:
        if to_log:
            redirect_output(store.log_path(cell.key))
            logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
        log.info("--- %s process %d on %s", time.strftime("%F %T %z"), os.getpid(), device)
        device.claim()
        heartbeat = HeartbeatWriter(
            store.heartbeat_path(cell.key),
            Heartbeat.of_this_process(cell.key, str(device), cell.train.updates),
        )
        checkpoints = Checkpoints(store.checkpoint_path(cell.key), checkpoint_every)
        signal.signal(signal.SIGTERM, lambda *_: checkpoints.stop())
        reporter = Reporter(tell, heartbeat, checkpoints)
        rows = _run(cell, device, threads, processes, checkpoints, reporter, run_one)
        store.publish(cell, rows)
        checkpoints.discard()
    except Stopped as stopped:
        log.info(stopped)
        tell("stopped", str(stopped))
    except Exception as error:
        failure = of_error(error)
        tell("failed", failure)
        _log_traceback(failure)
    else:
        tell("done", rows["cells"][0].get("final_score", math.nan))
    finally:
        if heartbeat:
            heartbeat.remove()


def _run(
    cell: Cell,
    device: Device,
    threads: int,
    processes: int,
    checkpoints: Checkpoints,
    reporter: Reporter,
    run_one: CellRunner | None,
) -> TableRows:
    from benchbench.cell.train import run_cell

    compute_on(threads)
    one = run_one or run_cell
    return one(cell, device, reporter.updated, checkpoints, reporter.alive, processes)


class Reporter:
    """Reports progress to the parent and to ``benchbench status``."""

    def __init__(self, tell: Tell, heartbeat: HeartbeatWriter, checkpoints: Checkpoints) -> None:
        self._tell, self._heartbeat, self._checkpoints = tell, heartbeat, checkpoints
        self._next, self._updates = 0.0, 0

    def updated(self, updates: int) -> None:
        """``updates`` updates are done."""
        self._updates = updates
        self.alive()

    def alive(self) -> None:
        """The cell is at work."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + MESSAGE_SECONDS
            self._tell("at", self._updates)
            self._heartbeat.tell(self._updates, self._checkpoints.resumed_from)


def redirect_output(log: Path) -> None:
    """Append everything the process prints, C libraries included, to its log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _log_traceback(failure: Failure) -> None:
    """Print the current error's traceback. Ignore a full disk; it was already reported."""
    try:
        traceback.print_exc()
        sys.stderr.flush()
    except OSError:
        if failure.kind != "disk":
            raise
