"""A document as GitHub's Markdown."""

from __future__ import annotations

from benchbench.core.text import escape, markdown_table
from benchbench.report.document import (
    Block,
    Bullets,
    Cell,
    Code,
    Document,
    Forest,
    Heading,
    Line,
    Paragraph,
    Photo,
    Picture,
    Span,
)
from benchbench.report.language import NAMES, Words


def to_markdown(document: Document) -> str:
    """The whole page; figures are ``figures/<name>.png`` beside it."""
    words = Words("zh" if document.lang == "zh" else "en")
    parts: list[str] = []
    for heading, blocks in document.sections():
        folded = heading is not None and heading.folded
        if heading:
            parts.append(_block(heading))
        if folded:
            parts.append(f"<details><summary>{words('show')}</summary>")
        parts += [_block(block).strip() for block in blocks]
        if folded:
            parts.append("</details>")
        if heading is None and document.others:
            links = (f"[{NAMES[lang]}](REPORT{end}.md)" for lang, end in document.others)
            parts.insert(1, " · ".join(links))
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        return _line(block.line)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_line(item)}" for item in block.items)
    if isinstance(block, Code):
        return f"```bibtex\n{block.text}\n```"
    if isinstance(block, Photo):
        return f"![{escape(block.title)}]({block.path})\n\n{_line(block.caption)}"
    if isinstance(block, Forest):
        return _block(block.picture)
    if isinstance(block, Picture):
        return f"![{block.title}](figures/{block.name}.png)\n\n{_line(block.caption)}"
    return markdown_table(
        [_in_table(name) for name in block.header],
        [[_cell(cell) for cell in row] for row in block.rows],
    )


def _cell(cell: Cell) -> str:
    return "<br>".join(_line(line) for line in cell.lines)


def _in_table(name: str) -> str:
    """A head, which may be an environment's id: what would end the cell or begin a mark is text."""
    return escape(name) if set(name) & set("|*`<$") else name


def _line(line: Line) -> str:
    return "".join(_span(span) for span in line)


def _span(span: Span) -> str:
    if span.kind == "foreign":
        return escape(span.text)
    if span.kind == "link":
        return f"[{span.text}]({span.value})"
    mark = {"text": "", "code": "`", "em": "*", "strong": "**", "verdict": "**"}[span.kind]
    text = span.text.replace("<", "&lt;") if not mark else span.text
    return f"{mark}{text}{mark}"
