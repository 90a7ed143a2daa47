"""What is wrong with a training loop, read off its watched gradients; each with its cure.

A gradient that is computed and dropped is not always a mistake. It is harmless on a module M only
where another loss trains M, and

- the loss passes through M: something that it trains lies beyond M; or
- it is a by-product: M feeds only modules that the loss itself does not train but passes through.

The same gradient, when it is applied to M together with another loss's, rides along and is a
mistake. What was not observed is said to be unknown, and is neither a warning nor all right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from benchbench.gradients.facts import Facts
from benchbench.gradients.record import BY_CODE, BY_HAND, UNNAMED, Share

Kind = Literal[
    "dropped", "unheld gradient", "unheld", "target gradient", "stepped twice", "stale",
    "rides along", "outlived", "idle step", "no step", "unreached", "not finite", "not moved",
    "unnamed parameters", "unnamed optimizer", "no backward", "nothing booked",
    "not seen", "unknown gradient", "unknown path",
    "altered", "passed through", "by-product", "two optimizers", "target requires grad",
    "recombined", "skipped step", "returned",
]  # fmt: skip

NOTES: frozenset[Kind] = frozenset({
    "altered", "passed through", "by-product", "two optimizers", "target requires grad",
    "recombined", "skipped step", "returned",
})  # fmt: skip
"""Kinds that are worth knowing and no mistakes."""

UNKNOWN: frozenset[Kind] = frozenset({"not seen", "unknown gradient", "unknown path"})
"""Kinds that say what the audit could not observe."""


@dataclass(frozen=True)
class Finding:
    """One thing to know about a training loop, and what to do."""

    kind: Kind
    text: str
    loss: str | None = None
    """Of a finding about one loss's gradient on one module: these two."""
    module: str | None = None

    def __str__(self) -> str:
        return self.text


def of_gradients(facts: Facts) -> Iterator[Finding]:
    """What became of each loss's gradient on each module."""
    groups: dict[tuple[str, str], list[Share]] = {}
    for share in facts.shares:
        groups.setdefault((share.loss, share.module), []).append(share)
    for (loss, module), group in groups.items():
        yield from _not_finite(facts, loss, module, group)
        if module == UNNAMED:
            continue
        yield from _unheld(facts, loss, module, group)
        yield from _lost(facts, loss, module, group)
        yield from _applied_wrongly(facts, loss, module, group)
        yield from _outlived(facts, loss, module, group)


def _not_finite(facts: Facts, loss: str, module: str, group: list[Share]) -> Iterator[Finding]:
    bad = [s for s in group if not s.square < float("inf")]
    caught = [s for s in bad if s.skipped and not s.applied]
    if len(caught) == len(bad):
        return
    sources = facts.bad_from_the_start(loss)
    if sources:
        cure = (
            f"the weights of {join(sources)}, which {loss} uses, already were not when the watch "
            "first saw them, so the fault lies before: start from weights that are finite"
        )
    else:
        cure = (
            f"find where {loss} stops being finite; torch.autograd.detect_anomaly() names the "
            "operation"
        )
    yield Finding(
        "not finite",
        f"the gradient of {loss} on {facts.what(module, bad)} is not finite (NaN or infinite): "
        f"{cure}",
        loss,
        module,
    )


def _unheld(facts: Facts, loss: str, module: str, group: list[Share]) -> Iterator[Finding]:
    lost = [s for s in group if not facts.holders[s.parameter] and not s.applied and not s.returned]
    if not lost:
        return
    what = facts.what(module, lost)
    passes = facts.passes(loss, module) or facts.by_product(loss, module)
    by_hand = all(s.ended is not None and facts.events[s.ended].by == BY_HAND for s in lost)
    moved = facts.watch.weights.moved
    if by_hand and all(BY_CODE in moved.get(s.parameter, {}) for s in lost):
        yield Finding(
            "unknown gradient",
            f"code outside any optimizer moves {what} and clears its .grad by hand, and not along "
            f"the gradient of {loss} alone: whether {loss} trains it is unknown",
            loss,
            module,
        )
        return
    if facts.is_target(module, [s.parameter for s in lost]):
        if passes:
            yield Finding(
                "passed through",
                f"{loss} passes through {what}, which no optimizer holds, and leaves a gradient "
                f"there; harmless, and spared by {module}.requires_grad_(False)",
                loss,
                module,
            )
        else:
            yield Finding(
                "target gradient",
                f"{loss} puts a gradient on {what}, a target that no optimizer holds: compute what "
                f"{loss} takes from it under torch.no_grad()",
                loss,
                module,
            )
        return
    own = facts.own_optimizer(loss)
    add = f"add {what} to {own}" if own and own != BY_CODE else f"add {what} to an optimizer"
    fix = f"call requires_grad_(False) on {what} if it is to stay as it is"
    cures = f"{fix}, or {add}" if passes else f"{add}, or detach it from {loss}"
    yield Finding(
        "unheld gradient",
        f"{loss} puts a gradient on {what}, which is in no optimizer, so that nothing ever steps "
        f"along it: {cures}",
        loss,
        module,
    )


def _lost(facts: Facts, loss: str, module: str, group: list[Share]) -> Iterator[Finding]:
    """Gradients that a holder could have stepped along, and that ended without."""
    watch = facts.watch
    applied = {s.parameter for s in group if s.applied}
    held = [s for s in group if facts.holders[s.parameter] and not s.applied and not s.skipped]
    dropped = [s for s in held if s.dropped and not s.returned]
    open_ = [s for s in held if s.ended is None and not s.returned]
    if any(s.rewritten for s in dropped):
        yield Finding(
            "unknown gradient",
            f".grad on {facts.what(module, dropped)} is written by hand after the gradient of "
            f"{loss} is cleared, and is no sum of the losses' gradients: what became of {loss} "
            "there is unknown",
            loss,
            module,
        )
        dropped = [s for s in dropped if not s.rewritten]
    # What is open at the window's end has no fate yet, unless nothing of its kind ever had one.
    fated = {s.parameter for s in group if s.applied or s.ended is not None}
    waiting = [s for s in open_ if s.parameter not in fated]
    by_holder: dict[tuple[str, str], list[Share]] = {}
    for share in dropped:
        assert share.ended is not None
        by_holder.setdefault(
            (str(facts.events[share.ended]), facts.holders[share.parameter][0]), []
        ).append(share)
    for share in waiting:
        by_holder.setdefault(("", facts.holders[share.parameter][0]), []).append(share)
    for (wiper, holder), lost in by_holder.items():
        yield from _judge_lost(facts, loss, module, lost, wiper, holder, applied, watch.steps)
    handed = [s for s in held if s.returned]
    if handed and not (applied | {s.parameter for s in dropped}):
        yield Finding(
            "returned",
            f"torch.autograd.grad hands the gradient of {loss} on {facts.what(module, handed)} to "
            "the code, and what the code does with it is not seen",
            loss,
            module,
        )


def _judge_lost(
    facts: Facts,
    loss: str,
    module: str,
    lost: list[Share],
    wiper: str,
    holder: str,
    applied: set[torch.Tensor],
    steps: int,
) -> Iterator[Finding]:
    what, own = facts.what(module, lost), facts.own_optimizer(loss)
    parameters = {s.parameter for s in lost}
    others = facts.others_train(loss, parameters)
    never = not others and not (parameters & applied)
    if others and (loss, module) in facts.hidden:
        yield Finding(
            "unknown path",
            f"{loss} leaves a gradient on {what} that {wiper or 'nothing'} clears; the graph does "
            f"not show by which way it got there (a compiled region), so that it is unknown "
            f"whether {loss} only passes through",
            loss,
            module,
        )
        return
    if others and facts.passes(loss, module):
        yield Finding(
            "passed through",
            f"{loss} passes through {what} and leaves a gradient there that "
            f"{wiper or 'nothing yet'} wipes; harmless, as {join(others)} trains it, and spared by "
            f"{module}.requires_grad_(False) while {loss} is computed",
            loss,
            module,
        )
        return
    if others and facts.by_product(loss, module):
        yield Finding(
            "by-product",
            f"{loss} reaches {what} only through modules that it does not train, and leaves a "
            f"gradient there that {wiper or 'nothing yet'} wipes; harmless, as {join(others)} "
            f"trains it, and spared by a detach of {what} from {loss}",
            loss,
            module,
        )
        return
    if others and facts.multiplies(loss, module):
        yield Finding(
            "by-product",
            f"{loss} is weighted by {what}, a single number, and leaves a gradient there that "
            f"{wiper or 'nothing yet'} wipes; harmless, as {join(others)} trains it, and spared by "
            f"a detach of {what} from {loss}",
            loss,
            module,
        )
        return
    stepped = facts.steps_of(holder)
    end = f", and {wiper} wipes it" if wiper else ""
    if not stepped:
        kind: Kind = "no step"
        text = (
            f"{loss} puts a gradient on {what}, and {holder}, which holds it, never steps in "
            f"{steps} watched steps{end}: call {holder}.step() after the backward pass"
        )
        if others:
            text += f", or detach {what} from {loss}"
    elif own in facts.holders[lost[0].parameter] or _steps_after(facts, lost, holder):
        kind = "dropped"
        text = (
            f"{loss} puts a gradient on {what}{end} before {holder}.step(): call zero_grad() "
            "before the backward pass, not after it"
        )
    elif others:
        kind = "dropped"
        other = f"add {what} to {own}" if own and own != BY_CODE else f"call {holder}.step()"
        text = (
            f"{loss} puts a gradient on {what}{end} before any step: detach {what} from {loss}, "
            f"as {join(others)} trains it by {holder}; or, if {loss} is to train it too, {other}"
        )
    else:
        kind = "dropped"
        text = (
            f"{loss} puts a gradient on {what}{end} before any step, and no other loss trains it: "
            f"call {holder}.step() between {loss}'s backward pass and "
            f"{wiper or 'the next zero_grad()'}"
        )
    if never or wiper:
        yield Finding(kind, text, loss, module)


def _steps_after(facts: Facts, lost: Sequence[Share], holder: str) -> bool:
    """Whether the holder's step follows the wipe with no other backward pass between."""
    for share in lost:
        if share.ended is None:
            continue
        for event in facts.events[share.ended :]:
            if event.kind in ("backward", "grad"):
                break
            if event.kind == "step" and event.by == holder:
                return True
    return False


def _applied_wrongly(facts: Facts, loss: str, module: str, group: list[Share]) -> Iterator[Finding]:
    again: dict[str, list[Share]] = {}
    twice: dict[tuple[str, ...], list[Share]] = {}
    riding: dict[tuple[str, bool], list[Share]] = {}
    for share in group:
        steppers = [facts.events[i].by for i in share.applied]
        distinct = tuple(dict.fromkeys(steppers))
        for name in distinct:
            if steppers.count(name) > 1:
                again.setdefault(name, []).append(share)
        if len(distinct) > 1:
            twice.setdefault(distinct, []).append(share)
        if share.applied and not share.recombined and _rides_along(facts, share):
            later = facts.events[share.applied[0]].step > share.step
            riding.setdefault((steppers[0], later), []).append(share)
    for name, shares in again.items():
        yield Finding(
            "stale",
            f"{name} steps along the same gradient of {loss} on {facts.what(module, shares)} "
            f"more than once: call {name}.zero_grad() before each {loss} backward pass",
            loss,
            module,
        )
    for names, shares in twice.items():
        yield Finding(
            "stepped twice",
            f"{join(names)} both step along one gradient of {loss} on "
            f"{facts.what(module, shares)}, each by a state and learning rate of its own: take it "
            "out of one of them",
            loss,
            module,
        )
    for (name, later), shares in riding.items():
        what = facts.what(module, shares)
        others = facts.others_train(loss, [s.parameter for s in shares])
        when = f"{name}'s next step" if later else f"{name}.step()"
        yield Finding(
            "stale" if later else "rides along",
            f"the gradient of {loss} on {what} is still there at {when}, which applies it to "
            f"{what}{f' together with that of {join(others)}' if others else ''}: call "
            f"{name}.zero_grad() after {loss}'s turn, or detach {what} from {loss}",
            loss,
            module,
        )


def _rides_along(facts: Facts, share: Share) -> bool:
    """Whether a gradient was applied in a step that is another loss's."""
    position, loss, module = share.applied[0], share.loss, share.module
    optimizer = facts.events[position].by
    together = [s for s in facts.shares if position in s.applied and s.loss != loss]
    on_it = {s.loss for s in together if s.module == module}
    trained = facts.trained_by(loss)
    if facts.late(share):
        if not trained:
            return False  # its own step comes late throughout
        if facts.passes(loss, module) or facts.by_product(loss, module):
            return bool(together)
        steps_in_turn = {
            facts.events[s.applied[0]].by for s in facts.shares
            if s.loss == loss and s.applied and not facts.late(s)
        }  # fmt: skip
        foreign = any(s.module not in facts.reached.get(loss, set()) for s in together)
        return optimizer not in steps_in_turn and foreign
    # In one phase with another loss's backward pass: whose module is it?
    for other in on_it:
        mine = facts.beyond(loss, module) & trained
        theirs = facts.beyond(other, module) & facts.trained_by(other)
        by_others = {m for m in mine if optimizer not in facts.steppers(loss, m)}
        exclusive = by_others - facts.reached.get(other, set())
        own_end = all(optimizer in facts.steppers(other, m) for m in theirs)
        if exclusive and own_end:
            return True
    return False


def _outlived(facts: Facts, loss: str, module: str, group: list[Share]) -> Iterator[Finding]:
    for share in group:
        # One that waits for its step may be meant to add up, as accelerate's does.
        after = [i for i in share.survived if share.applied and share.applied[0] < i]
        for position in after[:1]:
            name = facts.events[position].by
            yield Finding(
                "outlived",
                f"{name}.zero_grad() leaves the gradient of {loss} on {module} where it is, "
                f"though {name} holds it: is zero_grad overridden?",
                loss,
                module,
            )


def join(names: Iterable[str]) -> str:
    """Distinct names with "and" between them."""
    return " and ".join(dict.fromkeys(map(str, names)))
