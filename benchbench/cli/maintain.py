"""Verbs about results and the machine: progress, tidying up, joining, packing, checking."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchbench.cli.as_json import json_option, show, status_json
from benchbench.cli.options import check_output, results_option, set_option, suite_state_argument
from benchbench.core.errors import UserError
from benchbench.suite.grid import Cell, Grid
from benchbench.suite.load import load_suite

if TYPE_CHECKING:
    from benchbench.results.store import Store

WATCH_SECONDS = 2.0
"""How often ``status --watch`` looks."""


@click.command()
@suite_state_argument
@set_option
@results_option
@click.option("--watch", is_flag=True, help="Keep it fresh until the grid is done or Ctrl-C.")
@json_option
def status(
    suite: str, overrides: tuple[str, ...], results: Path, watch: bool, as_json: bool
) -> None:
    """Show the progress of SUITE's grid, from another terminal or afterwards.

    Done, running (where, since when, how far), failed (why), missing.
    """
    from benchbench.results.status import grid_status, status_text

    store, cells = grid_of(suite, overrides, results)
    if as_json:
        if watch:
            raise UserError("--watch and --json: choose one")
        show(status_json(store.folder, grid_status(store, cells)))
        return
    while watch:
        click.clear()
        click.echo(status_text(store, cells))
        if all(one.state == "done" for one in grid_status(store, cells)):
            return
        time.sleep(WATCH_SECONDS)
    click.echo(status_text(store, cells))


@click.command()
@suite_state_argument
@set_option
@results_option
@click.option("--policies", is_flag=True, help="The kept weights of all cells, too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean(suite: str, overrides: tuple[str, ...], results: Path, policies: bool, yes: bool) -> None:
    """List what SUITE's results folder can do without, with sizes, ask, and remove it.

    Cells that left the suite, logs and checkpoints of published cells, and what killed processes
    left behind. Results of the suite's own cells stay; with --policies their weights go.
    """
    from benchbench.results.clean import find_litter, find_policies, remove
    from benchbench.results.lock import held, one_report

    store, cells = grid_of(suite, overrides, results)
    if not store.folder.is_dir():
        raise UserError(f"{store.folder}: holds no results, so there is nothing to clean")
    with held(store), one_report(store.folder):  # the drafts of a report at work are no litter
        litter = find_litter(store, {cell.key for cell in cells})
        if policies:
            gone = {one.path for one in litter}
            litter += [p for p in find_policies(store) if p.path.parent not in gone]
        for one in litter:
            click.echo(f"{_size(one.size)}  {one.path}  ({one.why})")
        total = _size(sum(one.size for one in litter)).strip()
        if not litter:
            click.echo(f"{store.folder}: nothing to remove")
        elif yes or click.confirm(f"Remove these {len(litter)}, {total} in all?"):
            for one in litter:
                remove(one)
            click.echo(f"removed {len(litter)}, {total} in all")


@click.command()
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="FOLDER...",
    type=click.Path(path_type=Path, exists=True),
)
def merge(target: Path, folders: tuple[Path, ...]) -> None:
    """Join results folders of one suite, from several machines, into the folder TARGET.

    Each is a folder such as results/quickstart, or an archive of 'pack'. A cell that is there
    twice must have come to the same, except for times and machine, or nothing is merged.
    """
    from benchbench.results.lock import held
    from benchbench.results.merge import merge as merge_folders
    from benchbench.results.pack import unpacked
    from benchbench.results.store import Store

    with ExitStack() as stack:
        opened = [stack.enter_context(unpacked(folder)) for folder in folders]
        stack.enter_context(held(Store(target.parent, target.name)))
        new = merge_folders(target, opened)
    click.echo(f"{target}: {len(new)} new cells")


@click.command()
@click.argument(
    "folder",
    metavar="RESULTS",
    type=click.Path(path_type=Path, file_okay=False),
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="By default RESULTS.zip."
)
@click.option("--policies", is_flag=True, help="With the kept weights of every cell.")
def pack(folder: Path, out: Path | None, policies: bool) -> None:
    """Put RESULTS into one archive: tables, page, suite and versions, with checksums.

    'merge' and 'compare' take it where they take a results folder.
    """
    from benchbench.results.pack import pack as pack_folder

    check_output("--out", out, (".zip",))
    named = folder.resolve() if folder.name in ("", "..") else folder
    path = out or named.with_name(f"{named.name}.zip")
    size, sha256 = pack_folder(folder, path, policies)
    click.echo(f"{path}: {size / 1e6:,.2f} MB, sha256 {sha256}")


@click.command()
@results_option
def doctor(results: Path) -> None:
    """Say what this machine offers a run, what is wrong with it, and the cure.

    Exit code: 0 nothing that keeps a run from working, 1 a problem.
    """
    from benchbench.launch.doctor import examine

    colours = {"ok": "green", "warning": "yellow", "problem": "red"}
    problems = 0
    for found in examine(results):
        level = click.style(found.level.ljust(8), fg=colours[found.level])
        click.echo(f"{level} {found.what:<9} {found.text}")
        if found.cure:
            click.echo(f"{'':<18} -> {found.cure}")
        problems += found.level == "problem"
    sys.exit(1 if problems else 0)


def grid_of(suite: str, overrides: tuple[str, ...], results: Path) -> tuple[Store, list[Cell]]:
    """The results folder and the cells of a suite: by its file, or as it was last run by its name.

    A suite's name stands for the overrides that it was run with, too.
    """
    from benchbench.results.store import Store
    from benchbench.results.tables import read_left_out, read_suite

    if Path(suite).suffix in (".yaml", ".yml"):
        loaded = load_suite(Path(suite), overrides)
        name = loaded.name
    elif overrides:
        raise UserError(
            "--set needs the suite's file; its name stands for the suite as it was last run"
        )
    else:
        name = Path(suite).name  # the folder's, which may have been renamed since
        loaded = read_suite(results / name)[0]
    store = Store(results, name)
    return store, list(Grid.of(loaded).without(read_left_out(store.folder), store).cells)


def _size(size: int) -> str:
    return f"{size / 1e6:>9,.2f} MB"
