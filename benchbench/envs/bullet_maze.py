"""D4RL's PyBullet mazes, seen from above: ``bullet-maze2d-{open,umaze,medium,large}-v0``.

What the simulator does, as measured (d4rl 1.1, pybullet 3.2.7):

- An observation is late by one step. D4RL reads the ball's position from a cache that PyBullet
  refreshes at the *start* of a step, so the observation after an action shows where the ball was
  before it, and the action shows in the observation after the next. The velocity is the difference
  of two such positions over 0.0165 s: exactly the ball's velocity at the position shown.
- Hence a row's observation is the simulator's state only together with the action of the row
  before, and :meth:`MazePixelEnv.set_state` takes both.
- The environment pays a step for the observation after it; D4RL's data sets, relabelled, pay a row
  for its own observation. :meth:`MazePixelEnv.data_reward` is the second.
- After a reset the first velocity reads 0, while the ball moves at about 0.1·N(0, 1).
"""

from __future__ import annotations

import math

import numpy as np

from benchbench.envs import MAZE_PROPRIO, d4rl
from benchbench.envs.bullet_maze_camera import shared_camera
from benchbench.envs.d4rl import quicken
from benchbench.envs.d4rl_reference import MAZE_STEPS, normalized_score

STATE_NAMES = ("x", "y", "vx", "vy")

GOAL_RADIUS = 0.5
"""Within it of the goal an observation is worth 1."""

_WALL = 10  # d4rl.pointmaze.maze_model.WALL
_POSITION_OFFSET = 1.0  # the simulator's position is the observation's plus one
_LINK_OFFSET = 1.2  # from the base of D4RL's particle to the ball, with both joints at 0


class MazePixelEnv:
    """One maze and its camera; see :class:`benchbench.envs.PixelEnv` for the public face.

    The reward is D4RL's sparse one: 1 for each simulator step that ends within ``GOAL_RADIUS`` of
    the goal. Episodes end by the time limit only, so ``terminal`` is always False.
    """

    action_dim = 2
    state_names: tuple[str, ...] = STATE_NAMES
    can_reset = True

    def __init__(self, env_id: str, size: int, action_repeat: int = 1) -> None:
        self.env_id = env_id
        self.size = size
        self.action_repeat = action_repeat
        self._limit = MAZE_STEPS[env_id.split("-")[2]]
        self.max_episode_steps = math.ceil(self._limit / action_repeat)
        self._env = d4rl.make_env(env_id).unwrapped
        quicken(self._env._p)
        self.maze_spec: str = self._env.str_maze_spec
        self.goal = np.array(self._env._target, dtype=np.float64)
        walls = np.asarray(self._env.maze_arr) == _WALL
        self._camera = shared_camera(
            tuple(map(tuple, walls.tolist())), tuple(self.goal.tolist()), size
        )
        self._state = np.zeros(4, dtype=np.float32)
        self._steps_left: float = self._limit
        self._data_reward = 0.0

    def reset(self, seed: int) -> None:
        """Begin the episode that ``seed`` determines, whatever episodes came before."""
        self._env.seed(seed)
        self._state = self._env.reset().astype(np.float32)
        self._steps_left = self._limit

    def step(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """Apply an action ``action_repeat`` times, or until the time limit.

        ``action`` (2,) is clipped to [-1, 1]. Returns the sum of the rewards, False (no state of a
        maze is terminal), and whether the time limit is reached.
        """
        reward, before = 0.0, self._reward_here()
        for _ in range(self.action_repeat):
            obs, step_reward, _, _ = self._env.step(np.asarray(action, dtype=np.float64))
            reward += float(step_reward)
            self._steps_left -= 1
            if self._steps_left <= 0:
                break
        self._state = obs.astype(np.float32)
        self._data_reward = before + reward - float(step_reward)
        return reward, False, self._steps_left <= 0

    def data_reward(self) -> float:
        """The last step's reward as a row of the data holds it: of the observations before it."""
        return self._data_reward

    def frame(self) -> np.ndarray:
        """The picture of :meth:`state`, (size, size, 3) uint8."""
        return self._camera.frame(self._state[:2])

    def state(self) -> np.ndarray:
        """D4RL's observation: x, y, vx, vy; (4,) float32."""
        return self._state.copy()

    def proprio(self, names: tuple[str, ...]) -> np.ndarray:
        """The parts of the state that ``names`` stand for, (P,) float32."""
        return self._state[[column for name in names for column in MAZE_PROPRIO[name]]]

    def qpos_qvel(self) -> tuple[np.ndarray, np.ndarray]:
        """D4RL's ``infos/qpos`` and ``infos/qvel`` of :meth:`state`, (2,) float32 each."""
        return self._state[:2] + np.float32(_POSITION_OFFSET), self._state[2:].copy()

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray, last_action: np.ndarray) -> None:
        """Continue from a stored row, without a time limit.

        ``qpos`` and ``qvel`` are the row's, ``last_action`` the action of the row before (zeros at
        the first row of a run). Afterwards :meth:`state` is the row's, and the row's action leads
        to the next row's within 1e-5, and within 1e-4 after twenty steps, in 99 of 100 rows. What
        is not stored, and so not restored, are the drift of the particle's base and its contact
        with a wall: at the instant of a hit the velocity can be off by 0.06.
        """
        robot = self._env.robot
        base = [float(q) - _LINK_OFFSET for q in qpos] + [0.0]
        body = robot.particle.bodies[robot.particle.bodyIndex]
        self._env._p.resetBasePositionAndOrientation(body, base, [0, 0, 0, 1])
        self._env._p.resetBaseVelocity(body, [0, 0, 0], [0, 0, 0])
        for joint, velocity in zip((robot.ball_x, robot.ball_y), qvel, strict=True):
            joint.reset_position(0.0, float(velocity))
        self._env.step(np.asarray(last_action, dtype=np.float64))
        position = np.asarray(qpos, dtype=np.float64) - _POSITION_OFFSET
        self._state = np.concatenate([position, qvel]).astype(np.float32)
        self._steps_left = math.inf

    def draw_target(self) -> np.ndarray:
        """A random place, as D4RL draws targets, (2,) float64; the task's goal stays."""
        self._env.set_target()
        target = np.array(self._env.get_target(), dtype=np.float64)
        self._env.set_target(self.goal)
        return target

    def _reward_here(self) -> float:
        """D4RL's sparse reward of :meth:`state`."""
        return float(np.linalg.norm(self._state[:2] - self.goal) <= GOAL_RADIUS)

    def normalized_score(self, return_: float) -> float:
        """The D4RL score × 100 of an episode's return."""
        return normalized_score(self.env_id, return_)

    def close(self) -> None:
        """Free the simulator."""
        self._env.close()
