"""Numbers and tables as text: Markdown for the page, aligned columns for the terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tabulate import SEPARATING_LINE, DataRow, Line, TableFormat, tabulate
from wcwidth import wcswidth

DIGITS = {"points": 1, "points²": 0, "R²": 2, "share": 2, "probability": 2, "updates": 0,
          "log10": 2, "gain": 2, "cosine": 2, "correlation": 2, "CKA": 2}  # fmt: skip
"""Decimals by unit; three significant digits elsewhere."""

TINY = 1e-6
"""What is smaller is printed as 0; between, as many digits as it takes to tell it from 0."""

NONE = "–"
"""Printed in place of a missing number."""


def number(value: float, unit: str = "", signed: bool = False, digits: int | None = None) -> str:
    """A number at its unit's precision, or ±∞; :data:`NONE` where there is none.

    ``digits`` are decimals in place of the unit's.
    """
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if math.isnan(value):
        return NONE
    sign = "+" if signed else ""
    small = False
    if digits is None:
        digits = DIGITS.get(unit)
        small = digits is not None and TINY < abs(value) < 10.0**-digits
    text = f"{value:{sign}.2g}" if small else f"{value:{sign}.3g}"
    if digits is not None and not small:
        text = f"{value:{sign}.{digits}f}"
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def percent(share: float, digits: int = 0) -> str:
    """A share as the reports write it: '18 %'."""
    return f"{100 * share:.{digits}f} %" if math.isfinite(share) else NONE


def mean_and_interval(
    mean: float, lo: float, hi: float, unit: str = "", signed: bool = False
) -> str:
    """'0.41 [0.30, 0.52]', the interval only where there is one.

    All three have the unit's decimals, but what would be printed as 0; where all are less than the
    last of these, as many decimals as show two digits of the largest.
    """
    if not math.isfinite(mean) or math.isnan(lo) or math.isnan(hi):
        return number(mean, unit, signed)
    largest, digits = max(abs(mean), abs(lo), abs(hi)), DIGITS.get(unit)
    if digits is not None and TINY < largest < 10.0**-digits:
        digits = 1 - math.floor(math.log10(largest))
    first, low, high = (
        number(value, unit, signed, None if _lost(value, digits) else digits)
        for value in (mean, lo, hi)
    )
    return f"{first} [{low}, {high}]"


def _lost(value: float, digits: int | None) -> bool:
    """Whether so many decimals print a number as 0 that is none."""
    return digits is not None and TINY < abs(value) < 0.5 * 10.0**-digits


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
    lines = [header, SEPARATING_LINE, *rows]
    text = tabulate(lines, tablefmt=_PLAIN, disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.split("\n")) + "\n"


# tabulate's "simple" with the header as its first row: a header's column is else two wider.
_COLUMNS = DataRow("", "  ", "")
_PLAIN = TableFormat(None, Line("", "-", "  ", ""), None, None, _COLUMNS, _COLUMNS, 0, None)


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    return max(0, wcswidth(text))


def escape(text: str) -> str:
    """Text from elsewhere (an error message, say) as one harmless line of Markdown and HTML."""
    line = " ".join(text.split())
    for character in "\\`*_[]|#~!$":
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
