"""Runs the shell steps of a workflow as they stand in its file; by hand, and for the tests.

    python tests/helpers/workflow_steps.py .github/workflows/ci.yml [JOB]

runs every ``run:`` step of the file's jobs, or of one, in the checkout, as a hosted runner does
(``bash -e`` on a file), and stops at the first that fails. Steps that use an action are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

Step = dict[str, Any]


def read_workflow(path: Path) -> dict[str, Any]:
    """The workflow's mapping. YAML reads the key ``on`` as true; it is put right."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["on"] = raw.pop(True)
    return raw


def shell_steps(path: Path, job: str) -> list[Step]:
    """The job's steps that run a shell, each with a name."""
    return [step for step in read_workflow(path)["jobs"][job]["steps"] if "run" in step]


def run_step(
    step: Step, folder: Path, env: Mapping[str, str], timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one step in ``folder``; ``env`` goes over the step's own, whose expressions it replaces.

    A step whose script holds an expression is refused: what GitHub puts there is not code.
    """
    if "${{" in step["run"]:
        raise ValueError(f"step '{step['name']}': an expression in its script; pass it in env")
    stated = {k: v for k, v in step.get("env", {}).items() if "${{" not in v}
    with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as script:
        script.write(step["run"])
        script.flush()
        return subprocess.run(
            ["bash", "-e", script.name], cwd=folder, env={**os.environ, **stated, **env},
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip


def main(path: Path, only: str | None) -> int:
    """Run the file's shell steps here and show what they print."""
    for job in read_workflow(path)["jobs"]:
        for step in shell_steps(path, job) if only in (None, job) else []:
            print(f"== {job}: {step['name']}", flush=True)
            done = run_step(step, Path.cwd(), {})
            print(done.stdout[-2000:] + done.stderr[-2000:], flush=True)
            if done.returncode:
                print(f"exit code {done.returncode}")
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
