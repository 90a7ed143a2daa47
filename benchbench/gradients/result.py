"""What an audit saw: the ledger, the findings, and the checks that a test may make of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchbench.gradients import text
from benchbench.gradients.findings import NOTES, UNKNOWN
from benchbench.gradients.holdings import findings
from benchbench.gradients.observed import Line, Observed, Seen
from benchbench.gradients.record import UNNAMED, Share
from benchbench.gradients.watch import GradientWatch


@dataclass(frozen=True, repr=False)
class Audit(Observed):
    """What ``benchbench.audit`` saw. ``print`` it; ``audit.ok`` says whether all is well."""

    @property
    def routing(self) -> dict[str, list[str]]:
        """For each loss: the modules that it trains, in the order of ``modules``."""
        losses = dict.fromkeys(line.loss for line in self.ledger if line.loss)
        return {
            loss: [m for m in self.modules if self._line(loss, m).applied > 0] for loss in losses
        }

    def assert_routing(self, expected: Mapping[str, Sequence[str]] | str | Path) -> None:
        """Check which loss trains which modules; :class:`AssertionError` names every difference.

        ``expected`` maps losses to modules, or is the path of a JSON file with such a mapping. A
        file that is not there is written, and the check fails, so that a new file is looked at
        before it counts. Losses that are not in ``expected`` must train nothing.
        """
        if isinstance(expected, (str, Path)):
            path = Path(expected)
            if not path.exists():
                path.write_text(json.dumps(self.routing, indent=2) + "\n", encoding="utf-8")
                raise AssertionError(
                    f"{path} was not there and is written now: read it, keep it, run again"
                )
            expected = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(expected, Mapping)
        measured, wrong = self.routing, []
        for name in dict.fromkeys(m for modules in expected.values() for m in modules):
            if name not in self.modules:
                wrong.append(f"there is no module {name!r}; there are {', '.join(self.modules)}")
        for loss in dict.fromkeys([*expected, *measured]):
            should, does = set(expected.get(loss, ())), set(measured.get(loss, ()))
            if loss not in measured:
                wrong.append(f"{loss} was not seen; seen: {', '.join(measured) or 'no loss'}")
                continue
            wrong += [f"{loss} should train {m} and does not{self._fate(loss, m)}"
                      for m in sorted(should - does)]  # fmt: skip
            wrong += [f"{loss} should not train {m} and does, by "
                      f"{', '.join(self._line(loss, m).applied_by)}"
                      for m in sorted(does - should)]  # fmt: skip
        if wrong:
            raise AssertionError("the routing is not as expected:\n  " + "\n  ".join(wrong))

    def assert_untouched(self, module: str, by: str) -> None:
        """Check that a loss puts no gradient on a module, not even one that is dropped.

        Raises :class:`AssertionError` where it does, or where there is no such module or loss.
        """
        losses = dict.fromkeys(line.loss for line in self.ledger if line.loss)
        if module not in self.modules:
            raise AssertionError(f"there is no module {module!r}: {', '.join(self.modules)}")
        if by not in losses:
            raise AssertionError(f"{by} was not seen; seen: {', '.join(losses) or 'no loss'}")
        if self._line(by, module).computed:
            raise AssertionError(
                f"{by} puts a gradient on {module}{self._fate(by, module)}; it should put none "
                "there"
            )

    def assert_ok(self) -> None:
        """Raise :class:`AssertionError` with the findings where the audit is not ok."""
        if not self.ok:
            raise AssertionError("\n".join(map(str, [*self.warnings, *self.unknown])))

    def _line(self, loss: str, module: str) -> Line:
        for line in self.ledger:
            if (line.loss, line.module) == (loss, module):
                return line
        return Line(loss, module, 0.0, 0.0, 0.0, 0.0, (), ())

    def _fate(self, loss: str, module: str) -> str:
        line = self._line(loss, module)
        if not line.computed:
            return ": no gradient reaches it"
        if line.applied:
            return f" of norm {line.computed:.3g}, applied by {', '.join(line.applied_by)}"
        end = f", dropped by {', '.join(line.dropped_by)}" if line.dropped_by else ", never applied"
        return f" (norm {line.computed:.3g}{end})"

    # ------------------------------------------------------------------ other forms

    def to_dict(self) -> dict[str, Any]:
        """All of it but single parameters, in types that JSON has; numbers that are not finite are
        None."""
        return _finite({
            "ok": self.ok, "steps": self.steps, "modules": list(self.modules),
            "seen": asdict(self.seen), "routing": self.routing,
            "held": self.held, "moved": self.moved,
            "ledger": [asdict(line) for line in self.ledger],
            "events": [
                {"step": e.step, "kind": e.kind, "by": str(e.by),
                 "terms": [
                     {"name": t.name, "factor": t.factor, "norms": t.norms} for t in e.terms
                 ]}
                for e in self.events
            ],
            "warnings": [asdict(f) for f in self.warnings],
            "unknown": [asdict(f) for f in self.unknown],
            "notes": [asdict(f) for f in self.notes],
        })  # fmt: skip

    def to_json(self) -> str:
        """:meth:`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def to_markdown(self) -> str:
        """The ledger as a table, the findings as a list."""
        return text.markdown(self)

    def to_html(self) -> str:
        """A self-contained page, with a flow figure for each module."""
        from benchbench.gradients.page import html_page

        return html_page(self)

    def flow_svg(self, module: str) -> str:
        """The lives of the gradients on one module through one step of the loop, as an SVG."""
        from benchbench.gradients.page import flow_svg

        return flow_svg(self, module)

    def save(self, path: str | Path) -> None:
        """Write it as ``.json``, ``.md``, ``.html`` or ``.txt``, by the path's suffix.

        Raises :class:`ValueError` for another suffix.
        """
        path = Path(path)
        forms = {".json": self.to_json, ".md": self.to_markdown, ".html": self.to_html,
                 ".txt": self.__str__}  # fmt: skip
        if path.suffix not in forms:
            raise ValueError(f"{path}: name a file that ends in {', '.join(forms)}")
        path.write_text(forms[path.suffix]() + "\n", encoding="utf-8")

    def __str__(self) -> str:
        return text.audit_text(self)

    __repr__ = __str__


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def audit_of(watch: GradientWatch) -> Audit:
    """The audit of what a watch saw, its losses named already."""
    for share in watch.shares:
        share.grad = None  # the books keep norms, not tensors
    found = findings(watch)
    homes = set(watch.home.values())
    unnamed = [UNNAMED] if any(s.module == UNNAMED for s in watch.shares) else []
    # A module all of whose parameters belong to parts that have names has no row of its own.
    modules = [m for m in watch.modules if m in homes or m not in _containers(watch)] + unnamed
    held: dict[str, dict[str, None]] = {}
    for parameter, module in watch.home.items():
        held.setdefault(module, {}).update(dict.fromkeys(watch.holders(parameter)))
    moved = _moved(watch)
    lines = _lines(watch, modules, moved)
    losses = list(dict.fromkeys(e.by for e in watch.events if e.kind in ("backward", "grad")))
    fated = {s.loss for s in watch.shares if s.applied or s.ended is not None or s.returned}
    inner = set().union(*watch.drives.values()) if watch.drives else set()
    outer = [n for n in watch.optimizers if not watch.drives.get(n) or n not in inner]
    stepped = [n for n in outer if watch.step_calls.get(n)
               or any(watch.step_calls.get(i) for i in watch.drives.get(n, ()))]  # fmt: skip
    return Audit(
        steps=watch.steps,
        modules=tuple(modules),
        events=watch.events,
        shares=watch.shares,
        ledger=lines,
        warnings=[f for f in found if f.kind not in NOTES and f.kind not in UNKNOWN],
        unknown=[f for f in found if f.kind in UNKNOWN],
        notes=[f for f in found if f.kind in NOTES],
        seen=Seen(
            tuple(losses),
            tuple(loss for loss in losses if loss in fated),
            tuple(outer),
            tuple(stepped),
        ),
        held={m: tuple(held.get(m, {})) for m in modules},
        moved={m: tuple(moved.get(m, {})) for m in modules},
    )


def _moved(watch: GradientWatch) -> dict[str, dict[str, None]]:
    moved: dict[str, dict[str, None]] = {}
    for parameter, movers in watch.weights.moved.items():
        moved.setdefault(watch.home[parameter], {}).update(movers)
    return moved


def _containers(watch: GradientWatch) -> set[str]:
    homes = set(watch.home.values())
    return {m for m in watch.modules if m not in homes and watch.has_parameters(m)}


def _lines(
    watch: GradientWatch, modules: Sequence[str], moved: Mapping[str, Mapping[str, None]]
) -> list[Line]:
    ran: dict[str, set[int]] = {}
    for event in watch.events:
        if event.kind in ("backward", "grad"):
            ran.setdefault(event.by, set()).add(event.step)
    groups: dict[tuple[str, str], list[Share]] = {
        (loss, module): [] for loss in ran for module in modules
    }
    for share in watch.shares:
        if share.loss in ran and (share.loss, share.module) in groups:
            groups[share.loss, share.module].append(share)
    lines = []
    for (loss, module), shares in groups.items():
        # The last step is watched to see earlier gradients end; it counts where there are none.
        # What is open at the window's end has no fate yet; it counts where nothing else does.
        steps = ran[loss] - {watch.steps} or ran[loss]
        shares = [s for s in shares if s.step in steps] or shares
        ended = [s for s in shares if s.applied or s.ended is not None or s.returned]
        counted = ended or shares
        if not counted:
            continue
        count = len(steps & {e.step for e in watch.events if e.by == loss}) or 1

        def norm(some: Sequence[Share], count: int = count) -> float:
            return float((sum(s.own_square for s in some) / count) ** 0.5)

        steppers = [watch.events[i].by for s in counted for i in s.applied]
        wipers = [str(watch.events[s.ended]) for s in counted if s.dropped and s.ended is not None]
        lines.append(
            Line(
                loss,
                module,
                computed=norm(counted),
                applied=norm([s for s in counted if s.applied]),
                dropped=norm([s for s in counted if s.dropped]),
                left_over=norm([s for s in counted if not s.applied and s.ended is None]),
                applied_by=tuple(dict.fromkeys(steppers)),
                dropped_by=tuple(dict.fromkeys(wipers)),
                moved=tuple(moved.get(module, {})),
                factor=counted[0].factor,
            )
        )
    have = {line.module for line in lines}
    lines += [
        Line("", module, 0.0, 0.0, 0.0, 0.0, (), (), tuple(moved.get(module, {})))
        for module in modules
        if module not in have
    ]
    return lines
