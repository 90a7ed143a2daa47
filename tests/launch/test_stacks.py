"""Stacks in a grid: how cells are grouped, placed, killed, tried again and published."""

import copy
import os
import signal
from dataclasses import dataclass, field

import pytest
from click.testing import CliRunner
from helpers.suites import TINY

from benchbench.cell.devices import Device
from benchbench.cli.main import main
from benchbench.launch.executor import DEFAULTS, NullWatcher
from benchbench.launch.local import Local
from benchbench.launch.resources import Known, Slots, kind_of
from benchbench.launch.stacks import halves, make_scheduler, tasks_of_units, units_of
from benchbench.results.heartbeat import read_heartbeat
from benchbench.results.store import Store
from benchbench.suite.grid import expand
from benchbench.suite.model import Suite

TOLD = copy.deepcopy(TINY) | {"variants": ["before", "after"], "seeds": 5}
TOLD["evaluate"] = {"every": 12, "episodes": 1}
CELLS = expand(Suite.model_validate(TOLD))
SLOTS = Slots((Device("cpu"),), 1, 1)


def names(units):
    return [[(cell.variant, cell.seed) for cell in unit.cells] for unit in units]


def test_cells_of_a_kind_are_grouped_so_that_pairs_stay_together():
    units = units_of(CELLS, 3)
    some, rest = [0, 1, 2], [3, 4]
    assert names(units) == [
        [("before", k) for k in some], [("before", k) for k in rest],
        [("after", k) for k in some], [("after", k) for k in rest],
    ]  # fmt: skip
    assert len({unit.key for unit in units}) == 4
    assert [unit.key for unit in units_of(CELLS, 1)] == [cell.key for cell in CELLS]
    assert names(halves(units[0].cells)) == [[("before", 0), ("before", 1)], [("before", 2)]]
    assert halves(CELLS[:0]) == []


def test_a_stack_is_expected_to_take_its_cells_memory_and_time():
    kind = kind_of(CELLS[0].settings())
    known = Known({kind: 100.0}, {kind: 7.0})
    (stack, rest), others = units_of(CELLS, 3)[:2], units_of(CELLS, 3)[2:]
    tasks = tasks_of_units([stack, rest, *others], known)
    assert [task.length for task in tasks[:2]] == [21.0, 14.0]
    assert len({task.kind for task in tasks}) == 4
    memory = make_scheduler([stack, rest], known, SLOTS).memory
    assert memory.need_mb(tasks[0].kind, 0, 0) == pytest.approx(3 * memory.need_mb(kind, 0, 0))


@dataclass
class Killer(NullWatcher):
    """Kills the process of the first stack once one of its cells is at work."""

    store: Store
    done: list = field(default_factory=list)
    retried: list = field(default_factory=list)
    killed: bool = False

    def updated(self, cell, updates):
        beat = read_heartbeat(self.store.heartbeat_path(cell.key))
        if beat and not self.killed:
            os.kill(beat.pid, signal.SIGKILL)
            self.killed = True

    def retrying(self, cell, failure):
        self.retried.append((cell.key, failure.kind))

    def finished(self, cell, score, seconds):
        self.done.append(cell.key)


@pytest.mark.slow
def test_a_killed_stack_runs_again_in_halves_and_every_cell_is_published(tiny_data, tmp_path):
    cells = [cell for cell in CELLS if cell.variant == "after"][:3]
    store = Store(tmp_path, "tiny")
    watcher = Killer(store)
    Local(SLOTS, stack=3).run(cells, store, watcher, DEFAULTS)
    keys = sorted(cell.key for cell in cells)
    assert sorted(watcher.retried) == [(key, "killed") for key in keys]
    assert sorted(watcher.done) == keys
    assert all(store.is_done(key) for key in keys)
    logs = [store.log_path(cell.key).read_text() for cell in cells]
    assert "a stack of" in logs[0]
    assert f"in a stack with {cells[0].label}" in logs[1]
    assert not any(store.heartbeat_path(key).exists() for key in keys)


def test_what_cannot_be_stacked_is_refused(tmp_path):
    for ask, cure in (
        (["--executor", "debug"], "is for --executor local"),
        (["--set", "agent.algorithm=benchbench.agent.lapo:LAPO"], "of your own"),
    ):
        ask = ["run", "quickstart", "--stack", "2", "--results", str(tmp_path), *ask]
        done = CliRunner().invoke(main, ask)
        assert done.exit_code == 2
        assert cure in done.output
