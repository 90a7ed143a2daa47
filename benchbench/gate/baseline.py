"""Baselines: runs that later ones are compared with, stored small, with where they came from.

A baseline is ``results/baselines/<suite>/`` with ``cells.parquet`` (one row a cell: key, gated
series, device, versions, data, commit) and, for a canary, ``numbers.parquet``. It becomes the
baseline by a reviewed commit; nothing but ``benchbench baseline update`` writes there.
"""

from __future__ import annotations

from pathlib import Path

from benchbench.core.errors import UserError
from benchbench.gate.snapshot import Snapshot, load_snapshot, write_baseline


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
