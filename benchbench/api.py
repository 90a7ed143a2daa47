"""What benchbench offers from Python. The command line calls these same functions.

The names are offered by the package itself: ``benchbench.run``, ``benchbench.plan``,
``benchbench.load``.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchbench.core.errors import UserError
from benchbench.suite.grid import NOTHING, Grid
from benchbench.suite.load import load_suite
from benchbench.suite.model import SeedPlan, Suite

if TYPE_CHECKING:
    from benchbench.cell.policy import TrainedPolicy
    from benchbench.launch.executor import Executor, RunOptions
    from benchbench.launch.plan import Plan
    from benchbench.launch.run import FailedCell
    from benchbench.results.store import Store
    from benchbench.results.tables import Results

logger = logging.getLogger("benchbench")

SuiteLike = Suite | Mapping[str, Any] | Path | str
"""A suite, its settings as a mapping, or the path of its file."""


@dataclass(frozen=True)
class Run:
    """The outcome of a run."""

    folder: Path
    """Where the results are."""
    failures: tuple[FailedCell, ...]
    """The cells that failed for good; empty where all went well."""

    def load(self) -> Results:
        """The tables of all finished cells; see :func:`load`."""
        return load(self.folder)


def run(
    suite: SuiteLike,
    *,
    only: Mapping[str, Collection[str]] = NOTHING,
    overrides: Sequence[str] = (),
    results: Path | str = "results",
    executor: str | Executor = "local",
    device: str = "auto",
    jobs: int | None = None,
    jobs_per_device: int | None = None,
    stack: int = 1,
    eval_processes: int | None = None,
    cluster: Path | None = None,
    address: str | None = None,
    retries: int = 2,
    fail_fast: bool = False,
    checkpoint_every: float = 60.0,
    silence: float = 600.0,
    log: Literal["tensorboard"] | None = None,
) -> Run:
    """Run the cells of a suite that have no results yet.

    The same call again goes on where the last one stopped. The arguments are the options of
    ``benchbench run``, whose help describes them; ``executor`` may also be an object with
    :class:`~benchbench.launch.executor.Executor`'s method. Times are in seconds.

    Raises :class:`UserError` for a mistake in the suite or the arguments, and
    :class:`~benchbench.core.processes.Interrupted` (a ``KeyboardInterrupt``) when stopped by a
    signal. A cell that fails raises nothing: see :attr:`Run.failures`.

    >>> import benchbench
    >>> done = benchbench.run("suites/quickstart.yaml", only={"seed": ["0"]})
    >>> done.load().cells[["seed", "variant", "final_score"]]
    """
    from benchbench.launch.executor import RunOptions
    from benchbench.launch.local import Local
    from benchbench.launch.plan import too_long_here
    from benchbench.launch.run import choose_executor, run_suite

    grid, store = _open(suite, only, overrides, results)
    if isinstance(executor, str):
        executor = choose_executor(
            executor, grid, device=device, jobs=jobs, per_device=jobs_per_device,
            cluster=cluster, address=address, stack=stack,
        )  # fmt: skip
    for env, why in grid.left_out.items():
        logger.warning("left out %s: %s", env, why)
    if isinstance(executor, Local) and (
        warning := too_long_here(grid.missing(store), executor.slots)
    ):
        logger.warning(warning)
    options = RunOptions(checkpoint_every, silence, retries, fail_fast, eval_processes, log)
    if isinstance(grid.suite.seeds, SeedPlan):
        if only:
            raise UserError("--only: a look needs all cells of its seeds; leave it out")
        return Run(store.folder, tuple(_run_looks(grid, store, executor, options)))
    return Run(store.folder, tuple(run_suite(grid, store, executor, options)))


def _run_looks(
    grid: Grid, store: Store, executor: Executor, options: RunOptions
) -> list[FailedCell]:
    """Run more seeds until the claims are decided, at the looks that the suite plans.

    Every look is made from the results alone, so a run that is stopped goes on to the same end.
    """
    from benchbench.analysis.looks import decide, first_look
    from benchbench.launch.run import run_suite

    plan = grid.suite.seeds
    assert isinstance(plan, SeedPlan)
    failures: list[FailedCell] = []
    seeds = first_look(plan)
    while True:
        now, gone = set(grid.suite.seed_list[:seeds]), {failed.cell.key for failed in failures}
        part = replace(
            grid,
            cells=tuple(cell for cell in grid.cells if cell.seed in now),
            wanted=tuple(c for c in grid.wanted if c.seed in now and c.key not in gone),
        )
        failures += run_suite(part, store, executor, options)
        if failures and options.fail_fast:
            return failures
        look = decide(load(store.folder))
        logger.warning(look.told)
        if look.action != "go on":
            return failures
        seeds = look.next_seeds


def plan(
    suite: SuiteLike,
    *,
    only: Mapping[str, Collection[str]] = NOTHING,
    overrides: Sequence[str] = (),
    results: Path | str = "results",
    device: str = "auto",
    jobs: int | None = None,
    jobs_per_device: int | None = None,
) -> Plan:
    """What :func:`run` would do on this machine: the cells, what is done, the data, the time.

    Nothing is written. Raises :class:`UserError` as :func:`run` does.

    >>> import benchbench
    >>> plan = benchbench.plan("suites/quickstart.yaml", device="cpu")
    >>> len(plan.to_do), plan.seconds()
    """
    from benchbench.cell.devices import choose_devices
    from benchbench.launch.plan import Plan
    from benchbench.launch.resources import Slots

    grid, store = _open(suite, only, overrides, results)
    slots = Slots.choose(choose_devices(device), jobs, len(grid.cells), jobs_per_device)
    return Plan(grid, store, slots)


def load(folder: Path | str) -> Results:
    """The results in ``results/<suite>/``: the suite, and its tables as DataFrames.

    The tables are ``cells``, ``evaluations``, ``training``, ``ledger`` and ``features``; a column
    ``key`` names the cell in each. Raises :class:`UserError` where the folder holds no results or
    a damaged file.

    >>> import benchbench
    >>> results = benchbench.load("results/reference_cpu")
    >>> results.evaluations.groupby(["variant", "update"])["score"].mean()
    """
    from benchbench.results.tables import read_results

    return read_results(Path(folder))


def load_policy(cell: Path | str) -> TrainedPolicy:
    """The policy that a finished cell ended with, to act on frames.

    ``cell`` is its folder, ``results/<suite>/cells/<key>``, or its ``policy.safetensors``. Raises
    :class:`UserError` where no policy was kept.

    >>> import benchbench
    >>> policy = benchbench.load_policy("results/quickstart/cells/…")
    >>> policy.act(frames)  # uint8 (E, size, size, stack x 3): actions (E, A)
    """
    from benchbench.cell.policy import load_policy as load_kept

    return load_kept(cell)


def _open(
    suite: SuiteLike,
    only: Mapping[str, Collection[str]],
    overrides: Sequence[str],
    results: Path | str,
) -> tuple[Grid, Store]:
    """The suite's grid without what is not available here, and its results folder."""
    from benchbench.launch.run import leave_out_unavailable
    from benchbench.results.store import Store

    grid = Grid.of(as_suite(suite, overrides), only)
    if any(cell.own_code for cell in grid.wanted):
        from benchbench.cell.build import check_own_code

        check_own_code(grid.wanted)
    store = Store(Path(results), grid.suite.name)
    store.unpack(grid.cells)
    if others := len(store.others(grid.keys)):
        logger.warning(
            "%s: %d finished %s of an earlier version of this suite, or of another suite called "
            "%s, stay there and are not reported; give the other suite another name, or see "
            "'benchbench clean'",
            store.folder, others, "cell" if others == 1 else "cells", grid.suite.name,
        )  # fmt: skip
    return leave_out_unavailable(grid, store), store


def as_suite(suite: SuiteLike, overrides: Sequence[str] = ()) -> Suite:
    """The suite itself, from a file, a mapping or a suite; ``overrides`` are ``KEY=VALUE``.

    Raises :class:`UserError` where it is not a valid suite.
    """
    if isinstance(suite, (str, Path)):
        return load_suite(Path(suite), tuple(overrides))
    if overrides:
        raise UserError("overrides: are for a suite's file; change the mapping or the suite itself")
    if isinstance(suite, Suite):
        return suite
    try:
        return Suite.model_validate(dict(suite))
    except ValueError as error:
        raise UserError(f"the suite is not valid: {' '.join(str(error).split())}") from None
