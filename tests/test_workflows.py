"""The workflows: valid, safe, and their shell steps do what they say."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.gate_factory import make_night
from helpers.results_factory import make_rows, make_suite, write_results
from helpers.workflow_steps import read_workflow, run_step, shell_steps

from benchbench.cli.main import main
from benchbench.gate.snapshot import take_snapshot, write_baseline

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
NIGHTLY = FOLDER / "nightly.yml"


def test_the_workflows_fit_githubs_schema():
    """The schema is vendored in check-jsonschema, so this needs no network."""
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows",
         *map(str, WORKFLOWS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_jobs_end_and_permissions_are_stated(path):
    workflow = read_workflow(path)
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 180, name
        permissions = job.get("permissions", workflow["permissions"])
        writes = {scope for scope, access in permissions.items() if access == "write"}
        assert writes <= {"watch": {"actions"}, "tell": {"issues"}}.get(name, set())
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
            else:
                assert "${{" not in step["run"], f"{name}: {step['name']}"
                syntax = subprocess.run(["bash", "-n"], input=step["run"], text=True, check=False)
                assert syntax.returncode == 0


def test_a_bare_image_is_given_the_readmes_two_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.findall(r"^python3 -m venv .*$", readme, re.MULTILINE)
    assert len(told) == 2
    job = read_workflow(FOLDER / "ci.yml")["jobs"]["slim"]
    assert "-slim" in job["container"]
    given = [step["run"].strip() for step in job["steps"] if "README" in step.get("name", "")]
    assert given == told


@pytest.mark.parametrize(("tool", "code"), [("git", 1), ("gcc", 1), ("less", 0)])
def test_the_bare_image_is_bare(tmp_path, monkeypatch, tool, code):
    step = shell_steps(FOLDER / "ci.yml", "slim")[0]
    fake(tmp_path / "bin", tool, "exit 0")
    fake(tmp_path / "bin", "ldconfig", "echo libz.so.1")
    for real in ("bash", "grep", "env"):
        (tmp_path / "bin" / real).symlink_to(shutil.which(real))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert run_step(step, tmp_path, {}, timeout=60).returncode == code


def test_forks_skip_the_night_and_no_night_kills_another():
    workflow = read_workflow(NIGHTLY)
    assert all("!github.event.repository.fork" in job["if"] for job in workflow["jobs"].values())
    assert workflow["concurrency"]["cancel-in-progress"] is False


def fake(folder, name, script):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Runs a named step of nightly.yml in an empty folder, with fake commands before the real."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("OUTPUT", "STEP_SUMMARY"):
        monkeypatch.setenv(f"GITHUB_{name}", str(tmp_path / name))
        (tmp_path / name).touch()

    def run(job, name, **env):
        step = next(s for s in shell_steps(NIGHTLY, job) if s["name"] == name)
        return run_step(step, tmp_path, env, timeout=60)

    return run


WATCH = {"GH_REPO": "a/b", "RUN": "7", "ATTEMPT": "1", "GH_TOKEN": "-", "TRIES": "3", "PAUSE": "0"}


@pytest.mark.parametrize(
    ("status", "code", "cancelled"),
    [("queued", 1, True), ("", 1, True), ("in_progress", 0, False), ("completed", 0, False)],
)
def test_a_label_with_nobody_behind_it_fails_and_ends_the_run(
    shell, tmp_path, status, code, cancelled
):
    fake(tmp_path / "bin", "gh", f'echo "$@" >> {tmp_path}/calls; echo "{status}"')
    step = "Fail if no GPU runner takes the job within minutes"
    assert shell("watch", step, **WATCH).returncode == code
    calls = (tmp_path / "calls").read_text(encoding="utf-8")
    assert ("actions/runs/7/cancel" in calls) is cancelled
    assert ("is it up?" in (tmp_path / "STEP_SUMMARY").read_text(encoding="utf-8")) is cancelled


def test_the_watch_survives_an_api_that_stumbles(shell, tmp_path):
    log = tmp_path / "n"
    fake(tmp_path / "bin", "gh", f"echo x >> {log}; [ $(wc -l < {log}) -gt 1 ] && echo in_progress")
    step = "Fail if no GPU runner takes the job within minutes"
    assert shell("watch", step, **WATCH).returncode == 0


def test_the_watch_gives_up_long_before_a_day():
    step = shell_steps(NIGHTLY, "watch")[0]
    assert int(step["env"]["TRIES"]) * int(step["env"]["PAUSE"]) <= 30 * 60


@pytest.mark.parametrize(("script", "code"), [("echo a GPU", 0), ("exit 9", 1)])
def test_the_first_step_fails_without_a_gpu(shell, tmp_path, script, code):
    fake(tmp_path / "bin", "nvidia-smi", script)
    assert shell("gpu", "The GPU is there").returncode == code


GH = """
case "$1 $2" in
  "issue list") cat {folder}/open ;;
  *) echo "$@" >> {folder}/calls ;;
esac
"""


@pytest.mark.parametrize(
    ("issue", "result", "decision", "watch", "call"),
    [
        ("", "success", "pass", "success", ""),
        ("4", "success", "pass", "success", "issue close 4 --comment Passes again at abc"),
        ("", "failure", "regression", "success",
         "issue create --title Nightly benchmark --body regression at abc"),
        ("4", "failure", "no baseline", "success", "issue comment 4 --body no baseline at abc"),
        ("", "failure", "", "success",
         "issue create --title Nightly benchmark --body the night did not finish at abc"),
        ("", "cancelled", "", "failure",
         "issue create --title Nightly benchmark --body no GPU runner took the job at abc"),
        # The comparison passed, but a later step failed: that is no recovery.
        ("4", "failure", "pass", "success",
         "issue comment 4 --body no regression in the results, "
         "but a step of the night failed at abc"),
    ],
)  # fmt: skip
def test_the_issue_is_opened_added_to_and_closed(
    shell, tmp_path, issue, result, decision, watch, call
):
    fake(tmp_path / "bin", "gh", GH.format(folder=tmp_path))
    (tmp_path / "open").write_text(issue, encoding="utf-8")
    done = shell(
        "tell", "Open, update or close the issue", GH_TOKEN="-", GH_REPO="a/b", URL="address",
        COMMIT="abc", RESULT=result, WATCH=watch, DECISION=decision,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    calls = tmp_path / "calls"
    said = calls.read_text(encoding="utf-8").strip() if calls.exists() else ""
    assert said == (f"{call}: address" if call else "")


def test_the_issue_says_that_updates_are_slower(shell, tmp_path):
    fake(tmp_path / "bin", "gh", GH.format(folder=tmp_path))
    (tmp_path / "open").touch()
    shell(
        "tell", "Open, update or close the issue", GH_TOKEN="-", GH_REPO="a/b", URL="address",
        COMMIT="abc", RESULT="failure", WATCH="success", DECISION="pass", THROUGHPUT="regression",
    )  # fmt: skip
    said = (tmp_path / "calls").read_text(encoding="utf-8")
    assert "updates are slower than the baseline's at abc" in said


@pytest.fixture
def night(tmp_path):
    """A night's results as the run leaves them, and a benchbench to compare them with."""
    fake(tmp_path / ".venv" / "bin", "benchbench", f'exec {sys.executable} -m benchbench "$@"')
    suite = make_suite(seeds=6).model_copy(update={"name": "nightly"})
    return write_results(tmp_path / "results" / "nightly", suite, *make_rows(suite, {}))


def test_without_a_baseline_the_night_says_so_and_offers_one(shell, tmp_path, night):
    done = shell("gpu", "Compare with the baseline")
    assert done.returncode == 1
    assert (tmp_path / "OUTPUT").read_text(encoding="utf-8") == "decision=no baseline\n"
    summary = (tmp_path / "STEP_SUMMARY").read_text(encoding="utf-8")
    assert "There is no GPU baseline yet" in summary
    assert (tmp_path / "results" / "offered" / "nightly" / "cells.parquet").exists()
    assert "results/offered" in summary or "offered/" in summary


@pytest.mark.parametrize(
    ("baseline", "code", "decision"), [("same", 0, "pass"), ("other", 2, "cannot compare")]
)
def test_the_gates_exit_code_becomes_the_decision(shell, tmp_path, night, baseline, code, decision):
    stored = take_snapshot(night, "x") if baseline == "same" else make_night(
        np.random.default_rng(0), seeds=6
    )  # fmt: skip
    write_baseline(stored, tmp_path / "results" / "baselines" / "nightly")
    done = shell("gpu", "Compare with the baseline")
    assert done.returncode == code, done.stdout + done.stderr
    assert (tmp_path / "OUTPUT").read_text(encoding="utf-8") == f"decision={decision}\n"
    assert decision in (tmp_path / "STEP_SUMMARY").read_text(encoding="utf-8")


def git(folder, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_baselines_commit_is_installed_beside_this_one(shell, tmp_path):
    """The very code that the baseline was measured with, and today's versions of all else."""
    git(tmp_path, "init")
    for version in ("old", "new"):
        (tmp_path / "code").write_text(version, encoding="utf-8")
        git(tmp_path, "add", "code")
        git(tmp_path, "commit", "-m", version)
    stored = make_night(np.random.default_rng(0), git_commit=git(tmp_path, "rev-parse", "HEAD~"))
    write_baseline(stored, tmp_path / "results" / "baselines" / "nightly")
    fake(tmp_path / ".venv" / "bin", "python", f'exec {sys.executable} "$@"')
    fake(tmp_path / ".venv" / "bin", "pip", "[ $1 = freeze ] && echo torch==2.9.0")
    pip = "echo '#!/bin/sh' > $3/bin/pip; echo 'echo $@ > $RUNNER_TEMP/asked' >> $3/bin/pip"
    fake(tmp_path / "bin", "python3", f"mkdir -p $3/bin; {pip}; chmod +x $3/bin/pip")
    for _ in range(2):  # a runner of one's own may keep what a night left
        done = shell("gpu", "Install the baseline's commit", RUNNER_TEMP=str(tmp_path / "temp"))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "temp" / "old" / "code").read_text(encoding="utf-8") == "old"
        assert (tmp_path / "temp" / "same.txt").read_text(encoding="utf-8") == "torch==2.9.0\n"
        asked = (tmp_path / "temp" / "asked").read_text(encoding="utf-8")
        assert asked.endswith(f"--constraint {tmp_path}/temp/same.txt -e {tmp_path}/temp/old\n")
        shutil.rmtree(tmp_path / "temp")


@pytest.mark.parametrize(
    ("code", "decision"), [(0, "pass"), (1, "regression"), (2, "cannot compare")]
)
def test_throughputs_exit_code_becomes_its_decision(shell, tmp_path, code, decision):
    fake(tmp_path / ".venv" / "bin", "benchbench", f'echo "$@"; exit {code}')
    step = "Time updates against the baseline's commit"
    done = shell("gpu", step, RUNNER_TEMP="/temp")
    assert done.returncode == code
    assert (tmp_path / "OUTPUT").read_text(encoding="utf-8") == f"decision={decision}\n"
    words = done.stdout.split()
    assert words[:4] == ["throughput", "suites/nightly.yaml", "/temp/old/.venv", ".venv"]
    options = {option for p in main.commands["throughput"].params for option in p.opts}
    assert {word for word in words if word.startswith("--")} <= options
