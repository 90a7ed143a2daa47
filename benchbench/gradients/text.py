"""An audit as a text for the terminal: one step's timeline, the ledger, what to mend."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchbench.gradients.record import NOT_LOSSES, Share

if TYPE_CHECKING:
    from benchbench.gradients.audit import Audit, Line

WIDTH = 100


def audit_text(audit: Audit) -> str:
    """The whole of it, in at most 100 columns where the modules' names allow that."""
    parts = [timeline(audit), ledger(audit.ledger)]
    if audit.warnings:
        parts.append(_numbered("warning", [str(warning) for warning in audit.warnings]))
    else:
        parts.append("no warnings")
    if audit.notes:
        parts.append(_numbered("note", [str(note) for note in audit.notes]))
    return "\n\n".join(parts)


def timeline(audit: Audit) -> str:
    """One step, a row an event, a column a module.

    A backward pass shows the norm that it adds; a step and a ``zero_grad`` what they do to it.
    """
    shown = audit.shown_step
    rows = [[f"step {shown} of {audit.steps}", *audit.modules]]
    for position, event in enumerate(audit.events):
        if event.step == shown:
            cells = (cell(audit.shares, position, module, audit) for module in audit.modules)
            rows.append([str(event), *cells])
    return _table(rows)


def cell(shares: Sequence[Share], position: int, module: str, audit: Audit) -> str:
    """What one event does to the gradients on one module."""
    event = audit.events[position]
    here = [s for s in shares if s.module == module]
    if event.kind == "backward":
        total = sum(s.square for s in here if s.born == position and s.loss not in NOT_LOSSES)
        return f"{total**0.5:.3g}" if total else "·"
    ended = [s for s in here if s.ended == position]
    if event.kind == "zero_grad":
        wiped = {s.loss for s in ended if s.dropped and s.loss not in NOT_LOSSES}
        harmless = {
            n.loss for n in audit.notes if n.kind == "passed through" and n.module == module
        }
        if wiped - harmless:
            return "wiped ✗"
        return "wiped" if wiped else ("cleared" if ended else "·")
    found = [s for s in here if position in s.applied]
    if any(s.applied[0] < position for s in found):
        return "applied, with stale"
    if found:
        scale = event.scale.get(module, 1.0)
        return "applied ✓" if not abs(scale - 1) > 1e-3 else f"applied ✓ ×{scale:.2g}"
    waiting = any(
        s.born < position
        and (s.ended is None or s.ended > position)
        and not any(i < position for i in s.applied)
        and s.loss not in NOT_LOSSES
        for s in here
    )
    return "not held" if waiting else "·"


def ledger(lines: Sequence[Line]) -> str:
    """A row a loss and module: norms per step, and where they went."""
    rows = [["loss", "module", "computed", "applied", "dropped", "left over", "by"]]
    for line in lines:
        norms = (line.computed, line.applied, line.dropped, line.left_over)
        by = [f"{name}.step()" for name in line.applied_by] + list(line.dropped_by)
        rows.append(
            [line.loss, line.module, *(f"{n:.3g}" if n else "·" for n in norms), ", ".join(by)]
        )
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    rule = "─" * max(len(line) for line in lines)
    return "\n".join([lines[0], rule, *lines[1:]])


def _numbered(what: str, sentences: Sequence[str]) -> str:
    return "\n".join(
        textwrap.fill(
            sentence, WIDTH, initial_indent=f"{what} {number}: ", subsequent_indent="    ",
            break_long_words=False, break_on_hyphens=False,
        )
        for number, sentence in enumerate(sentences, 1)
    )  # fmt: skip
