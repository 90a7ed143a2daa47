"""What is reported beside the judged measures: descriptions, with 95 % intervals, never verdicts.

The intervals here are not adjusted for their number. Nothing in this file decides a claim.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd

from benchbench.analysis.brief import AFTER, BEFORE, PRIMARY, Measure
from benchbench.analysis.claims import chosen, estimate
from benchbench.analysis.measures import THRESHOLD
from benchbench.analysis.pairing import Pairing
from benchbench.analysis.similarity import linear_cka
from benchbench.core.statistics import (
    improvement_interval,
    interquartile_mean,
    iqm_interval,
    paired_t_interval,
    probability_of_improvement,
)
from benchbench.results.tables import Results

LEVEL = 0.95
"""Of the intervals here, each on its own."""

OF_THE_PAIR = "of the pair"
"""The scale of a measure that has one value a pair, such as a similarity."""

SEEDS_FOR_SPREAD = 10
"""The fewest runs of one environment from which a spread across seeds is reported."""

REPORTED = (
    Measure(1, "grad_log_ratio", "log10 of the critic's over the VAE's gradient norm on the "
            "encoder, mean over training", "log10", 1, "r2"),
    Measure(1, "grad_cosine", "cosine of those two gradients, mean over training", "cosine", 1,
            "r2"),
    Measure(1, "grad_negative", "share of samples with a negative cosine", "share", 1, "r2"),
    Measure(1, "grad_split", "log10 of the Q part's over the V part's norm in the critic's "
            "gradient, mean over training", "log10", 1, "r2"),
    Measure(1, "moved_critic", "cosine of the encoder's way over 50 updates and the critic "
            "loss's descent", "cosine", 1, "r2"),
    Measure(1, "moved_vae", "cosine of that way and the VAE loss's descent", "cosine", -1, "r2"),
    Measure(2, "time_return_r2", "R² of a return probe that sees only the time index", "R²", 1,
            "r2"),
    Measure(3, "random_state_r2", "R² of the state probe, untrained encoder", "R²", 1, "r2"),
    Measure(3, "oracle_state_r2", "R² of the state probe, encoder trained on the state", "R²", 1,
            "r2"),
    Measure(3, "srank", "effective rank (srank 0.99), last evaluation", "", 1, "r2"),
    Measure(3, "dormant", "share of dormant units, last evaluation", "share", -1, "r2"),
    Measure(4, "q_bias", "mean of Q − own policy's return, over σ_G", "σ_G", -1, "q_error"),
    Measure(4, "q_spearman", "rank correlation of Q and the own policy's return", "correlation", 1,
            "q_error"),
    Measure(4, "q_slope", "slope of the own policy's return on Q (1 is calibrated)", "slope", 1,
            "q_error"),
    Measure(4, "q_tail", "bound on what the roll-outs' horizon cuts off, over σ_G", "σ_G", -1,
            "q_error"),
    Measure(4, "td_error", "held-out RMS TD error, over σ_G, last evaluation", "σ_G", -1,
            "q_error", "ln ratio"),
    Measure(6, "best_score", "best evaluation (chosen after the fact)", "points", 1, "score"),
    Measure(7, "oscillation", "interquartile range of late score changes, noise removed, cut at 0",
            "points", -1, "stability"),
    Measure(7, "drawdown", "mean of the worst 5 % of drawdowns from the best score so far",
            "points", -1, "stability"),
)  # fmt: skip
"""Measures that are compared as the primary ones are, but not tested."""

COLUMNS = (
    "row", "measure", "unit", "scale", "n_pairs", "before_mean", "before_lo", "before_hi",
    "after_mean", "after_lo", "after_hi", "difference", "lo", "hi", "level", "note",
)  # fmt: skip
"""Columns of :func:`describe`'s frame; they mean what they mean in the claims' frame."""


def describe(pairing: Pairing) -> pd.DataFrame:
    """One row a reported measure that has at least one pair, in the order of the brief's rows.

    On the scale 'of the pair' a measure has one value a pair, not one a side: it stands in
    ``difference``, with its interval, and both sides are empty.
    """
    rows = [estimate(measure, pairing, LEVEL) for measure in reported(pairing)]
    rows += [_similarity(pairing.results), _threshold(pairing), *_final_scores(pairing)]
    rows += _spread(pairing.results)
    frame = pd.DataFrame([{c: row[c] for c in COLUMNS} for row in rows], columns=list(COLUMNS))
    return frame[frame["n_pairs"] > 0].sort_values("row", kind="stable").reset_index(drop=True)


def by_environment(pairing: Pairing) -> pd.DataFrame:
    """The judged measures in each environment alone, measure by measure: environments may disagree.

    Columns: ``env`` and those of :func:`describe`. Empty where there is only one environment.
    """
    alone = {env: pairing.alone(env) for env in dict.fromkeys(pairing.plan["env"])}
    rows = []
    for measure, _ in chosen(pairing) if len(alone) > 1 else ():
        for env, here in alone.items():
            rows.append({"env": env} | estimate(measure, here, LEVEL))
    frame = pd.DataFrame(rows, columns=["env", *COLUMNS])
    return frame[frame["n_pairs"] > 0].reset_index(drop=True)


def reported(pairing: Pairing) -> list[Measure]:
    """The reported measures and those of the family's that another was chosen over."""
    used = {measure.column for measure, _ in chosen(pairing)}
    family = [measure for candidates in PRIMARY for measure in candidates]
    return [*(m for m in family if m.column not in used), *REPORTED]


def pairs(pairing: Pairing) -> pd.DataFrame:
    """One row a pair and measure, judged or reported, that has a value on both sides.

    Columns: ``env, seed, row, measure, column, unit, scale, before, after, difference``; the
    difference is after - before, or ln(after / before) on the ln-ratio scale.
    """
    measures = [*(measure for measure, _ in chosen(pairing)), *reported(pairing)]
    names = ["env", "seed", "row", "measure", "column", "unit", "scale"]
    parts = []
    for measure in measures:
        before, after, _ = pairing.sides(measure.column, measure.scale)
        frame = pd.DataFrame({"before": before, "after": after, "difference": after - before})
        if measure.scale == "ln ratio":
            frame[["before", "after"]] = np.exp(frame[["before", "after"]])
        parts.append(frame.reset_index().assign(
            row=measure.row, measure=measure.name, column=measure.column, unit=measure.unit,
            scale=measure.scale,
        ))  # fmt: skip
    tidy = pd.concat(parts)[[*names, "before", "after", "difference"]]
    return tidy.sort_values(["row", "env", "seed"], kind="stable").reset_index(drop=True)


def similarities(results: Results) -> pd.DataFrame:
    """Linear CKA of the features of every two variants, in the suite's order.

    Columns: ``variant, other, n, mean, lo, hi`` over the (env, seed) that have both, on the same
    rows of the data; 95 % t intervals.
    """
    names = [routing.name for routing in results.suite.routings]
    values: dict[tuple[str, str], list[float]] = {}
    for _, pair in results.features.groupby(["env", "seed"]):
        stacks = {
            str(name): (rows["row"].to_numpy(), np.stack(rows["values"].to_list()))
            for name, rows in pair.sort_values("row").groupby("variant")
        }
        here = [name for name in names if name in stacks]
        for one, other in itertools.combinations(here, 2):
            (rows, x), (others, y) = stacks[one], stacks[other]
            cka = linear_cka(x, y) if np.array_equal(rows, others) else None
            if cka is not None and math.isfinite(cka):
                values.setdefault((one, other), []).append(cka)
    found = [
        (one, other, len(v), float(np.mean(v)), *paired_t_interval(v))
        for (one, other), v in sorted(
            values.items(), key=lambda item: [names.index(name) for name in item[0]]
        )
    ]
    return pd.DataFrame(found, columns=["variant", "other", "n", "mean", "lo", "hi"])


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


def paired_scores(pairing: Pairing) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each pair's difference in final score, and the means with 95 % intervals.

    The first frame has ``env, seed, difference``, the second ``env, difference, lo, hi``: a row an
    environment and one, 'all', for all pairs.
    """
    before, after, _ = pairing.sides("final_score")
    each = (after - before).rename("difference").reset_index()
    groups = [*each.groupby("env"), *([("all", each)] if len(each) else [])]
    rows = [
        (env, rows["difference"].mean(), *paired_t_interval(rows["difference"]))
        for env, rows in groups
    ]
    return each, pd.DataFrame(rows, columns=["env", "difference", "lo", "hi"])


def _similarity(results: Results) -> dict[str, object]:
    """Linear CKA between the features of ``before`` and ``after``."""
    found = similarities(results)
    both = found[found["variant"].isin([BEFORE, AFTER]) & found["other"].isin([BEFORE, AFTER])]
    blank = dict.fromkeys(COLUMNS, math.nan) | {
        "row": 3, "measure": "linear CKA of the features of before and after (1 is the same)",
        "unit": "CKA", "scale": OF_THE_PAIR, "n_pairs": 0, "level": 0.95, "note": "",
    }  # fmt: skip
    for row in both.itertuples():
        blank |= {"n_pairs": row.n, "difference": row.mean, "lo": row.lo, "hi": row.hi}
    return blank


def _spread(results: Results) -> list[dict[str, object]]:
    """Interquartile range of the final score across seeds, mean over environments with enough."""
    done = results.cells[results.cells["status"] == "done"].dropna(subset="final_score")
    scores = {
        (str(variant), str(env)): rows["final_score"]
        for (variant, env), rows in done.groupby(["variant", "env"])
        if len(rows) >= SEEDS_FOR_SPREAD
    }
    envs = [
        env.id for env in results.suite.envs if {(BEFORE, env.id), (AFTER, env.id)} <= {*scores}
    ]
    if not envs:
        return []
    row = dict.fromkeys(COLUMNS, math.nan) | {
        "row": 7, "measure": "interquartile range of the score across seeds", "unit": "points",
        "scale": "difference", "n_pairs": sum(len(scores[BEFORE, env]) for env in envs), "note": "",
    }  # fmt: skip
    for name in (BEFORE, AFTER):
        spreads = [np.subtract(*scores[name, env].quantile([0.75, 0.25])) for env in envs]
        row[f"{name}_mean"] = float(np.mean(spreads))
    return [row]


def _threshold(pairing: Pairing) -> dict[str, object]:
    """Median updates to the threshold, right despite censoring while half of the cells reach it.

    Pairs with a value that is not finite are left out, so censored cells are capped for pairing.
    """
    updates = pairing.cells["updates_to_threshold"].replace(np.inf, 1e18)
    capped = pairing.having(updates_to_threshold=updates)
    before, after, note = capped.sides("updates_to_threshold")
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


def _final_scores(pairing: Pairing) -> list[dict[str, object]]:
    """Interquartile mean and probability of improvement of the final score, bootstrapped."""
    before, after, note = pairing.sides("final_score")
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
        "scale": OF_THE_PAIR,
        "difference": float(np.mean(chances)) if chances else math.nan,
        "lo": lo,
        "hi": hi,
    }
    return [blank | iqm, blank | chance]
