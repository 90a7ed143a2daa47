"""Several cells of one kind in one process, their plain updates made as one program.

Each cell lives as it does alone (:class:`~benchbench.cell.train.CellRun`): its data, evaluations,
diagnostics, checkpoints and rows are its own, and the updates that the ledger watches are made
on its own agent. Only the plain updates between are made by an
:class:`~benchbench.agent.stacked.Stack`. A cell that fails leaves, and the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from benchbench.agent import AGENTS
from benchbench.agent.base import PixelAgent
from benchbench.agent.protocol import Info
from benchbench.agent.stacked import Stack
from benchbench.cell.train import CellRun
from benchbench.data.batch import Batch
from benchbench.results.store import TableRows
from benchbench.suite.grid import Cell

Begin = Callable[[CellRun | None], CellRun]
"""Begins a cell, given another one on the same data, if there is one already."""


def can_stack(cell: Cell) -> bool:
    """Whether cells like this one can be trained together: their code is benchbench's own."""
    return cell.agent.algorithm in AGENTS and not cell.own_code


class StackedRun:
    """Cells of one kind, from where their checkpoints left them to their ends.

    All cells have the same settings but for the seed; see :func:`can_stack`. Those that are behind,
    by an earlier checkpoint, catch up alone. ``ended`` is told the place in ``begin`` of each cell
    that has come to its end, with its rows or with what ended it. :meth:`to_the_end` raises what no
    single cell is to blame for, such as too little memory for all of them.
    """

    def __init__(
        self, begin: Sequence[Begin], ended: Callable[[int, TableRows | Exception], None]
    ) -> None:
        self._begin, self._ended = begin, ended
        self._runs: dict[int, CellRun] = {}
        self._steps: dict[int, Generator[Batch, Info, None]] = {}
        self._batches: dict[int, Batch] = {}
        """The batches that the unfinished cells wait to be updated on."""
        self._stack: Stack | None = None
        self._joined = False

    def to_the_end(self) -> None:
        """Run all cells."""
        for place, begin in enumerate(self._begin):
            with self._others_wait(place), self._blamed(place):
                run = begin(next(iter(self._runs.values()), None))
                run.apart = self._apart
                self._runs[place], self._steps[place] = run, run.steps()
        for place in list(self._runs):
            self._go_on(place, None)
        while self._batches:
            least = min(self._runs[place].state.updates for place in self._batches)
            behind = [p for p in self._batches if self._runs[p].state.updates == least]
            if len(behind) > 1 and len(behind) == len(self._batches):
                self._together(behind)
            else:
                for place in behind:
                    self._alone(place)

    def _alone(self, place: int) -> None:
        run = self._runs[place]
        with self._others_wait(place):
            self._apart()
            with run.clock.running("train"):
                info = run.agent.update(self._batches[place])
        self._go_on(place, info)

    def _together(self, places: list[int]) -> None:
        runs = [self._runs[place] for place in places]
        start = time.perf_counter()
        agents = [cast(PixelAgent, run.agent) for run in runs]
        if self._stack is None or self._stack.agents != agents:
            self._apart()
            self._stack = Stack(agents)
        elif not self._joined:
            self._stack.join()
        self._joined = True
        infos = self._stack.update([self._batches[place] for place in places])
        spent = time.perf_counter() - start
        for place, run, info in zip(places, runs, infos, strict=True):
            run.clock.share("train", spent, len(runs))
            self._go_on(place, info)

    def _apart(self) -> None:
        """The agents are about to be looked at or updated one by one."""
        if self._stack is not None and self._joined:
            self._stack.separate()
            self._joined = False

    def _go_on(self, place: int, info: Info | None) -> None:
        """Take a cell to its next plain update, or to its end."""
        self._batches.pop(place, None)
        with self._others_wait(place), self._blamed(place):
            steps = self._steps[place]
            try:
                self._batches[place] = next(steps) if info is None else steps.send(info)
            except StopIteration:
                self._ended(place, self._runs[place].rows())

    @contextmanager
    def _blamed(self, place: int) -> Iterator[None]:
        """An error in the block ends this cell and no other."""
        try:
            yield
        except Exception as error:
            self._ended(place, error)

    @contextmanager
    def _others_wait(self, place: int) -> Iterator[None]:
        """The block's time is this cell's, and not in the others' total."""
        start = time.perf_counter()
        yield
        for other, run in self._runs.items():
            if other != place:
                run.clock.leave_out(time.perf_counter() - start)
