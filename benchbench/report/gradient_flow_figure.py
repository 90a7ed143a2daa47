"""The brief's picture of a training step, as it was measured: a row a variant, a column a loss.

In each step stand the loss, the module that it trains and the encoder. An arrow is a gradient: a
solid one was applied by an optimizer's step, a dashed one was computed and then wiped, and where
there is none nothing was computed.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from benchbench.core.text import percent
from benchbench.report.layout import PAGE, apart
from benchbench.report.style import looks, style
from benchbench.routing import LOSSES

HEADS = {"critic": "critic", "vae": "actor_vae", "actor": "actor"}
"""The module that each loss trains; without a VAE, the policy takes its place."""

NAMES, ROW, TOP, BOTTOM = 0.95, 0.62, 0.28, 0.3
"""Inches: the column of names, a row, and what stands above and below the rows."""

STEP = (PAGE - NAMES) / len(LOSSES)
LOSS_AT, MODULE_AT, LOSS_WIDE, MODULE_WIDE, HIGH = 0.32, STEP - 0.4, 0.56, 0.68, 0.17
GREY, FAINT = "#555555", "#b5b5b5"


def flow_figure(flows: pd.DataFrame) -> Figure:
    """``flows`` has ``variant, loss, module, computed`` (mean norm), ``applied`` and ``dropped``.

    The last two are shares of ``computed``.
    """
    with style():
        variants = list(dict.fromkeys(flows["variant"]))
        height = TOP + ROW * len(variants) + BOTTOM
        figure = Figure(figsize=(PAGE, height))
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, PAGE), ylim=(height, 0))
        ax.set_axis_off()
        for number, loss in enumerate(LOSSES):
            ax.text(NAMES + STEP * (number + 0.5), TOP / 2, f"step {number + 1}: {loss} loss",
                    ha="center", va="center", fontsize=7, weight="bold")  # fmt: skip
        rows = {(r["variant"], r["loss"], r["module"]): r for _, r in flows.iterrows()}
        names = apart(variants, 14)
        for place, (variant, look) in enumerate(looks(variants).items()):
            y = TOP + ROW * (place + 0.5)
            ax.axhline(y - ROW / 2, color="#dddddd", lw=0.5)
            ax.text(0.06, y, names[place], ha="left", va="center", fontsize=7, weight="bold",
                    color=look.color)  # fmt: skip
            for number, loss in enumerate(LOSSES):
                head = HEADS[loss] if (variant, loss, HEADS[loss]) in rows else "actor"
                found = {
                    module: rows[variant, loss, module]
                    for module in (head, "obs_encoder")
                    if (variant, loss, module) in rows
                }
                _step(ax, NAMES + STEP * number, y, loss, head, found, look.color)
        _key(ax, height - BOTTOM / 2)
    return figure


def _step(
    ax: Axes, x: float, y: float, loss: str, head: str, found: dict[str, pd.Series], color: str
) -> None:
    """One loss with its two modules; the encoder's arrow in the variant's colour."""
    _box(ax, x + LOSS_AT, y, LOSS_WIDE, f"{loss} loss", GREY, filled=False)
    for module, rise in ((head, -0.14), ("obs_encoder", 0.14)):
        shade = color if module == "obs_encoder" else GREY
        row = found.get(module)
        reached = row is not None and row["computed"] > 0
        applied = row is not None and reached and row["applied"] > 0.005
        _box(ax, x + MODULE_AT, y + rise, MODULE_WIDE, module, shade if reached else FAINT,
             filled=applied)  # fmt: skip
        if row is None or not reached:
            continue
        start = (x + LOSS_AT + LOSS_WIDE / 2 + 0.02, y + rise * 0.35)
        end = (x + MODULE_AT - MODULE_WIDE / 2 - 0.02, y + rise)
        _arrow(ax, start, end, shade, applied)
        share = f", {percent(row['applied'])}" if 0.005 < row["applied"] < 0.995 else ""
        ax.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + (-0.07 if rise < 0 else 0.085),
                f"{_norm(row['computed'])}{share}", ha="center", va="center", fontsize=5.5,
                color=shade)  # fmt: skip


def _norm(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _box(ax: Axes, x: float, y: float, wide: float, name: str, color: str, filled: bool) -> None:
    ax.add_patch(FancyBboxPatch(
        (x - wide / 2, y - HIGH / 2), wide, HIGH, boxstyle="round,pad=0,rounding_size=0.04",
        fc=color if filled else "white", ec=color, lw=0.7,
    ))  # fmt: skip
    ax.text(x, y, name, ha="center", va="center", fontsize=6, color="white" if filled else color)


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str, applied: bool
) -> None:
    ax.add_patch(FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=6, color=color, lw=1.2 if applied else 0.9,
        ls="-" if applied else (0, (3, 2)), fc=color if applied else "white",
        shrinkA=0, shrinkB=0,
    ))  # fmt: skip


def _key(ax: Axes, y: float) -> None:
    ax.axhline(y - BOTTOM / 2, color="#dddddd", lw=0.5)
    _arrow(ax, (0.1, y), (0.5, y), GREY, applied=True)
    ax.text(0.58, y, "applied by a step()", va="center", fontsize=6)
    _arrow(ax, (1.75, y), (2.15, y), GREY, applied=False)
    ax.text(2.23, y, "computed, then dropped by a zero_grad()", va="center", fontsize=6)
    ax.text(4.35, y, "no arrow: not computed;  numbers: mean gradient norm", va="center",
            fontsize=6)  # fmt: skip
