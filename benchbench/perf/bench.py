"""The benchmark of one cell's settings: which are measured, the whole of it, its table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from benchbench.cell.devices import Device
from benchbench.core.errors import UserError
from benchbench.core.processes import compute_on
from benchbench.core.provenance import git_state, versions
from benchbench.core.text import number, plain_table
from benchbench.launch.run import prepare_data
from benchbench.perf.parts import Evaluation, Renderers, Updates
from benchbench.perf.process_cost import cost_of, start_figures
from benchbench.perf.rounds import Figure, Work, take_turns
from benchbench.routing import REGISTRY, Routing
from benchbench.suite.agent import refusal
from benchbench.suite.grid import Cell, expand, select
from benchbench.suite.model import Suite

FORMAT = 1
"""Version of the JSON form."""

IN_NOTES = ("operations", "share of peak")
"""Figures that the table shows in the notes of others."""


class Part(Protocol):
    """A part of the benchmark."""

    @property
    def works(self) -> list[Work]:
        """What is timed, turn by turn."""

    def figures(self) -> Iterator[Figure]:
        """The measured figures."""


@dataclass(frozen=True)
class Bench:
    """What was measured, and where."""

    suite: str
    env: str
    device: str
    device_name: str
    threads: int
    rounds: int
    versions: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    figures: list[Figure]


def bench(
    suite: str, cell: Cell, routings: Sequence[Routing], device: Device, threads: int, rounds: int
) -> Bench:
    """Measure a cell's settings, its updates under each of the routings too.

    Claims the device for this process. Makes the data where it is not here.
    """
    prepare_data([cell])
    device.claim()
    compute_on(threads)
    costs = [cost_of(cell, device, threads) for _ in range(rounds + 1)]
    updates = Updates(cell, routings, device)
    parts: list[Part] = [updates, Evaluation(cell, updates.own, device), Renderers(cell, device)]
    take_turns([work for part in parts for work in part.works], rounds)
    figures = [figure for part in parts for figure in part.figures()]
    commit, dirty = git_state()
    return Bench(
        suite=suite, env=cell.env, device=device.kind, device_name=device.name(), threads=threads,
        rounds=rounds,        versions=json.loads(versions()), git_commit=commit, git_dirty=dirty,
        figures=figures + start_figures(cell, costs),
    )  # fmt: skip


def json_text(found: Bench) -> str:
    """All of it as JSON, for programs; what there is not is null."""
    fields = {"format": FORMAT, **asdict(found)}
    for figure in fields["figures"]:
        figure |= {name: None for name, value in figure.items() if value != value}
    return json.dumps(fields, indent=2, allow_nan=False)


def table_text(found: Bench) -> str:
    """The figures as a table for the terminal, and below it what they were measured on."""
    shown = [figure for figure in found.figures if not figure.what.startswith(IN_NOTES)]
    rows, before = [], ""
    for figure in shown:
        what = "" if figure.what == before else figure.what
        spread = f"{_number(figure.low)} to {_number(figure.high)}" if figure.rounds > 1 else ""
        cells = (f"{_number(figure.value)} {figure.unit}", spread, figure.note)
        rows.append((what, figure.name, *(cells if figure.rounds else ("none: see below", "", ""))))
        before = figure.what
    cannot = [f"{figure.name}: {figure.note}" for figure in shown if not figure.rounds]
    versions_ = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    commit = f"{(found.git_commit or 'unknown')[:12]}{' with changes' * bool(found.git_dirty)}"
    return "\n".join([
        plain_table(("what", "of", "median", "least to largest", ""), rows),
        *cannot,
        f"settings  {found.suite}, {found.env}; {found.rounds} rounds",
        f"machine   {found.device_name}, {found.threads} threads",
        f"versions  {versions_}; commit {commit}",
    ])  # fmt: skip


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else number(value)


DEFAULT = Path("quickstart")
"""What is measured where no suite is named."""

REFERENCE = "after"
"""The variant whose updates all else is compared with, where it is measured."""


def choose(suite: Suite, only: Mapping[str, set[str]]) -> tuple[Cell, list[Routing]]:
    """The cell whose settings count, and the routings to measure it under.

    ``only`` may hold ``env`` and ``variant``; by default these are the first environment, and all
    variants of the registry that fit its algorithm, with the suite's own. From states, where there
    is no encoder to route, they are the suite's alone. Raises :class:`UserError` where a choice is
    none.
    """
    if "seed" in only:
        raise UserError("--only seed=…: all seeds take the same time; choose env or variant")
    first = select(expand(suite), {name: only[name] for name in only if name == "env"})[0]
    routings = {
        name: routing
        for name, routing in REGISTRY.items()
        if first.observation == "pixels" and refusal(first.agent.algorithm, routing) is None
    }
    routings |= {routing.name: routing for routing in suite.routings}
    wanted = only.get("variant", set(routings))
    for name in sorted(wanted - set(routings)):
        raise UserError(
            f"--only variant={name}: there is no such variant; choose among {', '.join(routings)}"
        )
    chosen = [routing for name, routing in routings.items() if name in wanted]
    own = next((routing for routing in chosen if routing.name == REFERENCE), chosen[0])
    return first.under(own), chosen
