"""The brief's seven claims, judged: results in, one row a claim part out.

A **pair** is an (env, seed) with a finished ``before`` and ``after``, evaluated at the same
updates, whose values are both finite; D = after - before, or ln(after / before) where the measure
is an error. Every pair that is left out is counted in the row's note.

The **family** has seven members, fixed in advance: the primary measures of rows 2 to 7, row 2
having two. Row 1 is exact and needs no test. A member that could not be measured stays in it with
p = 1, so the number of pairs that a claim needs (nine) does not depend on what else was measured.
A member may have a fall-back; :func:`choose` takes one measure for the whole table.

**Verdict** of a part, with D turned so that the brief's claim is positive, delta the smallest
effect of interest and the interval at
:func:`~benchbench.core.statistics.simultaneous_level`:

- *supported*: the interval lies above delta, and the Holm-adjusted sign-flip p is at most 0.05;
- *refuted*: the interval lies below delta; with the label *opposite* where it lies below -delta too
  and the same is true of p, *negligible* where it lies within ±delta (nothing is asked of p then,
  which tests zero), and none where it is open which of the two;
- *inconclusive*: otherwise, always with fewer than nine pairs, and where ``before`` stands so near
  the most that could be reached that an effect of delta has no room: "not more than delta" was
  certain before the run then, and says nothing of the claim;
- *not measured*: there is no pair.

The interval decides how large the effect is; the p-value, which assumes no normality, guards the
interval against a handful of odd pairs. A row of several parts is supported when every part is,
and refuted when one is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from benchbench.analysis.brief import COLUMNS, PRIMARY, Measure, Scale, aspect_columns
from benchbench.analysis.gradient_flow import judge_flow
from benchbench.analysis.pairing import Pairing
from benchbench.core.statistics import (
    Interval,
    holm,
    paired_t_interval,
    pairs_needed,
    sign_flip_p,
    simultaneous_level,
)
from benchbench.results.tables import Results
from benchbench.suite.model import Deltas

ALPHA = 0.05
"""Chance, over the whole family, of a verdict that is wrong."""

FAMILY = len(PRIMARY)
PAIRS_NEEDED = pairs_needed(FAMILY, ALPHA)
"""Nine: with eight pairs the smallest possible p is 2/2⁸, and seven times that is above 0.05."""

LEVEL = simultaneous_level(FAMILY, ALPHA)


def judge(pairing: Pairing) -> pd.DataFrame:
    """One row a claim part, in the order of the brief's table; columns as in :data:`COLUMNS`.

    ``before_lo`` to ``after_hi`` are 95 % intervals of each variant's own mean; ``lo`` and ``hi``
    bound ``difference`` at ``level``, on ``scale``.
    """
    rows, rooms = [judge_flow(pairing.results)], [math.inf]
    for measure, instead in chosen(pairing):
        row = estimate(measure, pairing, LEVEL)
        rooms.append(room(measure, pairing))
        rows.append(row | {"note": "; ".join(filter(None, (instead, str(row["note"]))))})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    tested = frame["row"] > 1
    p = frame.loc[tested, "p"]
    frame.loc[tested, "p_holm"] = np.where(p.isna(), np.nan, holm(p.fillna(1.0)))
    for i in frame.index[tested]:
        part = frame.loc[i]
        sign = 1 if part["claimed"] == "higher" else -1
        ends = sorted((sign * part["lo"], sign * part["hi"]))
        frame.loc[i, ["verdict", "label"]] = verdict(
            (ends[0], ends[1]), part["delta"], part["p_holm"], part["n_pairs"], rooms[i]
        )
    return frame


def chosen(pairing: Pairing) -> list[tuple[Measure, str]]:
    """The family's measures as this table is judged by them, each with why it stands in, or ''."""
    return [choose(candidates, pairing) for candidates in PRIMARY]


def choose(candidates: Sequence[Measure], pairing: Pairing) -> tuple[Measure, str]:
    """The first candidate, or the second where a pair has that and lacks the first.

    One measure for all pairs: a mean over two different measures would be neither.
    """
    full, *rest = candidates
    for fallback in rest:
        have = pairing.sides(full.column, full.scale)[0].index
        could = pairing.sides(fallback.column, fallback.scale)[0].index
        lacking = could.difference(have)
        if len(lacking):
            why = f"{len(lacking)} of {len(could)} pairs lack {full.needs}"
            return fallback, f"in place of {full.name.partition(',')[0]}, since {why}"
    return full, ""


def room(measure: Measure, pairing: Pairing) -> float:
    """The largest effect that the claim could have, a mean over the pairs; infinite if not known.

    How far the most that could be reached lies above ``before``.
    """
    if not measure.most:
        return math.inf
    before, _, _ = pairing.sides(measure.column)
    left = (pairing.of_before(measure.most, before.index) - before).mean()
    return float(left) if math.isfinite(left) else math.inf


def verdict(
    interval: Interval, delta: float, p_holm: float, n_pairs: int, room: float = math.inf
) -> tuple[str, str]:
    """The verdict of one part and its label ('' where it has none); see the module's rules.

    ``interval`` is of the effect turned so that the claim is positive, ``room`` the most that it
    could be.
    """
    lo, hi = interval
    if n_pairs == 0:
        return ("not measured", "")
    if n_pairs < PAIRS_NEEDED:
        return (
            "inconclusive",
            f"{n_pairs} {'pair' if n_pairs == 1 else 'pairs'}; {PAIRS_NEEDED} needed",
        )
    clear_of_zero = p_holm <= ALPHA
    if lo > delta and clear_of_zero:
        return ("supported", "")
    if hi < -delta and clear_of_zero:
        return ("refuted", "opposite")
    if room <= delta:
        return ("inconclusive", "no room for an effect of delta")
    if hi <= delta:
        return ("refuted", "negligible" if lo >= -delta else "")
    return ("inconclusive", "")


def row_verdict(parts: pd.DataFrame) -> tuple[str, str]:
    """The verdict of a whole row of the brief from its parts: supported only when every part is."""
    words = parts["verdict"].to_list()
    decisive = next(
        word for word in ("refuted", "not measured", "inconclusive", "supported") if word in words
    )
    labels = parts.loc[parts["verdict"] == decisive, "label"]
    return (decisive, "; ".join(dict.fromkeys(label for label in labels if label)))


def estimate(measure: Measure, pairing: Pairing, level: float) -> dict[str, object]:
    """One measure over all pairs: means, difference, intervals and p; not yet judged."""
    before, after, note = pairing.sides(measure.column, measure.scale)
    d = after - before
    lo, hi = paired_t_interval(d, level)
    return {
        **aspect_columns(measure.row),
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
        "delta": _delta(measure, pairing.results.suite.deltas, before, after),
        "verdict": "",
        "label": "",
        "note": note,
    }


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

    A relative reduction of an error by r is -ln(1 - r). The oscillation is judged by its variance,
    which can be 0 and so has no logarithm: variants that differ by r around an oscillation of m
    have variances that differ by (m + rm/2)² - (m - rm/2)² = 2rm², m² being the mean over both.
    """
    stated = float(getattr(deltas, measure.delta))
    if measure.scale == "ln ratio":
        return -math.log1p(-stated) if stated < 1 else math.inf
    if measure.delta == "stability":
        variance = float(pd.concat([before, after]).mean()) if len(before) else math.nan
        return 2 * stated * max(variance, 0.0)
    return stated


def _mean_of(side: str, values: pd.Series, scale: Scale) -> dict[str, object]:
    lo, hi = paired_t_interval(values)
    mean = float(values.mean()) if len(values) else math.nan
    if scale == "ln ratio":
        mean, lo, hi = math.exp(mean), math.exp(lo), math.exp(hi)
    return {f"{side}_mean": mean, f"{side}_lo": lo, f"{side}_hi": hi}
