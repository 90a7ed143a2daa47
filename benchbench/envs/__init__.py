"""Pixel environments: for collecting data, drawing its frames and evaluating policies.

:class:`PixelEnv` is all that the rest of benchbench knows of an environment;
:class:`BodyPixelEnv` is what D4RL's bodies share, whichever simulator plays them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from benchbench.core.errors import UserError
from benchbench.core.settings import suggest
from benchbench.envs import simulators
from benchbench.suite.environments import EPISODE_STEPS, family_of

MAZE_PROPRIO: Mapping[str, tuple[int, ...]] = {"position": (0, 1), "velocity": (2, 3)}
"""The columns of a maze's state behind each name that a suite may write under ``proprio``."""


class PixelEnv(Protocol):
    """A D4RL task seen through a camera.

    Shapes: ``action`` (A,), a frame (size, size, 3) uint8, a state (D,) float32. A step is an agent
    step: ``action_repeat`` steps of the simulator.
    """

    env_id: str
    size: int
    action_repeat: int
    action_dim: int
    max_episode_steps: int
    """The longest episode, in agent steps."""
    state_names: tuple[str, ...]
    can_reset: bool
    """Whether :meth:`set_state` restores a stored row; without it nothing calls it."""

    def reset(self, seed: int) -> None:
        """Begin the episode that ``seed`` determines, whatever episodes came before."""

    def step(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """Apply an action, clipped to [-1, 1]; returns the reward, terminal and timeout."""

    def data_reward(self) -> float:
        """The reward that the data set's row of the last :meth:`step` would hold.

        A data set need not book rewards as the environment gives them: D4RL's mazes pay a row for
        its own observation, the environment pays a step for the observation that it leads to.
        """

    def frame(self) -> np.ndarray:
        """The camera's picture of :meth:`state`, (size, size, 3) uint8."""

    def state(self) -> np.ndarray:
        """The simulator's own observation, (D,) float32."""

    def proprio(self, names: tuple[str, ...]) -> np.ndarray:
        """The columns of :meth:`state` that ``names`` stand for, (P,) float32."""

    def qpos_qvel(self) -> tuple[np.ndarray, np.ndarray]:
        """The simulator's position and velocity, as D4RL stores them under ``infos/``."""

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray, last_action: np.ndarray) -> None:
        """Continue from a stored row: its ``qpos``, its ``qvel`` and the action of the row before.

        There is no time limit from there on: a timeout cuts the data and says nothing of a value.
        """

    def normalized_score(self, return_: float) -> float:
        """The D4RL score × 100 of an episode's return."""

    def close(self) -> None:
        """Free the simulator."""


def make_pixel_env(env_id: str, size: int, action_repeat: int = 1) -> PixelEnv:
    """The pixel environment of an id, with frames of ``size`` × ``size`` pixels.

    Raises :class:`~benchbench.core.errors.UserError` where the id has no environment, or where its
    simulator is not installed, with the command that installs it.
    """
    simulators.require(env_id)
    family = family_of(env_id)
    if family.name == "maze2d":
        from benchbench.envs.maze2d import Maze2dPixelEnv

        return Maze2dPixelEnv(env_id, size, action_repeat)
    if family.name == "maze":
        from benchbench.envs.bullet_maze import MazePixelEnv

        return MazePixelEnv(env_id, size, action_repeat)
    if family.name in ("mujoco", "minari"):
        from benchbench.envs.mujoco import MujocoPixelEnv

        return MujocoPixelEnv(env_id, size, action_repeat)
    if family.name == "bullet":
        from benchbench.envs.bullet import BulletPixelEnv

        return BulletPixelEnv(env_id, size, action_repeat)
    if family.name == "dmc":
        from benchbench.envs.dmc import DmcPixelEnv

        return DmcPixelEnv(env_id, size, action_repeat)
    raise UserError(f"{env_id}: has no environment to play in, only data")


def proprio_columns(
    env_id: str, names: Sequence[str], state_names: Sequence[str]
) -> tuple[int, ...]:
    """The state's columns that a suite's ``proprio`` names stand for, in the names' order.

    Without an environment a name is a column's own, of ``state_names``. Raises
    :class:`~benchbench.core.errors.UserError` on a name that is not offered.
    """
    family = family_of(env_id)
    if family.name in ("maze", "maze2d"):
        groups: Mapping[str, tuple[int, ...]] = MAZE_PROPRIO
    elif family.name in ("mujoco", "minari"):
        from benchbench.envs.mujoco import proprio_groups

        groups = proprio_groups(env_id)
    elif family.name == "bullet":
        from benchbench.envs.bullet import proprio_groups as bullet_groups

        groups = bullet_groups(env_id)
    else:
        groups = {name: (column,) for column, name in enumerate(state_names)}
    for name in names:
        if name not in groups:
            raise UserError(f"proprio: {env_id} has no '{name}'{suggest(name, groups)}")
    return tuple(column for name in names for column in groups[name])


def imaged_columns(env_id: str, proprio: Sequence[str], state_names: Sequence[str]) -> list[int]:
    """Those of a state's columns that only the image can tell: no proprio supplies them.

    State probes are scored on these; what stands beside the image is not the encoder's to learn.
    """
    supplied = set(proprio_columns(env_id, proprio, state_names))
    return [column for column in range(len(state_names)) if column not in supplied]


_LEGS = ("thigh", "leg", "foot")
JOINTS = {
    "hopper": _LEGS,
    "halfcheetah": ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"),
    "walker2d": _LEGS + tuple(f"{joint}_left" for joint in _LEGS),
    "ant": tuple(f"{joint}_{leg}" for leg in range(1, 5) for joint in ("hip", "ankle")),
}
"""The joints of D4RL's bodies, in the order of their columns, in either simulator."""


class BodyPixelEnv(ABC):
    """The half of :class:`benchbench.envs.PixelEnv` that does not depend on the simulator.

    Actions are torques in [-1, 1]. An episode ends for good where the body falls, if it can, and is
    cut after ``EPISODE_STEPS``, as D4RL's are. ``env`` is the simulator's own environment, and
    ``groups`` are the state's columns behind each name that a suite may write under ``proprio``.
    """

    can_reset = True
    _state: np.ndarray  # (D,) float32

    def __init__(
        self,
        env_id: str,
        size: int,
        action_repeat: int,
        env: Any,
        state_names: tuple[str, ...],
        groups: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.env_id, self.size, self.action_repeat = env_id, size, action_repeat
        self._env, self.state_names = env, state_names
        self.action_dim = int(env.action_space.shape[0])
        self.max_episode_steps = math.ceil(EPISODE_STEPS / action_repeat)
        self._groups = groups
        self._steps_left: float = EPISODE_STEPS
        self._reward = 0.0
        self._state = np.zeros(len(state_names), np.float32)

    def step(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """Apply an action ``action_repeat`` times, or until the episode ends.

        ``action`` (A,) is clipped to [-1, 1]. Returns the sum of the rewards, whether the episode
        ended for good, and whether it was cut by the time limit, never both: as in D4RL, a last
        step at the limit is a cut.
        """
        torque = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        self._reward, terminal = 0.0, False
        for _ in range(self.action_repeat):
            self._state, reward, terminal = self._simulate(torque)
            self._reward += reward
            self._steps_left -= 1
            if terminal or self._steps_left <= 0:
                break
        timeout = self._steps_left <= 0
        return self._reward, terminal and not timeout, timeout

    def data_reward(self) -> float:
        """The last step's reward: D4RL's rows book what the environment gave."""
        return self._reward

    def state(self) -> np.ndarray:
        """D4RL's observation, (D,) float32, its columns ``state_names``."""
        return self._state.copy()

    def proprio(self, names: tuple[str, ...]) -> np.ndarray:
        """The parts of the state that ``names`` stand for, (P,) float32."""
        return self._state[[column for name in names for column in self._groups[name]]]

    @abstractmethod
    def _simulate(self, torque: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """One step of the simulator: the state after it (D,) float32, its reward, and a fall."""
