"""Verdicts on synthetic results of known effect: the claims must come out either way."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from helpers.results_factory import (
    BRIEF,
    NOTHING,
    Rows,
    changed,
    make_results,
)
from hypothesis import given
from hypothesis import strategies as st

from benchbench.analysis.claims import chosen
from benchbench.analysis.curves import runs
from benchbench.analysis.measures import (
    measure_cells,
)
from benchbench.analysis.pairing import pair
from benchbench.analysis.verdicts import row_verdict, unseen_rate, verdict
from benchbench.report import describe, judge
from benchbench.results.tables import Results

REVERSED = {"before": BRIEF["after"], "after": BRIEF["before"]}


def words(claims: pd.DataFrame) -> list[str]:
    return claims["verdict"].to_list()


class TestVerdicts:
    def test_the_brief_is_confirmed_where_it_is_right(self) -> None:
        claims = judge(pair(make_results(BRIEF)))
        assert claims["row"].to_list() == [1, 2, 2, 3, 4, 5, 6, 7]
        assert words(claims) == ["supported"] * 8

    def test_and_contradicted_where_the_effects_are_reversed(self) -> None:
        assert set(words(judge(pair(make_results(REVERSED)))[1:])) == {"opposite"}

    def test_no_effect_is_never_a_finding(self) -> None:
        claims = judge(pair(make_results(NOTHING)))[1:]
        assert set(words(claims)) <= {"inconclusive", "negligible"}
        # Probes are precise here, so their claims are negligible, not left open.
        assert words(claims)[:3] == ["negligible"] * 3

    def test_eight_pairs_are_too_few_however_large_the_effect(self) -> None:
        claims = judge(pair(make_results(BRIEF, seeds=8)))[1:]
        assert set(words(claims)) == {"inconclusive"}
        assert set(claims["label"]) == {"8 pairs; 9 needed"}

    def test_a_measure_that_is_missing_does_not_lower_the_bar_for_the_others(self) -> None:
        def blind(rows: Rows) -> None:
            for row in rows["evaluations"]:
                row["q_behaviour_error"] = row["q_error"] = row["state_r2"] = None

        whole = judge(pair(make_results(BRIEF))).set_index("measure")["p_holm"]
        part = judge(pair(changed(blind))).set_index("measure")
        assert part.loc[whole.index[3:5], "verdict"].to_list() == ["not measured"] * 2
        kept = [name for name in whole.index if name not in whole.index[[0, 3, 4]]]
        assert (part.loc[kept, "p_holm"] >= whole[kept]).all()

    @given(
        lo=st.floats(-50, 50),
        width=st.floats(0, 50),
        delta=st.floats(0.01, 20),
        clear=st.booleans(),
    )
    def test_swapping_the_variants_swaps_supported_and_opposite(
        self, lo: float, width: float, delta: float, clear: bool
    ) -> None:
        hi = lo + width
        there = verdict((lo, hi), delta, clear, 10, 9)
        back = verdict((-hi, -lo), delta, clear, 10, 9)
        assert (there[0] == "supported") == (back[0] == "opposite")
        assert (there[0] == "negligible") == (back[0] == "negligible")
        assert (there[1] == "as claimed") == (back[1] == "against the claim")

    def test_the_interval_alone_does_not_suffice(self) -> None:
        assert verdict((6, 9), 5, False, 10, 9) == ("inconclusive", "")
        assert verdict((6, 9), 5, True, 10, 9) == ("supported", "")

    def test_a_sign_beyond_doubt_with_an_open_size_is_said(self) -> None:
        assert verdict((1, 9), 5, True, 10, 9) == ("shown, size open", "as claimed")
        assert verdict((-9, -1), 5, True, 10, 9) == ("shown, size open", "against the claim")
        assert verdict((1, 9), 5, False, 10, 9) == ("inconclusive", "")
        # A sign beyond doubt of an effect that is wholly within delta is negligible.
        assert verdict((1, 4), 5, True, 10, 9) == ("negligible", "")

    def test_below_delta_with_either_sign_rules_the_claim_out(self) -> None:
        assert verdict((-20, 4), 5, False, 10, 9) == (
            "inconclusive",
            "the claimed effect of delta is ruled out",
        )

    def test_a_score_is_negligible_from_thirty_pairs_on(self) -> None:
        word, label = verdict((-1, 1), 5, False, 15, 9, rare=True)
        assert word == "inconclusive"
        assert label == "within delta; 30 pairs needed, as up to 18 % of seeds may fail unseen"
        assert verdict((-1, 1), 5, False, 30, 9, rare=True) == ("negligible", "")
        # Rule of three: 1 - 0.05 ** (1 / 30) by hand.
        assert unseen_rate(30) == pytest.approx(0.0950, abs=1e-4)

    def test_an_effect_that_had_no_room_is_not_refuted(self) -> None:
        """An untrained encoder that shows nearly all of the state, as of a ball in a maze."""

        def shown(rows: Rows) -> None:
            for row in rows["evaluations"]:
                row["state_r2"] = {"before": 0.967, "after": 0.988}[str(row["variant"])]
            for row in rows["cells"]:
                row["oracle_state_r2"] = 0.9999  # 0.0329 above before, and delta is 0.05

        part = judge(pair(changed(shown))).iloc[3]
        assert part["measure"] == "R² of the state probe, last evaluation"
        assert (part["verdict"], part["label"]) == (
            "inconclusive",
            "no room for an effect of delta",
        )
        assert verdict((-0.01, 0.01), 0.05, False, 10, 9, room=0.06) == ("negligible", "")
        assert verdict((-0.2, -0.1), 0.05, True, 10, 9, room=0.03) == ("opposite", "")

    def test_a_row_needs_all_its_parts(self) -> None:
        def one_way(a: str, b: str) -> str:
            return row_verdict(pd.DataFrame({"verdict": [a, b], "label": ["", ""]}))[0]

        assert one_way("supported", "supported") == "supported"
        assert one_way("supported", "inconclusive") == "inconclusive"
        assert one_way("supported", "opposite") == "opposite"
        assert one_way("supported", "negligible") == "negligible"
        assert one_way("supported", "shown, size open") == "shown, size open"
        assert one_way("supported", "not tested") == "supported"
        assert one_way("not measured", "supported") == "not measured"


class TestFallBacks:
    """One measure for the whole table: the specification's where all pairs have it."""

    def columns(self, results: Results) -> list[str]:
        (pairing,) = pair(results).pairings
        return [measure.column for _, measure, _ in chosen(pairing)]

    def test_the_specified_measures_are_used_where_all_pairs_have_them(self) -> None:
        results = make_results(BRIEF)
        assert self.columns(results)[2:4] == ["state_gain", "q_error"]
        row = judge(pair(results)).query("row == 3").iloc[0]
        # 0.2 untrained, 0.95 oracle: before reaches 0.5, after 0.8, give or take what is left to go
        assert row["against_mean"] == pytest.approx((0.5 - 0.2) / 0.75, abs=0.02)
        assert row["of_mean"] == pytest.approx((0.8 - 0.2) / 0.75, abs=0.02)
        assert (row["unit"], row["note"]) == ("gain", "")

    @pytest.mark.parametrize("oracle", [None, 0.25])
    def test_one_pair_without_a_clear_oracle_makes_all_fall_back(
        self, oracle: float | None
    ) -> None:
        def spoil(rows: Rows) -> None:
            rows["cells"][0]["oracle_state_r2"] = oracle

        row = judge(pair(changed(spoil))).query("row == 3").iloc[0]
        assert row["measure"] == "R² of the state probe, last evaluation"
        assert row["n_pairs"] == 10
        assert "1 of 10 pairs lack an oracle at least 0.1 R² above" in row["note"]
        # What was not chosen is still described, for the pairs that have it.
        described = describe(pair(changed(spoil))).set_index("measure")
        assert described.loc["state-probe gain from untrained (0) to oracle (1)", "n_pairs"] == 9

    def test_a_pair_that_lacks_both_does_not_change_the_measure(self) -> None:
        def diverge(rows: Rows) -> None:
            for row in rows["evaluations"]:
                if row["seed"] == 3 and row["variant"] == "after":
                    row["q_error"] = row["q_behaviour_error"] = math.nan

        row = judge(pair(changed(diverge))).query("row == 4").iloc[0]
        assert row["measure"].startswith("RMS of Q − own policy's return")
        assert row["n_pairs"] == 9
        assert "1 without a finite value" in row["note"]

    def test_a_probe_far_below_zero_is_named_and_not_averaged(self) -> None:
        def unlike(rows: Rows) -> None:
            for row in rows["evaluations"]:
                if row["seed"] == 3 and row["variant"] == "before":
                    row["return_r2"] = -44.0

        study = pair(changed(unlike))
        row = judge(study).query("claim == 'return'").iloc[0]
        assert row["n_pairs"] == 9
        assert "1 with a probe's R² below −1, which says nothing" in row["note"]
        assert row["against_mean"] > 0
        assert runs(study.results.evaluations, ["return_r2"])["value"].min() > 0

    def test_own_returns_are_read_at_the_pairs_last_evaluation_with_any(self) -> None:
        def unfinished(rows: Rows) -> None:
            for row in rows["evaluations"]:
                if row["update"] == 5000:
                    for name in ("q_error", "q_bias", "q_spearman", "q_slope", "q_tail"):
                        row[name] = None
                if row["update"] == 3750 and row["variant"] == "after":
                    row["q_error"] = 7.0

        cells = measure_cells(changed(unfinished)).set_index(["variant", "seed"])
        assert (cells.loc["after", "q_error"] == 7.0).all()
        assert cells.loc["before", "q_error"].between(0.05, 3).all()

    def test_a_cell_without_a_value_there_does_not_get_an_earlier_one(self) -> None:
        def hole(rows: Rows) -> None:
            for row in rows["evaluations"]:
                if row["update"] == 5000 and row["variant"] == "after" and row["seed"] == 0:
                    for name in ("q_error", "q_bias", "q_spearman", "q_slope", "q_tail"):
                        row[name] = None

        cells = measure_cells(changed(hole)).set_index(["variant", "seed"])
        assert math.isnan(cells.loc[("after", 0), "q_error"])
        assert cells.loc[("before", 0), "q_error"] > 0


class TestPairs:
    def test_the_difference_is_paired(self) -> None:
        claims = judge(pair(make_results(BRIEF)))
        cells = measure_cells(make_results(BRIEF)).pivot(index="seed", columns="variant")
        by_hand = (cells["final_score"]["after"] - cells["final_score"]["before"]).mean()
        found = claims[claims["row"] == 6].iloc[0]
        assert found["difference"] == pytest.approx(by_hand)
        assert found["lo"] < by_hand < found["hi"]

    def test_errors_are_compared_as_ratios(self) -> None:
        claims = judge(pair(make_results(BRIEF)))
        row = claims[claims["row"] == 4].iloc[0]
        assert math.exp(row["difference"]) == pytest.approx(0.5, abs=0.05)
        assert row["delta"] == pytest.approx(-math.log(0.9))
        assert row["of_mean"] / row["against_mean"] == pytest.approx(math.exp(row["difference"]))

    def test_a_failed_cell_takes_its_pair_along_and_is_counted(self) -> None:
        def fail(rows: Rows) -> None:
            rows["cells"][0] |= {"status": "failed", "error": "killed"}

        row = judge(pair(changed(fail))).iloc[6]
        assert row["n_pairs"] == 9
        assert row["note"] == "9 of 10 planned pairs; 1 without a finished before and after"

    def test_a_missing_evaluation_is_not_filled_in(self) -> None:
        def hole(rows: Rows) -> None:
            rows["evaluations"][3]["score"] = None

        claims = judge(pair(changed(hole)))
        area = claims[claims["row"] == 5].iloc[0]
        assert area["n_pairs"] == 9
        assert "1 without a finite value" in area["note"]

    def test_pairs_evaluated_at_different_updates_are_not_compared(self) -> None:
        def drop(rows: Rows) -> None:
            del rows["evaluations"][3]

        claims = judge(pair(changed(drop)))[1:]
        assert set(claims["n_pairs"]) == {9}
        assert claims["note"].str.contains("1 evaluated at different updates").all()

    @pytest.mark.parametrize("variants", [["before"], ["after"], ["frozen"]])
    def test_without_the_two_variants_nothing_is_measured(self, variants: list[str]) -> None:
        assert judge(pair(make_results(variants=variants))).empty
        assert describe(pair(make_results(variants=variants))).empty


class TestGradientFlow:
    @pytest.mark.parametrize(
        ("variant", "loss", "change"),
        [
            ("before", "critic", {"applied": 0.01}),
            ("before", "critic", {"dropped": 0.01}),
            ("before", "critic", {"computed": 0.0, "dropped": 0.0}),
            ("before", "vae", {"applied": 0.0}),
            ("before", "vae", {"mismatch": 1e-3}),
            ("after", "critic", {"applied": 0.0}),
            ("after", "vae", {"computed": 1e-9}),
        ],
    )
    def test_one_cell_that_differs_is_the_opposite(
        self, variant: str, loss: str, change: dict[str, object]
    ) -> None:
        def tamper(rows: Rows) -> None:
            row = next(r for r in rows["ledger"] if (r["variant"], r["loss"]) == (variant, loss))
            row |= change

        row = judge(pair(changed(tamper))).iloc[0]
        assert (row["verdict"], row["label"]) == ("opposite", "1 of 20 cells differ")
        assert f"seed 0 {variant}" in row["note"]

    def test_it_needs_no_nine_pairs(self) -> None:
        assert judge(pair(make_results(seeds=1))).iloc[0]["verdict"] == "supported"

    def test_no_ledger_is_not_measured_and_a_gap_in_it_inconclusive(self) -> None:
        assert judge(pair(changed(lambda rows: rows["ledger"].clear()))).iloc[0]["verdict"] == (
            "not measured"
        )

        def gap(rows: Rows) -> None:
            del rows["ledger"][:3]

        assert judge(pair(changed(gap))).iloc[0]["verdict"] == "inconclusive"


MAZES = ["bullet-maze2d-open-v0", "bullet-maze2d-umaze-v0"]


class TestEnvironments:
    def test_each_environment_has_its_own_verdicts_in_one_family(self) -> None:
        claims = judge(pair(make_results(BRIEF, envs=MAZES, seeds=12)))
        assert claims["env"].value_counts().to_dict() == {"all": 8, MAZES[0]: 7, MAZES[1]: 7}
        alone = claims[claims["env"] != "all"]
        assert set(alone["level"]) == {1 - 0.05 / 14}
        assert set(claims.loc[(claims["env"] == "all") & (claims["row"] > 1), "level"]) == {
            1 - 0.05 / 7
        }
        assert set(alone["verdict"]) == {"supported"}
        # Holm over the family of fourteen, whose smallest p is 2/2¹².
        assert alone["p_holm"].min() == pytest.approx(14 * 2 / 2**12)

    def test_environments_that_disagree_are_told_apart(self) -> None:
        results = make_results(BRIEF, envs=MAZES, seeds=12)
        moved = results.evaluations["env"].eq(MAZES[1]) & results.evaluations["variant"].eq("after")
        results.evaluations.loc[moved, "score"] -= 300.0
        scores = judge(pair(results)).query("claim == 'score'").set_index("env")
        assert scores.loc[MAZES, "verdict"].to_list() == ["supported", "opposite"]
        assert scores.loc["all", "p_f"] < 1e-6
        assert scores.loc[MAZES, "difference"].mean() == pytest.approx(
            scores.loc["all", "difference"]
        )

    def test_one_environment_is_its_own_mean(self) -> None:
        claims = judge(pair(make_results()))
        assert set(claims["env"]) == {"all"}
        assert np.isnan(claims["p_f"].astype(float)).all()


class TestContrasts:
    def test_any_two_variants_and_without_expectations(self) -> None:
        effects = {"after": BRIEF["before"], "mine": BRIEF["after"]}
        mine = {"name": "mine", "encoder_in": ["critic"], "critic": "applied", "vae": "detached"}
        results = make_results(effects, variants=["after", mine])
        claims = judge(pair(results))
        assert set(zip(claims["of"], claims["against"], strict=True)) == {("mine", "after")}
        assert set(claims["claimed"]) == {""}
        found = claims.set_index("claim")["verdict"]
        assert found["score"] == found["state"] == "higher"
        assert found["q"] == found["action"] == found["stability"] == "lower"
        assert set(describe(pair(results))["of"]) == {"mine"}

    def test_contrasts_with_one_control_are_one_family(self) -> None:
        results = make_results(
            BRIEF,
            variants=["before", "after", "frozen"],
            contrasts=[
                {"of": "after", "against": "before", "expect": "brief"},
                {"of": "frozen", "against": "before"},
            ],
            seeds=12,
        )
        claims = judge(pair(results))
        tested = claims[claims["row"] > 1]
        assert set(tested["level"]) == {1 - 0.05 / 14}
        assert claims.groupby("of").size().to_dict() == {"after": 8, "frozen": 7}
        alone = make_results(BRIEF, seeds=12)
        assert set(judge(pair(alone)).query("row > 1")["level"]) == {1 - 0.05 / 7}

    def test_claims_named_beforehand_are_the_family(self) -> None:
        claims = judge(pair(make_results(BRIEF, claims=["score", "state"], seeds=7)))
        found = claims.set_index("claim")
        assert found.loc[["score", "state"], "verdict"].to_list() == ["supported"] * 2
        assert set(found.loc[["score", "state"], "level"]) == {1 - 0.05 / 2}
        assert found.loc["q", "verdict"] == "not tested"
        assert np.isnan(found.loc["q", "p_holm"])
