"""From a suite to published results: which cells are missing, their data, running, gathering."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from benchbench.core.errors import UserError
from benchbench.core.files import write_text
from benchbench.data.store import is_here, prepare
from benchbench.diagnostics.preconditions import refuse_unmeasurable
from benchbench.launch.local import DEFAULTS, RunOptions, Watcher, interruptible, run_cells
from benchbench.launch.progress import DataProgress, Progress
from benchbench.launch.resources import Slots, make_scheduler
from benchbench.launch.worker import CellRunner
from benchbench.results.failures import Failure
from benchbench.results.store import NOTHING, Store
from benchbench.suite.grid import Cell
from benchbench.suite.model import Suite

GATHER_SECONDS = 60.0
"""The joined tables are brought up to date at least this often while a grid runs."""


class Executor(Protocol):
    """What runs cells elsewhere than on this machine."""

    def run(
        self, cells: Sequence[Cell], store: Store, watcher: Watcher, options: RunOptions
    ) -> None:
        """Run the cells; returns when each is done or has failed for good."""


def missing(store: Store, cells: Sequence[Cell]) -> list[Cell]:
    """The cells whose results are not published yet."""
    return [cell for cell in cells if not store.is_done(cell.key)]


def run_grid(
    suite: Suite,
    cells: Sequence[Cell],
    wanted: Sequence[Cell],
    store: Store,
    where: Slots | Executor,
    options: RunOptions = DEFAULTS,
    run_one: CellRunner | None = None,
    left_out: Mapping[str, str] = NOTHING,
) -> list[tuple[Cell, Failure, Path]]:
    """Run the missing ones of ``wanted`` and gather the results of all ``cells``.

    ``where`` is the slots of this machine, or an executor for others. ``run_one`` is for this one.
    ``left_out`` says why environments of the suite have no cells.
    Returns the failures: cell, failure, log. Raises :class:`UserError` where another run holds the
    results folder or it cannot be written, or where the data cannot be measured on, and
    :class:`Interrupted` when stopped by a signal; what is done stays done either way.
    """
    with interruptible(), held(store):
        to_do = missing(store, wanted)
        _gather(store, suite, cells, left_out)
        if not to_do:
            return []
        prepare_data(to_do)
        refuse_unmeasurable(to_do)
        progress = _GatheringProgress(to_do, lambda: store.gather(suite, cells, left_out))
        try:
            if isinstance(where, Slots):
                scheduler = make_scheduler(to_do, store, where)
                run_cells(
                    to_do,
                    scheduler,
                    store,
                    where.devices,
                    where.threads,
                    progress,
                    options,
                    run_one,
                )
            else:
                where.run(to_do, store, progress, options)
        finally:
            progress.close()
            _gather(store, suite, cells, left_out)
        return progress.failures


@contextmanager
def held(store: Store) -> Iterator[None]:
    """Hold the results folder for the length of a block, and say in it who does.

    Raises :class:`UserError` where another process holds it, or where it cannot be written.
    """
    path = store.folder / ".holder.json"
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(store.folder / ".lock")
        lock.acquire(timeout=0)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_text(path, json.dumps(holder))
    except Timeout:
        raise UserError(
            f"{store.folder}: another 'benchbench run' is writing there{_holder(path)}; wait for "
            "it, or choose another folder with --results"
        ) from None
    except OSError as error:
        raise _unwritable(store, error) from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return f" (process {told['pid']} on {told['host']}, since {told['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _gather(store: Store, suite: Suite, cells: Sequence[Cell], left_out: Mapping[str, str]) -> None:
    try:
        store.gather(suite, cells, left_out)
    except OSError as error:
        raise _unwritable(store, error) from None


def _unwritable(store: Store, error: OSError) -> UserError:
    return UserError(
        f"{store.folder}: cannot be written ({error.strerror or error}); finished cells are kept: "
        "make room or mend it and run the same command again, or choose another folder with "
        "--results"
    )


def prepare_data(cells: Sequence[Cell]) -> None:
    """Make every data set that the cells need and that is not here, with a bar for each."""
    for identity in dict.fromkeys(cell.data for cell in cells):
        if not is_here(identity):
            prepare(identity, DataProgress(f"data {identity.env}"))


class _GatheringProgress(Progress):
    """Keeps the joined tables fresh, so that a killed run can be reported too."""

    def __init__(self, to_do: Sequence[Cell], gather: Callable[[], None]) -> None:
        super().__init__(to_do)
        self._gather = gather
        self._gathered = time.monotonic()

    def finished(self, cell: Cell, score: float, seconds: float) -> None:
        super().finished(cell, score, seconds)
        if time.monotonic() - self._gathered > GATHER_SECONDS:
            try:
                self._gather()
            except (OSError, UserError) as error:
                self._say(f"the joined tables are not brought up to date: {error}")
            self._gathered = time.monotonic()
