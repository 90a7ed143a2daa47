"""Pairs an hour: what cells of a grid take, part by part, and how long their slots wait.

The parts of a cell come from finished cells of its kind on this machine, or from a short one that
:mod:`benchbench.perf.pairs` measures. :func:`forecast` places the cells as a run does.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median

from benchbench.cell.devices import Device
from benchbench.core.errors import UserError
from benchbench.launch.resources import kind_of
from benchbench.results.store import Store
from benchbench.results.tables import read_table
from benchbench.suite.grid import Cell

_PARTS = ("total", "train", "evaluate", "diagnose")
"""Of what a cell's row has the seconds."""


@dataclass(frozen=True)
class Parts:
    """Seconds of a cell, by what they are spent on."""

    updates: float
    evaluation: float
    diagnostics: float
    start: float
    """Its process, opening the data, building the agent, writing results."""

    @classmethod
    def combined(cls, how: Callable[[list[float]], float], several: Sequence[Parts]) -> Parts:
        """Several cells' parts as one, such as their sum or median."""
        return cls(*(how([getattr(one, f.name) for one in several]) for f in fields(cls)))

    @property
    def total(self) -> float:
        """All of them."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Events:
    """How often what costs time happens in a cell."""

    updates: int
    blocks: int
    """Stretches between two evaluations; two updates of each are watched by the ledger."""
    evaluations: int
    roll_outs: int
    """Evaluations at which the policy is also played on from states of the data."""
    signals: int

    @classmethod
    def of(cls, cell: Cell) -> Events:
        """Counted from the cell's settings."""
        updates, every = cell.train.updates, cell.evaluate.every
        blocks = math.ceil(updates / every)
        due = sum(i % cell.diagnose.q_every == 0 or i == blocks for i in range(1, blocks + 1))
        return cls(
            updates=updates,
            blocks=blocks,
            evaluations=blocks + 1,
            roll_outs=due if cell.diagnose.q_pairs else 0,
            signals=math.ceil(updates / cell.diagnose.signals_every),
        )


@dataclass(frozen=True)
class Forecast:
    """What a grid takes on this machine."""

    seconds: float
    """From the first cell's start to the last one's end."""
    parts: Parts
    """Of all cells together."""
    waiting: float
    """Seconds for which a slot has nothing to run while others still do."""
    pairs: int
    cells: int

    @property
    def pairs_per_hour(self) -> float:
        """Pairs, each with all its variants, by the hour."""
        return 3600 * self.pairs / self.seconds


def forecast(cells: Sequence[Cell], parts: Mapping[str, Parts], jobs: int) -> Forecast:
    """Place the cells in ``jobs`` slots, the longest first; ``parts`` by :func:`kind`."""
    each = [parts[kind(cell)] for cell in cells]
    ends = [0.0] * jobs
    for length in sorted((one.total for one in each), reverse=True):
        heapq.heapreplace(ends, ends[0] + length)
    seconds = max(ends)
    return Forecast(
        seconds=seconds,
        parts=Parts.combined(sum, each),
        waiting=sum(seconds - end for end in ends),
        pairs=len({(cell.stratum, cell.seed) for cell in cells}),
        cells=len(cells),
    )


def kind(cell: Cell) -> str:
    """Cells of a kind take the same time: all their settings but the seed are the same."""
    return kind_of(cell.settings())


def finished_parts(
    store: Store, kinds: Iterable[str], device: Device, threads: int, process_seconds: float
) -> dict[str, Parts]:
    """The medians of finished cells of these kinds on this device with as many threads.

    ``process_seconds`` are what a process takes before its cell's own clock starts. Empty where
    the folder has no joined table.
    """
    try:
        rows = read_table(store.folder / "cells.parquet", "cells").to_pylist()
    except (OSError, UserError):
        return {}
    wanted, name, found = set(kinds), device.name(), dict[str, list[Parts]]()
    for row in rows:
        here = (row["device_name"], row["threads"], row["status"]) == (name, threads, "done")
        known = row["settings"] and None not in [row[f"{part}_seconds"] for part in _PARTS]
        if not here or not known or (its := kind_of(json.loads(row["settings"]))) not in wanted:
            continue
        spent = [row[f"{part}_seconds"] for part in _PARTS[1:]]
        start = row["total_seconds"] - sum(spent) + process_seconds
        found.setdefault(its, []).append(Parts(spent[0], spent[1], spent[2], start))
    return {its: Parts.combined(median, many) for its, many in found.items()}
