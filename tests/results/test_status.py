"""What a results folder tells about a grid: status, what may go, and joining two of them."""

import json
import os
import shutil
import socket
import time
from dataclasses import asdict, replace

import pytest
import yaml
from click.testing import CliRunner
from helpers.rows import rows_of
from helpers.suites import TINY

from benchbench.cli.main import main
from benchbench.core.errors import UserError
from benchbench.core.files import write_text
from benchbench.launch.progress import DataProgress, Progress
from benchbench.results import heartbeat as heartbeats
from benchbench.results import status
from benchbench.results.checkpoints import About, write_checkpoint
from benchbench.results.failures import Failure
from benchbench.results.heartbeat import Heartbeat, HeartbeatWriter, read_heartbeat
from benchbench.results.merge import merge
from benchbench.results.status import grid_status, status_text
from benchbench.results.store import Store
from benchbench.results.tables import read_results
from benchbench.suite.grid import Grid, expand
from benchbench.suite.model import Suite

TOLD = TINY | {"seeds": 2}
SUITE = Suite.model_validate(TOLD)
CELLS = expand(SUITE)
DONE, RUNNING, FAILED, KILLED, STOPPED, MISSING = CELLS


def sign_of(cell, **changes):
    now = time.time()
    heartbeat = Heartbeat.of_this_process(cell.key, "cuda:1", cell.train.updates)
    return replace(heartbeat, since=now - 30, first=2, updates=8, seen=now, **changes)


def write_sign(store, cell, heartbeat):
    write_text(store.heartbeat_path(cell.key), json.dumps(asdict(heartbeat)))


def write_saved(store, cell, updates):
    about = About(cell.key, updates, 1, "cpu", "{}", None, "data", "weights")
    write_checkpoint(store.checkpoint_path(cell.key), about, {})


@pytest.fixture
def store(tmp_path):
    """A grid in the middle of its life, with a cell in each state."""
    store = Store(tmp_path / "results", "tiny")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TOLD, sort_keys=False))
    store.publish(DONE, rows_of(DONE))
    write_sign(store, RUNNING, sign_of(RUNNING))
    write_saved(store, RUNNING, 5)
    store.record_failure(FAILED, Failure("diverged", "critic_loss is nan at update 3"))
    write_sign(store, KILLED, sign_of(KILLED, born="another process"))
    write_saved(store, STOPPED, 7)
    store.gather(Grid.of(SUITE))
    return store


def call(store, *arguments, code=0, **options):
    done = CliRunner().invoke(
        main, [*arguments, "--results", str(store.folder.parent)], catch_exceptions=False, **options
    )
    assert done.exit_code == code, done.output
    return done.output


def test_each_cell_stands_where_it_stands(store):
    found = grid_status(store, CELLS)
    states = ["done", "running", "failed", "missing", "missing", "missing"]
    assert [one.state for one in found] == states
    assert [one.saved for one in found] == [None, None, None, None, 7, None]
    assert found[1].heartbeat.updates == 8


def test_status_says_who_runs_where_how_far_and_how_long_still(store):
    lines = status_text(store, CELLS).splitlines()
    # 5 s an update: 4 updates are left of the running cell, 12 + 5 + 12 of the missing ones.
    assert lines[0] == (
        f"{store.folder}: 6 cells: 1 done, 1 running, 1 failed, 3 missing; about 3 min left"
    )
    assert lines[1].startswith(
        f"running  {RUNNING.label}: update 8 of 12 on {socket.gethostname()} cuda:1 since "
    )
    assert lines[1].endswith("about 20 s left")
    log = store.log_path(FAILED.key)
    assert lines[2] == (
        f"failed   {FAILED.label}: diverged: critic_loss is nan at update 3 (log: {log})"
    )
    assert lines[3] == f"stopped  {STOPPED.label}: goes on after update 7 of 12"
    assert len(lines) == 4


def test_a_cell_that_is_trained_but_not_ended_is_measured_still(store, capsys):
    write_sign(store, RUNNING, replace(sign_of(RUNNING), updates=RUNNING.train.updates))
    running = status_text(store, CELLS).splitlines()[1]
    assert running.endswith(", measured still")

    progress = Progress(CELLS)
    progress.updated(RUNNING, 12)
    progress.updated(MISSING, 11)
    assert "0/6 cells, 1 measured still: " in capsys.readouterr().err
    progress.updated(RUNNING, 7)  # it failed there, and goes on from its checkpoint
    assert "0/6 cells: " in capsys.readouterr().err
    progress.updated(RUNNING, 12)
    progress.finished(RUNNING, 1.0, 2.0)
    progress.failed(FAILED, Failure("crash", "no reason"), store.log_path(FAILED.key))
    progress.close()
    told = capsys.readouterr().err
    assert "2/6 cells: " in told.splitlines()[-1]
    assert "2/6 cells, " not in told


def test_status_by_name_by_file_and_of_nothing(store, tmp_path):
    shown = call(store, "status", "tiny")
    assert shown.startswith(f"{store.folder}: 6 cells: 1 done")
    assert call(store, "status", str(tmp_path / "tiny.yaml")).startswith(shown.splitlines()[0])
    fewer = call(store, "status", str(tmp_path / "tiny.yaml"), "--set", "seeds=1")
    assert ": 3 cells: 1 done, 1 running, 1 failed, 0 missing" in fewer
    assert "holds no results; make some" in call(store, "status", "other", code=2)
    assert "--set needs the suite's file" in call(store, "status", "tiny", "--set", "a=1", code=2)


def test_watching_ends_with_the_grid(store, monkeypatch):
    seen = []

    def sleep(seconds):
        seen.append(seconds)
        for cell in CELLS[1:]:
            store.publish(cell, rows_of(cell))

    monkeypatch.setattr("benchbench.cli.maintain.time.sleep", sleep)
    shown = call(store, "status", "tiny", "--watch")
    assert seen == [2.0]
    assert "1 done" in shown
    assert "6 done, 0 running, 0 failed, 0 missing" in shown


def test_a_sign_dies_with_its_process_or_where_one_cannot_look_with_its_silence(monkeypatch):
    heartbeat = sign_of(RUNNING)
    assert heartbeat.alive
    assert not replace(heartbeat, born="1").alive  # another process has got the number
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    assert not replace(heartbeat, pid=pid).alive
    elsewhere = replace(heartbeat, host="elsewhere", pid=pid)
    assert elsewhere.alive
    assert not replace(elsewhere, seen=time.time() - heartbeats.LOST_SECONDS - 1).alive


def test_silence_of_a_running_cell_is_said(store):
    write_sign(store, RUNNING, replace(sign_of(RUNNING), seen=time.time() - 100))
    assert ", silent for 2 min" in status_text(store, CELLS)
    assert status.seconds_left([]) is None


def test_heartbeats_are_kept_fresh_but_not_too_often(tmp_path, monkeypatch, caplog):
    path, clock = tmp_path / "running" / "x.json", [0.0]
    monkeypatch.setattr(heartbeats.time, "monotonic", lambda: clock[0])
    writer = HeartbeatWriter(path, sign_of(RUNNING))
    seen = []
    for updates in range(1, 101):  # ten updates a second
        clock[0] += 0.1
        writer.tell(updates, 0)
        seen.append(read_heartbeat(path).updates)
    assert len(set(seen)) == pytest.approx(6, abs=1)
    assert all(0 <= now - told <= 21 for now, told in enumerate(seen, 1))
    writer.remove()
    assert read_heartbeat(path) is None
    shutil.rmtree(path.parent)
    path.parent.touch()  # a disk that takes nothing is no reason to fail
    clock[0] += 10
    writer.tell(101, 0)
    assert str(path) in caplog.text
    path.parent.unlink()
    writer.remove()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1}'])
def test_a_damaged_sign_is_no_sign(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    assert read_heartbeat(tmp_path / "x.json") is None


# ------------------------------------------------------------ clean


def litter(store):
    """Things that may go, by their paths in the folder, and what else must stay."""
    for cell in (DONE, FAILED):
        write_text(store.log_path(cell.key), "talk")
    write_saved(store, DONE, 12)
    old = expand(Suite.model_validate(TINY | {"seeds": [5]}))[0]
    store.publish(old, rows_of(old))
    write_text(store.log_path(old.key), "old talk")
    aside = store.checkpoint_path(FAILED.key).with_suffix(".aside-1")
    aside.write_bytes(b"damaged")
    (store.folder / "cells" / ".draft-x").mkdir()
    (store.folder / "cells" / ".draft-x" / "cells.parquet").write_bytes(bytes(2_000_000))
    (store.folder / ".draft-suite.json-x").touch()
    return {
        f"logs/{DONE.key}.log": "log of a published cell",
        f"checkpoints/{DONE.key}.ckpt": "checkpoint of a published cell",
        f"cells/{old.key}": "results of a cell that left the suite",
        f"logs/{old.key}.log": "log of a cell that left the suite",
        f"checkpoints/{aside.name}": "checkpoint that could not be used",
        f"running/{KILLED.key}.json": "heartbeat of a process that is gone",
        "cells/.draft-x": "left unfinished by a killed process",
        ".draft-suite.json-x": "left unfinished by a killed process",
    }


def everything(store):
    return {str(path.relative_to(store.folder)) for path in store.folder.rglob("*")}


def test_clean_lists_with_sizes_asks_and_removes_nothing_else(store):
    expected = litter(store)
    before = everything(store)
    shown = call(store, "clean", "tiny", input="n\n")
    lines = [line for line in shown.splitlines() if "(" in line]
    assert len(lines) == len(expected)
    for path, why in expected.items():
        assert any(line.endswith(f"{store.folder / path}  ({why})") for line in lines), path
    assert f"     2.00 MB  {store.folder}/cells/.draft-x" in shown
    assert "Remove these 8, 2.0" in shown
    assert everything(store) - {".lock", ".report.lock"} == before  # no is no
    assert "removed 8, 2.0" in call(store, "clean", "tiny", "--yes")
    after = everything(store)
    gone = {path for path in before - after if path.count("/") < 2 and path in expected}
    assert gone == set(expected)
    assert {f"logs/{FAILED.key}.log", f"failed/{FAILED.key}.json", f"cells/{DONE.key}",
            f"running/{RUNNING.key}.json", f"checkpoints/{STOPPED.key}.ckpt"} <= after  # fmt: skip
    assert "nothing to remove" in call(store, "clean", "tiny")


def test_a_renamed_folder_is_the_one_that_is_shown_and_cleaned(store):
    litter(store)
    renamed = store.folder.rename(store.folder.with_name("older"))
    store.publish(DONE, rows_of(DONE))  # another run under the suite's name
    other = everything(store)
    assert call(store, "status", "older").startswith(f"{renamed}: 6 cells: 1 done")
    assert f"{renamed}/cells/.draft-x" in call(store, "clean", "older", "--yes")
    assert not (renamed / "cells" / ".draft-x").exists()
    assert everything(store) == other


def test_clean_keeps_off_a_folder_that_a_run_holds(store):
    from benchbench.launch.run import held

    with held(store):
        shown = call(store, "clean", "tiny", "--yes", code=2)
    assert f"is writing there (process {os.getpid()} on {socket.gethostname()}, since" in shown


# ------------------------------------------------------------ merge


def machine(tmp_path, name, cells, **changes):
    store = Store(tmp_path / name, "tiny")
    for cell in cells:
        rows = rows_of(cell)
        rows["cells"][0] |= {"device_name": name, "total_seconds": float(len(name))} | changes
        store.publish(cell, rows)
    store.gather(Grid.of(SUITE))
    return store


def test_merge_joins_cells_by_key_and_equal_ones_once(tmp_path):
    one = machine(tmp_path, "one", CELLS[:3])
    other = machine(tmp_path, "other", CELLS[2:5])
    other.record_failure(CELLS[5], Failure("silent", "no heartbeat for 600 s"))
    other.record_failure(CELLS[0], Failure("killed", "done elsewhere"))
    target = Store(tmp_path / "all", "tiny")
    done = CliRunner().invoke(main, ["merge", *map(str, (target.folder, one.folder, other.folder))])
    assert done.output == f"{target.folder}: 5 new cells\n"
    cells = read_results(target.folder).cells
    assert list(cells["key"]) == [cell.key for cell in CELLS]
    assert list(cells["status"]) == ["done"] * 5 + ["failed"]
    assert list(cells["device_name"][:5]) == ["one"] * 3 + ["other"] * 2
    assert cells["error"][5] == "silent: no heartbeat for 600 s"
    assert merge(target.folder, [one.folder, other.folder]) == []  # again: nothing new
    assert not [path for path in target.folder.rglob(".draft-*")]


def test_the_same_cell_twice_must_be_equal_or_nothing_is_merged(tmp_path):
    one = machine(tmp_path, "one", CELLS[:2])
    other = machine(tmp_path, "other", CELLS[1:3], final_score=99.0)
    target = tmp_path / "all" / "tiny"
    with pytest.raises(UserError, match=r"differs from .*one.* in 'final_score' of cells.parquet"):
        merge(target, [one.folder, other.folder])
    assert not target.exists()
    before = everything(one)
    with pytest.raises(UserError, match="nothing was merged"):
        merge(one.folder, [other.folder])  # a target that has cells is held to the same
    assert everything(one) == before


def test_folders_of_different_suites_are_not_merged(tmp_path):
    one, other = machine(tmp_path, "one", CELLS[:1]), machine(tmp_path, "other", CELLS[1:2])
    changed = Suite.model_validate(TOLD | {"train": TOLD["train"] | {"updates": 13}})
    other.gather(Grid.of(changed))
    with pytest.raises(UserError, match=r"is of another suite than .*with --only for the parts"):
        merge(tmp_path / "all" / "tiny", [one.folder, other.folder])


def test_a_damaged_cell_is_not_merged(tmp_path):
    one = machine(tmp_path, "one", CELLS[:1])
    (one.cell_folder(CELLS[0].key) / "ledger.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"ledger\.parquet: cannot be read as parquet"):
        merge(tmp_path / "all" / "tiny", [one.folder])


def test_what_ends_a_bar_is_told_on_a_line_of_its_own(capsys):
    def make(progress):
        progress(1, 2)
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"), DataProgress("data") as progress:
        make(progress)
    told = capsys.readouterr().err
    assert "1/2" in told
    assert told.endswith("\n")
