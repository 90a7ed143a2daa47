"""A document as one HTML file that needs nothing beside it: style, script and figures are inside.

Jinja2 escapes every text; the page's own policy forbids it any request.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from benchbench.report.document import Document, Heading
from benchbench.report.language import NAMES, Words

ENLARGED = 1.6
"""Size of a figure on a screen, over its size in print."""


def to_html(document: Document, folder: Path, words: Words) -> str:
    """The whole page, with the figures (SVG) and photos of the results folder that it shows."""
    figures = folder / "figures"
    environment = Environment(
        loader=PackageLoader("benchbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    environment.filters["whole"] = whole

    def embedded(name: str) -> tuple[int, str]:
        svg = (figures / f"{name}.svg").read_text(encoding="utf-8")
        return shown_width(svg), quoted(svg)

    def photo(path: str) -> str:
        kind = "gif" if path.endswith(".gif") else "png"
        data = base64.b64encode((folder / path).read_bytes()).decode("ascii")
        return f"data:image/{kind};base64,{data}"

    def vectors(name: str) -> list[tuple[str, str]]:
        found = [(kind, f"figures/{name}.{kind}") for kind in ("svg", "pdf", "png")]
        return [(kind.upper(), path) for kind, path in found if (folder / path).is_file()]

    headings = [block for block in document.blocks if isinstance(block, Heading)]
    return environment.get_template("report.html.j2").render(
        document=document,
        contents=[heading for heading in headings if heading.level == 2],
        embedded=embedded,
        photo=photo,
        vectors=vectors,
        names=NAMES,
        words=words,
    )


def whole(text: str) -> str:
    """The text with its intervals, '[0.30, 0.52]', and shares, '18 %', kept on one line."""
    return re.sub(r"\[[^]]*\]|\d %", lambda piece: piece[0].replace(" ", "\u00a0"), text)


def quoted(svg: str) -> Markup:
    """The figure as a data URI holds it, a third smaller than base64; no sign of HTML is left."""
    text = re.sub(r"\s*\n\s*", " ", svg).replace('"', "'")
    return Markup(quote(text, safe=" '=:;,/"))


def shown_width(svg: str) -> int:
    """Pixels that a figure takes where there is room: print's small type is enlarged."""
    points = re.search(r'<svg[^>]*\swidth="([\d.]+)pt"', svg)
    return round(float(points[1]) * 96 / 72 * ENLARGED) if points else 640
