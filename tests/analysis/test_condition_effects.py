"""Several settings of one environment: verdicts of each, and whether the answer depends on it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.reports import few_figures
from helpers.results_factory import BRIEF, make_rows, make_suite, write_results

from benchbench.analysis.brief import PRIMARY
from benchbench.analysis.claims import judge, room
from benchbench.analysis.conditions import dependence, effects, has_conditions
from benchbench.analysis.pairing import pair
from benchbench.analysis.pilot import plan_power
from benchbench.core.inference import mean_interval
from benchbench.report import write_report
from benchbench.results.tables import read_results
from benchbench.suite.model import Suite

MAZE, HOPPER = "bullet-maze2d-open-v0", "bullet-hopper-v0"
TWO = {"plain": {}, "other": {"agent.tau": 0.1}}


def study_of(folder, lift=0.0, envs=(MAZE,), seeds=10, conditions=TWO, drop=()):
    """Results in which ``after`` gains ``lift`` more points under ``other``."""
    suite = make_suite(envs=envs, seeds=seeds, conditions=conditions)
    plan, rows = make_rows(suite, BRIEF)
    for row in rows["evaluations"]:
        if row["variant"] == "after" and str(row["env"]).endswith("@other") and row["update"]:
            row["score"] += lift
    for name in rows:
        rows[name] = [row for row in rows[name] if (row["env"], row["seed"]) not in drop]
    write_results(folder, suite, plan, rows)
    return pair(read_results(folder))


def test_each_condition_has_verdicts_of_its_own_in_one_family(tmp_path):
    claims = judge(study_of(tmp_path))
    assert list(dict.fromkeys(claims["env"])) == ["all", f"{MAZE}@plain", f"{MAZE}@other"]
    level = claims.loc[(claims["env"] != "all") & (claims["row"] > 1), "level"]
    assert level.to_list() == pytest.approx([1 - 0.05 / 14] * 14)


def test_the_mean_over_conditions_counts_a_seed_once(tmp_path):
    """The same seed under two conditions is no second pair: it drew the same weights."""
    study = study_of(tmp_path)
    claims = judge(study).set_index(["claim", "env"])
    over = claims.loc["score", "all"]
    assert over["n_pairs"] == 10
    of, against, _ = study.pairings[0].sides("final_score")
    by_seed = (of - against).groupby("seed").mean()
    low, high, _ = mean_interval([by_seed.to_numpy()], over["level"])
    assert over["difference"] == pytest.approx(by_seed.mean())
    assert (over["lo"], over["hi"]) == pytest.approx((low[0], high[0]))
    assert claims.loc["score", f"{MAZE}@plain"]["n_pairs"] == 10


def test_the_room_left_over_all_is_a_mean_over_seeds_too(tmp_path):
    pairing = study_of(tmp_path).pairings[0]
    plain = PRIMARY["state"][1]
    parts = [room(plain, pairing.alone(env)) for env in (f"{MAZE}@plain", f"{MAZE}@other")]
    assert room(plain, pairing.together()) == pytest.approx(np.mean(parts))


def test_a_seed_that_lacks_a_condition_is_left_out_of_the_mean_and_counted(tmp_path):
    claims = judge(study_of(tmp_path, drop={(f"{MAZE}@other", 3)})).set_index(["claim", "env"])
    over = claims.loc["score", "all"]
    assert over["n_pairs"] == 9
    assert "1 seeds without all of their conditions" in over["note"]
    assert claims.loc["score", f"{MAZE}@plain"]["n_pairs"] == 10


def test_without_conditions_the_mean_is_over_all_pairs_as_ever(tmp_path):
    suite = make_suite(envs=(MAZE, HOPPER))
    write_results(tmp_path, suite, *make_rows(suite, BRIEF))
    study = pair(read_results(tmp_path))
    assert study.pairings[0].together() is study.pairings[0]
    assert not has_conditions(study)
    assert judge(study).set_index(["claim", "env"]).loc["score", "all"]["n_pairs"] == 20


def test_an_effect_of_the_condition_is_found_for_its_claim_alone(tmp_path):
    tests = dependence(study_of(tmp_path, lift=40.0)).set_index("claim")
    assert tests.loc["score", "p_holm"] <= 0.05
    assert tests.loc["return", "p_holm"] > 0.05
    assert set(tests["over"]) == {"all"}
    assert set(tests["seeds"]) == {10}


def test_effects_are_the_verdicts_rows(tmp_path):
    study = study_of(tmp_path, lift=40.0, envs=(MAZE, HOPPER), seeds=4)
    claims = judge(study)
    frame = effects(study, claims)
    both = frame.merge(claims, on=["claim", "env"], suffixes=("", "_c"))
    assert len(both) == len(frame) == 7 * 4
    for column in ("difference", "lo", "hi", "delta"):
        np.testing.assert_allclose(both[column], both[f"{column}_c"])
    assert set(frame["condition"]) == {"plain", "other"}


def test_effects_pay_for_planned_looks_as_the_verdicts_do(tmp_path):
    plan = {"start": 10, "most": 30, "look_every": 10}
    suite = make_suite(envs=(MAZE,), seeds=plan, conditions=TWO)
    write_results(tmp_path, suite, *make_rows(suite, BRIEF))
    study = pair(read_results(tmp_path))
    claims = judge(study)
    frame = effects(study, claims)
    both = frame.merge(claims, on=["claim", "env"], suffixes=("", "_c"))
    assert both["lo"].to_list() == both["lo_c"].to_list()
    assert both["hi"].to_list() == both["hi_c"].to_list()


def test_names_are_compared_within_their_environment(tmp_path):
    envs = [{"id": MAZE}, {"id": MAZE, "name": "soft", "agent": {"tau": 0.1}}, {"id": HOPPER}]
    suite = Suite.model_validate(
        {"name": "s", "seeds": 5, "variants": ["before", "after"], "envs": envs}
    )
    write_results(tmp_path, suite, *make_rows(suite, BRIEF))
    tests = dependence(pair(read_results(tmp_path)))
    assert set(tests["over"]) == {MAZE}
    assert set(tests["seeds"]) == {5}


def test_the_report_shows_it_in_a_section_a_figure_and_a_table(tmp_path):
    study_of(tmp_path, lift=40.0, seeds=4)
    with few_figures("conditions"):
        write_report(tmp_path, "both")
    page = (tmp_path / "REPORT.md").read_text(encoding="utf-8")
    assert "Does it depend on the condition?" in page
    assert "over the mean of these 2 conditions" in page
    assert (tmp_path / "figures" / "conditions.png").is_file()
    assert "figures/conditions" in page
    assert "结论是否取决于条件" in (tmp_path / "REPORT.zh.md").read_text(encoding="utf-8")
    assert set(pd.read_csv(tmp_path / "conditions.csv")["claim"]) >= {"score", "state"}


def test_a_pilot_without_the_conditions_lends_its_spreads(tmp_path):
    pilot = make_suite(seeds=5)
    write_results(tmp_path / "synthetic", pilot, *make_rows(pilot, BRIEF))
    suite = Suite.model_validate(
        {"name": "s", "seeds": 9, "variants": ["before", "after"], "envs": [{"id": MAZE}],
         "conditions": TWO}
    )  # fmt: skip
    found = plan_power(suite, tmp_path)
    assert set(found.table["env"]) == {f"{MAZE}@plain", f"{MAZE}@other"}
    assert found.members == 14
    assert found.without == ()
