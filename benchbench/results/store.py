"""Writing results so that nothing is lost and nothing half-written is ever read.

A cell is published as a folder ``cells/<key>/`` with its tables in it. The folder is filled
under a temporary name beside its place, synced, then renamed: a cell counts when its folder is
there. :meth:`Store.gather` joins a suite's published cells into the tables that the report reads.
Beside them lies what a cell leaves while it runs: its log, its checkpoint, its heartbeat, and why
it failed.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchbench.core.errors import UserError
from benchbench.core.files import DRAFT, from_json, replaced, sync, write_text
from benchbench.results.failures import Failure, kind_of
from benchbench.results.tables import SCHEMAS, TABLES, read_table, to_table
from benchbench.suite.grid import Cell, Grid

TableRows = dict[str, list[dict[str, object]]]
"""Rows of each table, by the table's name."""


POLICY = "policy.safetensors"
"""A cell's weights, where they are kept, beside its tables."""


class CellRows(TableRows):
    """A finished cell's rows, and ``files`` that are published beside its tables."""

    files: Mapping[str, bytes] = {}


class Store:
    """The results folder of one suite, ``<results>/<suite name>/``."""

    def __init__(self, results: Path, suite: str) -> None:
        self.folder = results / suite

    def cell_folder(self, key: str) -> Path:
        """Where a cell's tables are once it is published."""
        return self.folder / "cells" / key

    def policy_path(self, key: str) -> Path:
        """Where a published cell's weights are, if they were kept."""
        return self.cell_folder(key) / POLICY

    def log_path(self, key: str) -> Path:
        """Where a cell's output goes while it runs; kept afterwards."""
        return self.folder / "logs" / f"{key}.log"

    def checkpoint_path(self, key: str) -> Path:
        """Where a cell keeps what it needs to go on after a kill, until it is published."""
        return self.folder / "checkpoints" / f"{key}.ckpt"

    def heartbeat_path(self, key: str) -> Path:
        """Where a running cell keeps its heartbeat."""
        return self.folder / "running" / f"{key}.json"

    def failure_path(self, key: str) -> Path:
        """Where the reason for a failure is kept until the cell succeeds."""
        return self.folder / "failed" / f"{key}.json"

    def is_done(self, key: str) -> bool:
        """Whether the cell is published."""
        return self.cell_folder(key).is_dir()

    def others(self, wanted: Collection[str]) -> list[Path]:
        """Folders of published cells with other keys: of another suite, or its earlier versions."""
        folders = (self.folder / "cells").glob("[!.]*")
        return [folder for folder in folders if folder.name not in wanted]

    def failure(self, key: str) -> Failure | None:
        """Why the cell failed when it was last run, or None."""
        try:
            told = from_json(self.failure_path(key).read_text(encoding="utf-8"))
            return Failure(kind_of(told["kind"]), str(told["error"]), int(told["attempts"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def final_score(self, key: str) -> float:
        """The final score of a published cell; NaN where it was not scored."""
        table = read_table(self.cell_folder(key) / "cells.parquet", "cells")
        score = table["final_score"][0].as_py()
        return math.nan if score is None else float(score)

    def publish(self, cell: Cell, rows: TableRows) -> None:
        """Write a finished cell's tables; they appear all at once or not at all.

        If another process, thought dead, has published the cell meanwhile, its results stay.
        """
        with self._draft(cell) as draft:
            for name in TABLES:
                _write_parquet(draft / f"{name}.parquet", to_table(name, rows[name]))
            for name, content in getattr(rows, "files", {}).items():
                (draft / name).write_bytes(content)
                sync(draft / name)

    def adopt(self, cell: Cell, tables: Mapping[str, bytes]) -> None:
        """Publish a cell's tables that another machine has written, by file name.

        Raises ``ValueError``, and publishes nothing, where they are not all there, whole and of
        this cell.
        """
        with self._draft(cell) as draft:
            if POLICY in tables:
                (draft / POLICY).write_bytes(tables[POLICY])
                sync(draft / POLICY)
            for name in TABLES:
                path = draft / f"{name}.parquet"
                path.write_bytes(tables.get(path.name, b""))
                sync(path)
                try:
                    keys = read_table(path, name)["key"].to_pylist()
                except UserError as error:
                    raise ValueError(f"{path.name} is not whole ({error})") from None
                if set(keys) - {cell.key} or (name == "cells" and len(keys) != 1):
                    raise ValueError(f"{path.name} is of another cell")

    def unpack(self, cells: Sequence[Cell]) -> None:
        """Publish the cells that the joined tables hold, if there is no folder of cells yet.

        Shared results, such as the repository's, have only joined tables: a run of their suite
        then continues from them instead of overwriting them. A missing table counts as empty.
        Raises :class:`UserError` where one is damaged or nothing can be written.
        """
        place, path = self.folder / "cells", self.folder / "cells.parquet"
        if place.exists() or not path.exists():
            return
        joined = {"cells": read_table(path, "cells")}
        for name in set(TABLES) - {"cells"}:
            path = self.folder / f"{name}.parquet"
            joined[name] = read_table(path, name) if path.exists() else SCHEMAS[name].empty_table()
        done = joined["cells"].filter(pc.field("status") == "done")["key"].to_pylist()
        try:
            with tempfile.TemporaryDirectory(prefix=DRAFT, dir=self.folder) as draft:
                whole = Path(draft) / "cells"
                for key in {cell.key for cell in cells} & set(done):
                    (whole / key).mkdir(parents=True)
                    for name, table in joined.items():
                        mine = table.filter(pc.field("key") == key)
                        _write_parquet(whole / key / f"{name}.parquet", mine)
                if whole.exists():
                    os.rename(whole, place)
                    sync(self.folder)
        except OSError as error:
            raise UserError(
                f"{self.folder}: its results cannot be unpacked ({error.strerror}); make room, or "
                "choose another folder with --results"
            ) from None

    @contextmanager
    def _draft(self, cell: Cell) -> Iterator[Path]:
        """A folder to fill; it becomes the published cell if the block ends without an error."""
        cells, place = self.folder / "cells", self.cell_folder(cell.key)
        cells.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{DRAFT}{cell.key}-", dir=cells))
        try:
            yield draft
            sync(draft)
            draft.chmod(0o755)
            os.rename(draft, place)
            sync(cells)
        except BaseException as error:
            shutil.rmtree(draft, ignore_errors=True)
            if not (isinstance(error, OSError) and self.is_done(cell.key)):
                raise
        self.failure_path(cell.key).unlink(missing_ok=True)

    def record_failure(self, cell: Cell, failure: Failure) -> None:
        """Remember why a cell failed, until it succeeds."""
        told = {"kind": failure.kind, "error": failure.text, "attempts": failure.attempts}
        write_text(self.failure_path(cell.key), json.dumps({**told, **_identity(cell)}))

    def gather(self, grid: Grid) -> None:
        """Write ``suite.json`` and the joined tables of the grid's cells.

        Published cells that are no longer in the suite stay on disk and out of the tables.
        """
        cells = grid.cells
        stored = {
            "suite": grid.suite.model_dump(mode="json", exclude_unset=True),
            "plan": [_identity(cell) for cell in cells],
            "left_out": dict(grid.left_out),
        }
        write_text(self.folder / "suite.json", json.dumps(stored, indent=1))
        done = [cell for cell in cells if self.is_done(cell.key)]
        for name in TABLES:
            parts = [
                _called(
                    read_table(self.cell_folder(cell.key) / f"{name}.parquet", name), cell.stratum
                )
                for cell in done
            ]
            if name == "cells":
                parts.append(to_table("cells", self._failed_rows(cells)))
            table = pa.concat_tables([SCHEMAS[name].empty_table(), *parts])
            with replaced(self.folder / f"{name}.parquet") as file:
                pq.write_table(table, file)

    def _failed_rows(self, cells: Sequence[Cell]) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for cell in cells:
            failure = None if self.is_done(cell.key) else self.failure(cell.key)
            if failure is not None:
                rows.append(
                    {
                        **_identity(cell),
                        "status": "failed",
                        "error": str(failure),
                        "observation": cell.observation,
                        "settings": json.dumps(cell.settings(), sort_keys=True),
                    }
                )
        return rows


def _identity(cell: Cell) -> dict[str, object]:
    return {"key": cell.key, "env": cell.stratum, "seed": cell.seed, "variant": cell.variant}


def _called(table: pa.Table, env: str) -> pa.Table:
    """A cell's table under the suite's name of its environment, which is no part of the key."""
    place = table.schema.get_field_index("env")
    names = pa.array([env] * table.num_rows, table.schema.field(place).type)
    return table.set_column(place, table.schema.field(place), names)


def _write_parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
