"""Cells that are trained as one program: each is to be the cell that it is alone."""

import copy
from functools import partial

import numpy as np
import pandas as pd
import pytest
from helpers.suites import TIMES, TINY

from benchbench.agent.lapo import LAPO
from benchbench.agent.stacked import Stack
from benchbench.cell.devices import Device
from benchbench.cell.stack import StackedRun, can_stack
from benchbench.cell.train import CellRun, run_cell
from benchbench.envs.d4rl_reference import MAZE_STEPS
from benchbench.results.checkpoints import Checkpoints, Stopped
from benchbench.results.failures import Diverged
from benchbench.results.tables import TABLES, to_table
from benchbench.suite.grid import expand
from benchbench.suite.model import Suite

CPU = Device("cpu")
SEEDS = 3


def cells(variant="after", **changes):
    told = copy.deepcopy(TINY) | {"variants": [variant], "seeds": SEEDS}
    for part, values in changes.items():
        told[part] = told[part] | values
    return expand(Suite.model_validate(told))


def begin(cell, checkpoints, on_update, beside):
    return CellRun(cell, CPU, on_update, checkpoints, beside=beside)


def run_stacked(some, checkpoints=None, on_update=lambda place, done: None):
    """The rows of each, or what ended it."""
    ends = {}
    begins = [
        partial(begin, cell, (checkpoints or {}).get(cell.key), partial(on_update, place))
        for place, cell in enumerate(some)
    ]
    StackedRun(begins, ends.__setitem__).to_the_end()
    return [ends[place] for place in range(len(some))]


def tables(rows):
    found = {name: to_table(name, rows[name]).to_pandas() for name in TABLES}
    drop = (*TIMES, "final_weights")
    return {n: t.drop(columns=[c for c in drop if c in t]) for n, t in found.items()}


def assert_alike(one, other):
    """The same rows; what was measured up to rounding, which a few updates hardly amplify."""
    mine, theirs = tables(one), tables(other)
    for name in TABLES:
        pd.testing.assert_frame_equal(mine[name], theirs[name], rtol=1e-2, atol=1e-3)


@pytest.fixture(scope="module", autouse=True)
def short_episodes(data_home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        patch.setitem(MAZE_STEPS, "open", 10)
        yield


@pytest.fixture(scope="module")
def alone(short_episodes):
    return [run_cell(cell, CPU, lambda done: None) for cell in cells()]


@pytest.fixture
def counted(monkeypatch):
    """How many agents each update of a stack had."""
    sizes, update = [], Stack.update

    def spy(self, batches):
        sizes.append(len(batches))
        return update(self, batches)

    monkeypatch.setattr(Stack, "update", spy)
    return sizes


def test_encoders_of_a_stack_stand_still_together():
    some = cells("bpr")
    for one, cell in zip(run_stacked(some), some, strict=True):
        assert_alike(one, run_cell(cell, CPU, lambda done: None))


def test_every_cell_is_what_it_is_alone(alone, counted):
    told = []
    together = run_stacked(cells(), on_update=lambda place, done: told.append((place, done)))
    assert counted == [SEEDS] * 6  # 12 updates in blocks of 5, 5 and 2, of which two are watched
    for one, other in zip(together, alone, strict=True):
        assert_alike(one, other)
        row = one["cells"][0]
        spent = sum(row[f"{part}_seconds"] for part in ("train", "evaluate", "diagnose"))
        assert 0.3 * row["total_seconds"] < spent <= row["total_seconds"]
    for place in range(SEEDS):
        assert [done for at, done in told if at == place] == list(range(1, 13))


def test_cells_go_on_from_their_checkpoints_and_one_that_is_behind_catches_up(
    alone, counted, tmp_path
):
    two = cells()[:2]

    def checkpoints(every=float("inf")):
        return {c.key: Checkpoints(tmp_path / f"{c.key}.ckpt", every) for c in two}

    stopping = checkpoints(1e6)

    def stop(place, done):
        if done >= (4 if place == 0 else 7):
            stopping[two[place].key].stop()

    ends = run_stacked(two, stopping, stop)
    assert [type(end) for end in ends] == [Stopped] * 2
    assert counted == [2, 2]  # updates 2 and 3; then one is left, and 5 and 6 are watched
    again = run_stacked(two, checkpoints())
    assert counted[2:] == [2] * 3  # 7, 8 and 9; 10 and 11 are watched; the first made 4 alone
    for one, other in zip(again, alone[:2], strict=True):
        assert_alike(one, other)


def test_a_cell_that_diverges_leaves_and_the_others_go_on(alone, monkeypatch):
    act = LAPO.act
    hurt = []

    def broken(self, *seen):
        hurt.append(self) if not hurt else None
        return act(self, *seen) * (np.nan if self is hurt[0] else 1)

    monkeypatch.setattr(LAPO, "act", broken)
    first, *others = run_stacked(cells())
    assert isinstance(first, Diverged)
    for one, other in zip(others, alone[1:], strict=True):
        assert_alike(one, other)


def test_code_of_ones_own_is_not_stacked():
    assert can_stack(cells()[0])
    mine = cells(agent={"algorithm": "benchbench.agent.lapo:LAPO"})[0]
    assert not can_stack(mine)
