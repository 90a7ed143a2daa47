"""All verdicts at a glance: each effect in units of its delta, one row a claim and environment."""

from __future__ import annotations

import math

import pandas as pd

from benchbench.analysis.brief import ALL, PRIMARY

DIRECTIONS = {measure.name: measure.direction for each in PRIMARY.values() for measure in each}

COLUMNS = ("claim", "measure", "env", "effect", "lo", "hi", "verdict", "label", "n_pairs",
           "pairs_for_delta")  # fmt: skip


def overview(claims: pd.DataFrame) -> pd.DataFrame:
    """The tested claims of one contrast, as :func:`~benchbench.analysis.claims.judge` has them.

    ``effect, lo, hi`` are in units of delta. Where the contrast has expectations they are turned so
    that the claimed direction is positive; else positive is more of the measure. Rows are by claim,
    the mean over the environments (``env`` 'all') first. Without a pair a row's effect is NaN.
    """
    tested = claims[(claims["row"] > 1) & (claims["verdict"] != "not tested")]
    rows = []
    for claim in dict.fromkeys(tested["claim"]):
        for _, part in tested[tested["claim"] == claim].iterrows():
            turn = DIRECTIONS[part["measure"]] if part["claimed"] else 1
            unit = part["delta"] if part["delta"] > 0 else math.nan
            ends = sorted(turn * part[end] / unit for end in ("lo", "hi"))
            rows.append({
                **{name: part[name] for name in COLUMNS if name in part.index},
                "effect": turn * part["difference"] / unit, "lo": ends[0], "hi": ends[1],
            })  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def still_open(claims: pd.DataFrame) -> pd.DataFrame:
    """What each claim takes that is not decided over all: one row a claim.

    ``claim, measure, env_least, least, env_most, most``: the environments in which an effect of
    delta takes the fewest and the most pairs, at the spread seen, and those pairs; ``there`` is how
    many the first one has. Claims whose spread is not known are left out.
    """
    over = claims[(claims["env"] == ALL) & claims["verdict"].isin(("inconclusive",))]
    rows = []
    for _, part in over[over["row"] > 1].iterrows():
        mine = claims[(claims["claim"] == part["claim"]) & claims["pairs_for_delta"].notna()]
        if mine.empty:
            continue
        least = mine.loc[mine["pairs_for_delta"].idxmin()]
        most = mine.loc[mine["pairs_for_delta"].idxmax()]
        rows.append((part["claim"], part["measure"], least["env"], least["pairs_for_delta"],
                     most["env"], most["pairs_for_delta"], int(least["n_pairs"])))  # fmt: skip
    names = ["claim", "measure", "env_least", "least", "env_most", "most", "there"]
    return pd.DataFrame(rows, columns=names)
