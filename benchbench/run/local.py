"""Running cells on this machine: one process a cell, several at a time.

The parent hands each cell to a fresh process of a fork server that has imported everything and
touched no device. A cell that raises, or dies, takes nothing else along: it is recorded as failed
and the others go on. All that comes back through the pipe is progress; results are published by
the cell's process itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from benchbench.grid import Cell
from benchbench.run.devices import Device
from benchbench.run.store import Store

MESSAGE_SECONDS = 0.5
"""A cell reports its progress at most this often."""


class Watcher(Protocol):
    """Whoever wants to know how the cells are getting on."""

    def updated(self, cell: Cell, updates: int) -> None:
        """The cell has taken so many updates."""

    def finished(self, cell: Cell, score: float, seconds: float) -> None:
        """The cell's results are published."""

    def failed(self, cell: Cell, error: str, log: Path) -> None:
        """The cell has failed and is recorded as such."""


@dataclass
class _Running:
    cell: Cell
    device: Device
    process: BaseProcess
    pipe: Connection
    started: float = field(default_factory=time.monotonic)
    settled: bool = False


def run_cells(
    cells: Sequence[Cell],
    store: Store,
    devices: Sequence[Device],
    jobs: int,
    threads: int,
    watcher: Watcher,
) -> None:
    """Run the cells, at most ``jobs`` at a time, each on the device with the fewest.

    Raises ``KeyboardInterrupt`` on SIGINT and SIGTERM, after all cells' processes have ended.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchbench.run.preload"])
    waiting, running = list(reversed(cells)), list[_Running]()
    earlier = signal.signal(signal.SIGTERM, _interrupt)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                device = min(devices, key=lambda d: sum(r.device == d for r in running))
                _start(context, waiting.pop(), device, threads, store, running)
            for pipe in wait([r.pipe for r in running]):
                one = next(r for r in running if r.pipe is pipe)
                if not _listen(one, store, watcher):
                    running.remove(one)
    finally:
        started = [one for one in running if one.process.pid is not None]
        for one in started:
            one.process.terminate()
        for one in started:
            one.process.join(timeout=10)
            one.process.kill()
        signal.signal(signal.SIGTERM, earlier)


def _start(
    context: multiprocessing.context.ForkServerContext,
    cell: Cell,
    device: Device,
    threads: int,
    store: Store,
    running: list[_Running],
) -> None:
    """Start a cell's process; it is in ``running`` before it lives, lest Ctrl-C orphan it."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_work, args=(cell, device, threads, store, theirs), name=cell.label
    )
    running.append(_Running(cell, device, process, ours))
    process.start()
    theirs.close()


def _listen(one: _Running, store: Store, watcher: Watcher) -> bool:
    """Take one message from a cell; False once its process has ended."""
    log = store.log_path(one.cell.key)
    try:
        kind, value = one.pipe.recv()
    except EOFError:
        one.process.join()
        one.pipe.close()
        if not one.settled:
            error = f"its process ended with exit code {one.process.exitcode}"
            store.record_failure(one.cell, error)
            watcher.failed(one.cell, error, log)
        return False
    if kind == "update":
        watcher.updated(one.cell, value)
    else:
        one.settled = True
        if kind == "done":
            watcher.finished(one.cell, value, time.monotonic() - one.started)
        else:
            watcher.failed(one.cell, value, log)
    return True


def _work(cell: Cell, device: Device, threads: int, store: Store, pipe: Connection) -> None:
    """A cell's process, from its first line to its last."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _redirect_output(store.log_path(cell.key))
    device.claim()
    try:
        import torch

        from benchbench.run.cell import run_cell

        torch.set_num_threads(threads)
        rows = run_cell(cell, device, _Reporter(pipe))
        store.publish(cell, rows)
    except BrokenPipeError:  # the parent is gone: the cell was stopped, it did not fail
        return
    except Exception as error:
        traceback.print_exc()
        text = f"{type(error).__name__}: {error}"
        store.record_failure(cell, text)
        pipe.send(("failed", text))
    else:
        pipe.send(("done", rows["cells"][0]["final_score"]))


class _Reporter:
    """Sends the number of updates to the parent, now and then."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._next = pipe, 0.0

    def __call__(self, updates: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._pipe.send(("update", updates))
            self._next = now + MESSAGE_SECONDS


def _redirect_output(log: Path) -> None:
    """Send everything the process prints, C libraries included, to its log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
