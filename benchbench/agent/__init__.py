"""The class of an agent that a suite names."""

from __future__ import annotations

from benchbench.agent.cloning import Cloning
from benchbench.agent.drq_bc import DrQBC
from benchbench.agent.lapo import LAPO
from benchbench.agent.protocol import Agent
from benchbench.core.errors import UserError
from benchbench.suite.user_code import load

AGENTS: dict[str, type[Agent]] = {"lapo": LAPO, "cloning": Cloning, "drq-bc": DrQBC}


def agent_class(algorithm: str) -> type[Agent]:
    """One of benchbench's agents by name, or the user's own by its import path.

    Raises :class:`UserError` where the latter cannot be imported or lacks a part of the protocol.
    """
    if algorithm in AGENTS:
        return AGENTS[algorithm]
    found: type[Agent] = load("agent.algorithm", algorithm)
    needed = [name for name, value in vars(Agent).items() if callable(value) and name[0] != "_"]
    lacking = [name for name in needed if not callable(getattr(found, name, None))]
    if lacking:
        raise UserError(
            f"agent.algorithm: {algorithm} has no {', '.join(lacking)}; see "
            "benchbench/agent/protocol.py, or make it a subclass of benchbench.agent.lapo.LAPO"
        )
    return found
