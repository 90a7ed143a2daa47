"""A document as GitHub's Markdown."""

from __future__ import annotations

from benchbench.core.text import escape, markdown_table
from benchbench.report.document import (
    Block,
    Bullets,
    Cell,
    Document,
    Heading,
    Line,
    Paragraph,
    Picture,
    Span,
)


def to_markdown(document: Document) -> str:
    """The whole page; figures are ``figures/<name>.png`` beside it."""
    return "\n\n".join(_block(block).strip() for block in document.blocks) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        return _line(block.line)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_line(item)}" for item in block.items)
    if isinstance(block, Picture):
        return f"![{block.title}](figures/{block.name}.png)\n\n{_line(block.caption)}"
    return markdown_table(block.header, [[_cell(cell) for cell in row] for row in block.rows])


def _cell(cell: Cell) -> str:
    return "<br>".join(_line(line) for line in cell.lines)


def _line(line: Line) -> str:
    return "".join(_span(span) for span in line)


def _span(span: Span) -> str:
    if span.kind == "foreign":
        return escape(span.text)
    mark = {"text": "", "code": "`", "em": "*", "strong": "**", "verdict": "**"}[span.kind]
    text = span.text.replace("<", "&lt;") if not mark else span.text
    return f"{mark}{text}{mark}"
