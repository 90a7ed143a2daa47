"""Mid-cell checkpoints: what is resumed ends in the same bytes; what cannot be used is said."""

import json
import random
from itertools import pairwise

import pandas as pd
import pytest
import torch
from helpers.suites import TIMES, tiny_cell

from benchbench.cell.devices import Device
from benchbench.cell.train import run_cell
from benchbench.results import checkpoints as checkpoints_module
from benchbench.results.checkpoints import (
    About,
    Checkpoints,
    Stopped,
    Unusable,
    read_about,
    read_checkpoint,
    write_checkpoint,
)
from benchbench.results.tables import TABLES, to_table

pytestmark = pytest.mark.usefixtures("tiny_data")

ALWAYS, NEVER = 0.0, float("inf")
ABOUT = About("0123456789abcdef", 7, 1, "cpu", "{}", None, "data", "weights")
STATE = {"weights": torch.arange(6.0).reshape(2, 3), "grads": [None], "state": "{}"}


LONGER = {
    "train": {"updates": 70},
    "evaluate": {"every": 33},
    "diagnose": {"signals_every": 7, "q_pairs": 4, "q_horizon": 5},
}


def cell(variant="after", **changes):
    parts = LONGER | {
        part: LONGER[part] | values if part in LONGER else values
        for part, values in changes.items()
    }
    return tiny_cell(variant, **parts)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """Cells of a second would not write often if each write might take only its share."""
    monkeypatch.setattr(checkpoints_module, "SHARE", float("inf"))


class Killed(BaseException):
    """Nobody catches this: the cell ends on the spot, as a killed process would."""


def run(one, checkpoints=None, on_update=lambda done: None, on_alive=lambda: None):
    rows = run_cell(one, Device("cpu"), on_update, checkpoints, on_alive)
    tables = {name: to_table(name, rows[name]).to_pandas() for name in TABLES}
    return {n: t.drop(columns=[c for c in TIMES if c in t]) for n, t in tables.items()}


def run_with_kills(one, path, kills, every=ALWAYS):
    """Run a cell that is killed after each of the given numbers of signs of life."""
    ends, starts = [], []
    for allowed in [*kills, NEVER]:
        left = [allowed]
        begun = []

        def alive(updates=None, left=left, begun=begun):
            if updates is not None:
                begun.append(updates)
            left[0] -= 1
            if left[0] < 0:
                raise Killed

        try:
            tables = run(one, Checkpoints(path, every), alive, alive)
        except Killed:
            ends.append(begun[-1] if begun else 0)
            starts.append(begun[0] if begun else 0)
    return tables, starts, ends


def assert_same(one, other):
    for name in TABLES:
        pd.testing.assert_frame_equal(one[name], other[name], check_exact=True)


VARIANTS = {
    "before": {},  # a gradient is dropped: it lies in .grad between updates
    "leak-stale": {},  # one outlives its update and is stepped along in the next
    "pcgrad": {"train": {"augmentation": "random-shift", "shift_pad": 1}},
    "separate": {"pixels": {"centre": True}},
    "bpr": {},  # its encoder stands still after a part of the updates
    "after": {
        "pixels": {"distract": {"preset": "hard"}},
        "evaluate": {"every": 33, "distract": {"seed": 1}},
    },
    "frozen": {"observation": "state", "env": {"proprio": []}},
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_cell_killed_anywhere_and_resumed_ends_in_the_same_bytes(variant, tmp_path, monkeypatch):
    # Whether a variant does what it says is another test's; here its rows count as they are.
    monkeypatch.setattr("benchbench.cell.train.check_routing", lambda entries, routing: None)
    one = cell(variant, **VARIANTS[variant])
    alone = run(one)
    chance = random.Random(variant)
    kills = [chance.randrange(1, 150) for _ in range(4)]
    tables, starts, ends = run_with_kills(one, tmp_path / "x.ckpt", kills)
    assert_same(tables, alone)
    assert starts[0] <= 1  # the first began anew, and later ones where the last had ended,
    for start, end in zip(starts[1:], ends, strict=False):
        assert start >= end - 3  # but for the watched updates, which are one piece
    assert tables["cells"]["final_weights"][0] == alone["cells"]["final_weights"][0]


def test_writing_checkpoints_changes_nothing(tmp_path):
    one = cell("after")
    assert_same(run(one, Checkpoints(tmp_path / "x.ckpt", ALWAYS)), run(one))
    assert read_about(tmp_path / "x.ckpt").updates == 70


def test_a_cell_told_to_stop_leaves_a_checkpoint_at_once_even_inside_an_evaluation(tmp_path):
    one = cell("after")
    for number, evaluation in enumerate((True, False)):
        path, signs = tmp_path / f"{number}.ckpt", []
        checkpoints = Checkpoints(path, every=3600)

        def alive(updates=None, evaluation=evaluation, signs=signs, checkpoints=checkpoints):
            signs.append(updates)
            if 33 in signs and (updates is None or not evaluation):
                checkpoints.stop()

        with pytest.raises(Stopped, match="told to stop at update 33"):
            run(one, checkpoints, alive, alive)
        assert (signs[-1] is None) == evaluation
        assert signs.count(None) < 160 + 10 * evaluation  # not to the evaluation's end
        assert_same(run(one, Checkpoints(path, NEVER)), run(one))


def test_the_cadence_is_kept_and_never_takes_more_than_its_share(tmp_path, monkeypatch):
    clock, writes = [0.0], []

    def write(path, about, state):
        writes.append(clock[0])
        clock[0] += seconds

    monkeypatch.setattr(checkpoints_module, "SHARE", 0.05)
    monkeypatch.setattr(checkpoints_module, "write_checkpoint", write)
    monkeypatch.setattr(checkpoints_module.time, "monotonic", lambda: clock[0])
    for seconds, pauses in ((0.1, 60), (30, 600)):
        clock[0] = 0.0
        writes.clear()
        checkpoints = Checkpoints(tmp_path / "x.ckpt", 60)
        while clock[0] < 3000:
            if checkpoints.due():
                checkpoints.save(ABOUT, {})
            clock[0] += 1
        assert writes[0] == 60
        gaps = {round(b - a) for a, b in pairwise(writes)}
        assert max(gaps) <= pauses + seconds + 2
        assert min(gaps) >= pauses + int(seconds)


# ------------------------------------------------------------ files


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "x.ckpt"
    write_checkpoint(path, ABOUT, STATE)
    about, state = read_checkpoint(path, "cpu")
    assert about == read_about(path) == ABOUT
    assert torch.equal(state["weights"], STATE["weights"])
    assert state["grads"] == [None]
    assert [p.name for p in path.parent.iterdir()] == ["x.ckpt"]


class Harmful:
    def __reduce__(self):
        return (print, ("code from a file",))


def damaged(path, how):
    write_checkpoint(path, ABOUT, STATE if how != "code" else {"x": Harmful()})
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "flipped":
        data[-200] ^= 1
    elif how == "empty":
        data = b""
    elif how == "header":
        data = data.replace(b'"sha256"', b'"sha255"')
    elif how == "stranger":
        data = b"PK\x03\x04" + data
    elif how == "version":
        data = data.replace(b'"format": 1', b'"format": 2')
    path.write_bytes(data)


REASONS = {
    "truncated": "is damaged: its bytes are not those that were written",
    "flipped": "is damaged: its bytes are not those that were written",
    "empty": "is no checkpoint",
    "header": "is damaged: its header cannot be read",
    "stranger": "is no checkpoint",
    "version": "has checkpoint format 2, this benchbench reads 1",
}


@pytest.mark.parametrize("how", REASONS)
def test_a_checkpoint_that_cannot_be_used_is_said_and_moved_aside(tmp_path, how, caplog):
    path = tmp_path / "x.ckpt"
    for number in (1, 2):
        damaged(path, how)
        data = path.read_bytes()
        assert Checkpoints(path, NEVER).load(ABOUT, "cpu") is None
        aside = tmp_path / f"x.aside-{number}"
        said = f"{path}: {REASONS[how]}; moved to {aside.name}, starting from scratch"
        assert [record.getMessage() for record in caplog.records] == [said]
        caplog.clear()
        assert aside.read_bytes() == data  # nothing is lost
        assert not path.exists()


def test_a_checkpoint_is_data_and_never_code(tmp_path, caplog):
    damaged(tmp_path / "x.ckpt", "code")
    assert Checkpoints(tmp_path / "x.ckpt", NEVER).load(ABOUT, "cpu") is None
    assert "moved to x.aside-1" in caplog.text


@pytest.mark.parametrize(
    "field", ["key", "device", "versions", "git_commit", "data_sha256", "initial_weights"]
)
def test_a_checkpoint_of_another_cell_or_other_code_is_not_continued(tmp_path, field, caplog):
    path = tmp_path / "x.ckpt"
    write_checkpoint(path, ABOUT, STATE)
    here = About(**(ABOUT.__dict__ | {field: "other"}))
    assert Checkpoints(path, NEVER).load(here, "cpu") is None
    assert f"its {field} is {getattr(ABOUT, field)}, and is other here" in caplog.text


def test_a_damaged_checkpoint_costs_the_cell_its_start_and_nothing_else(tmp_path):
    one, path = cell("after"), tmp_path / "x.ckpt"
    run_with_kills(one, path, [])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    seen = []
    assert_same(run(one, Checkpoints(path, NEVER), seen.append), run(one))
    assert seen[0] == 1


def test_a_resumed_cell_keeps_its_number_of_threads(tmp_path):
    one, path, threads = cell("after"), tmp_path / "x.ckpt", torch.get_num_threads()
    run_with_kills(one, path, [])
    torch.set_num_threads(threads + 1)
    try:
        tables = run(one, Checkpoints(path, NEVER))
    finally:
        torch.set_num_threads(threads)
    assert tables["cells"]["threads"][0] == threads


def test_a_full_disk_is_no_reason_to_lose_the_cell(tmp_path, monkeypatch, caplog):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("benchbench.core.files.os.fsync", full)
    one = cell("frozen", train={"updates": 5})
    tables = run(one, Checkpoints(tmp_path / "x.ckpt", ALWAYS))
    assert "checkpoint at update 4 not written: [Errno 28]" in caplog.text
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("benchbench.core.files.os.fsync", lambda descriptor: None)
    assert_same(tables, run(one))


def test_the_time_of_all_attempts_is_counted_and_that_between_them_is_not(tmp_path):
    path = tmp_path / "x.ckpt"
    checkpoints = Checkpoints(path, 3600)
    with pytest.raises(Stopped):
        run_cell(cell("after"), Device("cpu"), lambda done: done == 50 and checkpoints.stop(),
                 checkpoints)  # fmt: skip
    state = json.loads(read_checkpoint(path, "cpu")[1]["cell"])
    rows = run_cell(cell("after"), Device("cpu"), lambda done: None, Checkpoints(path, NEVER))
    (row,) = rows["cells"]
    assert row["total_seconds"] > state["total"] > 0
    assert row["train_seconds"] > state["seconds"]["train"] > 0
    assert row["started_at"] == state["started_at"][:19] + "+00:00"


def test_an_unreadable_checkpoint_is_named(tmp_path):
    with pytest.raises(Unusable, match="cannot be read"):
        read_about(tmp_path / "none.ckpt")
