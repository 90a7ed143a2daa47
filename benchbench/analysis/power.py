"""Power: the effect that a number of pairs can show, and the pairs that an effect takes.

An effect is **shown** when its interval excludes zero and its sign-flip p passes, both at the
member's level, ``alpha``; power is the chance of that where D is normal. Effects are in standard
deviations of D here. Below 60 pairs the intervals of fixed normal samples are taken as the report
takes them, bootstrap and all, and below 20 the sign-flip test's few possible values count too; from
60 on it is the noncentral t.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from benchbench.core.inference import caution, mean_interval
from benchbench.core.statistics import pairs_needed

POWER = 0.8
"""The chance of showing an effect that a design is planned for."""

NORMAL_FROM, FLIPS_BELOW = 60, 20
"""Pairs from which on the noncentral t is near enough, and below which sign flips are coarse."""

_DRAWS = 600
_MOST_PATTERNS = 8_192
MOST_PAIRS = 1_000_000
"""Where the search for the pairs needed ends."""


def power(effect: float, pairs: int, alpha: float) -> float:
    """The chance that ``pairs`` show an effect (in standard deviations of D) at level ``alpha``."""
    if pairs < max(3, pairs_needed(1, alpha)):
        return 0.0
    if pairs >= NORMAL_FROM:
        return _t_power(effect, pairs, alpha)
    return _simulated(effect, pairs, alpha)


@lru_cache(maxsize=4096)
def smallest_effect(pairs: int, alpha: float) -> float:
    """The effect that ``pairs`` show with 80 % power; infinite where they can show none."""
    if pairs < max(3, pairs_needed(1, alpha)):
        return math.inf
    top = 1.0
    while power(top, pairs, alpha) < POWER:
        top *= 1.5
    return float(optimize.bisect(lambda e: power(e, pairs, alpha) - POWER, 0.0, top, xtol=2e-3))


def pairs_for(effect: float, alpha: float) -> float:
    """The fewest pairs that show an effect with 80 % power; infinite above a million."""
    if not effect > 0:
        return math.inf
    low = max(3, pairs_needed(1, alpha))
    if power(effect, low, alpha) >= POWER:
        return float(low)
    high = low
    while power(effect, high, alpha) < POWER:
        low, high = high, 2 * high
        if high > MOST_PAIRS:
            return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, alpha) >= POWER else (middle, high)
    return float(high)


def _t_power(effect: float, pairs: int, alpha: float) -> float:
    df, shift = pairs - 1, abs(effect) * math.sqrt(pairs)
    bound = float(stats.t.isf(alpha / 2, df)) * caution(pairs)
    if shift > 30:
        return 1.0
    below = float(stats.nct.cdf(-bound, df, shift))  # NaN where it is too small to be told from 0
    return float(stats.nct.sf(bound, df, shift)) + (below if math.isfinite(below) else 0.0)


Floats = NDArray[np.float64]


@lru_cache(maxsize=256)
def _intervals(pairs: int, alpha: float) -> tuple[Floats, Floats]:
    """Ends of the fixed samples' intervals; an effect moves both by itself."""
    low, high, _ = mean_interval([_samples(pairs)], 1 - alpha)
    return low, high


def _samples(pairs: int) -> Floats:
    return np.random.default_rng(0).normal(size=(pairs, _DRAWS))


@lru_cache(maxsize=16)
def _flips(pairs: int) -> tuple[Floats, Floats]:
    """Sums of sign patterns, and of the fixed samples under each."""
    if 2 ** (pairs - 1) <= _MOST_PATTERNS:
        bits = np.arange(2 ** (pairs - 1))[:, None] >> np.arange(pairs) & 1
        signs = 1.0 - 2.0 * bits
    else:
        signs = np.random.default_rng(1).choice((-1.0, 1.0), size=(_MOST_PATTERNS, pairs))
    return signs.sum(axis=1), signs @ _samples(pairs)


@lru_cache(maxsize=4096)
def _simulated(effect: float, pairs: int, alpha: float) -> float:
    low, high = _intervals(pairs, alpha)
    clear = np.flatnonzero((low + effect > 0) | (high + effect < 0))
    if pairs >= FLIPS_BELOW:
        return len(clear) / _DRAWS
    ones, sums = _flips(pairs)
    observed = np.abs(_samples(pairs)[:, clear].sum(axis=0) + pairs * effect)
    flipped = np.abs(ones[:, None] * effect + sums[:, clear])
    p = np.mean(flipped >= observed * (1 - 1e-9), axis=0)
    return float(np.sum(p <= alpha)) / _DRAWS


COLUMNS = ("of", "against", "env", "claim", "measure", "unit", "scale", "n_pairs", "spread",
           "smallest", "delta", "pairs_for_delta", "hours_for_delta")  # fmt: skip
"""Columns of :func:`power_table`: ``smallest`` is for ``n_pairs``, the pairs that are planned."""


def power_table(
    claims: pd.DataFrame,
    hours_per_pair: dict[tuple[str, str, str], float],
    planned: int,
    alpha: float,
) -> pd.DataFrame:
    """What ``planned`` pairs an environment can show, from the spreads of judged claims.

    ``claims`` is :func:`benchbench.analysis.claims.judge`'s frame, of this suite or of a pilot;
    ``hours_per_pair`` what a pair of (of, against, env) takes; ``alpha`` the level of one member of
    the planned family. One row a contrast, environment and tested claim whose spread is known.
    """
    rows = []
    known = claims[claims["spread"].notna() & (claims["verdict"] != "not tested")]
    for _, part in known.iterrows():
        spread, delta = float(part["spread"]), float(part["delta"])
        pairs = pairs_for(delta / spread, alpha) if spread > 0 else math.nan
        hours = hours_per_pair.get((part["of"], part["against"], part["env"]), math.nan)
        rows.append({
            **{name: part[name] for name in COLUMNS[:7]}, "n_pairs": planned, "spread": spread,
            "smallest": spread * smallest_effect(planned, alpha), "delta": delta,
            "pairs_for_delta": pairs, "hours_for_delta": pairs * hours,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))
