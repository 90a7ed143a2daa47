"""What the behaviour went on to collect from each row on, and for which rows that is known."""

from __future__ import annotations

import math

import numpy as np

from benchbench.data.store import Dataset

TAIL = 0.05
"""A known return may miss at most this share of the discounted horizon (its episode was cut)."""


def returns_to_go(dataset: Dataset, discount: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """What the behaviour went on to collect from each row on: the discounted return-to-go.

    Returns (N,) float64 of rewards divided by ``scale``, and (N,) int64: how many rewards each
    sums. The sum ends at a terminal, and at a cut, unless the data set is one run that goes on
    behind its cuts (``continuous`` in its card). Nothing stands in for what is not there, so leave
    out rows with too few rewards where that matters.
    """
    ends = dataset.terminals.copy() if dataset.card["continuous"] else dataset.episode_ends
    returns = np.zeros(len(dataset))
    remaining = np.zeros(len(dataset), dtype=np.int64)
    following, left = 0.0, 0
    for row in range(len(dataset) - 1, -1, -1):
        if ends[row]:
            following, left = 0.0, 0
        following = float(dataset.rewards[row]) / scale + discount * following
        left += 1
        returns[row], remaining[row] = following, left
    return returns, remaining


def known(dataset: Dataset, discount: float, remaining: np.ndarray) -> np.ndarray:
    """(N,) bool: rows whose return-to-go of ``remaining`` rewards misses no more than ``TAIL``."""
    last = np.arange(len(dataset)) + remaining - 1
    whole: np.ndarray = (discount**remaining <= TAIL) | dataset.terminals[last]
    return whole


def why_unknown(env: str, dataset: Dataset, discount: float) -> str:
    """Why too few episodes hold rows whose return-to-go is known, and the cure."""
    longest = int(returns_to_go(dataset, discount, scale=1.0)[1].max())
    needed = math.ceil(math.log(TAIL) / math.log(discount))
    if dataset.terminals.any() or longest >= needed:
        return (
            f"{env}: too few episodes hold rows whose return-to-go is known, so there is nothing "
            "to probe; raise data.transitions, or lower agent.discount"
        )
    cure = "Raise data.transitions" if dataset.card["continuous"] else "Mark true ends as terminals"
    return (
        f"{env}: no return-to-go is known, as all episodes are cut too early: at agent.discount "
        f"{discount:g} it takes {needed} steps, and the longest has {longest}. {cure}, or lower "
        f"agent.discount to about {TAIL ** (2 / longest):.3f}, where half of such an episode counts"
    )
