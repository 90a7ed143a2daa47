"""Whatever kills a run, the same command ends in what an undisturbed one ends in.

Processes are really killed, signals sent and folders made unwritable.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers.faulted import CELLS, TOLD, assert_same, resumed, run
from helpers.waiting import HANGS, family, wait_for

import benchbench
from benchbench.results.checkpoints import Unusable, read_about
from benchbench.results.lock import held
from benchbench.results.store import Store
from benchbench.results.tables import read_results
from benchbench.suite.grid import expand
from benchbench.suite.model import Suite

LONG = TOLD | {"train": TOLD["train"] | {"updates": 600}}
"""A cell tells of its progress twice a second; 60 updates are over before on a fast machine."""

WITHOUT_REPORT = """
import benchbench.cli.main as command_line
command_line.print_report = lambda folder: None  # it takes as long as the cells
command_line.main()
"""

LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
pytestmark = pytest.mark.slow


# ------------------------------------------------------------ the whole run, as people start it


class Bench:
    """benchbench in a process of its own."""

    def __init__(self, folder, data, suite=TOLD):
        self.folder, self.store = folder, Store(folder / "results", "tiny")
        self.cells = expand(Suite.model_validate(suite))
        (folder / "tiny.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
        self.env = os.environ | {
            "BENCHBENCH_DATA": str(data),
            "PYTHONPATH": str(Path(benchbench.__file__).parent.parent),
        }

    def start(self, *arguments, every="0", **options):
        command = [sys.executable, "-c", WITHOUT_REPORT, "run", "tiny.yaml", "--device", "cpu"]
        return subprocess.Popen(
            [*command, "--jobs", "2", "--checkpoint-every", every, *arguments], cwd=self.folder,
            env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, **options,
        )  # fmt: skip

    def run(self, *arguments, code=0, **options):
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=HANGS)
        assert process.returncode == code, (out, err)
        assert "Traceback" not in out + err
        return err

    def heartbeats(self, least=1, with_checkpoint=False):
        """The heartbeats of cells that run and have made ``least`` updates."""
        found = []
        for path in self.store.folder.glob("running/[!.]*"):
            heartbeat = json.loads(path.read_text())
            kept = self.store.checkpoint_path(path.stem).exists()
            if heartbeat["updates"] >= least and (kept or not with_checkpoint):
                found.append(heartbeat)
        return found

    def progress(self):
        """The updates of each cell that are safe."""
        return [self._safe(cell) for cell in self.cells]

    def _safe(self, cell):
        if self.store.is_done(cell.key):
            return cell.train.updates + 1
        try:
            return read_about(self.store.checkpoint_path(cell.key)).updates
        except Unusable:
            return 0


@pytest.fixture
def bench(tmp_path, tiny_data):
    return Bench(tmp_path, tiny_data)


@pytest.fixture
def long(tmp_path, tiny_data):
    """The grid of :data:`LONG`, to be caught at work."""
    return Bench(tmp_path, tiny_data, LONG)


@pytest.fixture(scope="module")
def long_undisturbed(tmp_path_factory, data_home):
    """The same grid, run once without faults."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        store = Store(tmp_path_factory.mktemp("undisturbed"), "tiny")
        assert run(store, suite=Suite.model_validate(LONG)) == []
    return store


@LINUX
def test_sigkill_to_a_worker(long, long_undisturbed):
    bench, undisturbed = long, long_undisturbed
    process = bench.start()
    heartbeat = wait_for(lambda: bench.heartbeats(with_checkpoint=True))[0]
    os.kill(heartbeat["pid"], signal.SIGKILL)
    _, err = process.communicate(timeout=HANGS)
    assert process.returncode == 0, err
    assert "killed: its process was ended by SIGKILL" in err
    assert_same(bench.store, undisturbed)
    assert sum(len(resumed(bench.store, cell)) for cell in bench.cells) == 1


@LINUX
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_parent_ends_all_and_the_same_command_goes_on(long, long_undisturbed, how):
    """Without a cadence: what SIGINT and SIGTERM leave is the checkpoint of the stop itself."""
    bench, undisturbed = long, long_undisturbed
    process = bench.start(every="0" if how == signal.SIGKILL else "3600")
    wait_for(bench.heartbeats if how != signal.SIGKILL else lambda: max(bench.progress()) > 0)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does on Ctrl-C: to all of the group
    else:
        process.send_signal(how)
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == (-9 if how == signal.SIGKILL else 128 + how), (out, err)
    assert "Traceback" not in out + err
    wait_for(lambda: not family(process.pid))  # no orphans
    assert not (bench.store.folder / "failed").exists()  # stopped is not failed
    before = bench.progress()
    assert max(before) > 0
    if how != signal.SIGKILL:
        assert "Stopped. Finished cells are kept; the same command again does what is" in err
        assert len(read_results(bench.store.folder).plan) == 2  # gathered
        assert not bench.heartbeats(0)
    if how == signal.SIGTERM:
        return  # what follows is as with the others
    assert run(bench.store, suite=Suite.model_validate(LONG)) == []
    assert_same(bench.store, undisturbed)
    for cell, safe in zip(bench.cells, before, strict=True):
        if 0 < safe <= cell.train.updates:
            assert resumed(bench.store, cell) == [safe]


def test_two_parents_on_one_folder(bench, undisturbed):
    with held(bench.store):
        err = bench.run(code=2)
    holder = f"(process {os.getpid()} on {os.uname().nodename}, since 20"
    assert "another 'benchbench run' is writing there" in err
    assert holder in err
    assert run(bench.store) == []  # and when the first is gone, the second may
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
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode in (1, 2), (out, err)
    assert "Traceback" not in out + err
    assert "No space left on device" in err
    assert not any(on_disk.is_done(cell.key) for cell in CELLS)
    filler.unlink()
    assert run(on_disk) == []
    assert_same(on_disk, undisturbed)


@LINUX
def test_killed_at_random_until_it_is_done_progress_never_goes_back(bench, undisturbed):
    chance, safe, kills = random.Random(7), [0, 0], 0
    while True:
        process = bench.start()
        if kills < 4:  # of the run, its fork server and its cells: any one, or all at once
            wait_for(lambda process=process: process.poll() is not None or bench.heartbeats(0))
            time.sleep(chance.uniform(0, 1))
            victims = sorted(family(process.pid))
            for pid in chance.choice([victims, victims[:1], victims[-1:]]):
                os.kill(pid, signal.SIGKILL)
                kills += 1
        out, err = process.communicate(timeout=HANGS)
        wait_for(lambda process=process: not family(process.pid))
        before, safe = safe, bench.progress()
        assert all(new >= old for new, old in zip(safe, before, strict=True)), (before, safe)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, (out, err)
    assert kills
    assert_same(bench.store, undisturbed)
