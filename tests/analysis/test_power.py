"""What a design can show: power against known formulas and simulation."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.claim_tables import NULLS, coverage, shown, simulate
from helpers.results_factory import BRIEF, make_results

from benchbench.analysis.claims import judge
from benchbench.analysis.curves import pair_hours
from benchbench.analysis.pairing import pair
from benchbench.analysis.power import pairs_for, power, power_table, smallest_effect


def test_many_pairs_have_the_power_of_the_t_test() -> None:
    # (z(0.975) + z(0.8))² = 7.849: an effect of 0.1 takes 785 pairs, and a few for the t.
    assert pairs_for(0.1, 0.05) == pytest.approx(785 + 2 * 8, abs=12)
    assert power(0.1, int(pairs_for(0.1, 0.05)), 0.05) >= 0.8
    assert power(0.1, int(pairs_for(0.1, 0.05)) - 1, 0.05) < 0.8


def test_no_effect_is_shown_where_the_sign_flips_cannot_pass() -> None:
    assert smallest_effect(9, 0.05 / 21) == math.inf
    assert power(100, 9, 0.05 / 21) == 0
    # Ten pairs pass only where all have one sign, Φ(effect)¹⁰ = 0.8 at an effect of 2.01, and
    # where the interval, widened by 1.4, is clear of zero.
    assert 2.01 < smallest_effect(10, 0.05 / 21) < 2.4


def test_more_pairs_and_fewer_claims_show_smaller_effects() -> None:
    effects = [smallest_effect(n, 0.05 / 7) for n in (9, 10, 12, 15, 19, 20, 25, 40)]
    assert effects == sorted(effects, reverse=True)
    assert smallest_effect(15, 0.05 / 2) < smallest_effect(15, 0.05 / 7)
    assert pairs_for(0, 0.05) == math.inf


@pytest.mark.parametrize(("pairs", "members"), [(10, 7), (15, 21), (30, 7)])
def test_the_plan_keeps_its_promise(pairs: int, members: int) -> None:
    """Within five points of 80 %, beside four standard errors of 400 tables."""
    effect = smallest_effect(pairs, 0.05 / members)
    found = shown(pairs, members, effect, tables=400)
    assert found == pytest.approx(0.8, abs=0.05 + 4 * 0.02)


def test_a_table_is_of_the_spreads_that_were_seen() -> None:
    study = pair(make_results(BRIEF))
    claims = judge(study)
    table = power_table(claims, pair_hours(study), planned=20, alpha=0.05 / 7)
    score = table.set_index("claim").loc["score"]
    assert score["spread"] == claims.set_index("claim").loc["score", "spread"]
    assert score["smallest"] == pytest.approx(score["spread"] * smallest_effect(20, 0.05 / 7))
    # A pair is two cells of a hundred seconds.
    assert score["hours_for_delta"] == pytest.approx(score["pairs_for_delta"] * 200 / 3600)


@pytest.mark.slow
class TestSimulated:
    """A small sample of ``tests/tools/claim_rates.py``; four standard errors above 5 %."""

    tables = 150
    limit = 0.05 + 4 * np.sqrt(0.05 * 0.95 / tables)

    @pytest.mark.parametrize("name", NULLS)
    @pytest.mark.parametrize("at_delta", [False, True])
    def test_few_tables_hold_a_false_verdict(self, name: str, at_delta: bool) -> None:
        rates = simulate(NULLS[name], 15, self.tables, at_delta)
        assert rates.environments <= self.limit
        assert rates.mean <= self.limit

    def test_with_looks_too(self) -> None:
        rates = simulate(NULLS["normal"], 30, self.tables, False, looks=(10, 20, 30))
        assert rates.environments <= self.limit
        assert rates.mean <= self.limit

    def test_intervals_hold_the_truth_of_environments_that_differ(self) -> None:
        each, mean = coverage(NULLS["environments that differ"], 10, 40)
        assert each >= 0.99
        assert mean >= 0.98

    def test_the_rates_can_be_exceeded(self) -> None:
        """The check is one: judged at forty times the error, the same tables are often false."""
        import helpers.claim_tables as tables

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tables, "ALPHA", 2.0)
            rates = simulate(NULLS["normal"], 15, self.tables)
        assert rates.environments > self.limit


def test_frames_are_tidy() -> None:
    empty = power_table(judge(pair(make_results(seeds=1))), {}, 10, 0.05)
    assert isinstance(empty, pd.DataFrame)
    assert empty.empty


def test_the_script_of_the_rates_runs_as_it_says() -> None:
    """Its own first command, with the smallest counts."""
    script = Path(__file__).parents[1] / "tools" / "claim_rates.py"
    about = script.read_text("utf-8").splitlines()
    assert "PYTHONPATH=tests" in about[0]
    command = about[2].split("  ")[2].replace("python ", f"{sys.executable} ")
    few = "--tables 3 --looks 0 --intervals 0 --power 0 --law normal"
    line = f"PYTHONPATH=tests:$PYTHONPATH {command} {few}"
    ran = subprocess.run(line, shell=True, cwd=script.parents[2], text=True, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"normal, at delta: 10: \d+\.\d / \d+\.\d / \d+\.\d; 15: ", ran.stdout)
