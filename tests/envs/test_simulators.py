"""Simulators that are extras: one sentence with the command, and all else works without them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.results_factory import BRIEF, make_rows, make_suite, write_results
from helpers.suites import TINY

import benchbench
from benchbench.core.errors import UserError
from benchbench.data.store import lacking
from benchbench.envs import make_pixel_env, simulators
from benchbench.suite.dataset_identity import DataIdentity

MAZE, BODY, DMC = "bullet-maze2d-open-v0", "bullet-hopper-v0", "vd4rl:main/walker_walk/medium"
EXTRAS = ("pybullet", "pybullet_envs", "pybullet_data", "gym", "d4rl", "dm_control", "mujoco_py")


@pytest.fixture
def without(monkeypatch):
    for module in EXTRAS:
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize(
    ("env_id", "python", "told"),
    [
        (MAZE, (3, 11), "run: pip install 'benchbench[bullet]' && pip install --no-deps d4rl==1.1"),
        (BODY, (3, 13), "run: pip install 'benchbench[bullet]' && pip install --no-deps d4rl==1.1"),
        (BODY, (3, 14), "PyBullet has no wheels for Python 3.14, so install benchbench under"),
        (DMC, (3, 12), "run: pip install 'benchbench[vd4rl]'"),
        (DMC, (3, 13), "labmaze has no wheels for Python 3.13, so install benchbench under"),
    ],
)
def test_a_missing_simulator_is_one_sentence_with_the_command(without, env_id, python, told):
    sentence = simulators.lacking(env_id, python)
    assert sentence.startswith(f"{env_id} needs ")
    assert told in sentence


@pytest.mark.parametrize("env_id", [MAZE, BODY, DMC])
def test_naming_a_task_without_its_simulator_is_refused(without, env_id):
    with pytest.raises(UserError, match=f"^{env_id} needs "):
        make_pixel_env(env_id, 84)
    assert lacking(DataIdentity.of(env_id, None, 84)).startswith(f"{env_id} needs ")


def test_mujocos_tasks_need_nothing_more(without):
    for env_id in ("maze2d-open-v0", "hopper-medium-v2", "my-own-set"):
        assert simulators.lacking(env_id) is None


@pytest.fixture
def bare(tmp_path, data_home):
    """Runs ``python -m benchbench`` in processes that cannot import the extras, nor their own."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nfor module in {EXTRAS!r}:\n    sys.modules[module] = None\n",
        encoding="utf-8",
    )
    root = str(Path(benchbench.__file__).parents[1])
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(tmp_path), root)),
        "BENCHBENCH_DATA": str(data_home),
    }

    def run(*arguments):
        command = [sys.executable, "-m", "benchbench", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)

    return run


def suite(tmp_path, *envs):
    path = tmp_path / "suite.yaml"
    raw = TINY | {"envs": [*TINY["envs"], *envs], "variants": ["before", "after"]}
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_suite_runs_without_the_extras_and_leaves_out_what_may_be_left_out(bare, tmp_path):
    path = suite(tmp_path, {"id": MAZE, "when": "available"})
    done = bare("run", path, "--device", "cpu", "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert f"left out {MAZE}: {MAZE} needs PyBullet and d4rl" in done.stderr
    report = (tmp_path / "results" / "tiny" / "REPORT.md").read_text(encoding="utf-8")
    assert "maze2d-open-v0" in report


def test_a_task_that_may_not_be_left_out_stops_the_run_before_its_first_cell(bare, tmp_path):
    done = bare("run", suite(tmp_path, {"id": MAZE}), "--device", "cpu", "--jobs", 1)
    assert done.returncode == 2
    assert f"{MAZE} needs PyBullet and d4rl" in done.stderr
    assert "benchbench[bullet]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "results").rglob("cells/*"))


def test_the_doctor_says_what_is_not_installed_and_finds_nothing_wrong(bare):
    done = bare("doctor")
    assert done.returncode == 0, done.stdout
    assert f"no tasks in PyBullet: {MAZE} needs" in done.stdout
    assert "benchbench's painter drew a frame of maze2d-open-v0" in done.stdout


def test_old_results_of_missing_simulators_still_report(bare, tmp_path):
    """Results of PyBullet's tasks, on a machine without PyBullet."""
    made = make_suite(envs=(MAZE,), seeds=3)
    write_results(tmp_path / "results" / "old", made, *make_rows(made, BRIEF))
    done = bare("report", "old")
    assert done.returncode == 0, done.stderr
    assert "before" in done.stdout
