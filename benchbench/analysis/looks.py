"""Looks at a suite whose seeds are added until its claims are decided: go on or stop, and why.

``seeds: {start, most, look_every}`` fixes the looks and the spending of the error beforehand
(:mod:`benchbench.core.inference`). :func:`decide` says after a look whether more seeds are to be
run; it reads tables only, so that every executor, and a run that goes on another day, decides
alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from scipy import stats

from benchbench.analysis.brief import ALL
from benchbench.analysis.claims import families, judge, judge_by_look
from benchbench.analysis.pairing import Study, pair
from benchbench.analysis.verdicts import DECIDED, PAIRS_FOR_RARE
from benchbench.core.inference import caution
from benchbench.results.tables import Results
from benchbench.suite.model import SeedPlan

FUTILE = 0.05
"""A claim with a smaller chance of a verdict by the last look is not waited for."""

Action = Literal["go on", "decided", "cannot help", "used up"]


@dataclass(frozen=True)
class Look:
    """What a look found, and how many seeds the suite is to have next."""

    seeds: int
    """Seeds that were looked at."""
    action: Action
    next_seeds: int
    """Seeds to have finished before the next look; ``seeds`` where the run ends."""
    waiting: tuple[str, ...]
    """Claims that are open and not hopeless: 'environment: measure'."""

    @property
    def told(self) -> str:
        """The look in a sentence, for people."""
        rest = f"{len(self.waiting)} open"
        return {
            "go on": f"look at {self.seeds} seeds: {rest}; going on to {self.next_seeds}",
            "decided": f"look at {self.seeds} seeds: every claim is decided",
            "cannot help": f"look at {self.seeds} seeds: more seeds would hardly decide what is "
            "open, so none are run",
            "used up": f"look at {self.seeds} seeds, the last one planned: {rest}",
        }[self.action]


def first_look(plan: SeedPlan) -> int:
    """Seeds to run before anything is looked at."""
    return plan.looks[0]


def decide(results: Results) -> Look:
    """What to do after the look that the finished seeds make.

    A look counts when every cell of its seeds is done or has failed for good; the caller runs those
    first. Raises ``ValueError`` for a suite without planned looks.
    """
    plan = results.suite.seeds
    if not isinstance(plan, SeedPlan):
        raise ValueError("the suite has no planned looks")
    study = pair(results)
    planned = study.results.plan["seed"]
    seeds = 0 if planned.empty else int(planned.max()) + 1
    look = plan.looks.index(seeds)
    frame = open_claims(study, judge(study))
    hopes = [_chance(study, part, look) for _, part in frame.iterrows()]
    waiting = tuple(
        f"{part['env']}: {part['measure']}"
        for (_, part), hope in zip(frame.iterrows(), hopes, strict=True)
        if hope >= FUTILE
    )
    if frame.empty:
        return Look(seeds, "decided", seeds, ())
    if look == len(plan.looks) - 1:
        still = tuple(f"{part['env']}: {part['measure']}" for _, part in frame.iterrows())
        return Look(seeds, "used up", seeds, still)
    if not waiting:
        return Look(seeds, "cannot help", seeds, ())
    return Look(seeds, "go on", plan.looks[look + 1], waiting)


def open_claims(study: Study, claims: pd.DataFrame) -> pd.DataFrame:
    """The rows that a plan waits for: each environment's tested claims that are not decided."""
    several = len(study.envs) > 1
    waited = (claims["env"] != ALL) if several else (claims["env"] == ALL)
    tested = (claims["row"] > 1) & (claims["verdict"] != "not tested")
    return claims[waited & tested & ~claims["verdict"].isin(DECIDED)]


def look_table(study: Study) -> pd.DataFrame:
    """One row a look that was made: ``seeds, level, decided, open``; none without a plan.

    ``level`` is that of each environment's intervals; ``decided`` and ``open`` count the claims
    that are waited for.
    """
    columns = ["seeds", "level", "decided", "open"]
    plan = study.results.suite.seeds
    rows = []
    if isinstance(plan, SeedPlan) and not study.results.plan.empty:
        last = int(study.results.plan["seed"].max()) + 1
        for look, (seeds, frame) in enumerate(judge_by_look(study)):
            if seeds > last:
                break
            left = len(open_claims(study, frame))
            several = len(study.envs) > 1
            mine = frame[(frame["row"] > 1) & (frame["verdict"] != "not tested")]
            waited = int(((mine["env"] != ALL) if several else (mine["env"] == ALL)).sum())
            control = study.pairings[0].contrast.against
            level = families(study, control, look)[1 if several else 0].level
            rows.append((seeds, level, waited - left, left))
    return pd.DataFrame(rows, columns=columns)


def _chance(study: Study, part: pd.Series, look: int) -> float:
    """The chance that an open claim is decided at the last look, from what is seen so far.

    The mean of the pairs to come is taken to scatter about the mean of those that are there.
    """
    plan = study.results.suite.seeds
    assert isinstance(plan, SeedPlan)
    pairs, spread = int(part["n_pairs"]), float(part["spread"])
    if pairs == 0 or str(part["label"]).startswith("no room"):
        return 0.0
    if not math.isfinite(spread):  # two pairs tell nothing yet
        return 1.0
    last = max(pairs + 1, round(pairs * plan.most / plan.looks[look]))
    family = families(study, str(part["against"]), len(plan.looks) - 1)
    alpha = family[1 if part["env"] != ALL else 0].alpha
    half = float(stats.t.isf(alpha / 2, last - 1)) * caution(last) * spread / math.sqrt(last)
    mean = float(part["difference"])
    scatter = max(spread * math.sqrt(1 / pairs - 1 / last), 1e-12 * max(abs(mean), 1.0))

    def below(bound: float) -> float:
        return float(stats.norm.cdf((bound - mean) / scatter))

    shown = 1 - below(half) + below(-half)
    inside = float(part["delta"]) - half
    rare = str(part["claim"]) in ("area", "score", "stability")
    may_be_negligible = inside > 0 and (not rare or last >= PAIRS_FOR_RARE)
    return shown + (below(inside) - below(-inside) if may_be_negligible else 0.0)
