"""Measures of a cell, and what is described beside the claims, against hand calculation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.results_factory import (
    BRIEF,
    Rows,
    changed,
    make_results,
)

from benchbench.analysis.brief import PRIMARY
from benchbench.analysis.claims import delta_of
from benchbench.analysis.curves import costs, diagnosed_share, improvements
from benchbench.analysis.measures import (
    area_under_curve,
    change_variance,
    drawdown,
    late_score,
    measure_cells,
    oscillation,
    score_per_return,
    updates_to_threshold,
)
from benchbench.analysis.pairing import pair
from benchbench.report import describe, judge, learned, pairs
from benchbench.suite.model import Deltas


class TestDescribed:
    def test_similarity_of_features_is_of_the_pair(self) -> None:
        def rotate(rows: Rows) -> None:
            mine = {(r["seed"], r["row"]): r["values"] for r in rows["features"]
                    if r["variant"] == "before"}  # fmt: skip
            for r in rows["features"]:
                if r["variant"] == "after":
                    a, b, c = mine[r["seed"], r["row"]]  # type: ignore[misc]
                    r["values"] = [-3 * b, 3 * a, 3 * c]

        row = describe(pair(changed(rotate))).set_index("unit").loc["CKA"]
        assert (row["n_pairs"], row["difference"]) == (10, pytest.approx(1.0))
        assert math.isnan(row["against_mean"])
        assert describe(pair(make_results())).set_index("unit").loc["CKA", "difference"] < 0.99

    def test_features_of_other_rows_are_not_compared(self) -> None:
        def shift(rows: Rows) -> None:
            for r in rows["features"]:
                if r["variant"] == "after":
                    r["row"] = int(str(r["row"])) + 1

        assert "CKA" not in set(describe(pair(changed(shift)))["unit"])

    def test_pairs_hold_what_the_claims_average(self) -> None:
        results = make_results(BRIEF, seeds=9)
        each = pairs(pair(results))
        for _, claim in judge(pair(results))[1:].iterrows():
            mine = each[each["measure"] == claim["measure"]]
            assert len(mine) == claim["n_pairs"] == 9
            assert mine["difference"].mean() == pytest.approx(claim["difference"])
        ratios = each[each["scale"] == "ln ratio"]
        assert np.exp(ratios["difference"]).to_numpy() == pytest.approx(
            (ratios["of_value"] / ratios["against_value"]).to_numpy()
        )

    def test_spread_across_seeds_needs_ten(self) -> None:
        name = "interquartile range of the score across seeds"
        assert name not in set(describe(pair(make_results(seeds=9)))["measure"])
        results = make_results(seeds=10)
        row = describe(pair(results)).set_index("measure").loc[name]
        cells = pair(results).cells
        scores = cells[cells["variant"] == "before"]["final_score"]
        assert row["against_mean"] == pytest.approx(np.subtract(*np.quantile(scores, [0.75, 0.25])))

    def test_costs_and_chances_by_variant(self) -> None:
        results = make_results(variants=["before", "after", "frozen"])
        found = costs(results).set_index("variant")
        assert found.index.to_list() == ["before", "after", "frozen"]
        assert found.loc["after"].to_list() == [10, 16.0, 100.0, 80.0, 15.0, 5.0]
        assert diagnosed_share(results) == pytest.approx(0.05)
        chances = improvements(pair(results)).set_index("variant")
        assert chances.index.to_list() == ["after", "frozen"]
        assert chances.loc["after", "mean"] == 1.0


class TestMeasures:
    def test_area_by_hand(self) -> None:
        assert area_under_curve([0, 100, 400], [0, 40, 80]) == (20 * 100 + 60 * 300) / 400
        assert math.isnan(area_under_curve([0], [3.0]))
        assert math.isnan(area_under_curve([0, 1], [3.0, math.nan]))

    def test_threshold_has_to_be_held_and_an_untrained_score_does_not_count(self) -> None:
        assert updates_to_threshold([0, 1, 2, 3, 4], [0, 60, 40, 55, 70]) == 3
        assert updates_to_threshold([0, 1, 2], [60, 60, 10]) == math.inf
        assert updates_to_threshold([0, 1, 2], [0, 10, 60]) == math.inf

    def test_score_map_is_found_from_the_table(self) -> None:
        slopes = score_per_return(make_results().evaluations)
        assert slopes == {"bullet-maze2d-open-v0": pytest.approx(2.0)}

    @pytest.mark.parametrize(
        ("moves", "spread", "persistent"),
        [(0, 5, 0), (0, 60, 0), (0, 60, 0.8), (5, 30, 0), (20, 60, 0.5)],
    )
    def test_variance_of_changes_is_the_policys_alone(
        self, moves: float, spread: float, persistent: float
    ) -> None:
        """Policies whose true score takes steps of N(0, moves²), seen through 16 episodes each."""
        rng, found = np.random.default_rng(0), []
        for _ in range(3000):
            truth = np.cumsum(rng.normal(0, moves, 11)) / 2
            starts = rng.normal(0, spread * math.sqrt(persistent), 16)
            chance = rng.normal(0, spread * math.sqrt(1 - persistent), (11, 16))
            returns = truth[:, None] + (starts + chance) / 2
            scores = (2 * returns.mean(1)).tolist()
            found.append(change_variance(range(11), scores, list(returns), slope=2.0))
        error = np.std(found) / math.sqrt(len(found))
        assert np.mean(found) == pytest.approx(moves**2, abs=4 * error)
        assert moves or min(found) < 0  # and is kept so

    def test_variance_of_changes_by_hand(self) -> None:
        # The late scores are 0, 2, 0, 3: changes 2, -2, 3, their variance 7. The first episode's
        # are 4, -2, 2 and the second's 0, -2, 4, each 2, 0, 1 off the score's. So their covariance
        # over two episodes is S = [[4, 0, -2], [0, 0, 0], [-2, 0, 1]].
        late = [np.array(pair, float) for pair in ((0, 0), (4, 0), (2, -2), (4, 2))]
        returns = [np.array([9.0, 7.0]), *late]
        scores = [float(pair.mean()) for pair in returns]
        exact = 7 - (5 - 1 / 3) / 2
        assert change_variance([0, 5, 6, 7, 8], scores, returns, 1.0) == pytest.approx(exact)

    def test_variance_of_changes_of_an_exactly_known_policy_is_that_of_its_scores(self) -> None:
        # Every episode moves with the policy, so the spread between episodes explains nothing.
        scores = [0, 0, 0, 10, 0, 30, 0]
        returns = [np.array([s - 50.0, s + 50.0]) for s in scores]
        plain = np.var(np.diff(scores[3:]), ddof=1)
        assert change_variance(range(7), scores, returns, 1.0) == pytest.approx(plain)

    def test_deltas_are_absolute(self) -> None:
        deltas = Deltas(wobble=50, q_error=0.2, score=3)
        assert delta_of(PRIMARY["stability"][0], deltas) == 50
        assert delta_of(PRIMARY["score"][0], deltas) == 3
        assert delta_of(PRIMARY["q"][0], deltas) == pytest.approx(-math.log(0.8))

    def test_the_final_score_is_of_the_last_tenth(self) -> None:
        updates = list(range(0, 1001, 50))
        assert late_score(updates, [float(u) for u in updates]) == (900 + 950 + 1000) / 3
        assert late_score([0, 400, 800], [1.0, 2.0, 5.0]) == 5.0
        assert math.isnan(late_score([0], [1.0]))

    def test_the_shifts_part_of_qs_error(self) -> None:
        cells = measure_cells(make_results(seeds=2))
        assert (cells["q_shift"] + (cells["q_rest"] / cells["q_error"]) ** 2).to_numpy() == (
            pytest.approx(1.0)
        )
        assert cells["q_shift"].to_numpy() == pytest.approx((0.3 / cells["q_error"]) ** 2)

    def test_the_evaluations_own_noise_is_taken_out(self) -> None:
        # Scores that move by N(0, 20²) around nothing, seen through 8 episodes of spread 40 points.
        rng = np.random.default_rng(0)
        updates = list(range(4_000))
        truth = rng.normal(0, 20, len(updates))
        returns = [rng.normal(value / 2, 20, 8) for value in truth]
        scores = [2 * r.mean() for r in returns]
        exact = 1.349 * 20 * np.sqrt(2)
        assert stats_iqr(scores[2_000:]) > 1.15 * exact
        assert oscillation(updates, scores, returns, slope=2.0) == pytest.approx(exact, rel=0.06)

    def test_oscillation_of_an_exactly_known_policy_is_that_of_its_scores(self) -> None:
        # Every episode moves with the policy, so the spread between episodes explains nothing.
        scores = [0, 0, 0, 10, 0, 30, 0]
        returns = [np.array([s - 50.0, s + 50.0]) for s in scores]
        assert oscillation(range(7), scores, returns, 1.0) == pytest.approx(stats_iqr(scores[3:]))

    def test_oscillation_needs_three_late_changes(self) -> None:
        returns = [np.array([1.0, 2.0])] * 5
        assert math.isnan(oscillation(range(5), [0, 1, 2, 3, 4], returns, 1.0))
        assert math.isnan(change_variance(range(5), [0, 1, 2, 3, 4], returns, 1.0))

    def test_drawdown_by_hand(self) -> None:
        # Below the best so far: 0, 0, 20, 5, 0, 30. The worst 5 % of six is one; of a half, three.
        scores = [10.0, 40.0, 20.0, 35.0, 50.0, 20.0]
        assert drawdown(scores) == 30.0
        assert drawdown(scores, worst=0.5) == pytest.approx((30 + 20 + 5) / 3)
        assert math.isnan(drawdown([1.0, math.nan]))

    def test_gradient_ratio_is_in_decades(self) -> None:
        cells = measure_cells(make_results())
        assert cells["grad_log_ratio"].mean() == pytest.approx(1.0, abs=0.1)
        assert cells["grad_negative"].between(0, 1).all()

    def test_censored_cells_are_counted_not_averaged(self) -> None:
        row = describe(pair(make_results())).query("unit == 'updates'").iloc[0]
        assert math.isnan(row["against_mean"])
        assert row["of_mean"] < 3000
        assert "never reached by 100 % of before, 0 % of after" in row["note"]

    def test_probability_of_improvement_is_described(self) -> None:
        frame = describe(pair(make_results())).set_index("unit")
        assert frame.loc["probability", "difference"] == 1.0
        assert "verdict" not in frame.columns


class TestLearned:
    def test_a_flat_agent_has_not_learned(self) -> None:
        frame = learned(
            pair(make_results({"before": {"final": 0.0}, "after": {"final": 60.0}}, seeds=8))
        )
        overall = frame[frame["env"] == "all"].set_index("variant")["learned"]
        assert overall.to_dict() == {"before": "not clear", "after": "yes"}

    def test_seeds_that_end_where_they_began_have_failed(self) -> None:
        results = make_results(BRIEF)
        lost = results.evaluations["variant"].eq("after") & results.evaluations["seed"].lt(3)
        first = results.evaluations["update"] == 0
        results.evaluations.loc[lost & ~first, "score"] = 0.0
        frame = learned(pair(results)).query("env == 'all'").set_index("variant")
        assert frame.loc["after", "failed"] == pytest.approx(0.3)

    def test_one_cell_says_nothing(self) -> None:
        assert set(learned(pair(make_results(seeds=1)))["learned"]) == {"unknown"}


def stats_iqr(scores: list[float]) -> float:
    return float(np.subtract(*np.quantile(np.diff(scores), [0.75, 0.25])))
