"""Joining the results folders of one suite from several machines."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from benchbench.core.errors import UserError
from benchbench.core.files import DRAFT, sync
from benchbench.results.store import Store
from benchbench.results.tables import TABLES, read_left_out, read_results, read_table
from benchbench.suite.grid import Grid

NOT_COMPARED = {
    "total_seconds", "train_seconds", "evaluate_seconds", "diagnose_seconds", "update_ms",
    "started_at", "peak_memory_mb", "device_name", "threads", "versions", "git_commit",
    "git_dirty", "env",
}  # fmt: skip
"""Columns that say when, where and under what name a cell was run, not what came of it."""


def merge(target: Path, sources: Sequence[Path]) -> list[str]:
    """Copy the cells of ``sources`` that ``target`` lacks; returns their keys.

    Everything is checked before anything is copied. Raises :class:`UserError` where a folder is
    of another suite, or where a cell that is there twice differs in more than times and machine.
    """
    suites = {folder: read_results(folder).suite for folder in sources}
    first = sources[0]
    if (target / "suite.json").exists():
        first, suites = target, {target: read_results(target).suite, **suites}
    for folder, suite in suites.items():
        if suite != suites[first]:
            raise UserError(
                f"{folder}: is of another suite than {first}, or of another state of it; run the "
                "same suite file on each machine, with --only for the parts"
            )
    chosen: dict[str, Path] = {}
    for folder in suites:
        for cell in sorted(folder.glob("cells/[!.]*")):
            if cell.name in chosen:
                _refuse_difference(chosen[cell.name], cell)
            else:
                for name in TABLES:
                    read_table(cell / f"{name}.parquet", name)
                chosen[cell.name] = cell
    store = Store(target.parent, target.name)
    new = [key for key in chosen if not store.is_done(key)]
    for key in new:
        _copy(chosen[key], store.cell_folder(key))
    for folder in sources:
        for path in sorted(folder.glob("failed/[!.]*")):
            if not store.is_done(path.stem) and not store.failure_path(path.stem).exists():
                _copy(path, store.failure_path(path.stem))
    left_out: dict[str, str] = {}
    for folder in suites:
        left_out |= read_left_out(folder)
    grid = Grid.of(suites[first]).without(left_out, store)
    there = {cell.env for cell in grid.cells}
    still_out = {env: why for env, why in left_out.items() if env not in there}
    store.gather(replace(grid, left_out=still_out))
    return new


def _refuse_difference(one: Path, other: Path) -> None:
    for name in TABLES:
        tables: list[pa.Table] = []
        for folder in (one, other):
            table = read_table(folder / f"{name}.parquet", name)
            kept = [column for column in table.column_names if column not in NOT_COMPARED]
            tables.append(table.select(kept))
        for column in tables[0].column_names:
            # NaN is not equal to NaN, so compare texts.
            if str(tables[0][column].to_pylist()) != str(tables[1][column].to_pylist()):
                raise UserError(
                    f"{other}: differs from {one} in '{column}' of {name}.parquet, though both are "
                    "the same cell; nothing was merged: move one of the two away"
                )


def _copy(source: Path, place: Path) -> None:
    """Copy a file or folder so that it appears whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=DRAFT, dir=place.parent) as name:
        draft = Path(name) / place.name
        if source.is_dir():
            shutil.copytree(source, draft)
            for path in (*draft.iterdir(), draft):
                sync(path)
        else:
            shutil.copyfile(source, draft)
            sync(draft)
        os.rename(draft, place)
    sync(place.parent)
