"""What the repository says of its own results is what its tables hold."""

import re
import shutil
from pathlib import Path

import pytest

from benchbench.report import write_report
from benchbench.results.tables import read_results
from benchbench.suite.load import load_suite

ROOT = Path(__file__).parents[1]
RESULTS = sorted(path.parent for path in (ROOT / "results").glob("reference_*/suite.json"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = r"[+−×]?\d+(?:\.\d+)?"


@pytest.fixture(scope="module", params=RESULTS, ids=lambda folder: folder.name)
def study(request, tmp_path_factory):
    """A committed study, and its report made anew: the folder, its copy, the printed table."""
    copy = tmp_path_factory.mktemp("reference") / request.param.name
    copy.mkdir()
    for path in request.param.glob("*.*"):
        shutil.copy(path, copy)
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
    if folder.name == "reference_cpu":
        assert table in README


def test_every_number_in_the_discussion_is_in_a_report():
    page = ROOT / "results" / "reference_cpu" / "DISCUSSION.md"
    reports = " ".join((folder / "REPORT.md").read_text(encoding="utf-8") for folder in RESULTS)
    known = set(re.findall(NUMBER, reports))
    known |= {number.lstrip("+−×") for number in known}
    text = re.sub(r"\]\([^)]*\)|`[^`]*`|\b(?:19|20)\d\d\b", "", page.read_text(encoding="utf-8"))
    assert set(re.findall(NUMBER, text)) - known == set()
