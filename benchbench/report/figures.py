"""The figures: one function each, tidy frames in, a matplotlib ``Figure`` out.

Nothing is computed here beyond where things stand on the page. Sizes are those of print: 3.3 in for
a column, 6.9 in for both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchbench.report.look import Look, looks, style
from benchbench.routing import LOSSES

COLUMN, PAGE = 3.3, 6.9
"""Widths in inches: one column of a two-column page, and both."""


CRITIC = Look("#6A3D9A", "-", "o")
VAE = Look("#B15928", (0, (4, 1.5)), "s")
CLAIMED = {"critic": (0.01, 0.1), "VAE": (0.001, 0.01)}
"""The brief's ranges for the two losses' gradient norms on the encoder."""


def score_figure(bands: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Score over training: a panel an environment; mean, 95 % band, and a thin line a seed."""
    with style():
        envs = list(dict.fromkeys(bands["env"]))
        columns = min(len(envs), 2)
        variants = list(dict.fromkeys(bands["variant"]))
        figure, axes = _grid(math.ceil(len(envs) / columns), columns, 1.9, legend=len(variants))
        for ax, env in zip(axes, envs, strict=False):
            _curves(ax, bands[bands["env"] == env], runs[runs["env"] == env])
            ax.set_title(short(env))
            ax.set_xlabel("updates")
        for ax in axes[len(envs) :]:
            ax.set_visible(False)
        for ax in axes[::columns]:
            ax.set_ylabel("score (D4RL × 100)")
        _legend(figure, variants)
    return figure


def probe_figure(bands: pd.DataFrame, labels: dict[str, str], references: pd.DataFrame) -> Figure:
    """Probes over training: a row an environment, a column a measure of ``labels``.

    ``references`` (``env, measure, value``) are drawn as thin dotted lines: what a probe reaches
    that sees only the time index.
    """
    figure = _curve_grid(bands, labels, across=True)
    with style():
        envs = list(dict.fromkeys(bands["env"]))
        for ax, (env, measure) in zip(figure.axes, itertools.product(envs, labels), strict=True):
            here = references[(references["env"] == env) & (references["measure"] == measure)]
            for value in here["value"]:
                ax.axhline(value, color="#777777", lw=0.8, ls=(0, (1, 1.5)))
                ax.annotate("time index only", (0.98, value), ha="right", va="bottom", fontsize=5,
                            color="#555555", xycoords=ax.get_yaxis_transform())  # fmt: skip
    return figure


def q_error_figure(bands: pd.DataFrame, labels: dict[str, str]) -> Figure:
    """Errors of Q over training: a column an environment, a row a measure of ``labels``."""
    return _curve_grid(bands, labels, across=False)


def _curve_grid(bands: pd.DataFrame, labels: dict[str, str], across: bool) -> Figure:
    """Environments by measures; ``across`` puts the measures side by side."""
    with style():
        envs = list(dict.fromkeys(bands["env"]))
        cells = [(env, measure) for env in envs for measure in labels]
        rows, columns = (len(envs), len(labels)) if across else (len(labels), len(envs))
        if not across:
            cells.sort(key=lambda cell: list(labels).index(cell[1]))
        variants = list(dict.fromkeys(bands["variant"]))
        figure, axes = _grid(rows, columns, 1.5, legend=len(variants))
        for position, (ax, (env, measure)) in enumerate(zip(axes, cells, strict=True)):
            mine = bands[(bands["env"] == env) & (bands["measure"] == measure)]
            _curves(ax, mine)
            top, left = position < columns, position % columns == 0
            if top:
                ax.set_title(labels[measure] if across else short(env))
            if left:
                ax.set_ylabel(short(env) if across else labels[measure])
            if position >= columns * (rows - 1):
                ax.set_xlabel("updates")
        _legend(figure, variants)
    return figure


def signal_figure(bands: pd.DataFrame) -> Figure:
    """Gradient norms of both losses on the encoder, log scale, beside the brief's ranges.

    A row an environment, a column a variant; both norms are measured whether or not they are
    applied.
    """
    with style():
        envs = list(dict.fromkeys(bands["env"]))
        variants = list(dict.fromkeys(bands["variant"]))
        figure, axes = _grid(len(envs), len(variants), 1.6, share_y=True, legend=2)
        measures = {"grad_critic": ("critic loss", CRITIC), "grad_vae": ("VAE loss", VAE)}
        for position, (ax, (env, variant)) in enumerate(
            zip(axes, itertools.product(envs, variants), strict=True)
        ):
            mine = bands[(bands["env"] == env) & (bands["variant"] == variant)]
            for look, (name, (low, high)) in zip((CRITIC, VAE), CLAIMED.items(), strict=True):
                ax.axhspan(low, high, color=look.color, alpha=0.13, lw=0)
                ax.text(
                    0.99, low * 1.08, f"brief: {name}", fontsize=5, color="#444444",
                    transform=ax.get_yaxis_transform(), ha="right", va="bottom",
                )  # fmt: skip
            for measure, (label, look) in measures.items():
                line = mine[mine["measure"] == measure]
                _band(ax, line, look, label)
            ax.set_yscale("log")
            if position < len(variants):
                ax.set_title(variant)
            if position % len(variants) == 0:
                ax.set_ylabel(f"{short(env)}\ngradient norm")
            if position >= len(variants) * (len(envs) - 1):
                ax.set_xlabel("updates")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2, handlelength=3)
    return figure


def paired_figure(pairs: pd.DataFrame, means: pd.DataFrame, label: str, delta: float) -> Figure:
    """Forest plot of paired differences: a dot a pair, a diamond and interval a mean.

    ``pairs`` has ``env, seed, difference``; ``means`` has ``env`` ('all' for all pairs),
    ``difference, lo, hi``. The band around zero is ±``delta``.
    """
    with style():
        lines: list[tuple[str, pd.Series, bool]] = []
        for env in dict.fromkeys(pairs["env"]):
            mine = pairs[pairs["env"] == env].sort_values("seed")
            lines += [(f"seed {pair['seed']}", pair, False) for _, pair in mine.iterrows()]
            lines += [(short(env), m, True) for _, m in means[means["env"] == env].iterrows()]
        lines += [("all pairs", m, True) for _, m in means[means["env"] == "all"].iterrows()]
        figure, (ax,) = _grid(1, 1, 0.5 + 0.125 * len(lines))
        ax.axvspan(-delta, delta, color="#dddddd", lw=0, zorder=0)
        ax.axvline(0, color="#444444", lw=0.6)
        for height, (_, line, is_mean) in enumerate(lines):
            if is_mean:
                ax.plot([line["lo"], line["hi"]], [height, height], color="black", lw=1.3)
            ax.plot(
                line["difference"], height, "D" if is_mean else "o", ms=4.5 if is_mean else 3,
                color="black" if is_mean else "#777777",
            )  # fmt: skip
        ax.set_yticks(range(len(lines)), [name for name, _, _ in lines])
        for tick, (_, _, is_mean) in zip(ax.get_yticklabels(), lines, strict=True):
            tick.set_fontweight("bold" if is_mean else "normal")
        ax.set_ylim(len(lines) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(label)
    return figure


def flow_figure(flows: pd.DataFrame) -> Figure:
    """What became of each loss's gradient on the encoder: a row a variant, a column a loss.

    ``flows`` has ``variant, loss, computed`` (mean norm), ``applied`` and ``dropped`` (shares of
    it). A solid bar was applied, a hatched one dropped; 'not computed' where there was none.
    """
    with style():
        variants = list(dict.fromkeys(flows["variant"]))
        table = looks(variants)
        figure, axes = _grid(1, len(LOSSES), 0.45 + 0.24 * len(variants), share_y=True, wide=False)
        for ax, loss in zip(axes, LOSSES, strict=True):
            mine = flows[flows["loss"] == loss].set_index("variant").reindex(variants)
            for height, (variant, row) in enumerate(mine.iterrows()):
                color = table[str(variant)].color
                if not row["computed"] > 0:
                    ax.text(0.5, height, "not computed", ha="center", va="center", fontsize=5.5,
                            color="#777777")  # fmt: skip
                    continue
                ax.barh(height, row["applied"], height=0.6, color=color)
                ax.barh(height, row["dropped"], left=row["applied"], height=0.6, color="white",
                        edgecolor=color, hatch="/////", lw=0.8)  # fmt: skip
                what = "applied" if row["applied"] >= row["dropped"] else "dropped"
                ax.text(0.5, height, f"{what} {row['computed']:.2g}", ha="center", va="center",
                        fontsize=5.5, bbox={"fc": "white", "ec": "none", "pad": 0.8})  # fmt: skip
            ax.set_title(f"{loss} loss")
            ax.set_xlim(0, 1)
            ax.set_xticks([])
            ax.grid(visible=False)
            ax.spines["bottom"].set_visible(False)
        axes[0].set_yticks(range(len(variants)), variants)
        axes[0].set_ylim(len(variants) - 0.5, -0.5)
        figure.supxlabel(
            "gradient on obs_encoder: solid applied, hatched dropped; mean norm", fontsize=6
        )
    return figure


def profile_figure(profiles: pd.DataFrame) -> Figure:
    """Performance profiles: the share of runs above each score (``variant, tau, share``)."""
    with style():
        variants = list(dict.fromkeys(profiles["variant"]))
        figure, (ax,) = _grid(1, 1, 1.8, legend=len(variants))
        for variant, look in looks(variants).items():
            mine = profiles[profiles["variant"] == variant]
            ax.plot(mine["tau"], mine["share"], color=look.color, ls=look.line, lw=1.1)
        ax.set_xlabel("score τ")
        ax.set_ylabel("share of runs above τ")
        ax.set_ylim(-0.03, 1.03)
        _legend(figure, variants, markers=False)
    return figure


def short(env: str) -> str:
    """An environment's id without what all of them share."""
    return env.removeprefix("bullet-").removesuffix("-v0")


def _grid(
    rows: int,
    columns: int,
    height: float,
    share_y: bool = False,
    wide: bool = True,
    legend: int = 0,
) -> tuple[Figure, list[Axes]]:
    """A figure of a column's width (a page's, for several panels) and its axes, row by row.

    ``height`` is a row's, in inches; room is added for a legend of ``legend`` names.
    """
    width = PAGE if wide and columns > 1 else COLUMN
    below = 0.12 * math.ceil(legend / _legend_columns(width)) if legend else 0.0
    figure = Figure(figsize=(width, height * rows + 0.2 + below), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=share_y, squeeze=False)
    return figure, list(axes.flat)


def _curves(ax: Axes, bands: pd.DataFrame, runs: pd.DataFrame | None = None) -> None:
    faint = 0.3 if bands["variant"].nunique() <= 3 else 0.12
    for variant, look in looks(list(dict.fromkeys(bands["variant"]))).items():
        if runs is not None:
            for _, run in runs[runs["variant"] == variant].groupby("seed"):
                ax.plot(run["update"], run["value"], color=look.color, lw=0.35, alpha=faint)
        _band(ax, bands[bands["variant"] == variant], look, str(variant))


def _band(ax: Axes, line: pd.DataFrame, look: Look, label: str) -> None:
    every = max(1, len(line) // 6)
    ax.fill_between(line["update"], line["lo"], line["hi"], color=look.color, alpha=0.15, lw=0)
    compared = label in ("before", "after")
    ax.plot(
        line["update"], line["mean"], color=look.color, ls=look.line, lw=1.1, label=label,
        marker=look.marker, ms=2.8, markevery=every, zorder=3 if compared else 2.5,
    )  # fmt: skip


def _legend_columns(width: float) -> int:
    return 3 if width < 4 else 6


def _legend(figure: Figure, variants: Sequence[str], markers: bool = True) -> None:
    handles = [
        Line2D([], [], color=look.color, ls=look.line, lw=1.1,
                         marker=look.marker if markers else "", ms=2.8, label=name)
        for name, look in looks(variants).items()
    ]  # fmt: skip
    columns = min(len(handles), _legend_columns(figure.get_figwidth()))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3.2)
