"""Whether the claims hang together as the brief says: better features, better Q, better policy.

Over pairs: where a variant's features gained more, did its Q, and did its score? Ranks are taken
within each stratum, so that tasks and conditions that differ as a whole make no correlation. A
correlation of differences is what a chain would leave behind, and no proof of one: a third thing
may move both, and noise in a measure hides it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchbench.analysis.claims import chosen
from benchbench.analysis.pairing import Pairing

LINKS = (("state", "q"), ("q", "score"), ("state", "score"))
"""The chain's links, by claim: from, to."""

LEAST = 9
"""Pairs below which no correlation is reported, as below which no claim is judged."""

_DRAWS = 9_999


def chain(pairing: Pairing) -> pd.DataFrame:
    """``env, seed`` and a column a claim: each pair's difference, of the pairs that have them all.

    Errors of Q are logarithms of ratios. Empty where one of the measures is nowhere finite.
    """
    measures = {claim: measure for claim, measure, _ in chosen(pairing)}
    columns = {}
    for claim in dict.fromkeys(claim for link in LINKS for claim in link):
        of, against, _ = pairing.sides(measures[claim].column, measures[claim].scale)
        columns[claim] = of - against
    return pd.DataFrame(columns).dropna().reset_index()


def correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a link: ``cause, effect, pairs, rho, p``, from what :func:`chain` returns.

    ``rho`` is Spearman's, of ranks within ``env``; ``p`` is two-sided, by permutation within
    ``env``. Without :data:`LEAST` pairs, or where a column never varies, both are NaN.
    """
    rows = []
    for cause, effect in LINKS:
        rho, p = _within(frame[cause], frame[effect], frame["env"])
        rows.append({"cause": cause, "effect": effect, "pairs": len(frame), "rho": rho, "p": p})
    return pd.DataFrame(rows)


def _within(x: pd.Series, y: pd.Series, env: pd.Series) -> tuple[float, float]:
    ranks = [values.groupby(env).rank() for values in (x, y)]
    a, b = ((r - r.groupby(env).transform("mean")).to_numpy() for r in ranks)
    scale = np.sqrt((a @ a) * (b @ b))
    if len(a) < LEAST or scale == 0:
        return np.nan, np.nan
    rng = np.random.default_rng(0)
    drawn = np.zeros(_DRAWS)
    for one in env.unique():
        place = np.flatnonzero(env.to_numpy() == one)
        mixed = rng.permuted(np.broadcast_to(b[place], (_DRAWS, len(place))), axis=1)
        drawn += mixed @ a[place]
    seen = a @ b
    more = int((np.abs(drawn) >= abs(seen) - 1e-9).sum())
    return float(seen / scale), (more + 1) / (_DRAWS + 1)
