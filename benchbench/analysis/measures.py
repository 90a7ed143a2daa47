"""From the results' tables to one number a cell and measure.

Nothing is judged here. A value that cannot be computed is NaN and stays NaN: a missing evaluation
is never filled in, since that would bias the comparison silently.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from benchbench.analysis.brief import ROOM
from benchbench.core.statistics import MEANINGLESS_R2
from benchbench.results.tables import FINAL_SHARE, Results

THRESHOLD = 50.0
"""Score points that an agent has to hold for two evaluations in a row to count as there."""

IQR_OF_NORMAL = 1.3489795003921634
"""Interquartile range of a normal distribution, over its standard deviation."""

WORST = 0.05
"""Share of the drawdowns, the largest, whose mean is the upper-tail CVaR."""

LAST = (
    "state_r2", "return_r2", "action_r2", "time_return_r2", "srank", "dormant", "td_error",
    "q_behaviour_error", "distract_r2", "filtering", "unseen_state_r2", "unseen_return_r2",
    "unseen_action_r2", "unseen_q_behaviour_error",
)  # fmt: skip
"""Columns of ``evaluations`` that are read at a cell's last evaluation."""

OWN_RETURNS = ("q_error", "q_bias", "q_spearman", "q_slope", "q_tail", "unseen_q_error")
"""Columns that only the evaluations with roll-outs have, read at the pair's last one of those."""

CELL = ["key", "env", "seed", "variant"]


def measure_cells(results: Results) -> pd.DataFrame:
    """Every measure of every finished cell: one row a cell.

    Columns: ``key, env, seed, variant``; ``steps``, the updates at which it was evaluated; those of
    :data:`LAST` and :data:`OWN_RETURNS`; ``random_state_r2`` (the untrained encoder's),
    ``oracle_state_r2`` and ``state_gain`` between the two; ``auc``; ``final_score``, the mean over
    the last tenth of training, of fresh episodes where there are; ``unseen_score``, that of the
    fixed episodes under distractions not seen in training, and ``unseen_drop`` to it from theirs
    without; ``best_score``, ``untrained_score``; ``q_shift``, the part of the squared error against
    the own returns that a constant shift explains, and ``q_rest``, the root of what is left of it;
    ``updates_to_threshold`` (infinite where it was never held); ``change_variance``,
    ``oscillation``, ``drawdown``; and as means over the training samples ``grad_log_ratio``,
    ``grad_cosine``, ``grad_negative``, ``grad_split``, ``moved_critic``, ``moved_vae``.
    """
    done = results.cells[results.cells["status"] == "done"]
    seconds = ["total_seconds"]
    scores = done[[*CELL, "untrained_score", "best_score", "oracle_state_r2", *seconds]]
    slopes = score_per_return(results.evaluations)
    curves = {
        str(key): _of_curve(curve.sort_values("update"), slopes[str(curve["env"].iloc[0])])
        for key, curve in results.evaluations.groupby("key")
    }
    signals = _of_signals(results.training).to_dict("index")
    own = _own_returns(results.evaluations)
    extra = pd.DataFrame(
        [curves.get(k, {}) | own.get(k, {}) | signals.get(k, {}) for k in scores["key"]],
        index=scores.index,
    ).reindex(columns=[*_OF_CURVE, *OWN_RETURNS, *_OF_SIGNALS])
    numbers = extra.drop(columns="steps").astype(float)
    cells = pd.concat([scores, extra[["steps"]], numbers], axis=1).reset_index(drop=True)
    squared = cells["q_error"] ** 2
    return cells.assign(
        q_shift=cells["q_bias"] ** 2 / squared.where(squared > 0),
        q_rest=np.sqrt((squared - cells["q_bias"] ** 2).clip(lower=0)),
        state_gain=state_gain(
            cells["state_r2"], cells["random_state_r2"], cells["oracle_state_r2"].astype(float)
        ),
    )


def state_gain(reached: pd.Series, untrained: pd.Series, oracle: pd.Series) -> pd.Series:
    """(R² - R² untrained) / (R² oracle - R² untrained), of the state probe.

    NaN where the denominator is below :data:`~benchbench.analysis.brief.ROOM`: a ratio over a tiny
    denominator is meaningless; and where an R² is below :data:`MEANINGLESS_R2`.
    """
    reached, untrained, oracle = (
        r2.where(r2 >= MEANINGLESS_R2) for r2 in (reached, untrained, oracle)
    )
    room = oracle - untrained
    return (reached - untrained) / room.where(room >= ROOM)


def score_per_return(evaluations: pd.DataFrame) -> dict[str, float]:
    """Score points per unit of return, by environment.

    The D4RL score is linear in the return, so the two evaluations that lie farthest apart give the
    slope; 0 where no two differ (then no score changes either).
    """
    slopes = {}
    for env, rows in evaluations.groupby("env"):
        known = rows[["return_mean", "score"]].dropna()
        slopes[str(env)] = 0.0
        if len(known) and np.ptp(known["return_mean"]) > 0:
            x, y = known["return_mean"].to_numpy(), known["score"].to_numpy()
            low, high = x.argmin(), x.argmax()
            slopes[str(env)] = float((y[high] - y[low]) / (x[high] - x[low]))
    return slopes


def area_under_curve(updates: Sequence[int], scores: Sequence[float]) -> float:
    """Trapezoidal area under the score curve, over the horizon: score points.

    NaN where there are less than two evaluations or one of the scores is missing.
    """
    u, s = np.asarray(updates, dtype=float), np.asarray(scores, dtype=float)
    return float(trapezoid(s, u) / (u[-1] - u[0])) if len(u) > 1 else float("nan")


def late_score(
    updates: Sequence[int], scores: Sequence[float], share: float = FINAL_SHARE
) -> float:
    """Mean score of the evaluations in the last ``share`` of the training, one at least.

    NaN where one of these is missing, or the only evaluation is the untrained one.
    """
    u, s = np.asarray(updates, dtype=float), np.asarray(scores, dtype=float)
    late = (u >= (1 - share) * u[-1]) & (u > 0)
    return float(s[late].mean()) if late.any() else float("nan")


def updates_to_threshold(
    updates: Sequence[int], scores: Sequence[float], threshold: float = THRESHOLD
) -> float:
    """Updates at the first of two evaluations in a row at or above the threshold.

    The untrained evaluation does not count. Infinite where it never happened within the horizon
    (censored); NaN where a score is missing.
    """
    s = np.asarray(scores, dtype=float)
    if np.isnan(s).any():
        return float("nan")
    held = (s[1:-1] >= threshold) & (s[2:] >= threshold)
    return float(updates[int(np.argmax(held)) + 1]) if held.any() else float("inf")


def change_variance(
    updates: Sequence[int],
    scores: Sequence[float],
    returns: Sequence[NDArray[np.float64]],
    slope: float,
) -> float:
    """Variance of the score's changes in the second half, the evaluation's noise taken out.

    With c the K changes between neighbouring evaluations at or after half of the horizon, and S
    their covariance (K, K) as far as the evaluation episodes alone explain it::

        var(c) - (trace(S) - sum(S) / K) / (K - 1)       in score points²

    What is subtracted is the noise's part of var(c) in the mean, however the noise is distributed.
    So the mean is the variance of the true changes, 0 for a policy that stands still; a single cell
    may lie below 0 and is kept there, for cut off at 0 the mean would grow with the noise. S is
    slope² · covariance of the episodes' changes of return / episodes: every evaluation starts from
    the same episode seeds, so the episodes are paired. NaN where :func:`_late_changes` has none, or
    a score is missing.
    """
    changes, of_episodes = _late_changes(updates, scores, returns)
    count, episodes = of_episodes.shape
    if not count:
        return float("nan")
    noise = slope**2 * np.cov(of_episodes) / episodes
    explained = (np.trace(noise) - noise.sum() / count) / (count - 1)
    return float(changes.var(ddof=1) - explained)


def oscillation(
    updates: Sequence[int],
    scores: Sequence[float],
    returns: Sequence[NDArray[np.float64]],
    slope: float,
) -> float:
    """Interquartile range of the score's changes in the second half, the noise taken out.

    With c_i the changes as in :func:`change_variance`, and v_i the squared standard error of c_i
    that the evaluation episodes alone explain::

        oscillation = sqrt(max(0, IQR(c)² - 1.349² mean(v)))       in score points

    1.349 turns a standard deviation into an interquartile range, as for a normal distribution.
    Cut off at 0 in each cell, it grows with the noise where a policy stands still: over five
    changes 0.7 points with 16 episodes of spread 5, and 8.7 with a spread of 60 (simulated). So it
    is shown, and not judged. NaN where :func:`_late_changes` has none, or a score is missing.
    """
    changes, of_episodes = _late_changes(updates, scores, returns)
    if not len(changes):
        return float("nan")
    noise = slope**2 * of_episodes.var(axis=1, ddof=1) / of_episodes.shape[1]
    spread = float(np.subtract(*np.quantile(changes, [0.75, 0.25])))
    excess = spread**2 - IQR_OF_NORMAL**2 * float(noise.mean())
    return float(np.sqrt(max(0.0, excess))) if np.isfinite(excess) else float("nan")


def _late_changes(
    updates: Sequence[int], scores: Sequence[float], returns: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What changes from each evaluation to the next, at or after half of the horizon.

    The score, (K,) in points, and each episode's return, (K, episodes). K is 0 with fewer than
    three changes, or evaluations of fewer than two, or of unequal numbers of, episodes.
    """
    late = [i for i, update in enumerate(updates) if 2 * update >= updates[-1]]
    episodes = {len(returns[i]) for i in late}
    if len(late) < 4 or len(episodes) != 1 or min(episodes) < 2:
        return np.empty(0), np.empty((0, 0))
    of_episodes = np.stack([np.asarray(returns[i], dtype=float) for i in late])
    return np.diff(np.asarray(scores, dtype=float)[late]), np.diff(of_episodes, axis=0)


def drawdown(scores: Sequence[float], worst: float = WORST) -> float:
    """Upper-tail CVaR of the drawdown: score points below the best score so far.

    The mean of the largest ``worst`` share of the evaluations' drawdowns, at least one (Chan et al.
    2020, "Measuring the reliability of reinforcement learning algorithms", LRT). NaN where a score
    is missing.
    """
    s = np.asarray(scores, dtype=float)
    if not s.size or np.isnan(s).any():
        return float("nan")
    below = np.sort(np.maximum.accumulate(s) - s)
    return float(below[-max(1, round(worst * s.size)) :].mean())


_OF_CURVE = (
    "steps", "random_state_r2", "auc", "final_score", "updates_to_threshold", "change_variance",
    "oscillation", "drawdown", "unseen_score", "unseen_drop", *LAST,
)  # fmt: skip
_OF_SIGNALS = (
    "grad_log_ratio", "grad_cosine", "grad_negative", "grad_split", "moved_critic", "moved_vae"
)  # fmt: skip


def _of_curve(curve: pd.DataFrame, slope: float) -> dict[str, object]:
    updates, scores = curve["update"].to_list(), curve["score"].to_list()
    returns = [np.asarray([] if r is None else r, dtype=float) for r in curve["returns"]]
    first, last = curve.iloc[0], curve.iloc[-1]
    fresh = curve["fresh_score"].astype(float)
    final = fresh.to_list() if fresh.notna().any() else scores
    unseen = late_score(updates, curve["unseen_score"].astype(float).to_list())
    return {
        "steps": tuple(updates),
        "random_state_r2": first["state_r2"] if updates[0] == 0 else float("nan"),
        "auc": area_under_curve(updates, scores),
        "final_score": late_score(updates, final),
        "updates_to_threshold": updates_to_threshold(updates, scores),
        "change_variance": change_variance(updates, scores, returns, slope),
        "oscillation": oscillation(updates, scores, returns, slope),
        "drawdown": drawdown(scores),
        "unseen_score": unseen,
        "unseen_drop": late_score(updates, scores) - unseen,
        **{column: last[column] for column in LAST},
    }


def _own_returns(evaluations: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Each cell's errors against its own policy's returns, by key.

    Both cells of a pair are read at the same evaluation: the last at which either has any. A cell
    that has none there has no value, rather than an earlier one.
    """
    measured = evaluations[evaluations[list(OWN_RETURNS)].notna().any(axis=1)]
    last = measured.groupby(["env", "seed"])["update"].transform("max")
    rows = measured[measured["update"] == last].set_index("key")[list(OWN_RETURNS)]
    return {str(k): {name: float(row[name]) for name in OWN_RETURNS} for k, row in rows.iterrows()}


def _of_signals(training: pd.DataFrame) -> pd.DataFrame:
    """Means over the samples of each cell, by key."""
    cosine = training["grad_cosine"].astype(float)
    samples = {
        "grad_log_ratio": _log_ratio(training["grad_critic"], training["grad_vae"]),
        "grad_cosine": cosine,
        "grad_negative": (cosine < 0).astype(float).where(cosine.notna()),
        "grad_split": _log_ratio(training["grad_q"], training["grad_v"]),
        "moved_critic": training["moved_critic"].astype(float),
        "moved_vae": training["moved_vae"].astype(float),
    }
    return pd.DataFrame(samples).groupby(training["key"]).mean()


def _log_ratio(a: pd.Series, b: pd.Series) -> pd.Series:
    both = (a > 0) & (b > 0)
    return pd.Series(np.log10(a.where(both).astype(float) / b.where(both).astype(float)))
