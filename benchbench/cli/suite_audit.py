"""What a suite's variants do with their gradients, measured in a few updates and drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchbench.agent.protocol import Agent
from benchbench.cell.build import make_agent, make_sampler, split
from benchbench.core.errors import UserError
from benchbench.core.files import save_figure
from benchbench.core.settings import suggest
from benchbench.data.store import open_dataset
from benchbench.diagnostics.ledger import RoutingMismatch, Turns, check_routing, first_step_entries
from benchbench.gradients.audit import Audit, audit_steps
from benchbench.launch.run import prepare_data
from benchbench.report.style import style
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
    """One step of a variant's loop, and the gradients on the encoder that exist in it."""

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


PAGE = 6.9
"""Width in inches of both columns of a page."""

COLORS = {"critic_loss": "#6A3D9A", "vae_loss": "#B15928", "actor_loss": "#555555"}
SHORT = {"zero_grad": "zero", "backward": "back", "step": "step"}
PANEL, THICK = 0.95, 0.44
"""Heights: of a panel in inches, of a bar in lanes."""


def save_flows(flows: Sequence[Flow], path: Path) -> None:
    """Draw the flows and write them to a file; the same flows give the same bytes."""
    figure = flows_figure(flows)
    metadata = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with style():
        save_figure(figure, path, dpi=300, metadata=metadata[path.suffix.lower()])


def flows_figure(flows: Sequence[Flow]) -> Figure:
    """A panel a variant (two side by side where there are more than three), a lane a loss.

    Fates are told apart by filling and sign, so that they are clear in grey and to every eye.
    """
    with style():
        columns = 1 if len(flows) <= 3 else 2
        rows = math.ceil(len(flows) / columns)
        size = (PAGE, PANEL * rows + 0.36)
        figure = Figure(figsize=size, layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax, flow in zip(axes, flows, strict=False):
            _panel(ax, flow)
        for ax in axes[len(flows) :]:
            ax.set_visible(False)
        _legend(figure)
    return figure


def _panel(ax: Axes, flow: Flow) -> None:
    lanes = [f"{loss}_loss" for loss in LOSSES]
    right = len(flow.events) - 0.5
    for lane, loss in enumerate(lanes):
        ax.axhline(lane, color="#e6e6e6", lw=0.5, zorder=0)
        mine = [bar for bar in flow.bars if bar.loss == loss]
        if not mine:
            ax.text((right - 0.5) / 2, lane, "no gradient on obs_encoder", ha="center", va="center",
                    fontsize=5.5, color="#666666",
                    bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
        for bar in mine:
            _bar(ax, bar, lane, COLORS[loss], right)
    for place, (kind, _) in enumerate(flow.events):
        if kind == "zero_grad" and place:
            ax.axvline(place - 0.5, color="#cccccc", lw=0.5, zorder=0)
    ticks = [f"{SHORT[kind]}\n{_owner(by)}" for kind, by in flow.events]
    ax.set_xticks(range(len(ticks)), ticks, fontsize=5)
    ax.set_yticks(range(len(lanes)), lanes)
    ax.set_xlim(-0.5, right)
    ax.set_ylim(len(lanes) - 0.45, -0.75)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    names = " and ".join(_owner(holder) for holder in flow.holders)
    plural = "s" if len(flow.holders) > 1 else ""
    held = f"in {names} optimizer{plural}" if names else "in no optimizer"
    ax.set_title(f"{flow.variant}: obs_encoder {held}", loc="left", pad=3)


def _bar(ax: Axes, bar: Bar, lane: int, color: str, right: float) -> None:
    start = max(bar.start, -0.5)
    end = right if bar.end is None else min(bar.end, right)
    stepped = [place for place in bar.applied if place <= right]
    if bar.applied:
        until = max(min(bar.applied[0], right), start)
        ax.barh(lane, until - start, left=start, height=THICK, color=color, lw=0)
        ax.plot([until, end], [lane, lane], color=color, lw=0.8, ls=(0, (2, 1.5)))
    else:
        ax.barh(lane, end - start, left=start, height=THICK, facecolor="white", edgecolor=color,
                hatch="//////", lw=0.7)  # fmt: skip
    if bar.start >= 0:
        ax.plot(bar.start, lane, "o", ms=3.4, color=color, mec="white", mew=0.5, zorder=4)
        ax.text(bar.start, lane - 0.27, f"{bar.norm:.2g}", ha="center", va="bottom", fontsize=5.5)
    for place in stepped:
        if place >= 0:
            ax.plot(place, lane, "v", ms=5, color="black", mec="white", mew=0.5, zorder=4)
    if not bar.applied and bar.end is not None and bar.end <= right:
        ax.plot(bar.end, lane, "X", ms=5, color="black", mec="white", mew=0.6, zorder=4)


def _owner(by: str) -> str:
    short = by.removesuffix("_optimizer").removesuffix("_loss")
    return "vae" if short in ("actorvae", "actor_vae") else short


def _legend(figure: Figure) -> None:
    grey = "#555555"
    handles = [
        Line2D([], [], ls="", marker="o", ms=3.4, color=grey, label="computed (norm)"),
        Patch(color=grey, lw=0, label="in .grad, then applied"),
        Line2D([], [], ls="", marker="v", ms=5, color="black", label="applied by step()"),
        Line2D([], [], ls=(0, (2, 1.5)), lw=0.8, color=grey, label="applied, not yet cleared"),
        Patch(facecolor="white", edgecolor=grey, hatch="//////", label="in .grad, then dropped"),
        Line2D([], [], ls="", marker="X", ms=5, color="black", label="dropped by zero_grad()"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=2.2,
                  columnspacing=1.2)  # fmt: skip
