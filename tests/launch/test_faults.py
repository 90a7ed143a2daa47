"""Whatever happens to a grid, what it ends in is what an undisturbed one ends in.

Every fault is a real one: processes are killed, exit, hang and raise, signals are sent, disks are
full. Where it has to strike inside a cell, the runner is handed ``faulty.Faulty`` for its
``run_cell``.
"""

import copy
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers import faulty
from helpers.suites import TIMES, TINY

import benchbench
from benchbench.cell.devices import Device
from benchbench.core.errors import UserError
from benchbench.launch.executor import RunOptions
from benchbench.launch.local import Local
from benchbench.launch.resources import Slots
from benchbench.launch.run import run_suite
from benchbench.results.checkpoints import Unusable, read_about
from benchbench.results.lock import held
from benchbench.results.store import Store
from benchbench.results.tables import TABLES, read_results
from benchbench.suite.grid import Grid, expand
from benchbench.suite.model import Suite

TOLD = copy.deepcopy(TINY) | {"variants": ["after", "frozen"]}
TOLD["train"] |= {"updates": 60}
TOLD["evaluate"] |= {"every": 40}
TOLD["diagnose"] |= {"signals_every": 12}
SUITE = Suite.model_validate(TOLD)
CELLS = expand(SUITE)
AFTER, FROZEN = CELLS
PATIENT = RunOptions(checkpoint_every=0.0)
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

pytestmark = pytest.mark.slow


def run(store, fault=None, options=PATIENT):
    """Run the grid in this process; returns the failures."""
    slots = Slots((Device("cpu"),), jobs=2, threads=1)
    return run_suite(Grid.of(SUITE), store, Local(slots, fault), options)


def tables(store):
    results = read_results(store.folder)
    frames = {name: getattr(results, name) for name in TABLES}
    return {n: f.drop(columns=[c for c in TIMES if c in f]) for n, f in frames.items()}


def assert_same(store, undisturbed):
    mine, theirs = tables(store), tables(undisturbed)
    for name in TABLES:
        pd.testing.assert_frame_equal(mine[name], theirs[name], check_exact=True)


def log_of(store, cell=AFTER):
    return store.log_path(cell.key).read_text()


def resumed(store, cell=AFTER):
    """The updates after which a cell went on, each time it did."""
    return [int(n) for n in re.findall(r"going on after update (\d+)", log_of(store, cell))]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_home):
    """The grid, run once in peace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        store = Store(tmp_path_factory.mktemp("undisturbed"), "tiny")
        assert run(store) == []
    return store


@pytest.fixture
def store(tmp_path, tiny_data):
    return Store(tmp_path / "results", "tiny")


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


# ------------------------------------------------------------ the whole run, as people start it


class Bench:
    """benchbench in a process of its own."""

    def __init__(self, folder, data, **changes):
        self.folder, self.store = folder, Store(folder / "results", "tiny")
        (folder / "tiny.yaml").write_text(yaml.safe_dump(TOLD | changes, sort_keys=False))
        self.env = os.environ | {
            "BENCHBENCH_DATA": str(data),
            "PYTHONPATH": str(Path(benchbench.__file__).parent.parent),
        }

    def start(self, *arguments, every="0", **options):
        command = [sys.executable, "-m", "benchbench", "run", "tiny.yaml", "--device", "cpu"]
        return subprocess.Popen(
            [*command, "--jobs", "2", "--checkpoint-every", every, *arguments], cwd=self.folder,
            env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, **options,
        )  # fmt: skip

    def run(self, *arguments, code=0, **options):
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, (out, err)
        assert "Traceback" not in out + err
        return err

    def heartbeats(self, least=1):
        """The heartbeats of cells that have made so many updates and are running."""
        found = []
        for path in self.store.folder.glob("running/[!.]*"):
            heartbeat = json.loads(path.read_text())
            if heartbeat["updates"] >= least:
                found.append(heartbeat)
        return found

    def progress(self):
        """The updates of each cell that are safe."""
        return [self._safe(cell) for cell in CELLS]

    def _safe(self, cell):
        if self.store.is_done(cell.key):
            return cell.train.updates + 1
        try:
            return read_about(self.store.checkpoint_path(cell.key)).updates
        except Unusable:
            return 0


def family(session):
    """The living processes of a session."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of) == session and state != "Z":
            found.add(int(stat.parent.name))
    return found


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


@pytest.fixture
def bench(tmp_path, data_home):
    return Bench(tmp_path, data_home)


@LINUX
def test_sigkill_to_a_worker(bench, undisturbed):
    process = bench.start()
    heartbeat = wait_for(bench.heartbeats)[0]
    os.kill(heartbeat["pid"], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "killed: its process was ended by SIGKILL" in err
    assert_same(bench.store, undisturbed)
    assert sum(len(resumed(bench.store, cell)) for cell in CELLS) == 1


@LINUX
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_parent_ends_all_and_the_same_command_goes_on(bench, undisturbed, how):
    """Without a cadence: what SIGINT and SIGTERM leave is the checkpoint of the stop itself."""
    process = bench.start(every="0" if how == signal.SIGKILL else "3600")
    wait_for(bench.heartbeats if how != signal.SIGKILL else lambda: max(bench.progress()) > 0)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does on Ctrl-C: to all of the group
    else:
        process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert process.returncode == (-9 if how == signal.SIGKILL else 128 + how), (out, err)
    assert "Traceback" not in out + err
    wait_for(lambda: not family(process.pid), seconds=10)  # no orphans
    assert not (bench.store.folder / "failed").exists()  # stopped is not failed
    before = bench.progress()
    assert max(before) > 0
    if how != signal.SIGKILL:
        assert len(read_results(bench.store.folder).plan) == 2  # gathered
        assert not bench.heartbeats(0)
    if how == signal.SIGTERM:
        return  # what follows is as with the others
    bench.run()
    assert_same(bench.store, undisturbed)
    for cell, safe in zip(CELLS, before, strict=True):
        if 0 < safe <= cell.train.updates:
            assert resumed(bench.store, cell) == [safe]


def test_two_parents_on_one_folder(bench, undisturbed):
    with held(bench.store):
        err = bench.run(code=2)
    holder = f"(process {os.getpid()} on {os.uname().nodename}, since 20"
    assert "another 'benchbench run' is writing there" in err
    assert holder in err
    bench.run()  # and when the first is gone, the second may
    assert_same(bench.store, undisturbed)


@pytest.mark.parametrize("how", ["a file in the way", "a file system that is read only"])
def test_a_results_folder_that_cannot_be_written(bench, how):
    if how == "a file in the way":
        results = "results"
        bench.store.folder.parent.mkdir()
        bench.store.folder.touch()
    else:
        results = "/proc/results"  # nobody may write here, root neither
    err = bench.run("--results", results, code=2)
    assert f"{results}/tiny: cannot be written" in err
    assert err.count("\n") == 1


def test_a_disk_that_is_full_and_then_is_not(bench, undisturbed, small_disk):
    """Full before anything is written, and full when the first cell is to be published."""
    filler, results = small_disk / "filler", ("--results", str(small_disk))
    on_disk = Store(small_disk, "tiny")
    with filler.open("wb") as file:
        file.write(bytes(2**23 - 4096 * 8))
    process = bench.start(*results)
    out, err = process.communicate(timeout=120)
    assert process.returncode in (1, 2), (out, err)
    assert "Traceback" not in out + err
    assert "No space left on device" in err
    assert not any(on_disk.is_done(cell.key) for cell in CELLS)
    filler.unlink()
    bench.run(*results)
    assert_same(on_disk, undisturbed)


@LINUX
def test_killed_at_random_until_it_is_done_progress_never_goes_back(bench, undisturbed):
    chance, safe, kills = random.Random(7), [0, 0], 0
    while True:
        process = bench.start()
        if kills < 6:  # of the run, its fork server and its cells: any one, or all at once
            wait_for(lambda process=process: process.poll() is not None or bench.heartbeats(0))
            time.sleep(chance.uniform(0, 1))
            victims = sorted(family(process.pid))
            for pid in chance.choice([victims, victims[:1], victims[-1:]]):
                os.kill(pid, signal.SIGKILL)
                kills += 1
        out, err = process.communicate(timeout=60)
        wait_for(lambda process=process: not family(process.pid), seconds=10)
        before, safe = safe, bench.progress()
        assert all(new >= old for new, old in zip(safe, before, strict=True)), (before, safe)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, (out, err)
    assert kills
    assert_same(bench.store, undisturbed)
