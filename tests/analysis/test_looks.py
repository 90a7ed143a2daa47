"""Seeds until it is known: what a look decides, and when there is no other."""

from __future__ import annotations

import dataclasses

import pytest
from helpers.results_factory import BRIEF, NOTHING, as_results, make_rows, make_suite
from pydantic import ValidationError

from benchbench.analysis.claims import judge
from benchbench.analysis.looks import decide, first_look, look_table
from benchbench.analysis.pairing import pair
from benchbench.results.tables import Results
from benchbench.suite.model import SeedPlan

PLAN = {"start": 12, "most": 36, "look_every": 12}


def after_look(effects: dict[str, dict[str, float]], seeds: int, **suite: object) -> Results:
    """Results in which the first ``seeds`` seeds are done."""
    made = make_suite(seeds=PLAN, **suite)  # type: ignore[arg-type]
    plan, rows = make_rows(made, effects)
    for table in rows.values():
        table[:] = [row for row in table if int(str(row["seed"])) < seeds]
    return as_results(made, plan, rows)


def test_looks_are_planned() -> None:
    plan = SeedPlan.model_validate({"start": 10, "most": 60, "look_every": 20})
    assert plan.looks == (10, 30, 50, 60)
    assert first_look(plan) == 10
    with pytest.raises(ValidationError, match="above start"):
        SeedPlan.model_validate({"start": 10, "most": 10, "look_every": 5})


def test_a_clear_answer_ends_at_the_first_look() -> None:
    look = decide(after_look(BRIEF, 12))
    assert (look.action, look.seeds, look.next_seeds) == ("decided", 12, 12)


def test_an_open_claim_goes_on_and_only_named_claims_count() -> None:
    noisy = {"before": {"wobble": 30.0}, "after": {"wobble": 30.0, "final": 60.0}}
    look = decide(after_look(noisy, 12))
    assert (look.action, look.next_seeds) == ("go on", 24)
    assert any("score" in name for name in look.waiting)
    named = decide(after_look(noisy, 12, claims=["state"]))
    assert named.action == "decided"


def test_the_last_look_ends_it() -> None:
    look = decide(after_look(NOTHING, 36, claims=["score"]))
    assert look.action in ("used up", "decided")
    assert look.next_seeds == 36


def test_what_cannot_be_known_is_not_waited_for() -> None:
    results = after_look(NOTHING, 12, claims=["q"])
    gone = results.evaluations.assign(q_error=float("nan"), q_behaviour_error=float("nan"))
    look = decide(dataclasses.replace(results, evaluations=gone))
    assert look.action == "cannot help"
    assert "none are run" in look.told


def test_a_decided_claim_stays_as_its_look_left_it() -> None:
    later = pair(after_look(BRIEF, 24))
    claims = judge(later).query("row > 1")
    assert set(claims["seeds"]) == {12}
    assert set(claims["n_pairs"]) == {12}
    table = look_table(later)
    assert table["seeds"].to_list() == [12, 24]
    assert table["decided"].to_list() == [7, 7]
    assert (table["level"] > 1 - 0.05 / 7).all()


def test_seeds_that_were_not_needed_are_not_missing() -> None:
    study = pair(after_look(BRIEF, 12))
    assert study.results.plan["seed"].max() == 11


def test_a_plain_count_has_no_looks() -> None:
    suite = make_suite()
    results = as_results(suite, *make_rows(suite, BRIEF))
    assert look_table(pair(results)).empty
    with pytest.raises(ValueError, match="no planned looks"):
        decide(results)
