"""The gated series over past nights, and where they stepped: snapshots in, frames out.

The unit is the **night**: its value of a series is the mean over the seeds that every night of
that series has (geometric on the ln-ratio scale), since a night's seeds share a machine and a
commit. Nights whose cells have other keys than the last night's are left out.

**Steps** are found by binary segmentation. Of all splits of a stretch of nights with at least
:data:`SIDE` nights on either side, the one with the largest |mean after - mean before| in pooled
standard errors is a candidate. Its p-value is the share of :data:`DRAWS` seeded shuffles of the
nights whose own best split is as large, the observed one counted among them, which corrects for
the search over splits. The split is a step where p <= :data:`ALPHA` over the number of series, and
the jump exceeds the suite's margin; then both sides are searched. Drift without a step may be cut
into steps; a step in the last :data:`SIDE` - 1 nights is not found yet: that is the gate's task.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchbench.core.files import save_figure
from benchbench.gate.snapshot import SERIES, Series, Snapshot, margin_of

ALPHA = 0.05
"""Chance, over all series, of seeing a step where nights only vary."""

SIDE = 3
"""Fewest nights on either side of a step."""

DRAWS = 9_999
"""Shuffles for a step's p-value."""

NIGHT = ["started_at", "commit", "source", "env", "variant", "series", "unit", "scale", "worse",
         "margin", "n", "value"]  # fmt: skip
STEP = ["env", "variant", "series", "unit", "scale", "started_at", "commit", "before", "after",
        "difference", "p", "sign"]  # fmt: skip


def nights(snapshots: Sequence[Snapshot]) -> pd.DataFrame:
    """One row a night and series, in the order of time; columns as in :data:`NIGHT`.

    ``started_at`` is that of the night's first cell, ``n`` the number of seeds in the mean. A night
    that is given twice, such as by its folder and by the baseline made of it, counts once.
    """
    by_start = {str(_done(s)["started_at"].min()): s for s in snapshots if len(_done(s))}
    ran = [by_start[start] for start in sorted(by_start)]
    if not ran:
        return pd.DataFrame(columns=NIGHT)
    margins = ran[-1].suite.margins
    wanted = set(ran[-1].cells["key"])
    rows = []
    for series in SERIES:
        tables = [_finite(_done(s), series, wanted) for s in ran]
        for env, variant in dict.fromkeys(
            (e, v) for t in tables for e, v in zip(t["env"], t["variant"], strict=True)
        ):
            parts = [t[(t["env"] == env) & (t["variant"] == variant)] for t in tables]
            seeds = set.intersection(*(set(part["seed"]) for part in parts if len(part)))
            for snapshot, part in zip(ran, parts, strict=True):
                values = part.loc[part["seed"].isin(seeds), series.name]
                if values.empty:
                    continue
                done = _done(snapshot)
                commits = sorted({str(c)[:12] for c in done["git_commit"].dropna()})
                rows.append((
                    done["started_at"].min(), " + ".join(commits), snapshot.source, env, variant,
                    series.name, series.unit, series.scale, series.worse,
                    margin_of(series, margins), len(values), _mean(values, series),
                ))  # fmt: skip
    return pd.DataFrame(rows, columns=NIGHT)


def steps(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The steps of every series, from what :func:`nights` returns; columns as in :data:`STEP`.

    ``started_at`` and ``commit`` are those of the first night behind the step, ``before`` and
    ``after`` the means of the nights around it up to the next step, ``difference`` is on the
    series' scale and ``sign`` says better or worse.
    """
    groups = list(table.groupby(["env", "variant", "series"], sort=False))
    found = []
    for (env, variant, name), rows in groups:
        first = rows.iloc[0]
        ratio = first["scale"] == "ln ratio"
        y = rows["value"].to_numpy(dtype=float)
        y = np.log(y) if ratio else y
        cuts = change_points(y, float(first["margin"]), ALPHA / len(groups), seed)
        edges = [0, *(cut for cut, _ in cuts), len(y)]
        for i, (cut, p) in enumerate(cuts):
            means = [float(y[edges[i] : cut].mean()), float(y[cut : edges[i + 2]].mean())]
            jump = means[1] - means[0]
            shown = np.exp(means) if ratio else means
            night = rows.iloc[cut]
            found.append((
                env, variant, name, first["unit"], first["scale"], night["started_at"],
                night["commit"], *shown, jump, p,
                "worse" if jump * first["worse"] > 0 else "better",
            ))  # fmt: skip
    return pd.DataFrame(found, columns=STEP)


def change_points(
    y: NDArray[np.float64], margin: float, alpha: float, seed: int = 0
) -> list[tuple[int, float]]:
    """Where ``y`` (one value a night) steps: the first index behind each step, and its p-value."""
    split = _best_split(y[None, :])
    if split is None:
        return []
    t, at = float(split[0][0]), int(split[1][0])
    if abs(y[at:].mean() - y[:at].mean()) <= margin:
        return []
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(y, (DRAWS, 1)), axis=1)
    again = _best_split(shuffled)
    assert again is not None
    p = (1 + int(np.sum(again[0] >= t * (1 - 1e-9)))) / (1 + DRAWS)
    if p > alpha:
        return []
    left = change_points(y[:at], margin, alpha, seed)
    right = change_points(y[at:], margin, alpha, seed)
    return [*left, (at, p), *((at + cut, p_cut) for cut, p_cut in right)]


def _best_split(
    y_RN: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """For each row of R, N nights: the largest |t| over splits, and where; None if too short."""
    count = y_RN.shape[1]
    cuts = np.arange(SIDE, count - SIDE + 1)
    if not len(cuts):
        return None
    y_RN = y_RN - y_RN.mean(axis=1, keepdims=True)
    total = (y_RN**2).sum(axis=1, keepdims=True)
    left = np.cumsum(y_RN, axis=1)[:, cuts - 1]
    between = left**2 * count / (cuts * (count - cuts))
    within = np.maximum(total - between, 1e-12 * total + 1e-300)
    t = np.sqrt(between * (count - 2) / within)
    best = t.argmax(axis=1)
    return t[np.arange(len(t)), best], cuts[best]


def _done(snapshot: Snapshot) -> pd.DataFrame:
    return snapshot.cells[snapshot.cells["status"] == "done"]


def _finite(cells: pd.DataFrame, series: Series, wanted: set[str]) -> pd.DataFrame:
    value = cells[series.name].astype(float)
    fine = np.isfinite(value) & ((value > 0) | (series.scale == "difference"))
    return cells[fine & cells["key"].isin(wanted)]


def _mean(values: pd.Series, series: Series) -> float:
    values = values.astype(float)
    return float(np.exp(np.log(values).mean()) if series.scale == "ln ratio" else values.mean())


def plot_history(table: pd.DataFrame, steps: pd.DataFrame, path: Path) -> None:
    """Draw what :func:`nights` and :func:`steps` return into a file of the path's type.

    A panel is a series, a line an environment's variant; steps are marked.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    names = list(dict.fromkeys(table["series"]))
    order = list(dict.fromkeys(table["started_at"].sort_values()))
    with sns.axes_style("whitegrid"):
        figure, axes = plt.subplots(
            len(names), 1, figsize=(9, 2.2 * len(names)), sharex=True, squeeze=False
        )
    lines = list(dict.fromkeys(zip(table["env"], table["variant"], strict=True)))
    colours = dict(zip(lines, sns.color_palette("colorblind", len(lines)), strict=True))
    for axis, name in zip(axes[:, 0], names, strict=True):
        for line in lines:
            rows = table[
                (table["series"] == name)
                & (table["env"] == line[0])
                & (table["variant"] == line[1])
            ]
            axis.plot(
                [order.index(night) for night in rows["started_at"]],
                rows["value"],
                marker="o",
                markersize=3,
                color=colours[line],
                label=" ".join(line),
            )
        for step in steps[steps["series"] == name].itertuples():
            axis.axvline(
                order.index(step.started_at) - 0.5,
                color=colours[(step.env, step.variant)],
                linestyle="--" if step.sign == "worse" else ":",
            )
        unit = table.loc[table["series"] == name, "unit"].iloc[0]
        axis.set_ylabel(f"{name}\n({unit})")
    axes[-1, 0].set_xticks(range(len(order)), [night[:10] for night in order], rotation=45)
    axes[0, 0].set_title("nights; a step is dashed where it is worse, dotted where better")
    axes[0, 0].legend(fontsize="small")
    figure.tight_layout()
    save_figure(figure, path, dpi=120)
    plt.close(figure)
