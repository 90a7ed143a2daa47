"""The final score over fresh episodes, and how much of its spread is their noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.reports import few_figures
from helpers.results_factory import BRIEF, make_rows, make_suite, write_results

from benchbench.analysis.measures import measure_cells
from benchbench.analysis.pairing import pair
from benchbench.analysis.secondary_measures import evaluation_noise
from benchbench.report import write_report
from benchbench.results.tables import read_results


def results_of(folder, episodes, noise=1.0, seeds=6):
    suite = make_suite(seeds=seeds, evaluate={"final_episodes": episodes})
    write_results(folder, suite, *make_rows(suite, BRIEF, noise))
    return read_results(folder)


def test_the_final_score_is_that_of_the_fresh_episodes_in_the_last_tenth(tmp_path):
    results = results_of(tmp_path, 20)
    table = results.evaluations
    late = table[table["update"] >= 4500]
    assert late["fresh_score"].notna().all()
    assert table.loc[table["update"] < 4500, "fresh_score"].isna().all()
    expected = late.groupby("key")["fresh_score"].mean()
    found = measure_cells(results).set_index("key")["final_score"]
    pd.testing.assert_series_equal(found.sort_index(), expected, check_names=False)


def test_stability_keeps_its_fixed_starts(tmp_path):
    results = results_of(tmp_path, 20)
    without = results.evaluations.assign(fresh_score=np.nan, fresh_returns=None)
    plain = measure_cells(replace(results, evaluations=without))
    found = measure_cells(results)
    assert not np.allclose(found["final_score"], plain["final_score"])
    fixed = ["change_variance", "oscillation", "drawdown", "auc", "best_score"]
    pd.testing.assert_frame_equal(found[fixed], plain[fixed])


def test_a_missing_fresh_score_is_not_filled_with_another(tmp_path):
    results = results_of(tmp_path, 5)
    key = results.cells["key"].iloc[0]
    gone = (results.evaluations["key"] == key) & (results.evaluations["update"] == 4750)
    results.evaluations.loc[gone, "fresh_score"] = np.nan
    assert np.isnan(measure_cells(results).set_index("key").loc[key, "final_score"])


def test_the_noise_is_what_other_episodes_would_have_changed(tmp_path):
    """Against its definition: the variance over draws of the episodes, of one pair's difference."""
    study = pair(results_of(tmp_path, 40))
    found = evaluation_noise(study, study.pairings[0]).iloc[0]
    of, against, _ = study.pairings[0].sides("final_score")
    # Each cell's episodes have unit variance; two points of score a unit; 3 evaluations of 40.
    by_hand = 2**2 * (1 + 1) / 40 / 3
    assert found["share"] * (of - against).var() == pytest.approx(by_hand, rel=0.15)
    assert found["episodes"] == 3 * 40
    assert found["pairs"] == 6


def test_the_report_says_it_where_there_are_fresh_episodes_alone(tmp_path):
    for episodes in (0, 8):
        results_of(tmp_path / str(episodes), episodes)
        with few_figures():
            write_report(tmp_path / str(episodes))
    plain, fresh = ((tmp_path / n / "REPORT.md").read_text("utf-8") for n in ("0", "8"))
    assert "is evaluation noise, at 24 fresh episodes a cell" in fresh
    assert "evaluation noise" not in plain
