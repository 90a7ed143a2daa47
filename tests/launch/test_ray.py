"""Cells as tasks of a Ray cluster: several nodes on this machine, one of which is killed."""

import json
import os
import re
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from helpers.elsewhere import Bench, Heard, long_suite, results
from helpers.suites import TINY
from helpers.waiting import HANGS, wait_for
from hypothesis import given
from hypothesis import strategies as st

from benchbench.cell.devices import Device
from benchbench.cli.main import main
from benchbench.core.errors import UserError
from benchbench.core.processes import Interrupted
from benchbench.core.provenance import versions
from benchbench.data.store import open_dataset
from benchbench.launch.executor import DEFAULTS
from benchbench.launch.local import Local
from benchbench.launch.ray.executor import Ray, _Watch
from benchbench.launch.ray.node import Order, carry_out
from benchbench.launch.ray.requests import Node, Shares, wants_gpu
from benchbench.launch.resources import CUDA_CONTEXT_MB, Known, Slots, kind_of
from benchbench.launch.run import run_suite
from benchbench.launch.scheduler import MARGIN, SLACK
from benchbench.results.checkpoints import Unusable, keep_checkpoint, updates_in
from benchbench.results.heartbeat import read_heartbeat
from benchbench.results.status import status_text
from benchbench.results.store import Store
from benchbench.results.tables import TABLES
from benchbench.suite.grid import Grid, expand
from benchbench.suite.model import Suite

SUITE = Suite.model_validate(TINY)
CELLS = expand(SUITE)
CPU = Node("c", "here", cpus=4, gpus=0, memory_mb=8000)
GPU = Node("g", "there", cpus=8, gpus=2, memory_mb=32_000, gpu_free_mb=(40_000.0, 30_000.0))

# ---------------------------------------------------------------------------- what cells ask for


def shares(nodes, known=Known(), cells=CELLS, **settings):  # noqa: B008  it is frozen
    on_gpu = any(node.gpus for node in nodes)
    return Shares(nodes, cells, known, on_gpu=on_gpu, **({"grid": len(cells)} | settings))


def test_a_cell_asks_for_the_part_of_the_smallest_gpu_that_its_kind_took():
    cell, other = CELLS[0], CELLS[1]
    peak = 4000.0
    asked = shares([GPU], Known(peaks={kind_of(cell.settings()): peak}))
    part = (peak * SLACK + CUDA_CONTEXT_MB) / ((1 - MARGIN) * 30_000)
    assert asked.of(cell.key).gpus == pytest.approx(part, abs=1e-4)
    assert asked.of(other.key).gpus > asked.of(cell.key).gpus  # has not told: some room more
    asked.finished(other.key, peak)
    assert asked.of(other.key) == asked.of(cell.key)


def test_until_a_cell_has_told_each_has_a_gpu_to_itself():
    asked, keys = shares([GPU]), [cell.key for cell in CELLS]
    assert asked.of(keys[0]).gpus == 1.0
    assert asked.next(keys, []) == keys[0]
    assert asked.next(keys[1:], keys[:1]) == keys[1]
    assert asked.next(keys[2:], keys[:2]) is None  # two GPUs
    asked.finished(keys[0], 3000.0)
    assert asked.next(keys[2:], keys[1:2]) == keys[2]
    assert asked.of(keys[2]).gpus < 1.0


def test_jobs_per_device_is_the_number_of_cells_on_a_gpu():
    asked = shares([GPU], per_device=3)
    assert 3 * asked.of(CELLS[0].key).gpus <= 1 < 4 * asked.of(CELLS[0].key).gpus
    keys = [cell.key for cell in CELLS]
    assert asked.next(keys[2:], keys[:2]) == keys[2]  # nothing has to be learnt


def test_a_gpu_of_unknown_memory_is_not_shared():
    asked = shares([replace(GPU, gpu_free_mb=(None, None))])
    assert asked.of(CELLS[0].key).gpus == 1.0


def test_a_cell_that_ran_out_of_memory_asks_for_more_until_it_has_all():
    key = CELLS[0].key
    asked = shares([GPU], per_device=4)
    had = []
    while asked.out_of_memory(key):
        had.append(asked.of(key).gpus)
    assert had == [0.5, 1.0]
    assert asked.of(CELLS[1].key).gpus == 0.25
    on_cpu = shares([CPU])
    before = on_cpu.of(key).memory_mb
    assert on_cpu.out_of_memory(key)
    assert on_cpu.of(key).memory_mb == 2 * before


@given(
    cpus=st.lists(st.integers(1, 64), min_size=1, max_size=4),
    jobs=st.none() | st.integers(1, 100),
    per_device=st.none() | st.integers(1, 100),
    grid=st.integers(3, 300),
    gpus=st.integers(0, 8),
    peak=st.none() | st.floats(1, 1e6),
)
def test_no_cell_asks_for_more_than_every_node_has(cpus, jobs, per_device, grid, gpus, peak):
    """Ray would wait for ever for a node that can take it."""
    nodes = [Node(str(i), "h", n, gpus, 4000, (16_000.0,) * gpus) for i, n in enumerate(cpus)]
    known = Known({} if peak is None else {kind_of(CELLS[0].settings()): peak})
    asked = shares(nodes, known, grid=grid, jobs=jobs, per_device=per_device)
    for cell in CELLS:
        assert all(asked.of(cell.key).fits(node) for node in nodes)
        assert (asked.of(cell.key).gpus > 0) == (gpus > 0)
    assert asked.threads >= 1


def test_the_device_is_chosen_by_what_the_cluster_has():
    assert wants_gpu("auto", [CPU, GPU])
    assert not wants_gpu("auto", [CPU])
    assert not wants_gpu("cpu", [GPU])
    with pytest.raises(UserError, match="the cluster has no GPU"):
        wants_gpu("cuda", [CPU])
    with pytest.raises(UserError, match="Ray chooses the devices"):
        wants_gpu("cuda:0", [GPU])


# ---------------------------------------------------------------------------- what is shipped


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_home):
    """The long suite's grid, run here and in peace."""
    suite = Suite.model_validate(long_suite(250, ("after", "frozen")))
    store = Store(tmp_path_factory.mktemp("undisturbed"), "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        assert run_suite(Grid.of(suite), store, Local(Slots((Device("cpu"),), 2, 1))) == []
    return suite, store


def tables_of(store, cell):
    return {p.name: p.read_bytes() for p in store.cell_folder(cell.key).iterdir()}


def test_tables_from_elsewhere_are_published_whole_or_not_at_all(tmp_path, undisturbed):
    suite, elsewhere = undisturbed
    (cell, another), store = expand(suite), Store(tmp_path, "tiny")
    sent = tables_of(elsewhere, cell)
    lacking = {name: content for name, content in sent.items() if name != "ledger.parquet"}
    cut = sent | {"features.parquet": sent["features.parquet"][:-20]}
    for wrong in (lacking, cut, sent | {"cells.parquet": sent["evaluations.parquet"]}):
        with pytest.raises(ValueError, match="is not whole"):
            store.adopt(cell, wrong)
    with pytest.raises(ValueError, match="of another cell"):
        store.adopt(another, sent)
    assert not list((tmp_path / "tiny" / "cells").iterdir())
    store.adopt(cell, sent)
    assert tables_of(store, cell) == sent


def test_a_checkpoint_that_is_not_whole_does_not_replace_one_that_is(tmp_path):
    path = tmp_path / "x.ckpt"
    path.write_bytes(b"what was there")
    for wrong in (b"", b"rubbish", b"benchbench checkpoint\n{}\n"):
        with pytest.raises(Unusable):
            keep_checkpoint(path, wrong)
    assert path.read_bytes() == b"what was there"


class Nowhere:
    """A mailbox that nobody reads."""

    class post:
        @staticmethod
        def remote(name, content):
            return None


def order(store, cell, **changes):
    told = Order(
        cell, store, "token", Path("/nowhere"), "0" * 64, versions(), DEFAULTS, "cpu", 1
    )  # fmt: skip
    return replace(told, **changes)


def sha256(cell):
    return open_dataset(cell.data).sha256


@pytest.fixture
def on_a_node(monkeypatch, tiny_data):
    monkeypatch.setattr("benchbench.launch.ray.node._node_id", lambda: "n")


def test_a_node_of_other_versions_refuses(tmp_path, on_a_node):
    asked = order(Store(tmp_path, "tiny"), CELLS[0], versions='{"torch": "0.1"}')
    outcome = carry_out(asked, None, Nowhere)
    assert outcome.word == "refused"
    assert '"torch": "0.1"' in outcome.why


def test_a_node_without_the_device_that_ray_counts_says_so(tmp_path, on_a_node, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cell = CELLS[0]
    asked = order(Store(tmp_path, "tiny"), cell, device="cuda", data_sha256=sha256(cell))
    failure = carry_out(asked, None, Nowhere).failure
    assert str(failure).startswith("raised: --device cuda:0: there are 0 CUDA devices here")


def test_a_node_that_sees_the_drivers_data_makes_none(tmp_path, data_home, on_a_node, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "own"))
    cell = CELLS[0]
    asked = order(Store(tmp_path, "tiny"), cell, data_folder=data_home, data_sha256="0" * 64)
    failure = carry_out(asked, None, Nowhere).failure
    assert f"{data_home}/" in failure.text  # which it has looked at
    assert not (tmp_path / "own").exists()


def test_a_node_whose_data_have_other_bytes_says_so(tmp_path, on_a_node):
    outcome = carry_out(order(Store(tmp_path, "tiny"), CELLS[0]), None, Nowhere)
    failure = outcome.failure
    assert failure.kind == "raised"
    assert "has other bytes than the data set here" in failure.text


# ---------------------------------------------------------------------------- what is refused


def refusal(tmp_path, *options):
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(TINY))
    told = CliRunner().invoke(main, ["run", str(path), "--results", str(tmp_path), *options])
    assert told.exit_code == 2, told.output
    return " ".join(told.output.split())


def test_without_ray_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'benchbench[ray]'" in refusal(tmp_path, "--executor", "ray")


def test_an_address_is_for_ray(tmp_path):
    assert "--address: is for --executor ray" in refusal(tmp_path, "--address", "auto")


RAY = pytest.mark.skipif(
    not Path("/proc/self/cwd").exists(), reason="needs Linux's /proc to end and to tell nodes apart"
)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("auto", "no Ray cluster to be used"),
        ("127.0.0.1:1", "nothing answers there (Connection refused)"),
        ("somewhere", "write it as HOST:PORT"),
    ],
)
def test_where_there_is_no_cluster_it_is_said_at_once(
    tmp_path, tiny_data, monkeypatch, address, told
):
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert told in refusal(tmp_path, "--executor", "ray", "--address", address)


# ---------------------------------------------------------------------------- real nodes


class NodeLost(threading.Thread):
    """Ends the node of a cell that has left a checkpoint, once there is one; knows then which."""

    def __init__(self, nodes, how, store, cells):
        super().__init__(daemon=True)
        self.nodes, self.how, self.store, self.cells = nodes, how, store, cells
        self.cell, self.saved, self.shown = None, 0, ""

    def run(self):
        self.cell, self.saved, pid = wait_for(self._safe, lambda: "no checkpoint")
        self.shown = status_text(self.store, self.cells)
        self.nodes.tell(self.how, str(pid))

    def _safe(self):
        for cell in self.cells:
            saved = updates_in(self.store.checkpoint_path(cell.key))
            heartbeat = read_heartbeat(self.store.heartbeat_path(cell.key))
            if saved and heartbeat and heartbeat.alive:
                return cell, saved, heartbeat.pid
        return None


@RAY
@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "shared"),
    [("kill", True), ("freeze", False)],
    ids=["killed, shared folder", "silent, no shared folder"],
)
def test_a_cell_whose_node_is_lost_goes_on_elsewhere_and_ends_in_the_same_bytes(
    tmp_path, nodes, undisturbed, how, shared, monkeypatch, capfd
):
    """``/proc/self/cwd`` leads each process to where it stands itself, the nodes elsewhere."""
    suite, straight = undisturbed
    cells = expand(suite)
    nodes.add(num_cpus=1)
    nodes.add(num_cpus=1)
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path if shared else Path("/proc/self/cwd"), "tiny")
    lost = NodeLost(nodes, how, Store(tmp_path, "tiny"), cells)
    lost.start()
    options = replace(DEFAULTS, checkpoint_every=0.2)
    assert run_suite(Grid.of(suite), store, Ray(nodes.address, 2, poll=0.2), options) == []
    said = " ".join(capfd.readouterr())
    how_lost = {"kill": r"(or its process there )?was lost", "freeze": r"was lost"}[how]
    again = rf"again   {lost.cell.label}: killed: its node \w{{8}} {how_lost}"
    assert re.search(again, said), said
    assert "raylet" not in said
    assert f"running  {lost.cell.label}: update " in lost.shown
    log = store.log_path(lost.cell.key).read_text()
    assert int(log.rpartition("going on after update ")[2].split()[0]) >= lost.saved > 0
    mine, theirs = results(store), results(straight)
    for name in TABLES:
        pd.testing.assert_frame_equal(mine[name], theirs[name], check_exact=True)
    for room in ("checkpoints", "running", "failed"):
        assert not list((store.folder / room).glob("*"))


@RAY
@pytest.mark.slow
def test_a_stopped_run_leaves_checkpoints_and_a_killed_one_no_task(
    tmp_path, data_home, nodes, monkeypatch
):
    nodes.add(num_cpus=1)
    options = ["--executor", "ray", "--address", nodes.address]
    bench = Bench(tmp_path, data_home, long_suite(100_000), {}, options)
    (cell,) = bench.cells
    monkeypatch.chdir(tmp_path)

    def stop():
        wait_for(bench.at_work, lambda: "not at work")
        os.kill(os.getpid(), signal.SIGTERM)

    stopping = threading.Thread(target=stop, daemon=True)
    stopping.start()
    unseen, where = Store(Path("/proc/self/cwd/results"), "tiny"), Ray(nodes.address, 1, poll=0.2)
    with pytest.raises(Interrupted) as stopped:  # no checkpoint fell due: the signal has made it
        run_suite(Grid(Suite.model_validate(bench.told), (cell,), (cell,)), unseen, where)
    assert stopped.value.signum == signal.SIGTERM
    saved = updates_in(bench.store.checkpoint_path(cell.key))
    assert saved > 0

    process = bench.start()  # the same folder, where the node sees it
    wait_for(lambda: bench.at_work(saved + 1), lambda: "does not go on")
    heartbeat = read_heartbeat(bench.store.heartbeat_path(cell.key))
    assert heartbeat.first == saved
    process.kill()
    process.communicate(timeout=HANGS)
    wait_for(lambda: not heartbeat.alive, lambda: "the task goes on without its driver")


@RAY
@pytest.mark.slow
def test_ray_runs_as_many_cells_on_a_gpu_as_their_parts_of_it_allow(tmp_path, nodes):
    """The GPU is pretended: Ray only counts it."""
    nodes.add(num_cpus=4, num_gpus=1)
    store = Store(tmp_path, "tiny")
    where = Ray(nodes.address, 3, "cuda", per_device=2)

    def work():
        start = time.time()
        time.sleep(1.5)
        return start, time.time()

    with where._connected():
        watch = _Watch(where, CELLS, store, Heard(), DEFAULTS)
        parts = [watch.shares.of(cell.key) for cell in CELLS]
        task = where.ray.remote(work)
        spans = where.ray.get([task.options(**part.options()).remote() for part in parts])
    assert [part.gpus for part in parts] == [0.5] * 3
    beside = [sum(a <= start < b for a, b in spans) for start, _ in spans]
    assert sorted(beside) in ([1, 1, 2], [1, 2, 2])  # never three
