"""The stage ``run`` of a small grid's life on an executor, with faults in the parent or in a cell.

The parent is a copy of this process, as for the other stages. A cell's process is one of the
executor's own; the fault is put into it by the function that runs the cell, so from its first
update to its published results. What was started is not stopped before the command runs again,
as after a kill; Slurm is submitit's stand-in, whose jobs nobody cancels either.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from unittest import mock

from helpers.crash import Faults, Outcome
from helpers.grid_life import RUN, Life, Stage
from helpers.ray_cluster import ROOT, Nodes

EVERY = ("--checkpoint-every", "0")
CALLS = {
    "debug": RUN,
    "local": ("run", "tiny.yaml", "--executor", "local", "--device", "cpu", *EVERY),
    "slurm": ("run", "tiny.yaml", "--executor", "slurm", *EVERY),
    "ray": ("run", "tiny.yaml", "--executor", "ray", "--device", "cpu", *EVERY),
    "ray apart": ("run", "tiny.yaml", "--executor", "ray", "--device", "cpu", *EVERY),
}
"""By executor; the nodes of 'ray apart' do not see the results folder."""


@dataclass
class CellFaults(Faults):
    """Faults of a cell's process, which tells each operation in a file and dies by a signal."""

    told: Path = field(default_factory=Path)

    def point(self, name: str, half=None) -> None:
        file = os.open(self.told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, f"{name}\n".encode())
        os.close(file)
        super().point(name, half)

    def _end(self) -> None:
        def kill(code: int) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        with mock.patch("os._exit", kill):
            super()._end()


@dataclass(frozen=True)
class FaultyCell:
    """Runs a cell under faults, the first time while the file ``armed`` is there."""

    faults: CellFaults
    armed: Path

    def __call__(self, *arguments):
        from benchbench.cell.train import run_cell

        try:
            self.armed.unlink()
        except FileNotFoundError:
            return run_cell(*arguments)
        self.faults.install()
        return run_cell(*arguments)


class ExecutorLife(Life):
    """A life whose runs are on an executor; ``in_cell``: faults are a cell's, not the parent's."""

    def __init__(self, folder: Path, executor: str, in_cell: bool) -> None:
        super().__init__(folder)
        self.executor, self.in_cell, self.nodes = executor, in_cell, None
        os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
        if executor.startswith("ray"):
            import ray  # noqa: F401  before the copies

            self.nodes = Nodes(folder, self.root / "data")
            self.nodes.add(num_cpus=1)
            os.environ["RAY_ADDRESS"] = self.nodes.address

    def command(self, call: tuple[str, ...], faults: Faults | None = None) -> Outcome:
        if call != RUN:
            return super().command(call, faults)
        armed, told = self.folder / "armed", self.folder / "told"
        told.unlink(missing_ok=True)
        # Without a fault the cell's operations are counted.
        mine = faults or Faults(self.root)
        cell = FaultyCell(CellFaults(**{**vars(mine), "told": told}), armed)
        if self.in_cell:
            armed.touch()
        with self._replaced(cell if self.in_cell else None):
            done = super().command(CALLS[self.executor], None if self.in_cell else faults)
        names = tuple(told.read_text().splitlines()) if told.exists() else ()
        return replace(done, names=names) if self.in_cell else done

    def _replaced(self, run_one: FaultyCell | None):
        """Executors with ``run_one``, and without what would keep a test waiting."""
        from benchbench.launch.local import Local
        from benchbench.launch.ray.executor import Ray
        from benchbench.launch.slurm import Slurm

        patches = {
            "local": ("benchbench.launch.run.Local", partial(Local, run_one=run_one)),
            "slurm": (
                "benchbench.launch.slurm.Slurm",
                partial(Slurm, kind="local", poll=0.2, run_one=run_one),
            ),
            "ray": (
                "benchbench.launch.ray.executor.Ray",
                partial(Ray, poll=0.2, run_one=run_one),
            ),
        }
        stack = contextlib.ExitStack()
        # Cells' processes would import the main module, and all that it imports.
        main = vars(sys.modules["__main__"])
        stack.enter_context(mock.patch.dict(main, __spec__=None))
        main.pop("__file__", None)
        if self.executor != "debug":
            stack.enter_context(mock.patch(*patches[self.executor.partition(" ")[0]]))
        if self.executor == "ray apart":
            stack.enter_context(mock.patch("benchbench.launch.ray.executor.TOKEN", ".unseen"))
        return stack

    def tried(self, stage: Stage, faults: Faults) -> list[str]:
        try:
            return super().tried(stage, faults)
        finally:
            self.end_left()

    def end_left(self) -> None:
        """End the jobs that a killed run has left, whose command lines name this life's folder."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
                if b"submitit" in line and bytes(self.root) in line:
                    os.kill(int(path.parent.name), signal.SIGKILL)
            except OSError:
                continue

    def end(self) -> None:
        """End what this life has started."""
        self.end_left()
        if self.nodes:
            self.nodes.end()
