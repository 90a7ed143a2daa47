"""Figures of cells' ends: paired differences, profiles, chances and costs; frames in, figures out.

Nothing is computed here beyond where things stand on the page.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchbench.report.layout import apart, grid, legend, short, tall
from benchbench.report.style import looks, style

SEEDS_APART = 30
"""Up to this many pairs, each has a line of its own in the forest plot."""

STRATA = (
    ("#000000", "o"), ("#CC79A7", "s"), ("#009E73", "^"), ("#E69F00", "D"), ("#56B4E9", "v"),
    ("#882255", "P"), ("#999933", "X"), ("#332288", "*"),
)  # fmt: skip
"""Colour and marker of environments and conditions where these share a panel."""

SPENT = {
    "train": ("training", "#0072B2", ""),
    "evaluate": ("evaluation", "#E69F00", "////"),
    "diagnose": ("diagnostics", "#009E73", "\\\\\\\\"),
}
"""What a cell's time is spent on, and how that is drawn."""


def paired_figure(pairs: pd.DataFrame, means: pd.DataFrame, label: str, delta: float) -> Figure:
    """Forest plot of paired differences: a dot a pair, a diamond and interval a mean.

    ``pairs`` has ``env, seed, difference``; ``means`` has ``env`` ('all' for their mean),
    ``difference, lo, hi``. The band around zero is ±``delta``. Many pairs share a line for each
    environment.
    """
    with style():
        alone = len(pairs) <= SEEDS_APART
        lines: list[tuple[str, list[float], pd.DataFrame]] = []
        for env in dict.fromkeys(pairs["env"]):
            mine = pairs[pairs["env"] == env].sort_values("seed")
            if alone:
                lines += [
                    (f"seed {pair['seed']}", [pair["difference"]], means[:0])
                    for _, pair in mine.iterrows()
                ]
            dots = [] if alone else mine["difference"].to_list()
            lines.append((short(env), dots, means[means["env"] == env]))
        lines.append(("mean of these", [], means[means["env"] == "all"]))
        each = tall([name for name, _, _ in lines], 0.125 if alone else 0.2)
        figure, (ax,) = grid(1, 1, 0.5 + each * len(lines))
        ax.axvspan(-delta, delta, color="#dddddd", lw=0, zorder=0)
        ax.axvline(0, color="#444444", lw=0.6)
        for height, (_, dots, mean) in enumerate(lines):
            ax.plot(dots, [height] * len(dots), "o", ms=3, color="#777777", alpha=0.8)
            for _, row in mean.iterrows():
                ax.plot([row["lo"], row["hi"]], [height, height], color="black", lw=1.3)
                ax.plot(row["difference"], height, "D", ms=4.5, color="black")
        ax.set_yticks(range(len(lines)), [name for name, _, _ in lines])
        for tick, (_, _, mean) in zip(ax.get_yticklabels(), lines, strict=True):
            tick.set_fontweight("normal" if mean.empty else "bold")
        ax.set_ylim(len(lines) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(short(label, 48))
    return figure


def improvement_figure(chances: pd.DataFrame, control: str) -> Figure:
    """Probability that a run of each variant beats one of ``control``; ½ says nothing.

    ``chances`` has ``variant, mean, lo, hi``.
    """
    with style():
        names = apart(chances["variant"].to_list())
        figure, (ax,) = grid(1, 1, 0.45 + tall(names, 0.17) * len(chances))
        ax.axvline(0.5, color="#444444", lw=0.6)
        table = looks([control, *chances["variant"]])  # as in the figures that show it too
        for height, (_, row) in enumerate(chances.iterrows()):
            look = table[row["variant"]]
            ax.plot([row["lo"], row["hi"]], [height, height], color=look.color, lw=1.3)
            ax.plot(row["mean"], height, look.marker, ms=4, color=look.color)
        ax.set_yticks(range(len(chances)), names)
        ax.set_ylim(len(chances) - 0.4, -0.6)
        ax.set_xlim(-0.03, 1.03)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(short(f"P(variant scores above {control})", 48))
    return figure


def chain_figure(pairs: pd.DataFrame, links: pd.DataFrame, labels: dict[str, str]) -> Figure:
    """A panel a link of the chain: a dot a pair, its two differences against each other.

    Columns as :mod:`benchbench.analysis.chain` has them; ``labels`` names each claim's difference.
    """
    with style():
        figure, axes = grid(1, len(links), 1.75)
        envs = list(dict.fromkeys(pairs["env"]))
        marks = dict(zip(envs, itertools.cycle(STRATA), strict=False))
        for ax, (_, link) in zip(axes, links.iterrows(), strict=True):
            ax.axhline(0, color="#444444", lw=0.6)
            ax.axvline(0, color="#444444", lw=0.6)
            for env in envs:
                mine = pairs[pairs["env"] == env]
                color, marker = marks[env]
                ax.plot(mine[link["cause"]], mine[link["effect"]], marker, ms=3, color=color,
                        alpha=0.8, label=short(env, 40))  # fmt: skip
            ax.set_xlabel(labels[link["cause"]])
            ax.set_ylabel(labels[link["effect"]])
            if np.isfinite(link["rho"]):
                ax.set_title(f"ρ = {link['rho']:+.2f} (p {link['p']:.2g}), {link['pairs']} pairs")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(3, len(envs)))
    return figure


def cost_figure(costs: pd.DataFrame) -> Figure:
    """Time an update and time a cell, by variant; columns as ``curves.costs`` has them."""
    with style():
        variants = apart(costs["variant"].to_list())
        figure, (left, right) = grid(
            1,
            2,
            0.6 + tall(variants, 0.17) * len(costs),
            share_y=True,
            names=[*(name for name, *_ in SPENT.values()), "the rest"],
        )
        heights = range(len(costs))
        bars = left.barh(heights, costs["update_ms"].fillna(0), height=0.6, color="#7a8794")
        left.bar_label(bars, [amount(v) for v in costs["update_ms"]], padding=2, fontsize=5.5)
        left.set_xlabel("an update (ms, median)")
        start = np.zeros(len(costs))
        for part, (name, color, hatch) in SPENT.items():
            width = costs[f"{part}_s"].fillna(0).to_numpy()
            right.barh(heights, width, left=start, height=0.6, color=color, hatch=hatch,
                       edgecolor="white", lw=0, label=name)  # fmt: skip
            start = start + width
        rest = (costs["cell_s"].to_numpy() - start).clip(min=0)
        bars = right.barh(heights, rest, left=start, height=0.6, color="#cccccc", label="the rest")
        right.bar_label(bars, [amount(v) for v in costs["cell_s"]], padding=2, fontsize=5.5)
        right.set_xlabel("a cell (s, mean)")
        left.set_yticks(heights, variants)
        left.set_ylim(len(costs) - 0.4, -0.6)
        for ax in (left, right):
            ax.grid(axis="y", visible=False)
            ax.margins(x=0.12)
        handles, names = right.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
    return figure


def amount(value: float) -> str:
    """Three significant digits, never as a power of ten: 98.1, 100, 1,234."""
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:,.{digits}f}"


def profile_figure(profiles: pd.DataFrame) -> Figure:
    """Performance profiles: the share of runs above each score (``variant, tau, share``)."""
    with style():
        variants = list(dict.fromkeys(profiles["variant"]))
        figure, (ax,) = grid(1, 1, 1.8, names=variants)
        for variant, look in looks(variants).items():
            mine = profiles[profiles["variant"] == variant]
            ax.plot(mine["tau"], mine["share"], color=look.color, ls=look.line, lw=1.1)
        ax.set_xlabel("score τ")
        ax.set_ylabel("share of runs above τ")
        ax.set_ylim(-0.03, 1.03)
        legend(figure, variants, markers=False)
    return figure
