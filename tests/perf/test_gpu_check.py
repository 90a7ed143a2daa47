"""The script for a machine with a GPU, as far as it goes without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[1] / "tools"
SCRIPT = TOOLS / "gpu_check.py"
SMALL = (
    "pixels.size=16", "agent.hidden=[16, 16]", "agent.feature_dim=8", "agent.discount=0.9",
    "train.updates=4", "train.batch_size=16", "evaluate.every=4", "evaluate.episodes=1",
    "diagnose.q_pairs=0", "diagnose.probe_frames=200", "diagnose.holdout=0.3",
    "envs.0.data.transitions=1500",
)  # fmt: skip


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import gpu_check

    return gpu_check


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_is_one_sentence_and_code_2(tmp_path):
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, SCRIPT, tmp_path / "out"], env=env, text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "No CUDA device is visible here, so there is nothing to check.\n"
    assert not (tmp_path / "out").exists()


def test_a_step_that_fails_or_hangs_is_recorded_and_the_others_still_run(tool, tmp_path):
    steps = tuple(tool.Step(*told) for told in (
        (tool.out_of_memory, 60), (tool.nightly_cell, 0.01), (tool.device, 60),
    ))  # fmt: skip
    assert not tool.check(tool.Context(tmp_path, "cpu"), steps)
    told = json.loads((tmp_path / "gpu_check.json").read_text())
    assert {name: step["passed"] for name, step in told.items()} == {
        "out_of_memory": False, "nightly_cell": False, "device": True,
    }  # fmt: skip
    assert "needs a GPU" in told["out_of_memory"]["error"]
    assert told["nightly_cell"]["error"] == "not done after 0 s"
    assert told["device"]["cpus"] >= 1
    page = (tmp_path / "gpu_check.md").read_text()
    assert "| nightly_cell | FAILED |" in page
    assert "| device | passed |" in page


def test_all_steps_fit_into_nine_minutes(tool):
    assert tool.LIMIT < 9 * 60
    assert len({step.name for step in tool.STEPS}) == len(tool.STEPS) == 9


@pytest.mark.slow
def test_pairs_an_hour_are_of_whole_cells_stacked_too(tool, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("BENCHBENCH_DATA", str(tmp_path / "data"))
    context = tool.Context(tmp_path, "cpu", SMALL)
    found = context.pairs_per_hour("stacked", 2, jobs=1, stack=2)
    assert found["pairs_per_hour"] == pytest.approx(3600 * 2 / found["seconds"])
    logs = (tmp_path / "results" / "stacked").rglob("*.log")
    assert sum("a stack of" in log.read_text() for log in logs) == 2  # one a variant
