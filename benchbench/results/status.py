"""The progress of a grid, read from its results folder while it runs or afterwards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchbench.results.checkpoints import updates_in
from benchbench.results.failures import Failure
from benchbench.results.heartbeat import Heartbeat, read_heartbeat
from benchbench.results.store import Store
from benchbench.results.tables import read_left_out
from benchbench.suite.grid import Cell

State = Literal["done", "running", "failed", "missing"]

SILENT_SECONDS = 30.0
"""The silence of a running cell is reported after this long."""


@dataclass(frozen=True)
class CellStatus:
    """One cell of the grid: where it stands."""

    cell: Cell
    state: State
    heartbeat: Heartbeat | None = None
    """Its progress, where it is running."""
    failure: Failure | None = None
    """Why it failed, where it has."""
    saved: int | None = None
    """Updates in its checkpoint, where it is not running and has one to resume from."""


def grid_status(store: Store, cells: Sequence[Cell]) -> list[CellStatus]:
    """Where each cell stands, in the grid's order."""
    return [_cell_status(store, cell) for cell in cells]


def _cell_status(store: Store, cell: Cell) -> CellStatus:
    if store.is_done(cell.key):
        return CellStatus(cell, "done")
    heartbeat = read_heartbeat(store.heartbeat_path(cell.key))
    if heartbeat and heartbeat.alive:
        return CellStatus(cell, "running", heartbeat=heartbeat)
    saved = updates_in(store.checkpoint_path(cell.key))
    failure = store.failure(cell.key)
    return CellStatus(cell, "failed" if failure else "missing", failure=failure, saved=saved)


def status_text(store: Store, cells: Sequence[Cell]) -> str:
    """The status as a text for the terminal."""
    statuses = grid_status(store, cells)
    by_state: dict[State, list[CellStatus]] = {
        "done": [], "running": [], "failed": [], "missing": [],
    }  # fmt: skip
    for status in statuses:
        by_state[status.state].append(status)
    counts = ", ".join(f"{len(found)} {state}" for state, found in by_state.items())
    left = seconds_left(statuses)
    lines = [
        f"{store.folder}: {len(cells)} cells: {counts}"
        + (f"; about {duration(left)} left" if left else "")
    ]
    lines += [
        f"running  {s.cell.label}: {_progress(s.heartbeat)}"
        for s in by_state["running"]
        if s.heartbeat
    ]
    for status in by_state["failed"]:
        log = store.log_path(status.cell.key)
        lines.append(f"failed   {status.cell.label}: {status.failure} (log: {log})")
    for status in by_state["missing"]:
        if status.saved:
            wanted = status.cell.train.updates
            lines.append(
                f"stopped  {status.cell.label}: goes on after update {status.saved} of {wanted}"
            )
    lines += [f"left out {env}: {why}" for env, why in read_left_out(store.folder).items()]
    return "\n".join(lines)


def seconds_left(statuses: Sequence[CellStatus]) -> float | None:
    """Until the grid is done, if the cells now running are like the rest; None where none is."""
    speed, left = 0.0, 0
    for status in statuses:
        done = status.saved or 0
        if status.heartbeat and status.state == "running":
            heartbeat, done = status.heartbeat, status.heartbeat.updates
            if heartbeat.updates > heartbeat.first and heartbeat.seen > heartbeat.since:
                speed += (heartbeat.updates - heartbeat.first) / (heartbeat.seen - heartbeat.since)
        if status.state in ("running", "missing"):
            left += status.cell.train.updates - done
    return left / speed if speed else None


def _progress(beat: Heartbeat) -> str:
    since = time.strftime("%H:%M:%S", time.localtime(beat.since))
    text = f"update {beat.updates} of {beat.wanted} on {beat.host} {beat.device} since {since}"
    left, silent = beat.seconds_left(), time.time() - beat.seen
    if beat.updates == beat.wanted:
        text += ", measured still"
    elif left is not None:
        text += f", about {duration(left)} left"
    if silent > SILENT_SECONDS:
        text += f", silent for {duration(silent)}"
    return text


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours, for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
