"""Inference on mean paired differences over one environment or several.

``strata`` is a list of arrays, one an environment: (n,) differences of one claim, or (n, M) of M
claims at once, which is what the simulations use. What is estimated is **the mean of the
environments' means**: these environments, not environments in general. All results are arrays (M,).

- :func:`t_interval`: Student's interval; over several environments each has its own variance, with
  Satterthwaite's degrees of freedom.
- :func:`bootstrap_t_interval`: the same with the quantiles of t resampled within environments
  (Efron 1979; DiCiccio and Efron 1996), for differences that are skewed or rarely large.
- :func:`mean_interval`: the one or the other, by :func:`skewed`.
- :func:`sign_flip`: exact permutation test of a mean of zero, signs flipped within environments.
- :func:`any_differs`: do conditions differ, where a seed was run under each of them?
- :func:`heterogeneity`: do the environments differ (Welch's F)?
- :func:`random_effects_interval`: the mean over environments in general, from eight on.
- :func:`nominal_levels`: how strictly each of several planned looks may judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]

EXACT_UP_TO = 20
"""Largest number of pairs whose sign flips are all enumerated (2¹⁹ means a claim, 4 MB)."""

DRAWS = 99_999
"""Sign patterns that are drawn where there are too many to enumerate."""

RESAMPLES = 20_000
"""Of the bootstrap-t: at a level of 0.998, twenty lie beyond either end."""

SKEW_ERRORS = 1.5
"""Standard errors, of a normal sample's skewness, from which on a sample counts as skewed.

A normal sample exceeds it in one of eight cases and then gets a wider interval than it needs.
"""

CAUTION = 4.0
"""Half-widths are taken 1 + CAUTION / pairs times as wide: at 15 pairs by a quarter.

Few pairs do not show the skew of their distribution. Without it a table of 21 claims whose
differences have a skewness of 1.3 held a false verdict in 8 to 10 % of cases at 10 and 15 pairs,
with the bootstrap too; the committed studies' differences are as skewed as that.
"""

ENVIRONMENTS_IN_GENERAL = 8
"""The fewest environments from which an interval for environments in general is given."""


def columns(strata: Sequence[ArrayLike]) -> list[Floats]:
    """The strata as (n, M) arrays. Raises ``ValueError`` where a difference is not finite."""
    arrays = [np.asarray(stratum, dtype=float) for stratum in strata]
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("a value is not finite; leave its pair out, and say so, before testing")
    return [array[:, None] if array.ndim == 1 else array for array in arrays]


def moments(strata: Sequence[ArrayLike]) -> tuple[Floats, Floats, Floats]:
    """Mean, its standard error, and the degrees of freedom (Satterthwaite 1946).

    The error is NaN where an environment has fewer than two pairs.
    """
    arrays = columns(strata)
    mean = np.mean([array.mean(axis=0) for array in arrays], axis=0)
    if min(len(array) for array in arrays) < 2:
        nothing = np.full(mean.shape, np.nan)
        return mean, nothing, nothing
    variances = np.array([array.var(axis=0, ddof=1) / len(array) for array in arrays])
    free = np.array([[len(array) - 1] for array in arrays])
    total = variances.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = total**2 / (variances**2 / free).sum(axis=0)
    df = np.where(total > 0, df, free.sum())
    return mean, np.sqrt(total) / len(arrays), df


def t_interval(strata: Sequence[ArrayLike], level: float) -> tuple[Floats, Floats]:
    """Student's interval of the mean of the environments' means; NaN without an error."""
    mean, error, df = moments(strata)
    half = stats.t.ppf((1 + level) / 2, df) * error
    return mean - half, mean + half


def bootstrap_t_interval(
    strata: Sequence[ArrayLike], level: float, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Floats, Floats]:
    """As :func:`t_interval`, with t's quantiles from seeded resamples within each environment.

    A resample of equal values has a t beyond all bounds; where those make up a tail, that end of
    the interval is infinite: so few pairs cannot bound the mean.
    """
    arrays = columns(strata)
    mean, error, _ = moments(arrays)
    if np.isnan(error).all():
        return error, error
    rng = np.random.default_rng(seed)
    shift, variance = np.zeros((resamples, len(mean))), np.zeros((resamples, len(mean)))
    for array in arrays:
        n = len(array)
        centred = array - array.mean(axis=0)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
        means = counts @ centred / n
        spread = np.maximum(counts @ centred**2 / n - means**2, 0.0)
        spread[spread < 1e-12 * centred.var(axis=0)] = 0.0
        shift += means / len(arrays)
        variance += spread / (n - 1) / len(arrays) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        t = shift / np.sqrt(variance)
    t[np.isnan(t)] = 0.0
    tail = (1 - level) / 2
    low, high = np.quantile(t, [tail, 1 - tail], axis=0, method="inverted_cdf")
    with np.errstate(invalid="ignore"):
        ends = mean - high * error, mean - low * error
    flat = error == 0
    return np.where(flat, mean, ends[0]), np.where(flat, mean, ends[1])


def skewed(strata: Sequence[ArrayLike]) -> NDArray[np.bool_]:
    """Whether an environment's differences are skewed, or hold rare large values on one side."""
    found: Any = False
    for array in columns(strata):
        n = len(array)
        centred = array - array.mean(axis=0)
        spread = np.sqrt((centred**2).mean(axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            skewness = (centred**3).mean(axis=0) / spread**3
        limit = SKEW_ERRORS * math.sqrt(6 * (n - 2) / ((n + 1) * (n + 3))) if n > 2 else math.inf
        found = found | (np.abs(np.nan_to_num(skewness)) > limit)
    return np.asarray(found)


def mean_interval(
    strata: Sequence[ArrayLike], level: float
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Ends of the interval, and whether each is the bootstrap-t's; see :func:`skewed`.

    Where it is, each end is the outer one of the two methods: resamples of ten values know little
    of a tail that they do not hold. Both are widened by :func:`caution`.
    """
    arrays = columns(strata)
    low, high = t_interval(arrays, level)
    odd = skewed(arrays) & np.isfinite(low)
    if odd.any():
        chosen = [array[:, odd] for array in arrays]
        lower, upper = bootstrap_t_interval(chosen, level)
        low[odd], high[odd] = np.minimum(low[odd], lower), np.maximum(high[odd], upper)
    mean, wider = moments(arrays)[0], caution(sum(map(len, arrays)))
    return mean - wider * (mean - low), mean + wider * (high - mean), odd


def caution(pairs: int) -> float:
    """The factor by which an interval is wider than Student's; see :data:`CAUTION`."""
    return 1 + CAUTION / pairs


def sign_flip(strata: Sequence[ArrayLike], draws: int = DRAWS, seed: int = 0) -> Floats:
    """Two-sided p of the sign-flip permutation test of the mean of the environments' means.

    The null: every difference is symmetric about zero. Up to 20 pairs all patterns count and p is
    exact; above, ``draws`` seeded ones and the observed (Phipson and Smyth 2010). A pattern as
    extreme as the observed counts, within a rounding error. NaN where there are no pairs.
    """
    arrays = columns(strata)
    weighted = np.concatenate([array / len(array) for array in arrays if len(array)] or arrays)
    n, members = weighted.shape
    if n == 0:
        return np.full(members, np.nan)
    observed = np.abs(weighted.sum(axis=0)) - 1e-9 * np.abs(weighted).sum(axis=0)
    if n <= EXACT_UP_TO:
        at_once = max(1, 2**22 >> n)
        parts = [slice(start, start + at_once) for start in range(0, members, at_once)]
        return np.concatenate([_exact(weighted[:, part], observed[part]) for part in parts])
    rng = np.random.default_rng(seed)
    extreme = np.zeros(members)
    for start in range(0, draws, 10_000):
        signs = rng.choice((-1.0, 1.0), size=(min(10_000, draws - start), n))
        for first in range(0, members, 500):
            part = slice(first, first + 500)
            extreme[part] += (np.abs(signs @ weighted[:, part]) >= observed[part]).sum(axis=0)
    return (extreme + 1) / (draws + 1)


def _exact(weighted: Floats, observed: Floats) -> Floats:
    # The first sign is held: each pattern and its mirror image are equally extreme.
    sums = weighted[:1]
    for row in weighted[1:]:
        sums = np.concatenate([sums + row, sums - row])
    return np.mean(np.abs(sums) >= observed, axis=0)


def any_differs(strata: Sequence[ArrayLike], draws: int = 20_000, seed: int = 0) -> float:
    """p of equal means in all columns of (n, C) rows, a row a seed that was run under C conditions.

    Each row's distances from its own mean are flipped in sign together; what counts is the column
    farthest out, in units of its own spread (Westfall and Young 1993). The null: those distances
    are symmetric. Up to 15 rows all patterns count. NaN for fewer than two rows or no spread.
    """
    arrays = columns(strata)
    parts = [(a - a.mean(axis=1, keepdims=True)) / len(a) for a in arrays if len(a)]
    rows = np.concatenate(parts) if parts else np.zeros((0, 1))
    spread = np.sqrt((rows**2).sum(axis=0))
    rows = rows[:, spread > 1e-12 * max(1.0, spread.max(initial=0.0))]
    n, left = rows.shape
    if n < 2 or not left:
        return math.nan
    rows = rows / np.sqrt((rows**2).sum(axis=0))
    observed = np.abs(rows.sum(axis=0)).max() - 1e-9
    if n <= 15:
        signs = 1.0 - 2.0 * (np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1)
        return float(np.mean(np.abs(signs @ rows).max(axis=1) >= observed))
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(draws, n))
    return float((np.sum(np.abs(signs @ rows).max(axis=1) >= observed) + 1) / (draws + 1))


def heterogeneity(strata: Sequence[ArrayLike]) -> tuple[float, float]:
    """F and p of equal means in all environments, with unequal variances (Welch 1951).

    Of one claim. NaN for fewer than two environments of two pairs with some spread each.
    """
    samples = [array[:, 0] for array in columns(strata)]
    if len(samples) < 2 or any(len(s) < 2 or s.var() == 0 for s in samples):
        return math.nan, math.nan
    k = len(samples)
    n = np.array([len(s) for s in samples])
    weight = n / np.array([s.var(ddof=1) for s in samples])
    means = np.array([s.mean() for s in samples])
    share = weight / weight.sum()
    between = (weight * (means - share @ means) ** 2).sum() / (k - 1)
    loss = ((1 - share) ** 2 / (n - 1)).sum()
    f = float(between / (1 + 2 * (k - 2) / (k**2 - 1) * loss))
    return f, float(stats.f.sf(f, k - 1, (k**2 - 1) / (3 * loss)))


def random_effects_interval(strata: Sequence[ArrayLike], level: float) -> tuple[float, float]:
    """Interval of one claim's mean over environments in general.

    Student's t over the environments' means, which holds whatever their own spreads are; NaN with
    fewer than :data:`ENVIRONMENTS_IN_GENERAL`.
    """
    means = np.array([array[:, 0].mean() for array in columns(strata) if len(array)])
    if len(means) < ENVIRONMENTS_IN_GENERAL:
        return math.nan, math.nan
    low, high = t_interval([means], level)
    return float(low[0]), float(high[0])


Spending = Literal["pocock", "obrien-fleming"]

_POINTS = 801
"""Points of the grid over which a look's density is integrated."""


def spent(spending: Spending, share: float, alpha: float) -> float:
    """The error spent when ``share`` of the pairs are there (Lan and DeMets 1983)."""
    if spending == "pocock":
        return alpha * math.log(1 + (math.e - 1) * share)
    return float(4 * stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(share)))  # two-sided


def nominal_levels(looks: Sequence[int], spending: Spending, alpha: float) -> tuple[float, ...]:
    """The two-sided level of each look, of ``alpha`` in all; ``looks`` are numbers of pairs.

    The error that a claim may make in all is spent over the looks by a function fixed beforehand.
    The levels follow from the joint distribution of the looks' standardised means, by recursive
    integration (Armitage, McPherson and Rowe 1969; Jennison and Turnbull 2000, ch. 19). Intervals
    at these levels hold at all looks together (repeated confidence intervals, Jennison and Turnbull
    1989), so every verdict drawn from them does, *negligible* too.
    """
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
