"""What a suite's variants do with their gradients, as measured in a few real updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from benchbench.agent.protocol import Agent
from benchbench.cell.build import make_agent, make_sampler, split
from benchbench.core.errors import UserError
from benchbench.core.settings import suggest
from benchbench.data.store import open_dataset
from benchbench.diagnostics.ledger import RoutingMismatch, Turns, check_routing, first_step_entries
from benchbench.gradients.audit import Audit, audit_steps
from benchbench.launch.run import prepare_data
from benchbench.routing import LOSSES, REGISTRY, Holder, Routing
from benchbench.suite.grid import Cell, expand
from benchbench.suite.model import Suite

STEPS = 3
"""Updates watched; the last shows only how the earlier ones' gradients end."""


@dataclass(frozen=True)
class VariantAudit:
    """One variant, watched."""

    routing: Routing
    audit: Audit
    mismatch: str | None
    """Where the measured flows are not those of the definition: what differs."""


@dataclass(frozen=True)
class Bar:
    """A loss's gradient on the encoder; places count the events of the shown step from 0.

    Places before 0 or after the last lie in the steps around it.
    """

    loss: str
    norm: float
    start: int
    applied: tuple[int, ...]
    end: int | None


@dataclass(frozen=True)
class Flow:
    """One step of a variant's loop, and the gradients on the encoder that live in it."""

    variant: str
    holders: tuple[str, ...]
    events: tuple[tuple[str, str], ...]
    """Kind, and loss or optimizer."""
    bars: tuple[Bar, ...]


def audit_suite(suite: Suite, variants: Sequence[str]) -> list[VariantAudit]:
    """Audit the suite's variants, or the named ones, on its first environment and seed.

    Names may be the suite's or the registry's. The data set is made if it is not here. Raises
    :class:`UserError` where a name is of neither.
    """
    cells = chosen_cells(suite, variants)
    prepare_data(cells[:1])
    return [audit_cell(cell) for cell in cells]


def chosen_cells(suite: Suite, variants: Sequence[str]) -> list[Cell]:
    """The suite's first cell, once for each variant."""
    first = expand(suite)[0]
    if first.observation == "state":
        raise UserError(
            f"{first.env} has observation: state and so no encoder to audit; audit a suite of "
            "pixels"
        )
    known = REGISTRY | {routing.name: routing for routing in suite.routings}
    names = list(dict.fromkeys(variants)) or [routing.name for routing in suite.routings]
    for name in names:
        if name not in known:
            raise UserError(f"--variant {name}: is not a variant{suggest(name, known)}")
    return [replace(first, routing=known[name]) for name in names]


def audit_cell(cell: Cell) -> VariantAudit:
    """A few real updates of a fresh agent, watched, on the CPU."""
    device = torch.device("cpu")
    dataset = open_dataset(cell.data)
    sampler = make_sampler(cell, dataset, split(cell, dataset)[0], device)
    agent = make_agent(cell, sampler, device)
    targets = {f"{name}_target": module for name, module in agent.target_modules().items()}
    optimizers = {
        optimizer_name(holder): optimizer for holder, optimizer in agent.optimizers.by_name.items()
    }
    turns = Turns(agent.optimizers)
    with turns.followed():
        audit = audit_steps(
            agent.modules() | targets,
            optimizers,
            lambda: agent.update(sampler.sample()),
            STEPS,
            lambda tensors: f"{turns.loss_of(tensors)}_loss",
        )
    return VariantAudit(cell.routing, audit, _mismatch(audit, agent, cell.routing))


def variant_text(one: VariantAudit) -> str:
    """A variant's part of the terminal's text."""
    routing = one.routing
    holders = " and ".join(optimizer_name(h) for h in routing.encoder_in) or "no optimizer"
    declared = ", ".join(f"{loss} {routing.flow(loss)}" for loss in LOSSES)
    return "\n".join(
        [
            f"══ {routing.name} ══",
            f"obs_encoder in {holders}; declared: {declared}",
            "",
            str(one.audit),
            "",
            one.mismatch or "measured: as declared",
        ]
    )


def optimizer_name(holder: Holder) -> str:
    """The brief's name for a routed optimizer."""
    return {"vae": "actorvae", "own": "encoder"}.get(holder, holder) + "_optimizer"


def flow(one: VariantAudit) -> Flow:
    """The lives of the encoder's gradients in one step of the loop, for a picture."""
    events = one.audit.events
    shown = [i for i, event in enumerate(events) if event.step == one.audit.shown_step]
    first, last = shown[0], shown[-1]
    bars = []
    for life in one.audit.lives("obs_encoder"):
        alive = life.born <= last and (life.ended is None or life.ended >= first)
        if not alive:
            continue
        bars.append(
            Bar(
                loss=life.loss,
                norm=life.norm,
                start=life.born - first,
                applied=tuple(i - first for i in life.applied),
                end=None if life.ended is None else life.ended - first,
            )
        )
    labels = tuple((event.kind, str(event.by)) for event in events[first : last + 1])
    holders = tuple(optimizer_name(holder) for holder in one.routing.encoder_in)
    return Flow(one.routing.name, holders, labels, tuple(bars))


def _mismatch(audit: Audit, agent: Agent, routing: Routing) -> str | None:
    shares = [replace(share, loss=str(share.loss).removesuffix("_loss")) for share in audit.shares]
    try:
        check_routing(first_step_entries(shares, list(agent.modules())), routing)
    except RoutingMismatch as error:
        return str(error)
    return None
