"""What the verbs print as JSON: the same as their text, for programs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from benchbench.cli.suite_audit import VariantAudit
    from benchbench.launch.plan import Plan
    from benchbench.results.status import CellStatus
    from benchbench.suite.grid import Cell

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")


def show(value: object) -> None:
    """Print it; NaN and infinity are null."""
    click.echo(json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False))


def plan_json(plan: Plan) -> dict[str, object]:
    """A plan: cells, data, devices, the seconds of a trial's estimate."""
    from benchbench.data.store import is_here, set_folder

    cells = [
        {**_cell(c), "state": "done" if plan.store.is_done(c.key) else "to run"}
        for c in plan.grid.wanted
    ]
    data = [
        {"env": i.env, "key": i.key, "here": is_here(i), "folder": str(set_folder(i))}
        for i in dict.fromkeys(cell.data for cell in plan.grid.wanted)
    ]
    return {
        "suite": plan.grid.suite.name, "results": str(plan.store.folder), "cells": cells,
        "left_out": dict(plan.grid.left_out), "data": data,
        "devices": [str(device) for device in plan.slots.devices], "jobs": plan.slots.jobs,
        "seconds": plan.seconds(),
    }  # fmt: skip


def status_json(folder: Path, statuses: list[CellStatus]) -> dict[str, object]:
    """The progress of a grid, a row a cell."""
    from benchbench.results.status import seconds_left

    rows = [
        {
            **_cell(one.cell), "state": one.state, "updates": one.cell.train.updates,
            "done": one.cell.train.updates if one.state == "done"
            else one.heartbeat.updates if one.heartbeat else one.saved or 0,
            "failure": str(one.failure) if one.failure else None,
        }
        for one in statuses
    ]  # fmt: skip
    return {"results": str(folder), "seconds_left": seconds_left(statuses), "cells": rows}


def report_json(folder: Path) -> dict[str, object]:
    """A report's verdicts, as ``claims.parquet`` beside it has them."""
    import pandas as pd

    claims = pd.read_parquet(folder / "claims.parquet")
    return {"results": str(folder), "claims": claims.to_dict(orient="records")}


def audit_json(found: list[VariantAudit]) -> list[dict[str, object]]:
    """A suite's audit, a part a variant."""
    return [
        {
            "variant": one.routing.name, "declared": asdict(one.routing),
            "as_declared": one.mismatch is None, "mismatch": one.mismatch,
            "audit": one.audit.to_dict(),
        }
        for one in found
    ]  # fmt: skip


def _cell(cell: Cell) -> dict[str, object]:
    return {"key": cell.key, "env": cell.stratum, "seed": cell.seed, "variant": cell.variant}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
