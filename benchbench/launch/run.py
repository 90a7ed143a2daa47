"""From a grid to published results: which cells are missing, their data, running, gathering."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchbench.cell.devices import choose_devices
from benchbench.core.errors import UserError
from benchbench.core.processes import interruptible
from benchbench.data.store import is_here, lacking, prepare
from benchbench.diagnostics.preconditions import refuse_unmeasurable
from benchbench.launch.cards import keep_cards
from benchbench.launch.executor import DEFAULTS, Executor, RunOptions
from benchbench.launch.film import keep_films
from benchbench.launch.local import Local
from benchbench.launch.progress import DataProgress, Progress
from benchbench.launch.resources import Slots
from benchbench.launch.stacks import refuse_own_code, units_of
from benchbench.results.failures import Failure
from benchbench.results.live import LiveCurves
from benchbench.results.lock import Hold, held, unwritable
from benchbench.results.store import Store
from benchbench.suite.grid import Cell, Grid

EXECUTORS = ("local", "debug", "slurm", "ray")

GATHER_SECONDS = 60.0
"""The joined tables are brought up to date at least this often while a grid runs."""


class FailedCell(NamedTuple):
    """A cell that has failed for good, and the log of its output."""

    cell: Cell
    failure: Failure
    log: Path


def run_suite(
    grid: Grid, store: Store, executor: Executor, options: RunOptions = DEFAULTS
) -> list[FailedCell]:
    """Run the grid's missing cells and gather the results of all its cells.

    Raises :class:`UserError` where another run holds the results folder or it cannot be written, or
    where the data cannot be measured on, or where the package of the log that is asked for is not
    installed; and :class:`Interrupted` when stopped by a signal. What is done stays done.
    """
    curves = LiveCurves(store) if options.log else None
    with interruptible(), held(store) as hold:
        to_do = grid.missing(store)
        _gather(store, grid)
        if not to_do:
            return []
        prepare_data(to_do)
        refuse_unmeasurable(to_do)
        keep_cards(store, grid.cells)
        progress = _GatheringProgress(to_do, store, grid, hold, curves)
        try:
            executor.run(to_do, store, progress, options)
        finally:
            progress.close()
            hold.check()
            _gather(store, grid)
        if grid.suite.keep.films:
            keep_films(store, grid)
        return [FailedCell(*failed) for failed in progress.failures]


def choose_executor(
    name: str,
    grid: Grid,
    *,
    device: str = "auto",
    jobs: int | None = None,
    per_device: int | None = None,
    cluster: Path | None = None,
    address: str | None = None,
    stack: int = 1,
) -> Executor:
    """The executor of that name; the other arguments are those of ``benchbench run``.

    Raises :class:`UserError` where an argument is not for this executor, or where what it needs is
    not installed.
    """
    for option, given, owner in (("--cluster", cluster, "slurm"), ("--address", address, "ray")):
        if given is not None and name != owner:
            raise UserError(f"{option}: is for --executor {owner}; add that, or leave it out")
    if stack > 1 and name != "local":
        raise UserError(f"--stack: is for --executor local, not {name}; leave it out")
    if name == "local":
        if stack > 1:
            refuse_own_code(grid.wanted)
        units = len(units_of(grid.cells, stack))
        slots = Slots.choose(choose_devices(device), jobs, units, per_device)
        return Local(slots, stack=stack)
    if name == "debug":
        from benchbench.launch.debug import Debug

        if jobs is not None or per_device is not None:
            raise UserError("--jobs: --executor debug runs one cell at a time; leave it out")
        slots = Slots.choose(choose_devices(device), None, len(grid.cells))
        return Debug(slots.devices[0], slots.threads)
    if name == "slurm":
        from benchbench.launch.slurm import Slurm, load_cluster

        if device != "auto" or jobs is not None:
            raise UserError(
                "--device and --jobs: are for --executor local; a job's belong in the cluster file"
            )
        return Slurm(load_cluster(cluster), per_device)
    if name == "ray":
        from benchbench.launch.ray.executor import Ray

        return Ray(address or "auto", len(grid.cells), device, jobs, per_device)
    raise UserError(f"unknown executor '{name}'; choose one of {', '.join(EXECUTORS)}")


def prepare_data(cells: Sequence[Cell]) -> None:
    """Make every data set that the cells need and that is not here, with a bar for each."""
    for identity in dict.fromkeys(cell.data for cell in cells):
        if not is_here(identity):
            with DataProgress(f"data {identity.label}") as progress:
                prepare(identity, progress)


def _gather(store: Store, grid: Grid) -> None:
    try:
        store.gather(grid)
    except OSError as error:
        raise unwritable(store, error) from None


class _GatheringProgress(Progress):
    """Keeps the joined tables fresh, so that a killed run can be reported too; and the log."""

    def __init__(
        self,
        to_do: Sequence[Cell],
        store: Store,
        grid: Grid,
        hold: Hold,
        curves: LiveCurves | None,
    ) -> None:
        super().__init__(to_do)
        self._store, self._grid, self._hold, self._curves = store, grid, hold, curves
        self._gathered = time.monotonic()

    def updated(self, cell: Cell, updates: int) -> None:
        super().updated(cell, updates)
        if self._curves:
            self._log(partial(self._curves.updated, cell))

    def finished(self, cell: Cell, score: float, seconds: float) -> None:
        super().finished(cell, score, seconds)
        self._hold.check()
        if self._curves:
            self._log(partial(self._curves.finished, cell))
        if time.monotonic() - self._gathered > GATHER_SECONDS:
            try:
                self._store.gather(self._grid)
            except (OSError, UserError) as error:
                self._say(f"the joined tables are not brought up to date: {error}")
            self._gathered = time.monotonic()

    def close(self) -> None:
        if self._curves:
            self._log(self._curves.close)
        super().close()

    def _log(self, step: Callable[[], None]) -> None:
        """Write to the log; whatever goes wrong in it ends the log and not the run."""
        try:
            step()
        except Exception as error:
            self._curves = None
            self._say(f"--log: no more is logged ({type(error).__name__}: {error})")


def leave_out_unavailable(grid: Grid, store: Store) -> Grid:
    """The grid without the environments whose data are missing and that say ``when: available``.

    Raises :class:`UserError` where the data of another wanted environment are missing, or where
    nothing wanted is left.
    """
    optional = {env.id for env in grid.suite.envs if env.when == "available"}
    needed = {cell.env for cell in grid.wanted}
    why: dict[str, str] = {}
    for identity in dict.fromkeys(c.data for c in grid.cells if not store.is_done(c.key)):
        missing = lacking(identity)
        if missing is not None and identity.env in optional:
            why[identity.env] = missing
        elif missing is not None and identity.env in needed:
            raise UserError(
                f"{missing}; or write 'when: available' for {identity.env}, to run without it"
            )
    left = grid.without(why, store)
    if grid.wanted and not left.wanted:
        raise UserError("no environment of the suite has its data here: " + "; ".join(why.values()))
    return left
