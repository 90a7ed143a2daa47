"""From cells, devices and earlier results to a scheduler's tasks and places."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchbench.cell.devices import Device, cpu_count, free_ram_mb
from benchbench.core.errors import UserError
from benchbench.launch.scheduler import MARGIN, Place, Task
from benchbench.results.store import Store
from benchbench.results.tables import read_table
from benchbench.suite.grid import Cell

CUDA_CONTEXT_MB = 600.0
"""What CUDA and its libraries take of a GPU for each process, beside what torch allocates."""

CPU_CELL_MB = 768.0
"""Assumed memory of a CPU cell until one is measured."""

FRAME_WORK = 500.0
"""An evaluation step's work, in the units of :func:`work`: physics, a frame, a small batch."""

EPISODES_THAT_PAY = 50
"""A cell that plays fewer in all plays them in its own process: 50 of the shortest, those of the
open maze, take a core 1.2 s, and the start of another process takes one 0.7 s."""


@dataclass(frozen=True)
class Slots:
    """Where cells may run: devices, processes at a time, and CPU threads for each."""

    devices: tuple[Device, ...]
    jobs: int
    threads: int
    per_device: int | None = None
    """Cells at a time on a device; None: as many as its memory holds."""

    @classmethod
    def choose(
        cls, devices: Sequence[Device], jobs: int | None, cells: int, per_device: int | None = None
    ) -> Slots:
        """As many jobs as CPUs and devices allow, never more than cells; CPUs shared evenly.

        ``cells`` counts the whole grid, whatever of it is missing: the number of threads shapes the
        last bits of a result, and a grid that is stopped and continued should end in the same ones.
        """
        default = per_device * len(devices) if per_device else max(cpu_count(), len(devices))
        if devices[0].kind == "cuda" and not per_device and devices[0].free_mb is None:
            default = len(devices)  # nothing to pack by
        chosen = jobs or max(1, min(default, cells))
        return cls(tuple(devices), chosen, max(1, cpu_count() // chosen), per_device)


@dataclass(frozen=True)
class Known:
    """Measurements of earlier cells, by kind."""

    peaks: Mapping[str, float] = field(default_factory=dict)
    """Peak memory, MiB."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time."""
    seconds_per_work: float = 1.0


def kind_of(settings: Mapping[str, Any]) -> str:
    """The kind of a cell with these settings: all of them but the seed."""
    text = json.dumps({k: v for k, v in settings.items() if k != "seed"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def work(settings: Mapping[str, Any]) -> float:
    """A cell's work in units of its own: what its updates and its evaluations see."""
    train, evaluate, pixels = settings["train"], settings["evaluate"], settings["pixels"]
    size = pixels["size"] ** 2 * pixels["stack"] if settings["observation"] == "pixels" else 500
    evaluations = train["updates"] // evaluate["every"] + 1
    return float(
        train["updates"] * train["batch_size"] * size
        + evaluations * evaluate["episodes"] * FRAME_WORK * size
    )


def playing_processes(cell: Cell, threads: int) -> int:
    """How many processes play a cell's episodes: one for each of its CPUs, where that pays."""
    evaluations = cell.train.updates // cell.evaluate.every + 1
    return threads if evaluations * cell.evaluate.episodes >= EPISODES_THAT_PAY else 1


def tasks_of(cells: Sequence[Cell], known: Known) -> list[Task]:
    """The cells as the scheduler sees them."""
    tasks = []
    for cell in cells:
        settings = cell.settings()
        kind = kind_of(settings)
        guess = work(settings) * known.seconds_per_work
        tasks.append(Task(cell.key, kind, known.seconds.get(kind, guess)))
    return tasks


def place_of(device: Device, slots: Slots) -> Place:
    """The device as the scheduler sees it."""
    if slots.per_device is not None:
        return Place(str(device), slots.per_device)
    if device.kind == "cpu":
        memory = (1 - MARGIN) * free_ram_mb()
        return Place(str(device), slots.jobs, memory, assumed_mb=CPU_CELL_MB)
    if device.free_mb is None:
        return Place(str(device), -(-slots.jobs // len(slots.devices)))
    return Place(str(device), slots.jobs, (1 - MARGIN) * device.free_mb, CUDA_CONTEXT_MB)


def known_from(store: Store, device_kind: str) -> Known:
    """What the joined table of a results folder tells of cells on that kind of device."""
    try:
        rows = read_table(store.folder / "cells.parquet", "cells").to_pylist()
    except (OSError, UserError):
        return Known()
    peaks, seconds, rates = dict[str, float](), dict[str, list[float]](), []
    for row in rows:
        if row["status"] != "done" or row["device"] != device_kind:
            continue
        try:
            settings = json.loads(row["settings"])
            spent, peak = float(row["total_seconds"]), float(row["peak_memory_mb"])
            rates.append(spent / work(settings))
        except (KeyError, TypeError, ArithmeticError):
            continue  # of no cell that was run
        kind = kind_of(settings)
        peaks[kind] = max(peak, peaks.get(kind, 0.0))
        seconds.setdefault(kind, []).append(spent)
    if not rates:
        return Known()
    return Known(peaks, {kind: median(many) for kind, many in seconds.items()}, median(rates))


def published_row(store: Store, key: str) -> dict[str, Any]:
    """A published cell's own row; raises :class:`UserError` where it cannot be read."""
    table = read_table(store.cell_folder(key) / "cells.parquet", "cells")
    row: dict[str, Any] = table.to_pylist()[0]
    return row


def peak_of(store: Store, key: str) -> float | None:
    """The peak memory of a published cell, MiB; None where it cannot be read."""
    try:
        return float(published_row(store, key)["peak_memory_mb"])
    except (OSError, UserError, TypeError):
        return None
