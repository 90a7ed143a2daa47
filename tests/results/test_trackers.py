"""Results in other tools: what is handed over is what the tables hold, read back by each tool."""

import json
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import pandas as pd
import pytest
from helpers.results_factory import BRIEF, make_rows, make_suite, write_results

from benchbench.core.errors import UserError
from benchbench.results import trackers
from benchbench.results.tables import read_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("trackers") / "synthetic"
    made.mkdir()
    suite = make_suite(seeds=1)
    plan, rows = make_rows(suite, BRIEF)
    rows["cells"][1]["status"] = "failed"
    write_results(made, suite, plan, rows)
    return made


def scores(folder):
    """The finished cell's scores by update."""
    results = read_results(folder)
    done = results.cells.loc[results.cells["status"] == "done", "key"]
    mine = results.evaluations[results.evaluations["key"].isin(done)]
    return dict(zip(mine["update"], mine["score"], strict=True))


def test_a_run_is_a_finished_cell_with_every_number_that_is_there(folder):
    (run,) = trackers.cell_runs(read_results(folder))
    told = {u: v["evaluation/score"] for u, v in run.curves.items() if "evaluation/score" in v}
    assert told == scores(folder)
    assert not any(pd.isna(v) for values in run.curves.values() for v in values.values())
    assert run.curves[0]["training/grad_critic"] > 0
    assert "evaluation/q_error" not in run.curves[0], "what was not measured is not handed over"
    assert run.config["variant"] == "before"
    assert run.summary["update_ms"] == 16.0


def test_a_package_that_is_not_installed_is_named_with_its_extra(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'benchbench\[wandb\]'"):
        trackers.to_wandb(folder, tmp_path)


def test_tensorboard_reads_the_scores_back(folder, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers.to_tensorboard(folder, tmp_path)
    (place,) = tmp_path.iterdir()
    events = EventAccumulator(str(place)).Reload().Scalars("evaluation/score")
    assert {e.step: e.value for e in events} == pytest.approx(scores(folder))


def test_mlflow_reads_the_scores_back(folder, tmp_path, monkeypatch):
    pytest.importorskip("sqlalchemy")
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trackers.to_mlflow(folder, tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs(
        [client.get_experiment_by_name("benchbench synthetic").experiment_id]
    )
    assert run.data.params["variant"] == "before"
    found = client.get_metric_history(run.info.run_id, "evaluation/score")
    assert {m.step: m.value for m in found} == pytest.approx(scores(folder))


def test_a_store_that_mlflow_refuses_is_a_plain_refusal(folder, tmp_path, monkeypatch):
    """As mlflow-skinny does: it has no local store."""

    class Refused(Exception):
        pass

    def client(tracking_uri):
        raise Refused("Model registry is unavailable; got unsupported URI. Supported: http. More.")

    for name, holds in (("mlflow", {}), ("mlflow.exceptions", {"MlflowException": Refused}),
                        ("mlflow.tracking", {"MlflowClient": client})):  # fmt: skip
        module = ModuleType(name)
        module.__dict__.update(holds)
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(UserError, match=r"unsupported URI.*; set MLFLOW_TRACKING_URI") as refused:
        trackers.to_mlflow(folder, tmp_path)
    assert "\n" not in refused.value.message


def test_wandb_takes_them_offline(folder, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    trackers.to_wandb(folder, tmp_path)
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"evaluation/score" in file.read_bytes()


def test_trackio_reads_the_scores_back(folder, tmp_path):
    if find_spec("trackio") is None:
        pytest.skip("trackio is not installed")
    # In a process of its own: trackio reads its folder's name as it is imported.
    code = (
        "import sys; from pathlib import Path; from benchbench.results.trackers import to_trackio; "
        "to_trackio(*map(Path, sys.argv[1:]))"
    )
    subprocess.run([sys.executable, "-c", code, folder, tmp_path], check=True, capture_output=True)
    (found,) = tmp_path.rglob("benchbench-synthetic.db")
    with sqlite3.connect(found) as db:
        rows = db.execute("select step, metrics from metrics").fetchall()
    told = {step: json.loads(text).get("evaluation/score") for step, text in rows}
    assert {k: v for k, v in told.items() if v is not None} == pytest.approx(scores(folder))
