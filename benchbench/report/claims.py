"""The brief's seven claims, judged: results in, one row a claim part out.

A **pair** is an (env, seed) with a finished ``before`` and ``after``, evaluated at the same updates,
whose values are both finite; D = after - before, or ln(after / before) where the measure is an
error. Every pair that is left out is counted in the row's note.

The **family** has seven members, fixed in advance: the primary measures of rows 2 to 7, row 2 having
two. Row 1 is exact and needs no test. A member that could not be measured stays in it with p = 1,
so the number of pairs that a claim needs (nine) does not depend on what else was measured.

**Verdict** of a part, with D turned so that the brief's claim is positive, delta the smallest effect
of interest and the interval at :func:`~benchbench.report.statistics.simultaneous_level`:

- *supported*: the interval lies above delta, and the Holm-adjusted sign-flip p is at most 0.05;
- *refuted*: the interval lies below delta; with the label *opposite* where it lies below -delta too
  and the same is true of p, *negligible* where it lies within ±delta (nothing is asked of p then,
  which tests zero), and none where it is open which of the two;
- *inconclusive*: otherwise, and always with fewer than nine pairs;
- *not measured*: there is no pair.

The interval decides how large the effect is; the p-value, which assumes no normality, guards the
interval against a handful of odd pairs. A row of several parts is supported when every part is,
and refuted when one is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from benchbench.report.measures import THRESHOLD, measure_cells
from benchbench.report.statistics import (
    Interval,
    holm,
    paired_t_interval,
    pairs_needed,
    sign_flip_p,
    simultaneous_level,
)
from benchbench.results import Results
from benchbench.suite import Deltas

ALPHA = 0.05
"""Chance, over the whole family, of a verdict that is wrong."""

BEFORE, AFTER = "before", "after"
"""The two variants that are compared."""


@dataclass(frozen=True)
class Aspect:
    """One row of the brief's table, in its words."""

    row: int
    name: str
    name_en: str
    before: str
    after: str
    impact: str


ASPECTS = (
    Aspect(1, "梯度流向", "Gradient flow", "编码器→Critic梯度丢失 critic's gradient lost",
           "编码器←Critic梯度应用 critic's gradient applied", "关键 critical"),
    Aspect(2, "编码器学习", "What the encoder learns", "仅VAE重建任务 only the VAE's task",
           "价值相关特征 features of value", "重要 important"),
    Aspect(3, "特征质量", "Feature quality", "差 poor", "好 good", "高 high"),
    Aspect(4, "Q值预测", "Q prediction", "不准 inaccurate", "准确 accurate", "高 high"),
    Aspect(5, "收敛速度", "Convergence speed", "慢 slow", "快 fast", "中等 medium"),
    Aspect(6, "最终性能", "Final performance", "差 poor", "好 good", "高 high"),
    Aspect(7, "稳定性", "Stability", "低 low", "高 high", "高 high"),
)  # fmt: skip
"""The seven rows of the brief's table, in its order."""

Scale = Literal["difference", "ln ratio"]


@dataclass(frozen=True)
class Measure:
    """What a part of a claim is measured by: a column of ``measure_cells``, under its true name.

    ``direction`` is +1 where the brief claims more in ``after``, -1 where it claims less. ``delta``
    names a field of the suite's ``deltas``. Measures on the ln-ratio scale have geometric means.
    """

    row: int
    column: str
    name: str
    unit: str
    direction: Literal[1, -1]
    delta: str
    scale: Scale = "difference"


PRIMARY = (
    Measure(2, "return_r2", "R² of the return-to-go probe, last evaluation", "R²", 1, "r2"),
    Measure(2, "action_r2", "R² of the dataset-action probe, last evaluation", "R²", -1, "r2"),
    Measure(3, "state_r2", "R² of the state probe, last evaluation", "R²", 1, "r2"),
    Measure(4, "q_behaviour_error", "RMS of Q - behaviour return, over σ_G, last evaluation",
            "σ_G", -1, "q_error", "ln ratio"),
    Measure(5, "auc", "normalised area under the score curve", "points", 1, "auc"),
    Measure(6, "final_score", "score, mean of the last 5 evaluations", "points", 1, "score"),
    Measure(7, "oscillation", "interquartile range of late score changes, noise removed",
            "points", -1, "stability"),
)  # fmt: skip
"""The family: every part of a claim that a test decides."""

FAMILY = len(PRIMARY)
PAIRS_NEEDED = pairs_needed(FAMILY, ALPHA)
"""Nine: with eight pairs the smallest possible p is 2/2⁸, and seven times that is above 0.05."""

LEVEL = simultaneous_level(FAMILY, ALPHA)

COLUMNS = (
    "row", "aspect", "aspect_en", "impact", "measure", "unit", "scale", "claimed", "n_pairs",
    "before_mean", "before_lo", "before_hi", "after_mean", "after_lo", "after_hi",
    "difference", "lo", "hi", "level", "p", "p_holm", "delta", "verdict", "label", "note",
)  # fmt: skip
"""Columns of :func:`judge`'s frame; ``claimed`` is 'higher' or 'lower' in ``after``."""


def judge(results: Results) -> pd.DataFrame:
    """One row a claim part, in the order of the brief's table; columns as in :data:`COLUMNS`.

    ``before_lo`` to ``after_hi`` are 95 % intervals of each variant's own mean; ``lo`` and ``hi``
    bound ``difference`` at ``level``, on ``scale``.
    """
    cells = measure_cells(results)
    rows = [judge_flow(results)]
    rows += [estimate(measure, results, cells, LEVEL) for measure in PRIMARY]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    tested = frame["row"] > 1
    p = frame.loc[tested, "p"]
    frame.loc[tested, "p_holm"] = np.where(p.isna(), np.nan, holm(p.fillna(1.0)))
    for i in frame.index[tested]:
        part = frame.loc[i]
        sign = 1 if part["claimed"] == "higher" else -1
        ends = sorted((sign * part["lo"], sign * part["hi"]))
        frame.loc[i, ["verdict", "label"]] = verdict(
            (ends[0], ends[1]), part["delta"], part["p_holm"], part["n_pairs"]
        )
    return frame


def verdict(interval: Interval, delta: float, p_holm: float, n_pairs: int) -> tuple[str, str]:
    """The verdict of one part and its label ('' where it has none); see the module's rules.

    ``interval`` is of the effect turned so that the claim is positive.
    """
    lo, hi = interval
    if n_pairs == 0:
        return ("not measured", "")
    if n_pairs < PAIRS_NEEDED:
        return ("inconclusive", f"{n_pairs} pair{'s'[: n_pairs > 1]}; {PAIRS_NEEDED} needed")
    clear_of_zero = p_holm <= ALPHA
    if lo > delta and clear_of_zero:
        return ("supported", "")
    if hi <= delta:
        if lo >= -delta:
            return ("refuted", "negligible")
        return ("refuted", "opposite" if hi < -delta and clear_of_zero else "")
    return ("inconclusive", "")


def row_verdict(parts: pd.DataFrame) -> tuple[str, str]:
    """The verdict of a whole row of the brief from its parts: supported only when every part is."""
    words = parts["verdict"].to_list()
    decisive = next(
        word
        for word in ("refuted", "not measured", "inconclusive", "supported")
        if word in words
    )
    labels = parts.loc[parts["verdict"] == decisive, "label"]
    return (decisive, "; ".join(dict.fromkeys(label for label in labels if label)))


def estimate(
    measure: Measure, results: Results, cells: pd.DataFrame, level: float
) -> dict[str, object]:
    """One measure over all pairs: means, difference, intervals and p; not yet judged."""
    before, after, note = pair_up(results, cells, measure.column, measure.scale)
    d = after - before
    lo, hi = paired_t_interval(d, level)
    return {
        **_aspect(measure.row),
        "measure": measure.name,
        "unit": measure.unit,
        "scale": measure.scale,
        "claimed": "higher" if measure.direction > 0 else "lower",
        "n_pairs": len(d),
        **_mean_of("before", before, measure.scale),
        **_mean_of("after", after, measure.scale),
        "difference": float(d.mean()) if len(d) else math.nan,
        "lo": lo,
        "hi": hi,
        "level": level,
        "p": sign_flip_p(d),
        "p_holm": math.nan,
        "delta": _delta(measure, results.suite.deltas, before, after),
        "verdict": "",
        "label": "",
        "note": note,
    }


def pair_up(
    results: Results, cells: pd.DataFrame, column: str, scale: Scale = "difference"
) -> tuple[pd.Series, pd.Series, str]:
    """The values of ``before`` and ``after``, indexed by (env, seed), and a note on pairs left out.

    On the ln-ratio scale the values are logarithms, and one that is not positive is not finite.
    """
    planned = results.plan.loc[results.plan["variant"].isin([BEFORE, AFTER]), ["env", "seed"]]
    index = pd.MultiIndex.from_frame(planned.drop_duplicates().sort_values(["env", "seed"]))
    sides = {
        name: cells[cells["variant"] == name].set_index(["env", "seed"]).reindex(index)
        for name in (BEFORE, AFTER)
    }
    finished = sides[BEFORE]["key"].notna() & sides[AFTER]["key"].notna()
    same = finished & (sides[BEFORE]["steps"].map(str) == sides[AFTER]["steps"].map(str))
    values = {name: side[column].astype(float) for name, side in sides.items()}
    if scale == "ln ratio":
        values = {name: np.log(value.where(value > 0)) for name, value in values.items()}
    usable = same & np.isfinite(values[BEFORE]) & np.isfinite(values[AFTER])
    reasons = {
        "without a finished before and after": ~finished,
        "evaluated at different updates": finished & ~same,
        "without a finite value": same & ~usable,
    }
    out = [f"{int(left.sum())} {why}" for why, left in reasons.items() if left.any()]
    note = f"{int(usable.sum())} of {len(index)} planned pairs" if out else ""
    return (
        values[BEFORE][usable],
        values[AFTER][usable],
        "; ".join([note, *out]) if out else "",
    )


def judge_flow(results: Results) -> dict[str, object]:
    """Row 1, from the ledger: exact, so a single cell that differs refutes it.

    Claimed of every ``before`` cell: the critic's gradient on ``obs_encoder`` is computed, all of
    it dropped and none applied, while the VAE's is applied. Of every ``after`` cell: the critic's
    is applied and the VAE's is not computed. Of both: what the optimizer found in ``.grad`` is the
    routed sum (mismatch below 1e-5).
    """
    encoder = results.ledger[results.ledger["module"] == "obs_encoder"]
    done = results.cells[results.cells["status"] == "done"]
    shares: dict[str, list[float]] = {BEFORE: [], AFTER: []}
    wrong, silent = [], 0
    for cell in done[done["variant"].isin([BEFORE, AFTER])].itertuples():
        watched = encoder[encoder["key"] == cell.key]
        if watched.empty:
            silent += 1
            continue
        shares[str(cell.variant)].append(applied_share(watched, "critic"))
        if not flows_as_claimed(watched, str(cell.variant)):
            wrong.append(f"{cell.env} seed {cell.seed} {cell.variant}")
    watched_cells = len(shares[BEFORE]) + len(shares[AFTER])
    if not shares[BEFORE] or not shares[AFTER]:
        word, label = "not measured", ""
    elif wrong:
        word, label = "refuted", f"{len(wrong)} of {watched_cells} cells differ"
    elif silent:
        word, label = "inconclusive", f"{silent} cells without a ledger"
    else:
        word, label = "supported", ""
    means = {name: float(np.mean(share)) if share else math.nan for name, share in shares.items()}
    return {
        **dict.fromkeys(COLUMNS, math.nan),
        **_aspect(1),
        "measure": "share of the critic's gradient on obs_encoder that a step applied (ledger)",
        "unit": "share",
        "scale": "difference",
        "claimed": "higher",
        "n_pairs": min(len(shares[BEFORE]), len(shares[AFTER])),
        "before_mean": means[BEFORE],
        "after_mean": means[AFTER],
        "difference": means[AFTER] - means[BEFORE],
        "verdict": word,
        "label": label,
        "note": "exact, no test" + (f"; differs in {', '.join(wrong)}" if wrong else ""),
    }


def flows_as_claimed(watched: pd.DataFrame, variant: str) -> bool:
    """Whether a cell's ledger rows on the encoder show what the brief claims of the variant."""
    critic = watched[watched["loss"] == "critic"]
    vae = watched[watched["loss"] == "vae"]
    if critic.empty or vae.empty or not (critic["computed"] > 0).all():
        return False
    kept = watched["mismatch"].dropna()
    if kept.empty or not (kept < 1e-5).all():
        return False
    if variant == BEFORE:
        lost = np.isclose(critic["dropped"], critic["computed"], rtol=1e-5, atol=0).all()
        return bool(lost and (critic["applied"].fillna(0) == 0).all() and (vae["applied"] > 0).all())
    return bool((critic["applied"] > 0).all() and (vae["computed"] == 0).all())


def applied_share(watched: pd.DataFrame, loss: str) -> float:
    """Mean over the watched steps of applied / computed, for one loss on the encoder."""
    rows = watched[(watched["loss"] == loss) & (watched["computed"] > 0)]
    return float((rows["applied"].fillna(0) / rows["computed"]).mean())


def learned(results: Results) -> pd.DataFrame:
    """Whether each variant ended above its untrained self, per environment and over all of them.

    Columns: ``env`` ('all' for the pairs of all environments together), ``variant``, ``n``,
    ``untrained``, ``final``, ``difference`` with its 95 % paired interval ``lo, hi`` (unadjusted),
    and ``learned``: 'yes' (clear above zero), 'worse' (clear below), 'not clear', or 'unknown' with
    fewer than two cells.
    """
    done = results.cells[results.cells["status"] == "done"]
    known = done.dropna(subset=["untrained_score", "final_score"])
    rows = []
    envs: Iterable[str] = [*dict.fromkeys(known["env"]), "all"]
    for env in envs:
        for variant in (routing.name for routing in results.suite.routings):
            mine = known[(known["variant"] == variant) & ((known["env"] == env) | (env == "all"))]
            if mine.empty:
                continue
            d = mine["final_score"] - mine["untrained_score"]
            lo, hi = paired_t_interval(d)
            word = "yes" if lo > 0 else "worse" if hi < 0 else "not clear"
            means = (mine["untrained_score"].mean(), mine["final_score"].mean(), d.mean(), lo, hi)
            rows.append((env, variant, len(d), *means, word if len(d) > 1 else "unknown"))
    columns = ["env", "variant", "n", "untrained", "final", "difference", "lo", "hi", "learned"]
    return pd.DataFrame(rows, columns=columns)


def _delta(measure: Measure, deltas: Deltas, before: pd.Series, after: pd.Series) -> float:
    """The smallest effect of interest on the measure's scale.

    A relative reduction of an error by r is -ln(1 - r). That of the oscillation is r times the mean
    over both variants' cells, in points: an oscillation can be 0, so it has no logarithm.
    """
    stated = float(getattr(deltas, measure.delta))
    if measure.scale == "ln ratio":
        return -math.log1p(-stated) if stated < 1 else math.inf
    if measure.delta == "stability":
        return stated * float(pd.concat([before, after]).mean()) if len(before) else math.nan
    return stated


def _mean_of(side: str, values: pd.Series, scale: Scale) -> dict[str, object]:
    lo, hi = paired_t_interval(values)
    mean = float(values.mean()) if len(values) else math.nan
    if scale == "ln ratio":
        mean, lo, hi = math.exp(mean), math.exp(lo), math.exp(hi)
    return {f"{side}_mean": mean, f"{side}_lo": lo, f"{side}_hi": hi}


def _aspect(row: int) -> dict[str, object]:
    aspect = ASPECTS[row - 1]
    return {
        "row": row,
        "aspect": aspect.name,
        "aspect_en": aspect.name_en,
        "impact": aspect.impact,
    }
