"""Running cells on this machine: one process a cell, several at a time.

The parent hands each cell to a fresh process of a fork server that has imported everything and
touched no device. A cell that raises, dies or hangs harms no other: it is retried from its last
checkpoint or recorded as failed, and the others go on. Only progress messages come back through
the pipe (see :mod:`benchbench.launch.worker`); a cell's process publishes its own results.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from benchbench.cell.devices import Device
from benchbench.core.processes import (
    end_with_parent,
    interruptible,
    wait_without_spinning,
    without_sigint,
)
from benchbench.launch.executor import RunOptions, Watcher
from benchbench.launch.resources import Slots, known_from, peak_of, playing_processes
from benchbench.launch.stacks import (
    Unit,
    halves,
    make_scheduler,
    tasks_of_units,
    units_of,
    work_stack,
)
from benchbench.launch.supervise import Next, Supervisor
from benchbench.launch.worker import CellRunner, work
from benchbench.results.failures import Failure, of_exit
from benchbench.results.store import Store
from benchbench.suite.grid import Cell

STARTING_SECONDS = 120.0
"""Seconds that a cell's first message may take: the fork server imports torch and simulators."""

GRACE_SECONDS = 10.0
"""How long stopped cells have to write a checkpoint before they are killed."""


class Local:
    """Runs cells on this machine's devices; ``run_one`` runs a cell, ``run_cell`` if None.

    Up to ``stack`` cells of a kind are trained as one program, in one process.
    """

    def __init__(self, slots: Slots, run_one: CellRunner | None = None, stack: int = 1) -> None:
        self.slots, self.run_one, self.stack = slots, run_one, stack

    def run(
        self, cells: Sequence[Cell], store: Store, watcher: Watcher, options: RunOptions
    ) -> None:
        """Run the cells, the longest first, as many at a time as the devices hold."""
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(self.slots.threads)
        wait_without_spinning()
        units = units_of(cells, self.stack)
        run = _Run(units, self.slots, store, watcher, options, self.run_one)
        with interruptible():
            try:
                run.to_the_end()
            finally:
                run.stop()


@dataclass
class _Running:
    key: str
    """The unit's."""
    cells: tuple[Cell, ...]
    """Those of the unit that were not done when it started."""
    device: Device
    process: BaseProcess
    pipe: Connection
    started: float = field(default_factory=time.monotonic)
    heard: float | None = None
    outcomes: dict[int, Failure | float] = field(default_factory=dict)
    """The failure or the final score of each cell, by its place among them, once it is known."""

    @property
    def open_ends(self) -> list[int]:
        """The places of the cells whose end has not been reported."""
        return [place for place in range(len(self.cells)) if place not in self.outcomes]

    def silent_for(self) -> float:
        return time.monotonic() - (self.heard or self.started)

    def patience(self, silence: float) -> float:
        return silence if self.heard else max(silence, STARTING_SECONDS)


class _Run:
    """Cells that wait, and cells at work."""

    def __init__(
        self,
        units: Sequence[Unit],
        slots: Slots,
        store: Store,
        watcher: Watcher,
        options: RunOptions,
        run_one: CellRunner | None,
    ) -> None:
        self.units, self.devices = {u.key: u for u in units}, {str(d): d for d in slots.devices}
        self.known = known_from(store, slots.devices[0].kind)
        self.scheduler = make_scheduler(units, self.known, slots)
        self.running: list[_Running] = []
        self.store, self.threads = store, slots.threads
        self.watcher, self.options, self.run_one = watcher, options, run_one
        self.supervisor = Supervisor(store, watcher, options)
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["benchbench.launch.preload"])

    @property
    def waiting(self) -> list[Cell]:
        return [cell for key in self.scheduler.waiting for cell in self.units[key].cells]

    def to_the_end(self) -> None:
        while self.scheduler.waiting or self.running:
            while begun := self.scheduler.start():
                key, place = begun
                self._start(self.units[key], self.devices[place])
            ready = wait([one.pipe for one in self.running], timeout=1)
            for one in [one for one in self.running if one.pipe in ready]:
                if one not in self.running:  # ended meanwhile, with its device or by --fail-fast
                    continue
                self._listen(one)
            for one in self.running:
                if one.open_ends and one.silent_for() > one.patience(self.options.silence):
                    text = f"no heartbeat for {one.silent_for():.0f} s"
                    one.outcomes |= dict.fromkeys(one.open_ends, Failure("silent", text))
                    one.process.kill()

    def stop(self) -> None:
        """End the processes that are left, with a checkpoint where there is time for it."""
        started = [one for one in self.running if one.process.pid is not None]
        for one in started:
            one.process.terminate()
        end = time.monotonic() + GRACE_SECONDS
        for one in started:
            one.process.join(timeout=max(0, end - time.monotonic()))
            one.process.kill()

    def _start(self, unit: Unit, device: Device) -> None:
        """Start a unit's process; it joins ``running`` first, so that Ctrl-C cannot orphan it."""
        cells = tuple(cell for cell in unit.cells if not self.store.is_done(cell.key))
        ours, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(
            target=_process,
            args=(
                cells,
                device,
                self.threads,
                self.options.processes or playing_processes(cells[0], self.threads),
                self.store,
                self.options.checkpoint_every,
                theirs,
                self.run_one,
            ),
            name=unit.label,
        )
        self.running.append(_Running(unit.key, cells, device, process, ours))
        with without_sigint():  # the first one starts the fork server
            process.start()
        theirs.close()

    def _listen(self, one: _Running) -> None:
        """Take one message from a cell, or settle its fate once its process has ended."""
        try:
            place, word, value = one.pipe.recv()
        except (EOFError, OSError):  # also where it was killed in the middle of a message
            self._ended(one)
            return
        one.heard = time.monotonic()
        if word == "at":
            self.watcher.updated(one.cells[place], value)
        elif word == "stopped":
            one.outcomes[place] = Failure("killed", value)
        else:
            one.outcomes[place] = value

    def _ended(self, one: _Running) -> None:
        one.process.join()
        one.pipe.close()
        self.running.remove(one)
        failures: dict[Cell, Failure] = {}
        for place, cell in enumerate(one.cells):
            outcome = one.outcomes.get(place)
            if self.store.is_done(cell.key):  # even where it was killed before it could say so
                self._finished(one, cell, outcome)
            else:
                assert not isinstance(outcome, float)
                failures[cell] = outcome or of_exit(one.process.exitcode)
        first = one.cells[0]
        if not failures:
            self.scheduler.finished(one.key, peak_of(self.store, first.key))
        elif str(one.device) in self.scheduler.places and one.device.is_lost():
            self._lost(one.device)
        elif len(one.cells) > 1:
            self._stack_failed(one, failures)
        elif failures[first].kind == "out of memory":
            self._out_of_memory(one, failures[first])
        else:
            self._failed(one.key, first, failures[first])

    def _finished(self, one: _Running, cell: Cell, outcome: Failure | float | None = None) -> None:
        score = outcome if isinstance(outcome, float) else self.store.final_score(cell.key)
        self.watcher.finished(cell, score, time.monotonic() - one.started)

    def _stack_failed(self, one: _Running, failures: Mapping[Cell, Failure]) -> None:
        """Try those cells of a stack that have failed and may be tried again in smaller stacks."""
        self.scheduler.finished(one.key)
        again, end = list[Cell](), Next.GO_ON
        for cell, failure in failures.items():
            if failure.kind == "out of memory":
                text = f"{failure.text}; its stack of {len(one.cells)} runs again in halves"
                self.watcher.retrying(cell, replace(failure, text=text))
            else:
                verdict = self.supervisor.failed(cell, failure)
                if verdict is not Next.RETRY:
                    end = end if verdict is Next.GO_ON else verdict
                    continue
            again.append(cell)
        smaller = halves(again)
        for unit, task in zip(smaller, tasks_of_units(smaller, self.known), strict=True):
            self.units[unit.key] = unit
            self.scheduler.add(task)
        self._end(end)

    def _out_of_memory(self, one: _Running, failure: Failure) -> None:
        """Run the cell again with fewer neighbours; it counts as failed only where it had none."""
        (cell,) = one.cells
        key, beside = one.key, sum(other.device == one.device for other in self.running)
        if not self.scheduler.out_of_memory(key):
            self._failed(key, cell, failure)
            return
        allowed = self.scheduler.company(key)
        where = f"beside {allowed} at most" if beside else "on a larger device"
        text = f"{failure.text}; it ran on {one.device} beside {beside} others, and will {where}"
        with suppress(OSError), self.store.log_path(cell.key).open("a", encoding="utf-8") as log:
            log.write(f"--- out of memory on {one.device} beside {beside} others; again {where}\n")
        self.watcher.retrying(cell, replace(failure, text=text))

    def _lost(self, device: Device) -> None:
        """Take a device out that the driver no longer reaches; its cells go elsewhere."""
        for one in [one for one in self.running if one.device == device]:
            one.process.kill()
            one.process.join()
            one.pipe.close()
            self.running.remove(one)
            done = [cell for cell in one.cells if self.store.is_done(cell.key)]
            for cell in done:
                self._finished(one, cell)
            if len(done) == len(one.cells):
                self.scheduler.finished(one.key)
        failure = Failure("killed", f"{device} no longer answers and is taken out")
        units = [self.units[key] for key in self.scheduler.lost(str(device))]
        cells = [c for unit in units for c in unit.cells if not self.store.is_done(c.key)]
        for cell in cells:
            if self.scheduler.places:
                self.watcher.retrying(cell, failure)
            else:
                self.supervisor.give_up(cell, failure)
        if not self.scheduler.places:
            left = [cell for cell in self.waiting if cell not in cells]
            if left:
                self.watcher.ended_early(left, "no device is left")
            self.scheduler.drop()

    def _failed(self, key: str, cell: Cell, failure: Failure) -> None:
        verdict = self.supervisor.failed(cell, failure)
        if verdict is Next.RETRY:
            self.scheduler.again(key)
            return
        self.scheduler.finished(key)
        self._end(verdict)

    def _end(self, verdict: Next) -> None:
        """End the run early where a cell's final failure calls for it."""
        if verdict is Next.GO_ON:
            return
        started = [cell for one in self.running for cell in one.cells]
        stopped = started if verdict is Next.STOP else []
        self.supervisor.end_early([*stopped, *self.waiting], verdict)
        self.scheduler.drop()
        if verdict is Next.STOP:
            self.stop()
            self.running.clear()


def _process(
    cells: tuple[Cell, ...],
    device: Device,
    threads: int,
    processes: int,
    store: Store,
    checkpoint_every: float,
    pipe: Connection,
    run_one: CellRunner | None,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()

    def tell(place: int, word: str, value: object) -> None:
        try:
            pipe.send((place, word, value))
        except BrokenPipeError:  # the parent is gone: the cell was stopped, it did not fail
            os._exit(1)

    if len(cells) == 1:
        first = partial(tell, 0)
        work(cells[0], device, threads, processes, store, checkpoint_every, first, run_one)
    else:
        work_stack(cells, device, threads, processes, store, checkpoint_every, tell)
