"""What a cell is built of: its split of the data, sampler, agent, evaluator and policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from benchbench.agent import agent_class
from benchbench.agent.networks import make_encoder
from benchbench.agent.protocol import Agent, AgentSpec
from benchbench.core.errors import UserError
from benchbench.data.sampler import Sampler
from benchbench.data.store import Dataset, split_episodes
from benchbench.envs import make_pixel_env, proprio_columns
from benchbench.envs.distraction import data_layer, episode_layer
from benchbench.envs.evaluate import Evaluator, Policy
from benchbench.envs.pool import Pool
from benchbench.results.failures import Diverged
from benchbench.suite.environments import family_of
from benchbench.suite.grid import Cell, hash_own_code
from benchbench.suite.user_code import is_import_path

PARALLEL_EPISODES = 16
"""At most this many episodes are played side by side."""


def split(cell: Cell, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The cell's training rows and held-out rows, by whole episodes."""
    return split_episodes(dataset, cell.diagnose.holdout, cell.stream("holdout"))


def make_sampler(
    cell: Cell,
    dataset: Dataset,
    train_rows: np.ndarray,
    device: torch.device,
    frames: torch.Tensor | None = None,
) -> Sampler:
    """The cell's batches; ``frames`` are the data set's, where they lie on the device already."""
    return Sampler(
        dataset,
        train_rows,
        observation=cell.observation,
        proprio=proprio_columns(cell.env, cell.proprio, dataset.state_names),
        stack=cell.pixels.stack,
        spacing=cell.pixels.spacing,
        batch_size=cell.train.batch_size,
        n_step=cell.train.n_step,
        discount=cell.agent.discount,
        seed=cell.stream("batches"),
        device=device,
        layer=data_layer(cell, device),
        frames=frames,
    )


def make_agent(cell: Cell, sampler: Sampler, device: torch.device) -> Agent:
    """The cell's agent before its first update; the same whatever the number of threads.

    Raises :class:`UserError` where code of the user's own is no longer what the cell's key says.
    """
    make = agent_class(cell.agent.algorithm)
    # Of the whole process, which trains cells of one kind.
    torch.backends.cuda.matmul.allow_tf32 = cell.agent.precision == "tf32"
    with one_thread():
        agent = make(agent_spec(cell, sampler), cell.agent, cell.routing, cell.stream, device)
    if hash_own_code(cell.agent) != cell.own_code:  # after the import, so that none slips between
        raise UserError(
            "the file of your agent or encoder has changed since the run began; run the same "
            "command again for cells of it as it is now"
        )
    return agent


def check_own_code(cells: Sequence[Cell]) -> None:
    """Import the agents and make the encoders of the user's own that the cells name.

    Raises :class:`UserError` where that fails, so that the user learns of it before a cell starts.
    """
    own = [c for c in cells if c.own_code]
    for agent, pixels, routing in dict.fromkeys((c.agent, c.pixels, c.routing) for c in own):
        found = agent_class(agent.algorithm)
        if routing.encoder_until < 1 and not hasattr(found, "follow"):
            raise UserError(
                f"variants: '{routing.name}' stops training the encoder, and {agent.algorithm} has "
                "no follow(routing) to be told so; write it as in benchbench/agent/base.py"
            )
        if is_import_path(agent.encoder):
            make_encoder(agent.encoder, 3 * pixels.stack, pixels.size, agent.feature_dim)


def agent_spec(cell: Cell, sampler: Sampler) -> AgentSpec:
    """What the agent's networks must fit, from the cell and its data."""
    pixels = cell.observation == "pixels"
    horizon = 1 / (1 - cell.agent.discount)
    return AgentSpec(
        action_dim=sampler.action_dim,
        channels=3 * cell.pixels.stack if pixels else 0,
        size=cell.pixels.size if pixels else 0,
        proprio_dim=sampler.proprio_dim,
        state_dim=sampler.state_dim,
        min_value=sampler.min_reward * horizon,
        max_value=sampler.max_reward * horizon,
        shift_pad=cell.train.shift_pad if cell.train.augmentation == "random-shift" else 0,
        mean_image=sampler.mean_image() if pixels and cell.pixels.centre else None,
        action_mean=torch.from_numpy(sampler.action_normalizer.mean).float(),
        action_std=torch.from_numpy(sampler.action_normalizer.scale).float(),
    )


def side_by_side(cell: Cell) -> int:
    """How many of an evaluation's episodes are played at a time."""
    return min(cell.evaluate.episodes, PARALLEL_EPISODES)


def make_evaluator(cell: Cell, processes: int = 1) -> Evaluator | None:
    """The cell's evaluation episodes, in at most ``processes`` processes.

    They follow from (env, seed) alone. None where there is no environment to play them in.
    """
    if not family_of(cell.env).scored:
        return None
    pool = Pool(
        partial(make_pixel_env, cell.env, cell.pixels.size, cell.action_repeat),
        side_by_side(cell),
        processes=processes,
        proprio=cell.proprio,
        pixels=cell.observation == "pixels",
    )
    return _evaluator(cell, pool)


def unseen_evaluator(cell: Cell, evaluator: Evaluator | None) -> Evaluator | None:
    """The same episodes under distractions that the training has not seen, in the same pool.

    None where the suite names none, or there is no environment.
    """
    if evaluator is None or cell.unseen is None or cell.observation != "pixels":
        return None
    return _evaluator(cell, evaluator.pool, unseen=True)


def final_evaluator(cell: Cell, evaluator: Evaluator, update: int) -> Evaluator:
    """An evaluation's final episodes, in the pool of its others.

    They follow from (env, seed) and the update, so that no two evaluations have a start in common
    and all variants of a pair have the same.
    """
    evaluate = cell.evaluate
    streams = [f"final episode {update} {index}" for index in range(evaluate.final_episodes)]
    first = evaluate.episodes + update * evaluate.final_episodes
    return _evaluator(cell, evaluator.pool, streams, first)


def _evaluator(
    cell: Cell,
    pool: Pool,
    streams: Sequence[str] | None = None,
    first: int = 0,
    unseen: bool = False,
) -> Evaluator:
    if streams is None:
        streams = [f"episode {index}" for index in range(cell.evaluate.episodes)]
    return Evaluator(
        pool,
        [cell.stream(stream) for stream in streams],
        stack=cell.pixels.stack,
        spacing=cell.pixels.spacing,
        layer=episode_layer(cell, unseen=unseen),
        first=first,
    )


def make_policy(agent: Agent, sampler: Sampler, device: torch.device) -> Policy:
    """The agent as the evaluator wants it: from raw observations to the environment's actions."""

    def policy(frames: np.ndarray, states: np.ndarray, proprio: np.ndarray) -> np.ndarray:
        if agent.spec.channels:
            obs = torch.from_numpy(frames).permute(0, 3, 1, 2).to(device)
        else:
            obs = _float(sampler.state_normalizer.normalize(states), device)
        proprio_BP = _float(sampler.proprio_normalizer.normalize(proprio), device)
        action = agent.act(obs, proprio_BP).cpu().numpy()
        if not np.isfinite(action).all():
            raise Diverged("the policy's action is not a finite number")
        return sampler.action_normalizer.unnormalize(action)

    return policy


def _float(array: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32)).to(device)


@contextmanager
def one_thread() -> Iterator[None]:
    """Do here what must not depend on how many threads there are, or is slower with many.

    Orthogonal initial weights do, in their last bits, and a pair's cells may run in several goes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
