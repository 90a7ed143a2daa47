"""``run --log``: TensorBoard reads each number once, and training knows nothing of it."""

import json
import sys

import pytest
from helpers.suites import TIMES, TINY

import benchbench
from benchbench.core.errors import UserError
from benchbench.launch.debug import Debug
from benchbench.results import live
from benchbench.results.checkpoints import About, write_checkpoint
from benchbench.results.store import Store
from benchbench.results.tables import TABLES
from benchbench.suite.grid import expand
from benchbench.suite.model import Suite

SUITE = TINY | {"variants": ["before", "after"]}
CELL = expand(Suite.model_validate(SUITE))[0]


def read(folder, tag="evaluation/score"):
    """What TensorBoard shows of each cell: pairs of a step and a value."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = {}
    for place in sorted((folder / "tensorboard").iterdir()):
        events = accumulator.EventAccumulator(str(place)).Reload()
        there = tag in events.Tags()["scalars"]
        shown[place.name] = [(e.step, e.value) for e in events.Scalars(tag)] if there else []
    return shown


def run(results, **more):
    done = benchbench.run(SUITE, results=results, executor="debug", device="cpu", **more)
    assert not done.failures
    return done.load()


@pytest.fixture(scope="module")
def plain(data_home, tmp_path_factory):
    """A run without a log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBENCH_DATA", str(data_home))
        return run(tmp_path_factory.mktemp("plain"))


def test_the_log_holds_what_the_tables_hold_and_the_tables_are_the_same(
    tmp_path, tiny_data, plain, monkeypatch
):
    pytest.importorskip("tensorboard")
    monkeypatch.setattr("benchbench.launch.worker.MESSAGE_SECONDS", 0.0)
    monkeypatch.setattr("benchbench.results.checkpoints.SHARE", float("inf"))
    seen = []
    finished = live.LiveCurves.finished

    def look_first(self, cell):
        seen.append(len(read(tmp_path / "tiny")[f"{cell.stratum} seed 0 {cell.variant}"]))
        finished(self, cell)

    monkeypatch.setattr(live.LiveCurves, "finished", look_first)
    results = run(tmp_path, log="tensorboard", checkpoint_every=0)
    assert all(count >= 3 for count in seen), "the scores are there before the cell has finished"
    for table, tag in (("evaluations", "evaluation/score"), ("training", "training/critic_loss")):
        frame, shown = getattr(results, table), read(tmp_path / "tiny", tag)
        for _, cell in results.cells.iterrows():
            mine = frame[frame["key"] == cell["key"]]
            told = list(zip(mine["update"], mine[tag.partition("/")[2]], strict=True))
            there = shown[f"{cell['env']} seed 0 {cell['variant']}"]
            assert [s for s, _ in there] == [s for s, _ in told]
            assert dict(there) == pytest.approx(dict(told), rel=1e-6)
    for name in TABLES:
        one, other = getattr(plain, name), getattr(results, name)
        times = [column for column in TIMES if column in one]
        assert one.drop(columns=times).equals(other.drop(columns=times))


def checkpoint(store, updates):
    """A checkpoint of the cell with an evaluation every five updates."""
    about = About(CELL.key, updates, 1, "cpu", "{}", None, "data", "weights")
    rows = {name: [] for name in TABLES}
    rows["evaluations"] = [
        {"key": CELL.key, "update": update, "score": 10.0 * update, "q_error": None}
        for update in range(0, updates + 1, 5)
    ]
    path = store.checkpoint_path(CELL.key)
    write_checkpoint(path, about, {"cell": json.dumps({"rows": rows})})


def test_a_cell_that_goes_on_in_another_process_goes_on_in_its_log(tmp_path):
    pytest.importorskip("tensorboard")
    store, name = Store(tmp_path, "tiny"), "maze2d-open-v0 seed 0 before"
    first = live.LiveCurves(store)
    first.updated(CELL)
    checkpoint(store, 5)
    first.updated(CELL)
    first.updated(CELL)
    assert read(store.folder)[name] == [(0, 0.0), (5, 50.0)]
    checkpoint(store, 10)  # the first process is killed before it has seen this one
    second = live.LiveCurves(store)
    second.updated(CELL)
    checkpoint(store, 15)
    second.updated(CELL)
    second.close()
    assert read(store.folder)[name] == [(0, 0.0), (5, 50.0), (10, 100.0), (15, 150.0)]


def test_a_checkpoint_that_cannot_be_read_is_no_reason_to_stop(tmp_path):
    pytest.importorskip("tensorboard")
    store = Store(tmp_path, "tiny")
    checkpoint(store, 5)
    path = store.checkpoint_path(CELL.key)
    path.write_bytes(path.read_bytes()[:-9])
    live.LiveCurves(store).updated(CELL)
    assert not (store.folder / "tensorboard").exists()


def test_a_log_that_breaks_ends_the_log_and_not_the_run(tmp_path, tiny_data, monkeypatch, capsys):
    monkeypatch.setattr(live, "need", lambda package, option: None)

    def broken(self, cell):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live.LiveCurves, "finished", broken)
    run(tmp_path, log="tensorboard")
    told = capsys.readouterr().err
    assert told.count("--log: no more is logged (OSError: [Errno 28] No space left on device)") == 1


def test_without_tensorboard_nothing_starts_and_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr(Debug, "run", lambda *_: pytest.fail("a cell ran"))
    with pytest.raises(UserError) as refused:
        run(tmp_path, log="tensorboard")
    assert refused.value.message == (
        "--log tensorboard: needs the package tensorboard; install it with: "
        "pip install 'benchbench[tensorboard]'"
    )
