"""How often a table of claims is wrong, on simulated pairs; run by hand.

    python tests/tools/claim_rates.py N   of N tables: false findings, misses

The seven members of the family are normal paired differences with a common correlation. With no
effect at all, and a delta of zero (any other finds less), a *supported* or *opposite* is wrong;
with all effects exactly at delta, an interval that leaves it out is. Beside the intervals that
are used stand those of Holm's step-down levels.

Row 7 is tried alone too, with nothing normal about it: neither variant's policy moves, but the
episodes of one differ twelve times as much, as where one has learned and the other has not.
"""

import sys

import numpy as np
from scipy import stats

from benchbench.analysis.claims import FAMILY, LEVEL, verdict
from benchbench.analysis.measures import change_variance
from benchbench.core.statistics import holm, paired_t_interval, sign_flip_p

DELTA = 0.5
"""Smallest effect of interest, in standard deviations of a difference."""

CORRELATION = 0.5
"""Of any two members, from pair to pair."""


def differences(rng: np.random.Generator, n: int, mean: float) -> np.ndarray:
    """(FAMILY, n) paired differences of standard deviation 1."""
    shared, own = rng.normal(size=(1, n)), rng.normal(size=(FAMILY, n))
    return mean + np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * own


def step_down_interval(d: np.ndarray, rank: int) -> tuple[float, float]:
    """What Holm's level for the ``rank``-th smallest p would give."""
    return paired_t_interval(d, 1 - 0.05 / (FAMILY - rank))


def still(rng: np.random.Generator, spread: float) -> float:
    """Row 7 of a cell whose policy stands still: 11 evaluations of 16 episodes, in points²."""
    returns = list(rng.normal(0, spread, (11, 16)))
    return change_variance(range(11), [one.mean() for one in returns], returns, 1.0)


def main(tables: int) -> None:
    for n in (10, 15, 30, 100):
        rng = np.random.default_rng(n)
        found = 0
        for _ in range(tables):
            d = np.array([still(rng, 5) - still(rng, 60) for _ in range(n)])
            p = min(1.0, FAMILY * sign_flip_p(d))
            word, label = verdict(paired_t_interval(d, LEVEL), 0.0, p, n)
            found += word == "supported" or label == "opposite"
        print(f"row 7, {n} pairs, {tables} tables: {found / tables:.1%} hold a finding", flush=True)
    for n in (10, 15):
        rng = np.random.default_rng(n)
        found = missed = missed_by_holm = 0
        for _ in range(tables):
            d = differences(rng, n, 0.0)
            p = holm([sign_flip_p(one) for one in d])
            words = [verdict(paired_t_interval(one, LEVEL), 0.0, q, n)
                     for one, q in zip(d, p, strict=True)]  # fmt: skip
            found += any(word == "supported" or label == "opposite" for word, label in words)

            d = differences(rng, n, DELTA)
            raw = np.array([sign_flip_p(one) for one in d])
            order = stats.rankdata(raw, method="ordinal") - 1
            used = [paired_t_interval(one, LEVEL) for one in d]
            stepped = [step_down_interval(one, int(r)) for one, r in zip(d, order, strict=True)]
            missed += any(not lo <= DELTA <= hi for lo, hi in used)
            missed_by_holm += any(not lo <= DELTA <= hi for lo, hi in stepped)
        print(f"{n} pairs, {tables} tables: {found / tables:.1%} hold a finding where there is "
              f"none; {missed / tables:.1%} an interval that misses (at Holm's levels "
              f"{missed_by_holm / tables:.1%})", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))
