"""Whether better features go with better Q and better policies, over pairs."""

import numpy as np
import pandas as pd
import pytest
from helpers.reports import few_figures
from helpers.results_factory import BRIEF, make_rows, make_suite, write_results
from scipy import stats

from benchbench.analysis.chain import LEAST, LINKS, chain, correlations
from benchbench.analysis.pairing import pair
from benchbench.report import write_report
from benchbench.results.tables import read_results

MAZE, HOPPER = "bullet-maze2d-open-v0", "bullet-hopper-v0"


def frame_of(state, q, score, env=None):
    env = ["a"] * len(state) if env is None else env
    return pd.DataFrame({"env": env, "state": state, "q": q, "score": score})


def test_of_one_environment_it_is_spearmans_rank_correlation():
    rng = np.random.default_rng(1)
    state, q, score = rng.normal(size=(3, 25))
    found = correlations(frame_of(state, q + state, score)).set_index(["cause", "effect"])
    for cause, effect in LINKS:
        values = {"state": state, "q": q + state, "score": score}
        rho, p = stats.spearmanr(values[cause], values[effect])
        assert found.loc[(cause, effect), "rho"] == pytest.approx(rho)
        assert found.loc[(cause, effect), "p"] == pytest.approx(p, abs=0.02)


def test_environments_that_differ_as_a_whole_make_no_correlation():
    rng = np.random.default_rng(2)
    state, q, score = rng.normal(size=(3, 60))
    env = np.repeat(["a", "b", "c"], 20)
    shift = np.repeat([0.0, 10.0, 20.0], 20)
    apart = correlations(frame_of(state + shift, q + shift, score - shift, env))
    assert (apart["p"] > 0.01).all()
    assert stats.spearmanr(state + shift, q + shift).pvalue < 1e-6
    alike = correlations(frame_of(state, q, score, env))
    assert np.allclose(apart["rho"], alike["rho"])


def test_a_false_link_is_found_as_rarely_as_its_p_says():
    rng = np.random.default_rng(3)
    env = np.repeat(["a", "b"], 6)
    found = [correlations(frame_of(*rng.normal(size=(3, 12)), env)).loc[0, "p"] for _ in range(100)]
    assert np.mean(np.array(found) <= 0.05) <= stats.binom.ppf(0.9999, 100, 0.05) / 100
    assert np.mean(np.array(found) <= 0.5) >= stats.binom.ppf(0.0001, 100, 0.5) / 100


def test_few_pairs_and_columns_that_never_vary_say_nothing():
    few = correlations(frame_of(*np.random.default_rng(0).normal(size=(3, LEAST - 1))))
    assert few["rho"].isna().all()
    still = correlations(frame_of(np.zeros(20), np.arange(20.0), np.arange(20.0)))
    assert still["rho"].isna().tolist() == [True, False, True]
    assert still.loc[1, "rho"] == pytest.approx(1.0)


def test_the_report_draws_it_from_the_pairs(tmp_path):
    suite = make_suite(envs=(MAZE, HOPPER), seeds=6)
    write_results(tmp_path, suite, *make_rows(suite, BRIEF))
    study = pair(read_results(tmp_path))
    frame = chain(study.pairings[0])
    assert len(frame) == 12
    of, against, _ = study.pairings[0].sides("final_score")
    assert frame["score"].to_list() == pytest.approx((of - against).to_list())
    with few_figures("chain"):
        write_report(tmp_path)
    assert (tmp_path / "figures" / "chain.png").stat().st_size > 10_000
    assert "From features to Q to score" in (tmp_path / "REPORT.md").read_text("utf-8")
