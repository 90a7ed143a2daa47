"""What a cell's process costs: its start, its memory and its updates, in a process of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchbench.cell.devices import Device
from benchbench.core.errors import UserError
from benchbench.core.processes import compute_on
from benchbench.perf.rounds import Figure
from benchbench.suite.grid import Cell

UPDATES = 10
"""Updates after which a process has reached its largest memory."""


@dataclass(frozen=True)
class Cost:
    """What one process costs."""

    start_seconds: float
    """From the request for the process to the end of its first update."""
    update_seconds: float
    cpu_seconds: float
    """Processor time of an update, all threads together."""
    peak_memory_mb: float


def cost_of(cell: Cell, device: Device, threads: int) -> Cost:
    """Start a process as a run does and let it make a few updates of a cell whose data is here.

    The first one of all waits for the fork server to come up, as a run's first cell does. Raises
    :class:`~benchbench.core.errors.UserError` where the process dies.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchbench.launch.preload"])
    here, there = context.Pipe(duplex=False)
    start = time.perf_counter()
    process = context.Process(target=_work, args=(there, cell, device, threads), daemon=True)
    process.start()
    there.close()
    try:
        here.recv()
        started = time.perf_counter() - start
        measured = here.recv()
    except EOFError:
        process.join()
        raise UserError(
            f"{cell.label}: its process ended before its first {UPDATES} updates (exit code "
            f"{process.exitcode}); is there memory for it? batches of train.batch_size rows are "
            "the most of it"
        ) from None
    process.join()
    return Cost(started, *measured)


def start_figures(cell: Cell, costs: Sequence[Cost]) -> list[Figure]:
    """The figures of several processes, the first of which also started the fork server."""
    start = "start of a cell"
    later = [cost.start_seconds for cost in costs[1:]]
    return [
        Figure.of(start, "the first, until its first update", "s", [costs[0].start_seconds]),
        Figure.of(start, "a later one, until its first update", "s", later),
        Figure.of("memory", f"peak of a cell, {cell.variant}", "MB",
                  [cost.peak_memory_mb for cost in costs]),
    ]  # fmt: skip


def _work(connection: Connection, cell: Cell, device: Device, threads: int) -> None:
    """In the new process."""
    device.claim()

    from benchbench.perf.timing import TimedCell

    compute_on(threads)
    timed = TimedCell(cell, device)
    timed.seconds(1)
    connection.send(None)
    before = time.process_time()
    seconds = timed.seconds(UPDATES) / UPDATES
    cpu_seconds = (time.process_time() - before) / UPDATES
    connection.send((seconds, cpu_seconds, device.peak_memory_mb()))
