"""``benchbench data rate``: what the pictures of a suite leave an encoder to learn."""

from __future__ import annotations

import torch

from benchbench.cli.data_list import fetch
from benchbench.core.text import NONE, number, plain_table
from benchbench.data.store import is_here, open_dataset, prepare
from benchbench.diagnostics.reference_encoder import Rating, oracle_identity, rate
from benchbench.launch.plan import no_room
from benchbench.launch.progress import DataProgress
from benchbench.suite.grid import Cell, expand
from benchbench.suite.model import Suite

HEADER = ("environment", "distractions", "untrained", "trained on the state", "room", "")


def rating_text(suite: Suite) -> str:
    """A line for each environment, and what is wrong with those that leave no room."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows, told = [], []
    kinds = {str(oracle_identity(cell)): cell for cell in expand(suite)}
    for cell in kinds.values():
        if not is_here(cell.data):
            fetch(cell.data)
            prepare(cell.data, DataProgress(f"data {cell.env}"))
        rating = rate(cell, open_dataset(cell.data), device)
        warning = no_room(cell, rating, suite.deltas.r2) if rating else None
        told += [warning] if warning else []
        rows.append([cell.env, _distractions(cell), *_numbers(rating, bool(warning))])
    return "\n".join([plain_table(HEADER, rows), *told])


def _distractions(cell: Cell) -> str:
    parts = cell.pixels.distract.identity() if cell.pixels.distract else {}
    named = [f"{name} {part['strength']:g}" for name, part in parts.items() if name != "seed"]
    return ", ".join(named) or NONE


def _numbers(rating: Rating | None, warned: bool) -> list[str]:
    if rating is None:
        return [NONE, NONE, NONE, "cannot be rated: no pixels, no state, or too few episodes"]
    three = (rating.untrained, rating.trained, rating.room)
    found = [NONE if value is None else number(value, "R²") for value in three]
    return [*found, "no room" if warned else ""]
