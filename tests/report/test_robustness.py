"""Robustness: the claim of suites that evaluate under unseen distractions, from table to page."""

import pytest
from helpers.results_factory import BRIEF, as_results, make_rows, make_suite

from benchbench.analysis.brief import ALL
from benchbench.analysis.claims import chosen, families, judge, learned
from benchbench.analysis.measures import measure_cells
from benchbench.analysis.pairing import pair
from benchbench.analysis.secondary_measures import describe, reported
from benchbench.report.chinese import MEASURES
from benchbench.report.language import Words
from benchbench.report.lead import answer
from benchbench.report.page import terminal
from benchbench.report.sections import described_section
from benchbench.report.verdict_sections import brief_table

UNSEEN = {"evaluate": {"distract": {"preset": "hard"}}}
LOST = {"before": 5.0, "after": 45.0}
"""Score points that each variant loses to the unseen, but for a point of spread."""


def made(**more):
    suite = make_suite(**more)
    plan, rows = make_rows(suite, BRIEF)
    if suite.has_unseen:
        for row in rows["evaluations"]:
            lost = LOST[row["variant"]] + (row["seed"] % 3 - 1) * 0.5
            row |= {"unseen_score": row["score"] - lost, "unseen_state_r2": 0.3, "filtering": 0.2}
    return suite, plan, rows


def test_the_drop_is_seen_less_unseen_at_the_end():
    cells = measure_cells(as_results(*made(**UNSEEN)))
    for variant, lost in LOST.items():
        mine = cells[cells["variant"] == variant]
        assert mine["unseen_drop"].mean() == pytest.approx(lost, abs=0.1)
        assert mine["unseen_drop"].to_numpy() == pytest.approx(
            (mine["final_score"] - mine["unseen_score"]).to_numpy()
        )


@pytest.fixture(scope="module")
def study():
    return pair(as_results(*made(**UNSEEN)))


@pytest.fixture(scope="module")
def claims(study):
    return judge(study)


def test_it_is_an_eighth_member_of_the_family_without_an_expectation(study, claims):
    row = claims[claims["claim"] == "robustness"].iloc[0]
    assert (row["env"], row["row"], row["claimed"]) == (ALL, 8, "")
    assert row["difference"] == pytest.approx(40, abs=0.01)
    assert row["verdict"] == "higher"  # `after` loses more
    assert row["level"] == pytest.approx(1 - 0.05 / 8)
    names = {measure.name for measure in reported(study.pairings[0])}
    assert "R² of the state probe under unseen distractions" in names
    assert names <= set(MEASURES)


def test_suites_that_ask_nothing_unseen_have_seven_claims():
    study = pair(as_results(*made()))
    assert families(study, "before")[0].members == 7
    assert "robustness" not in [claim for claim, *_ in chosen(study.pairings[0])]


def test_the_pages_keep_it_apart_from_the_briefs_claims(study, claims):
    (contrast,) = study.results.suite.compared
    for lang, said, name in (
        ("en", "Beside them, 1 is higher (robustness).", "Robustness"),
        ("zh", "此外，1 项更高（稳健性）。", "稳健性"),
    ):
        words = Words(lang)
        assert said in answer(claims, contrast, words)
        cells = [row[0].lines[0][0].text for row in brief_table(claims, words).rows]
        assert [text for text in cells if name in text] == cells[-1:]
        assert len(cells) == 8
        assert name in terminal(study, claims, learned(study), words)
    described = described_section(describe(study), contrast, Words("zh"))
    assert "未见干扰" in str(described)
