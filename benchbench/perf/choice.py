"""Which settings and variants are measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchbench.core.errors import UserError
from benchbench.routing import REGISTRY, Routing
from benchbench.suite.agent import refusal
from benchbench.suite.grid import Cell, expand, select
from benchbench.suite.model import Suite

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
