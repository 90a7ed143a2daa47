"""What the gate sees of a run: one row a planned cell, with its gated series and its provenance.

A snapshot is taken of a results folder, or read back from a stored baseline, which is
``results/baselines/<suite>/`` with ``cells.parquet`` and for a canary ``numbers.parquet``, every
number that the run wrote down. The suite is stored in the files' metadata. A run becomes the
baseline by a reviewed commit; nothing but ``benchbench baseline update`` writes there.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchbench.core.errors import UserError
from benchbench.core.files import from_json, replaced
from benchbench.results.tables import SCHEMAS, Results, read_results, refuse_no_json
from benchbench.suite.load import stored_suite
from benchbench.suite.model import Margins, Suite

Scale = Literal["difference", "ln ratio"]


@dataclass(frozen=True)
class Series:
    """One number a cell that the gate watches.

    ``worse`` is +1 where more of it is worse, -1 where less is. ``margin`` names a field of the
    suite's ``margins``. On the ln-ratio scale the difference is ln(candidate / baseline), so that
    a margin is relative. A ``cost`` says something about the machine too, and is compared only
    between runs on the same one.
    """

    name: str
    table: Literal["cells", "evaluations"]
    unit: str
    worse: int
    margin: str
    scale: Scale = "difference"
    cost: bool = False


SERIES = (
    Series("final_score", "cells", "points", -1, "score"),
    Series("q_error", "evaluations", "σ_G", 1, "q_error", "ln ratio"),
    Series("td_error", "evaluations", "σ_G", 1, "q_error", "ln ratio"),
    Series("state_r2", "evaluations", "R²", -1, "r2"),
    Series("return_r2", "evaluations", "R²", -1, "r2"),
    Series("action_r2", "evaluations", "R²", -1, "r2"),
    Series("update_ms", "cells", "ms", 1, "update_ms", "ln ratio", cost=True),
    Series("peak_memory_mb", "cells", "MiB", 1, "memory", "ln ratio", cost=True),
)
"""Every gated series; those of ``evaluations`` are read at a cell's last evaluation."""

NAMES = tuple(series.name for series in SERIES)


def margin_of(series: Series, margins: Margins) -> float:
    """The suite's margin on the series' scale: a relative growth by m is ln(1 + m)."""
    stated = float(getattr(margins, series.margin))
    return math.log1p(stated) if series.scale == "ln ratio" else stated


FORMAT = 1
"""Version of a stored baseline's layout, in the files' metadata under ``benchbench_baseline``."""

CELL = ["key", "env", "seed", "variant"]

PROVENANCE = ["status", "error", "device", "device_name", "threads", "started_at", "data_key",
              "data_sha256", "versions", "git_commit", "git_dirty"]  # fmt: skip

_CELLS = pa.schema(
    [SCHEMAS["cells"].field(name).remove_metadata() for name in [*CELL, *PROVENANCE]]
    + [pa.field(name, pa.float64()) for name in NAMES]
)
_NUMBERS = pa.schema(
    [_CELLS.field(name) for name in CELL]
    + [("update", pa.int64()), ("series", pa.string()), ("value", pa.float64())]
)

_NO_NUMBER = {"mismatch", "time_return_r2"}
"""Columns that a canary leaves out: one is a rounding error, the other the same for all agents."""


@dataclass(frozen=True)
class Snapshot:
    """A run as the gate sees it.

    ``cells`` has one row a planned cell: :data:`CELL`, :data:`PROVENANCE` and the gated series;
    ``status`` is ``done``, ``failed`` or ``missing``. ``numbers`` (``key, env, seed, variant,
    update, series, value``) has rows only where the suite has a ``tolerance``.
    """

    source: str
    suite: Suite
    cells: pd.DataFrame
    numbers: pd.DataFrame

    @property
    def unfinished(self) -> pd.DataFrame:
        """The cells that failed or are missing."""
        return self.cells[self.cells["status"] != "done"]


def take_snapshot(results: Results, source: str) -> Snapshot:
    """The snapshot of a run's results."""
    cells = results.plan.merge(
        results.cells[["key", *(c for c in _CELLS.names if c in results.cells and c not in CELL)]],
        on="key",
        how="left",
    )
    cells["status"] = cells["status"].fillna("missing")
    last = results.evaluations.sort_values("update").groupby("key").tail(1)
    measured = [s.name for s in SERIES if s.table == "evaluations"]
    cells = cells.merge(last[["key", *measured]], on="key", how="left")
    cells = cells.reindex(columns=_CELLS.names)
    numbers = _numbers(results) if results.suite.tolerance else _no_numbers()
    return Snapshot(source, results.suite, _typed(cells, _CELLS), numbers)


def load_snapshot(path: Path) -> Snapshot:
    """The snapshot at ``path``: results, or a stored baseline (its folder or ``cells.parquet``).

    Raises :class:`UserError` where there is neither, or a file is damaged.
    """
    folder = path.parent if path.name == "cells.parquet" else path
    if (folder / "suite.json").exists():
        return take_snapshot(read_results(folder), str(folder))
    if not (folder / "cells.parquet").exists():
        raise UserError(
            f"{path}: holds neither results nor a baseline; make results with 'benchbench run "
            "SUITE', a baseline of them with 'benchbench baseline update RESULTS'"
        )
    suite, cells = _read(folder / "cells.parquet", _CELLS)
    if not suite.tolerance:
        return Snapshot(str(folder), suite, cells, _no_numbers())
    _, numbers = _read(folder / "numbers.parquet", _NUMBERS)
    of = (pq.read_schema(folder / "numbers.parquet").metadata or {}).get(b"run")
    if of is not None and of.decode() != _run_of(cells):
        raise UserError(
            f"{folder}: its numbers.parquet is not of the run of its cells.parquet, as an update "
            "broke off; make it again with 'benchbench baseline update RESULTS'"
        )
    return Snapshot(str(folder), suite, cells, numbers)


def write_baseline(snapshot: Snapshot, folder: Path) -> None:
    """Store a snapshot as a baseline; each file is whole or not there.

    ``cells`` comes last: if the writing is interrupted before it, :func:`load_snapshot` finds that
    the numbers belong to other cells.
    """
    tables = {"cells": (snapshot.cells, _CELLS)}
    if snapshot.suite.tolerance:
        tables = {"numbers": (snapshot.numbers, _NUMBERS), **tables}
    about = {"benchbench_baseline": str(FORMAT), "run": _run_of(snapshot.cells)}
    suite = json.dumps(snapshot.suite.model_dump(mode="json", exclude_unset=True))
    for name, (frame, schema) in tables.items():
        table = pa.Table.from_pandas(frame[schema.names], schema, preserve_index=False)
        table = table.replace_schema_metadata({**about, "suite": suite})
        with replaced(folder / f"{name}.parquet") as file:
            pq.write_table(table, file, compression="zstd")


def _run_of(cells: pd.DataFrame) -> str:
    """Identifies the run that a baseline's files belong to."""
    when = cells[["key", "git_commit", "started_at"]].sort_values("key")
    return hashlib.sha256(when.to_csv(index=False).encode()).hexdigest()


def _read(path: Path, schema: pa.Schema) -> tuple[Suite, pd.DataFrame]:
    try:
        table = pq.read_table(path)
        table.validate(full=True)
        metadata = table.schema.metadata or {}
        found = metadata.get(b"benchbench_baseline", b"none").decode()
        if found != str(FORMAT):
            raise UserError(
                f"{path}: has baseline format {found}, this benchbench reads {FORMAT}; make it "
                "again with 'benchbench baseline update RESULTS'"
            )
        suite = stored_suite(from_json(metadata[b"suite"]), path)
        table = table.select(schema.names).cast(schema)
        refuse_no_json(table)
        return suite, table.to_pandas()
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: is not a readable baseline ({reason}); remake it with 'benchbench baseline "
            "update RESULTS'"
        ) from None


def _no_numbers() -> pd.DataFrame:
    return _typed(pd.DataFrame(columns=_NUMBERS.names), _NUMBERS)


def _numbers(results: Results) -> pd.DataFrame:
    """All numbers that follow from the training alone, in long form; nulls are left out."""
    parts = []
    for table in ("evaluations", "training", "ledger"):
        schema, frame = SCHEMAS[table], getattr(results, table).copy()
        if table == "ledger":
            what = frame["loss"] + " on " + frame["module"] + " "
        else:
            what = pd.Series("", index=frame.index)
        for name in schema.names:
            if schema.field(name).type == pa.float64() and name not in _NO_NUMBER:
                part = frame[[*CELL, "update"]].assign(
                    series=what + f"{table}.{name}", value=frame[name].astype(float)
                )
                parts.append(part.dropna(subset="value"))
    return _typed(pd.concat(parts, ignore_index=True), _NUMBERS)


def _typed(frame: pd.DataFrame, schema: pa.Schema) -> pd.DataFrame:
    """The frame with the columns' types as they come back from parquet."""
    return pa.Table.from_pandas(frame[schema.names], schema, preserve_index=False).to_pandas()


def update_baseline(results: Path, baselines: Path) -> Path:
    """Make a run's results the baseline of its suite; returns the baseline's folder.

    Raises :class:`UserError` where the run is not whole, not of one commit and one model of
    device, or came from a checkout with uncommitted changes.
    """
    snapshot = load_snapshot(results)
    refuse_unfit(snapshot)
    folder = baselines / snapshot.suite.name
    write_baseline(snapshot, folder)
    return folder


def refuse_unfit(snapshot: Snapshot) -> None:
    """Raise :class:`UserError` where a snapshot may not become a baseline."""
    cells, where = snapshot.cells, snapshot.source
    if len(snapshot.unfinished):
        first = snapshot.unfinished.iloc[0]
        raise UserError(
            f"{where}: {len(snapshot.unfinished)} of {len(cells)} cells are failed or missing, "
            f"first {first['env']} seed {first['seed']} {first['variant']}; run the suite until "
            "all are done"
        )
    if cells["git_commit"].isna().any():
        raise UserError(
            f"{where}: ran outside a git checkout, so the code it measured is unknown; run "
            "the suite from one, into a fresh --results folder"
        )
    if cells["git_dirty"].map(bool).any():
        raise UserError(
            f"{where}: ran on a checkout with uncommitted changes; commit them and run the suite "
            "into a fresh --results folder"
        )
    for column, what in (("git_commit", "commits"), ("device_name", "models of device")):
        if len(found := sorted(set(cells[column]))) > 1:
            raise UserError(
                f"{where}: its cells are of several {what} ({', '.join(found)}); run the suite in "
                "one go into a fresh --results folder"
            )


def stored_baselines(baselines: Path, names: tuple[str, ...]) -> list[Snapshot]:
    """The named baselines, or all that are stored.

    Raises :class:`UserError` where one is missing.
    """
    folders = [baselines / name for name in names]
    if not names:
        folders = sorted(path.parent for path in baselines.glob("*/cells.parquet"))
    if not folders:
        raise UserError(
            f"{baselines}: holds no baseline; make one with 'benchbench baseline update RESULTS'"
        )
    return [load_snapshot(folder) for folder in folders]
