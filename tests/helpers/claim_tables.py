"""Simulated tables of claims whose truth is known, judged by the project's own functions.

A table has ``CLAIMS`` claims on ``ENVS`` environments. Differences have a correlation of a half
between the claims of a pair, and the law of one of :data:`NULLS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchbench.analysis.verdicts import DECIDED, verdict
from benchbench.core.inference import mean_interval, nominal_levels, sign_flip, t_interval
from benchbench.core.statistics import pairs_needed

CLAIMS, ENVS, ALPHA = 7, 3, 0.05
DRAWS = 9_999

Law = Callable[[np.random.Generator, int, int], np.ndarray]
"""(rng, pairs, tables) -> (pairs, tables, ENVS, CLAIMS) differences with a mean of zero."""


def normals(rng: np.random.Generator, pairs: int, tables: int) -> np.ndarray:
    shape = (pairs, tables, ENVS)
    shared, own = rng.normal(size=(*shape, 1)), rng.normal(size=(*shape, CLAIMS))
    return np.sqrt(0.5) * (shared + own)


def heavy(rng: np.random.Generator, pairs: int, tables: int) -> np.ndarray:
    """Student's t with three degrees of freedom, of standard deviation 1."""
    return stats.t.ppf(stats.norm.cdf(normals(rng, pairs, tables)), 3) / np.sqrt(3)


def skew(rng: np.random.Generator, pairs: int, tables: int) -> np.ndarray:
    """Gamma with a skewness of 1.26, of standard deviation 1."""
    shape = 2.5
    values = stats.gamma.ppf(stats.norm.cdf(normals(rng, pairs, tables)), shape)
    return (values - shape) / np.sqrt(shape)


def rare(rng: np.random.Generator, pairs: int, tables: int) -> np.ndarray:
    """Scores in points: in 7 % of seeds either variant loses 150; beside that a spread of 8."""
    fails = [normals(rng, pairs, tables) < stats.norm.ppf(0.07) for _ in range(2)]
    return 150.0 * (fails[0].astype(float) - fails[1]) + 8 * normals(rng, pairs, tables)


def differing(rng: np.random.Generator, pairs: int, tables: int) -> np.ndarray:
    """Environments with effects of +2, 0 and −2 and spreads of 1, 3 and ⅓; their mean is zero."""
    own = np.array([1.0, 3.0, 1 / 3])[:, None] * normals(rng, pairs, tables)
    return own + np.array([2.0, 0.0, -2.0])[:, None]


@dataclass(frozen=True)
class Null:
    law: Law
    delta: float
    rare: bool = False
    effects: tuple[float, ...] = (0.0,) * ENVS


NULLS = {
    "normal": Null(normals, 0.5),
    "heavy tails": Null(heavy, 0.5),
    "rare failures": Null(rare, 5.0, rare=True),
    "skew": Null(skew, 0.5),
    "environments that differ": Null(differing, 0.5, effects=(2.0, 0.0, -2.0)),
}


@dataclass(frozen=True)
class Rates:
    """Shares of tables with a wrong verdict, by family; of members right, by verdict's kind."""

    environments: float
    mean: float
    either: float
    words: dict[str, int]


def wrong(word: str, label: str, truth: float, delta: float) -> bool:
    """Whether a verdict is false; on the border, where it is no better than a guess, it is."""
    sign = 1 if label == "as claimed" else -1
    return {
        "supported": truth <= delta,
        "opposite": truth >= -delta,
        "negligible": abs(truth) >= delta,
        "shown, size open": sign * truth <= 0,
    }.get(word, False)


def outer(strata: list[np.ndarray], level: float) -> tuple[np.ndarray, np.ndarray]:
    """The project's interval, a few members at a time: a bootstrap of many takes much memory."""
    parts = [slice(start, start + 200) for start in range(0, strata[0].shape[1], 200)]
    found = [mean_interval([s[:, part] for s in strata], level) for part in parts]
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


def verdicts(
    strata: list[np.ndarray],
    delta: float,
    alpha: float,
    members: int,
    is_rare: bool,
    steps: bool = True,
) -> list[tuple[str, str]]:
    """Verdicts of (pairs, tables × members) differences, ``members`` a table side by side.

    The bootstrap's interval and the exact p are found only where Student's interval decides
    something: elsewhere neither can change the verdict.
    """
    pairs, needed = sum(map(len, strata)), pairs_needed(1, alpha)
    level, count = 1 - alpha, strata[0].shape[1]
    low, high = t_interval(strata, level)
    clear = (low > 0) | (high < 0)
    open_ = clear | ((low >= -delta) & (high <= delta))
    if pairs < needed or not open_.any():
        return [("inconclusive", "")] * count
    at = np.flatnonzero(open_)
    low[at], high[at] = outer([s[:, at] for s in strata], level)
    p = np.ones(count)
    at = np.flatnonzero((low > 0) | (high < 0))
    if len(at):
        p[at] = sign_flip([s[:, at] for s in strata], draws=DRAWS)
    table = np.arange(count) // members
    words = []
    for i in range(count):
        if not open_[i]:
            words.append(("inconclusive", ""))
            continue
        mine = p[table == table[i]] if steps else p[i : i + 1]
        rank = int(np.sum(mine < p[i]))
        adjusted = p[i] * (members - rank) if steps else p[i] * ALPHA / alpha
        words.append(verdict((low[i], high[i]), delta, bool(adjusted <= ALPHA), pairs, needed,
                             rare=is_rare))  # fmt: skip
    return words


def families(d: np.ndarray) -> tuple[list[list[np.ndarray]], list[np.ndarray]]:
    """Strata of the family claims × environments, one list, and of the claims over the mean."""
    pairs, tables = d.shape[:2]
    each = [d.reshape(pairs, tables * ENVS * CLAIMS)]
    mean = [d[:, :, env].reshape(pairs, tables * CLAIMS) for env in range(ENVS)]
    return [each], mean


def simulate(
    null: Null,
    pairs: int,
    tables: int,
    at_delta: bool = False,
    looks: tuple[int, ...] = (),
    seed: int = 0,
) -> Rates:
    """Judge ``tables`` tables of ``pairs`` pairs an environment, or with looks up to ``pairs``.

    ``at_delta``: every effect is moved up by delta, the border of *supported* and *negligible*.
    """
    rng = np.random.default_rng([seed, pairs, int(at_delta), len(looks)])
    shift = null.delta if at_delta else 0.0
    d = null.law(rng, pairs, tables) + shift
    truths = np.array(null.effects) + shift
    env_truth = np.tile(np.repeat(truths, CLAIMS), tables)
    mean_truth = np.full(tables * CLAIMS, truths.mean())
    bad, words = [], {}
    for members, truth in ((ENVS * CLAIMS, env_truth), (CLAIMS, mean_truth)):
        final: list[tuple[str, str]] = [("inconclusive", "")] * len(truth)
        alpha = ALPHA / members
        levels = nominal_levels(looks, "pocock", alpha) if looks else (alpha,)
        for n, level in zip(looks or (pairs,), levels, strict=True):
            (each,), mean = families(d[:n])
            strata = each if members == ENVS * CLAIMS else mean
            now = verdicts(strata, null.delta, level, members, null.rare, steps=not looks)
            final = [old if old[0] in DECIDED else new
                     for old, new in zip(final, now, strict=True)]  # fmt: skip
        false = [wrong(*word, t, null.delta) for word, t in zip(final, truth, strict=True)]
        bad.append(np.array(false).reshape(tables, members).any(axis=1))
        for word, _ in final:
            words[word] = words.get(word, 0) + 1
    either = bad[0] | bad[1]
    return Rates(float(bad[0].mean()), float(bad[1].mean()), float(either.mean()), words)


def coverage(null: Null, pairs: int, tables: int, seed: int = 1) -> tuple[float, float]:
    """Shares of intervals that hold the truth: of each environment, and of their mean."""
    rng = np.random.default_rng([seed, pairs])
    (each,), mean = families(null.law(rng, pairs, tables))
    truths = np.tile(np.repeat(np.array(null.effects), CLAIMS), tables)
    low, high = outer(each, 1 - ALPHA / (ENVS * CLAIMS))
    lower, upper = outer(mean, 1 - ALPHA / CLAIMS)
    middle = float(np.mean(null.effects))
    return (float(np.mean((low <= truths) & (truths <= high))),
            float(np.mean((lower <= middle) & (middle <= upper))))  # fmt: skip


def shown(pairs: int, members: int, effect: float, tables: int, seed: int = 2) -> float:
    """Share of tables that show the one effect there is, of a family of ``members``."""
    rng = np.random.default_rng([seed, pairs, members])
    d = rng.normal(size=(pairs, tables, members))
    d[:, :, 0] += effect
    words = verdicts([d.reshape(pairs, -1)], 1e-9, ALPHA / members, members, False)
    first = words[::members]
    return float(np.mean([word in ("supported", "shown, size open") for word, _ in first]))
