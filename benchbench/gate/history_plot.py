"""The history as a figure: a panel a series, a line a variant and environment, steps marked."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd
import seaborn as sns

from benchbench.core.files import save_figure

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def plot_history(table: pd.DataFrame, steps: pd.DataFrame, path: Path) -> None:
    """Draw what ``nights`` and ``steps`` return into a file of the path's type."""
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
