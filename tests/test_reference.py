"""What the repository says of its own results is what its tables hold."""

import re
import shutil
from pathlib import Path

import pytest
from helpers.reports import undrawn

from benchbench.report import write_report
from benchbench.report.discussion import TEMPLATE
from benchbench.results.tables import read_results
from benchbench.suite.load import load_suite

ROOT = Path(__file__).parents[1]
NAMES = ("study", "distracted", "generality", "body")
STUDIES = [*(ROOT / "results").glob("reference_*"), *(ROOT / "results" / name for name in NAMES)]
RESULTS = sorted(path for path in STUDIES if (path / "suite.json").is_file())
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Copies of all committed studies side by side, as a discussion may look into others."""
    root = tmp_path_factory.mktemp("results")
    for folder in RESULTS:
        (root / folder.name).mkdir()
        for path in folder.glob("*.*"):
            shutil.copy(path, root / folder.name)
        shutil.copytree(folder / "tasks", root / folder.name / "tasks")
    return root


@pytest.fixture(scope="module", params=RESULTS, ids=lambda folder: folder.name)
def study(request, copies):
    """A committed study, and its report made anew: the folder, its copy, the printed table."""
    copy = copies / request.param.name
    (copy / "DISCUSSION.md").unlink(missing_ok=True)
    with undrawn():
        return request.param, copy, write_report(copy)


def test_the_committed_report_is_what_its_tables_say(study):
    folder, copy, _ = study
    assert (folder / "REPORT.md").read_text("utf-8") == (copy / "REPORT.md").read_text("utf-8")


def test_the_committed_results_are_of_the_suite_that_is_here(study):
    folder, _, _ = study
    assert read_results(folder).suite == load_suite(ROOT / "suites" / f"{folder.name}.yaml")


def test_every_cell_of_a_committed_study_says_what_it_was_made_by(study):
    cells = read_results(study[0]).cells
    assert cells["git_commit"].notna().all()
    assert not cells["git_dirty"].any()


def test_before_ends_in_the_very_weights_of_vae_only():
    cells = read_results(ROOT / "results" / "reference_cpu").cells
    ends = cells.pivot(index=["env", "seed"], columns="variant", values="final_weights")
    assert (ends["before"] == ends["vae-only"]).all()
    assert (ends["before"] != ends["after"]).all()


def test_the_readmes_answer_is_the_studys(study):
    folder, _, table = study
    if folder.name == "study":
        assert table in README


def test_the_committed_discussion_is_what_its_tables_say(study):
    folder, copy, _ = study
    if (folder / TEMPLATE).is_file():
        written = (copy / "DISCUSSION.md").read_text(encoding="utf-8")
        assert (folder / "DISCUSSION.md").read_text(encoding="utf-8") == written


def test_no_number_of_a_discussion_is_typed():
    pages = sorted((ROOT / "results").glob(f"*/{TEMPLATE}"))
    assert pages
    for page in pages:
        looked_up = r"\{\{.*?\}\}|\{%.*?%\}|\]\([^)]*\)|`[^`]*`|\b(?:19|20)\d\d\b|D4RL|DrQ-v2"
        prose = re.sub(looked_up, "", page.read_text(encoding="utf-8"))
        assert re.findall(r"\d+(?:\.\d+)?", prose) == []
