"""Statistics of paired comparisons: pure functions of arrays, nothing of files or figures.

How the pieces act together when the claims are judged (``benchbench.analysis.claims``):

- :func:`sign_flip_p` asks of each claim whether its mean paired difference is zero; :func:`holm`
  adjusts those p-values over the family of claims.
- :func:`paired_t_interval` bounds the same mean. All claims' intervals are taken at one level,
  :func:`simultaneous_level`: Bonferroni's, 1 - alpha / members. Holm's step-down levels (alpha / m,
  alpha / (m - 1), …) would be wider open, but they are earned by rejecting *zero*, while a verdict
  compares the interval with delta: where seven effects lie exactly at delta, zero is rejected seven
  times and the last interval would be taken at 95 %. Bonferroni intervals hold jointly with
  probability 1 - alpha whatever is true, so no verdict drawn from them needs a further correction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Interval = tuple[float, float]
"""Lower and upper end; both NaN where the data do not allow one."""

MEANINGLESS_R2 = -1.0
"""R² below which a probe errs more than twice as much as the mean would: its few episodes differ,
and how far below it lies is chance."""

EXACT_UP_TO = 20
"""Largest number of pairs whose sign flips are all enumerated (2²⁰ means, 8 MB)."""


def sign_flip_p(differences: ArrayLike, draws: int = 99_999, seed: int = 0) -> float:
    """Two-sided p-value of the sign-flip permutation test on the mean.

    The null is that each paired difference is symmetric about zero. Up to 20 differences, all 2ⁿ
    sign patterns are enumerated and the p-value is exact; above, ``draws`` seeded random patterns
    are drawn and the observed one is counted among them (Phipson and Smyth 2010). A pattern as
    extreme as the observed one counts, within a rounding error.

    Returns NaN for no differences. Raises ``ValueError`` where one is not finite.
    """
    d = _finite(differences)
    if d.size == 0:
        return float("nan")
    observed = abs(d.sum()) - 1e-9 * np.abs(d).sum()
    if d.size <= EXACT_UP_TO:
        # The first sign is held: each pattern and its mirror image are equally extreme.
        sums = d[:1]
        for value in d[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= observed))
    rng = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, draws, 10_000):
        signs = rng.choice((-1.0, 1.0), size=(min(10_000, draws - start), d.size))
        extreme += int(np.sum(np.abs(signs @ d) >= observed))
    return (extreme + 1) / (draws + 1)


def pairs_needed(members: int, alpha: float = 0.05) -> int:
    """The fewest pairs with which one claim of a family can pass: members · 2/2ⁿ <= alpha."""
    pairs = 1
    while members * 2 / 2**pairs > alpha:
        pairs += 1
    return pairs


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's (1979) adjusted p-values, in the order given.

    A NaN is no member of the family and stays NaN. To keep a claim that could not be tested in the
    family, give it the p-value 1.
    """
    raw = np.asarray(p, dtype=float)
    adjusted = np.full(raw.shape, np.nan)
    members = np.flatnonzero(~np.isnan(raw))
    order = members[np.argsort(raw[members], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * factors))
    return adjusted


def simultaneous_level(members: int, alpha: float = 0.05) -> float:
    """The level at which each of ``members`` intervals is taken so that all hold at 1 - alpha."""
    return 1 - alpha / members


def paired_t_interval(differences: ArrayLike, level: float = 0.95) -> Interval:
    """Student's t interval of the mean difference; NaN below two differences.

    Differences that are all the same give an interval of no width. Raises ``ValueError`` where a
    difference is not finite.
    """
    d = _finite(differences)
    if d.size < 2:
        return (float("nan"), float("nan"))
    half = stats.t.ppf((1 + level) / 2, d.size - 1) * d.std(ddof=1) / np.sqrt(d.size)
    return (float(d.mean() - half), float(d.mean() + half))


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of the scores (Agarwal et al. 2021, as ``rliable`` has it)."""
    flat = np.ravel(np.asarray(scores, dtype=float))
    return float(stats.trim_mean(flat, proportiontocut=0.25)) if flat.size else float("nan")


def probability_of_improvement(a: ArrayLike, b: ArrayLike) -> float:
    """Chance that a run of ``a`` scores above one of ``b``, ties counting half.

    Mann and Whitney's U over its largest value (Agarwal et al. 2021, section 4.3), for the runs of
    one environment; over several, ``rliable`` takes the mean.
    """
    first, second = np.ravel(np.asarray(a, dtype=float)), np.ravel(np.asarray(b, dtype=float))
    if not first.size or not second.size:
        return float("nan")
    return float(_above(first, second))


def performance_profile(scores: ArrayLike, taus: ArrayLike) -> NDArray[np.float64]:
    """Share of the runs that score above each of ``taus`` (Agarwal et al. 2021, section 4.2)."""
    flat = np.ravel(np.asarray(scores, dtype=float))
    return np.mean(flat[None, :] > np.asarray(taus, dtype=float)[:, None], axis=1)


def bootstrap_interval(
    strata: Sequence[ArrayLike],
    statistic: Callable[..., object],
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
    vectorized: bool = False,
) -> Interval:
    """Percentile bootstrap interval of ``statistic(*strata)``, resampling within each stratum.

    A ``vectorized`` statistic takes arrays of resamples by values and an ``axis``, as scipy's do.

    A stratum is one environment's runs, as in ``rliable``. NaN where one has less than two values.
    """
    samples = tuple(_finite(stratum) for stratum in strata)
    if not samples or min(sample.size for sample in samples) < 2:
        return (float("nan"), float("nan"))
    found = stats.bootstrap(
        samples,
        statistic,
        n_resamples=resamples,
        vectorized=vectorized,
        batch=500,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return (float(found.low), float(found.high))


def iqm_interval(strata: Sequence[ArrayLike], level: float = 0.95, seed: int = 0) -> Interval:
    """Bootstrap interval of the interquartile mean over all strata's runs together."""

    def over_all(*samples: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        pooled = np.concatenate(samples, axis=axis)
        return np.asarray(stats.trim_mean(pooled, proportiontocut=0.25, axis=axis))

    return bootstrap_interval(strata, over_all, level, seed=seed, vectorized=True)


def improvement_interval(
    a: Sequence[ArrayLike], b: Sequence[ArrayLike], level: float = 0.95, seed: int = 0
) -> Interval:
    """Bootstrap interval of the mean over strata of :func:`probability_of_improvement`."""

    def mean_over_strata(*samples: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        half = len(samples) // 2
        pairs = zip(samples[:half], samples[half:], strict=True)
        return np.mean([_above(x, y) for x, y in pairs], axis=0)

    return bootstrap_interval([*a, *b], mean_over_strata, level, seed=seed, vectorized=True)


def linear_cka(x: np.ndarray, y: np.ndarray) -> float | None:
    """Linear centred kernel alignment of features (N, F) and (N, G) of the same N rows.

    ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) in Frobenius norms, with the columns of both centred (Kornblith et al.
    2019, "Similarity of neural network representations revisited", eq. 5 and section 3). 1 where
    one is a rotation and scaling of the other; None where either does not vary.

    Raises ``ValueError`` where the rows differ in number.
    """
    if len(x) != len(y):
        raise ValueError(f"features of {len(x)} and of {len(y)} rows cannot be compared")
    x = np.asarray(x, dtype=np.float64) - np.mean(x, axis=0, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64) - np.mean(y, axis=0, dtype=np.float64)
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(y.T @ x) ** 2 / scale) if scale > 0 else None


def _above(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mann and Whitney's U over its largest value, along the last axis."""
    u = stats.mannwhitneyu(first, second, axis=-1, method="asymptotic").statistic
    return np.asarray(u / (first.shape[-1] * second.shape[-1]))


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    flat = np.ravel(np.asarray(values, dtype=float))
    if not np.all(np.isfinite(flat)):
        raise ValueError("a value is not finite; leave its pair out, and say so, before testing")
    return flat
