"""An audit as a self-contained page, with a drawing of each module's gradients."""

from __future__ import annotations

from html import escape

from benchbench.gradients.observed import Life, Observed
from benchbench.gradients.record import NOT_LOSSES, Event
from benchbench.gradients.text import ledger, modules, timeline

LEFT, WIDE, TALL, TOP = 150, 84, 34, 34
"""In pixels: the losses' names, an event's column, a loss's lane, the head."""
COLORS = ("#6A3D9A", "#B15928", "#1F78B4", "#33A02C", "#E31A1C", "#555555")

_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: left; }
th { border-bottom: 2px solid #888; }
.scroll { overflow-x: auto; }
"""


def html_page(audit: Observed) -> str:
    """Findings, the ledger, one step's timeline, and a flow figure a module."""
    verdict = "no warnings" if audit.ok else "not all is well"
    found = [("Warnings", audit.warnings), ("Unknown", audit.unknown), ("Notes", audit.notes)]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Gradient audit</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>Gradient audit: {verdict}</h1>",
        f"<p>{escape(str(audit.seen))}</p>",
    ]
    for title, some in found:
        if some:
            items = "".join(f"<li>{escape(str(one))}</li>" for one in some)
            parts.append(f"<h2>{title}</h2><ul>{items}</ul>")
    parts += ["<h2>Ledger</h2>", _table(ledger(audit)), _table(modules(audit)), "<h2>One step</h2>"]
    parts.append(_table(timeline(audit)))
    for module in audit.modules:
        if audit.lives(module):
            parts += [f"<h2>{escape(module)}</h2>", f'<div class="scroll">{flow_svg(audit, module)}'
                      "</div>"]  # fmt: skip
    parts.append("</body></html>")
    return "\n".join(parts)


def _table(rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:]
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def flow_svg(audit: Observed, module: str) -> str:
    """The gradients on one module through the shown step: a lane a loss, time from left to right.

    A filled bar is a gradient that is applied, a hollow one that is dropped; ▼ marks the step, ✕
    the clearing. Raises :class:`ValueError` for a module that the audit does not have.
    """
    if module not in audit.modules:
        raise ValueError(f"there is no module {module!r}: {', '.join(audit.modules)}")
    shown = [i for i, event in enumerate(audit.events) if event.step == audit.shown_step]
    first, last = (shown[0], shown[-1]) if shown else (0, 0)
    losses = list(dict.fromkeys(s.loss for s in audit.shares if s.loss not in NOT_LOSSES))
    width, height = LEFT + WIDE * max(len(shown), 1) + 20, TOP + TALL * max(len(losses), 1) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="10" role="img">',
        f"<title>{escape(f'Gradients on {module}')}</title>",
    ]
    for place, position in enumerate(shown):
        x, (above, below) = _x(place), _tick(audit.events[position])
        parts.append(
            f'<text x="{x}" y="{height - 22}" text-anchor="middle">{escape(above)}</text>'
            f'<text x="{x}" y="{height - 10}" text-anchor="middle">{escape(below)}</text>'
        )
    for lane, loss in enumerate(losses):
        y = TOP + TALL * lane + TALL / 2
        parts.append(
            f'<text x="4" y="{y + 3}">{escape(_short(str(loss), 24))}</text>'
            f'<line x1="{LEFT}" x2="{width}" y1="{y}" y2="{y}" stroke="#e6e6e6"/>'
        )
        color = COLORS[lane % len(COLORS)]
        for life in audit.lives(module):
            ended = life.ended if life.ended is not None else last + 1
            if life.loss == loss and life.born <= last and ended >= first:
                parts.append(_bar(life, first, last, y, color))
    return "\n".join([*parts, "</svg>"])


def _bar(life: Life, first: int, last: int, y: float, color: str) -> str:
    def x(position: int) -> float:
        return _x(min(max(position - first, -0.5), last - first + 0.5))

    start = x(life.born)
    ended = life.ended if life.ended is not None else last + 1
    until = x(life.applied[0] if life.applied else ended)
    fill = color if life.applied else "none"
    dash = "" if life.applied else ' stroke-dasharray="4 2"'
    parts = [
        f'<rect x="{start}" y="{y - 6}" width="{max(until - start, 1)}" height="12" '
        f'fill="{fill}" stroke="{color}"{dash}/>'
    ]
    if life.born >= first:
        parts.append(f'<text x="{start}" y="{y - 9}" text-anchor="middle">{life.norm:.2g}</text>')
    marks = [(position, "▼") for position in life.applied]
    if not life.applied and life.ended is not None:
        marks.append((life.ended, "✕"))
    parts += [
        f'<text x="{x(position)}" y="{y + 5}" text-anchor="middle" font-size="14">{mark}</text>'
        for position, mark in marks
        if first <= position <= last
    ]
    return "".join(parts)


def _x(place: float) -> float:
    return LEFT + WIDE * (place + 0.5)


def _tick(event: Event) -> tuple[str, str]:
    return event.kind, _short(str(event.by), 14)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
