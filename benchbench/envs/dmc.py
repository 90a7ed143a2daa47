"""V-D4RL's tasks in dm_control: ``vd4rl:{main,distracting}/<task>/<kind>``.

As V-D4RL plays them (``drqbc/dmc.py`` of https://github.com/conglu1997/v-d4rl): each action for two
simulator steps, the suite's camera 0 (2 for the quadruped), 500 agent steps an episode, the score
of an episode its return / 10. The picture is dm_control's own with all its settings, for the files'
frames were drawn so; only the buffer is no larger than the frame, which changes no pixel.

Policies trained on ``distracting`` data are played without distractions too, as V-D4RL's own
``eval`` does; its evaluation with distractions on top of that takes the DAVIS videos, which are not
here.
"""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import Any

import numpy as np

from benchbench.core.errors import UserError
from benchbench.envs import gl

ACTION_REPEAT = 2
EPISODE_STEPS = 500
"""Agent steps of an episode."""

SIZES = (64, 84)
"""Pixels of V-D4RL's frames."""

_ID = re.compile(r"vd4rl:(main|distracting)/([a-z]+)_([a-z_]+)/([a-z_]+)")


def task_of(env_id: str) -> tuple[str, str]:
    """dm_control's domain and task of an id. Raises :class:`UserError` where it has none such."""
    gl.choose()
    from dm_control import suite

    found = _ID.fullmatch(env_id)
    domain, task = (found[2], found[3]) if found else ("", "")
    if (domain, task) not in suite.ALL_TASKS:
        raise UserError(
            f"{env_id}: is no task of dm_control's suite; write vd4rl:main/walker_walk/medium or "
            "another of V-D4RL's"
        )
    return domain, task


def check_size(env_id: str, size: int) -> None:
    """Raise :class:`UserError` where V-D4RL has no frames of this size."""
    if size not in SIZES:
        raise UserError(
            f"pixels.size: V-D4RL's frames of {env_id} are 84 or 64 pixels wide, not {size}; "
            "write one of them"
        )


class DmcPixelEnv:
    """One task and the process's camera of it; see :class:`benchbench.envs.PixelEnv`.

    The states are empty, for V-D4RL's files hold none: there is nothing to go back to, to put
    beside the image, or to train on in its place.
    """

    state_names: tuple[str, ...] = ()
    can_reset = False

    def __init__(self, env_id: str, size: int, action_repeat: int = ACTION_REPEAT) -> None:
        check_size(env_id, size)
        self.env_id, self.size, self.action_repeat = env_id, size, action_repeat
        self.max_episode_steps = EPISODE_STEPS * ACTION_REPEAT // action_repeat
        domain, task = task_of(env_id)
        self._env = load(domain, task)
        self._camera = shared_camera(domain, task, size)
        self.action_dim = int(self._env.action_spec().shape[0])
        self._steps = 0
        self._reward = 0.0

    def reset(self, seed: int) -> None:
        """Begin the episode that ``seed`` determines, whatever episodes came before."""
        self._env.task.random.seed(seed)
        self._env.reset()
        self._steps = 0

    def step(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """Apply an action ``action_repeat`` times; ``action`` (A,) is clipped to [-1, 1].

        Returns the sum of the rewards, whether the episode ended for good (the discount is 0, in
        none of V-D4RL's tasks), and whether it was cut by the time limit.
        """
        torque = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        self._reward, ended = 0.0, False
        for _ in range(self.action_repeat):
            now = self._env.step(torque)
            self._reward += float(now.reward)
            ended = now.discount == 0
            if now.last():
                break
        self._steps += 1
        cut = now.last() or self._steps >= self.max_episode_steps
        return self._reward, ended, cut and not ended

    def data_reward(self) -> float:
        """The last step's reward: V-D4RL books what the environment gave."""
        return self._reward

    def frame(self) -> np.ndarray:
        """The picture of the state, (size, size, 3) uint8."""
        return self._camera.frame(self._env.physics.data.qpos)

    def state(self) -> np.ndarray:
        """Nothing, (0,) float32."""
        return np.zeros(0, np.float32)

    def proprio(self, names: tuple[str, ...]) -> np.ndarray:
        """Nothing, (0,) float32."""
        return np.zeros(0, np.float32)

    def qpos_qvel(self) -> tuple[np.ndarray, np.ndarray]:
        """Nothing, as in the files; (0,) float32 each."""
        return np.zeros(0, np.float32), np.zeros(0, np.float32)

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray, last_action: np.ndarray) -> None:
        """Impossible. Raises ``ValueError``."""
        raise ValueError("V-D4RL's files hold no simulator states to go back to")

    def normalized_score(self, return_: float) -> float:
        """V-D4RL's score of an episode's return: a tenth of it, 100 at most."""
        return return_ / 10

    def close(self) -> None:
        """Free the simulator; the camera stays for its other users."""
        self._env.close()


class DmcCamera:
    """dm_control's own pictures of one task, for all environments of it in the process."""

    def __init__(self, domain: str, task: str, size: int) -> None:
        gl.make_context(size).free()  # says in a sentence what dm_control says in a traceback
        self._physics = load(domain, task).physics
        self._size, self._id = size, 2 if domain == "quadruped" else 0
        shown = self._physics.model.vis.global_
        shown.offwidth = shown.offheight = size

    def frame(self, qpos: np.ndarray) -> np.ndarray:
        """The body at ``qpos`` (nq,), (size, size, 3) uint8."""
        self._physics.data.qpos[:] = qpos
        self._physics.forward()
        context = self._physics.contexts.gl
        with context.make_current() as thread:
            # dm_control remembers what it made current, and not that MuJoCo's cameras did so since.
            thread.call(context._platform_make_current)
        shown: np.ndarray = self._physics.render(self._size, self._size, camera_id=self._id)
        return shown.copy()


@cache
def shared_camera(domain: str, task: str, size: int) -> DmcCamera:
    """The process's one camera for a task and a size, made at its first use."""
    return DmcCamera(domain, task, size)


def load(domain: str, task: str) -> Any:
    """dm_control's environment, without the colours that it may show rewards by."""
    gl.choose()
    from dm_control import suite

    # dm_control's models use what MuJoCo has deprecated, and it logs so at each load; to where the
    # standard error was when it was imported, which may be closed by now.
    logging.getLogger("absl").setLevel(logging.ERROR)
    return suite.load(domain, task, task_kwargs={"random": 0}, visualize_reward=False)
