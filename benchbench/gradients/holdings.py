"""Findings about optimizers and parameters: what is held, reached, stepped and moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from benchbench.gradients.facts import Facts
from benchbench.gradients.findings import Finding, join, of_gradients
from benchbench.gradients.record import BY_CODE, EARLIER, UNNAMED, UNSEEN
from benchbench.gradients.watch import GradientWatch


def findings(watch: GradientWatch) -> list[Finding]:
    """All findings, in the order of the loop: gradients, then optimizers, then parameters."""
    facts = Facts(watch)
    found = [
        *_window(facts), *of_gradients(facts), *_terms(facts), *_optimizers(facts),
        *_parameters(facts), *_at_steps(facts),
    ]  # fmt: skip
    return list(dict.fromkeys(found))


def _window(facts: Facts) -> Iterator[Finding]:
    """A window in which nothing could be seen is never all right."""
    watch = facts.watch
    backward = [e for e in facts.events if e.kind in ("backward", "grad")]
    if not backward:
        yield Finding(
            "no backward",
            f"no backward pass was seen in {watch.steps} steps: let step() train, by "
            "loss.backward() or torch.autograd.backward(loss)",
        )
    elif not facts.shares:
        losses = ", ".join(dict.fromkeys(str(e.by) for e in backward))
        yield Finding(
            "nothing booked",
            f"{losses} put no gradient on any named module: pass the modules and optimizers that "
            "the loop trains, and see whether a detach() or no_grad() is in the way",
        )
    elif not watch.optimizers and not any(e.kind in ("step", "skipped") for e in facts.events):
        yield Finding(
            "nothing booked",
            f"no optimizer stepped and no weights moved along a gradient in {watch.steps} steps: "
            "pass the optimizers, or call their step()",
        )


def _terms(facts: Facts) -> Iterator[Finding]:
    """A summand that passes through another's module, and is applied to it by that one's optimizer.

    As in a sum of a critic's and an actor's loss, each with an optimizer: the step on the critic
    follows the actor's gradient as well.
    """
    for event in facts.events:
        for term in event.terms:
            for module, behind in term.paths.beyond.items():
                owners = facts.steppers(event.by, module)
                apart = {m for m in behind if facts.steppers(event.by, m) - owners}
                for other in event.terms:
                    reached = other.paths.modules
                    ends = other.paths.beyond.get(module, set())
                    ends_there = all(facts.steppers(event.by, m) <= owners for m in ends)
                    if not owners or other is term or module not in reached or not ends_there:
                        continue
                    if apart - reached and term.norms.get(module):
                        yield Finding(
                            "rides along",
                            f"{term.name}, a summand of {event.by}, reaches {join(apart)} through "
                            f"{module}, and {join(owners)} applies its gradient to {module} "
                            f"together with that of {other.name}: call "
                            f"{module}.requires_grad_(False) while {term.name} is computed",
                            event.by,
                            module,
                        )


def _optimizers(facts: Facts) -> Iterator[Finding]:
    watch = facts.watch
    reached = {s.parameter for s in watch.shares if s.loss != EARLIER}
    for name in watch.optimizers:
        held = [p for p, holders in facts.holders.items() if name in holders]
        modules = list(dict.fromkeys(watch.home[p] for p in held))
        mine = ", ".join(modules) or "nothing"
        if name in watch.unnamed:
            yield Finding(
                "unnamed optimizer", f"{name} steps {mine}: give it a name in optimizers="
            )
        unnamed = [p for p in held if watch.home[p] == UNNAMED]
        if unnamed:
            count = f"{len(unnamed)} parameter{'s' if len(unnamed) > 1 else ''}"
            yield Finding(
                "unnamed parameters",
                f"{name} holds {count} of no named module"
                + (": name their module in modules=" if reached & set(unnamed) else
                   ", and no loss reaches them: make the optimizer after the module has its final "
                   "parameters, or name the module in modules="),
            )  # fmt: skip
        if facts.driven(name):
            continue
        steps = [i for i, e in enumerate(facts.events) if e.kind == "step" and e.by == name]
        skips = [e for e in facts.events if e.kind == "skipped" and e.by == name]
        if skips:
            yield Finding(
                "skipped step",
                f"the GradScaler left {name}.step() out {len(skips)} times, as a gradient was not "
                "finite; it lowers its scale and goes on"
                + ("" if steps else f". No step of {name} was seen"),
            )
        silent = [p for p in held if p not in reached and p.requires_grad
                  and watch.home[p] != UNNAMED]  # fmt: skip
        yield from _unreached(facts, name, held, silent, steps)
        if facts.steps_of(name) == 0 and not (reached & set(held)):
            yield Finding(
                "not seen",
                f"{name} took no step in {watch.steps} watched steps, so that nothing is known of "
                "it: watch more steps, or leave it out",
            )
        yield from _not_moved(facts, name, held, steps)


def _unreached(
    facts: Facts,
    name: str,
    held: Sequence[torch.Tensor],
    silent: Sequence[torch.Tensor],
    steps: Sequence[int],
) -> Iterator[Finding]:
    """Parameters that an optimizer holds and no loss reaches; steps that find no gradient."""
    watch = facts.watch
    idle = [i for i in steps if not facts.events[i].found]
    everything = [p for p in held if p.requires_grad and watch.home[p] != UNNAMED]
    by_module: dict[tuple[str, bool], list[torch.Tensor]] = {}
    for p in silent:
        by_module.setdefault((watch.home[p], p in watch.zeros), []).append(p)
    for (module, zero), parameters in by_module.items():
        what = facts.named(module, parameters)
        if (
            not steps
            and not any(s.module == module for s in facts.shares)
            and not facts.steps_of(name)
        ):
            continue  # said below: the optimizer itself was not seen
        if facts.is_target(module, parameters) and not zero:
            text = (
                f"{name} holds {what}, a target that no loss reaches: leave it out of {name}, "
                "which may decay its weights"
            )
        elif zero:
            text = (
                f"{name} holds {what}, and the gradient that reaches it is zero throughout: a dead "
                "activation or a factor of zero lies between it and the losses"
            )
        else:
            text = (
                f"{name} holds {what}, and no loss reaches it, so that it is never trained: is a "
                f"detach() in the way, or is the layer unused? Else leave it out of {name}"
            )
        if len(silent) == len(everything) and idle:
            text = f"{name}.step() found no gradient in {len(idle)} of {len(steps)} calls: {text}"
        yield Finding("unreached", text, None, module)
    lost = any(
        s.dropped and s.ended is not None and facts.events[s.ended].by == name for s in facts.shares
    )
    if idle and len(silent) < len(everything) and not lost:
        modules = ", ".join(dict.fromkeys(watch.home[p] for p in held))
        yield Finding(
            "idle step",
            f"{name}.step() found no gradient on {modules} in {len(idle)} of {len(steps)} calls: "
            "call it after the backward pass that reaches them",
        )


def _not_moved(
    facts: Facts, name: str, held: Sequence[torch.Tensor], steps: Sequence[int]
) -> Iterator[Finding]:
    """Finite gradients were applied, and no weight changed; weights that are NaN stay NaN."""
    found = [s for s in facts.shares if any(facts.events[i].by == name for i in s.applied)]
    with_gradient = {s.parameter for s in found}
    moved = facts.watch.weights.moved
    finite = all(s.square < float("inf") for s in found)
    if with_gradient and finite and not any(name in moved.get(p, {}) for p in held):
        modules = ", ".join(dict.fromkeys(s.module for s in found))
        yield Finding(
            "not moved",
            f"{name}.step() ran {len(steps)} times with gradients on {modules}, and no weight "
            "changed: is the learning rate 0, or too small for the weights' precision?",
        )


def _parameters(facts: Facts) -> Iterator[Finding]:
    watch = facts.watch
    twice: dict[tuple[str, tuple[str, ...]], list[torch.Tensor]] = {}
    silent: dict[str, list[torch.Tensor]] = {}
    reached = {s.parameter for s in watch.shares if s.loss != EARLIER}
    for parameter, holders in facts.holders.items():
        module = watch.home[parameter]
        acting = tuple(n for n in holders if not (set(holders) & watch.drives.get(n, set())))
        if len(acting) > 1:
            twice.setdefault((module, acting), []).append(parameter)
        if not holders and parameter.requires_grad and parameter not in reached:
            silent.setdefault(module, []).append(parameter)
    for (module, names), parameters in twice.items():
        yield Finding(
            "two optimizers",
            f"{facts.named(module, parameters)} is in {' and '.join(names)}: each steps it by a "
            "state of its own, and the zero_grad() of one wipes the other's gradient",
            None,
            module,
        )
    for module, parameters in silent.items():
        what = facts.named(module, parameters)
        if facts.is_target(module, parameters):
            yield Finding(
                "target requires grad",
                f"{what} requires grad, though no optimizer holds it and no loss reaches it; "
                f"harmless, and {module}.requires_grad_(False) keeps it so",
                None,
                module,
            )
        else:
            yield Finding(
                "unheld",
                f"{what} requires grad, is in no optimizer and no loss reaches it, so that it is "
                "never trained: add it to an optimizer, or call requires_grad_(False) on it",
                None,
                module,
            )


def _at_steps(facts: Facts) -> Iterator[Finding]:
    """Gradients at a step that are neither what the losses put there nor a multiple of it."""
    watch = facts.watch
    for position, event in enumerate(facts.events):
        if event.kind != "step" or event.by == BY_CODE:
            continue
        stepped = [s for s in watch.shares if position in s.applied]
        for module in dict.fromkeys(s.module for s in stepped):
            here = [s for s in stepped if s.module == module]
            unseen = [s for s in here if s.loss == UNSEEN]
            if any(s.recombined for s in here):
                yield Finding(
                    "recombined",
                    f"{event} applies a sum of gradients on {module} that had been cleared and "
                    "were put back, as PCGrad does",
                    None,
                    module,
                )
            elif unseen:
                yield Finding(
                    "unknown gradient",
                    f"{event} steps along a gradient on {module} that no watched backward pass "
                    "made: it ran where it could not be seen, or .grad was written by hand",
                    None,
                    module,
                )
            else:
                mixed = any(s.applied[0] < position for s in here)
                error, scale = event.error.get(module, 0.0), event.scale.get(module, 1.0)
                if error > 1e-3 and scale != scale and not mixed:
                    yield Finding(
                        "altered",
                        f"at {event} the gradient on {module} is not the sum or a multiple of what "
                        "the losses put there: was it clipped by value, projected, or written to?",
                        None,
                        module,
                    )
