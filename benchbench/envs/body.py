"""What D4RL's bodies have in common, whichever simulator plays them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchbench.suite.environments import EPISODE_STEPS


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
