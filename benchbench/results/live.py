"""Curves while cells train, for TensorBoard: what their checkpoints hold so far.

The process that watches the cells reads the checkpoints that they write anyway, so training
neither knows of the log nor waits for it. A checkpoint holds all rows that a cell has measured, and
a cell that was killed goes on from it: its log goes on there too, and holds no step twice.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchbench.results.checkpoints import Unusable, read_checkpoint
from benchbench.results.store import Store, TableRows
from benchbench.results.tables import read_table
from benchbench.results.trackers import CURVES, event_file, need, scalars
from benchbench.suite.grid import Cell

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class LiveCurves:
    """The event files ``tensorboard/<cell>/`` of the cells that run now.

    Raises :class:`UserError` where TensorBoard is not installed.
    """

    def __init__(self, store: Store) -> None:
        need("tensorboard", "--log tensorboard")
        self._store = store
        self._writers: dict[str, SummaryWriter] = {}
        self._read: dict[str, int] = {}
        """When the checkpoint that was read last had been written, by the cell's key."""
        self._rows: dict[tuple[str, str], int] = {}
        """How many rows are logged, by the cell's key and the table."""

    def updated(self, cell: Cell) -> None:
        """Log what a newer checkpoint of the cell holds."""
        path = self._store.checkpoint_path(cell.key)
        try:
            written = path.stat().st_mtime_ns
            if written == self._read.get(cell.key):
                return
            _, state = read_checkpoint(path, "cpu")
        except (OSError, Unusable):  # none yet, or none any more
            return
        self._read[cell.key] = written
        self._log(cell, json.loads(state["cell"])["rows"])

    def finished(self, cell: Cell) -> None:
        """Log the rest of a published cell, and close its file."""
        folder = self._store.cell_folder(cell.key)
        self._log(cell, {t: read_table(folder / f"{t}.parquet", t).to_pylist() for t in CURVES})
        self._writers.pop(cell.key).close()

    def close(self) -> None:
        """Close the files of cells that have not finished."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _log(self, cell: Cell, tables: TableRows) -> None:
        if cell.key not in self._writers:
            name = f"{cell.stratum} seed {cell.seed} {cell.variant}"
            self._writers[cell.key] = event_file(self._store.folder / "tensorboard", name)
        writer = self._writers[cell.key]
        for table in CURVES:
            rows: list[dict[str, Any]] = tables[table]
            for row in rows[self._rows.get((cell.key, table), 0) :]:
                for tag, value in scalars(table, row).items():
                    writer.add_scalar(tag, value, row["update"])
            self._rows[cell.key, table] = len(rows)
        writer.flush()
