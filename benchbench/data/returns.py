"""The discounted return-to-go of each row, and for which rows it is known."""

from __future__ import annotations

import math

import numpy as np

from benchbench.data.store import Dataset

TAIL = 0.05
"""A known return may miss at most this share of the discounted horizon (its episode was cut)."""


def rewards_left(dataset: Dataset) -> np.ndarray:
    """(N,) int64: how many rewards each row's return-to-go sums, its own among them.

    It ends at a terminal, and at a cut, unless the data set is one run across its cuts
    (``continuous`` in its card), and in any case with the set.
    """
    ends = dataset.terminals.copy() if dataset.card["continuous"] else dataset.episode_ends
    ends[-1] = True
    rows = np.arange(len(dataset))
    last = np.flatnonzero(ends)
    left: np.ndarray = last[np.searchsorted(last, rows)] - rows + 1
    return left


def returns_to_go(dataset: Dataset, discount: float, scale: float) -> np.ndarray:
    """The discounted return-to-go that the behaviour collected from each row on.

    (N,) float64, of rewards divided by ``scale``, over :func:`rewards_left`. Missing
    rewards are not estimated: leave out rows that are not :func:`known` where that matters.
    """
    left = rewards_left(dataset)
    returns = np.zeros(len(dataset))
    following = 0.0
    for row in range(len(dataset) - 1, -1, -1):
        if left[row] == 1:
            following = 0.0
        following = float(dataset.rewards[row]) / scale + discount * following
        returns[row] = following
    return returns


def known(dataset: Dataset, discount: float) -> np.ndarray:
    """(N,) bool: rows whose return-to-go misses at most ``TAIL`` of its discounted horizon."""
    left = rewards_left(dataset)
    last = np.arange(len(dataset)) + left - 1
    whole: np.ndarray = (discount**left <= TAIL) | dataset.terminals[last]
    return whole


def why_unknown(env: str, dataset: Dataset, discount: float) -> str:
    """Why too few episodes hold rows whose return-to-go is known, and the cure, in a sentence."""
    longest = int(rewards_left(dataset).max())
    needed = math.ceil(math.log(TAIL) / math.log(discount))
    if dataset.terminals.any() or longest >= needed:
        return (
            f"{env}: too few episodes hold rows whose return-to-go is known, so there is nothing "
            "to probe; take more data, or lower agent.discount"
        )
    cure = (
        "Take more data (data.transitions)"
        if dataset.card["continuous"]
        else "Mark true ends as terminals"
    )
    return (
        f"{env}: no return-to-go is known, as all episodes are cut too early: at agent.discount "
        f"{discount:g} it takes {needed} steps, and the longest has {longest}. {cure}, or lower "
        f"agent.discount to about {TAIL ** (2 / longest):.3f}, where half of such an episode counts"
    )
