"""A running cell's state besides its agent: the part of a checkpoint that is JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from benchbench.cell.devices import Device
from benchbench.results.store import TableRows
from benchbench.results.tables import TABLES


@dataclass
class CellState:
    """How far a cell is and what it has measured; all it needs to resume but the agent's state."""

    started_at: str
    """When the cell was started first, in ISO format."""
    updates: int = 0
    scores: list[float] = field(default_factory=list)
    """One for each evaluation so far; NaN where the environment is not scored."""
    rows: TableRows = field(default_factory=lambda: {table: [] for table in TABLES})
    block_ms: list[float] = field(default_factory=list)
    """Milliseconds an update took, by block between two evaluations."""
    block_began: float = 0.0
    """Training seconds when the timing of the present block began."""
    seconds: dict[str, float] = field(default_factory=dict)
    """What the clock had booked, by what it was spent on."""
    total: float = 0.0
    """Seconds of the cell so far."""

    @classmethod
    def at_the_start(cls) -> CellState:
        """A cell that starts now."""
        return cls(started_at=datetime.now(UTC).isoformat(timespec="seconds"))

    def to_json(self) -> str:
        """The state as text; numpy's numbers become Python's."""
        return json.dumps(asdict(self), default=lambda number: number.item())

    @classmethod
    def from_json(cls, text: str) -> CellState:
        """The state that :meth:`to_json` wrote."""
        return cls(**json.loads(text))


class Clock:
    """Wall time by what it was spent on."""

    def __init__(self, device: Device) -> None:
        self._device, self._start = device, time.perf_counter()
        self.seconds = {"train": 0.0, "evaluate": 0.0, "diagnose": 0.0}

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        """Book the block's time to ``part``; what the device still had to do before is training."""
        start = time.perf_counter()
        if part != "train":
            self._device.synchronize()
            self.seconds["train"] += time.perf_counter() - start
            start = time.perf_counter()
        yield
        if part != "train":
            self._device.synchronize()
        self.seconds[part] += time.perf_counter() - start

    def go_on(self, seconds: dict[str, float], total: float) -> None:
        """Add what an earlier process had spent.

        Downtime between the two processes is not counted.
        """
        self.seconds = seconds
        self._start -= total

    def leave_out(self, seconds: float) -> None:
        """Time that passed for other cells in this process."""
        self._start += seconds

    def share(self, part: str, seconds: float, cells: int) -> None:
        """Book this cell's share of the time that ``cells`` cells took together."""
        self.seconds[part] += seconds / cells
        self.leave_out(seconds - seconds / cells)

    def total(self) -> float:
        """Seconds of the cell so far."""
        return time.perf_counter() - self._start
