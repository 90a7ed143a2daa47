"""Numbers and tables as text: Markdown for the page, aligned columns for the terminal."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

DIGITS = {"points": 1, "points²": 0, "R²": 2, "share": 2, "probability": 2, "updates": 0,
          "log10": 2, "gain": 2, "cosine": 2, "correlation": 2, "CKA": 2}  # fmt: skip
"""Decimals by unit; three significant digits elsewhere."""

NONE = "–"
"""Printed in place of a missing number."""


def number(value: float, unit: str = "", signed: bool = False) -> str:
    """A number at its unit's precision; :data:`NONE` where it is not finite."""
    if not math.isfinite(value):
        return NONE
    sign = "+" if signed else ""
    text = f"{value:{sign}.{DIGITS[unit]}f}" if unit in DIGITS else f"{value:{sign}.3g}"
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def mean_and_interval(
    mean: float, lo: float, hi: float, unit: str = "", signed: bool = False
) -> str:
    """'0.41 [0.30, 0.52]', the interval only where there is one."""
    text = number(mean, unit, signed)
    if math.isfinite(lo) and math.isfinite(hi):
        text += f" [{number(lo, unit, signed)}, {number(hi, unit, signed)}]"
    return text


def difference(mean: float, lo: float, hi: float, unit: str, scale: str) -> str:
    """A signed difference, or for a difference of logarithms the ratio, '×0.62 [0.50, 0.77]'."""
    if scale == "ln ratio" and math.isfinite(mean):
        return "×" + mean_and_interval(math.exp(mean), math.exp(lo), math.exp(hi))
    return mean_and_interval(mean, lo, hi, unit, signed=True)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table. Cells may hold Markdown of ours; text from elsewhere goes through escape."""
    lines = [list(header), ["---"] * len(header), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned for a terminal, where a Chinese character is two wide."""
    lines = [list(header), *map(list, rows)]
    widths = [max(width(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * w for w in widths])
    padded = [
        "  ".join(text + " " * (w - width(text)) for text, w in zip(line, widths, strict=True))
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in padded) + "\n"


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def escape(text: str) -> str:
    """Text from elsewhere (an error message, say) as one harmless line of Markdown and HTML."""
    line = " ".join(text.split())
    for character in "\\`*_[]|#~!":
        line = line.replace(character, "\\" + character)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_CHINESE = r"\u3000-\u9fff\uff00-\uffef"


def wrapped(text: str, columns: int) -> str:
    """Lines of at most ``columns`` columns, broken at spaces and after Chinese characters."""
    lines = [""]
    for piece in re.findall(rf"[{_CHINESE}]|[^\s{_CHINESE}]+|\s+", text):
        closing = piece[0] in "，。；：、）"
        if lines[-1] and not closing and width(lines[-1] + piece.rstrip()) > columns:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return "\n".join(line.rstrip() for line in lines)
