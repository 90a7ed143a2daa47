"""From a suite to published results: which cells are missing, their data, running, gathering."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from benchbench.data.store import is_here, prepare
from benchbench.errors import UserError
from benchbench.grid import Cell
from benchbench.run.devices import Device, cpu_count
from benchbench.run.local import run_cells
from benchbench.run.progress import DataProgress, Progress
from benchbench.run.store import Store
from benchbench.suite import Suite

GATHER_SECONDS = 60.0
"""The joined tables are brought up to date at least this often while a grid runs."""


@dataclass(frozen=True)
class Slots:
    """Where cells may run: devices, processes at a time, and CPU threads for each."""

    devices: tuple[Device, ...]
    jobs: int
    threads: int

    @classmethod
    def choose(cls, devices: Sequence[Device], jobs: int | None, cells: int) -> Slots:
        """As many jobs as CPUs, or one a GPU, never more than cells; CPUs shared evenly.

        ``cells`` counts the whole grid, whatever of it is missing: the number of threads shapes the
        last bits of a result, and a grid that is stopped and continued should end in the same ones.
        """
        default = cpu_count() if devices[0].kind == "cpu" else len(devices)
        chosen = jobs or max(1, min(default, cells))
        return cls(tuple(devices), chosen, max(1, cpu_count() // chosen))


def missing(store: Store, cells: Sequence[Cell]) -> list[Cell]:
    """The cells whose results are not published yet."""
    return [cell for cell in cells if not store.is_done(cell.key)]


def run_grid(
    suite: Suite, cells: Sequence[Cell], wanted: Sequence[Cell], store: Store, slots: Slots
) -> list[tuple[Cell, str, Path]]:
    """Run the missing ones of ``wanted`` and gather the results of all ``cells``.

    Returns the failures: cell, error, log. Raises :class:`UserError` where another run holds the
    results folder, and ``KeyboardInterrupt`` when stopped; what is done stays done either way.
    """
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(store.folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{store.folder}: another 'benchbench run' is writing there; wait for it, or choose "
            "another folder with --results"
        ) from None
    except OSError as error:
        raise UserError(
            f"{store.folder}: cannot be written ({error.strerror}); choose another folder with "
            "--results"
        ) from None
    with lock:
        to_do = missing(store, wanted)
        store.gather(suite, cells)
        if not to_do:
            return []
        prepare_data(to_do)
        progress = _GatheringProgress(to_do, suite, cells, store)
        try:
            run_cells(to_do, store, slots.devices, slots.jobs, slots.threads, progress)
        finally:
            progress.close()
            store.gather(suite, cells)
        return progress.failures


def prepare_data(cells: Sequence[Cell]) -> None:
    """Make every data set that the cells need and that is not here, with a bar for each."""
    for identity in dict.fromkeys(cell.data for cell in cells):
        if not is_here(identity):
            prepare(identity, DataProgress(f"data {identity.env}"))


class _GatheringProgress(Progress):
    """Keeps the joined tables fresh, so that a killed run can be reported too."""

    def __init__(
        self, to_do: Sequence[Cell], suite: Suite, cells: Sequence[Cell], store: Store
    ) -> None:
        super().__init__(to_do)
        self._suite, self._all, self._store = suite, cells, store
        self._gathered = time.monotonic()

    def finished(self, cell: Cell, score: float, seconds: float) -> None:
        super().finished(cell, score, seconds)
        if time.monotonic() - self._gathered > GATHER_SECONDS:
            self._store.gather(self._suite, self._all)
            self._gathered = time.monotonic()
