"""The paired statistics, against scipy, published formulas and hand calculation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from benchbench.analysis.claims import ALPHA, FAMILY, LEVEL, PAIRS_NEEDED, verdict
from benchbench.core.statistics import (
    bootstrap_interval,
    holm,
    improvement_interval,
    interquartile_mean,
    iqm_interval,
    paired_t_interval,
    pairs_needed,
    performance_profile,
    probability_of_improvement,
    sign_flip_p,
    simultaneous_level,
)

numbers = st.integers(-800, 800).map(lambda eighths: eighths / 8)  # their sums are exact
differences = st.lists(numbers, min_size=1, max_size=9)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=9)


class TestSignFlip:
    @given(differences)
    def test_agrees_with_scipys_exact_permutation_test(self, d: list[float]) -> None:
        assume(len(d) > 1)
        theirs = stats.permutation_test(
            (np.array(d),),
            lambda x, axis: np.mean(x, axis=axis),
            permutation_type="samples",
            n_resamples=np.inf,
            vectorized=True,
        )
        assert sign_flip_p(d) == pytest.approx(min(1.0, theirs.pvalue), abs=1e-12)

    def test_counts_by_hand(self) -> None:
        # Sums of ±1 ±2 ±3: 6, 4, 2, 0, 0, -2, -4, -6. At least 6 in size: two of eight.
        assert sign_flip_p([1, 2, 3]) == 2 / 8
        # Observed 1 + 2 - 3 = 0: every pattern is as extreme.
        assert sign_flip_p([1, 2, -3]) == 1.0

    def test_ties_that_rounding_would_part_are_counted(self) -> None:
        # Of 16 sums, 2 are ±0.4 and 8 are ±0.2; in floating point most of these fall short of 0.2.
        assert sign_flip_p([0.1, 0.1, 0.1, -0.1]) == 10 / 16

    @given(differences)
    def test_does_not_know_the_sign(self, d: list[float]) -> None:
        assert sign_flip_p(d) == sign_flip_p([-x for x in d])

    def test_nine_pairs_are_the_fewest_that_pass_a_family_of_seven(self) -> None:
        assert pairs_needed(7) == PAIRS_NEEDED == 9
        assert FAMILY * sign_flip_p([1.0] * 8) > ALPHA >= FAMILY * sign_flip_p([1.0] * 9)

    def test_sampled_patterns_agree_with_the_exact_test(self) -> None:
        d = np.random.default_rng(3).normal(0.35, 1, 21)
        sampled = sign_flip_p(d)
        # Exact for 21 by conditioning: the flips of 20 values, with the last held.
        sums = np.array([0.0])
        for x in d:
            sums = np.concatenate([sums + x, sums - x])
        exact = np.mean(np.abs(sums) >= abs(d.sum()) - 1e-9)
        assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact / 99_999))
        assert sampled == sign_flip_p(d), "seeded: the same p every time"

    def test_a_value_that_is_not_finite_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not finite"):
            sign_flip_p([1.0, float("nan")])

    def test_nothing_is_not_a_result(self) -> None:
        assert np.isnan(sign_flip_p([]))


class TestHolm:
    def test_statsmodels_numbers(self) -> None:
        # statsmodels.stats.multitest.multipletests([.01, .04, .03, .005], method="holm")[1]
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_nan_is_no_member(self) -> None:
        assert holm([0.01, np.nan, 0.02])[[0, 2]] == pytest.approx([0.02, 0.02])
        assert np.isnan(holm([0.01, np.nan, 0.02])[1])

    @given(p_values)
    def test_keeps_the_order_and_never_lowers_a_p(self, p: list[float]) -> None:
        adjusted = holm(p)
        assert np.all((adjusted >= np.array(p)) & (adjusted <= 1))
        assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)

    @given(p_values, st.integers(0, 8))
    def test_a_smaller_p_never_raises_another(self, p: list[float], which: int) -> None:
        lower = list(p)
        lower[which % len(p)] /= 2
        assert np.all(holm(lower) <= holm(p) + 1e-12)


class TestIntervals:
    @given(st.lists(numbers, min_size=3, max_size=12), st.floats(0.5, 0.999))
    def test_agrees_with_scipys_paired_t_test(self, d: list[float], level: float) -> None:
        assume(np.std(d) > 0)
        theirs = stats.ttest_rel(d, np.zeros(len(d))).confidence_interval(level)
        assert paired_t_interval(d, level) == pytest.approx((theirs.low, theirs.high), rel=1e-6)

    def test_one_pair_has_no_interval_and_equal_pairs_one_of_no_width(self) -> None:
        assert np.isnan(paired_t_interval([3.0])).all()
        assert paired_t_interval([3.0, 3.0, 3.0]) == (3.0, 3.0)

    def test_seven_intervals_hold_together(self) -> None:
        assert simultaneous_level(7) == pytest.approx(1 - 0.05 / 7)

    def test_bootstrap_is_seeded_and_contains_the_estimate(self) -> None:
        scores = np.random.default_rng(0).normal(50, 10, (2, 10))
        low, high = iqm_interval(list(scores))
        assert (low, high) == iqm_interval(list(scores))
        assert low < interquartile_mean(scores) < high

    def test_bootstrap_resamples_within_each_environment(self) -> None:
        # Two environments far apart, each without spread: no resampling within them moves the mean.
        interval = bootstrap_interval(
            [[0.0] * 5, [100.0] * 5], lambda *s: float(np.mean(np.concatenate(s)))
        )
        assert interval == (50.0, 50.0)


class TestRliable:
    """rliable's formulas (Agarwal et al. 2021; rliable/metrics.py and library.py), transcribed."""

    scores = np.random.default_rng(1).normal(size=(10, 4))
    others = np.random.default_rng(2).normal(0.5, 1, size=(10, 4)).round(1)

    def test_interquartile_mean(self) -> None:
        # aggregate_iqm: scipy.stats.trim_mean(scores, proportiontocut=0.25, axis=None)
        ordered = np.sort(self.scores.ravel())
        assert interquartile_mean(self.scores) == pytest.approx(ordered[10:30].mean())

    def test_probability_of_improvement(self) -> None:
        # probability_of_improvement: U / (runs_x * runs_y) by task, then the mean over tasks
        x, y = self.scores.round(1), self.others
        theirs = np.mean(
            [
                stats.mannwhitneyu(x[:, task], y[:, task], alternative="greater").statistic / 100
                for task in range(4)
            ]
        )
        ours = np.mean([probability_of_improvement(x[:, t], y[:, t]) for t in range(4)])
        assert ours == pytest.approx(theirs)
        low, high = improvement_interval(list(x.T), list(y.T))
        assert low < ours < high

    def test_performance_profile(self) -> None:
        # run_score_deviation: np.mean(scores > tau)
        taus = np.linspace(-1, 1, 5)
        assert performance_profile(self.scores, taus) == pytest.approx(
            [np.mean(self.scores > tau) for tau in taus]
        )

    @given(differences, differences)
    def test_ties_count_half(self, a: list[float], b: list[float]) -> None:
        assert probability_of_improvement(a, b) + probability_of_improvement(b, a) == pytest.approx(
            1
        )


def simulate(
    effect: np.ndarray, delta: float, tables: int, seed: int
) -> tuple[list[list[tuple[str, str]]], float]:
    """Verdicts of ``tables`` tables of seven correlated claims on ten pairs; interval coverage."""
    rng = np.random.default_rng(seed)
    covariance = 0.6 * np.ones((FAMILY, FAMILY)) + 0.4 * np.eye(FAMILY)
    verdicts, covered = [], 0
    for _ in range(tables):
        d = effect + rng.multivariate_normal(np.zeros(FAMILY), covariance, size=10)
        intervals = [paired_t_interval(column, LEVEL) for column in d.T]
        adjusted = holm([sign_flip_p(column) for column in d.T])
        covered += sum(low <= e <= high for (low, high), e in zip(intervals, effect, strict=True))
        verdicts.append(
            [verdict(i, delta, p, 10) for i, p in zip(intervals, adjusted, strict=True)]
        )
    return verdicts, covered / (tables * FAMILY)


def share(verdicts: list[list[tuple[str, str]]], *wrong: tuple[str, str]) -> float:
    return float(np.mean([any(v in wrong for v in table) for table in verdicts]))


@pytest.mark.slow
class TestFalseAlarms:
    tables = 3_000
    slack = 3 * np.sqrt(0.05 * 0.95 / tables)

    def test_without_effects_few_tables_hold_a_finding(self) -> None:
        # A delta of next to nothing is the hardest case: any interval clear of zero is a finding.
        verdicts, coverage = simulate(np.zeros(FAMILY), 1e-9, self.tables, seed=0)
        alarms = share(verdicts, ("supported", ""), ("refuted", "opposite"))
        assert alarms <= 0.05 + self.slack
        assert coverage == pytest.approx(LEVEL, abs=0.003)

    def test_effects_at_delta_are_not_called_supported(self) -> None:
        # All seven at the border: zero is rejected again and again, which under Holm's step-down
        # levels would open the intervals up; Bonferroni's stay.
        verdicts, _ = simulate(np.full(FAMILY, 2.0), 2.0, self.tables, seed=1)
        assert share(verdicts, ("supported", "")) <= 0.025 + self.slack

    def test_effects_beyond_delta_are_not_called_negligible(self) -> None:
        verdicts, _ = simulate(np.full(FAMILY, 2.0), 1.9999, self.tables, seed=2)
        assert share(verdicts, ("refuted", "negligible"), ("refuted", "")) <= 0.05 + self.slack

    def test_large_effects_are_found(self) -> None:
        verdicts, _ = simulate(np.full(FAMILY, 3.0), 0.5, 300, seed=3)
        assert np.mean([v == ("supported", "") for table in verdicts for v in table]) > 0.95
