"""Which cells are trained together, and their common process.

A :class:`Unit` is what one process runs: a cell, or a stack of cells of one kind, which differ in
their seeds only. Every cell of a stack has a heartbeat, a checkpoint, a log and results of its own,
as it would have alone.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial

from benchbench.cell.devices import Device
from benchbench.core.errors import UserError
from benchbench.core.processes import compute_on
from benchbench.launch.resources import Known, Slots, kind_of, place_of, tasks_of
from benchbench.launch.scheduler import MemoryEstimate, Scheduler, Task
from benchbench.launch.worker import Reporter, redirect_output
from benchbench.results.checkpoints import Checkpoints, Stopped
from benchbench.results.failures import of_error
from benchbench.results.heartbeat import Heartbeat, HeartbeatWriter
from benchbench.results.store import Store, TableRows
from benchbench.suite.grid import Cell

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unit:
    """The cells of one process, of one kind."""

    cells: tuple[Cell, ...]

    @property
    def key(self) -> str:
        """Of a single cell its own."""
        more = len(self.cells) - 1
        return f"{self.cells[0].key}+{more}" if more else self.cells[0].key

    @property
    def label(self) -> str:
        """For people."""
        more = len(self.cells) - 1
        return f"{self.cells[0].label} and {more} more" if more else self.cells[0].label


def units_of(cells: Iterable[Cell], stack: int) -> list[Unit]:
    """The cells in stacks of at most ``stack``, those of a kind in their order."""
    kinds: dict[str, list[Cell]] = {}
    for cell in cells:
        kinds.setdefault(cell.key if stack == 1 else kind_of(cell.settings()), []).append(cell)
    return [
        Unit(tuple(some[k : k + stack]))
        for some in kinds.values()
        for k in range(0, len(some), stack)
    ]


def halves(cells: Sequence[Cell]) -> list[Unit]:
    """Cells of a stack that have failed, as two stacks of half as many."""
    middle = math.ceil(len(cells) / 2)
    return [Unit(tuple(part)) for part in (cells[:middle], cells[middle:]) if part]


def make_scheduler(units: Sequence[Unit], known: Known, slots: Slots) -> Scheduler:
    """A scheduler of the units, with what the results so far tell of their memory and time."""
    places = [place_of(device, slots) for device in slots.devices]
    peaks = dict(known.peaks)
    for unit in units:
        kind, many = kind_of(unit.cells[0].settings()), len(unit.cells)
        if many > 1 and kind in peaks:
            peaks[_stack_kind(kind, many)] = many * peaks[kind]  # at most, as frames are shared
    return Scheduler(places, tasks_of_units(units, known), slots.jobs, MemoryEstimate(peaks))


def tasks_of_units(units: Sequence[Unit], known: Known) -> list[Task]:
    """The units as the scheduler sees them; a stack is of another kind than its cells."""
    tasks = []
    for unit in units:
        one = tasks_of(unit.cells[:1], known)[0]
        many = len(unit.cells)
        tasks.append(Task(unit.key, _stack_kind(one.kind, many), many * one.length))
    return tasks


def _stack_kind(kind: str, many: int) -> str:
    return kind if many == 1 else f"{kind} x {many}"


def refuse_own_code(cells: Iterable[Cell]) -> None:
    """Raise :class:`UserError` where a cell cannot be trained with others."""
    from benchbench.cell.stack import can_stack

    if any(not can_stack(cell) for cell in cells):
        raise UserError(
            "--stack: an agent or encoder of your own cannot be trained with others in one "
            "program; leave it out"
        )


def work_stack(
    cells: Sequence[Cell],
    device: Device,
    threads: int,
    processes: int,
    store: Store,
    checkpoint_every: float,
    tell: Callable[[int, str, object], None],
) -> None:
    """Run cells of one kind together and publish each one's results; in a process of its own.

    Returns when each is done, has failed or was stopped, which ``tell`` reports with its place.
    """
    open_ends = set(range(len(cells)))
    beats: dict[int, HeartbeatWriter] = {}
    checkpoints = [Checkpoints(store.checkpoint_path(c.key), checkpoint_every) for c in cells]

    def ended(place: int, end: TableRows | Exception) -> None:
        open_ends.discard(place)
        try:
            if isinstance(end, Exception):
                raise end
            store.publish(cells[place], end)
            checkpoints[place].discard()
        except Stopped as stopped:
            tell(place, "stopped", str(stopped))
        except Exception as error:
            log.exception("%s failed", cells[place].label)
            tell(place, "failed", of_error(error))
        else:
            tell(place, "done", end["cells"][0].get("final_score", math.nan))
        if place in beats:
            beats[place].remove()

    try:
        redirect_output(store.log_path(cells[0].key))
        logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
        names = ", ".join(cell.label for cell in cells)
        now = time.strftime("%F %T %z")
        log.info("--- %s process %d on %s: a stack of %s", now, os.getpid(), device, names)
        for cell in cells[1:]:
            with store.log_path(cell.key).open("a", encoding="utf-8") as file:
                file.write(f"--- {now} in a stack with {cells[0].label}, whose log has it all\n")
        device.claim()
        signal.signal(signal.SIGTERM, lambda *_: _stop(checkpoints))
        for place, cell in enumerate(cells):
            beat = Heartbeat.of_this_process(cell.key, str(device), cell.train.updates)
            beats[place] = HeartbeatWriter(store.heartbeat_path(cell.key), beat)
        _run(cells, device, threads, processes, checkpoints, beats, open_ends, tell, ended)
    except Exception as error:  # no single cell's, such as too little memory for all of them
        for place in sorted(open_ends):
            ended(place, error)


def _stop(checkpoints: Iterable[Checkpoints]) -> None:
    """Have all cells end after a last checkpoint."""
    for one in checkpoints:
        one.stop()


def _run(
    cells: Sequence[Cell],
    device: Device,
    threads: int,
    processes: int,
    checkpoints: Sequence[Checkpoints],
    beats: Mapping[int, HeartbeatWriter],
    open_ends: Set[int],
    tell: Callable[[int, str, object], None],
    ended: Callable[[int, TableRows | Exception], None],
) -> None:
    from benchbench.cell.stack import StackedRun
    from benchbench.cell.train import CellRun

    compute_on(threads)
    reporters = [
        Reporter(partial(tell, place), beats[place], checkpoints[place])
        for place in range(len(cells))
    ]

    def alive() -> None:
        for place in open_ends:
            reporters[place].alive()

    def begin(place: int, beside: CellRun | None) -> CellRun:
        alive()
        return CellRun(
            cells[place], device, reporters[place].updated, checkpoints[place], alive, processes,
            beside,
        )  # fmt: skip

    StackedRun([partial(begin, place) for place in range(len(cells))], ended).to_the_end()
