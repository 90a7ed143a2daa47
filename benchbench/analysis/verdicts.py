"""Verdicts: from an interval, a p-value and a smallest effect of interest to a word; an overview.

With D turned so that the claim is positive, δ the smallest effect of interest, and an interval that
holds together with all others of its family:

- *supported*: the interval lies above δ, and p is small enough;
- *opposite*: it lies below −δ, and p is small enough;
- *negligible*: it lies within ±δ, which is both one-sided equivalence tests at once (Schuirmann
  1987). For scores, their areas and their steadiness 30 pairs are needed too: a failure that one
  seed in ten meets may be in none of ten pairs;
- *shown, size open*: it excludes zero and p is small enough, but δ lies within it;
- *inconclusive*: anything else, and where the control stands so near the most that could be
  reached that δ has no room;
- *not measured*: there is no pair; *not tested*: the suite names other claims as its own.

A contrast without expectations has *higher* and *lower* in the place of the first two.
"""

from __future__ import annotations

import math

import pandas as pd

from benchbench.analysis.brief import ALL, PRIMARY
from benchbench.core.statistics import Interval
from benchbench.core.text import percent

PAIRS_FOR_RARE = 30
"""The fewest pairs with which a score's difference may be called negligible."""

DECIDED = ("supported", "opposite", "higher", "lower", "negligible", "shown, size open")
"""Verdicts after which no more seeds are needed."""

ORDER = ("opposite", "negligible", "not measured", "inconclusive", "lower", "higher",
         "shown, size open", "supported", "not tested")  # fmt: skip
"""Of a row's parts, the one that stands for the row: supported only where every part is."""


def verdict(
    interval: Interval,
    delta: float,
    significant: bool,
    n_pairs: int,
    needed: int,
    room: float = math.inf,
    rare: bool = False,
) -> tuple[str, str]:
    """The verdict of one part and its label ('' where it has none); see the module's rules.

    ``interval`` is of the effect turned so that the claim is positive, ``room`` the most that it
    could be, ``needed`` the fewest pairs with which the sign-flip test could pass. ``rare`` says
    that seeds may fail altogether.
    """
    lo, hi = interval
    if n_pairs == 0:
        return ("not measured", "")
    if n_pairs < needed:
        pairs = f"{n_pairs} {'pair' if n_pairs == 1 else 'pairs'}"
        return ("inconclusive", f"{pairs}; {needed} needed")
    if lo > delta and significant:
        return ("supported", "")
    if hi < -delta and significant:
        return ("opposite", "")
    if room <= delta:
        return ("inconclusive", "no room for an effect of delta")
    if -delta <= lo and hi <= delta:
        if rare and n_pairs < PAIRS_FOR_RARE:
            unseen = unseen_rate(n_pairs)
            return ("inconclusive", f"within delta; {PAIRS_FOR_RARE} pairs needed, as up to "
                    f"{percent(unseen)} of seeds may fail unseen")  # fmt: skip
        return ("negligible", "")
    if (lo > 0 or hi < 0) and significant:
        return ("shown, size open", "as claimed" if lo > 0 else "against the claim")
    if hi <= delta:
        return ("inconclusive", "the claimed effect of delta is ruled out")
    return ("inconclusive", "")


def without_expectation(word: str, label: str, sign: int) -> tuple[str, str]:
    """A verdict of a contrast that claims nothing; ``sign`` is what ``verdict`` was turned by."""
    up, down = ("higher", "lower") if sign > 0 else ("lower", "higher")
    words = {"supported": up, "opposite": down}
    labels = {"as claimed": up, "against the claim": down,
              "the claimed effect of delta is ruled out": ""}  # fmt: skip
    return words.get(word, word), labels.get(label, label)


def unseen_rate(n_pairs: int) -> float:
    """The largest failure rate at which, in 5 % of cases, none is seen in ``n_pairs`` pairs."""
    return 1 - 0.05 ** (1 / n_pairs) if n_pairs else 1.0


def row_verdict(parts: pd.DataFrame) -> tuple[str, str]:
    """The verdict of a whole row of the brief from its parts: supported only when every part is."""
    words = parts["verdict"].to_list()
    decisive = next(word for word in ORDER if word in words)
    labels = parts.loc[parts["verdict"] == decisive, "label"]
    return (decisive, "; ".join(dict.fromkeys(label for label in labels if label)))


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
