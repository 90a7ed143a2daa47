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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from benchbench.cell.devices import Device
from benchbench.core.processes import end_with_parent, interruptible, wait_without_spinning
from benchbench.launch.executor import RunOptions, Watcher
from benchbench.launch.resources import Slots, make_scheduler, peak_of, playing_processes
from benchbench.launch.supervise import Next, Supervisor
from benchbench.launch.worker import CellRunner, work
from benchbench.results.failures import Failure, of_exit
from benchbench.results.store import Store
from benchbench.suite.grid import Cell

STARTING_SECONDS = 120.0
"""A cell's first word may take this long: the fork server imports torch and the simulators."""

GRACE_SECONDS = 10.0
"""How long stopped cells have to write a checkpoint before they are killed."""


class Local:
    """Runs cells on this machine's devices; ``run_one`` runs a cell, ``run_cell`` if None."""

    def __init__(self, slots: Slots, run_one: CellRunner | None = None) -> None:
        self.slots, self.run_one = slots, run_one

    def run(
        self, cells: Sequence[Cell], store: Store, watcher: Watcher, options: RunOptions
    ) -> None:
        """Run the cells, the longest first, as many at a time as the devices hold."""
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(self.slots.threads)
        wait_without_spinning()
        run = _Run(cells, self.slots, store, watcher, options, self.run_one)
        with interruptible():
            try:
                run.to_the_end()
            finally:
                run.stop()


@dataclass
class _Running:
    cell: Cell
    device: Device
    process: BaseProcess
    pipe: Connection
    started: float = field(default_factory=time.monotonic)
    heard: float | None = None
    outcome: Failure | float | None = None
    """The failure or the final score, once it is known."""

    def silent_for(self) -> float:
        return time.monotonic() - (self.heard or self.started)

    def patience(self, silence: float) -> float:
        return silence if self.heard else max(silence, STARTING_SECONDS)


class _Run:
    """Cells that wait, and cells at work."""

    def __init__(
        self,
        cells: Sequence[Cell],
        slots: Slots,
        store: Store,
        watcher: Watcher,
        options: RunOptions,
        run_one: CellRunner | None,
    ) -> None:
        self.cells, self.devices = {c.key: c for c in cells}, {str(d): d for d in slots.devices}
        self.scheduler, self.running = make_scheduler(cells, store, slots), list[_Running]()
        self.store, self.threads = store, slots.threads
        self.watcher, self.options, self.run_one = watcher, options, run_one
        self.supervisor = Supervisor(store, watcher, options)
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["benchbench.launch.preload"])

    @property
    def waiting(self) -> list[Cell]:
        return [self.cells[key] for key in self.scheduler.waiting]

    def to_the_end(self) -> None:
        while self.scheduler.waiting or self.running:
            while begun := self.scheduler.start():
                key, place = begun
                self._start(self.cells[key], self.devices[place])
            ready = wait([one.pipe for one in self.running], timeout=1)
            for one in [one for one in self.running if one.pipe in ready]:
                if one not in self.running:  # ended meanwhile, with its device or by --fail-fast
                    continue
                self._listen(one)
            for one in self.running:
                if one.outcome is None and one.silent_for() > one.patience(self.options.silence):
                    text = f"no heartbeat for {one.silent_for():.0f} s"
                    one.outcome = Failure("silent", text)
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

    def _start(self, cell: Cell, device: Device) -> None:
        """Start a cell's process; it joins ``running`` first, so that Ctrl-C cannot orphan it."""
        ours, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(
            target=_process,
            args=(
                cell,
                device,
                self.threads,
                self.options.processes or playing_processes(cell, self.threads),
                self.store,
                self.options.checkpoint_every,
                theirs,
                self.run_one,
            ),
            name=cell.label,
        )
        self.running.append(_Running(cell, device, process, ours))
        process.start()
        theirs.close()

    def _listen(self, one: _Running) -> None:
        """Take one message from a cell, or settle its fate once its process has ended."""
        try:
            word, value = one.pipe.recv()
        except (EOFError, OSError):  # also where it was killed in the middle of a message
            self._ended(one)
            return
        one.heard = time.monotonic()
        if word == "at":
            self.watcher.updated(one.cell, value)
        elif word == "stopped":
            one.outcome = Failure("killed", value)
        else:
            one.outcome = value

    def _ended(self, one: _Running) -> None:
        one.process.join()
        one.pipe.close()
        self.running.remove(one)
        cell, outcome = one.cell, one.outcome
        if self.store.is_done(cell.key):  # even where it was killed before it could say so
            self.scheduler.finished(cell.key, peak_of(self.store, cell.key))
            score = outcome if isinstance(outcome, float) else self.store.final_score(cell.key)
            self.watcher.finished(cell, score, time.monotonic() - one.started)
            return
        assert not isinstance(outcome, float)
        failure = outcome or of_exit(one.process.exitcode)
        if str(one.device) in self.scheduler.places and one.device.is_lost():
            self._lost(one.device)
        elif failure.kind == "out of memory":
            self._out_of_memory(one, failure)
        else:
            self._failed(cell, failure)

    def _out_of_memory(self, one: _Running, failure: Failure) -> None:
        """Run the cell again with fewer neighbours; it counts as failed only where it had none."""
        key, beside = one.cell.key, sum(other.device == one.device for other in self.running)
        if not self.scheduler.out_of_memory(key):
            self._failed(one.cell, failure)
            return
        allowed = self.scheduler.company(key)
        where = f"beside {allowed} at most" if beside else "on a larger device"
        text = f"{failure.text}; it ran on {one.device} beside {beside} others, and will {where}"
        with suppress(OSError), self.store.log_path(key).open("a", encoding="utf-8") as log:
            log.write(f"--- out of memory on {one.device} beside {beside} others; again {where}\n")
        self.watcher.retrying(one.cell, replace(failure, text=text))

    def _lost(self, device: Device) -> None:
        """Take a device out that the driver no longer reaches; its cells go elsewhere."""
        for one in [one for one in self.running if one.device == device]:
            one.process.kill()
            one.process.join()
            one.pipe.close()
            self.running.remove(one)
            if self.store.is_done(one.cell.key):
                self.scheduler.finished(one.cell.key)
                score = self.store.final_score(one.cell.key)
                self.watcher.finished(one.cell, score, time.monotonic() - one.started)
        failure = Failure("killed", f"{device} no longer answers and is taken out")
        cells = [self.cells[key] for key in self.scheduler.lost(str(device))]
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

    def _failed(self, cell: Cell, failure: Failure) -> None:
        verdict = self.supervisor.failed(cell, failure)
        if verdict is Next.RETRY:
            self.scheduler.again(cell.key)
            return
        self.scheduler.finished(cell.key)
        if verdict is Next.GO_ON:
            return
        started = [one.cell for one in self.running] if verdict is Next.STOP else []
        self.supervisor.end_early([*started, *self.waiting], verdict)
        self.scheduler.drop()
        if verdict is Next.STOP:
            self.stop()
            self.running.clear()


def _process(
    cell: Cell,
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

    def tell(word: str, value: object) -> None:
        try:
            pipe.send((word, value))
        except BrokenPipeError:  # the parent is gone: the cell was stopped, it did not fail
            os._exit(1)

    work(cell, device, threads, processes, store, checkpoint_every, tell, run_one)
