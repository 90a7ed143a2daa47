"""An audit as text, for the terminal and as Markdown: one step's timeline, the ledger, findings."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from benchbench.gradients.observed import Line, Observed
from benchbench.gradients.record import BY_CODE, NOT_LOSSES, Event

WIDTH = 100


def audit_text(audit: Observed) -> str:
    """The whole of it, in at most 100 columns where the modules' names allow that."""
    parts = [table(timeline(audit)), table(ledger(audit)), table(modules(audit)), str(audit.seen)]
    if audit.warnings:
        parts.append(_numbered("warning", [str(warning) for warning in audit.warnings]))
    elif not audit.unknown:
        parts.append("no warnings")
    if audit.unknown:
        parts.append(_numbered("unknown", [str(unknown) for unknown in audit.unknown]))
    if audit.notes:
        parts.append(_numbered("note", [str(note) for note in audit.notes]))
    return "\n\n".join(parts)


def markdown(audit: Observed) -> str:
    """The ledger as a table, the findings as a list."""
    lines = [*_markdown_table(ledger(audit)), "", *_markdown_table(modules(audit))]
    found = [("warning", audit.warnings), ("unknown", audit.unknown), ("note", audit.notes)]
    items = [f"- **{what}**: {_escaped(str(one))}" for what, some in found for one in some]
    verdict = [] if not audit.ok else ["no warnings", ""]
    return "\n".join([*lines, "", str(audit.seen), "", *verdict, *items]).rstrip()


def _markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in rows]
    return [lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def timeline(audit: Observed) -> list[list[str]]:
    """One step, a row an event, a column a module.

    A backward pass shows the norm that it adds; a step and a ``zero_grad`` what they do to it.
    """
    shown = audit.shown_step
    reached = {s.module for s in audit.shares if s.loss not in NOT_LOSSES}
    modules = [m for m in audit.modules if m in reached]
    rows = [[f"step {shown} of {audit.steps}", *modules]]
    for position, event in enumerate(audit.events):
        if event.step == shown:
            rows.append([str(event), *(cell(audit, position, module) for module in modules)])
    return rows


def cell(audit: Observed, position: int, module: str) -> str:
    """What one event does to the gradients on one module."""
    event = audit.events[position]
    here = [s for s in audit.shares if s.module == module]
    if event.kind in ("backward", "grad"):
        total = sum(s.own_square for s in here if s.born == position and s.loss not in NOT_LOSSES)
        return f"{total**0.5:.3g}" if total else "·"
    ended = [s for s in here if s.ended == position]
    if event.kind == "zero_grad":
        wiped = {s.loss for s in ended if s.dropped and s.loss not in NOT_LOSSES}
        harmless = {
            n.loss for n in audit.notes
            if n.kind in ("passed through", "by-product") and n.module == module
        }  # fmt: skip
        if wiped - harmless:
            return "wiped ✗"
        return "wiped" if wiped else ("cleared" if ended else "·")
    if event.kind == "skipped":
        return "skipped" if any(position in s.skipped for s in here) else "·"
    found = [s for s in here if position in s.applied and not s.recombined]
    if any(s.applied[0] < position for s in found):
        return "applied, with stale"
    if found:
        scale = _scale(event, module, {s.factor for s in found})
        return "applied ✓" if scale is None else f"applied ✓ ×{scale:.2g}"
    if any(position in s.applied for s in here):
        return "recombined ✓"
    waiting = any(
        s.born < position
        and (s.ended is None or s.ended > position)
        and not any(i < position for i in s.applied)
        and s.loss not in NOT_LOSSES
        for s in here
    )
    return "not held" if waiting else "·"


def _scale(event: Event, module: str, factors: set[float]) -> float | None:
    """What ``.grad`` was multiplied by; None where by nothing, or by a scaler's inverse."""
    scale = event.scale.get(module, 1.0)
    if not abs(scale - 1) > 1e-3:
        return None
    unscaled = len(factors) == 1 and abs(scale * next(iter(factors)) - 1) < 1e-3
    return None if unscaled else scale


def ledger(audit: Observed) -> list[list[str]]:
    """A row a loss and module: norms per step, and where they went.

    Below a loss that is a sum, its summands.
    """
    rows = [["loss", "module", "computed", "applied", "dropped", "left over", "by"]]
    last = ""
    for line in audit.ledger:
        if line.loss != last:
            rows += _terms(audit, last)
            last = line.loss
        if line.loss:
            rows.append(_row(line))
    return rows + _terms(audit, last)


def _row(line: Line) -> list[str]:
    norms = (line.computed, line.applied, line.dropped, line.left_over)
    by = [name if name == BY_CODE else f"{name}.step()" for name in line.applied_by]
    by += line.dropped_by
    loss = line.loss
    if abs(line.factor - 1) > 1e-9:
        loss += f" (×{line.factor:.3g})"
    return [loss, line.module, *(f"{n:.3g}" if n else "·" for n in norms), ", ".join(by)]


def _terms(audit: Observed, loss: str) -> list[list[str]]:
    found = next((e.terms for e in audit.events if e.by == loss and e.terms), ())
    rows = []
    for term in found:
        factor = "" if abs(term.factor - 1) < 1e-9 else f" (×{term.factor:.3g})"
        for module in audit.modules:
            if term.norms.get(module):
                norm = f"{term.norms[module]:.3g}"
                rows.append([f"  {term.name}{factor}", module, norm, "", "", "", ""])
    return rows


def modules(audit: Observed) -> list[list[str]]:
    """A row a module, also one that nothing reaches: who holds it, trains it and moves it."""
    rows = [["module", "held by", "trained by", "moved"]]
    for module in audit.modules:
        losses = [ln.loss for ln in audit.ledger if ln.module == module and ln.applied > 0]
        moved = audit.moved.get(module, ())
        rows.append(
            [
                module,
                ", ".join(audit.held.get(module, ())) or "no optimizer",
                ", ".join(losses) or "no loss",
                f"by {', '.join(moved)}" if moved else "no",
            ]
        )
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows aligned in columns, the first ruled off."""
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
