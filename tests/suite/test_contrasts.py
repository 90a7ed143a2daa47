"""What a suite may say of its contrasts, claims, deltas and seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.results_factory import make_suite
from pydantic import ValidationError

from benchbench.core.errors import UserError
from benchbench.suite.grid import expand
from benchbench.suite.load import load_suite
from benchbench.suite.model import Deltas


def compared(**suite: object) -> list[tuple[str, str, str | None]]:
    return [(c.of, c.against, c.expect) for c in make_suite(**suite).compared]  # type: ignore[arg-type]


def test_by_default_the_brief_is_asked_where_its_variants_are_there() -> None:
    assert compared(variants=["frozen", "before", "after"]) == [("after", "before", "brief")]


def test_elsewhere_every_variant_against_the_first() -> None:
    assert compared(variants=["after", "frozen", "q-only"]) == [
        ("frozen", "after", None),
        ("q-only", "after", None),
    ]
    assert compared(variants=["after"]) == []


@pytest.mark.parametrize(
    ("contrasts", "said"),
    [
        ([{"of": "frozen", "against": "before"}], "contrasts.0.of: the suite has no variant"),
        ([{"of": "after", "against": "after"}], "cannot be compared with itself"),
        ([{"of": "before", "against": "after", "expect": "brief"}], "expect: brief is for"),
        ([{"of": "after", "against": "before"}] * 2, "twice"),
    ],
)
def test_contrasts_that_make_no_sense_are_refused(
    contrasts: list[dict[str, str]], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        make_suite(contrasts=contrasts)


def test_claims_stand_in_the_tables_order_and_once() -> None:
    assert make_suite(claims=["score", "state"]).judged == ("state", "score")
    assert len(make_suite().judged) == 7
    with pytest.raises(ValidationError, match="twice"):
        make_suite(claims=["score", "score"])


def test_what_is_asked_of_a_cell_does_not_change_it() -> None:
    plain = {cell.key for cell in expand(make_suite(seeds=4))}
    asked = make_suite(
        seeds={"start": 2, "most": 4, "look_every": 1},
        claims=["score"],
        contrasts=[{"of": "before", "against": "after"}],
        deltas={"wobble": 7},
    )
    assert {cell.key for cell in expand(asked)} == plain


def test_a_relative_stability_of_earlier_results_is_read_and_judges_nothing() -> None:
    assert Deltas.model_validate({"stability": 0.25}) == Deltas()


def test_a_mistake_in_a_plan_of_seeds_names_its_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = "name: x\nseeds: {start: 5, most: 9, look: 2}\nvariants: [after]\nenvs: [{id: %s}]\n"
    path.write_text(text % "bullet-maze2d-open-v0", encoding="utf-8")
    said = "seeds.look: is not a key here; choose one of start, most, look_every"
    with pytest.raises(UserError, match=said):
        load_suite(path)
