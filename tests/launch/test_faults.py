"""Whatever fails in a cell, its grid ends in what an undisturbed one ends in.

Every fault is a real one: processes exit, hang and raise, disks are full. Where it has to strike
inside a cell, the runner is handed ``faulty.Faulty`` for its ``run_cell``.
"""

import re
import shutil
import time

import pytest
from helpers import faulty
from helpers.faulted import (
    AFTER,
    CELLS,
    FROZEN,
    PATIENT,
    SUITE,
    assert_same,
    log_of,
    resumed,
    run,
    tables,
)

from benchbench.cell.devices import Device
from benchbench.core.errors import UserError
from benchbench.launch.executor import RunOptions
from benchbench.launch.local import Local
from benchbench.launch.resources import Slots
from benchbench.launch.run import run_suite
from benchbench.results.checkpoints import read_about
from benchbench.suite.grid import Grid

pytestmark = pytest.mark.slow


# ------------------------------------------------------------ inside a cell


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (faulty.kill, "killed: its process was ended by SIGKILL (the system kills so when"),
        (faulty.leave, "killed: its process ended with exit code 3"),
        (faulty.complain, "raised: RuntimeError: no reason at all"),
        (faulty.lack_memory, "out of memory: MemoryError"),
        (faulty.kill_in_publishing, "killed: its process was ended by SIGKILL"),
        (faulty.kill_in_checkpointing, "killed: its process was ended by SIGKILL"),
    ],
)
def test_a_cell_that_fails_goes_on_from_its_checkpoint(
    store, undisturbed, tmp_path, fault, words, capsys
):
    assert run(store, faulty.Faulty(fault, tmp_path / "marks")) == []
    assert f"again   {AFTER.label}: {words}" in capsys.readouterr().err
    assert_same(store, undisturbed)
    (update,) = resumed(store)
    assert update > 0
    assert resumed(store, FROZEN) == []  # the other cell was left alone
    for cell in CELLS:  # a published cell needs no checkpoint, no heartbeat and no failure
        for path in (store.checkpoint_path, store.heartbeat_path, store.failure_path):
            assert not path(cell.key).exists()


def test_a_hanging_cell_is_killed_for_its_silence_and_not_for_its_length(
    store, undisturbed, tmp_path, capsys
):
    started = time.monotonic()
    silence = RunOptions(checkpoint_every=0.0, silence=10)
    assert run(store, faulty.Faulty(faulty.hang, tmp_path / "marks"), silence) == []
    assert time.monotonic() - started > 10
    again = re.findall(r"again .*", capsys.readouterr().err)
    assert [re.sub(r"\d+ s$", "N s", line) for line in again] == [
        f"again   {AFTER.label}: silent: no heartbeat for N s"
    ]
    assert_same(store, undisturbed)


def test_a_cell_killed_before_it_could_say_that_it_is_done_is_done(store, undisturbed, tmp_path):
    assert run(store, faulty.Faulty(faulty.kill_after_publishing, tmp_path / "marks")) == []
    assert_same(store, undisturbed)
    assert log_of(store).count("--- ") == 1  # it was not run twice


def test_lost_numbers_fail_the_cell_at_once_by_name_and_step_and_are_not_retried(
    store, undisturbed, tmp_path
):
    fault = faulty.Faulty(faulty.lose_numbers, tmp_path / "marks", at=31)
    ((cell, failure, log),) = run(store, fault)
    assert (cell, failure.kind, failure.attempts) == (AFTER, "diverged", 1)
    assert failure.text == "Diverged: critic_loss is nan at update 31"
    assert "Traceback" in log.read_text()
    error = tables(store)["cells"].set_index("key")["error"][AFTER.key]
    assert error == "diverged: Diverged: critic_loss is nan at update 31"
    assert read_about(store.checkpoint_path(AFTER.key)).updates <= 31  # of sound numbers
    assert run(store) == []  # and when the cause is gone, it goes on
    assert_same(store, undisturbed)


def test_a_cell_that_fails_without_getting_further_is_given_up_and_kept_for_later(
    store, undisturbed, tmp_path, capsys
):
    fault = faulty.Faulty(faulty.complain, tmp_path / "marks", times=100)
    ((cell, failure, _),) = run(store, fault, RunOptions(checkpoint_every=3600, retries=1))
    assert (cell, failure.kind, failure.attempts) == (AFTER, "raised", 2)
    assert len(list((tmp_path / "marks").iterdir())) == 2
    assert "FAILED  " + AFTER.label in capsys.readouterr().err
    assert store.failure(AFTER.key) == failure
    assert store.is_done(FROZEN.key)
    assert run(store) == []
    assert_same(store, undisturbed)


def test_retries_count_only_while_a_cell_does_not_get_further(store, undisturbed, tmp_path):
    """Killed more often than it has retries, but each time further on."""

    runner = faulty.KilledOnTheWay(tmp_path / "marks", at=(10, 22, 34, 50))
    assert run(store, runner, RunOptions(checkpoint_every=0.0, retries=1)) == []
    assert len(list((tmp_path / "marks").iterdir())) == 4
    assert_same(store, undisturbed)


def test_fail_fast_ends_the_others_which_lose_nothing(store, undisturbed, tmp_path, capsys):
    fault = faulty.Faulty(faulty.complain, tmp_path / "marks", at=20, times=100)
    failures = run(store, fault, RunOptions(checkpoint_every=0.0, fail_fast=True))
    assert [cell for cell, *_ in failures] == [AFTER]
    assert "ENDED   1 cells are left to run: --fail-fast" in capsys.readouterr().err
    assert not store.is_done(FROZEN.key)
    assert store.failure(FROZEN.key) is None  # stopped is not failed
    assert run(store) == []
    assert_same(store, undisturbed)


def test_a_full_disk_fails_by_name_and_starts_no_more_cells(store, undisturbed, tmp_path, capsys):
    slots = Slots((Device("cpu"),), jobs=1, threads=1)
    fault = faulty.Faulty(faulty.fill_disk, tmp_path / "marks")
    ((cell, failure, _),) = run_suite(Grid.of(SUITE), store, Local(slots, fault), PATIENT)
    assert (cell, failure.kind) == (AFTER, "disk")
    assert "File too large" in failure.text
    err = capsys.readouterr().err
    assert "ENDED   1 cells are left to run: the disk takes no results" in err
    assert not store.is_done(AFTER.key)
    assert run(store) == []
    assert resumed(store)[0] > 0
    assert_same(store, undisturbed)


# ------------------------------------------------------------ what lies in the folder


def half_a_checkpoint(store, tmp_path):
    """A run that has failed and left a checkpoint in the middle of a cell."""
    fault = faulty.Faulty(faulty.complain, tmp_path / "marks")
    assert run(store, fault, RunOptions(checkpoint_every=0.0, retries=0))
    path = store.checkpoint_path(AFTER.key)
    assert read_about(path).updates > 0
    return path


@pytest.mark.parametrize("how", ["corrupted", "of another version"])
def test_a_checkpoint_that_cannot_be_used_is_moved_aside(store, undisturbed, tmp_path, how):
    path = half_a_checkpoint(store, tmp_path)
    data = bytearray(path.read_bytes())
    if how == "corrupted":
        data[len(data) // 2] ^= 1
    else:
        data = data.replace(b'"format": 1', b'"format": 0', 1)
    path.write_bytes(data)
    assert run(store) == []
    assert_same(store, undisturbed)
    assert path.with_suffix(".aside-1").read_bytes() == data
    assert "moved to" in log_of(store)
    assert resumed(store) == []


def test_a_truncated_table_is_refused_and_mended_as_told(store, undisturbed):
    shutil.copytree(undisturbed.folder, store.folder)
    table = store.cell_folder(AFTER.key) / "training.parquet"
    table.write_bytes(table.read_bytes()[:-50])
    with pytest.raises(UserError, match=f"training.parquet: .*move .*{AFTER.key} away and run ag"):
        run(store)
    shutil.move(store.cell_folder(AFTER.key), store.folder.parent / "away")
    joined = store.folder / "evaluations.parquet"
    joined.write_bytes(joined.read_bytes()[:-50])  # these are only copies, and made again
    assert run(store) == []
    assert_same(store, undisturbed)
