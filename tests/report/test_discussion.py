"""A discussion's numbers come from tables, and a wrong look-up says where it stands."""

from pathlib import Path

import pytest

from benchbench.analysis.pairing import pair
from benchbench.core.errors import UserError
from benchbench.report.discussion import Tables, render
from benchbench.results.tables import read_results

FOLDER = Path(__file__).parents[2] / "results" / "reference_drq"
HERE = Tables(pair(read_results(FOLDER)))


def rendered(text):
    return render(text, HERE, {}.__getitem__, where="page.j2")


def test_numbers_are_those_of_the_report():
    report = (FOLDER / "REPORT.md").read_text(encoding="utf-8")
    for look_up in ('claim("score")', 'claim("state")', 'described("cosine of those")'):
        assert rendered("{{ here." + look_up + " }}") in report
    assert rendered("{{ here.family().members }}") == "7"
    assert rendered('{{ here.claim("score", column="n_pairs") }}') == "10"


def test_whether_it_depends_on_the_condition_is_said_as_in_the_report():
    study = FOLDER.parent / "study"
    tables = Tables(pair(read_results(study)))
    (row,) = [line for line in (study / "REPORT.md").read_text("utf-8").splitlines()
              if line.startswith("| score") and "depends" in line]  # fmt: skip
    assert f"it depends ({tables.depends('score')})" in row


@pytest.mark.parametrize(
    ("look_up", "said"),
    [
        ('here.claim("scores")', "0 rows for claim 'scores'"),
        ('here.claim("score", env="nowhere")', "0 rows"),
        ('here.described("")', "rows for measure"),
        ('here.claim("score", column="colour")', "colour"),
        ("hear.suite", "'hear' is undefined"),
        ('study("elsewhere")', "elsewhere"),
        ("here.claim(", "page.j2:3"),
        ("here.__class__.__mro__", "unsafe"),
    ],
)
def test_a_look_up_without_a_cell_ends_with_its_line(look_up, said):
    with pytest.raises(UserError, match=r"page\.j2:3") as told:
        rendered("One\ntwo\n{{ " + look_up + " }}\n")
    assert said in str(told.value)
