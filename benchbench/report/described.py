"""What is reported beside the judged measures: descriptions, with 95 % intervals, never verdicts.

The intervals here are not adjusted for their number. Nothing in this file decides a claim.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from benchbench.report.brief import AFTER, BEFORE, Measure
from benchbench.report.claims import estimate, pair_up
from benchbench.report.measures import THRESHOLD, measure_cells
from benchbench.report.statistics import (
    improvement_interval,
    interquartile_mean,
    iqm_interval,
    paired_t_interval,
    probability_of_improvement,
)
from benchbench.results import Results

REPORTED = (
    Measure(1, "grad_log_ratio", "log10 of the critic's over the VAE's gradient norm on the "
            "encoder, mean over training", "log10", 1, "r2"),
    Measure(1, "grad_cosine", "cosine of those two gradients, mean over training", "", 1, "r2"),
    Measure(1, "grad_negative", "share of samples with a negative cosine", "share", 1, "r2"),
    Measure(3, "random_state_r2", "R² of the state probe, untrained encoder", "R²", 1, "r2"),
    Measure(3, "srank", "effective rank (srank 0.99), last evaluation", "", 1, "r2"),
    Measure(4, "td_error", "held-out RMS TD error, over σ_G, last evaluation", "σ_G", -1,
            "q_error", "ln ratio"),
    Measure(6, "best_score", "best evaluation (chosen after the fact)", "points", 1, "score"),
)  # fmt: skip
"""Measures that are compared as the primary ones are, but not tested."""

COLUMNS = (
    "row", "measure", "unit", "scale", "n_pairs", "before_mean", "before_lo", "before_hi",
    "after_mean", "after_lo", "after_hi", "difference", "lo", "hi", "level", "note",
)  # fmt: skip
"""Columns of :func:`describe`'s frame; they mean what they mean in the claims' frame."""


def describe(results: Results) -> pd.DataFrame:
    """One row a reported measure that has at least one pair, in the order of the brief's rows."""
    cells = measure_cells(results)
    rows = [estimate(measure, results, cells, 0.95) for measure in REPORTED]
    rows += [_threshold(results, cells), *_final_scores(results, cells)]
    frame = pd.DataFrame([{c: row[c] for c in COLUMNS} for row in rows], columns=list(COLUMNS))
    return frame[frame["n_pairs"] > 0].sort_values("row", kind="stable").reset_index(drop=True)


def final_scores(results: Results) -> pd.DataFrame:
    """Every variant's final score in every environment.

    Columns: ``env, variant, n, mean, lo, hi, iqm, best``.
    ``lo`` and ``hi`` are the mean's 95 % t interval over seeds; ``best`` is the mean of each cell's
    best evaluation. Rows stand in the suite's order; a variant without a finished cell has n = 0.
    """
    done = results.cells[results.cells["status"] == "done"]
    rows = []
    for env in results.suite.envs:
        for routing in results.suite.routings:
            mine = done[(done["env"] == env.id) & (done["variant"] == routing.name)]
            score = mine["final_score"].dropna()
            means = (score.mean(), *paired_t_interval(score), interquartile_mean(score))
            best = mine["best_score"].mean()
            rows.append((env.id, routing.name, len(score), *means, best))
    return pd.DataFrame(rows, columns=["env", "variant", "n", "mean", "lo", "hi", "iqm", "best"])


def paired_scores(results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each pair's difference in final score, and the means with 95 % intervals.

    The first frame has ``env, seed, difference``, the second ``env, difference, lo, hi``: a row an
    environment and one, 'all', for all pairs.
    """
    before, after, _ = pair_up(results, measure_cells(results), "final_score")
    pairs = (after - before).rename("difference").reset_index()
    groups = [*pairs.groupby("env"), *([("all", pairs)] if len(pairs) else [])]
    rows = [
        (env, rows["difference"].mean(), *paired_t_interval(rows["difference"]))
        for env, rows in groups
    ]
    return pairs, pd.DataFrame(rows, columns=["env", "difference", "lo", "hi"])


def _threshold(results: Results, cells: pd.DataFrame) -> dict[str, object]:
    """Median updates to the threshold, right despite censoring while half of the cells reach it.

    ``pair_up`` would leave censored cells out as infinite, so they are capped for pairing only.
    """
    capped = cells.assign(updates_to_threshold=cells["updates_to_threshold"].replace(np.inf, 1e18))
    before, after, note = pair_up(results, capped, "updates_to_threshold")
    medians = [float(side.median()) if len(side) else math.nan for side in (before, after)]
    shares = [f"{(side >= 1e18).mean():.0%}" for side in (before, after)] if len(before) else []
    censored = f"never reached by {shares[0]} of before, {shares[1]} of after" if shares else ""
    return {
        **dict.fromkeys(COLUMNS, math.nan),
        "row": 5,
        "measure": f"median updates to {THRESHOLD:.0f} points, held for two evaluations",
        "unit": "updates",
        "scale": "difference",
        "n_pairs": len(before),
        "before_mean": medians[0] if medians[0] < 1e17 else math.nan,
        "after_mean": medians[1] if medians[1] < 1e17 else math.nan,
        "note": "; ".join(part for part in (censored, note) if part),
    }


def _final_scores(results: Results, cells: pd.DataFrame) -> list[dict[str, object]]:
    """Interquartile mean and probability of improvement of the final score, bootstrapped."""
    before, after, note = pair_up(results, cells, "final_score")
    strata = {
        name: [rows.to_numpy() for _, rows in side.groupby(level="env")]
        for name, side in ((BEFORE, before), (AFTER, after))
    }
    blank = dict.fromkeys(COLUMNS, math.nan) | {
        "row": 6, "scale": "difference", "n_pairs": len(before), "level": 0.95, "note": note
    }  # fmt: skip
    iqm: dict[str, object] = {"measure": "interquartile mean of the score", "unit": "points"}
    for name, side in ((BEFORE, before), (AFTER, after)):
        lo, hi = iqm_interval(strata[name])
        iqm |= {f"{name}_mean": interquartile_mean(side), f"{name}_lo": lo, f"{name}_hi": hi}
    chances = [
        probability_of_improvement(a, b) for a, b in zip(strata[AFTER], strata[BEFORE], strict=True)
    ]
    lo, hi = improvement_interval(strata[AFTER], strata[BEFORE])
    chance = {
        "measure": "probability that a run of after scores above one of before",
        "unit": "probability",
        "after_mean": float(np.mean(chances)) if chances else math.nan,
        "after_lo": lo,
        "after_hi": hi,
    }
    return [blank | iqm, blank | chance]
