"""Power before a run: whose spreads are taken, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.results_factory import BRIEF, NOTHING, make_rows, make_suite, write_results

from benchbench.analysis.pilot import plan_power, power_text, too_few_pairs
from benchbench.core.errors import UserError

OTHER = "bullet-maze2d-umaze-v0"


def stored(results: Path, name: str, seeds: int = 10, **suite: object) -> None:
    made = make_suite(seeds=seeds, **suite).model_copy(update={"name": name})  # type: ignore[arg-type]
    write_results(results / name, made, *make_rows(made, NOTHING))


def test_own_pairs_come_before_a_pilots(tmp_path: Path) -> None:
    suite = make_suite(seeds=20, claims=["state", "score"])
    stored(tmp_path, "pilot", 5)
    found = plan_power(suite, tmp_path)
    assert (found.source, found.pilot, found.planned, found.members) == ("pilot", True, 20, 2)
    assert "a pilot, pilot" in power_text(found)
    stored(tmp_path, suite.name)
    found = plan_power(suite, tmp_path)
    assert (found.source, found.pilot) == (suite.name, False)
    assert set(found.table["claim"]) == {"state", "score"}
    assert "this suite's own finished pairs" in power_text(found)
    assert plan_power(suite, tmp_path, "pilot").pilot


def test_of_several_pilots_the_one_that_knows_most_environments(tmp_path: Path) -> None:
    suite = make_suite(envs=["bullet-maze2d-open-v0", OTHER], seeds=12)
    stored(tmp_path, "a-few", 5)
    stored(tmp_path, "both", 5, envs=["bullet-maze2d-open-v0", OTHER])
    found = plan_power(suite, tmp_path)
    assert found.source == "both"
    assert found.without == ()
    assert found.members == 14
    alone = plan_power(suite, tmp_path, "a-few")
    assert alone.without == (OTHER,)
    assert f"nothing is known of {OTHER}" in power_text(alone)


def test_without_any_pairs_it_says_how_to_get_some(tmp_path: Path) -> None:
    stored(tmp_path, "elsewhere", 5, envs=[OTHER])
    with pytest.raises(UserError, match="run a pilot"):
        plan_power(make_suite(), tmp_path)


def test_a_contrast_of_ones_own_takes_the_pilots_spread(tmp_path: Path) -> None:
    made = make_suite(seeds=5).model_copy(update={"name": "pilot"})
    write_results(tmp_path / "pilot", made, *make_rows(made, BRIEF))
    suite = make_suite(variants=["after", "frozen"])
    assert set(plan_power(suite, tmp_path).table["of"]) == {"after"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": 9}, None),
        (
            {"seeds": 8},
            "8 pairs an environment: too few for any verdict, which takes 9 as one of 7",
        ),
        ({"seeds": 10, "envs": ["bullet-maze2d-open-v0", OTHER]}, None),
        ({"seeds": 9, "envs": ["bullet-maze2d-open-v0", OTHER]}, "takes 10, as one of 14 tests"),
        ({"seeds": 5, "claims": ["score"]}, "which takes 6 as one of 1"),
        ({"seeds": 6, "claims": ["score"]}, None),
        ({"seeds": 2, "variants": ["after"]}, None),
    ],
)
def test_seeds_that_can_decide_nothing_are_told_beforehand(
    changes: dict[str, object], told: str | None
) -> None:
    said = too_few_pairs(make_suite(**changes))  # type: ignore[arg-type]
    assert said is None if told is None else told in str(said)
