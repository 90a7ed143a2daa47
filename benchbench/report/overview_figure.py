"""The overview: a forest of all verdicts, effects in units of delta; frames in, a figure out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchbench.analysis.brief import ALL
from benchbench.report.layout import PAGE, short, tall
from benchbench.report.style import style

EDGE = 100.0
"""Effects and intervals are drawn up to this many deltas; what goes on has an arrow."""

TICKS = (1, 3, 10, 30, 100)

APART = 6
"""Up to this many environments, each has a line of its own; else they are dots on their mean's."""


@dataclass(frozen=True)
class Mark:
    """How a verdict is drawn: colour and marker, distinct in grey too."""

    color: str
    marker: str
    filled: bool = True


MARKS = {
    "supported": Mark("#009E73", "o"),
    "shown, size open": Mark("#0072B2", "o"),
    "higher": Mark("#009E73", "^"),
    "lower": Mark("#CC79A7", "v"),
    "opposite": Mark("#D55E00", "D"),
    "negligible": Mark("#7A5195", "s"),
    "inconclusive": Mark("#777777", "o", filled=False),
    "not measured": Mark("#AAAAAA", "x"),
}
"""Verdicts in the order of the key."""


def place(value: float) -> float:
    """Where an effect stands between the edges, 0 to 1: the inverse hyperbolic sine of it."""
    inside = min(max(value, -EDGE), EDGE)
    return 0.5 + 0.5 * math.asinh(inside) / math.asinh(EDGE)


def overview_figure(
    frame: pd.DataFrame, names: dict[str, str], label: str, sides: tuple[str, str] | None = None
) -> Figure:
    """``frame`` as :func:`~benchbench.analysis.verdicts.overview` makes it; ``names`` of claims.

    A claim's line in bold is the mean over the environments. The grey band is within delta of zero;
    the scale is linear there and logarithmic beyond. ``sides`` says what left and right mean.
    """
    with style():
        lines = _lines(frame, names)
        height = 0.9 + tall([name for name, _, _ in lines], 0.155) * len(lines)
        figure = Figure(figsize=(PAGE, height), layout="constrained")
        ax = figure.subplots()
        ax.axvspan(place(-1), place(1), color="#e4e4e4", lw=0, zorder=0)
        ax.axvline(0.5, color="#444444", lw=0.6, zorder=1)
        for y, (_, bold, rows) in enumerate(lines):
            for number, (_, row) in enumerate(rows.iterrows()):
                _draw(ax, y, row, bold, dot=number > 0)
            if bold and y:
                ax.axhline(y - 0.5, color="#dddddd", lw=0.5)
        ax.set_yticks(range(len(lines)), [name for name, _, _ in lines])
        for tick, (_, bold, _) in zip(ax.get_yticklabels(), lines, strict=True):
            tick.set_fontweight("bold" if bold else "normal")
        ax.set_ylim(len(lines) - 0.4, -0.6)
        ax.set_xlim(-0.01, 1.01)
        ticks = [-t for t in reversed(TICKS)] + [0, *TICKS]
        ax.set_xticks([place(t) for t in ticks], [f"{t:+d}δ".replace("-", "−") if t else "0"
                                                 for t in ticks])  # fmt: skip
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(short(label, 48))
        for place_of, text, side in zip((0, 1), sides or (), ("left", "right"), strict=False):
            ax.text(place_of, 1.0, text, ha=side, va="bottom", fontsize=6, transform=ax.transAxes)
        seen = set(frame["verdict"])
        handles = [
            Line2D([], [], color=mark.color, marker=mark.marker, ms=4, lw=1.2, label=word,
                   mfc=mark.color if mark.filled else "white")
            for word, mark in MARKS.items() if word in seen
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _lines(frame: pd.DataFrame, names: dict[str, str]) -> list[tuple[str, bool, pd.DataFrame]]:
    """Each line's name, whether it is a claim's mean, and its rows, the interval's first."""
    lines = []
    for claim in dict.fromkeys(frame["claim"]):
        mine = frame[frame["claim"] == claim]
        over, alone = mine[mine["env"] == ALL], mine[mine["env"] != ALL]
        if len(alone) > APART:
            lines.append((names[claim], True, mine))
            continue
        lines.append((names[claim], True, over))
        lines += [(short(env, 40), False, alone[alone["env"] == env]) for env in alone["env"]]
    return lines


def _draw(ax: Axes, y: float, row: pd.Series, bold: bool, dot: bool) -> None:
    mark = MARKS[row["verdict"]]
    if not math.isfinite(row["effect"]):
        return
    if not dot and not (math.isnan(row["lo"]) or math.isnan(row["hi"])):
        ax.plot([place(row["lo"]), place(row["hi"])], [y, y], color=mark.color,
                lw=1.8 if bold else 1.0, solid_capstyle="butt", zorder=2)  # fmt: skip
        for end, beyond, arrow in ((row["lo"], row["lo"] < -EDGE, "<"),
                                   (row["hi"], row["hi"] > EDGE, ">")):  # fmt: skip
            if beyond:
                ax.plot(place(end), y, arrow, ms=3, color=mark.color, zorder=2)
    size = 2 if dot else 4.5 if bold else 3.2
    ax.plot(place(row["effect"]), y, mark.marker, ms=size, color=mark.color,
            mfc=mark.color if mark.filled else "white", mew=0.9, zorder=3)  # fmt: skip
