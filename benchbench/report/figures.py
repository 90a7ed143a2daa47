"""Figures of curves over training: one function each, tidy frames in, a ``Figure`` out.

Nothing is computed here beyond where things stand on the page.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchbench.report.layout import grid, legend, short
from benchbench.report.style import Look, looks, style

CRITIC = Look("#6A3D9A", "-", "o")
VAE = Look("#B15928", (0, (4, 1.5)), "s")
SIGNALS = {
    "grad_critic": ("critic loss", CRITIC, 1.1),
    "grad_q": ("its Q part", Look("#9E7CC1", (0, (1, 1)), "^"), 0.7),
    "grad_v": ("its V part", Look("#3F1F66", (0, (5, 1, 1, 1)), "v"), 0.7),
    "grad_vae": ("VAE loss", VAE, 1.1),
}
"""The norms that are drawn: their names, looks and line widths."""

CLAIMED = ((0.01, 0.1), (0.001, 0.01))
"""The brief's ranges for the critic's and the VAE's gradient norm on the encoder."""


REFERENCE: dict[str, Any] = {"color": "#333333", "lw": 0.8, "ls": (0, (1, 1.5))}
"""The line of what is known without the encoder."""


def score_figure(bands: pd.DataFrame, runs: pd.DataFrame, compared: Collection[str]) -> Figure:
    """Score over training: a panel an environment; mean, 95 % band, and a thin line a seed.

    The variants ``compared`` stand out.
    """
    with style():
        envs = list(dict.fromkeys(bands["env"]))
        columns = 2 if len(envs) == 4 else min(len(envs), 3)  # no empty panel up to four
        variants = list(dict.fromkeys(bands["variant"]))
        rows = math.ceil(len(envs) / columns)
        figure, axes = grid(rows, columns, 1.9, names=variants)
        for place, (ax, env) in enumerate(zip(axes, envs, strict=False)):
            mine = bands[bands["env"] == env]
            _curves(ax, mine, variants, compared, runs[runs["env"] == env])
            ax.set_title(short(env, 30))
            if place + columns >= len(envs):
                ax.set_xlabel("updates")
        for ax in axes[len(envs) :]:
            ax.set_visible(False)
        if rows == 1:
            axes[0].set_ylabel("score (D4RL × 100)")
        else:
            figure.supylabel("score (D4RL × 100)", fontsize=7)
        legend(figure, variants)
    return figure


def probe_figure(
    bands: pd.DataFrame,
    labels: dict[str, str],
    references: pd.DataFrame,
    compared: Collection[str],
) -> Figure:
    """Probes over training: a row an environment, a column a measure of ``labels``.

    ``references`` (``env, measure, value``) are drawn as thin dotted lines: what a probe reaches
    that sees only the time index.
    """
    figure = _curve_grid(bands, labels, compared, across=True, reference="time index only")
    with style():
        envs = list(dict.fromkeys(bands["env"]))
        for ax, (env, measure) in zip(figure.axes, itertools.product(envs, labels), strict=True):
            here = references[(references["env"] == env) & (references["measure"] == measure)]
            for value in here["value"]:
                ax.axhline(value, **REFERENCE)
    return figure


def q_error_figure(
    bands: pd.DataFrame, labels: dict[str, str], compared: Collection[str]
) -> Figure:
    """Errors of Q over training: a column an environment, a row a measure of ``labels``.

    The other way round where the environments would not fit beside each other.
    """
    return _curve_grid(bands, labels, compared, across=bands["env"].nunique() > 3)


def _curve_grid(
    bands: pd.DataFrame,
    labels: dict[str, str],
    compared: Collection[str],
    across: bool,
    reference: str = "",
) -> Figure:
    """Environments by measures; ``across`` puts the measures side by side.

    ``reference`` names the dotted line in the legend.
    """
    with style():
        envs = list(dict.fromkeys(bands["env"]))
        cells = [(env, measure) for env in envs for measure in labels]
        rows, columns = (len(envs), len(labels)) if across else (len(labels), len(envs))
        if not across:
            cells.sort(key=lambda cell: list(labels).index(cell[1]))
        variants = list(dict.fromkeys(bands["variant"]))
        lines = [Line2D([], [], label=reference, **REFERENCE)] if reference else []
        named = [*variants, *(str(line.get_label()) for line in lines)]
        figure, axes = grid(rows, columns, 1.5, names=named)
        for position, (ax, (env, measure)) in enumerate(zip(axes, cells, strict=True)):
            mine = bands[(bands["env"] == env) & (bands["measure"] == measure)]
            _curves(ax, mine, variants, compared)
            top, left = position < columns, position % columns == 0
            if top:
                ax.set_title(labels[measure] if across else short(env, 30))
            if left:
                ax.set_ylabel(short(env, 14) if across else labels[measure])
            if position >= columns * (rows - 1):
                ax.set_xlabel("updates")
        legend(figure, variants, others=lines)
    return figure


def signal_figure(bands: pd.DataFrame) -> Figure:
    """Gradient norms of both losses on the encoder, log scale, beside the brief's ranges.

    A row an environment, a column a variant; norms are measured whether or not they are applied.
    The critic's parts are thin lines, where they were measured.
    """
    with style():
        envs = list(dict.fromkeys(bands["env"]))
        variants = list(dict.fromkeys(bands["variant"]))
        there = {name: line for name, line in SIGNALS.items() if name in set(bands["measure"])}
        figure, axes = grid(
            len(envs),
            len(variants),
            1.6,
            share_y=True,
            names=[label for label, *_ in there.values()],
        )
        for position, (ax, (env, variant)) in enumerate(
            zip(axes, itertools.product(envs, variants), strict=True)
        ):
            mine = bands[(bands["env"] == env) & (bands["variant"] == variant)]
            for look, (low, high) in zip((CRITIC, VAE), CLAIMED, strict=True):
                ax.axhspan(low, high, color=look.color, alpha=0.13, lw=0)
            for measure, (label, look, width) in there.items():
                _band(ax, mine[mine["measure"] == measure], look, label, False, width)
            ax.set_yscale("log")
            if position < len(variants):
                ax.set_title(short(variant, max(8, 84 // len(variants))))
            if position % len(variants) == 0:
                ax.set_ylabel(f"{short(env, 14)}\ngradient norm")
            if position >= len(variants) * (len(envs) - 1):
                ax.set_xlabel("updates")
        handles, names = axes[0].get_legend_handles_labels()
        handles += [Patch(color=look.color, alpha=0.2, lw=0) for look in (CRITIC, VAE)]
        names += ["critic, as the brief says", "VAE, as the brief says"]
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 6),
                      handlelength=3)  # fmt: skip
    return figure


def _curves(
    ax: Axes,
    bands: pd.DataFrame,
    variants: Sequence[str],
    compared: Collection[str],
    runs: pd.DataFrame | None = None,
) -> None:
    """A panel; ``variants`` are the whole figure's, so that each looks the same in every panel."""
    if bands.empty:
        ax.text(0.5, 0.5, "no values", ha="center", va="center", color="#777777",
                transform=ax.transAxes)  # fmt: skip
        ax.set(xticks=[], yticks=[])
    few = len(variants) <= 3
    alike = same_curves(bands)
    for variant, look in looks(variants).items():
        if runs is not None:
            for _, run in runs[runs["variant"] == variant].groupby("seed"):
                ax.plot(run["update"], run["value"], color=look.color, lw=0.35,
                        alpha=0.3 if few else 0.12)  # fmt: skip
        first = variant in compared
        # Bands of the compared alone: many in one panel are a fog. A curve that lies under another
        # shows its own markers between those of the first.
        _band(ax, bands[bands["variant"] == variant], look, str(variant), first,
              shade=0.15 if few or first else 0.0, shift=variant in alike)  # fmt: skip


def _band(
    ax: Axes,
    line: pd.DataFrame,
    look: Look,
    label: str,
    first: bool,
    width: float = 1.1,
    shade: float = 0.15,
    shift: bool = False,
) -> None:
    every = max(2, len(line) // 6)
    if shade:
        ax.fill_between(line["update"], line["lo"], line["hi"], color=look.color, alpha=shade, lw=0)
    ax.plot(
        line["update"], line["mean"], color=look.color, ls="none" if shift else look.line, lw=width,
        label=label, marker=look.marker, ms=2.8, markevery=(every // 2 if shift else 0, every),
        zorder=4 if shift else 3 if first else 2.5,
    )  # fmt: skip


def same_curves(bands: pd.DataFrame) -> set[str]:
    """The variants whose curves are exactly those of a variant before them."""
    seen: set[tuple[float, ...]] = set()
    again = set()
    for variant in dict.fromkeys(bands["variant"]):
        curve = tuple(bands.loc[bands["variant"] == variant, "mean"].dropna())
        if curve in seen:
            again.add(variant)
        seen.add(curve)
    return again
