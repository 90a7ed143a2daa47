"""Recipes: how a data set is made on this machine.

A recipe writes three files into a folder: ``transitions.hdf5`` under D4RL's key names,
``frames.npy`` with the picture of each row's state, and ``card.json`` that says what they are. The
same identity gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchbench.data import d4rl
from benchbench.data.identity import DataIdentity
from benchbench.envs.maze import GOAL_RADIUS, MazePixelEnv

Progress = Callable[[int, int], None]
"""Called with the rows done and the rows in all."""

FILES = ("transitions.hdf5", "frames.npy")
CARD = "card.json"

_P_GAIN, _D_GAIN = 10.0, -2.0  # of D4RL's script


def make_waypoint(identity: DataIdentity, folder: Path, progress: Progress) -> None:
    """D4RL's bullet maze data, made again: its controller runs from one random target to the next.

    After ``generate_maze2d_bullet_datasets.py`` and ``relabel_maze2d_rewards.py`` in
    ``scripts/generation`` of https://github.com/Farama-Foundation/D4RL: ``WaypointController`` with
    p_gain 10 and d_gain -2, Gaussian noise of ``source.noise`` on its action, clipped to [-1, 1];
    one run without resets; the reward of a row is 1 where its own observation is within 0.5 of the
    task's goal; ``infos/goal`` is the controller's target. The deviations, all on purpose:

    - Where a target is reached, the script stores the same observation twice; here the run goes on.
    - The script computes a timeout and makes no use of it; the controller can circle about its
      target for good. Here a target that is not reached within an episode's length, or that the
      controller gives up with an exception, is drawn anew.
    - ``timeouts`` mark a cut each ``max_episode_steps`` rows, and the last row, so that there are
      episodes to split by; nothing happens to the simulator there. ``terminals`` are all False.
    - With an action repeat, a row holds its action for so many simulator steps, and its reward is
      the sum over them.
    - The script leaves its random streams unseeded; here ``source.seed`` decides all of them.
    - The columns ``infos/goal_reached`` and ``infos/goal_timeout``, to which the script appends
      without ever making them, are left out.
    """
    count = identity.source.transitions
    env = MazePixelEnv(identity.env, identity.size)
    limit = -(-env.max_episode_steps // identity.action_repeat)
    columns = {
        "observations": np.zeros((count, 4), np.float32),
        "actions": np.zeros((count, env.action_dim), np.float32),
        "rewards": np.zeros(count, np.float32),
        "terminals": np.zeros(count, bool),
        "timeouts": np.zeros(count, bool),
        "infos/goal": np.zeros((count, 2), np.float32),
        "infos/qpos": np.zeros((count, 2), np.float32),
        "infos/qvel": np.zeros((count, 2), np.float32),
    }
    columns["timeouts"][limit - 1 :: limit] = True
    columns["timeouts"][-1] = True
    shape = (count, identity.size, identity.size, 3)
    frames = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, shape)
    try:
        with _global_random_state(identity.source.seed):
            env.reset(identity.source.seed)
            pilot = _Pilot(env, identity.source.noise, limit)
            for row in range(count):
                state = env.state()
                action = pilot.action(state)
                columns["observations"][row] = state
                columns["actions"][row] = action
                columns["infos/goal"][row] = pilot.target
                columns["infos/qpos"][row], columns["infos/qvel"][row] = env.qpos_qvel()
                frames[row] = env.frame()
                for _ in range(identity.action_repeat):
                    distance = np.linalg.norm(env.state()[:2] - env.goal)
                    columns["rewards"][row] += distance <= GOAL_RADIUS
                    env.step(action)
                if (row + 1) % 1000 == 0 or row + 1 == count:
                    progress(row + 1, count)
        frames.flush()
    finally:
        del frames
        env.close()
    with h5py.File(folder / "transitions.hdf5", "w") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values, track_times=False)
    card = _card(identity, folder, columns["rewards"], limit)
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


class _Pilot:
    """D4RL's controller, its noise, and the choice of its next target."""

    def __init__(self, env: MazePixelEnv, noise: float, patience: int) -> None:
        self._env = env
        self._noise = noise
        self._patience = patience
        self._reached = False
        self._waited = 0
        self._new_target()

    def action(self, state: np.ndarray) -> np.ndarray:
        """The clipped, noisy action towards :attr:`target`, which is drawn anew when reached."""
        if self._reached:
            self.target = self._env.draw_target()
            self._waited = 0
        elif self._waited >= self._patience:
            self._new_target()
        self._waited += 1
        position, velocity = state[:2].astype(np.float64), state[2:].astype(np.float64)
        try:
            action, self._reached = self._controller.get_action(position, velocity, self.target)
        except (AssertionError, IndexError):  # its plan ended elsewhere than at the target
            self._new_target()
            action = np.zeros(self._env.action_dim)
        action = action + np.random.randn(*action.shape) * self._noise
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _new_target(self) -> None:
        """Draw a target for a controller that has no plan yet."""
        self._controller = d4rl.waypoint_controller(self._env.maze_spec, _P_GAIN, _D_GAIN)
        self.target = self._env.draw_target()
        self._reached = False
        self._waited = 0


@contextlib.contextmanager
def _global_random_state(seed: int) -> Iterator[None]:
    """Seed numpy's global stream, which D4RL's controller draws from, and give it back after."""
    kept = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(kept)


def _card(identity: DataIdentity, folder: Path, rewards: np.ndarray, limit: int) -> dict[str, Any]:
    """What the set is, for people and for checks. Returns are those of whole episodes."""
    whole = max(len(rewards) // limit, 1)
    returns = rewards[: whole * limit].reshape(whole, -1).sum(axis=1, dtype=np.float64)
    hashes = {name: file_sha256(folder / name) for name in FILES}
    together = "\n".join(f"{name} {digest}" for name, digest in hashes.items())
    return {
        "identity": identity.settings(),
        "key": identity.key,
        "transitions": len(rewards),
        "episodes": -(-len(rewards) // limit),
        "episode_steps": limit,
        "continuous": True,
        "return": {
            "mean": float(returns.mean()),
            "min": float(returns.min()),
            "max": float(returns.max()),
        },
        "normalized_score_mean": d4rl.normalized_score(identity.env, float(returns.mean())),
        "files": {
            name: {"sha256": digest, "bytes": (folder / name).stat().st_size}
            for name, digest in hashes.items()
        },
        "sha256": hashlib.sha256(together.encode()).hexdigest(),
        "versions": d4rl.versions(),
    }


def file_sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
