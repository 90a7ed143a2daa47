"""From the results' tables to one number a cell and measure, and to the curves that are drawn.

Nothing is judged here. A value that cannot be computed is NaN and stays NaN: a missing evaluation
is never filled in, since that would move the comparison in silence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from benchbench.report.statistics import paired_t_interval, performance_profile
from benchbench.results import Results

THRESHOLD = 50.0
"""Score points that an agent has to hold for two evaluations in a row to count as there."""

IQR_OF_NORMAL = 1.3489795003921634
"""Interquartile range of a normal distribution, over its standard deviation."""

LAST = ("state_r2", "return_r2", "action_r2", "srank", "td_error", "q_behaviour_error")
"""Columns of ``evaluations`` that are read at a cell's last evaluation."""

CELL = ["key", "env", "seed", "variant"]


def measure_cells(results: Results) -> pd.DataFrame:
    """Every measure of every finished cell: one row a cell.

    Columns: ``key, env, seed, variant``; ``steps``, the updates at which it was evaluated; those
    of :data:`LAST`; ``random_state_r2`` (the untrained encoder's); ``auc``, ``final_score``,
    ``best_score``, ``untrained_score``; ``updates_to_threshold`` (infinite where it was never
    held); ``oscillation``; and ``grad_log_ratio``, ``grad_cosine``, ``grad_negative`` as means over
    the training samples.
    """
    done = results.cells[results.cells["status"] == "done"]
    scores = done[[*CELL, "untrained_score", "final_score", "best_score"]]
    slopes = score_per_return(results.evaluations)
    curves = {
        str(key): _of_curve(curve.sort_values("update"), slopes[str(curve["env"].iloc[0])])
        for key, curve in results.evaluations.groupby("key")
    }
    signals = {str(key): _of_signals(rows) for key, rows in results.training.groupby("key")}
    nothing = pd.DataFrame(columns=[*_OF_CURVE, *_OF_SIGNALS])
    extra = pd.DataFrame(
        [curves.get(key, {}) | signals.get(key, {}) for key in scores["key"]], index=scores.index
    )
    extra = extra.reindex(columns=nothing.columns)
    numbers = extra.drop(columns="steps").astype(float)
    return pd.concat([scores, extra[["steps"]], numbers], axis=1).reset_index(drop=True)


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


def oscillation(
    updates: Sequence[int],
    scores: Sequence[float],
    returns: Sequence[NDArray[np.float64]],
    slope: float,
) -> float:
    """Interquartile range of the score's changes in the second half, the noise taken out.

    With c_i the changes between neighbouring evaluations at or after half of the horizon, and v_i
    the squared standard error of c_i that the evaluation episodes alone explain::

        oscillation = sqrt(max(0, IQR(c)² - 1.349² mean(v)))       in score points

    1.349 turns a standard deviation into an interquartile range, as for a normal distribution. v_i
    is slope² · var(difference of the two returns of each episode) / episodes: every evaluation
    starts from the same episode seeds, so the episodes are paired; were they not, the variance of
    the difference would still be the sum of both. NaN with fewer than three changes, a missing
    score or evaluations of fewer than two, or of unequal numbers of, episodes.
    """
    late = [i for i, update in enumerate(updates) if 2 * update >= updates[-1]]
    if len(late) < 4:
        return float("nan")
    episodes = {len(returns[i]) for i in late}
    if len(episodes) != 1 or min(episodes) < 2:
        return float("nan")
    changes = np.diff(np.asarray(scores, dtype=float)[late])
    paired = np.diff(np.stack([np.asarray(returns[i], dtype=float) for i in late]), axis=0)
    noise = slope**2 * paired.var(axis=1, ddof=1) / paired.shape[1]
    spread = float(np.subtract(*np.quantile(changes, [0.75, 0.25])))
    excess = spread**2 - IQR_OF_NORMAL**2 * float(noise.mean())
    return float(np.sqrt(max(0.0, excess))) if np.isfinite(excess) else float("nan")


def runs(table: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """The table's measures in long form: ``env, seed, variant, update, measure, value``."""
    long = table.melt(
        ["env", "seed", "variant", "update"], list(measures), "measure", "value"
    ).dropna(subset="value")
    return long[np.isfinite(long["value"].astype(float))].reset_index(drop=True)


def bands(long: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and its 95 % t interval, per environment, variant, measure and update.

    ``long`` is what :func:`runs` returns. Columns: those, less seed and value, and
    ``n, mean, lo, hi``; ``lo`` and ``hi`` are NaN where there is one seed.
    """
    by = ["env", "variant", "measure", "update"]
    rows = []
    for group, values in long.groupby(by, sort=True)["value"]:
        lo, hi = paired_t_interval(values)
        rows.append((*group, len(values), float(values.mean()), lo, hi))
    return pd.DataFrame(rows, columns=[*by, "n", "mean", "lo", "hi"])


def flows(results: Results) -> pd.DataFrame:
    """What became of each loss's gradient on ``obs_encoder``, as means over cells and steps.

    Columns: ``variant, loss``; ``computed``, a norm; ``applied`` and ``dropped``, shares of it.
    Variants stand in the suite's order.
    """
    rows = results.ledger[results.ledger["module"] == "obs_encoder"]
    names = [routing.name for routing in results.suite.routings]
    found = []
    for (variant, loss), steps in rows.groupby(["variant", "loss"]):
        seen = steps[steps["computed"] > 0]
        shares = [(seen[column].fillna(0) / seen["computed"]).mean() for column in _FATES]
        found.append((variant, loss, steps["computed"].mean(), *shares))
    frame = pd.DataFrame(found, columns=["variant", "loss", "computed", *_FATES])
    return frame.sort_values("variant", key=lambda v: v.map(names.index)).reset_index(drop=True)


def profiles(results: Results) -> pd.DataFrame:
    """Share of each variant's finished cells above each score: ``variant, tau, share``."""
    scores = results.cells.dropna(subset="final_score")
    if scores.empty:
        return pd.DataFrame(columns=["variant", "tau", "share"])
    low, high = scores["final_score"].min(), scores["final_score"].max()
    taus = np.linspace(low - 0.02 * (high - low) - 1, high, 201)
    parts = []
    for routing in results.suite.routings:
        mine = scores.loc[scores["variant"] == routing.name, "final_score"]
        if len(mine):
            share = performance_profile(mine, taus)
            parts.append(pd.DataFrame({"variant": routing.name, "tau": taus, "share": share}))
    return pd.concat(parts, ignore_index=True)


def geometric_bands(long: pd.DataFrame) -> pd.DataFrame:
    """As :func:`bands`, of the logarithms: geometric means, for positive values on a log axis."""
    positive = long[long["value"] > 0]
    frame = bands(positive.assign(value=np.log(positive["value"].astype(float))))
    frame[["mean", "lo", "hi"]] = np.exp(frame[["mean", "lo", "hi"]].astype(float))
    return frame


_FATES = ("applied", "dropped")
_OF_CURVE = ("steps", "random_state_r2", "auc", "updates_to_threshold", "oscillation", *LAST)
_OF_SIGNALS = ("grad_log_ratio", "grad_cosine", "grad_negative")


def _of_curve(curve: pd.DataFrame, slope: float) -> dict[str, object]:
    updates, scores = curve["update"].to_list(), curve["score"].to_list()
    returns = [np.asarray([] if r is None else r, dtype=float) for r in curve["returns"]]
    first, last = curve.iloc[0], curve.iloc[-1]
    return {
        "steps": tuple(updates),
        "random_state_r2": first["state_r2"] if updates[0] == 0 else float("nan"),
        "auc": area_under_curve(updates, scores),
        "updates_to_threshold": updates_to_threshold(updates, scores),
        "oscillation": oscillation(updates, scores, returns, slope),
        **{column: last[column] for column in LAST},
    }


def _of_signals(rows: pd.DataFrame) -> dict[str, float]:
    both = rows[(rows["grad_critic"] > 0) & (rows["grad_vae"] > 0)]
    cosine = rows["grad_cosine"].dropna()
    return {
        "grad_log_ratio": float(np.log10(both["grad_critic"] / both["grad_vae"]).mean()),
        "grad_cosine": float(cosine.mean()),
        "grad_negative": float((cosine < 0).mean()) if len(cosine) else float("nan"),
    }
