"""The figures: one function each, tidy frames in, a matplotlib ``Figure`` out.

Nothing is computed here beyond where things stand on the page. Sizes are those of print: 3.3 in for
a column, 6.9 in for both. A variant keeps its colour, line and marker in every figure of every
suite; colours are Okabe and Ito's and the like, and lines and markers tell them apart in grey.
Figures are built without pyplot, so no backend is chosen and no global state is touched.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchbench.routing import LOSSES, REGISTRY

COLUMN, PAGE = 3.3, 6.9
"""Widths in inches: one column of a two-column page, and both."""


@dataclass(frozen=True)
class Look:
    """How a variant is drawn."""

    color: str
    line: str | tuple[float, tuple[float, ...]]
    marker: str


_LOOKS = (
    Look("#D55E00", (0, (4, 1.5)), "o"),
    Look("#0072B2", "-", "s"),
    Look("#E69F00", ":", "^"),
    Look("#009E73", "-.", "D"),
    Look("#CC79A7", (0, (6, 1, 1, 1, 1, 1)), "v"),
    Look("#555555", (0, (1, 2)), "X"),
    Look("#56B4E9", (0, (8, 2)), "P"),
    Look("#882255", (0, (3, 1, 1, 1)), "<"),
    Look("#999933", (0, (2, 1)), ">"),
    Look("#332288", (0, (10, 2, 2, 2)), "h"),
    Look("#AA7744", (0, (1, 1)), "*"),
    Look("#000000", (0, (5, 3)), "p"),
)
"""Twelve looks: those of the registry's variants in its order, then the suites' own."""

CRITIC = Look("#332288", "-", "o")
VAE = Look("#999933", (0, (4, 1.5)), "s")
CLAIMED = {"critic": (0.01, 0.1), "VAE": (0.001, 0.01)}
"""The brief's ranges for the two losses' gradient norms on the encoder."""


def looks(variants: Sequence[str]) -> dict[str, Look]:
    """The look of each variant: fixed for the registry's, by name's order for a suite's own."""
    fixed = list(REGISTRY)
    names = [*fixed, *sorted(set(variants) - set(fixed))]
    table = dict(zip(names, itertools.cycle(_LOOKS), strict=False))
    return {name: table[name] for name in variants}


def style() -> AbstractContextManager[None]:
    """The rc settings under which figures are made and saved, undone afterwards."""
    settings = sns.axes_style("ticks") | {
        "font.family": "sans-serif", "font.size": 7, "axes.titlesize": 7, "axes.labelsize": 7,
        "xtick.labelsize": 6, "ytick.labelsize": 6, "legend.fontsize": 6, "axes.linewidth": 0.6,
        "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5,
        "ytick.major.size": 2.5, "xtick.minor.size": 1.5, "ytick.minor.size": 1.5,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.linewidth": 0.4, "grid.color": "#e6e6e6", "legend.frameon": False,
        "svg.hashsalt": "benchbench", "hatch.linewidth": 0.6,
    }  # fmt: skip
    return mpl.rc_context(settings)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``name.png`` at 200 dots an inch and ``name.svg``; the same figure, the same bytes."""
    with style():
        figure.savefig(folder / f"{name}.png", dpi=200, metadata={"Software": None})
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


def score_figure(bands: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Score over training: a panel an environment; mean, 95 % band, and a thin line a seed."""
    with style():
        envs = list(dict.fromkeys(bands["env"]))
        columns = min(len(envs), 2)
        figure, axes = _grid(math.ceil(len(envs) / columns), columns, 1.9)
        for ax, env in zip(axes, envs, strict=False):
            _curves(ax, bands[bands["env"] == env], runs[runs["env"] == env])
            ax.set_title(short(env))
            ax.set_xlabel("updates")
        for ax in axes[len(envs) :]:
            ax.set_visible(False)
        for ax in axes[::columns]:
            ax.set_ylabel("score (D4RL × 100)")
        _legend(figure, list(dict.fromkeys(bands["variant"])))
    return figure


def curve_figure(bands: pd.DataFrame, labels: dict[str, str], across: bool) -> Figure:
    """Several measures over training: environments one way, measures (``labels``) the other.

    ``across`` puts the measures side by side and the environments below each other.
    """
    with style():
        envs = list(dict.fromkeys(bands["env"]))
        cells = [(env, measure) for env in envs for measure in labels]
        rows, columns = (len(envs), len(labels)) if across else (len(labels), len(envs))
        if not across:
            cells.sort(key=lambda cell: list(labels).index(cell[1]))
        figure, axes = _grid(rows, columns, 1.5)
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
        _legend(figure, list(dict.fromkeys(bands["variant"])))
    return figure


def signal_figure(bands: pd.DataFrame) -> Figure:
    """Gradient norms of both losses on the encoder, log scale, beside the brief's ranges.

    A row an environment, a column a variant; both norms are measured whether or not they are
    applied.
    """
    with style():
        envs = list(dict.fromkeys(bands["env"]))
        variants = list(dict.fromkeys(bands["variant"]))
        figure, axes = _grid(len(envs), len(variants), 1.6, share_y=True)
        measures = {"grad_critic": ("critic loss", CRITIC), "grad_vae": ("VAE loss", VAE)}
        for position, (ax, (env, variant)) in enumerate(
            zip(axes, itertools.product(envs, variants), strict=True)
        ):
            mine = bands[(bands["env"] == env) & (bands["variant"] == variant)]
            for look, (name, (low, high)) in zip((CRITIC, VAE), CLAIMED.items(), strict=True):
                ax.axhspan(low, high, color=look.color, alpha=0.13, lw=0)
                ax.text(
                    0.98, math.sqrt(low * high), f"brief: {name}", fontsize=5, color="#444444",
                    transform=ax.get_yaxis_transform(), ha="right", va="center",
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
                color="black" if is_mean else looks(["after"])["after"].color,
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
        figure.supxlabel("gradient on obs_encoder: solid applied, hatched dropped; mean norm", fontsize=6)
    return figure


def profile_figure(profiles: pd.DataFrame) -> Figure:
    """Performance profiles: the share of runs above each score (``variant, tau, share``)."""
    with style():
        figure, (ax,) = _grid(1, 1, 1.8)
        variants = list(dict.fromkeys(profiles["variant"]))
        for variant, look in looks(variants).items():
            mine = profiles[profiles["variant"] == variant]
            ax.plot(mine["tau"], mine["share"], color=look.color, ls=look.line, lw=1.1)
        ax.set_xlabel("score τ")
        ax.set_ylabel("share of runs with score > τ")
        ax.set_ylim(-0.03, 1.03)
        _legend(figure, variants, markers=False)
    return figure


def short(env: str) -> str:
    """An environment's id without what all of them share."""
    return env.removeprefix("bullet-").removesuffix("-v0")


def _grid(
    rows: int, columns: int, height: float, share_y: bool = False, wide: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of a column's width (a page's, for several panels) and its axes, row by row."""
    width = PAGE if wide and columns > 1 else COLUMN
    figure = Figure(figsize=(width, height * rows + 0.35), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=share_y, squeeze=False)
    return figure, list(axes.flat)


def _curves(ax: Axes, bands: pd.DataFrame, runs: pd.DataFrame | None = None) -> None:
    for variant, look in looks(list(dict.fromkeys(bands["variant"]))).items():
        if runs is not None:
            for _, run in runs[runs["variant"] == variant].groupby("seed"):
                ax.plot(run["update"], run["value"], color=look.color, lw=0.35, alpha=0.3)
        _band(ax, bands[bands["variant"] == variant], look, str(variant))


def _band(ax: Axes, line: pd.DataFrame, look: Look, label: str) -> None:
    every = max(1, len(line) // 6)
    ax.fill_between(line["update"], line["lo"], line["hi"], color=look.color, alpha=0.15, lw=0)
    ax.plot(
        line["update"], line["mean"], color=look.color, ls=look.line, lw=1.1, label=label,
        marker=look.marker, ms=2.8, markevery=every,
    )  # fmt: skip


def _legend(figure: Figure, variants: Sequence[str], markers: bool = True) -> None:
    handles = [
        mpl.lines.Line2D([], [], color=look.color, ls=look.line, lw=1.1,
                         marker=look.marker if markers else "", ms=2.8, label=name)
        for name, look in looks(variants).items()
    ]  # fmt: skip
    columns = min(len(handles), 3 if figure.get_figwidth() < 4 else 6)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3.2)
