"""The recipe ``waypoint`` for MuJoCo's mazes: D4RL's Maze2D data, made again on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchbench.data.format import Draft, Progress
from benchbench.data.sources.made_here import RESUMES, count, fetch, lacking
from benchbench.envs.maze2d import STATE_NAMES, Maze2dPixelEnv, wall_cells
from benchbench.envs.waypoint_controller import LostPlan, WaypointController
from benchbench.suite.dataset_identity import DataIdentity
from benchbench.suite.environments import WaypointData, seed_of

__all__ = ["PACKAGES", "RESUMES", "count", "fetch", "lacking", "make", "origin"]

PACKAGES = ("mujoco", "numpy")


def origin(identity: DataIdentity) -> str:
    """Where the set comes from."""
    return "made here by D4RL's recipe"


def make(identity: DataIdentity, folder: Path, progress: Progress) -> None:
    """D4RL's controller drives from one random target to the next.

    After ``generate_maze2d_datasets.py`` and ``relabel_maze2d_rewards.py`` in
    ``scripts/generation`` of https://github.com/Farama-Foundation/D4RL: the waypoint controller
    with its default gains, Gaussian noise of ``source.noise`` on its action (the script's
    ``--noisy`` is 0.5), clipped to [-1, 1]; one run without resets; a target that is not reached
    within an episode's length is drawn anew; the reward of a row is the task's for the row's own
    observation; ``infos/goal`` is the controller's target. The deviations, all on purpose:

    - Where a target is reached, the script stores one observation twice; here the run continues.
    - The script writes "target reached or given up" into ``terminals``. No state of a maze is
      terminal, so ``terminals`` are False here, and ``timeouts`` mark a cut each
      ``max_episode_steps`` rows and at the last row, so that there are episodes to split by;
      nothing happens to the simulator there.
    - Where the controller fails with an exception, a target is drawn anew.
    - With an action repeat, a row holds its action for that many simulator steps, and its reward is
      the sum over them.
    - The script leaves its random streams unseeded; here ``source.seed`` decides all of them.
    """
    source, rows = _settings(identity), count(identity)
    random = np.random.default_rng(seed_of(source))
    env = Maze2dPixelEnv(identity.env, identity.size, identity.action_repeat)
    limit = env.max_episode_steps
    widths = {"observations": 4, "actions": env.action_dim,
              "infos/goal": 2, "infos/qpos": 2, "infos/qvel": 2}  # fmt: skip
    draft = Draft(identity, folder, rows, widths)
    columns = draft.columns
    columns["timeouts"][limit - 1 :: limit] = True
    columns["timeouts"][-1] = True
    env.reset(int(random.integers(2**31)))
    env.set_state(*env.qpos_qvel(), np.zeros(2))  # no time limit: the run is one
    pilot = _Pilot(env, source.noise, limit, random)
    for row in range(rows):
        state = env.state()
        action = pilot.action(state)
        columns["observations"][row] = state
        columns["actions"][row] = action
        columns["infos/goal"][row] = pilot.target
        columns["infos/qpos"][row], columns["infos/qvel"][row] = env.qpos_qvel()
        draft.frames[row] = env.frame()
        env.step(action)
        columns["rewards"][row] = env.data_reward()
        if (row + 1) % 1000 == 0 or row + 1 == rows:
            progress(row + 1, rows)
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
    """The controller, its noise, and the choice of its next target."""

    def __init__(
        self, env: Maze2dPixelEnv, noise: float, patience: int, random: np.random.Generator
    ) -> None:
        self._env, self._noise, self._patience, self._random = env, noise, patience, random
        self._walls = wall_cells(env.maze)
        self._reached, self._waited = False, 0
        self._start_over()

    def action(self, state: np.ndarray) -> np.ndarray:
        """The clipped, noisy action towards :attr:`target`, which is redrawn when reached."""
        if self._reached:
            self.target, self._waited = self._env.draw_target(self._random), 0
        elif self._waited >= self._patience:
            self._start_over()
        self._waited += 1
        position, velocity = state[:2].astype(np.float64), state[2:].astype(np.float64)
        try:
            action, self._reached = self._controller.get_action(position, velocity, self.target)
        except LostPlan:
            self._start_over()
            action = np.zeros(self._env.action_dim)
        action = action + self._random.standard_normal(action.shape) * self._noise
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _start_over(self) -> None:
        """Draw a target for a controller that has no plan yet."""
        self._controller = WaypointController(self._walls, self._random)
        self.target = self._env.draw_target(self._random)
        self._reached, self._waited = False, 0
