"""Where things stand on a figure: panels, legends, names. Sizes are those of print, in inches."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchbench.report.style import looks

COLUMN, PAGE = 3.3, 6.9
"""Widths: one column of a two-column page, and both."""

TALLEST = 9.0
"""Height of a page. Panels of a figure that would be taller get lower, down to readable ones."""

LOWEST = 0.95
"""The least height of a panel."""


def grid(
    rows: int,
    columns: int,
    height: float,
    share_y: bool = False,
    wide: bool = True,
    names: int = 0,
) -> tuple[Figure, list[Axes]]:
    """A figure of a column's width (a page's, for several panels) and its axes, row by row.

    ``height`` is a row's, in inches, lowered where the rows would not fit on a page; room is added
    for a legend of ``names`` names.
    """
    width = PAGE if wide and columns > 1 else COLUMN
    below = 0.14 * math.ceil(names / legend_columns(width)) if names else 0.0
    if rows * height > TALLEST:
        height = max(LOWEST, TALLEST / rows)
    figure = Figure(figsize=(width, height * rows + 0.2 + below), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=share_y, squeeze=False)
    return figure, list(axes.flat)


def legend(figure: Figure, variants: Sequence[str], markers: bool = True) -> None:
    """The variants' looks below the figure."""
    handles = [
        Line2D([], [], color=look.color, ls=look.line, lw=1.1,
               marker=look.marker if markers else "", ms=2.8, label=name)
        for name, look in looks(variants).items()
    ]  # fmt: skip
    columns = min(len(handles), legend_columns(figure.get_figwidth()))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3.2)


def legend_columns(width: float) -> int:
    """How many names fit beside each other."""
    return 3 if width < 4 else 6


def short(env: str) -> str:
    """An environment's id as a figure shows it: the same name as in the tables."""
    return env


def folded(name: str, columns: int = 14) -> str:
    """A long name on several lines, broken behind its hyphens."""
    return "\n".join(textwrap.wrap(name.replace("-", "- "), columns)).replace("- ", "-")
