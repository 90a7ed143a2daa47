"""What a report says, apart from how it is written down: blocks of marked text.

A :class:`Document` is made once and written as Markdown (``benchbench.report.markdown``) and as
HTML (``benchbench.report.html``). Text is a line of spans, so that what comes from elsewhere (an
error message, a processor's name) is told from the report's own words and escaped by each writer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchbench.core.text import width

Kind = Literal["text", "code", "strong", "em", "foreign", "verdict", "link"]


@dataclass(frozen=True)
class Span:
    """A piece of text: plain, or a name, or strong, or as the brief says it, or a verdict.

    ``foreign`` text comes from elsewhere. ``value`` is a verdict's word, whatever the language, or
    where a link leads: a file beside the page.
    """

    text: str
    kind: Kind = "text"
    value: str = ""


Line = tuple[Span, ...]


@dataclass(frozen=True)
class Cell:
    """A table's cell: its lines, and the number that it sorts by where it is one."""

    lines: tuple[Line, ...]
    sort: float | None = None

    @property
    def long(self) -> bool:
        """Whether it holds a sentence, which wants room."""
        return any(sum(width(span.text) for span in line) > 28 for line in self.lines)


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 or 2; the anchor is the same in every language.

    What is under a ``folded`` one is shown when asked for.
    """

    text: str
    anchor: str
    level: int = 2
    folded: bool = False
    kind: Literal["heading"] = "heading"


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; the ``lead`` one carries the verdict."""

    line: Line
    lead: bool = False
    kind: Literal["paragraph"] = "paragraph"


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[Line, ...]
    kind: Literal["bullets"] = "bullets"


@dataclass(frozen=True)
class Table:
    """A table. ``label`` names it for those who hear the page.

    A ``fixed`` one is not for sorting, and the lines of a row's cells stand beside each other.
    """

    label: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    fixed: bool = False
    kind: Literal["table"] = "table"

    def height(self, row: tuple[Cell, ...]) -> int:
        """How many lines a row takes."""
        return max(len(cell.lines) for cell in row)


@dataclass(frozen=True)
class Picture:
    """A figure by its file's stem."""

    name: str
    title: str
    caption: Line
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True)
class Photo:
    """A small picture of pixels, a frame or a film: its path beside the page and what it shows."""

    path: str
    title: str
    caption: Line
    kind: Literal["photo"] = "photo"


@dataclass(frozen=True)
class ForestLine:
    """A line of the overview: an effect and its interval as places from 0 to 1 on the scale.

    ``whole`` marks a claim's mean; ``at`` is None where nothing was measured. ``dots`` are the
    effects in the environments, where those have no lines of their own.
    """

    name: str
    whole: bool
    at: float | None
    ends: tuple[float, float] | None
    value: str
    verdict: Span
    dots: tuple[float, ...] = ()


@dataclass(frozen=True)
class Forest:
    """The overview: its picture, and the same as lines that a page of any width can show.

    ``sides`` says what left and right of zero mean, where that is not the sign of the difference.
    """

    picture: Picture
    lines: tuple[ForestLine, ...]
    band: tuple[float, float]
    ticks: tuple[tuple[float, str], ...]
    sides: tuple[str, str] | None = None
    kind: Literal["forest"] = "forest"


@dataclass(frozen=True)
class Code:
    """Text to be copied as it stands."""

    text: str
    kind: Literal["code"] = "code"


Block = Heading | Paragraph | Bullets | Table | Picture | Photo | Forest | Code


@dataclass(frozen=True)
class Document:
    """A whole report; ``others`` are its pages in other languages: a language and a file's stem."""

    title: str
    lang: str
    blocks: tuple[Block, ...]
    others: tuple[tuple[str, str], ...] = ()

    def sections(self) -> list[tuple[Heading | None, list[Block]]]:
        """The blocks under each heading of level 2; first those before any."""
        found: list[tuple[Heading | None, list[Block]]] = [(None, [])]
        for block in self.blocks:
            if isinstance(block, Heading) and block.level == 2:
                found.append((block, []))
            else:
                found[-1][1].append(block)
        return found


def marked(text: str) -> Line:
    """The report's own words: `names` and **strong** ones are marked as in Markdown."""
    spans = []
    for piece in re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", text):
        if piece.startswith("`"):
            spans.append(Span(piece[1:-1], "code"))
        elif piece.startswith("**"):
            spans.append(Span(piece[2:-2], "strong"))
        elif piece:
            spans.append(Span(piece))
    return tuple(spans)


def foreign(text: str) -> Line:
    """Text from elsewhere, as one line."""
    return (Span(" ".join(text.split()), "foreign"),)


def named(name: str) -> str:
    """A name from elsewhere, for :func:`marked`; its own backticks become accents that look so."""
    return "`" + name.replace("`", "\u02cb") + "`"


def quoting(text: str, *names: str) -> Line:
    """The report's own words, with a null character where each of the ``names`` stands."""
    first, *rest = text.split("\0")
    line = marked(first)
    for name, words in zip(names, rest, strict=True):
        line += foreign(name) + marked(words)
    return line


def cell(content: str | Line | Sequence[Line], sort: float | None = None) -> Cell:
    """A cell of one line of the report's own words, of one line, or of several."""
    known = sort if sort is not None and math.isfinite(sort) else None
    if isinstance(content, str):
        return Cell((marked(content),), known)
    if content and isinstance(content[0], Span):
        return Cell((tuple(s for s in content if isinstance(s, Span)),), known)
    return Cell(tuple(line for line in content if not isinstance(line, Span)), known)
