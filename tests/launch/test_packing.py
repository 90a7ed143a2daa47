"""The scheduler at work in a real grid: cells that run out of memory, a device that is lost."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from helpers import faulty
from helpers.suites import TINY

from benchbench.cell.devices import Device
from benchbench.launch.executor import DEFAULTS
from benchbench.launch.local import Local
from benchbench.launch.resources import Slots, kind_of, known_from
from benchbench.launch.run import run_suite
from benchbench.launch.scheduler import SLACK
from benchbench.launch.stacks import make_scheduler, units_of
from benchbench.results.store import Store
from benchbench.results.tables import read_results
from benchbench.suite.grid import Grid, expand
from benchbench.suite.model import Suite

TOLD = copy.deepcopy(TINY) | {"variants": ["after", "frozen"]}
TOLD["train"] |= {"updates": 100}
TOLD["evaluate"] |= {"every": 100}
SUITE = Suite.model_validate(TOLD)
CELLS = expand(SUITE)
AFTER, FROZEN = CELLS
ONCE = replace(DEFAULTS, retries=0, checkpoint_every=0.0)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tiny_data")]


def lack_gpu_memory():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@dataclass(frozen=True)
class Losable(Device):
    """A pretended device, lost once a file is there."""

    mark: Path | None = None

    def is_lost(self):
        return self.mark.exists()


@dataclass(frozen=True)
class Lose:
    """Makes the device lost, and the cell with it."""

    mark: Path

    def __call__(self):
        self.mark.touch()
        raise RuntimeError("CUDA error: unspecified launch failure")


def test_a_cell_out_of_memory_runs_again_alone_and_its_log_says_so(tmp_path):
    """It is not a try: none is allowed here."""
    store, fault = Store(tmp_path, "tiny"), faulty.Faulty(lack_gpu_memory, tmp_path / "m", at=5)
    assert run_suite(Grid.of(SUITE), store, Local(Slots((Device("cpu"),), 2, 1), fault), ONCE) == []
    log = store.log_path(AFTER.key).read_text()
    assert "--- out of memory on cpu beside 1 others; again beside 0 at most" in log
    assert log.count(" process ") == 2
    assert list(read_results(store.folder).cells["status"]) == ["done", "done"]

    known = known_from(store, "cpu")  # what the next run packs by
    kinds = [kind_of(cell.settings()) for cell in CELLS]
    assert set(known.peaks) == set(known.seconds) == set(kinds)
    other_seed = replace(AFTER, seed=7)
    scheduler = make_scheduler(units_of([other_seed], 1), known, Slots((Device("cpu"),), 2, 1))
    kind = kind_of(other_seed.settings())
    assert scheduler.memory.need_mb(kind, 0, 0) == SLACK * known.peaks[kinds[0]]


def test_a_lost_devices_cells_go_on_elsewhere(tmp_path):
    store, mark = Store(tmp_path, "tiny"), tmp_path / "lost"
    first = Losable("cpu", 0, mark=mark)
    second = Losable("cpu", 1, mark=tmp_path / "never")
    fault = faulty.Faulty(Lose(mark), tmp_path / "m", at=50)
    slots = Slots((first, second), 2, 1, per_device=1)
    assert run_suite(Grid.of(SUITE), store, Local(slots, fault), ONCE) == []
    log = store.log_path(AFTER.key).read_text()
    assert "on cpu:0" in log
    assert "on cpu:1" in log
    assert "going on after update" in log


def test_with_the_last_device_the_run_ends_and_names_what_it_lost(tmp_path):
    store, mark = Store(tmp_path, "tiny"), tmp_path / "lost"
    fault = faulty.Faulty(Lose(mark), tmp_path / "m", at=5)
    slots = Slots((Losable("cpu", 0, mark=mark),), 1, 1)
    ((cell, failure, _),) = run_suite(
        Grid(SUITE, tuple(CELLS), (AFTER,)), store, Local(slots, fault), ONCE
    )
    assert cell == AFTER
    assert "cpu:0 no longer answers" in str(failure)
