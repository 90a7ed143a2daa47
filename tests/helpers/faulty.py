"""Cells in which something goes wrong, for real: what the fault tests hand to the runner."""

import errno
import multiprocessing
import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchbench.agent.lapo import LAPO
from benchbench.cell.train import run_cell
from benchbench.core.errors import UserError
from benchbench.results import checkpoints as checkpoints_module
from benchbench.results import store


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def stop():
    """Be told to stop, as by Slurm: leave a checkpoint and end."""
    os.kill(os.getpid(), signal.SIGTERM)


def leave():
    os._exit(3)


def hang():
    time.sleep(1000)


def complain():
    raise RuntimeError("no reason at all")


def refuse():
    raise UserError("the data are not fit for this")


def lack_memory():
    raise MemoryError


def lose_numbers():
    """From the next update on, a loss is no number."""
    critic_loss = LAPO.critic_loss

    def lost(self, features, batch, fixed):
        loss, info = critic_loss(self, features, batch, fixed)
        return loss * float("nan"), {**info, "critic_loss": torch.tensor(float("nan"))}

    LAPO.critic_loss = lost


def fill_disk():
    """From now on no file of this process may grow beyond a few bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))


def refuse_writing():
    """What a full disk answers."""
    raise OSError(errno.ENOSPC, "No space left on device")


def kill_a_worker():
    """End one of the processes that play this one's episodes."""
    multiprocessing.active_children()[0].kill()


def kill_in_publishing():
    """Die with a table half written."""
    write = store._write_parquet

    def half(path, table):
        write(path, table)
        if path.stem == "evaluations":
            path.write_bytes(path.read_bytes()[:100])
            kill()

    store._write_parquet = half


def kill_in_checkpointing():
    """Die with the next checkpoint written and not yet in its place."""
    replace = os.replace

    def never(source, target):
        if str(target).endswith(".ckpt"):
            kill()
        replace(source, target)

    os.replace = never


def kill_after_publishing():
    """Die when the results are there and nobody has been told."""
    rename = os.rename

    def renamed(source, target):
        rename(source, target)
        kill()

    os.rename = renamed


@dataclass(frozen=True)
class WithWorkers:
    """A fault, before which the processes that play the cell's episodes are noted in a file."""

    note: Path
    fault: object

    def __call__(self):
        workers = multiprocessing.active_children()
        self.note.write_text(" ".join(str(worker.pid) for worker in workers))
        self.fault()


@dataclass(frozen=True)
class Faulty:
    """Runs cells as ever, but the first ``times`` that one of ``variant`` gets to ``at`` updates
    ``fault`` happens. ``marks`` is an empty folder to remember it in."""

    fault: object
    marks: Path
    variant: str = "after"
    at: int = 25
    times: int = 1

    def __call__(self, cell, device, on_update, checkpoints, on_alive, processes):
        struck, share = [], checkpoints_module.SHARE

        def updated(updates):
            on_update(updates)
            if cell.variant == self.variant and updates >= self.at and not struck:
                struck.append(True)
                if self._strikes():
                    self.fault()

        # However slow the disk is, there is a checkpoint before ``at`` updates.
        checkpoints_module.SHARE = float("inf")
        try:
            return run_cell(cell, device, updated, checkpoints, on_alive, processes)
        finally:
            checkpoints_module.SHARE = share

    def _strikes(self):
        self.marks.mkdir(exist_ok=True)
        number = len(list(self.marks.iterdir()))
        if number < self.times:
            (self.marks / str(number)).touch()
        return number < self.times


@dataclass(frozen=True)
class KilledOnTheWay:
    """Runs cells as ever, but one of ``variant`` is killed once at each of the updates in ``at``.

    ``marks`` is an empty folder to remember in how often it was.
    """

    marks: Path
    at: tuple[int, ...]
    variant: str = "after"

    def __call__(self, cell, device, on_update, checkpoints, on_alive, processes):
        def updated(updates):
            on_update(updates)
            self.marks.mkdir(exist_ok=True)
            number = len(list(self.marks.iterdir()))
            if (
                cell.variant == self.variant
                and number < len(self.at)
                and updates >= self.at[number]
            ):
                (self.marks / str(number)).touch()
                kill()

        return run_cell(cell, device, updated, checkpoints, on_alive, processes)
