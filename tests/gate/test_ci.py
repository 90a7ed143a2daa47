"""A nuisance of CI is no regression: the gate's exit code is its decision's, or 2."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchbench.cli import compare as module
from benchbench.cli.main import main

CANARY = str(Path(__file__).parents[2] / "results" / "baselines" / "canary")


def gate(*arguments):
    return CliRunner().invoke(main, ["compare", CANARY, CANARY, "--gate", *arguments])


@pytest.mark.parametrize("where", ["nowhere/summary.md", ".", "a file/summary.md", "x" * 300])
def test_a_summary_that_cannot_be_written_is_a_warning(where, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / where))
    done = gate()
    assert done.exit_code == 0, done.output
    assert "warning: GITHUB_STEP_SUMMARY" in done.output
    assert "the decision stands" in done.output


def test_a_summary_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert gate("--markdown").exit_code == 0
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("## ")


@pytest.mark.parametrize("error", [RuntimeError("no reason"), OSError(5, "Input/output error")])
def test_what_nobody_foresaw_ends_with_2_and_not_as_a_regression(error, monkeypatch):
    def broken(*arguments, **options):
        raise error

    monkeypatch.setattr(module, "show", broken)
    assert gate().exit_code == 2
