"""Group-sequential levels: how strictly each of several planned looks may judge.

The error that a claim may make in all is spent over the looks by a function fixed beforehand (Lan
and DeMets 1983). The levels follow from the joint distribution of the looks' standardised means,
by recursive integration (Armitage, McPherson and Rowe 1969; Jennison and Turnbull 2000, ch. 19).
Intervals taken at these levels hold at all looks together (repeated confidence intervals,
Jennison and Turnbull 1989), so every verdict drawn from them does, *negligible* too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Spending = Literal["pocock", "obrien-fleming"]

_POINTS = 801
"""Points of the grid over which a look's density is integrated."""


def spent(spending: Spending, share: float, alpha: float) -> float:
    """The error spent when ``share`` of the pairs are there (Lan and DeMets 1983)."""
    if spending == "pocock":
        return alpha * math.log(1 + (math.e - 1) * share)
    return float(4 * stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(share)))  # two-sided


def nominal_levels(looks: Sequence[int], spending: Spending, alpha: float) -> tuple[float, ...]:
    """The two-sided level of each look, of ``alpha`` in all; ``looks`` are numbers of pairs."""
    return _levels(tuple(looks), spending, alpha)


@lru_cache(maxsize=256)
def _levels(looks: tuple[int, ...], spending: Spending, alpha: float) -> tuple[float, ...]:
    times = np.array(looks) / looks[-1]
    levels, before = [], 0.0
    grid: NDArray[np.float64] = np.zeros(1)
    mass: NDArray[np.float64] = np.ones(1)
    last = 0.0
    for time in times:
        total = spent(spending, float(time), alpha)
        step = math.sqrt(time - last)

        may = max(total - before, 1e-300)
        top = 40 * math.sqrt(time)
        bound = optimize.brentq(_excess, 0.0, top, args=(grid, mass, step, may))
        levels.append(float(2 * stats.norm.sf(bound / math.sqrt(time))))
        points = np.linspace(-bound, bound, _POINTS)
        density = stats.norm.pdf((points[:, None] - grid[None, :]) / step) / step @ mass
        weights = np.full(_POINTS, points[1] - points[0])
        weights[[0, -1]] /= 2
        grid, mass = points, density * weights
        before, last = total, float(time)
    return tuple(levels)


def _excess(
    bound: float, grid: NDArray[np.float64], mass: NDArray[np.float64], step: float, may: float
) -> float:
    """ln of the ratio of the chance to cross ``bound`` at the next look to the chance allowed."""
    out = stats.norm.sf((bound - grid) / step) + stats.norm.sf((bound + grid) / step)
    return math.log(max(float(mass @ out), 1e-300) / may)
