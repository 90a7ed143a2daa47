"""The whole benchmark of one cell's settings, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import torch

from benchbench.cell.devices import Device
from benchbench.core.provenance import git_state, versions
from benchbench.core.text import number, plain_table
from benchbench.launch.run import prepare_data
from benchbench.perf.playing import Evaluation, Renderers
from benchbench.perf.process_cost import cost_of, start_figures
from benchbench.perf.rounds import Figure, Work, take_turns
from benchbench.perf.updates import Updates
from benchbench.routing import Routing
from benchbench.suite.grid import Cell

FORMAT = 1
"""Version of the JSON form."""

IN_NOTES = ("operations", "share of peak")
"""Figures that the table tells beside others."""


class Part(Protocol):
    """Some of the benchmark."""

    @property
    def works(self) -> list[Work]:
        """What is to be timed, turn by turn."""

    def figures(self) -> Iterator[Figure]:
        """What came of it."""


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
    torch.set_num_threads(threads)
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
    told = {"format": FORMAT, **asdict(found)}
    for figure in told["figures"]:
        figure |= {name: None for name, value in figure.items() if value != value}
    return json.dumps(told, indent=2, allow_nan=False)


def table_text(found: Bench) -> str:
    """The figures as a table for the terminal, and below it what they were measured on."""
    shown = [figure for figure in found.figures if not figure.what.startswith(IN_NOTES)]
    rows, before = [], ""
    for figure in shown:
        what = "" if figure.what == before else figure.what
        spread = f"{_number(figure.low)} to {_number(figure.high)}" if figure.rounds > 1 else ""
        told = (f"{_number(figure.value)} {figure.unit}", spread, figure.note)
        rows.append((what, figure.name, *(told if figure.rounds else ("none: see below", "", ""))))
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
