"""The brief's picture of the two loops, as measured: a panel a variant, a lane a loss, time across.

Nothing is computed here beyond where things stand on the page. Fates are told apart by filling and
sign, so that they are clear in grey and to every eye.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchbench.cli.suite_audit import Bar, Flow
from benchbench.core.files import save_figure
from benchbench.report.style import style
from benchbench.routing import LOSSES

PAGE = 6.9
"""Width in inches of both columns of a page."""

COLORS = {"critic_loss": "#6A3D9A", "vae_loss": "#B15928", "actor_loss": "#555555"}
SHORT = {"zero_grad": "zero", "backward": "back", "step": "step"}
PANEL, THICK = 0.95, 0.44
"""Heights: of a panel in inches, of a bar in lanes."""


def save_flows(flows: Sequence[Flow], path: Path) -> None:
    """Draw the flows and write them to a file; the same flows give the same bytes."""
    figure = flows_figure(flows)
    metadata = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with style():
        save_figure(figure, path, dpi=300, metadata=metadata[path.suffix.lower()])


def flows_figure(flows: Sequence[Flow]) -> Figure:
    """One panel a variant, two side by side where there are more than three."""
    with style():
        columns = 1 if len(flows) <= 3 else 2
        rows = math.ceil(len(flows) / columns)
        size = (PAGE, PANEL * rows + 0.36)
        figure = Figure(figsize=size, layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax, flow in zip(axes, flows, strict=False):
            _panel(ax, flow)
        for ax in axes[len(flows) :]:
            ax.set_visible(False)
        _legend(figure)
    return figure


def _panel(ax: Axes, flow: Flow) -> None:
    lanes = [f"{loss}_loss" for loss in LOSSES]
    right = len(flow.events) - 0.5
    for lane, loss in enumerate(lanes):
        ax.axhline(lane, color="#e6e6e6", lw=0.5, zorder=0)
        mine = [bar for bar in flow.bars if bar.loss == loss]
        if not mine:
            ax.text((right - 0.5) / 2, lane, "no gradient on obs_encoder", ha="center", va="center",
                    fontsize=5.5, color="#666666",
                    bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
        for bar in mine:
            _bar(ax, bar, lane, COLORS[loss], right)
    for place, (kind, _) in enumerate(flow.events):
        if kind == "zero_grad" and place:
            ax.axvline(place - 0.5, color="#cccccc", lw=0.5, zorder=0)
    ticks = [f"{SHORT[kind]}\n{_owner(by)}" for kind, by in flow.events]
    ax.set_xticks(range(len(ticks)), ticks, fontsize=5)
    ax.set_yticks(range(len(lanes)), lanes)
    ax.set_xlim(-0.5, right)
    ax.set_ylim(len(lanes) - 0.45, -0.75)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    names = " and ".join(_owner(holder) for holder in flow.holders)
    plural = "s" if len(flow.holders) > 1 else ""
    held = f"in {names} optimizer{plural}" if names else "in no optimizer"
    ax.set_title(f"{flow.variant}: obs_encoder {held}", loc="left", pad=3)


def _bar(ax: Axes, bar: Bar, lane: int, color: str, right: float) -> None:
    start = max(bar.start, -0.5)
    end = right if bar.end is None else min(bar.end, right)
    stepped = [place for place in bar.applied if place <= right]
    if bar.applied:
        until = max(min(bar.applied[0], right), start)
        ax.barh(lane, until - start, left=start, height=THICK, color=color, lw=0)
        ax.plot([until, end], [lane, lane], color=color, lw=0.8, ls=(0, (2, 1.5)))
    else:
        ax.barh(lane, end - start, left=start, height=THICK, facecolor="white", edgecolor=color,
                hatch="//////", lw=0.7)  # fmt: skip
    if bar.start >= 0:
        ax.plot(bar.start, lane, "o", ms=3.4, color=color, mec="white", mew=0.5, zorder=4)
        ax.text(bar.start, lane - 0.27, f"{bar.norm:.2g}", ha="center", va="bottom", fontsize=5.5)
    for place in stepped:
        if place >= 0:
            ax.plot(place, lane, "v", ms=5, color="black", mec="white", mew=0.5, zorder=4)
    if not bar.applied and bar.end is not None and bar.end <= right:
        ax.plot(bar.end, lane, "X", ms=5, color="black", mec="white", mew=0.6, zorder=4)


def _owner(by: str) -> str:
    short = by.removesuffix("_optimizer").removesuffix("_loss")
    return "vae" if short in ("actorvae", "actor_vae") else short


def _legend(figure: Figure) -> None:
    grey = "#555555"
    handles = [
        Line2D([], [], ls="", marker="o", ms=3.4, color=grey, label="computed (norm)"),
        Patch(color=grey, lw=0, label="in .grad, then applied"),
        Line2D([], [], ls="", marker="v", ms=5, color="black", label="applied by step()"),
        Line2D([], [], ls=(0, (2, 1.5)), lw=0.8, color=grey, label="applied, not yet cleared"),
        Patch(facecolor="white", edgecolor=grey, hatch="//////", label="in .grad, then dropped"),
        Line2D([], [], ls="", marker="X", ms=5, color="black", label="dropped by zero_grad()"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=2.2,
                  columnspacing=1.2)  # fmt: skip
