"""Writing results so that nothing is lost and nothing half-written is ever read.

A cell is published as a folder ``cells/<key>/`` with its tables in it. The folder is filled
under a temporary name beside its place, synced, then renamed: a cell counts when its folder is
there. :func:`gather` joins the published cells of a suite into the tables that the report reads.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchbench.grid import Cell
from benchbench.results import SCHEMAS, TABLES, read_table, to_table
from benchbench.suite import Suite

TableRows = dict[str, list[dict[str, object]]]
"""Rows of each table, by the table's name."""


class Store:
    """The results folder of one suite, ``<results>/<suite name>/``."""

    def __init__(self, results: Path, suite: str) -> None:
        self.folder = results / suite

    def cell_folder(self, key: str) -> Path:
        """Where a cell's tables are once it is published."""
        return self.folder / "cells" / key

    def log_path(self, key: str) -> Path:
        """Where a cell's output goes while it runs; kept afterwards."""
        return self.folder / "logs" / f"{key}.log"

    def is_done(self, key: str) -> bool:
        """Whether the cell is published."""
        return self.cell_folder(key).is_dir()

    def failure(self, key: str) -> str | None:
        """Why the cell failed when it was last run, or None."""
        path = self.folder / "failed" / f"{key}.json"
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["error"])
        except (OSError, ValueError, KeyError):
            return None

    def publish(self, cell: Cell, rows: TableRows) -> None:
        """Write a finished cell's tables; they appear all at once or not at all."""
        cells = self.folder / "cells"
        cells.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{cell.key}-", dir=cells))
        try:
            for name in TABLES:
                _write_parquet(draft / f"{name}.parquet", to_table(name, rows[name]))
            _sync_folder(draft)
            draft.chmod(0o755)
            os.rename(draft, self.cell_folder(cell.key))
            _sync_folder(cells)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        (self.folder / "failed" / f"{cell.key}.json").unlink(missing_ok=True)

    def record_failure(self, cell: Cell, error: str) -> None:
        """Remember why a cell failed, until it succeeds."""
        write_text(
            self.folder / "failed" / f"{cell.key}.json",
            json.dumps({"error": error, **_identity(cell)}),
        )

    def gather(self, suite: Suite, cells: Sequence[Cell]) -> None:
        """Write ``suite.json`` and the joined tables of the suite's cells.

        Cells that are published but no longer in the suite stay on disk and out of the tables.
        """
        plan = [_identity(cell) for cell in cells]
        stored = {"suite": suite.model_dump(mode="json", exclude_unset=True), "plan": plan}
        write_text(self.folder / "suite.json", json.dumps(stored, indent=1))
        done = [cell for cell in cells if self.is_done(cell.key)]
        for name in TABLES:
            parts = [
                read_table(self.cell_folder(cell.key) / f"{name}.parquet", name) for cell in done
            ]
            if name == "cells":
                parts.append(to_table("cells", self._failed_rows(cells)))
            table = pa.concat_tables([SCHEMAS[name].empty_table(), *parts])
            path = self.folder / f"{name}.parquet"
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            _write_parquet(draft, table)
            os.replace(draft, path)
        _sync_folder(self.folder)

    def _failed_rows(self, cells: Sequence[Cell]) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for cell in cells:
            error = None if self.is_done(cell.key) else self.failure(cell.key)
            if error is not None:
                rows.append(
                    {
                        **_identity(cell),
                        "status": "failed",
                        "error": error,
                        "observation": cell.observation,
                        "settings": json.dumps(cell.settings(), sort_keys=True),
                    }
                )
        return rows


def write_text(path: Path, text: str) -> None:
    """Write a small file whole: to a temporary name beside it, synced, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _identity(cell: Cell) -> dict[str, object]:
    return {"key": cell.key, "env": cell.env, "seed": cell.seed, "variant": cell.variant}


def _write_parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
