"""The claims, judged: a study in, one row a contrast, claim and environment out.

A **pair** is an (env, seed) with both variants finished, evaluated at the same updates, whose
values are both finite; D = of - against, or ln(of / against) where the measure is an error. Every
pair that is left out is counted in the row's note.

**Strata.** An environment may stand in a suite several times, under names or conditions. Each is
an environment of its own below; in the mean over all, a seed counts once an environment id.

**Families.** Each environment has its own verdicts: one family over claims × environments. The mean
over these environments, each counting alike, is a family over the claims. Contrasts with one
control share a family. A member that could not be measured stays in it with p = 1, so what a claim
needs does not depend on what else was measured. A claim may have a fall-back measure;
:func:`choose` takes one for the whole table.

**Interval**: :func:`benchbench.core.inference.mean_interval` at 1 - alpha / members, so that those
of a family hold together. **Test**: sign flips, adjusted by Holm; with looks planned beforehand,
at the level that the look may spend. The words are those of :mod:`benchbench.analysis.verdicts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchbench.analysis.brief import (
    ALL,
    ASPECTS,
    COLUMNS,
    PRIMARY,
    Measure,
    Scale,
    aspect_columns,
)
from benchbench.analysis.gradient_flow import judge_flow
from benchbench.analysis.pairing import Pairing, Study
from benchbench.analysis.power import pairs_for, smallest_effect
from benchbench.analysis.verdicts import DECIDED, verdict, without_expectation
from benchbench.core.inference import (
    heterogeneity,
    mean_interval,
    nominal_levels,
    random_effects_interval,
    sign_flip,
)
from benchbench.core.statistics import holm, paired_t_interval, pairs_needed
from benchbench.suite.model import Deltas, SeedPlan

ALPHA = 0.05
"""Chance, over a whole family, of a verdict that is wrong."""


@dataclass(frozen=True)
class Family:
    """The error level of a family's member: at this look, and in all."""

    members: int
    alpha: float
    """Two-sided error of one member at this look."""

    @property
    def level(self) -> float:
        """Of a member's interval."""
        return 1 - self.alpha

    @property
    def needed(self) -> int:
        """The fewest pairs with which a sign-flip test could pass."""
        return pairs_needed(1, self.alpha)


def families(study: Study, control: str, look: int | None = None) -> tuple[Family, Family]:
    """The family over the claims, and that over claims × environments, of a control's contrasts.

    ``look`` is the index of a planned look.
    """
    suite = study.results.suite
    contrasts = sum(p.contrast.against == control for p in study.pairings)
    claims = max(1, contrasts * len(suite.judged))
    both = []
    for members in (claims, claims * max(1, len(study.envs))):
        alpha = ALPHA / members
        if isinstance(suite.seeds, SeedPlan) and look is not None:
            alpha = nominal_levels(suite.seeds.looks, suite.seeds.spending, alpha)[look]
        both.append(Family(members, alpha))
    return both[0], both[1]


def judge(study: Study) -> pd.DataFrame:
    """One row a contrast, claim and environment; columns as in :data:`~.brief.COLUMNS`.

    ``env`` is 'all' for the mean over the environments; where there are several, rows of each
    follow. ``against_lo`` to ``of_hi`` are 95 % intervals of each variant's own mean; ``lo`` and
    ``hi`` bound ``difference`` at ``level``, on ``scale``, by the method of ``interval``;
    ``claimed`` is 'higher', 'lower' or '' of ``of``. ``spread`` is the standard deviation of D,
    ``smallest`` the effect that these pairs show with 80 % power, ``pairs_for_delta`` the pairs of
    one environment that an effect of delta takes; ``f`` and ``p_f`` ask whether the environments
    differ; ``general_lo`` and ``general_hi`` are for environments in general, from eight on.
    ``seeds`` is the number of seeds that the row rests on. With planned looks each row is of the
    first look that decided it, else of the last.
    """
    if not isinstance(study.results.suite.seeds, SeedPlan):
        return _judged(study, None)
    *_, (_, frame) = judge_by_look(study)
    return frame


def judge_by_look(study: Study) -> Iterator[tuple[int, pd.DataFrame]]:
    """What :func:`judge` gives after each planned look that was made, with the look's seeds."""
    seeds = study.results.suite.seeds
    assert isinstance(seeds, SeedPlan)
    frame: pd.DataFrame | None = None
    for look, count in enumerate(seeds.looks):
        if frame is not None and count > _seeds_of(study):
            break
        now = _judged(study.up_to(count), look)
        if frame is not None:
            decided = frame["verdict"].isin(DECIDED)
            now.loc[decided] = frame.loc[decided]
        frame = now
        yield count, frame


def _seeds_of(study: Study) -> int:
    """Seeds of the plan as it is looked at."""
    plans = [p.plan for p in study.pairings] or [study.results.plan]
    return int(plans[0]["seed"].nunique())


def _judged(study: Study, look: int | None) -> pd.DataFrame:
    """The rows at one look; see :func:`judge`."""
    parts = []
    for control in dict.fromkeys(p.contrast.against for p in study.pairings):
        over_claims, over_both = families(study, control, look)
        mine = [p for p in study.pairings if p.contrast.against == control]
        judged = {ALL: over_claims}
        if len(study.envs) > 1:
            judged |= dict.fromkeys(study.envs, over_both)
        rows = [row for pairing in mine for row in _rows(study, pairing, judged)]
        frame = pd.DataFrame(rows)
        for members in ([ALL], study.envs):
            tested = frame["env"].isin(members) & (frame["verdict"] != "not tested")
            tested &= frame["row"] > 1
            p = frame.loc[tested, "p"]
            if look is None:
                adjusted = holm(p.fillna(1.0))
            else:  # what the look may spend, with no steps down
                spent = over_claims if members == [ALL] else over_both
                adjusted = np.minimum(1.0, p.fillna(1.0).to_numpy() * ALPHA / spent.alpha)
            frame.loc[tested, "p_holm"] = np.where(p.isna(), np.nan, adjusted)
        parts.append(_with_verdicts(frame, judged, study.results.suite.judged))
    blank = {"flow": [judge_flow(study.results, p.contrast) for p in study.pairings
                      if p.contrast.expect]}  # fmt: skip
    flow = pd.DataFrame(blank["flow"])
    frame = pd.concat([part for part in (flow, *parts) if not part.empty] or [flow])
    frame = frame.reindex(columns=list(COLUMNS))
    order = [(p.contrast.of, p.contrast.against) for p in study.pairings]
    place = [order.index(pair) for pair in zip(frame["of"], frame["against"], strict=True)]
    envs = [ALL, *study.envs]
    frame = frame.assign(seeds=_seeds_of(study), _c=place, _e=frame["env"].map(envs.index))
    frame = frame.sort_values(["_c", "_e", "row"], kind="stable").drop(columns=["_c", "_e"])
    return frame.reset_index(drop=True)


def _rows(study: Study, pairing: Pairing, judged: dict[str, Family]) -> list[dict[str, object]]:
    """The contrast's rows, not yet judged."""
    rows = []
    for claim, measure, instead in chosen(pairing):
        for env, family in judged.items():
            here = pairing.together() if env == ALL else pairing.alone(env)
            tested = claim in study.results.suite.judged
            in_brief = measure.row <= len(ASPECTS)
            row = estimate(measure, here, study.results.suite.deltas, family.level)
            note = "; ".join(filter(None, (instead, str(row["note"]))))
            d = differences(measure, here)
            rows.append(row | {
                "env": env, "claim": claim, "note": note,
                "verdict": "" if tested else "not tested",
                "claimed": row["claimed"] if pairing.contrast.expect and in_brief else "",
                "_room": room(measure, here), "_rare": measure.rare,
                "_sign": measure.direction,
                **_planned(d, float(str(row["delta"])), family, one=env != ALL or len(judged) == 1),
            })  # fmt: skip
    return rows


def _planned(d: list[np.ndarray], delta: float, family: Family, one: bool) -> dict[str, object]:
    """The spread of one environment's differences, and what it means for the pairs needed."""
    if not one or not d or len(d[0]) < 3:
        return {"spread": math.nan, "smallest": math.nan, "pairs_for_delta": math.nan}
    spread = float(d[0].std(ddof=1))
    return {
        "spread": spread,
        "smallest": spread * smallest_effect(len(d[0]), family.alpha),
        "pairs_for_delta": pairs_for(delta / spread, family.alpha) if spread > 0 else math.nan,
    }


def _with_verdicts(
    frame: pd.DataFrame, judged: dict[str, Family], claims: Sequence[str]
) -> pd.DataFrame:
    for i in frame.index[frame["verdict"] != "not tested"]:
        part = frame.loc[i]
        sign = int(part["_sign"])
        ends = sorted((sign * part["lo"], sign * part["hi"]))
        word, label = verdict(
            (ends[0], ends[1]), part["delta"], bool(part["p_holm"] <= ALPHA), part["n_pairs"],
            judged[part["env"]].needed, part["_room"], part["_rare"],
        )  # fmt: skip
        if not part["claimed"]:
            word, label = without_expectation(word, label, sign)
        frame.loc[i, ["verdict", "label"]] = word, label
    return frame


def chosen(pairing: Pairing) -> list[tuple[str, Measure, str]]:
    """The claims, the measure that judges each, and why it replaces the primary one, or ''."""
    claims = [claim for claim in PRIMARY if claim != "robustness" or pairing.unseen]
    return [(claim, *choose(PRIMARY[claim], pairing)) for claim in claims]


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

    How far the most that could be reached lies above the control.
    """
    if not measure.most:
        return math.inf
    _, against, _ = pairing.sides(measure.column)
    left = (pairing.of_control(measure.most, against.index) - against).mean()
    return float(left) if math.isfinite(left) else math.inf


def differences(measure: Measure, pairing: Pairing) -> list[np.ndarray]:
    """D of each environment, as :mod:`benchbench.core.inference` takes them."""
    of, against, _ = pairing.sides(measure.column, measure.scale)
    return [rows.to_numpy() for _, rows in (of - against).groupby(level="env", sort=False)]


def estimate(measure: Measure, pairing: Pairing, deltas: Deltas, level: float) -> dict[str, object]:
    """One measure over all pairs: means, difference, intervals and p; not yet judged."""
    of, against, note = pairing.sides(measure.column, measure.scale)
    strata = differences(measure, pairing)
    difference, lo, hi, p, method = math.nan, math.nan, math.nan, math.nan, ""
    f, p_f, general = math.nan, math.nan, (math.nan, math.nan)
    if strata:
        ends = mean_interval(strata, level)
        lo, hi = float(ends[0][0]), float(ends[1][0])
        method = "bootstrap-t" if ends[2][0] else "t"
        difference = float(np.mean([d.mean() for d in strata]))
        p = float(sign_flip(strata)[0])
        f, p_f = heterogeneity(strata)
        general = random_effects_interval(strata, level)
    return {
        "of": pairing.contrast.of,
        "against": pairing.contrast.against,
        **aspect_columns(measure.row),
        "measure": measure.name,
        "unit": measure.unit,
        "scale": measure.scale,
        "claimed": "higher" if measure.direction > 0 else "lower",
        "n_pairs": len(of),
        **_mean_of("against", against, measure.scale),
        **_mean_of("of", of, measure.scale),
        "difference": difference,
        "lo": lo,
        "hi": hi,
        "level": level,
        "interval": method,
        "p": p,
        "p_holm": math.nan,
        "f": f,
        "p_f": p_f,
        "general_lo": general[0],
        "general_hi": general[1],
        "delta": delta_of(measure, deltas),
        "verdict": "",
        "label": "",
        "note": note,
    }


def learned(study: Study) -> pd.DataFrame:
    """Whether each variant ended above its untrained self, per environment and over all of them.

    Columns: ``env`` ('all' for the pairs of all environments together), ``variant``, ``n``,
    ``untrained``, ``final``, ``difference`` with its 95 % paired interval ``lo, hi`` (unadjusted),
    ``failed``: the share of seeds that ended less than the suite's delta of the score above their
    untrained selves, and ``learned``: 'yes' (clear above zero), 'worse' (clear below), 'not clear',
    or 'unknown' with fewer than two cells.
    """
    known = study.cells.dropna(subset=["untrained_score", "final_score"])
    suite = study.results.suite
    rows = []
    for env in [*dict.fromkeys(known["env"]), ALL]:
        for variant in (routing.name for routing in suite.routings):
            mine = known[(known["variant"] == variant) & ((known["env"] == env) | (env == ALL))]
            if mine.empty:
                continue
            d = mine["final_score"] - mine["untrained_score"]
            lo, hi = paired_t_interval(d)
            word = "yes" if lo > 0 else "worse" if hi < 0 else "not clear"
            means = (mine["untrained_score"].mean(), mine["final_score"].mean(), d.mean(), lo, hi)
            failed = float((d < suite.deltas.score).mean())
            word = word if len(d) > 1 else "unknown"
            rows.append((env, variant, len(d), *means, failed, word))
    columns = ["env", "variant", "n", "untrained", "final", "difference", "lo", "hi", "failed",
               "learned"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def delta_of(measure: Measure, deltas: Deltas) -> float:
    """The smallest effect of interest on the measure's scale, fixed before the run.

    A relative reduction of an error by r is -ln(1 - r).
    """
    stated = float(getattr(deltas, measure.delta))
    if measure.scale == "ln ratio":
        return -math.log1p(-stated) if stated < 1 else math.inf
    return stated


def _mean_of(side: str, values: pd.Series, scale: Scale) -> dict[str, object]:
    lo, hi = paired_t_interval(values)
    mean = float(values.mean()) if len(values) else math.nan
    if scale == "ln ratio":
        mean, lo, hi = math.exp(mean), math.exp(lo), math.exp(hi)
    return {f"{side}_mean": mean, f"{side}_lo": lo, f"{side}_hi": hi}
