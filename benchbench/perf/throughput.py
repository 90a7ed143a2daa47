"""Is the new version slower? Updates a second of two versions, timed side by side.

A **pair** is a round: a fresh process of each version, timed in alternation at the same number of
updates. Each two neighbouring turns, one of each side, give ln(new speed / old speed), and D is the
round's median of them. The estimate is the median of D over the rounds. Its interval is the exact,
distribution-free one between two order statistics (Conover 1999, section 3.2), at Bonferroni's
level over the rows (an environment and variant each), so that all hold at 95 % together. A mean and
Student's interval would be at the mercy of single rounds: of one version against itself on a shared
machine of two cores, 3 of 16 rounds held blocks several times too long.

**Sign**: *worse* where the interval lies wholly under :data:`SLOWEST` (ratio 0.95), and then again
in a second measurement from fresh processes; *better* wholly over its inverse; *no change* wholly
over :data:`SLOWEST`; *undecided* (warns) otherwise, and where only the first measurement was slow.
Unchanged code would have to be 5 % slower by chance, beyond doubt, twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from scipy import stats

from benchbench.core.statistics import pairs_needed, simultaneous_level
from benchbench.gate.compare import COLUMNS, Decision, decide

SLOWEST = math.log(0.95)
"""A speed under 0.95 of the old one is a regression."""

LEVEL = 0.95
"""All intervals of a measurement hold together with this probability."""

Work = tuple[str, str]
"""An environment and a variant."""

Measure = Callable[[Sequence[Work]], pd.DataFrame]


def gate_throughput(
    identities: tuple[dict[str, Any], dict[str, Any]], works: Sequence[Work], measure: Measure
) -> tuple[pd.DataFrame, pd.DataFrame, Decision]:
    """The table, the keys and the decision, as :func:`benchbench.gate.gate` gives them.

    ``measure`` returns the blocks of what it is asked to time: ``round, turn, env, variant, side,
    updates, seconds``. It is called again with what was slow, and not at all where the keys differ.
    """
    keys = throughput_keys(*identities)
    if not keys["equal"].all():
        table = pd.DataFrame(columns=list(COLUMNS))
        return table, keys, decide(table, keys)
    table = judge(measure(works), len(works))
    slow = table[table["sign"] == "worse"]
    if len(slow):
        named = set(zip(slow["env"], slow["variant"], strict=True))
        again = judge(measure([work for work in works if work in named]), len(works))
        rows = [_confirmed(one, again) for _, one in table.iterrows()]
        table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table, keys, decide(table, keys)


def judge(blocks: pd.DataFrame, members: int) -> pd.DataFrame:
    """One row an environment and variant, from one measurement; ``members`` share the level."""
    level, needed = simultaneous_level(members, 1 - LEVEL), pairs_needed(members, 1 - LEVEL)
    rows = []
    for (env, variant), mine in blocks.groupby(["env", "variant"], sort=False):
        turns = mine.assign(speed=mine["updates"] / mine["seconds"], pair=mine["turn"] // 2)
        speed = turns.pivot(index=["round", "pair"], columns="side", values="speed")
        d = (speed["new"] / speed["old"]).map(math.log).groupby("round").median()
        found = stats.quantile_test(d, q=0.0, p=0.5).confidence_interval(level)
        few = len(d) < needed
        middle = float(d.median())
        note = _ratio(found.low, found.high, middle)
        if few:
            note = f"{len(d)} rounds; {needed} needed"
        rows.append({
            "env": env, "variant": variant, "series": "updates_per_s", "unit": "1/s",
            "scale": "ln ratio", "n_pairs": len(d), "baseline": float(speed["old"].median()),
            "candidate": float(speed["new"].median()), "difference": middle, "lo": found.low,
            "hi": found.high, "level": level, "margin": SLOWEST,
            "sign": "undecided" if few else _sign(found.low, found.high),
            "note": note,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def throughput_keys(old: dict[str, Any], new: dict[str, Any]) -> pd.DataFrame:
    """What has to be the same on both sides for a difference to be the code's."""
    pairs = [
        ("device", old["device_name"], new["device_name"]),
        ("torch", old["versions"]["torch"], new["versions"]["torch"]),
    ]
    rows = [(part, one, other, one == other) for part, one, other in pairs]
    return pd.DataFrame(rows, columns=["part", "baseline", "candidate", "equal"])


def _sign(lo: float, hi: float) -> str:
    if hi < SLOWEST:
        return "worse"
    if lo > -SLOWEST:
        return "better"
    return "no change" if lo > SLOWEST else "undecided"


def _confirmed(first: pd.Series, again: pd.DataFrame) -> pd.Series:
    """The row of the second measurement where there is one, with what the first one found."""
    same = again[(again["env"] == first["env"]) & (again["variant"] == first["variant"])]
    if same.empty:
        return first
    row = same.iloc[0].copy()
    found = str(first["note"])
    if row["sign"] == "worse":
        row["note"] = f"{row['note']}; a first time {found}"
    else:
        row["sign"] = "undecided"
        row["note"] = f"{row['note']}; slower only a first time, {found}"
    return row


def _ratio(lo: float, hi: float, middle: float) -> str:
    return f"ratio {math.exp(middle):.3f} [{math.exp(lo):.3f}, {math.exp(hi):.3f}]"
