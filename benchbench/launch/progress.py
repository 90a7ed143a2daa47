"""What a person sees while a grid runs."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from tqdm import tqdm

from benchbench.results.failures import Failure
from benchbench.suite.grid import Cell


class Progress:
    """A bar over all updates of the grid with an ETA, and a line for each cell that ends."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._bar = tqdm(
            total=sum(cell.train.updates for cell in cells),
            unit="update",
            smoothing=0,
            dynamic_ncols=True,
        )
        self._cells, self._ended = len(cells), 0
        self._updates: dict[str, int] = {}
        self._trained: set[str] = set()
        self._describe()
        self.failures: list[tuple[Cell, Failure, Path]] = []

    def updated(self, cell: Cell, updates: int) -> None:
        """The cell has done this many updates."""
        self._bar.update(updates - self._updates.get(cell.key, 0))
        self._updates[cell.key] = updates
        if (updates == cell.train.updates) != (cell.key in self._trained):
            self._trained ^= {cell.key}
            self._describe()

    def finished(self, cell: Cell, score: float, seconds: float) -> None:
        """The cell's results are published."""
        self._end(cell)
        text = "not scored" if math.isnan(score) else f"score {score:.1f}"
        self._say(f"done    {cell.label}: {text} in {seconds:.0f} s")

    def retrying(self, cell: Cell, failure: Failure) -> None:
        """The cell has failed and will be tried again."""
        self._say(click.style(f"again   {cell.label}: {failure}", fg="yellow"))

    def failed(self, cell: Cell, failure: Failure, log: Path) -> None:
        """The cell has failed for good."""
        self._end(cell)
        self.failures.append((cell, failure, log))
        self._say(click.style(f"FAILED  {cell.label}: {failure}", fg="red"))

    def ended_early(self, cells: Sequence[Cell], reason: str) -> None:
        """These cells will not be run to their end."""
        self._say(click.style(f"ENDED   {len(cells)} cells are left to run: {reason}", fg="red"))

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()

    def _say(self, line: str) -> None:
        if not sys.stderr.isatty():
            line = click.unstyle(line)
        self._bar.write(line, file=sys.stderr)  # standard output is the report's

    def _end(self, cell: Cell) -> None:
        self._ended += 1
        self.updated(cell, cell.train.updates)
        self._describe()

    def _describe(self) -> None:
        """Cells that have ended, and cells that only measure still, during which the bar stands."""
        measured = len(self._trained) - self._ended
        text = f", {measured} measured still" if measured else ""
        self._bar.set_description(f"{self._ended}/{self._cells} cells{text}")


class DataProgress:
    """Called with (done, total); shows a bar from the first call on, closed with the block."""

    def __init__(self, label: str, unit: str = "row") -> None:
        self._label, self._unit = label, unit
        self._bar: tqdm | None = None

    def __call__(self, done: int, total: int) -> None:
        """``done`` of the rows are made."""
        if self._bar is None:
            self._bar = tqdm(
                total=total,
                desc=self._label,
                unit=self._unit,
                unit_scale=self._unit == "B",
                dynamic_ncols=True,
            )
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> DataProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()  # an error's sentence begins on a line of its own
