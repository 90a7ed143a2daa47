"""The recipe ``waypoint`` for MuJoCo's mazes: D4RL's Maze2D data, made again on this machine."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Protocol

import numpy as np

from benchbench.data.format import Draft, Progress
from benchbench.data.sources.made_here import RESUMES, count, fetch, lacking
from benchbench.envs.maze2d import STATE_NAMES, Maze2dPixelEnv, wall_cells
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


P_GAIN, D_GAIN = 10.0, -1.0
"""D4RL's gains for its MuJoCo mazes."""

REACHED = 0.1
"""A waypoint counts as reached within this distance of it ..."""
SLOW = 0.1
"""... and when the ball has moved less than this since the last call."""

_JITTER = 0.2
_MOVES = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))
"""D4RL's order of moves; of equally good ones it takes the first."""


class Uniform(Protocol):
    """What the controller asks of a numpy generator."""

    def uniform(self, low: float = ..., high: float = ..., size: int = ...) -> np.ndarray:
        """``size`` numbers in [low, high)."""


class LostPlan(Exception):
    """There is no way to the target, or the plan ended short of it; D4RL's controller fails too."""


class WaypointController:
    """D4RL's controller, without d4rl: drives to one target after another.

    After ``WaypointController`` of ``d4rl/pointmaze/waypoint_controller.py`` in
    https://github.com/Farama-Foundation/D4RL: a shortest path over the free cells of ``walls``
    (W, H) bool, a jitter by ``random`` on every waypoint but the last, and a
    proportional-derivative law towards the next one. A test compares the two action by action where
    d4rl is installed. D4RL finds the path by value iteration; the breadth-first search here gives
    the same one, with the same choice among equally short ones.
    """

    def __init__(
        self, walls: np.ndarray, random: Uniform, p_gain: float = P_GAIN, d_gain: float = D_GAIN
    ) -> None:
        self._walls, self._random = walls, random
        self._p_gain, self._d_gain = p_gain, d_gain
        self._target: tuple[int, int] | None = None
        self._waypoints: list[np.ndarray] = []
        self._next = 0
        self._last = np.zeros(2)

    def get_action(
        self, position: np.ndarray, velocity: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, bool]:
        """The action (2,) in [-1, 1] towards the target's cell, and whether it is reached.

        Raises :class:`LostPlan` where D4RL's controller fails as well.
        """
        if self._target != _cell(target):
            self._plan(_cell(position), _cell(target))
        aim = np.array(self._target, np.float64)
        is_slow = np.linalg.norm(self._last - position) < SLOW
        reached = bool(np.linalg.norm(position - aim) < REACHED and is_slow)
        if not reached:
            if self._next >= len(self._waypoints):
                raise LostPlan
            aim = self._waypoints[self._next]
        action = self._p_gain * (aim - position) + self._d_gain * velocity
        if not reached and np.linalg.norm(position - aim) < REACHED and is_slow:
            self._next += 1
        self._last = position
        return np.clip(action, -1.0, 1.0), reached

    def _plan(self, start: tuple[int, int], target: tuple[int, int]) -> None:
        """Waypoints along a shortest path."""
        steps_to = self._steps_to(target)
        at, self._waypoints = start, []
        while True:
            moves = ((at[0] + dx, at[1] + dy) for dx, dy in _MOVES)
            known = [cell for cell in moves if cell in steps_to]
            if not known:  # in a wall, with no free cell beside it
                raise LostPlan
            at = min(known, key=steps_to.__getitem__)
            if at == target:
                self._waypoints.append(np.array(at, np.float64))
                break
            self._waypoints.append(np.array(at) - self._random.uniform(size=2) * _JITTER)
        self._target, self._next, self._last = target, 0, np.array(start, np.float64)

    def _steps_to(self, target: tuple[int, int]) -> dict[tuple[int, int], int]:
        """How many moves each free cell is from the target."""
        steps, queue = {target: 0}, deque([target])
        while queue:
            x, y = queue.popleft()
            for dx, dy in _MOVES[1:]:
                cell = (x + dx, y + dy)
                if cell not in steps and not self._walls[cell]:
                    steps[cell] = steps[x, y] + 1
                    queue.append(cell)
        return steps


def _cell(position: np.ndarray) -> tuple[int, int]:
    return round(float(position[0])), round(float(position[1]))
