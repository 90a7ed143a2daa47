"""What is reported beside the judged measures: descriptions, with 95 % intervals, never verdicts.

The intervals here are not adjusted for their number. Nothing in this file decides a claim.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd

from benchbench.analysis.brief import ALL, PRIMARY, Measure
from benchbench.analysis.claims import chosen, estimate
from benchbench.analysis.measures import THRESHOLD, score_per_return
from benchbench.analysis.pairing import Pairing, Study
from benchbench.core.inference import mean_interval
from benchbench.core.statistics import (
    improvement_interval,
    interquartile_mean,
    iqm_interval,
    linear_cka,
    paired_t_interval,
    probability_of_improvement,
)
from benchbench.core.text import percent
from benchbench.results.tables import FINAL_SHARE, Results
from benchbench.suite.model import Contrast

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
    Measure(3, "distract_r2", "R² of a probe for the distractions' own state, last evaluation",
            "R²", -1, "r2"),
    Measure(3, "filtering", "feature distance for the distractions alone, over all of it (0: all "
            "filtered out), last evaluation", "share", -1, "r2"),
    Measure(4, "q_bias", "mean of Q − own policy's return, over σ_G", "σ_G", -1, "q_error"),
    Measure(4, "q_shift", "share of the squared Q error that a constant shift explains", "share",
            -1, "q_error"),
    Measure(4, "q_rest", "RMS of Q − own policy's return without a constant shift, over σ_G",
            "σ_G", -1, "q_error", "ln ratio"),
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
            "points", -1, "wobble"),
    Measure(7, "drawdown", "mean of the worst 5 % of drawdowns from the best score so far",
            "points", -1, "wobble"),
    Measure(8, "unseen_score", "score under unseen distractions, mean over the last tenth of "
            "training", "points", 1, "score"),
    Measure(8, "unseen_state_r2", "R² of the state probe under unseen distractions", "R²", 1,
            "r2"),
    Measure(8, "unseen_return_r2", "R² of the return-to-go probe under unseen distractions", "R²",
            1, "r2"),
    Measure(8, "unseen_action_r2", "R² of the dataset-action probe under unseen distractions",
            "R²", -1, "r2"),
    Measure(8, "unseen_q_error", "RMS of Q − own policy's return under unseen distractions, over "
            "σ_G", "σ_G", -1, "q_error", "ln ratio"),
    Measure(8, "unseen_q_behaviour_error", "RMS of Q − behaviour return under unseen distractions, "
            "over σ_G", "σ_G", -1, "q_error", "ln ratio"),
)  # fmt: skip
"""Measures that are compared as the primary ones are, but not tested."""

COLUMNS = (
    "of", "against", "row", "measure", "unit", "scale", "n_pairs", "against_mean", "against_lo",
    "against_hi", "of_mean", "of_lo", "of_hi", "difference", "lo", "hi", "level", "note",
)  # fmt: skip
"""Columns of :func:`describe`'s frame; they mean what they mean in the claims' frame."""


def describe(study: Study) -> pd.DataFrame:
    """One row a contrast and reported measure with at least one pair, in the brief's order.

    On the scale 'of the pair' a measure has one value a pair, not one a side: it stands in
    ``difference``, with its interval, and both sides are empty.
    """
    parts = []
    for pairing in study.pairings:
        deltas, contrast = study.results.suite.deltas, pairing.contrast
        over = pairing.together()
        rows = [estimate(measure, over, deltas, LEVEL) for measure in reported(pairing)]
        rows += [_similarity(study.results, contrast), _threshold(pairing)]
        rows += [*_final_scores(pairing), *_spread(study, contrast)]
        named = {"of": contrast.of, "against": contrast.against}
        frame = pd.DataFrame([{c: (row | named)[c] for c in COLUMNS} for row in rows])
        parts.append(frame[frame["n_pairs"] > 0].sort_values("row", kind="stable"))
    filled = [part for part in parts if not part.empty]
    frame = pd.concat(filled) if filled else pd.DataFrame(columns=list(COLUMNS))
    return frame.reset_index(drop=True)


def reported(pairing: Pairing) -> list[Measure]:
    """The reported measures and those of the family's that another was chosen over."""
    used = {measure.column for _, measure, _ in chosen(pairing)}
    family = [m for name, both in PRIMARY.items() if name != "robustness" for m in both]
    return [*(m for m in family if m.column not in used), *REPORTED]


def pairs(study: Study) -> pd.DataFrame:
    """One row a contrast, pair and measure, judged or reported, that has a value on both sides.

    Columns: ``of, against, env, seed, row, measure, column, unit, scale, of_value, against_value,
    difference``; the difference is of - against, or ln(of / against) on the ln-ratio scale.
    """
    names = ["of", "against", "env", "seed", "row", "measure", "column", "unit", "scale"]
    values = ["of_value", "against_value", "difference"]
    parts = []
    for pairing in study.pairings:
        measures = [*(measure for _, measure, _ in chosen(pairing)), *reported(pairing)]
        for measure in measures:
            of, against, _ = pairing.sides(measure.column, measure.scale)
            frame = pd.DataFrame(dict(zip(values, (of, against, of - against), strict=True)))
            if measure.scale == "ln ratio":
                frame[values[:2]] = np.exp(frame[values[:2]])
            parts.append(frame.reset_index().assign(
                of=pairing.contrast.of, against=pairing.contrast.against, row=measure.row,
                measure=measure.name, column=measure.column, unit=measure.unit,
                scale=measure.scale,
            ))  # fmt: skip
    if not parts:
        return pd.DataFrame(columns=[*names, *values])
    tidy = pd.concat(parts)[[*names, *values]]
    by = ["of", "against", "row", "env", "seed"]
    return tidy.sort_values(by, kind="stable").reset_index(drop=True)


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


def final_scores(study: Study) -> pd.DataFrame:
    """Every variant's final score in every environment.

    Columns: ``env, variant, n, mean, lo, hi, iqm, best, failed``.
    ``lo`` and ``hi`` are the mean's 95 % t interval over seeds; ``best`` is the mean of each cell's
    best evaluation; ``failed`` the share of seeds that ended less than delta above their untrained
    selves. Rows stand in the suite's order; a variant without a finished cell has n = 0.
    """
    suite, cells = study.results.suite, study.cells
    rows = []
    for env in study.envs:
        for routing in suite.routings:
            mine = cells[(cells["env"] == env) & (cells["variant"] == routing.name)]
            score = mine["final_score"].dropna()
            means = (score.mean(), *paired_t_interval(score), interquartile_mean(score))
            gain = (mine["final_score"] - mine["untrained_score"]).dropna()
            failed = (gain < suite.deltas.score).mean() if len(gain) else math.nan
            rows.append((env, routing.name, len(score), *means, mine["best_score"].mean(), failed))
    columns = ["env", "variant", "n", "mean", "lo", "hi", "iqm", "best", "failed"]
    return pd.DataFrame(rows, columns=columns)


def paired_scores(pairing: Pairing) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each pair's difference in final score, and the means with 95 % intervals.

    The first frame has ``env, seed, difference``, the second ``env, difference, lo, hi``: a row an
    environment and one, 'all', for the mean over these environments.
    """
    of, against, _ = pairing.sides("final_score")
    each = (of - against).rename("difference").reset_index()
    by_env = {str(env): rows["difference"].to_numpy() for env, rows in each.groupby("env")}
    groups = {env: [d] for env, d in by_env.items()}
    if by_env:
        over, under, _ = pairing.together().sides("final_score")
        groups[ALL] = [d.to_numpy() for _, d in (over - under).groupby(level="env")]
    rows = []
    for env, strata in groups.items():
        lo, hi, _ = mean_interval(strata, LEVEL)
        rows.append((env, float(np.mean([d.mean() for d in strata])), float(lo[0]), float(hi[0])))
    return each, pd.DataFrame(rows, columns=["env", "difference", "lo", "hi"])


def _similarity(results: Results, contrast: Contrast) -> dict[str, object]:
    """Linear CKA between the features of the two variants."""
    found, both = similarities(results), [contrast.of, contrast.against]
    rows = found[found["variant"].isin(both) & found["other"].isin(both)]
    blank = dict.fromkeys(COLUMNS, math.nan) | {
        "row": 3, "measure": "linear CKA of the features of both variants (1 is the same)",
        "unit": "CKA", "scale": OF_THE_PAIR, "n_pairs": 0, "level": 0.95, "note": "",
    }  # fmt: skip
    for row in rows.itertuples():
        blank |= {"n_pairs": row.n, "difference": row.mean, "lo": row.lo, "hi": row.hi}
    return blank


def _spread(study: Study, contrast: Contrast) -> list[dict[str, object]]:
    """Interquartile range of the final score across seeds, mean over environments with enough."""
    done = study.cells.dropna(subset="final_score")
    scores = {
        (str(variant), str(env)): rows["final_score"]
        for (variant, env), rows in done.groupby(["variant", "env"])
        if len(rows) >= SEEDS_FOR_SPREAD
    }
    sides = {"of": contrast.of, "against": contrast.against}
    envs = [env for env in study.envs if {(name, env) for name in sides.values()} <= {*scores}]
    if not envs:
        return []
    row = dict.fromkeys(COLUMNS, math.nan) | {
        "row": 7, "measure": "interquartile range of the score across seeds", "unit": "points",
        "scale": "difference", "note": "",
        "n_pairs": sum(len(scores[contrast.against, env]) for env in envs),
    }  # fmt: skip
    for side, name in sides.items():
        spreads = [np.subtract(*scores[name, env].quantile([0.75, 0.25])) for env in envs]
        row[f"{side}_mean"] = float(np.mean(spreads))
    return [row]


def _threshold(pairing: Pairing) -> dict[str, object]:
    """Median updates to the threshold, right despite censoring while half of the cells reach it.

    Pairs with a value that is not finite are left out, so censored cells are capped for pairing.
    """
    updates = pairing.cells["updates_to_threshold"].replace(np.inf, 1e18)
    capped = pairing.having(updates_to_threshold=updates)
    of, against, note = capped.sides("updates_to_threshold")
    sides = {"of": of, "against": against}
    median = {name: float(side.median()) if len(side) else math.nan for name, side in sides.items()}
    censored = ""
    if len(of):
        never = {name: percent((side >= 1e18).mean()) for name, side in sides.items()}
        names = pairing.contrast
        censored = (f"never reached by {never['against']} of {names.against}, {never['of']} of "
                    f"{names.of}")  # fmt: skip
    return {
        **dict.fromkeys(COLUMNS, math.nan),
        "row": 5,
        "measure": f"median updates to {THRESHOLD:.0f} points, held for two evaluations",
        "unit": "updates",
        "scale": "difference",
        "n_pairs": len(of),
        **{f"{k}_mean": value if value < 1e17 else math.nan for k, value in median.items()},
        "note": "; ".join(part for part in (censored, note) if part),
    }


def _final_scores(pairing: Pairing) -> list[dict[str, object]]:
    """Interquartile mean and probability of improvement of the final score, bootstrapped."""
    of, against, note = pairing.sides("final_score")
    strata = {
        name: [rows.to_numpy() for _, rows in side.groupby(level="env")]
        for name, side in (("against", against), ("of", of))
    }
    blank = dict.fromkeys(COLUMNS, math.nan) | {
        "row": 6, "scale": "difference", "n_pairs": len(of), "level": 0.95, "note": note
    }  # fmt: skip
    iqm: dict[str, object] = {"measure": "interquartile mean of the score", "unit": "points"}
    for name, side in (("against", against), ("of", of)):
        lo, hi = iqm_interval(strata[name])
        iqm |= {f"{name}_mean": interquartile_mean(side), f"{name}_lo": lo, f"{name}_hi": hi}
    chances = [
        probability_of_improvement(a, b)
        for a, b in zip(strata["of"], strata["against"], strict=True)
    ]
    lo, hi = improvement_interval(strata["of"], strata["against"])
    chance = {
        "measure": "probability that a run of the first variant scores above one of the second",
        "unit": "probability",
        "scale": OF_THE_PAIR,
        "difference": float(np.mean(chances)) if chances else math.nan,
        "lo": lo,
        "hi": hi,
    }
    return [blank | iqm, blank | chance]


NOISE_LIMIT = 0.1
"""Share of the variance of D that the evaluation's noise is meant to stay under."""


def evaluation_noise(study: Study, pairing: Pairing) -> pd.DataFrame:
    """Share of D's variance that is evaluation noise, D the pairs' difference in final score.

    One row an environment with three pairs or more that were scored over fresh episodes: ``env,
    pairs, episodes, share``. ``episodes`` are a cell's, over all evaluations of the last tenth.
    Both cells of a pair have the same starts, so the episodes are paired: with d_ki the difference
    of episode i's return at evaluation k, and s the score of a unit of return, the noise is
    s² Σ_k var_i(d_ki) / n_k / K², a mean over the pairs.
    """
    late = _late_returns(study)
    slopes = score_per_return(study.results.evaluations)
    of, against, _ = pairing.sides("final_score")
    sides, rows = (pairing.contrast.of, pairing.contrast.against), []
    for env, d in (of - against).groupby(level="env", sort=False):
        noises, counts = [], []
        for name, seed in d.index:
            both = [late.get((name, seed, side)) for side in sides]
            if both[0] is None or both[1] is None or len(both[0]) != len(both[1]):
                continue
            parts = [a - b for a, b in zip(both[0], both[1], strict=True) if len(a) == len(b) > 1]
            if len(parts) == len(both[0]):
                noise = sum(part.var(ddof=1) / len(part) for part in parts) / len(parts) ** 2
                noises.append(slopes[str(name)] ** 2 * noise)
                counts.append(sum(map(len, parts)))
        spread = float(d.var(ddof=1)) if len(d) > 2 else 0.0
        if noises and spread > 0:
            rows.append((env, len(noises), int(np.median(counts)), np.mean(noises) / spread))
    return pd.DataFrame(rows, columns=["env", "pairs", "episodes", "share"])


def _late_returns(study: Study) -> dict[tuple[str, int, str], list[np.ndarray]]:
    """By (env, seed, variant): the fresh returns of each evaluation in the last tenth."""
    found: dict[tuple[str, int, str], list[np.ndarray]] = {}
    table = study.results.evaluations
    last = table.groupby("key")["update"].transform("max")
    rows = table[(table["update"] >= (1 - FINAL_SHARE) * last) & table["fresh_returns"].notna()]
    for _, row in rows.sort_values("update").iterrows():
        returns = np.asarray(row["fresh_returns"], dtype=float)
        found.setdefault((row["env"], row["seed"], row["variant"]), []).append(returns)
    return found
