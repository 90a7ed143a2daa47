"""How a figure is laid out: panels, legends, names. Sizes are those of print, in inches."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import takewhile

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchbench.report.style import drawable_characters, looks

COLUMN, PAGE = 3.3, 6.9
"""Widths: one column of a two-column page, and both."""

TALLEST = 9.0
"""Height of a page. Panels of a figure that would be taller get lower, down to readable ones."""

LOWEST = 1.15
"""The least height of a panel."""


def grid(
    rows: int,
    columns: int,
    height: float,
    share_y: bool = False,
    wide: bool = True,
    names: Sequence[str] = (),
) -> tuple[Figure, list[Axes]]:
    """A figure of a column's width (a page's, for several panels) and its axes, row by row.

    ``height`` is a row's, in inches, lowered where the rows would not fit on a page; room is added
    for a legend of these ``names``.
    """
    width = PAGE if wide and columns > 1 else COLUMN
    below = 0.14 * math.ceil(len(names) / legend_columns(width, names)) if names else 0.0
    if rows * height > TALLEST:
        height = max(LOWEST, TALLEST / rows)
    figure = Figure(figsize=(width, height * rows + 0.2 + below), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=share_y, squeeze=False)
    return figure, list(axes.flat)


def legend(
    figure: Figure,
    variants: Sequence[str],
    markers: bool = True,
    others: Sequence[Line2D] = (),
) -> None:
    """The variants' looks below the figure, and the ``others`` behind them."""
    handles = [
        Line2D([], [], color=look.color, ls=look.line, lw=1.1,
               marker=look.marker if markers else "", ms=2.8, label=short(name, 50))
        for name, look in looks(variants).items()
    ]  # fmt: skip
    handles += others
    names = [str(handle.get_label()) for handle in handles]
    columns = min(len(handles), legend_columns(figure.get_figwidth(), names))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3.2)


def legend_columns(width: float, names: Sequence[str]) -> int:
    """How many names fit beside each other."""
    longest = max((min(len(name), 50) for name in names), default=0)
    return max(1, min(3 if width < 4 else 6, int(width / (0.6 + 0.045 * longest))))


def short(name: str, columns: int = 24) -> str:
    """A name as a figure shows it: up to three lines, broken behind its hyphens and the like.

    Dollar signs are text, not mathematics; characters that no font here has are told by number.
    """
    lines = [""]
    for piece in re.findall(r"[^-/_:.,\s]*[-/_:.,\s]?", _drawable(name)):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > columns:
            lines.append("")
        lines[-1] += piece
        while len(lines[-1]) > columns + 2:
            lines[-1:] = [lines[-1][:columns], lines[-1][columns:]]
    if len(lines) > 3:
        lines = [lines[0], lines[1][: columns - 1] + "…", lines[-1]]
    return "\n".join(line.strip() for line in lines).replace("$", r"\$")


def apart(names: Sequence[str], columns: int = 24) -> list[str]:
    """The names as :func:`short` shows them, but for a beginning that would make two look alike."""
    shown = [short(name, columns) for name in names]
    alike = [name for name, text in zip(names, shown, strict=True) if shown.count(text) > 1]
    start = takewhile(lambda letters: len({*letters}) == 1, zip(*alike, strict=False))
    same = re.sub(r"[^-/_:.,]*$", "", "".join(letters[0] for letters in start))
    return [
        short("…" + name.removeprefix(same), columns) if same and name.startswith(same) else text
        for name, text in zip(names, shown, strict=True)
    ]


def tall(names: Sequence[str], least: float) -> float:
    """Inches of a row that each of these names stands beside, at least ``least``."""
    return max(least, 0.05 + 0.1 * max((name.count("\n") + 1 for name in names), default=1))


def _drawable(name: str) -> str:
    """The name, with \\u65e5 and the like for characters that would be drawn as empty boxes."""
    if name.isascii():
        return name
    there = drawable_characters()
    return "".join(c if ord(c) in there else f"\\u{ord(c):04x}" for c in name)
