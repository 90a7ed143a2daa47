"""Inference over environments, against scipy, published numbers and hand calculation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchbench.core.inference import (
    any_differs,
    bootstrap_t_interval,
    caution,
    heterogeneity,
    mean_interval,
    moments,
    nominal_levels,
    random_effects_interval,
    sign_flip,
    skewed,
    spent,
    t_interval,
)
from benchbench.core.statistics import paired_t_interval, sign_flip_p

numbers = st.integers(-800, 800).map(lambda eighths: eighths / 8)  # their sums are exact
samples = st.lists(numbers, min_size=3, max_size=9)


class TestStratified:
    def test_two_environments_are_welchs_problem(self) -> None:
        """The sum of two means has the variance and the degrees of freedom of Welch's test."""
        rng = np.random.default_rng(0)
        a, b = rng.normal(1, 1, 8), rng.normal(2, 5, 12)
        mean, error, df = moments([a, b])
        theirs = stats.ttest_ind(a, -b, equal_var=False)
        assert mean[0] == pytest.approx((a.mean() + b.mean()) / 2)
        assert df[0] == pytest.approx(theirs.df)
        assert mean[0] / error[0] == pytest.approx(theirs.statistic)
        low, high = t_interval([a, b], 0.99)
        wide = theirs.confidence_interval(0.99)
        assert (low[0], high[0]) == pytest.approx((wide.low / 2, wide.high / 2))

    @given(samples, st.floats(0.5, 0.999))
    def test_one_environment_is_the_paired_t(self, d: list[float], level: float) -> None:
        low, high = t_interval([d], level)
        assert (low[0], high[0]) == pytest.approx(paired_t_interval(d, level))

    def test_environments_far_apart_do_not_widen_it(self) -> None:
        near = [np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])]
        far = [near[0], near[1] + 100]
        widths = [np.subtract(*t_interval(strata, 0.95))[0] for strata in (near, far)]
        assert widths[0] == pytest.approx(widths[1])

    def test_an_environment_with_one_pair_has_no_error(self) -> None:
        assert np.isnan(t_interval([[1.0, 2.0], [3.0]], 0.95)).all()

    def test_members_side_by_side_are_judged_as_each_alone(self) -> None:
        d = np.random.default_rng(1).exponential(size=(10, 6))
        low, high, odd = mean_interval([d], 0.99)
        for i in range(6):
            mine = mean_interval([d[:, i]], 0.99)
            assert (low[i], high[i], odd[i]) == (
                pytest.approx(mine[0][0]), pytest.approx(mine[1][0]), mine[2][0]
            )  # fmt: skip


class TestSignFlip:
    @given(samples)
    def test_one_environment_is_the_exact_test(self, d: list[float]) -> None:
        assert sign_flip([d])[0] == sign_flip_p(d)

    def test_environments_count_alike_whatever_their_pairs(self) -> None:
        # Weighted: ±1 of the first, ±½ ±½ of the second. Sums of at least 2 in size: two of eight.
        assert sign_flip([[1.0], [1.0, 1.0]])[0] == 2 / 8
        assert sign_flip([[1.0], [-1.0, -1.0]])[0] == 1.0

    def test_many_pairs_are_sampled_about_the_normal(self) -> None:
        d = np.random.default_rng(3).normal(0.3, 1, 60)
        assert sign_flip([d])[0] == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=0.25)


class TestBootstrapT:
    def test_it_agrees_with_student_on_normal_data(self) -> None:
        d = stats.norm.ppf((np.arange(60) + 0.5) / 60)
        assert not skewed([d])[0]
        low, high = bootstrap_t_interval([d], 0.95)
        plain = paired_t_interval(d, 0.95)
        assert (low[0], high[0]) == pytest.approx(plain, rel=0.08)

    def test_it_reaches_towards_the_tail_that_a_skewed_sample_has(self) -> None:
        d = stats.expon.ppf((np.arange(15) + 0.5) / 15)
        assert skewed([d])[0]
        _, high = bootstrap_t_interval([d], 0.95)
        plain = paired_t_interval(d, 0.95)
        assert high[0] > plain[1] + 0.2

    def test_one_value_among_equal_ones_has_no_bound(self) -> None:
        low, _ = bootstrap_t_interval([[0.0] * 9 + [-150.0]], 0.99)
        assert low[0] == -math.inf

    def test_equal_differences_are_certain(self) -> None:
        low, high, _ = mean_interval([[2.0] * 5], 0.99)
        assert (low[0], high[0]) == (2.0, 2.0)

    def test_so_few_pairs_are_widened(self) -> None:
        d = stats.norm.ppf((np.arange(20) + 0.5) / 20)
        _, high, odd = mean_interval([d], 0.95)
        assert not odd[0]
        plain = paired_t_interval(d, 0.95)
        assert high[0] / plain[1] == pytest.approx(caution(20)) == pytest.approx(1.2)


class TestEnvironments:
    def test_heterogeneity_of_two_is_welchs_t_squared(self) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.normal(0, 1, 7), rng.normal(1, 4, 9)
        f, p = heterogeneity([a, b])
        theirs = stats.ttest_ind(a, b, equal_var=False)
        assert f == pytest.approx(theirs.statistic**2)
        assert p == pytest.approx(theirs.pvalue)

    def test_heterogeneity_of_several_is_welchs_anova(self) -> None:
        rng = np.random.default_rng(1)
        groups = [rng.normal(shift, 1 + shift, 9) for shift in (0, 0.5, 2)]
        theirs = stats.f_oneway(*groups, equal_var=False)  # from scipy 1.16 on
        assert heterogeneity(groups) == pytest.approx((theirs.statistic, theirs.pvalue))

    def test_environments_in_general_take_eight(self) -> None:
        strata = [np.array([k, k + 1.0, k + 2.0]) for k in range(8)]
        assert np.isnan(random_effects_interval(strata[:7], 0.95)).all()
        means = [s.mean() for s in strata]
        assert random_effects_interval(strata, 0.95) == pytest.approx(paired_t_interval(means))


class TestLevels:
    """Published bounds of five equal looks at two-sided 0.05 (Lan and DeMets, as in gsDesign)."""

    def test_obrien_fleming(self) -> None:
        levels = nominal_levels((10, 20, 30, 40, 50), "obrien-fleming", 0.05)
        bounds = stats.norm.isf(np.array(levels) / 2)
        assert bounds == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-3)

    def test_pocock(self) -> None:
        levels = nominal_levels((10, 20, 30, 40, 50), "pocock", 0.05)
        bounds = stats.norm.isf(np.array(levels) / 2)
        assert bounds == pytest.approx([2.4380, 2.4268, 2.4101, 2.3966, 2.3859], abs=2e-3)

    def test_one_look_spends_all(self) -> None:
        assert nominal_levels((30,), "pocock", 0.01) == pytest.approx((0.01,))

    @pytest.mark.parametrize("spending", ["pocock", "obrien-fleming"])
    def test_what_is_spent_is_what_paths_cross(self, spending: str) -> None:
        looks, alpha = (10, 15, 40, 60), 0.05
        levels = nominal_levels(looks, spending, alpha)  # type: ignore[arg-type]
        rng = np.random.default_rng(0)
        steps = np.sqrt(np.diff([0, *looks]))[:, None] * rng.normal(size=(4, 200_000))
        z = np.abs(steps.cumsum(axis=0)) / np.sqrt(looks)[:, None]
        crossed = (z > stats.norm.isf(np.array(levels) / 2)[:, None]).cumsum(axis=0) > 0
        for look, share in enumerate(np.array(looks) / 60):
            planned = spent(spending, share, alpha)  # type: ignore[arg-type]
            error = 4 * math.sqrt(planned / 200_000) + 1e-6
            assert crossed[look].mean() == pytest.approx(planned, abs=error)


class TestConditions:
    @given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=9))
    def test_two_conditions_are_a_paired_sign_flip(self, rows: list[tuple[float, float]]) -> None:
        d = np.array(rows)
        difference = d[:, 0] - d[:, 1]
        if difference.any():
            assert any_differs([d]) == pytest.approx(sign_flip([difference])[0])
        else:
            assert math.isnan(any_differs([d]))

    def test_what_is_common_to_a_seed_does_not_count(self) -> None:
        rng = np.random.default_rng(0)
        d, seed = rng.normal(size=(9, 3)), 50 * rng.normal(size=(9, 1))
        assert any_differs([d]) == pytest.approx(any_differs([d + seed]))

    def test_one_condition_apart_is_found_and_none_is_not(self) -> None:
        rng = np.random.default_rng(1)
        rejected = 0
        for _ in range(200):
            rows = rng.standard_t(3, size=(10, 3)) + 5 * rng.normal(size=(10, 1))
            rejected += any_differs([rows]) <= 0.05
        assert rejected <= 20  # 10 in the mean, and 20 in one of 600 such runs
        assert any_differs([rng.normal([0, 0, 4], size=(10, 3))]) < 0.01
