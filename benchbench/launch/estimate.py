"""How long a grid takes on this machine, by a short trial: a few updates and steps, timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from benchbench.agent import agent_class
from benchbench.agent.protocol import AgentSpec
from benchbench.cell.build import make_evaluator, side_by_side
from benchbench.core.files import SILENT_SECONDS
from benchbench.data.batch import Batch
from benchbench.diagnostics.reference_encoder import BATCH_SIZE, missing_reference
from benchbench.envs.distraction import episode_layer
from benchbench.envs.evaluate import NO_FRAMES, Stacks
from benchbench.launch.resources import Slots
from benchbench.results.tables import FINAL_SHARE
from benchbench.suite.grid import Cell

TRIAL_SECONDS = 2.0
"""Seconds of trial updates for the estimate, shared by the kinds of agents in a grid."""

TRIAL_BATCH = 16
"""Observations of a trial update on a CPU where there is no time for whole batches."""

TRIAL_STEPS = 30
"""Trial environment steps for the estimate."""

READINGS = 5
"""How often the measures of an evaluation read ``probe_frames`` rows: to fit, to score, twice for
Q's error, and for the distractions' twin."""


PASSES = 3
"""What a row costs that an encoder trains on, in rows that it only reads: one way, and back."""


@dataclass(frozen=True)
class Events:
    """How often what costs time happens in a cell."""

    updates: int
    blocks: int
    """Stretches between two evaluations; two updates of each are watched by the ledger."""
    evaluations: int
    roll_outs: int
    """Evaluations at which the policy is also played on from states of the data."""
    signals: int

    @classmethod
    def of(cls, cell: Cell) -> Events:
        """Counted from the cell's settings."""
        updates, every = cell.train.updates, cell.diagnose.q_every
        blocks = -(-updates // cell.evaluate.every)
        return cls(
            updates=updates,
            blocks=blocks,
            evaluations=blocks + 1,
            roll_outs=-(-blocks // every) if cell.diagnose.q_pairs else 0,
            signals=-(-updates // cell.diagnose.signals_every),
        )


class AgentSeconds(NamedTuple):
    """What one agent's work takes."""

    update: float
    act: float
    """Actions for the episodes that are played side by side."""
    read: float
    """Features of one row, without a gradient."""


class EnvSeconds(NamedTuple):
    """What one environment's work takes."""

    step: float
    """With its picture."""
    longest: int
    """Steps of an episode at most; 0 where none are played."""


def estimate_seconds(cells: Sequence[Cell], slots: Slots) -> float:
    """A rough wall time for the cells on the CPU or one GPU; of each, training and measuring."""
    agents = {_agent_kind(cell): cell for cell in cells}
    envs = {_env_kind(cell): cell for cell in cells}
    tried = TRIAL_SECONDS / max(1, len(agents))
    of_agents, of_envs = {}, {}
    with tqdm(
        total=len(agents) + len(envs), desc="a short trial", unit="kind", dynamic_ncols=True,
        delay=SILENT_SECONDS, leave=False, disable=None,
    ) as bar:  # fmt: skip
        for agent, cell in agents.items():
            of_agents[agent] = _agent_seconds(cell, slots, tried)
            bar.update()
        for env, cell in envs.items():
            of_envs[env] = _env_seconds(cell)
            bar.update()
    each = [cell_seconds(c, of_agents[_agent_kind(c)], of_envs[_env_kind(c)]) for c in cells]
    references = {path: cell for cell in cells if (path := missing_reference(cell))}
    rows = {c: c.diagnose.oracle_updates * BATCH_SIZE for c in references.values()}
    each += [PASSES * count * of_agents[_agent_kind(c)].read for c, count in rows.items()]
    return sum(each) / slots.jobs


def cell_seconds(cell: Cell, agent: AgentSeconds, env: EnvSeconds) -> float:
    """What a cell's training, episodes and measures take."""
    events, evaluate, diagnose = Events.of(cell), cell.evaluate, cell.diagnose
    views = 2 if cell.unseen and cell.observation == "pixels" else 1

    def played(episodes: int, steps: int) -> float:
        rounds = math.ceil(episodes / side_by_side(cell))
        return steps * (episodes * env.step + rounds * agent.act) if env.longest else 0.0

    early = math.ceil((1 - FINAL_SHARE) * events.updates / evaluate.every)
    late = events.evaluations - early
    # A sample of the signals takes an update's time, and watching two updates adds one's.
    updates = events.updates + events.signals + events.blocks
    return (
        updates * agent.update
        + events.evaluations * views * played(evaluate.episodes, env.longest)
        + late * played(evaluate.final_episodes, env.longest)
        + events.roll_outs * views * played(diagnose.q_pairs, diagnose.q_horizon)
        + events.evaluations * READINGS * diagnose.probe_frames * agent.read
    )


def _agent_kind(cell: Cell) -> tuple[object, ...]:
    """Cells that are alike in this take the same time an update."""
    return (cell.variant, *shape_of(cell), cell.train.batch_size, side_by_side(cell))


def shape_of(cell: Cell) -> tuple[object, ...]:
    """What networks and arithmetic follow from: no number with a point, such as a rate."""
    counted = [(k, str(v)) for k, v in cell.agent.identity().items() if not isinstance(v, float)]
    return (*counted, cell.observation, cell.pixels.size, cell.pixels.stack, len(cell.proprio))


def _env_kind(cell: Cell) -> tuple[object, ...]:
    """Cells that are alike in this play the same episodes."""
    return cell.env, cell.pixels, cell.action_repeat, cell.proprio, side_by_side(cell)


def _agent_seconds(cell: Cell, slots: Slots, tried: float) -> AgentSeconds:
    """An agent's work on random data, timed for ``tried`` seconds in all."""
    device = torch.device(slots.devices[0].kind)
    make, whole = agent_class(cell.agent.algorithm), cell.train.batch_size
    agent = make(spec_of(cell), cell.agent, cell.routing, cell.stream, device)
    batch = _batch(cell, whole if device.type == "cuda" else min(whole, TRIAL_BATCH), device)

    def update() -> None:
        *_, last = agent.update(batch).values()
        float(last)  # waits for the device

    @torch.no_grad()
    def read() -> None:
        agent.features(batch.obs, batch.proprio_BP).critic.cpu()

    beside = side_by_side(cell)
    acting = [one[:1].expand(beside, *one.shape[1:]) for one in (batch.obs, batch.proprio_BP)]
    before = torch.get_num_threads()
    torch.set_num_threads(slots.threads)
    try:
        act_seconds = _seconds_of(lambda: agent.act(*acting).cpu(), tried / 8)
        update_seconds = _seconds_of(update, tried / 4)
        times = whole / len(batch.obs)
        if times > 1 and 3 * times * update_seconds < tried:
            batch, times = _batch(cell, whole, device), 1.0
            update_seconds = _seconds_of(update, tried / 2)
        read_seconds = _seconds_of(read, tried / 8) / len(batch.obs)
    finally:
        torch.set_num_threads(before)
    return AgentSeconds(times * update_seconds, act_seconds, read_seconds)


def _batch(cell: Cell, size: int, device: torch.device) -> Batch:
    """Transitions that an agent of :func:`spec_of` takes."""
    spec, zeros = spec_of(cell), partial(torch.zeros, device=device)
    shape = (size, spec.size, spec.size, spec.channels)
    obs = zeros(size, spec.state_dim)
    if spec.channels:
        obs = zeros(shape, dtype=torch.uint8).permute(0, 3, 1, 2)
    proprio, action = zeros(size, spec.proprio_dim), zeros(size, spec.action_dim)
    return Batch(obs, proprio, action, zeros(size), zeros(size), obs, proprio)


def spec_of(cell: Cell) -> AgentSpec:
    """What a trial's agent must fit, before the data are known."""
    pixels = cell.observation == "pixels"
    return AgentSpec(
        action_dim=2,
        channels=3 * cell.pixels.stack if pixels else 0,
        size=cell.pixels.size if pixels else 0,
        proprio_dim=len(cell.proprio),
        state_dim=8,
        min_value=0.0,
        max_value=1.0,
    )


def _seconds_of(work: Callable[[], object], tried: float) -> float:
    """Seconds of one call of ``work``, repeated for ``tried`` seconds after a first call.

    A first call that is longer than that is told as it was.
    """
    start = time.perf_counter()
    work()
    if (first := time.perf_counter() - start) > tried:
        return first
    start, times = time.perf_counter(), 0
    while time.perf_counter() - start < tried:
        work()
        times += 1
    return (time.perf_counter() - start) / times


def _env_seconds(cell: Cell) -> EnvSeconds:
    """A step of the episodes that are played side by side, shared among them, from a few."""
    evaluator = make_evaluator(cell)
    if evaluator is None:
        return EnvSeconds(0.0, 0)
    with closing(evaluator):
        pool = evaluator.pool
        stacks = Stacks(pool, cell.pixels.stack, cell.pixels.spacing, episode_layer(cell))
        for place, now in pool.reset({place: place for place in range(pool.count)}).items():
            stacks.start(place, NO_FRAMES if now.frame is None else now.frame[None], episode=place)
        actions = dict.fromkeys(range(pool.count), np.zeros(pool.action_dim))
        start = time.perf_counter()
        for _ in range(TRIAL_STEPS):
            shown = pool.step(actions)
            stacks.push(shown)
            stacks.observed(shown)
        seconds = (time.perf_counter() - start) / TRIAL_STEPS
    return EnvSeconds(seconds / pool.count, pool.max_episode_steps)
