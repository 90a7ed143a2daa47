"""The recipe ``waypoint``: D4RL's bullet maze data, made again on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchbench.data.format import Draft, Progress
from benchbench.data.sources.made_here import RESUMES, count, fetch, lacking
from benchbench.envs import d4rl
from benchbench.envs.bullet_maze import GOAL_RADIUS, STATE_NAMES, MazePixelEnv
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import WaypointData, seed_of

__all__ = ["PACKAGES", "RESUMES", "count", "fetch", "lacking", "make", "origin"]

PACKAGES = ("d4rl", "gym", "numpy", "pybullet")

_P_GAIN, _D_GAIN = 10.0, -2.0  # of D4RL's script


def origin(identity: DataIdentity) -> str:
    """Where the set comes from."""
    return "made here by D4RL's controller"


def make(identity: DataIdentity, folder: Path, progress: Progress) -> None:
    """D4RL's controller runs from one random target to the next.

    After ``generate_maze2d_bullet_datasets.py`` and ``relabel_maze2d_rewards.py`` in
    ``scripts/generation`` of https://github.com/Farama-Foundation/D4RL: ``WaypointController`` with
    p_gain 10 and d_gain -2, Gaussian noise of ``source.noise`` on its action, clipped to [-1, 1];
    one run without resets; the reward of a row is 1 where its own observation is within 0.5 of the
    task's goal; ``infos/goal`` is the controller's target. The deviations, all on purpose:

    - Where a target is reached, the script stores one observation twice; here the run continues.
    - The script computes a timeout and makes no use of it; the controller can circle about its
      target for good. Here a target that is not reached within an episode's length, or that the
      controller gives up with an exception, is drawn anew.
    - ``timeouts`` mark a cut each ``max_episode_steps`` rows, and the last row, so that there are
      episodes to split by; nothing happens to the simulator there. ``terminals`` are all False.
    - With an action repeat, a row holds its action for that many simulator steps, and its reward is
      the sum over them.
    - The script leaves its random streams unseeded; here ``source.seed`` decides all of them.
    - The columns ``infos/goal_reached`` and ``infos/goal_timeout``, to which the script appends
      without ever making them, are left out.
    """
    source, rows = _settings(identity), count(identity)
    env = MazePixelEnv(identity.env, identity.size)
    limit = -(-env.max_episode_steps // identity.action_repeat)
    widths = {"observations": 4, "actions": env.action_dim,
              "infos/goal": 2, "infos/qpos": 2, "infos/qvel": 2}  # fmt: skip
    draft = Draft(identity, folder, rows, widths)
    columns = draft.columns
    columns["timeouts"][limit - 1 :: limit] = True
    columns["timeouts"][-1] = True
    try:
        with _global_random_state(seed_of(source)):
            env.reset(seed_of(source))
            pilot = _Pilot(env, source.noise, limit)
            for row in range(rows):
                state = env.state()
                action = pilot.action(state)
                columns["observations"][row] = state
                columns["actions"][row] = action
                columns["infos/goal"][row] = pilot.target
                columns["infos/qpos"][row], columns["infos/qvel"][row] = env.qpos_qvel()
                draft.frames[row] = env.frame()
                for _ in range(identity.action_repeat):
                    distance = np.linalg.norm(env.state()[:2] - env.goal)
                    columns["rewards"][row] += distance <= GOAL_RADIUS
                    env.step(action)
                if (row + 1) % 1000 == 0 or row + 1 == rows:
                    progress(row + 1, rows)
    finally:
        env.close()
    draft.finish(
        STATE_NAMES,
        env.normalized_score,
        PACKAGES,
        continuous=True,
        last_is_whole=rows % limit == 0,
        episode_steps=limit,
    )


def _settings(identity: DataIdentity) -> WaypointData:
    assert isinstance(identity.source, WaypointData)
    return identity.source


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
        """The clipped, noisy action towards :attr:`target`, which is redrawn when reached."""
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
